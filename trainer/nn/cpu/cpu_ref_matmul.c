/* The meaning of matmul: one loop nest, sums in double. */
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"

static int run(nn_backend *on, const nn_call *c)
{
    const mat_shape s = mat_shape_of(c->y);
    const float *bias = c->in[2];

    (void)on;
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) {
                const float *p = (const float *)c->in[0] + b * s.m * s.k + i * s.a_row;
                const float *q = (const float *)c->in[1] + b * s.k * s.n + j * s.b_col;
                double sum = bias ? (double)bias[j] : 0.0;
                for (int64_t k = 0; k < s.k; k++)
                    sum += (double)p[k * s.a_col] * (double)q[k * s.b_row];
                ((float *)c->out)[(b * s.m + i) * s.n + j] = (float)sum;
            }
    return 0;
}

const nn_kernel cpu_ref_matmul = {.name = "cpu.matmul.ref", .takes = cpu_needs_f32, .run = run};
