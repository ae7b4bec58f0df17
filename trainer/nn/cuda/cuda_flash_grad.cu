/* The gradient of attention on tensor cores by computing its scores anew (Dao et al. 2022, 2023). With S the scores, y = P v,
 * P = exp(S - the query's log-sum), which the forward pass has kept, and D = y . dy of a query:
 *
 *   dv = P' dy,   dS = P (dy v' - D),   dq = dS k / sqrt(d),   dk = dS' q / sqrt(d)
 *
 * One kernel has queries in its warps and walks over keys for dq, another has keys and walks over queries for dk and dv: the
 * scores are computed twice, so that every sum has one order and there are no atomics. Each warp has 16 M rows of its own, the
 * left factors, in registers, and takes the tile's rows 16 at a time.
 *
 * Cost: 6 tq tk d operations a head for dq and 8 for dk and dv, where 10 in all would do with atomics; heads of 160 make dk
 * and dv in two parts, of 6 and 4, since both sums together are more than a thread's registers. */
#include "trainer/nn/cuda/cuda_flash.cuh"

/* D of every query, a warp one: zero behind the last. */
template <typename Y, typename DY> __global__ void flash_dots(cuda_att s, float *dots, const Y *y, const DY *dy)
{
    const int lane = threadIdx.x % WARP, i = blockIdx.x * (BLOCK / WARP) + threadIdx.x / WARP;
    const int64_t at = head_at(s, blockIdx.y, s.tq) + (int64_t)i * s.c;
    float sum = 0.0f;

    if (i >= CUDA_FLASH_ROWS(s.tq))
        return;
    for (int x = lane; x < s.d && i < s.tq; x += WARP)
        sum += (float)y[at + x] * (float)dy[at + x];
    sum = warp_sum(sum);
    if (lane == 0)
        dots[figures_at(s, blockIdx.y) + i] = sum;
}

/* A lane's two columns 2t and 2t + 1 of each of two sums side by side. */
struct columns { float at[2][2]; };

__device__ inline columns columns_of(const float *table)
{
    const int t = threadIdx.x % 4;

    return columns{{{table[2 * t], table[2 * t + 1]}, {table[8 + 2 * t], table[8 + 2 * t + 1]}}};
}

/* Two sums side by side: a's rows times 16 rows of a tile. */
template <int C> __device__ inline void scores_16(float to[2][4], const uint32_t a[C][2], const bf16 *rows)
{
#pragma unroll
    for (int j = 0; j < 2; j++) {
        uint32_t right[C];
        load_right<C>(right, rows + 8 * j * apart(C), apart(C));
        add_inner<C>(to[j], a, right);
    }
}

/* ---- dq: a warp has queries ---- */

/* dp becomes dS, of query `row` and of keys from `first` on. Unless all are seen, keys at or past `count` have none of it, nor
 * later ones than a query if causal. */
__device__ inline void slopes_of_queries(float dp[2][4], const float score[2][4], const rows_known &r, float scale, bool all,
                                         int first, int count, bool causal, int row)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int key = first + 8 * j + 2 * t + e % 2, half = e / 2;
            const bool hidden = !all && (key >= count || (causal && key > row + 8 * half));
            const float p = hidden ? 0.0f : exp2_near(score[j][e] * (scale * LOG2_E) - r.from[half]);
            dp[j][e] = p * (dp[j][e] - r.D[half]);
        }
}

