/* The meaning of AdamW (Loshchilov, Hutter 2019, algorithm 2, in the order of torch.optim.AdamW). */
#include <math.h>

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

/* Moments of 8 bits: block by block to floats, moved, and back. */
static void update_packed(float *w, float *m, float *v, const float *d, const float *h, const float *base, int64_t count)
{
    moment_map of_m, of_v;
    float *m_scale = m + count / 4, *v_scale = v + count / 4;

    moment_map_make(&of_m, true);
    moment_map_make(&of_v, false);
    for (int64_t at = 0, block = 0; at < count; at += NN_MOMENT_BLOCK, block++) {
        float wide_m[NN_MOMENT_BLOCK], wide_v[NN_MOMENT_BLOCK];
        int64_t n = count - at < NN_MOMENT_BLOCK ? count - at : NN_MOMENT_BLOCK;
        moments_unpack(wide_m, (uint8_t *)m + at, m_scale[block], &of_m, n);
        moments_unpack(wide_v, (uint8_t *)v + at, v_scale[block], &of_v, n);
        update(w + at, wide_m, wide_v, d + at, h, base ? base + at : NULL, n);
        m_scale[block] = moments_pack((uint8_t *)m + at, wide_m, &of_m, n);
        v_scale[block] = moments_pack((uint8_t *)v + at, wide_v, &of_v, n);
    }
}

static int run_packed(const nn_call *c)
{
    int64_t concepts = c->y->shape.d[0], count = c->y->shape.d[1], row = nn_moments8(count);

    for (int64_t p = 0; p < concepts; p++)
        update_packed((float *)c->out + p * count, (float *)(uintptr_t)c->in[1] + p * row, (float *)(uintptr_t)c->in[2] + p * row,
                      (const float *)c->in[3] + p * count, (const float *)c->in[4] + p * NN_ADAMW_HYPER,
                      c->in[5] ? (const float *)c->in[5] + p * count : NULL, count);
    return 0;
}

/* The states are the kernel's to change: a graph gives no other way to write through a source. */
static int run_adamw(nn_backend *b, const nn_call *c)
{
    int64_t concepts = c->y->shape.d[0], count = c->y->shape.d[1];

    (void)b;
    if (!nn_same_shape(c->y->src[1]->shape, c->y->shape))
        return run_packed(c);
    for (int64_t p = 0; p < concepts; p++) {
        int64_t at = p * count;
        const float *base = c->in[5] ? (const float *)c->in[5] + at : NULL;
        update((float *)c->out + at, (float *)(uintptr_t)c->in[1] + at, (float *)(uintptr_t)c->in[2] + at,
               (const float *)c->in[3] + at, (const float *)c->in[4] + p * NN_ADAMW_HYPER, base, count);
    }
    return 0;
}

const nn_kernel cpu_ref_adamw = {.name = "cpu.adamw.ref", .takes = cpu_needs_f32, .run = run_adamw};
