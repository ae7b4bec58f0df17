/* The pass of cuda_flash.cu by wgmma, for devices of compute capability 9.0 and heads of 40, 64, 80 and 160 (Shah et al. 2024):
 * the tensor cores take keys and values from shared memory by themselves, while the warps that asked for it raise scores to
 * powers.
 *
 * A block is GROUPS warpgroups with 64 queries each, and one before them that copies tiles of keys and values, two of its warps
 * each, two tiles ahead. Signals say that a tile is there and that nobody needs it any more. The groups ask the tensor cores in
 * turn: for a tile's scores together with the product of the shares before them and their values, so that one group's softmax
 * falls to the products of the others. Without turns all would wait for the tensor cores, then all for the exponentials.
 *
 * Cost, of 64 queries and 128 keys with heads of 40, in clocks of a multiprocessor: 192 for scores (48 deep) and 160 for values
 * on the tensor cores, 512 for 8,192 exponentials, and some 450 of the 4 schedulers' for all instructions of the four warps. An
 * exponential by additions and multiplications takes eight of those and would move the bound there. */
#include "trainer/nn/cuda/cuda_flash_hopper.cuh"

#if CUDA_HAS_WGMMA

template <int C, int KEYS, int GROUPS> struct hopper_tiles {
    static constexpr int STEPS = (C + 1) / 2, COLUMN = column(KEYS); /* 16 deep each, of scores */
    bf16 keys[2][2 * STEPS * COLUMN], values[2][C * COLUMN];
    uint64_t keys_there[2], keys_unused[2], values_there[2], values_unused[2], turn[GROUPS];
};

/* ---- who computes: a warp has 16 queries, rows g and g + 8 of a lane are its `half` 0 and 1 ---- */

struct hopper_rows {
    float most[2], sum[2]; /* of scores, before scaling; of this lane's columns only */
};

/* Scores become exp(score - the most so far); again: what results so far are to be multiplied by. */
template <int TILES> __device__ inline void powers(hopper_rows *r, float again[2], float score[TILES][4], float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = r->most[half], sum = 0.0f;
#pragma unroll
        for (int j = 0; j < TILES; j++)
            most = fmaxf(most, fmaxf(score[j][2 * half], score[j][2 * half + 1]));
        most = row_max(most);
        const float from = most * scale;
        again[half] = exp2_near(r->most[half] * scale - from);
        r->most[half] = most;
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                score[j][e] = exp2_near(score[j][e] * scale - from);
                sum += score[j][e];
            }
        r->sum[half] = r->sum[half] * again[half] + sum;
    }
}

template <int C> __device__ inline void scaled(float sum[C][4], const float by[2])
{
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            sum[c][e] *= by[e / 2];
}

/* A tile's scores are there; its keys may be written over. */
template <int KEYS>
__device__ inline void soften(hopper_rows *r, float again[2], float score[KEYS / 8][4], const cuda_att &s, int tile, int row,
                              float scale)
{
    if (s.causal || (tile + 1) * KEYS > s.tk)
        hide<KEYS / 8>(score, tile * KEYS, s.tk, s.causal, row);
    powers<KEYS / 8>(r, again, score, scale * LOG2_E);
}

template <int C, int KEYS, int GROUPS>
__device__ inline void attend_group(hopper_tiles<C, KEYS, GROUPS> *m, const cuda_att &s, float scale, void *y, bool half_y,
                                    float *sums, const bf16 *q, int tiles)
{
    const int group = threadIdx.x / WARPGROUP - 1, before = group == 0 ? 1 : 0; /* the first one's first turn is at once */
    uint64_t *mine = &m->turn[group], *next = &m->turn[(group + 1) % GROUPS];
    const int row = blockIdx.x * (GROUPS * 64) + (threadIdx.x / WARP - 4) * 16 + threadIdx.x % WARP / 4;
    const int64_t at_q = head_at(s, blockIdx.y, s.tq);
    constexpr int STEPS = hopper_tiles<C, KEYS, GROUPS>::STEPS;
    uint32_t own[STEPS][4], p[KEYS / 16][4];
    float score[KEYS / 8][4] = {}, sum[C][4] = {}, again[2];
    hopper_rows soft = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};

    load_sixteen<C>(own, row < s.tq ? q + at_q + (int64_t)row * s.c : NULL,
                    row + 8 < s.tq ? q + at_q + (int64_t)(row + 8) * s.c : NULL);
    settled<STEPS>(own);
    settled<KEYS / 8>(score);
    signal_wait(&m->keys_there[0], 0);
    signal_wait(mine, -before);
    wgmma_fence();
    begin_scores<C, KEYS>(score, own, m->keys[0]);
    give_by_warp(next);
    wgmma_wait<0>();
    settled<KEYS / 8>(score);
    give_by_warp(&m->keys_unused[0]);
    soften<KEYS>(&soft, again, score, s, 0, row, scale);
    for (int n = 1; n < tiles; n++) {
        as_shares<KEYS>(p, score);
        settled<KEYS / 8>(score);
        settled<C>(sum);
        signal_wait(&m->keys_there[n % 2], n / 2);
        signal_wait(&m->values_there[(n - 1) % 2], (n - 1) / 2);
        signal_wait(mine, n - before);
        wgmma_fence();
        begin_scores<C, KEYS>(score, own, m->keys[n % 2]);
        begin_values<C, KEYS>(sum, p, m->values[(n - 1) % 2]);
        give_by_warp(next);
        wgmma_wait<1>();
        settled<KEYS / 8>(score);
        give_by_warp(&m->keys_unused[n % 2]);
        soften<KEYS>(&soft, again, score, s, n, row, scale);
        wgmma_wait<0>();
        settled<C>(sum);
        give_by_warp(&m->values_unused[(n - 1) % 2]);
        scaled<C>(sum, again);
    }
    as_shares<KEYS>(p, score);
    settled<C>(sum);
    signal_wait(&m->values_there[(tiles - 1) % 2], (tiles - 1) / 2);
    wgmma_fence();
    begin_values<C, KEYS>(sum, p, m->values[(tiles - 1) % 2]);
    wgmma_wait<0>();
    settled<C>(sum);