template <int C, int M, int KEYS> __global__ void __launch_bounds__(THREADS) flash_grad_q(cuda_att s, float scale, void *dq,
    bool half, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *dy, const float *sums, const float *dots)
{
    alignas(16) __shared__ bf16 keys[2][KEYS * apart(C)], values[2][KEYS * apart(C)];
    const int block = blockIdx.x * (WARPS * M * 16), row = block + threadIdx.x / WARP * (M * 16) + threadIdx.x % WARP / 4;
    const int64_t at_q = head_at(s, blockIdx.y, s.tq), at_k = head_at(s, blockIdx.y, s.tk), at = figures_at(s, blockIdx.y);
    const int seen = s.causal ? min(s.tk, block + WARPS * M * 16) : s.tk, tiles = (seen + KEYS - 1) / KEYS;
    uint32_t own_q[M][C][2], own_dy[M][C][2];
    float sum[M][C][4] = {};
    rows_known known[M];

    load_own<C, M>(own_q, q + at_q, row, s.tq, s.c);
    load_own<C, M>(own_dy, dy + at_q, row, s.tq, s.c);
#pragma unroll
    for (int m = 0; m < M; m++)
        known[m] = known_of(sums + at, dots + at, row + 16 * m, s.tq);
    for (int tile = -1; tile < tiles; tile++) {
        if (tile + 1 < tiles) {
            fetch_rows<C, KEYS>(keys[(tile + 1) % 2], k + at_k, (tile + 1) * KEYS, s.tk, s.c);
            fetch_rows<C, KEYS>(values[(tile + 1) % 2], v + at_k, (tile + 1) * KEYS, s.tk, s.c);
        }
        copy_group();
        if (tile < 0)
            continue;
        copy_wait<1>();
        __syncthreads();
        const bool all = !s.causal && (tile + 1) * KEYS <= s.tk;
#pragma unroll
        for (int r = 0; r < KEYS; r += 16) {
            const bf16 *rows_k = keys[tile % 2] + r * apart(C), *rows_v = values[tile % 2] + r * apart(C);
            uint32_t ds[M][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
                float p[2][4] = {}, dp[2][4] = {};
                scores_16<C>(p, own_q[m], rows_k);
                scores_16<C>(dp, own_dy[m], rows_v);
                slopes_of_queries(dp, p, known[m], scale, all, tile * KEYS + r, s.tk, s.causal, row + 16 * m);
                as_left(ds[m], dp[0], dp[1]);
            }
            add_outer<M, C>(sum, ds, rows_k, apart(C));
        }
        __syncthreads();
    }
    store_rows<C, M>(dq, half, at_q, row, s.tq, s.c, sum, scale);
}

/* ---- dk and dv: a warp has keys ---- */

/* Scores become P and dp becomes dS, of key `row` and of queries from `first` on, which know `from` and `D`. */
__device__ inline void slopes_of_keys(float p[2][4], float dp[2][4], const columns &from, const columns &D, float scale,
                                      int first, bool causal, int row)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const bool hidden = causal && row + e / 2 * 8 > first + 8 * j + 2 * t + e % 2;
            p[j][e] = hidden ? 0.0f : exp2_near(p[j][e] * (scale * LOG2_E) - from.at[j][e % 2]);
            dp[j][e] = p[j][e] * (dp[j][e] - D.at[j][e % 2]);
        }
}

/* Begins to copy log-sums and dots of a tile's queries, four at a time. */
template <int QUERIES>
__device__ inline void fetch_figures(float figures[2][QUERIES], const float *sums, const float *dots)
{
    const int which = threadIdx.x / (QUERIES / 4), four = threadIdx.x % (QUERIES / 4) * 4;

    if (which < 2)
        copy_begin(figures[which] + four, (which ? dots : sums) + four, true);
}

/* Which of the two: both, or one in a launch. */
enum { DK = 1, DV = 2 };

template <int C, int M, int QUERIES, int WHICH> __global__ void __launch_bounds__(THREADS) flash_grad_kv(cuda_att s, float scale,
    void *dk, void *dv, bool half, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *dy, const float *sums, const float *dots)
{
    alignas(16) __shared__ bf16 queries[2][QUERIES * apart(C)], dys[2][QUERIES * apart(C)];
    alignas(16) __shared__ float figures[2][2][QUERIES]; /* log-sums and D of a tile */
    const int block = blockIdx.x * (WARPS * M * 16), row = block + threadIdx.x / WARP * (M * 16) + threadIdx.x % WARP / 4;
    const int64_t at_q = head_at(s, blockIdx.y, s.tq), at_k = head_at(s, blockIdx.y, s.tk), at = figures_at(s, blockIdx.y);
    const int begin = s.causal ? block / QUERIES : 0, tiles = (s.tq + QUERIES - 1) / QUERIES; /* who sees the first key */
    uint32_t own_k[M][C][2], own_v[M][C][2];
    float sum_k[M][C][4] = {}, sum_v[M][C][4] = {};

    load_own<C, M>(own_k, k + at_k, row, s.tk, s.c);
    if (WHICH & DK)
        load_own<C, M>(own_v, v + at_k, row, s.tk, s.c);
    for (int tile = begin - 1; tile < tiles; tile++) {
        const int next = tile + 1, mine = tile & 1;
        if (next < tiles) {
            fetch_rows<C, QUERIES>(queries[next % 2], q + at_q, next * QUERIES, s.tq, s.c);
            fetch_rows<C, QUERIES>(dys[next % 2], dy + at_q, next * QUERIES, s.tq, s.c);
            fetch_figures<QUERIES>(figures[next % 2], sums + at + next * QUERIES, dots + at + next * QUERIES);
        }
        copy_group();
        if (tile < begin)
            continue;
        copy_wait<1>();
        __syncthreads();
#pragma unroll
        for (int r = 0; r < QUERIES; r += 16) {
            const bf16 *rows_q = queries[mine] + r * apart(C), *rows_dy = dys[mine] + r * apart(C);
            const columns from = columns_of(figures[mine][0] + r), D = columns_of(figures[mine][1] + r);
            uint32_t left_p[M][4], left_ds[M][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
                float p[2][4] = {}, dp[2][4] = {};
                scores_16<C>(p, own_k[m], rows_q);
                if (WHICH & DK)
                    scores_16<C>(dp, own_v[m], rows_dy);
                slopes_of_keys(p, dp, from, D, scale, tile * QUERIES + r, s.causal, row + 16 * m);
                as_left(left_p[m], p[0], p[1]);
                as_left(left_ds[m], dp[0], dp[1]);
            }
            if (WHICH & DV)
                add_outer<M, C>(sum_v, left_p, rows_dy, apart(C));
            if (WHICH & DK)
                add_outer<M, C>(sum_k, left_ds, rows_q, apart(C));
        }
        __syncthreads();
    }
    if (WHICH & DK)
        store_rows<C, M>(dk, half, at_k, row, s.tk, s.c, sum_k, scale);
    if (WHICH & DV)
        store_rows<C, M>(dv, half, at_k, row, s.tk, s.c, sum_v, 1.0f);
}

