/* AdamW over one flat block of weights: one thread a weight. Cost: 16 bytes read and 12 written a weight (4 more read
 * with a base). Before it clipping, a thread a concept: nothing beside it. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* nn.h's ADAMW_*, which C++ cannot include; cuda_calls.c sees at compile time that the order is this one. */
enum { LR, BETA1, BETA2, EPS, DECAY, CORRECT1, CORRECT2, GRAD_SCALE, ROUND, HYPER = ROUND + 4 };

__global__ void adamw(float *w, float *m, float *v, const float *d, const float *hyper, const float *base, int64_t n,
                      int64_t count)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    const float *h = hyper + part(i, count).whole * HYPER;
    float shrink = h[LR] * h[DECAY], step = h[LR] / h[CORRECT1];
    float g = d[i] * h[GRAD_SCALE], x = w[i];
    x = base ? x - shrink * (x - base[i]) : x * (1.0f - shrink);
    float mi = h[BETA1] * m[i] + (1.0f - h[BETA1]) * g;
    float vi = h[BETA2] * v[i] + (1.0f - h[BETA2]) * g * g;
    m[i] = mi;
    v[i] = vi;
    w[i] = x - step * (mi / (sqrtf(vi) / sqrtf(h[CORRECT2]) + h[EPS]));
}

cudaError_t k_adamw(cudaStream_t s, float *w, float *m, float *v, const float *d, const float *hyper,
                    const float *base, int64_t concepts, int64_t count)
{
    LAUNCH(adamw, blocks_for(concepts * count), BLOCK, s, w, m, v, d, hyper, base, concepts * count, count);
    return cudaGetLastError();
}

__global__ void clip(float *out, const float *hyper, const float *norm2, const float *losses, int64_t concepts, int64_t n)
{
    int64_t p = thread_at();

    if (p >= concepts)
        return;
    const float *h = hyper + p * HYPER;
    float *to = out + p * HYPER, most = h[GRAD_SCALE], norm = sqrtf(norm2[p]) + 1e-6f;
    bool finite = isfinite(norm2[p]);
    for (int64_t i = 0; i < n; i++)
        finite = finite && isfinite(losses[p * n + i]);
    for (int k = 0; k < HYPER; k++)
        to[k] = h[k];
    to[GRAD_SCALE] = most > 0.0f && norm > most ? most / norm : 1.0f;
    if (!finite) {
        to[LR] = 0.0f;
        to[EPS] = to[CORRECT1] = to[CORRECT2] = 1.0f;
    }
}

cudaError_t k_clip(cudaStream_t s, float *out, const float *hyper, const float *norm2, const float *losses, int64_t concepts,
                   int64_t n)
{
    LAUNCH(clip, blocks_for(concepts), BLOCK, s, out, hyper, norm2, losses, concepts, n);
    return cudaGetLastError();
}
