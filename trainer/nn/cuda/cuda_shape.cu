/* Copies of elements, and the sum that is a copy's gradient: one thread an element of the result. Cost: the bytes. */
#include "trainer/nn/cuda/cuda_device.cuh"

template <typename T> __global__ void copy_rows(T *out, const T *in, cuda_rows r)
{
    int64_t i = thread_at();

    if (i >= r.rows * r.width)
        return;
    int64_t row = i / r.width, at = i % r.width;
    out[r.out_at + row * r.out_step + at] = in[r.in_at + row * r.in_step + at];
}

cudaError_t k_copy_rows(cudaStream_t s, void *out, const void *in, cuda_rows r, int size)
{
    unsigned blocks = blocks_for(r.rows * r.width);

    if (size == 2)
        LAUNCH(copy_rows, blocks, BLOCK, s, (uint16_t *)out, (const uint16_t *)in, r);
    else
        LAUNCH(copy_rows, blocks, BLOCK, s, (uint32_t *)out, (const uint32_t *)in, r);
    return cudaGetLastError();
}

template <typename T>
__global__ void zero_rows(T *out, const T *x, int64_t n, int64_t sample, int64_t zeros)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = i % sample < zeros ? (T)0 : x[i];
}

cudaError_t k_zero_rows(cudaStream_t s, void *out, const void *x, int64_t n, int64_t t, int64_t c, int64_t zeros,
                        int size)
{
    int64_t count = n * t * c;

    if (size == 2)
        LAUNCH(zero_rows, blocks_for(count), BLOCK, s, (uint16_t *)out, (const uint16_t *)x, count, t * c, zeros * c);
    else
        LAUNCH(zero_rows, blocks_for(count), BLOCK, s, (uint32_t *)out, (const uint32_t *)x, count, t * c, zeros * c);
    return cudaGetLastError();
}

/* ---- upsample ---- */

template <typename T> __global__ void upsample(T *out, const T *x, cuda_zoom z)
{
    int64_t i = thread_at();

    if (i >= z.n * z.oh * z.ow * z.c)
        return;
    int64_t k = i % z.c, col = i / z.c % z.ow, row = i / z.c / z.ow % z.oh, n = i / z.c / z.ow / z.oh;
    out[i] = x[((n * z.h + row * z.h / z.oh) * z.w + col * z.w / z.ow) * z.c + k];
}

cudaError_t k_upsample(cudaStream_t s, void *out, const void *x, cuda_zoom z, int size)
{
    unsigned blocks = blocks_for(z.n * z.oh * z.ow * z.c);

    if (size == 2)
        LAUNCH(upsample, blocks, BLOCK, s, (uint16_t *)out, (const uint16_t *)x, z);
    else
        LAUNCH(upsample, blocks, BLOCK, s, (uint32_t *)out, (const uint32_t *)x, z);
    return cudaGetLastError();
}

/* The first position of the larger side whose source is `at` or later: the smallest p with p * small / large >= at. */
__device__ inline int64_t first_from(int64_t at, int64_t small, int64_t large)
{
    return (at * large + small - 1) / small;
}

__global__ void upsample_grad(float *out, const float *dy, cuda_zoom z)
{
    int64_t i = thread_at();

    if (i >= z.n * z.h * z.w * z.c)
        return;
    int64_t k = i % z.c, col = i / z.c % z.w, row = i / z.c / z.w % z.h, n = i / z.c / z.w / z.h;
    float sum = 0.0f;
    for (int64_t p = first_from(row, z.h, z.oh); p < first_from(row + 1, z.h, z.oh); p++)
        for (int64_t q = first_from(col, z.w, z.ow); q < first_from(col + 1, z.w, z.ow); q++)
            sum += dy[((n * z.oh + p) * z.ow + q) * z.c + k];
    out[i] = sum;
}

cudaError_t k_upsample_grad(cudaStream_t s, float *out, const float *dy, cuda_zoom z)
{
    LAUNCH(upsample_grad, blocks_for(z.n * z.h * z.w * z.c), BLOCK, s, out, dy, z);
    return cudaGetLastError();
}

/* ---- expand ---- */

__global__ void expand(float *out, const float *x, cuda_walk at, int64_t n)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = x[walk_at(at, i)];
}

cudaError_t k_expand(cudaStream_t s, float *out, const float *x, cuda_walk at, int64_t n)
{
    LAUNCH(expand, blocks_for(n), BLOCK, s, out, x, at, n);
    return cudaGetLastError();
}