/* ---- launchers ---- */

template <typename Y> static void launch_dots(cudaStream_t s, cuda_att at, float *dots, const Y *y, cuda_source dy)
{
    const dim3 grid((unsigned)(CUDA_FLASH_ROWS(at.tq) / (BLOCK / WARP)), (unsigned)(at.n * at.heads));

    if (dy.half)
        LAUNCH(flash_dots, grid, BLOCK, s, at, dots, y, (const __nv_bfloat16 *)dy.at);
    else
        LAUNCH(flash_dots, grid, BLOCK, s, at, dots, y, (const float *)dy.at);
}

typedef struct {
    cuda_att at;
    void *dq, *dk, *dv;
    bool half;
    const bf16 *q, *k, *v, *dy;
    const float *sums, *dots;
} gradient;

template <int C, int M, int QUERIES, int WHICH> static void launch_kv(cudaStream_t s, const gradient &g)
{
    LAUNCH((flash_grad_kv<C, M, QUERIES, WHICH>), flash_grid(g.at, g.at.tk, WARPS * M * 16, 1), THREADS, s, g.at,
           flash_scale(g.at), g.dk, g.dv, g.half, g.q, g.k, g.v, g.dy, g.sums, g.dots);
}

/* M_Q, M_KV: 16s of rows a warp has of queries, of keys. */
template <int C, int M_Q, int M_KV, int ROWS> static void launch_both(cudaStream_t s, const gradient &g)
{
    LAUNCH((flash_grad_q<C, M_Q, ROWS>), flash_grid(g.at, g.at.tq, WARPS * M_Q * 16, 1), THREADS, s, g.at, flash_scale(g.at),
           g.dq, g.half, g.q, g.k, g.v, g.dy, g.sums, g.dots);
    if constexpr (C > 10) {
        launch_kv<C, M_KV, ROWS, DK>(s, g);
        launch_kv<C, M_KV, ROWS, DV>(s, g);
    } else {
        launch_kv<C, M_KV, ROWS, DK | DV>(s, g);
    }
}

cudaError_t k_flash_dots(cudaStream_t s, cuda_att at, float *dots, cuda_source y, cuda_source dy)
{
    if (y.half)
        launch_dots(s, at, dots, (const __nv_bfloat16 *)y.at, dy);
    else
        launch_dots(s, at, dots, (const float *)y.at, dy);
    return cudaGetLastError();
}

cudaError_t k_flash_grad(cudaStream_t s, cuda_att at, void *dq, void *dk, void *dv, bool half, const uint16_t *q,
                         const uint16_t *k, const uint16_t *v, const uint16_t *dy, cuda_source y, cuda_source dy_wide, const float *sums,
                         float *dots)
{
    const gradient g = {at, dq, dk, dv, half, q, k, v, dy, sums, dots};

    k_flash_dots(s, at, dots, y, dy_wide);
    switch (at.d) {
    case 8: launch_both<1, 1, 1, 64>(s, g); break;
    case 16: launch_both<2, 2, 2, 64>(s, g); break;
    case 32: launch_both<4, 2, 2, 64>(s, g); break;
    case 40: launch_both<5, 2, 2, 64>(s, g); break;
    case 64: launch_both<8, 2, 1, 32>(s, g); break;
    case 80: launch_both<10, 1, 1, 32>(s, g); break;
    case 160: launch_both<20, 1, 1, 16>(s, g); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}
