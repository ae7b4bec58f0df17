/* The gradient of cuda_flash_grad.cu by wgmma, for devices of compute capability 9.0 and heads of 40, 64 and 80: the same sums, in
 * one order, by two kernels, of which one has queries in its warps and walks over keys for dq, the other keys and walks over
 * queries for dk and dv.
 *
 * Both are one: own rows are the left factors of S and dP, P and dS are made in registers and are the left factors of what is
 * summed, and the tile is the right factor of all of them as it lies. A block is GROUPS warpgroups of 64 own rows and one that
 * copies, three tiles of each side ahead; the groups ask the tensor cores in turn for a tile's S and dP, together with the sums of
 * the tile before.
 *
 * Cost, of 64 x 64 and heads of 40, in clocks of a multiprocessor: 192 for S and dP and 80 for each sum on the tensor cores, 256
 * for exponentials: 624 and 512 in all for 1.3 Mflop that are of use. */
#include "trainer/nn/cuda/cuda_flash_hopper.cuh"

/* What a kernel is asked for: dk (to[0]) and dv (to[1]) of keys and values, its own rows, or dq (to[0]) of queries and dy. */
struct slopes_asked {
    void *to[2];
    bool half;
    const bf16 *own[2], *other[2];
    const float *sums, *dots;
};

#if CUDA_HAS_WGMMA

/* ROWS of the other side are a tile: `at` 0 is q or k, 1 is v or dy. */
template <int C, int ROWS, int GROUPS> struct slope_tiles {
    static constexpr int STEPS = (C + 1) / 2, COLUMN = column(ROWS), STAGES = 3, SIZE = 2 * STEPS * COLUMN;
    bf16 at[2][STAGES][SIZE];
    float known[2][STAGES][ROWS]; /* of queries: log-sums, dots */
    uint64_t there[2][STAGES], unused[2][STAGES], turn[GROUPS];
};

/* What queries know, where they are the columns of a sum. */
__device__ inline float2 known_at(const float *table, int j)
{
    return *(const float2 *)(table + 8 * j + 2 * (threadIdx.x % 4));
}

/* S becomes P and dP becomes dS: own rows are queries, the tile's are keys from `first` on. */
template <int TILES>
__device__ inline void slopes_of(float p[TILES][4], float dp[TILES][4], const rows_known &r, const cuda_att &s, float scale, int first,
                                 int row)
{
    if (s.causal || first + 8 * TILES > s.tk)
        hide<TILES>(p, first, s.tk, s.causal, row);
#pragma unroll
    for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            dp[j][e] = exp2_near(p[j][e] * (scale * LOG2_E) - r.from[e / 2]) * (dp[j][e] - r.D[e / 2]);
}

/* Own rows are keys, the tile's are queries from `first` on, which have `sums` and `dots`; what is behind the last has none of it,
 * since its log-sum is infinite. */
template <int TILES>
__device__ inline void slopes_by(float p[TILES][4], float dp[TILES][4], const float *sums, const float *dots, float scale, int first,
                                 bool causal, int row)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int j = 0; j < TILES; j++) {
        const float2 from = known_at(sums, j), D = known_at(dots, j);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float power = exp2_near(p[j][e] * (scale * LOG2_E) - (e % 2 ? from.y : from.x));
            p[j][e] = causal && row + e / 2 * 8 > first + 8 * j + 2 * t + e % 2 ? 0.0f : power;
            dp[j][e] = p[j][e] * (dp[j][e] - (e % 2 ? D.y : D.x));
        }
    }
}

/* A tile of both sides, and the group's turn. */
template <int C, int ROWS, int GROUPS>
__device__ inline void await(slope_tiles<C, ROWS, GROUPS> *m, int n, uint64_t *turn, int turns)
{
    constexpr int STAGES = slope_tiles<C, ROWS, GROUPS>::STAGES;

    signal_wait(&m->there[0][n % STAGES], n / STAGES);
    signal_wait(&m->there[1][n % STAGES], n / STAGES);
    signal_wait(turn, turns);
}

/* Begins S and dP. */
template <int C, int ROWS, int GROUPS>
__device__ inline void begin_slopes(float p[ROWS / 8][4], float dp[ROWS / 8][4], const uint32_t own[2][(C + 1) / 2][4],
                                    const slope_tiles<C, ROWS, GROUPS> *m, int stage)
{
    begin_scores<C, ROWS>(p, own[0], m->at[0][stage]);
    begin_scores<C, ROWS>(dp, own[1], m->at[1][stage]);
}

/* What a group of own rows has in registers: sum[0] of dk or dq, sum[1] of dv. */
template <int C, int ROWS, bool OF_KEYS> struct slope_state {
    static constexpr int SUMS = OF_KEYS ? 2 : 1;
    uint32_t own[2][(C + 1) / 2][4], left[SUMS][ROWS / 16][4];
    float p[ROWS / 8][4], dp[ROWS / 8][4], sum[SUMS][1][C][4];
    rows_known known;
};

