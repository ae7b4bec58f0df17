/* The meaning of AdamW (Loshchilov, Hutter 2019, algorithm 2, in the order of torch.optim.AdamW). */
#include <math.h>

#include "trainer/nn/cpu/cpu.h"

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

/* The states are the kernel's to change: a graph gives no other way to write through a source. */
static int run_adamw(nn_backend *b, const nn_call *c)
{
    int64_t concepts = c->y->shape.d[0], count = c->y->shape.d[1];

    (void)b;
    for (int64_t p = 0; p < concepts; p++) {
        int64_t at = p * count;
        const float *base = c->in[5] ? (const float *)c->in[5] + at : NULL;
        update((float *)c->out + at, (float *)(uintptr_t)c->in[1] + at, (float *)(uintptr_t)c->in[2] + at,
               (const float *)c->in[3] + at, (const float *)c->in[4] + p * NN_ADAMW_HYPER, base, count);
    }
    return 0;
}

const nn_kernel cpu_ref_adamw = {.name = "cpu.adamw.ref", .takes = cpu_needs_f32, .run = run_adamw};
