/* For the choice among algorithms: factors to multiply, and a number that stands for a result's bits. Cost: the bytes
 * written and read. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* Each bit depends on every bit (Steele, Lea and Flood's mixer). */
__device__ inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* A number of bf16 between 2^-8 and 1, of either sign: sums of products of so many sizes are rounded, and so show the order
 * they were made in. */
__device__ inline uint32_t some_bf16(uint32_t bits)
{
    return (bits & 0x8000u) | (0x3b80u + (bits & 0x3ffu));
}

/* Two of bf16 are, read as f32, a number of the upper one's size. */
__global__ void made_up(uint32_t *out, int64_t n)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    const uint64_t bits = mix((uint64_t)i + 1);
    out[i] = some_bf16((uint32_t)bits) << 16 | some_bf16((uint32_t)(bits >> 32));
}

cudaError_t k_made_up(cudaStream_t s, uint32_t *out, int64_t n)
{
    LAUNCH(made_up, blocks_for(n), BLOCK, s, out, n);
    return cudaGetLastError();
}

__global__ void sum_words(uint64_t *sums, const uint32_t *x, int64_t n)
{
    uint64_t sum = 0;

    for (int64_t i = thread_at(); i < n; i += (int64_t)CUDA_SUMS * BLOCK)
        sum += mix((uint64_t)(i + 1) << 32 ^ x[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

cudaError_t k_sum_words(cudaStream_t s, uint64_t *sums, const uint32_t *x, int64_t n)
{
    LAUNCH(sum_words, CUDA_SUMS, BLOCK, s, sums, x, n);
    return cudaGetLastError();
}