template <int C, int ROWS, bool OF_KEYS> __device__ inline void settled_sums(slope_state<C, ROWS, OF_KEYS> *r)
{
#pragma unroll
    for (int w = 0; w < r->SUMS; w++)
        settled<C>(r->sum[w][0]);
}

template <int C, int ROWS, bool OF_KEYS> __device__ inline void settled_slopes(slope_state<C, ROWS, OF_KEYS> *r)
{
    settled<ROWS / 8>(r->p);
    settled<ROWS / 8>(r->dp);
}

template <int C, int ROWS, int GROUPS, bool OF_KEYS>
__device__ inline void take_slopes(slope_state<C, ROWS, OF_KEYS> *r, const slope_tiles<C, ROWS, GROUPS> *m, const cuda_att &s, float scale,
                                   int stage, int first, int row)
{
    if constexpr (OF_KEYS)
        slopes_by<ROWS / 8>(r->p, r->dp, m->known[0][stage], m->known[1][stage], scale, first, s.causal, row);
    else
        slopes_of<ROWS / 8>(r->p, r->dp, r->known, s, scale, first, row);
}

template <int C, int ROWS, bool OF_KEYS> __device__ inline void make_left(slope_state<C, ROWS, OF_KEYS> *r)
{
    as_shares<ROWS>(r->left[0], r->dp);
    if constexpr (OF_KEYS)
        as_shares<ROWS>(r->left[1], r->p);
    settled_slopes(r);
    settled_sums(r);
}

/* Begins the sums over a tile. */
template <int C, int ROWS, int GROUPS, bool OF_KEYS>
__device__ inline void begin_sums(slope_state<C, ROWS, OF_KEYS> *r, const slope_tiles<C, ROWS, GROUPS> *m, int stage)
{
#pragma unroll
    for (int w = 0; w < r->SUMS; w++)
        begin_values<C, ROWS>(r->sum[w][0], r->left[w], m->at[w][stage]);
}

/* Over all tiles, the first of which begins with row `first` of the other side; there is one, since where a mask is causal there are
 * as many keys as queries. */
template <int C, int ROWS, int GROUPS, bool OF_KEYS>
__device__ inline void sum_slopes(slope_state<C, ROWS, OF_KEYS> *r, slope_tiles<C, ROWS, GROUPS> *m, const cuda_att &s, float scale,
                                  int first, int tiles, int row)
{
    constexpr int STAGES = slope_tiles<C, ROWS, GROUPS>::STAGES;
    const int group = threadIdx.x / WARPGROUP - 1, before = group == 0 ? 1 : 0; /* the first one's first turn is at once */
    uint64_t *mine = &m->turn[group], *next = &m->turn[(group + 1) % GROUPS];

    settled_slopes(r);
    await(m, 0, mine, -before);
    wgmma_fence();
    begin_slopes<C, ROWS>(r->p, r->dp, r->own, m, 0);
    give_by_warp(next);
    wgmma_wait<0>();
    settled_slopes(r);
    take_slopes(r, m, s, scale, 0, first, row);
    for (int n = 1; n < tiles; n++) {
        const int stage = n % STAGES, last = (n - 1) % STAGES;
        make_left(r);
        await(m, n, mine, n - before);
        wgmma_fence();
        begin_slopes<C, ROWS>(r->p, r->dp, r->own, m, stage);
        begin_sums(r, m, last);
        give_by_warp(next);
        wgmma_wait<slope_state<C, ROWS, OF_KEYS>::SUMS>();
        settled_slopes(r);
        take_slopes(r, m, s, scale, stage, first + n * ROWS, row);
        wgmma_wait<0>();
        settled_sums(r);
        give_by_warp(&m->unused[0][last]);
        give_by_warp(&m->unused[1][last]);
    }
    make_left(r);
    wgmma_fence();
    begin_sums(r, m, (tiles - 1) % STAGES);
    wgmma_wait<0>();
    settled_sums(r);
}

template <int C, int ROWS, int GROUPS, bool OF_KEYS>
__device__ inline void slope_group(slope_tiles<C, ROWS, GROUPS> *m, const cuda_att &s, float scale, const slopes_asked &a, int first,
                                   int tiles)
{
    const int count = OF_KEYS ? s.tk : s.tq;
    const int row = blockIdx.x * (GROUPS * 64) + (threadIdx.x / WARP - 4) * 16 + threadIdx.x % WARP / 4;
    const int64_t head = head_at(s, blockIdx.y, count), at = head + (int64_t)row * s.c;
    slope_state<C, ROWS, OF_KEYS> r = {};

    if constexpr (!OF_KEYS)
        r.known = known_of(a.sums + figures_at(s, blockIdx.y), a.dots + figures_at(s, blockIdx.y), row, s.tq);
#pragma unroll
    for (int w = 0; w < 2; w++) {
        load_sixteen<C>(r.own[w], row < count ? a.own[w] + at : NULL, row + 8 < count ? a.own[w] + at + (int64_t)8 * s.c : NULL);
        settled<(C + 1) / 2>(r.own[w]);
    }
    sum_slopes(&r, m, s, scale, first, tiles, row);
    store_rows<C, 1>(a.to[0], a.half, head, row, count, s.c, r.sum[0], scale);
    if constexpr (OF_KEYS)
        store_rows<C, 1>(a.to[1], a.half, head, row, count, s.c, r.sum[1], 1.0f);
}

