/* The meaning of AdamW (Loshchilov, Hutter 2019, algorithm 2, in the order of torch.optim.AdamW), and of clipping before it. */
#include <math.h>
#include <string.h>

#include "cluster/base/rng.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_moments.h"

/* One concept of a pack: w, m, v [count] with gradient d and the numbers h. */
static void update(float *w, float *m, float *v, const float *d, const float *h, const float *base, int64_t count)
{
    float shrink = h[ADAMW_LR] * h[ADAMW_DECAY], step = h[ADAMW_LR] / h[ADAMW_CORRECT1];
    float b1 = h[ADAMW_BETA1], b2 = h[ADAMW_BETA2], root = sqrtf(h[ADAMW_CORRECT2]);

    for (int64_t i = 0; i < count; i++) {
        float g = d[i] * h[ADAMW_GRAD_SCALE];
        w[i] = base ? w[i] - shrink * (w[i] - base[i]) : w[i] * (1.0f - shrink);
        m[i] = b1 * m[i] + (1.0f - b1) * g;
        v[i] = b2 * v[i] + (1.0f - b2) * g * g;
        w[i] -= step * (m[i] / (sqrtf(v[i]) / root + h[ADAMW_EPS]));
    }
}

/* Up with the chance of what lies between x and the bf16 below it. What is no finite number stays that. */
static uint16_t rounded(float x, const float stream[4], uint64_t i)
{
    rng_stream s;
    uint32_t u;

    memcpy(&s, stream, sizeof s);
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7f800000) == 0x7f800000)
        return bf16_of_f32(x);
    return (uint16_t)((u + (rng_u32(s, i / 2) >> 16 * (i % 2) & 0xffff)) >> 16);
}

/* What is stored in fewer bits: block by block to floats, moved, and back. */
static void update_blocks(const nn_call *c, int64_t concept, int64_t count, const moment_map *of_m, const moment_map *of_v)
{
    bool eight = cpu_adamw_eight(c->y), narrow = cpu_adamw_narrow(c->y);
    int64_t row = eight ? nn_moments8(count) : count;
    float *m = (float *)(uintptr_t)c->in[1] + concept * row, *v = (float *)(uintptr_t)c->in[2] + concept * row;
    const float *d = (const float *)c->in[3] + concept * count, *h = (const float *)c->in[4] + concept * NN_ADAMW_HYPER;
    const float *base = c->in[5] ? (const float *)c->in[5] + concept * count : NULL;
    float *w = (float *)c->out + concept * (narrow ? count / 2 : count);

    for (int64_t at = 0, block = 0; at < count; at += NN_MOMENT_BLOCK, block++) {
        float wide_w[NN_MOMENT_BLOCK], wide_m[NN_MOMENT_BLOCK], wide_v[NN_MOMENT_BLOCK];
        int64_t n = count - at < NN_MOMENT_BLOCK ? count - at : NN_MOMENT_BLOCK;
        uint16_t *half = (uint16_t *)w + at;
        if (narrow)
            f32_from(wide_w, half, BF16, (size_t)n);
        if (eight) {
            moments_unpack(wide_m, (uint8_t *)m + at, m[count / 4 + block], of_m, n);
            moments_unpack(wide_v, (uint8_t *)v + at, v[count / 4 + block], of_v, n);
        }
        update(narrow ? wide_w : w + at, eight ? wide_m : m + at, eight ? wide_v : v + at, d + at, h, base ? base + at : NULL, n);
        for (int64_t i = 0; i < n && narrow; i++)
            half[i] = rounded(wide_w[i], h + ADAMW_ROUND, (uint64_t)(at + i));
        if (eight) {
            m[count / 4 + block] = moments_pack((uint8_t *)m + at, wide_m, of_m, n);
            v[count / 4 + block] = moments_pack((uint8_t *)v + at, wide_v, of_v, n);
        }
    }
}

/* The states are the kernel's to change: a graph gives no other way to write through a source. */
static int run_adamw(nn_backend *b, const nn_call *c)
{
    int64_t concepts = c->y->src[3]->shape.d[0], count = c->y->src[3]->shape.d[1];
    moment_map of_m, of_v;

    (void)b;
    moment_map_make(&of_m, true);
    moment_map_make(&of_v, false);
    for (int64_t p = 0; p < concepts; p++)
        update_blocks(c, p, count, &of_m, &of_v);
    return 0;
}

const nn_kernel cpu_ref_adamw = {.name = "cpu.adamw.ref", .takes = cpu_needs_f32, .run = run_adamw};

static bool all_finite(float norm2, const float *losses, int64_t n)
{
    bool all = isfinite(norm2);

    for (int64_t i = 0; i < n; i++)
        all = all && isfinite(losses[i]);
    return all;
}

static void clip(float *out, const float *hyper, float norm2, const float *losses, int64_t n)
{
    const float most = hyper[ADAMW_GRAD_SCALE], norm = sqrtf(norm2) + 1e-6f;

    memcpy(out, hyper, NN_ADAMW_HYPER * sizeof *out);
    out[ADAMW_GRAD_SCALE] = most > 0 && norm > most ? most / norm : 1.0f;
    if (!all_finite(norm2, losses, n)) {
        out[ADAMW_LR] = 0;
        out[ADAMW_EPS] = out[ADAMW_CORRECT1] = out[ADAMW_CORRECT2] = 1.0f;
    }
}

static int run_clip(nn_backend *b, const nn_call *c)
{
    const int64_t n = c->y->src[2]->shape.d[1];

    (void)b;
    for (int64_t p = 0; p < c->y->shape.d[0]; p++)
        clip((float *)c->out + p * NN_ADAMW_HYPER, (const float *)c->in[0] + p * NN_ADAMW_HYPER, ((const float *)c->in[1])[p],
             (const float *)c->in[2] + p * n, n);
    return 0;
}

const nn_kernel cpu_ref_clip = {.name = "cpu.clip.ref", .takes = cpu_needs_f32, .run = run_clip};
