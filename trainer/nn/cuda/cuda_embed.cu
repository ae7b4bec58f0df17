/* Embeddings of words and of times. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* One thread an element of the result. Cost: the bytes. */
__global__ void embedding(float *out, const float *table, const int32_t *ids, int64_t n, int64_t c, int64_t first,
                          int64_t rows)
{
    int64_t i = thread_at();

    if (i >= n * c)
        return;
    int64_t row = ids[i / c] - first;
    out[i] = row >= 0 && row < rows ? table[row * c + i % c] : 0.0f;
}

cudaError_t k_embedding(cudaStream_t s, float *out, const float *table, const int32_t *ids, int64_t n, int64_t c,
                        int64_t first, int64_t rows)
{
    LAUNCH(embedding, blocks_for(n * c), BLOCK, s, out, table, ids, n, c, first, rows);
    return cudaGetLastError();
}

/* One block a row of the table: it looks at all ids and adds, in their order, what came from its row. Cost: rows * n
 * ids read (from the cache) and each dy once; what is trained has few rows. */
__global__ void embedding_grad(float *out, const int32_t *ids, const float *dy, int64_t n, int64_t c, int64_t first)
{
    int64_t row = blockIdx.x;

    for (int64_t k = threadIdx.x; k < c; k += BLOCK) {
        float sum = 0.0f;
        for (int64_t i = 0; i < n; i++)
            if (ids[i] - first == row)
                sum += dy[i * c + k];
        out[row * c + k] = sum;
    }
}

cudaError_t k_embedding_grad(cudaStream_t s, float *out, const int32_t *ids, const float *dy, int64_t n, int64_t c,
                             int64_t first, int64_t rows)
{
    if (rows == 0)
        return cudaSuccess;
    LAUNCH(embedding_grad, (unsigned)rows, BLOCK, s, out, ids, dy, n, c, first);
    return cudaGetLastError();
}

/* freq_i = exp(-ln(10000) i / (half - shift)), then sin and cos of t freq_i, every step rounded to f32 as the reference
 * has it. The functions are taken in double: t reaches 1000, and a last bit of freq_i would show. */
__global__ void timestep_embedding(float *out, const float *t, int64_t n, int64_t dim, bool flip, float shift)
{
    int64_t at = thread_at(), half = dim / 2;

    if (at >= n * dim)
        return;
    int64_t k = at / dim, place = at % dim, i = place % (half > 0 ? half : 1);
    if (place >= 2 * half) { /* an odd width ends in a zero */
        out[at] = 0.0f;
        return;
    }
    float power = __fmul_rn(-9.210340371976184f, (float)i) / ((float)half - shift);
    float freq = (float)exp((double)power), angle = __fmul_rn(t[k], freq);
    bool sine = (place < half) != flip;
    out[at] = (float)(sine ? sin((double)angle) : cos((double)angle));
}

cudaError_t k_timestep_embedding(cudaStream_t s, float *out, const float *t, int64_t n, int64_t dim, bool flip,
                                 float shift)
{
    LAUNCH(timestep_embedding, blocks_for(n * dim), BLOCK, s, out, t, n, dim, flip, shift);
    return cudaGetLastError();
}
