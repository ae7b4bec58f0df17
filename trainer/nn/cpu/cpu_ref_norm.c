/* The meaning of group norm, with silu behind it or not, layer norm and their gradients (op/norm.c has the formulas): two passes for mean and
 * variance, everything in double. */
#include <math.h>

#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"

/* One group of one sample: `pixels` rows of `width` neighbouring channels, the first of them channel `first`. */
typedef struct { int64_t at, first, width; double mean, rstd; } group;

static group group_of(const norm_shape *s, const float *x, int64_t sample, int64_t g)
{
    int64_t width = s->c / s->groups;
    group r = {.at = sample * s->pixels * s->c + g * width, .first = g * width, .width = width};
    double count = (double)(s->pixels * width), sum = 0.0, squares = 0.0;

    for (int64_t p = 0; p < s->pixels; p++)
        for (int64_t i = 0; i < width; i++)
            sum += (double)x[r.at + p * s->c + i];
    r.mean = sum / count;
    for (int64_t p = 0; p < s->pixels; p++)
        for (int64_t i = 0; i < width; i++) {
            double d = (double)x[r.at + p * s->c + i] - r.mean;
            squares += d * d;
        }
    r.rstd = 1.0 / sqrt(squares / count + (double)s->eps);
    return r;
}

static int run(nn_backend *on, const nn_call *c)
{
    const norm_shape s = norm_shape_of(c->y);
    const float *x = c->in[0], *w = c->in[1], *bias = c->in[2];
    const bool silu = c->y->op->id == NN_OP_group_norm_silu;

    (void)on;
    for (int64_t n = 0; n < s.samples; n++)
        for (int64_t k = 0; k < s.groups; k++) {
            group g = group_of(&s, x, n, k);
            for (int64_t p = 0; p < s.pixels; p++)
                for (int64_t i = 0; i < g.width; i++) {
                    int64_t at = g.at + p * s.c + i;
                    double xhat = ((double)x[at] - g.mean) * g.rstd;
                    double u = xhat * (double)w[g.first + i] + (double)bias[g.first + i];
                    ((float *)c->out)[at] = (float)(silu ? u / (1.0 + exp(-u)) : u);
                }
        }
    return 0;
}

/* f at one place; where there is a bias, silu is behind the norm. */
static double slope_at(const nn_call *c, int64_t at, int64_t channel, double xhat)
{
    const float *w = c->in[1], *dy = c->in[2], *bias = c->in[3];
    double f = (double)w[channel] * (double)dy[at];

    if (!bias)
        return f;
    double u = xhat * (double)w[channel] + (double)bias[channel], s = 1.0 / (1.0 + exp(-u));
    return f * s * (1.0 + u * (1.0 - s));
}

static void grad_x_of_group(const norm_shape *s, const group *g, const nn_call *c)
{
    const float *x = c->in[0];
    double count = (double)(s->pixels * g->width), mean_f = 0.0, mean_fx = 0.0;

    for (int64_t p = 0; p < s->pixels; p++)
        for (int64_t i = 0; i < g->width; i++) {
            int64_t at = g->at + p * s->c + i;
            double xhat = ((double)x[at] - g->mean) * g->rstd, f = slope_at(c, at, g->first + i, xhat);
            mean_f += f / count;
            mean_fx += f * xhat / count;
        }
    for (int64_t p = 0; p < s->pixels; p++)
        for (int64_t i = 0; i < g->width; i++) {
            int64_t at = g->at + p * s->c + i;
            double xhat = ((double)x[at] - g->mean) * g->rstd, f = slope_at(c, at, g->first + i, xhat);
            ((float *)c->out)[at] = (float)((f - mean_f - xhat * mean_fx) * g->rstd);
        }
}

static int run_grad_x(nn_backend *on, const nn_call *c)
{
    const norm_shape s = norm_shape_of(c->y);

    (void)on;
    for (int64_t n = 0; n < s.samples; n++)
        for (int64_t k = 0; k < s.groups; k++) {
            group g = group_of(&s, c->in[0], n, k);
            grad_x_of_group(&s, &g, c);
        }
    return 0;
}

/* One channel at a time, its group's figures found anew for each: slow, and short. */
static int run_grad_w(nn_backend *on, const nn_call *c)
{
    const norm_shape s = norm_shape_of(c->y);
    const float *x = c->in[0], *dy = c->in[1];
    float *dw = c->out, *dbias = dw + s.c;

    (void)on;
    for (int64_t i = 0; i < s.c; i++) {
        double sum_w = 0.0, sum_bias = 0.0;
        for (int64_t n = 0; n < s.samples; n++) {
            group g = group_of(&s, x, n, i / (s.c / s.groups));
            for (int64_t p = 0; p < s.pixels; p++) {
                int64_t at = (n * s.pixels + p) * s.c + i;
                sum_w += (double)dy[at] * ((double)x[at] - g.mean) * g.rstd;
                sum_bias += (double)dy[at];
            }
        }
        dw[i] = (float)sum_w;
        dbias[i] = (float)sum_bias;
    }
    return 0;
}

const nn_kernel cpu_ref_group_norm = {.name = "cpu.group_norm.ref", .takes = cpu_needs_f32, .run = run};
const nn_kernel cpu_ref_group_norm_grad_x = {
    .name = "cpu.group_norm_grad_x.ref", .takes = cpu_needs_f32, .run = run_grad_x};
const nn_kernel cpu_ref_group_norm_grad_w = {
    .name = "cpu.group_norm_grad_w.ref", .takes = cpu_needs_f32, .run = run_grad_w};
const nn_kernel cpu_ref_group_norm_silu = {.name = "cpu.group_norm_silu.ref", .takes = cpu_needs_f32, .run = run};
const nn_kernel cpu_ref_group_norm_silu_grad_x = {
    .name = "cpu.group_norm_silu_grad_x.ref", .takes = cpu_needs_f32, .run = run_grad_x};
const nn_kernel cpu_ref_layer_norm = {.name = "cpu.layer_norm.ref", .takes = cpu_needs_f32, .run = run};
const nn_kernel cpu_ref_layer_norm_grad_x = {
    .name = "cpu.layer_norm_grad_x.ref", .takes = cpu_needs_f32, .run = run_grad_x};
const nn_kernel cpu_ref_layer_norm_grad_w = {
    .name = "cpu.layer_norm_grad_w.ref", .takes = cpu_needs_f32, .run = run_grad_w};
