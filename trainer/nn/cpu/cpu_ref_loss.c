/* The meaning of the squared error and its gradient. */
#include "trainer/nn/cpu/cpu.h"

static int run_error(nn_backend *on, const nn_call *c)
{
    nn_shape s = c->y->src[0]->shape;
    const float *a = c->in[0], *b = c->in[1], *mask = c->in[2];
    int64_t width = s.d[s.n - 1], sample = nn_count(s) / s.d[0];

    (void)on;
    for (int64_t n = 0; n < s.d[0]; n++) {
        double sum = 0.0;
        for (int64_t i = n * sample; i < (n + 1) * sample; i++) {
            double d = (double)a[i] - (double)b[i];
            sum += d * d * (mask ? (double)mask[i / width] : 1.0);
        }
        ((float *)c->out)[n] = (float)sum;
    }
    return 0;
}

static int run_error_grad(nn_backend *on, const nn_call *c)
{
    nn_shape s = c->y->shape;
    const float *a = c->in[0], *b = c->in[1], *mask = c->in[2], *dy = c->in[3];
    int64_t width = s.d[s.n - 1], count = nn_count(s), sample = count / s.d[0];

    (void)on;
    for (int64_t i = 0; i < count; i++)
        ((float *)c->out)[i] = 2.0f * (mask ? mask[i / width] : 1.0f) * (a[i] - b[i]) * dy[i / sample];
    return 0;
}

const nn_kernel cpu_ref_squared_error = {
    .name = "cpu.squared_error.ref", .takes = cpu_needs_f32, .run = run_error};
const nn_kernel cpu_ref_squared_error_grad = {
    .name = "cpu.squared_error_grad.ref", .takes = cpu_needs_f32, .over = 3, .run = run_error_grad};
