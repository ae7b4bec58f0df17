/* The meaning of sums and repetitions: one element after the other, sums in double. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"

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
    const nn_shape x = c->y->src[0]->shape, y = c->y->shape;
    const int64_t many = nn_count(x), few = nn_count(y);
    const float *in = c->in[0];
    double *sum = c->scratch;

    (void)b;
    memset(sum, 0, c->scratch_bytes);
    for (int64_t i = 0; i < many; i++)
        sum[cpu_place(i, &x, &y)] += (double)in[i];
    for (int64_t i = 0; i < few; i++)
        ((float *)c->out)[i] = (float)sum[i];
    return 0;
}

static int run_expand(nn_backend *b, const nn_call *c)
{
    const nn_shape x = c->y->src[0]->shape, y = c->y->shape;
    const int64_t n = nn_count(y);
    const float *in = c->in[0];

    (void)b;
    for (int64_t i = 0; i < n; i++)
        ((float *)c->out)[i] = in[cpu_place(i, &y, &x)];
    return 0;
}

static int run_sum_squares(nn_backend *b, const nn_call *c)
{
    const int64_t n = nn_count(c->y->src[0]->shape);
    const float *x = c->in[0];
    double sum = 0.0;

    (void)b;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    *(float *)c->out = (float)sum;
    return 0;
}

const nn_kernel cpu_ref_sum_to = {
    .name = "cpu.sum_to.ref", .takes = cpu_needs_f32, .prepare = prepare_sum_to, .run = run_sum_to};
const nn_kernel cpu_ref_expand = {.name = "cpu.expand.ref", .takes = cpu_needs_f32, .run = run_expand};
const nn_kernel cpu_ref_sum_squares = {
    .name = "cpu.sum_squares.ref", .takes = cpu_needs_f32, .run = run_sum_squares};