#pragma unroll
    for (int half = 0; half < 2; half++)
        finish_query<C>(s, half, sum, soft.most[half] * scale * LOG2_E, soft.sum[half], row + 8 * half, y,
                        half_y, at_q, sums ? sums + figures_at(s, blockIdx.y) : NULL);
}

/* GIVEN, TAKEN: registers of a thread of those who copy and those who compute, of 65,536 in all. */
template <int C, int KEYS, int GROUPS, int GIVEN, int TAKEN>
__device__ inline void attend_block(const cuda_att &s, float scale, void *y, bool half_y, float *sums, const bf16 *q,
                                    const bf16 *k, const bf16 *v)
{
    using tiles_of = hopper_tiles<C, KEYS, GROUPS>;
    alignas(16) __shared__ tiles_of m;
    const int seen = s.causal ? min(s.tk, (int)(blockIdx.x + 1) * GROUPS * 64) : s.tk, tiles = (seen + KEYS - 1) / KEYS;
    const int64_t at_k = head_at(s, blockIdx.y, s.tk);

    for (int i = threadIdx.x; C % 2 && i < 2 * KEYS * 4; i += blockDim.x)
        ((uint32_t *)(m.keys[i % 2] + C * tiles_of::COLUMN))[i / 2] = 0u;
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; i++) {
            signal_begin(&m.keys_there[i], FEEDERS);
            signal_begin(&m.values_there[i], FEEDERS);
            signal_begin(&m.keys_unused[i], 4 * GROUPS);
            signal_begin(&m.values_unused[i], 4 * GROUPS);
        }
    if (threadIdx.x < GROUPS)
        signal_begin(&m.turn[threadIdx.x], 4);
    wgmma_wrote();
    __syncthreads();
    if (threadIdx.x >= WARPGROUP) {
        registers_take<TAKEN>();
        attend_group<C, KEYS, GROUPS>(&m, s, scale, y, half_y, sums, q, tiles);
    } else {
        registers_give<GIVEN>();
        if (threadIdx.x < FEEDERS)
            feed<C, KEYS, 2>(m.keys[0], 2 * tiles_of::STEPS * tiles_of::COLUMN, NULL, m.keys_there, m.keys_unused, tiles, k + at_k,
                             NULL, 0, s.tk, s.c);
        else
            feed<C, KEYS, 2>(m.values[0], C * tiles_of::COLUMN, NULL, m.values_there, m.values_unused, tiles, v + at_k, NULL, 0, s.tk,
                             s.c);
    }
}
#endif

/* ---- launchers ---- */

template <int C, int KEYS, int GROUPS, int GIVEN, int TAKEN>
__global__ void __launch_bounds__((GROUPS + 1) * WARPGROUP, 1) flash_hopper(cuda_att s, float scale, void *y, bool half_y,
    float *sums, const bf16 *q, const bf16 *k, const bf16 *v)
{
#if CUDA_HAS_WGMMA
    attend_block<C, KEYS, GROUPS, GIVEN, TAKEN>(s, scale, y, half_y, sums, q, k, v);
#endif
}

template <int C, int KEYS, int GROUPS, int GIVEN, int TAKEN>
static cudaError_t attend(cudaStream_t s, const cuda_att &at, void *y, bool half_y, float *sums, const uint16_t *q,
                          const uint16_t *k, const uint16_t *v)
{
    LAUNCH((flash_hopper<C, KEYS, GROUPS, GIVEN, TAKEN>), flash_grid(at, at.tq, GROUPS * 64, 1), (GROUPS + 1) * WARPGROUP, s, at,
           flash_scale(at), y, half_y, sums, q, k, v);
    return cudaGetLastError();
}

/* What it is built for decides whether there is code in it (CMakeLists.txt). */
bool k_flash_hopper_has(int64_t d)
{
#ifdef CFARM_HOPPER
    return d == 40 || d == 64 || d == 80 || d == 160;
#else
    return d < 0;
#endif
}

cudaError_t k_flash_hopper(cudaStream_t s, cuda_att at, void *y, bool half_y, float *sums, const uint16_t *q, const uint16_t *k,
                           const uint16_t *v)
{
    switch (at.d) {
    case 40: return attend<5, 128, 3, 32, 160>(s, at, y, half_y, sums, q, k, v);
    case 64: return attend<8, 80, 3, 32, 160>(s, at, y, half_y, sums, q, k, v);
    case 80: return attend<10, 64, 3, 32, 160>(s, at, y, half_y, sums, q, k, v);
    case 160: return attend<20, 32, 2, 40, 232>(s, at, y, half_y, sums, q, k, v);
    default: return cudaErrorInvalidValue;
    }
}
