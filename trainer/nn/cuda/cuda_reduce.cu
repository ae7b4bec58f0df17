/* Sums in a fixed order: each thread adds its share in double, a block adds its threads by halves. Cost: the bytes read
 * (a double addition an element, which the GPUs this is for do at half the rate of f32 or better). */
#include "trainer/nn/cuda/cuda_device.cuh"

/* ---- sum_to ---- */

/* Few terms: one thread a result. */
__global__ void sum_by_thread(float *out, const float *x, const __grid_constant__ cuda_walk kept, int64_t n,
                              const __grid_constant__ cuda_walk summed, int64_t many)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    const float *from = x + walk_at(kept, i);
    double sum = 0.0;
    for (int64_t k = 0; k < many; k++)
        sum += (double)from[walk_at(summed, k)];
    out[i] = (float)sum;
}

/* Many terms: one block a result; thread t takes terms t, t + BLOCK, ... */
__global__ void sum_by_block(float *out, const float *x, const __grid_constant__ cuda_walk kept,
                             const __grid_constant__ cuda_walk summed, int64_t many)
{
    const float *from = x + walk_at(kept, blockIdx.x);
    double sum = 0.0;

    for (int64_t k = threadIdx.x; k < many; k += BLOCK)
        sum += (double)from[walk_at(summed, k)];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[blockIdx.x] = (float)sum;
}

cudaError_t k_sum_to(cudaStream_t s, float *out, const float *x, cuda_walk kept, int64_t n, cuda_walk summed,
                     int64_t many)
{
    if (n == 0)
        return cudaSuccess;
    if (many < WARP) /* a block would idle */
        LAUNCH(sum_by_thread, blocks_for(n), BLOCK, s, out, x, kept, n, summed, many);
    else
        LAUNCH(sum_by_block, (unsigned)n, BLOCK, s, out, x, kept, summed, many);
    return cudaGetLastError();
}

/* ---- sum of squares: first CUDA_PARTS partial sums, then their sum ---- */

__global__ void squares_of_part(double *parts, const float *x, int64_t n)
{
    double sum = 0.0;

    for (int64_t i = thread_at(); i < n; i += (int64_t)CUDA_PARTS * BLOCK)
        sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

__global__ void add_parts(float *out, const double *parts)
{
    double sum = 0.0;

    for (int i = threadIdx.x; i < CUDA_PARTS; i += BLOCK)
        sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[0] = (float)sum;
}

cudaError_t k_sum_squares(cudaStream_t s, float *out, const float *x, int64_t n, double *parts)
{
    LAUNCH(squares_of_part, CUDA_PARTS, BLOCK, s, parts, x, n);
    LAUNCH(add_parts, 1, BLOCK, s, out, parts);
    return cudaGetLastError();
}

/* ---- squared error: one block a sample ---- */

__global__ void squared_error(float *out, const float *a, const float *b, const float *mask, int64_t count,
                              int64_t width)
{
    int64_t from = blockIdx.x * count;
    double sum = 0.0;

    for (int64_t i = from + threadIdx.x; i < from + count; i += BLOCK) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d * (mask ? (double)mask[part(i, width).whole] : 1.0);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[blockIdx.x] = (float)sum;
}

cudaError_t k_squared_error(cudaStream_t s, float *out, const float *a, const float *b, const float *mask, int64_t n,
                            int64_t count, int64_t width)
{
    if (n == 0)
        return cudaSuccess;
    LAUNCH(squared_error, (unsigned)n, BLOCK, s, out, a, b, mask, count, width);
    return cudaGetLastError();
}

__global__ void squared_error_grad(float *out, const float *a, const float *b, const float *mask, const float *dy,
                                   int64_t all, int64_t count, int64_t width)
{
    int64_t i = thread_at();

    if (i < all)
        out[i] = 2.0f * (mask ? mask[part(i, width).whole] : 1.0f) * (a[i] - b[i]) * dy[part(i, count).whole];
}

cudaError_t k_squared_error_grad(cudaStream_t s, float *out, const float *a, const float *b, const float *mask,
                                 const float *dy, int64_t n, int64_t count, int64_t width)
{
    LAUNCH(squared_error_grad, blocks_for(n * count), BLOCK, s, out, a, b, mask, dy, n * count, count, width);
    return cudaGetLastError();
}
