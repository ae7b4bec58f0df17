/* The meaning of sums and repetitions: one element after the other, sums in double. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"

/* Where element i of `whole` lies in `part`, which has its dimensions, 1 or nothing. */
static int64_t place_in(int64_t i, nn_shape whole, nn_shape part)
{
    int64_t at = 0, stride = 1;

    for (int k = part.n - 1, w = whole.n - 1; k >= 0; k--, w--) {
        at += part.d[k] == 1 ? 0 : i % whole.d[w] * stride;
        stride *= part.d[k];
        i /= whole.d[w];
    }
    return at;
}

static int prepare_sum_to(nn_backend *b, nn_call *c, const bool frozen[], err *e)
{
    (void)b;
    (void)frozen;
    (void)e;
    c->scratch_bytes = (size_t)nn_count(c->y->shape) * sizeof(double);
    return 0;
}

static int run_sum_to(nn_backend *b, const nn_call *c)
{
    nn_shape x = c->y->src[0]->shape;
    const float *in = c->in[0];
    double *sum = c->scratch;

    (void)b;
    memset(sum, 0, c->scratch_bytes);
    for (int64_t i = 0; i < nn_count(x); i++)
        sum[place_in(i, x, c->y->shape)] += (double)in[i];
    for (int64_t i = 0; i < nn_count(c->y->shape); i++)
        ((float *)c->out)[i] = (float)sum[i];
    return 0;
}

static int run_expand(nn_backend *b, const nn_call *c)
{
    const float *in = c->in[0];

    (void)b;
    for (int64_t i = 0; i < nn_count(c->y->shape); i++)
        ((float *)c->out)[i] = in[place_in(i, c->y->shape, c->y->src[0]->shape)];
    return 0;
}

static int run_sum_squares(nn_backend *b, const nn_call *c)
{
    const float *x = c->in[0];
    double sum = 0.0;

    (void)b;
    for (int64_t i = 0; i < nn_count(c->y->src[0]->shape); i++)
        sum += (double)x[i] * (double)x[i];
    *(float *)c->out = (float)sum;
    return 0;
}

const nn_kernel cpu_ref_sum_to = {
    .name = "cpu.sum_to.ref", .takes = cpu_needs_f32, .prepare = prepare_sum_to, .run = run_sum_to};
const nn_kernel cpu_ref_expand = {.name = "cpu.expand.ref", .takes = cpu_needs_f32, .run = run_expand};
const nn_kernel cpu_ref_sum_squares = {
    .name = "cpu.sum_squares.ref", .takes = cpu_needs_f32, .run = run_sum_squares};
