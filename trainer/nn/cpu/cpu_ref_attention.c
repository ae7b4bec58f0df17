/* The meaning of attention and its gradient (op/attention.c), one query at a time, sums in double:
 *
 *   D = sum(dY * Y) = sum(P * dP),  dV = P' dY,  dP = dY V',  dS = P * (dP - D),  dQ = dS K / sqrt(d),
 *   dK = dS' Q / sqrt(d) */
#include <math.h>
#include <string.h>

#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* p[0..seen) = softmax(scale q k'); returns how many keys this query sees. */
static int64_t weights(double *p, const att_shape *s, int64_t i, const float *q, const float *k)
{
    int64_t seen = s->causal ? i + 1 : s->tk;
    double most = -INFINITY, sum = 0.0;

    for (int64_t j = 0; j < seen; j++) {
        p[j] = dot(q, k + j * s->c, s->d) / sqrt((double)s->d);
        most = fmax(most, p[j]);
    }
    for (int64_t j = 0; j < seen; j++)
        sum += p[j] = exp(p[j] - most);
    for (int64_t j = 0; j < seen; j++)
        p[j] /= sum;
    return seen;
}

static int run(nn_backend *on, const nn_call *c)
{
    const att_shape s = att_shape_of(c->y);
    const float *q = c->in[0], *k = c->in[1], *v = c->in[2];
    double *p = c->scratch;

    (void)on;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.tq; i++) {
                int64_t at = (n * s.tq + i) * s.c + h * s.d, keys = n * s.tk * s.c + h * s.d;
                int64_t seen = weights(p, &s, i, q + at, k + keys);
                for (int64_t x = 0; x < s.d; x++) {
                    double sum = 0.0;
                    for (int64_t j = 0; j < seen; j++)
                        sum += p[j] * (double)v[keys + j * s.c + x];
                    ((float *)c->out)[at + x] = (float)sum;
                }
            }
    return 0;
}

/* Adds what query i of one sample's head gives to dq, dk and dv (of that head, doubles, rows of c). */
static void add_query(double *p, const att_shape *s, int64_t i, const float *q, const float *k, const float *v,
                      const float *dy, double *dq, double *dk, double *dv)
{
    int64_t seen = weights(p, s, i, q, k);
    double D = 0.0, scale = 1.0 / sqrt((double)s->d);

    for (int64_t j = 0; j < seen; j++)
        D += p[j] * dot(dy, v + j * s->c, s->d);
    for (int64_t j = 0; j < seen; j++) {
        double ds = p[j] * (dot(dy, v + j * s->c, s->d) - D) * scale;
        for (int64_t x = 0; x < s->d; x++) {
            dq[x] += ds * (double)k[j * s->c + x];
            dk[j * s->c + x] += ds * (double)q[x];
            dv[j * s->c + x] += p[j] * (double)dy[x];
        }
    }
}

static int run_grad(nn_backend *on, const nn_call *c)
{
    const att_shape s = att_shape_of(c->y);
    const float *q = c->in[0], *k = c->in[1], *v = c->in[2], *dy = c->in[4];
    int64_t nq = s.n * s.tq * s.c, nk = s.n * s.tk * s.c, all = nq + 2 * nk;
    double *sums = c->scratch, *dk = sums + nq, *dv = dk + nk, *p = sums + all;

    (void)on;
    memset(sums, 0, (size_t)all * sizeof *sums);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.tq; i++) {
                int64_t at = (n * s.tq + i) * s.c + h * s.d, keys = n * s.tk * s.c + h * s.d;
                add_query(p, &s, i, q + at, k + keys, v + keys, dy + at, sums + at, dk + keys, dv + keys);
            }
    for (int64_t i = 0; i < all; i++)
        ((float *)c->out)[i] = (float)sums[i];
    return 0;
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    const att_shape s = att_shape_of(c->y);
    bool grad = c->y->op->id == NN_OP_attention_grad;

    (void)on, (void)frozen, (void)e;
    c->scratch_bytes = (size_t)(s.tk + (grad ? nn_count(c->y->shape) : 0)) * sizeof(double);
    return 0;
}

const nn_kernel cpu_ref_attention = {
    .name = "cpu.attention.ref", .takes = cpu_needs_f32, .prepare = prepare, .run = run};
const nn_kernel cpu_ref_attention_grad = {
    .name = "cpu.attention_grad.ref", .takes = cpu_needs_f32, .prepare = prepare, .run = run_grad};
