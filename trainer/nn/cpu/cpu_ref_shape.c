/* The meaning of the operations that copy elements. Each knows its tensors as [before, dim, after]. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"

static int64_t product(nn_shape s, int from, int to)
{
    int64_t n = 1;

    for (int i = from; i < to; i++)
        n *= s.d[i];
    return n;
}

/* Copies rows of `bytes`, `n` of them, between places that are to_step and from_step bytes apart. */
static void copy_rows(char *to, size_t to_step, const char *from, size_t from_step, size_t bytes, int64_t n)
{
    for (int64_t i = 0; i < n; i++, to += to_step, from += from_step)
        memcpy(to, from, bytes);
}

/* The stretch of `whole` that a part takes in each of its `before` rows. */
typedef struct {
    int64_t before;
    size_t step, from, bytes;
} stretch;

static stretch stretch_of(nn_tensor whole, nn_tensor y)
{
    int dim = y->at.part.dim;
    size_t after = (size_t)product(whole->shape, dim + 1, whole->shape.n) * dtype_bytes(y->type);

    return (stretch){.before = product(whole->shape, 0, dim),
                     .step = (size_t)whole->shape.d[dim] * after,
                     .from = (size_t)y->at.part.from * after,
                     .bytes = (size_t)y->at.part.count * after};
}

static int run_slice(nn_backend *b, const nn_call *c)
{
    stretch s = stretch_of(c->y->src[0], c->y);

    (void)b;
    copy_rows(c->out, s.bytes, (const char *)c->in[0] + s.from, s.step, s.bytes, s.before);
    return 0;
}

static int run_pad(nn_backend *b, const nn_call *c)
{
    stretch s = stretch_of(c->y, c->y);

    (void)b;
    memset(c->out, 0, (size_t)nn_bytes(c->y));
    copy_rows((char *)c->out + s.from, s.step, c->in[0], s.bytes, s.bytes, s.before);
    return 0;
}

static int run_concat(nn_backend *b, const nn_call *c)
{
    int last = c->y->shape.n - 1;
    size_t size = dtype_bytes(c->y->type), p = (size_t)c->y->src[0]->shape.d[last] * size,
           q = (size_t)c->y->src[1]->shape.d[last] * size;
    int64_t rows = product(c->y->shape, 0, last);

    (void)b;
    copy_rows(c->out, p + q, c->in[0], p, p, rows);
    copy_rows((char *)c->out + p, p + q, c->in[1], q, q, rows);
    return 0;
}

/* [n,t,c]: the first rows of t become zero. */
static int run_zero_rows(nn_backend *b, const nn_call *c)
{
    nn_shape s = c->y->shape;
    size_t row = (size_t)s.d[2] * dtype_bytes(c->y->type), sample = (size_t)s.d[1] * row;
    size_t zeros = (size_t)c->y->at.part.count * row;

    (void)b;
    if (c->out != c->in[0])
        memcpy(c->out, c->in[0], (size_t)nn_bytes(c->y));
    for (int64_t n = 0; n < s.d[0]; n++)
        memset((char *)c->out + (size_t)n * sample, 0, zeros);
    return 0;
}

static int run_upsample(nn_backend *b, const nn_call *c)
{
    nn_shape x = c->y->src[0]->shape, y = c->y->shape;
    size_t pixel = (size_t)x.d[3] * dtype_bytes(c->y->type);
    char *out = c->out;

    (void)b;
    for (int64_t n = 0; n < y.d[0]; n++)
        for (int64_t i = 0; i < y.d[1]; i++)
            for (int64_t j = 0; j < y.d[2]; j++, out += pixel) {
                int64_t at = (n * x.d[1] + i * x.d[1] / y.d[1]) * x.d[2] + j * x.d[2] / y.d[2];
                memcpy(out, (const char *)c->in[0] + (size_t)at * pixel, pixel);
            }
    return 0;
}

/* Every pixel of dy is added to the one it was copied from; y here has the source's shape. */
static int run_upsample_grad(nn_backend *b, const nn_call *c)
{
    nn_shape x = c->y->shape, y = c->y->src[0]->shape;
    const float *dy = c->in[0];
    float *dx = c->out;

    (void)b;
    memset(dx, 0, (size_t)nn_bytes(c->y));
    for (int64_t n = 0; n < y.d[0]; n++)
        for (int64_t i = 0; i < y.d[1]; i++)
            for (int64_t j = 0; j < y.d[2]; j++, dy += y.d[3]) {
                int64_t at = (n * x.d[1] + i * x.d[1] / y.d[1]) * x.d[2] + j * x.d[2] / y.d[2];
                for (int64_t k = 0; k < y.d[3]; k++)
                    dx[at * y.d[3] + k] += dy[k];
            }
    return 0;
}

const nn_kernel cpu_ref_slice = {.name = "cpu.slice.ref", .run = run_slice};
const nn_kernel cpu_ref_pad = {.name = "cpu.pad.ref", .run = run_pad};
const nn_kernel cpu_ref_concat = {.name = "cpu.concat.ref", .run = run_concat};
const nn_kernel cpu_ref_zero_rows = {.name = "cpu.zero_rows.ref", .over = 1, .run = run_zero_rows};
const nn_kernel cpu_ref_upsample = {.name = "cpu.upsample.ref", .run = run_upsample};
const nn_kernel cpu_ref_upsample_grad = {
    .name = "cpu.upsample_grad.ref", .takes = cpu_needs_f32, .run = run_upsample_grad};
