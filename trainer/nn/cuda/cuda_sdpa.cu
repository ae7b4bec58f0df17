/* Log-sums of attention in cuDNN's form, [heads, tq] natural logarithms, and in ours, [heads, CUDA_FLASH_ROWS(tq)] to the base of 2 and
 * infinite behind the last (k_flash). A thread a number; 8 bytes each, of which a step of SD 1.5 has a million at most. */
#include "trainer/nn/cuda/cuda_device.cuh"
#include "trainer/nn/cuda/cuda_kernels.h"

#define LN_2 0.6931471805599453f

__global__ void sums_of_logs(float *out, const float *logs, int64_t n, int tq, int rows)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, head = i / rows;
    const int at = (int)(i % rows);

    if (i < n)
        out[i] = at < tq ? logs[head * tq + at] / LN_2 : INFINITY;
}

__global__ void logs_of_sums(float *out, const float *sums, int64_t n, int tq, int rows)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        out[i] = sums[i / tq * rows + i % tq] * LN_2;
}

cudaError_t k_sums_of_logs(cudaStream_t s, float *out, const float *logs, int64_t heads, int64_t tq)
{
    const int64_t n = heads * CUDA_FLASH_ROWS(tq);

    LAUNCH(sums_of_logs, blocks_for(n), BLOCK, s, out, logs, n, (int)tq, (int)CUDA_FLASH_ROWS(tq));
    return cudaGetLastError();
}

cudaError_t k_logs_of_sums(cudaStream_t s, float *out, const float *sums, int64_t heads, int64_t tq)
{
    const int64_t n = heads * tq;

    LAUNCH(logs_of_sums, blocks_for(n), BLOCK, s, out, sums, n, (int)tq, (int)CUDA_FLASH_ROWS(tq));
    return cudaGetLastError();
}
