/* Attention on tensor cores without a matrix of scores (Dao et al. 2022, 2023): sources in bf16, scores, their softmax and
 * sums in f32. A warp has 16 M queries, whose scores against a tile of keys stay in its registers, become the left factor of
 * the product with the tile's values there, and are forgotten; the sum so far is scaled anew when a larger score appears.
 *
 * Cost: 4 tq tk d operations a head. Every block of 64 M queries reads all keys and values of its head, in bf16, mostly from
 * the second-level cache. A head wider than one block's registers (the VAE's 512) is made in parts of 16 pieces, each of which
 * computes the scores anew. */
#include "trainer/nn/cuda/cuda_flash.cuh"

/* ---- a warp's 16 queries: rows g and g + 8 of a lane are its `half` 0 and 1 ---- */

struct softmax_rows {
    float most[2], sum[2]; /* of scores, before scaling; of this lane's columns only */
};

/* Scores become exp(score - the most so far); results so far are scaled to that. */
template <int TILES, int C>
__device__ inline void soften(softmax_rows *r, float score[TILES][4], float so_far[C][4], float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = r->most[half];
#pragma unroll
        for (int j = 0; j < TILES; j++)
            most = fmaxf(most, fmaxf(score[j][2 * half], score[j][2 * half + 1]));
        most = row_max(most);
        const float again = exp2_near((r->most[half] - most) * scale), from = most * scale;
        r->most[half] = most;
        r->sum[half] *= again;
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                score[j][e] = exp2_near(score[j][e] * scale - from);
                r->sum[half] += score[j][e];
            }
#pragma unroll
        for (int c = 0; c < C; c++) {
            so_far[c][2 * half] *= again;
            so_far[c][2 * half + 1] *= again;
        }
    }
}

/* M times 16 queries against a tile of keys. */
template <int C, int M, int KEYS>
__device__ inline void tile_scores(float score[M][KEYS / 8][4], const uint32_t left[M][C][2], const bf16 *keys)
{
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++) {
        uint32_t right[C];
        load_right<C>(right, keys + 8 * j * apart(C), apart(C));
#pragma unroll
        for (int m = 0; m < M; m++)
            add_inner<C>(score[m][j], left[m], right);
    }
}

/* sum += exp(scores), which are the left factor as they lie, times the tile's values. */
template <int C, int M, int KEYS>
__device__ inline void add_values(float sum[M][C][4], const float score[M][KEYS / 8][4], const bf16 *values)
{
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
        uint32_t p[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            as_left(p[m], score[m][2 * j], score[m][2 * j + 1]);
        add_outer<M, C>(sum, p, values + 16 * j * apart(C), apart(C));
    }
}

/* C pieces of q and k; CV of v and y, the blockIdx.z-th of them; M times 16 queries a warp; KEYS of a tile. */
template <int C, int CV, int M, int KEYS> __global__ void __launch_bounds__(THREADS) flash(cuda_att s, float scale, void *y,
    bool half_y, float *sums, const bf16 *q, const bf16 *k, const bf16 *v)
{
    alignas(16) __shared__ bf16 keys[2][KEYS * apart(C)], values[2][KEYS * apart(CV)];
    const int g = threadIdx.x % WARP / 4, part = blockIdx.z * CV * 8;
    const int block = blockIdx.x * (WARPS * M * 16), row = block + threadIdx.x / WARP * (M * 16) + g;
    const int64_t at_q = head_at(s, blockIdx.y, s.tq), at_k = head_at(s, blockIdx.y, s.tk);
    const int seen = s.causal ? min(s.tk, block + WARPS * M * 16) : s.tk, tiles = (seen + KEYS - 1) / KEYS;
    uint32_t left[M][C][2];
    float sum[M][CV][4] = {};
    softmax_rows soft[M];

    load_own<C, M>(left, q + at_q, row, s.tq, s.c);
#pragma unroll
    for (int m = 0; m < M; m++)
        soft[m] = softmax_rows{{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    for (int tile = -1; tile < tiles; tile++) {
        if (tile + 1 < tiles) {
            fetch_rows<C, KEYS>(keys[(tile + 1) % 2], k + at_k, (tile + 1) * KEYS, s.tk, s.c);
            fetch_rows<CV, KEYS>(values[(tile + 1) % 2], v + at_k + part, (tile + 1) * KEYS, s.tk, s.c);
        }
        copy_group();
        if (tile < 0)
            continue;
        copy_wait<1>();
        __syncthreads();
        float score[M][KEYS / 8][4] = {};
        tile_scores<C, M, KEYS>(score, left, keys[tile % 2]);
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (s.causal || (tile + 1) * KEYS > s.tk)
                hide<KEYS / 8>(score[m], tile * KEYS, s.tk, s.causal, row + 16 * m);
            soften<KEYS / 8, CV>(&soft[m], score[m], sum[m], scale * LOG2_E);
        }
        add_values<CV, M, KEYS>(sum, score, values[tile % 2]);
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            finish_query<CV>(s, half, sum[m], soft[m].most[half] * scale * LOG2_E, soft[m].sum[half], row + 16 * m + 8 * half,
                             y, half_y, at_q + part, sums && part == 0 ? sums + figures_at(s, blockIdx.y) : NULL);
}

template <int C, int CV, int M, int KEYS>
static cudaError_t attend(cudaStream_t s, const cuda_att &at, void *y, bool half, float *sums, const uint16_t *q, const uint16_t *k,
                          const uint16_t *v)
{
    LAUNCH((flash<C, CV, M, KEYS>), flash_grid(at, at.tq, WARPS * M * 16, C / CV), THREADS, s, at, flash_scale(at), y, half, sums, q,
           k, v);
    return cudaGetLastError();
}

cudaError_t k_flash(cudaStream_t s, cuda_att at, void *y, bool half, float *sums, const uint16_t *q, const uint16_t *k, const uint16_t *v)
{
    switch (at.d) {
    case 8: return attend<1, 1, 2, 64>(s, at, y, half, sums, q, k, v);
    case 16: return attend<2, 2, 2, 64>(s, at, y, half, sums, q, k, v);
    case 32: return attend<4, 4, 2, 64>(s, at, y, half, sums, q, k, v);
    case 40: return attend<5, 5, 2, 64>(s, at, y, half, sums, q, k, v);
    case 64: return attend<8, 8, 2, 32>(s, at, y, half, sums, q, k, v);
    case 80: return attend<10, 10, 1, 64>(s, at, y, half, sums, q, k, v);
    case 160: return attend<20, 20, 1, 32>(s, at, y, half, sums, q, k, v);
    case 512: return attend<64, 16, 1, 16>(s, at, y, half, sums, q, k, v);
    default: return cudaErrorInvalidValue;
    }
}
