/* The meaning of pool2d: each window, row by row. */
#include <float.h>

#include "trainer/nn/cpu/cpu.h"

typedef struct { int64_t from, to; } span;

/* What of a window lies inside a side of `size`. */
static span inside(int64_t at, int k, int64_t size)
{
    return (span){at < 0 ? 0 : at, at + k > size ? size : at + k};
}

/* One window, all channels: pixels of x between rows and columns. */
static void window(float *y, const float *x, int64_t wide, int64_t c, span rows, span columns, bool max)
{
    for (int64_t ch = 0; ch < c; ch++)
        y[ch] = max ? -FLT_MAX : 0;
    for (int64_t i = rows.from; i < rows.to; i++)
        for (int64_t j = columns.from; j < columns.to; j++) {
            const float *from = x + (i * wide + j) * c;
            for (int64_t ch = 0; ch < c; ch++)
                y[ch] = !max ? y[ch] + from[ch] : from[ch] > y[ch] ? from[ch] : y[ch];
        }
}

static int run_pool2d(nn_backend *b, const nn_call *call)
{
    nn_shape x = call->y->src[0]->shape, s = call->y->shape;
    nn_conv at = call->y->at.pool.at;
    nn_pool how = call->y->at.pool.how;
    int k = call->y->at.pool.k;
    float *y = call->out;

    (void)b;
    for (int64_t n = 0; n < s.d[0]; n++)
        for (int64_t i = 0; i < s.d[1]; i++)
            for (int64_t j = 0; j < s.d[2]; j++, y += s.d[3]) {
                span rows = inside(i * at.stride - at.pad[0], k, x.d[1]),
                     columns = inside(j * at.stride - at.pad[1], k, x.d[2]);
                int64_t there = (rows.to - rows.from) * (columns.to - columns.from);
                window(y, (const float *)call->in[0] + n * x.d[1] * x.d[2] * x.d[3], x.d[2], x.d[3], rows, columns,
                       how == NN_POOL_MAX);
                for (int64_t ch = 0; how != NN_POOL_MAX && ch < s.d[3]; ch++)
                    y[ch] /= (float)(how == NN_POOL_MEAN ? there : k * k);
            }
    return 0;
}

const nn_kernel cpu_ref_pool2d = {.name = "cpu.pool2d.ref", .takes = cpu_needs_f32, .run = run_pool2d};