/* GIVEN, TAKEN as in cuda_flash_hopper.cu. */
template <int C, int ROWS, int GROUPS, int GIVEN, int TAKEN, bool OF_KEYS>
__device__ inline void slope_block(const cuda_att &s, float scale, const slopes_asked &a)
{
    using tiles_of = slope_tiles<C, ROWS, GROUPS>;
    alignas(16) __shared__ tiles_of m;
    const int block = blockIdx.x * (GROUPS * 64), count = OF_KEYS ? s.tq : s.tk; /* of the other side */
    const int seen = !OF_KEYS && s.causal ? min(count, block + GROUPS * 64) : count;
    const int first = OF_KEYS && s.causal ? block / ROWS * ROWS : 0, tiles = (seen - first + ROWS - 1) / ROWS;

    for (int i = threadIdx.x; C % 2 && i < 2 * tiles_of::STAGES * ROWS * 4; i += blockDim.x)
        ((uint32_t *)(m.at[0][0] + i / (ROWS * 4) * tiles_of::SIZE + C * tiles_of::COLUMN))[i % (ROWS * 4)] = 0u;
    if (threadIdx.x < 2 * tiles_of::STAGES) {
        signal_begin(&m.there[0][0] + threadIdx.x, FEEDERS);
        signal_begin(&m.unused[0][0] + threadIdx.x, 4 * GROUPS);
    }
    if (threadIdx.x < GROUPS)
        signal_begin(&m.turn[threadIdx.x], 4);
    wgmma_wrote();
    __syncthreads();
    if (threadIdx.x >= WARPGROUP) {
        registers_take<TAKEN>();
        slope_group<C, ROWS, GROUPS, OF_KEYS>(&m, s, scale, a, first, tiles);
    } else {
        registers_give<GIVEN>();
        const int w = threadIdx.x / FEEDERS;
        const float *table = OF_KEYS ? (w ? a.dots : a.sums) + figures_at(s, blockIdx.y) : NULL;
        feed<C, ROWS, tiles_of::STAGES>(m.at[w][0], tiles_of::SIZE, m.known[w][0], m.there[w], m.unused[w], tiles,
                                        a.other[w] + head_at(s, blockIdx.y, count), table, first, count, s.c);
    }
}
#endif

/* ---- launchers ---- */

template <int C, int ROWS, int GROUPS, int GIVEN, int TAKEN, bool OF_KEYS>
__global__ void __launch_bounds__((GROUPS + 1) * WARPGROUP, 1) flash_hopper_grad(cuda_att s, float scale,
    const __grid_constant__ slopes_asked a)
{
#if CUDA_HAS_WGMMA
    slope_block<C, ROWS, GROUPS, GIVEN, TAKEN, OF_KEYS>(s, scale, a);
#endif
}

template <int C, int ROWS>
static cudaError_t launch(cudaStream_t s, const cuda_att &at, const slopes_asked &of_queries, const slopes_asked &of_keys)
{
    LAUNCH((flash_hopper_grad<C, ROWS, 3, 32, 160, false>), flash_grid(at, at.tq, 3 * 64, 1), 4 * WARPGROUP, s, at, flash_scale(at),
           of_queries);
    LAUNCH((flash_hopper_grad<C, ROWS, 2, 40, 232, true>), flash_grid(at, at.tk, 2 * 64, 1), 3 * WARPGROUP, s, at, flash_scale(at),
           of_keys);
    return cudaGetLastError();
}

/* What it is built for decides whether there is code in it (CMakeLists.txt). */
bool k_flash_hopper_grad_has(int64_t d)
{
#ifdef CFARM_HOPPER
    return d == 40 || d == 64 || d == 80;
#else
    return d < 0;
#endif
}

cudaError_t k_flash_hopper_grad(cudaStream_t s, cuda_att at, void *dq, void *dk, void *dv, bool half, const uint16_t *q,
                                const uint16_t *k, const uint16_t *v, const uint16_t *dy, cuda_source y, cuda_source dy_wide,
                                const float *sums, float *dots)
{
    const slopes_asked of_queries = {{dq, NULL}, half, {q, dy}, {k, v}, sums, dots}, of_keys = {{dk, dv}, half, {k, v}, {q, dy}, sums, dots};
    const cudaError_t rc = k_flash_dots(s, at, dots, y, dy_wide);

    if (rc != cudaSuccess)
        return rc;
    switch (at.d) {
    case 40: return launch<5, 64>(s, at, of_queries, of_keys);
    case 64: return launch<8, 32>(s, at, of_queries, of_keys);
    case 80: return launch<10, 32>(s, at, of_queries, of_keys);
    default: return cudaErrorInvalidValue;
    }
}
