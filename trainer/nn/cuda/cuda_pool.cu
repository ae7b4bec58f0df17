/* The largest or the mean of windows: one thread an element of the result. Cost: k k reads an element, mostly from
 * caches, since neighbours' windows overlap. */
#include <float.h>

#include "trainer/nn/cuda/cuda_device.cuh"

__global__ void pool2d(cuda_pooled how, float *out, const float *x, cuda_windows p)
{
    int64_t i = thread_at();

    if (i >= p.n * p.oh * p.ow * p.c)
        return;
    int64_t ch = i % p.c, col = i / p.c % p.ow, row = i / p.c / p.ow % p.oh, n = i / p.c / p.ow / p.oh;
    int64_t top = row * p.stride - p.top, left = col * p.stride - p.left;
    int64_t r0 = top < 0 ? 0 : top, r1 = top + p.k > p.h ? p.h : top + p.k;
    int64_t c0 = left < 0 ? 0 : left, c1 = left + p.k > p.w ? p.w : left + p.k;
    float y = how == CUDA_POOL_MAX ? -FLT_MAX : 0.0f;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t c = c0; c < c1; c++) {
            float v = x[((n * p.h + r) * p.w + c) * p.c + ch];
            y = how == CUDA_POOL_MAX ? fmaxf(y, v) : y + v;
        }
    if (how == CUDA_POOL_MEAN)
        y /= (float)((r1 - r0) * (c1 - c0));
    if (how == CUDA_POOL_MEAN_WHOLE)
        y /= (float)(p.k * p.k);
    out[i] = y;
}

cudaError_t k_pool2d(cudaStream_t s, cuda_pooled how, float *out, const float *x, cuda_windows at)
{
    LAUNCH(pool2d, blocks_for(at.n * at.oh * at.ow * at.c), BLOCK, s, how, out, x, at);
    return cudaGetLastError();
}
