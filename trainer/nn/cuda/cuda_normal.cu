/* Random numbers by their address: those of cluster/base/rng.c. */
#include "trainer/nn/cuda/cuda_device.cuh"

enum { WORDS = 4, ROUNDS = 10 };

struct block_of_words { uint32_t w[WORDS]; };

/* Philox 4x32-10 of counter {block, step, sample} under the key: stream has key, step, sample. */
__device__ inline block_of_words philox(const uint32_t *stream, uint64_t block)
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = stream[2], c3 = stream[3];
    uint32_t k0 = stream[0], k1 = stream[1];

    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return block_of_words{{c0, c1, c2, c3}};
}

/* In double and rounded once, as the host has it: no fused product, so that both round alike. */
__device__ inline void normal_pair(float *z, uint32_t radius, uint32_t angle)
{
    const double u = __dmul_rn((double)radius + 1.0, 0x1p-32), a = __dmul_rn((double)angle, 0x1p-32 * 6.283185307179586);
    const double r = sqrt(__dmul_rn(-2.0, log(u)));

    z[0] = (float)__dmul_rn(r, cos(a));
    z[1] = (float)__dmul_rn(r, sin(a));
}

/* A thread a block of four numbers. Cost: some 150 operations in double for each; a step's noise is 2^17 numbers. */
__global__ void normal(float *out, const uint32_t *at, int64_t n, int64_t count)
{
    const int64_t blocks = (count + WORDS - 1) / WORDS;
    const parted p = part(thread_at(), blocks);

    if (p.whole >= n)
        return;
    const block_of_words x = philox(at + p.whole * WORDS, (uint64_t)p.rest);
    float z[WORDS], *to = out + p.whole * count + p.rest * WORDS;
    normal_pair(z, x.w[0], x.w[1]);
    normal_pair(z + 2, x.w[2], x.w[3]);
    for (int i = 0; i < WORDS; i++)
        if (p.rest * WORDS + i < count)
            to[i] = z[i];
}

cudaError_t k_normal(cudaStream_t s, float *out, const uint32_t *at, int64_t n, int64_t count)
{
    LAUNCH(normal, blocks_for(n * ((count + WORDS - 1) / WORDS)), BLOCK, s, out, at, n, count);
    return cudaGetLastError();
}
