/* Attention and its gradient (op/attention.c, cpu_ref_attention.c have the formulas) without a matrix of scores.
 *
 * Every kernel here has one form: a block is ROWS warps, each warp has one row of its own (a query, or a key), and
 * walks over the other side's rows, 32 at a time, one a lane. What the lanes find is then added into the warp's result,
 * whose element x lies with lane x % 32 (R elements a lane: R * 32 >= d). Blocks: ceil(rows / ROWS) times n * heads.
 *
 * Cost, per head: forward 4 tq tk d operations, gradient 16; each block reads the whole other side, from the cache. */
#include "trainer/nn/cuda/cuda_device.cuh"

enum { ROWS = BLOCK / WARP, SLICE = 64 };

/* What dots() puts in shared memory: a slice of 64 channels of the 32 rows of the other side, and of the warps' own.
 * The odd row length lets 32 lanes read 32 rows at once without a bank conflict. */
struct slices {
    float rows[WARP][SLICE + 1], own[ROWS][SLICE];
};

/* own . (row `lane` of `rows`); rows at or past `count` give 0, own NULL as well. Both have d channels; rows are c
 * apart. All threads of the block call, with the same rows, count, c and d. */
__device__ float dots(slices *s, const float *own, const float *rows, int count, int c, int d)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float sum = 0.0f;

    for (int from = 0; from < d; from += SLICE) {
        int width = min((int)SLICE, d - from);
        __syncthreads(); /* the slices before these may still be read */
        for (int t = threadIdx.x; t < WARP * width; t += BLOCK) {
            int row = t / width, x = t % width;
            s->rows[row][x] = row < count ? rows[(int64_t)row * c + from + x] : 0.0f;
        }
        for (int x = lane; x < width; x += WARP)
            s->own[warp][x] = own ? own[from + x] : 0.0f;
        __syncthreads();
        for (int x = 0; x < width; x++)
            sum += s->own[warp][x] * s->rows[lane][x];
    }
    return sum;
}

/* to[r] += sum over the first `count` lanes of weight * (their row); to[r] is element lane + 32 r. */
template <int R>
__device__ inline void add_rows(float to[R], float weight, const float *rows, int count, int c, int d)
{
    const int lane = threadIdx.x % WARP;

    for (int k = 0; k < count; k++) {
        float by = __shfl_sync(0xffffffffu, weight, k);
#pragma unroll
        for (int r = 0; r < R; r++)
            if (lane + WARP * r < d)
                to[r] += by * rows[(int64_t)k * c + lane + WARP * r];
    }
}

template <int R> __device__ inline void store(float *to, const float from[R], float by, int d)
{
    const int lane = threadIdx.x % WARP;

#pragma unroll
    for (int r = 0; r < R; r++)
        if (lane + WARP * r < d)
            to[lane + WARP * r] = from[r] * by;
}

/* Where a block's sample and head lie. */
struct place {
    int64_t q, k; /* of element 0 of this head in the first row of q and y, and of k and v */
    int64_t stats; /* of its first query in a table [n, heads, tq] */
};

__device__ inline place place_of(const cuda_att &s)
{
    int64_t n = blockIdx.y / s.heads, h = blockIdx.y % s.heads;

    return place{n * s.tq * s.c + h * s.d, n * s.tk * s.c + h * s.d, (int64_t)blockIdx.y * s.tq};
}

/* How many keys query i sees. */
__device__ inline int seen_by(const cuda_att &s, int i)
{
    return s.causal ? min(s.tk, i + 1) : s.tk;
}

/* ---- softmax as it goes (Milakov, Gimelshein 2018): the sum so far is scaled anew when a larger score appears ---- */

struct running {
    float most, sum;
};

/* Takes this lane's score (seen: it counts) into the warp's; *p = exp(score - most) or 0; gives what to scale earlier
 * results by. At least one lane of the first 32 has a score. */
__device__ inline float take(running *r, float score, bool seen, float *p)
{
    float most = fmaxf(r->most, warp_max(seen ? score : -INFINITY)), again = expf(r->most - most);

    *p = seen ? expf(score - most) : 0.0f;
    r->sum = r->sum * again + warp_sum(*p);
    r->most = most;
    return again;
}

/* ---- forward: a warp has a query ---- */

template <int R>
__global__ void attend(cuda_att s, float scale, float *y, const float *q, const float *k, const float *v)
{
    __shared__ slices shared;
    const place at = place_of(s);
    const int lane = threadIdx.x % WARP, i = blockIdx.x * ROWS + threadIdx.x / WARP;
    const int keys = seen_by(s, i), keys_of_block = seen_by(s, blockIdx.x * ROWS + ROWS - 1);
    const float *own = i < s.tq ? q + at.q + (int64_t)i * s.c : NULL;
    running soft = {-INFINITY, 0.0f};
    float sum[R] = {0.0f};

    for (int from = 0; from < keys_of_block; from += WARP) {
        const float *rows_k = k + at.k + (int64_t)from * s.c, *rows_v = v + at.k + (int64_t)from * s.c;
        float p, score = dots(&shared, own, rows_k, s.tk - from, s.c, s.d) * scale;
        float again = take(&soft, score, from + lane < keys, &p);
#pragma unroll
        for (int r = 0; r < R; r++)
            sum[r] *= again;
        add_rows<R>(sum, p, rows_v, min((int)WARP, keys - from), s.c, s.d);
    }
    if (own)
        store<R>(y + at.q + (int64_t)i * s.c, sum, 1.0f / soft.sum, s.d);
}

/* ---- gradient ---- */

/* stats of query i: the maximum of its scores, 1 / the sum of exp(score - maximum), D = dy . y. A warp has a query. */
__global__ void attend_stats(cuda_att s, float scale, float *stats, const float *q, const float *k, const float *y,
                             const float *dy)
{
    __shared__ slices shared;
    const place at = place_of(s);
    const int lane = threadIdx.x % WARP, i = blockIdx.x * ROWS + threadIdx.x / WARP;
    const int keys = seen_by(s, i), keys_of_block = seen_by(s, blockIdx.x * ROWS + ROWS - 1);
    const float *own = i < s.tq ? q + at.q + (int64_t)i * s.c : NULL;
    running soft = {-INFINITY, 0.0f};
    float p, D = 0.0f;

    for (int from = 0; from < keys_of_block; from += WARP) {
        float score = dots(&shared, own, k + at.k + (int64_t)from * s.c, s.tk - from, s.c, s.d) * scale;
        take(&soft, score, from + lane < keys, &p);
    }
    if (!own)
        return;
    for (int x = lane; x < s.d; x += WARP)
        D += y[at.q + (int64_t)i * s.c + x] * dy[at.q + (int64_t)i * s.c + x];
    D = warp_sum(D);
    if (lane == 0) {
        float *to = stats + CUDA_ATT_STATS * (at.stats + i);
        to[0] = soft.most;
        to[1] = 1.0f / soft.sum;
        to[2] = D;
    }
}

/* dq = sum over keys of dS k, dS = P (dy . v - D) scale. A warp has a query. */
template <int R>
__global__ void attend_grad_q(cuda_att s, float scale, float *dq, const float *q, const float *k, const float *v,
                              const float *dy, const float *stats)
{
    __shared__ slices shared;
    const place at = place_of(s);
    const int lane = threadIdx.x % WARP, i = blockIdx.x * ROWS + threadIdx.x / WARP;
    const int keys = seen_by(s, i), keys_of_block = seen_by(s, blockIdx.x * ROWS + ROWS - 1);
    const int64_t row = at.q + (int64_t)i * s.c;
    const bool mine = i < s.tq;
    const float *figures = stats + CUDA_ATT_STATS * (at.stats + (mine ? i : 0));
    const float most = figures[0], share = figures[1], D = figures[2];
    float sum[R] = {0.0f};

    for (int from = 0; from < keys_of_block; from += WARP) {
        const float *rows_k = k + at.k + (int64_t)from * s.c, *rows_v = v + at.k + (int64_t)from * s.c;
        float score = dots(&shared, mine ? q + row : NULL, rows_k, s.tk - from, s.c, s.d) * scale;
        float dp = dots(&shared, mine ? dy + row : NULL, rows_v, s.tk - from, s.c, s.d);
        float ds = from + lane < keys ? expf(score - most) * share * (dp - D) * scale : 0.0f;
        add_rows<R>(sum, ds, rows_k, min((int)WARP, keys - from), s.c, s.d);
    }
    if (mine)
        store<R>(dq + row, sum, 1.0f, s.d);
}

/* dk = sum over queries of dS q, dv = sum over queries of P dy. A warp has a key; lanes are queries. */
template <int R>
__global__ void attend_grad_kv(cuda_att s, float scale, float *dk, float *dv, const float *q, const float *k,
                               const float *v, const float *dy, const float *stats)
{
    __shared__ slices shared;
    const place at = place_of(s);
    const int lane = threadIdx.x % WARP, j = blockIdx.x * ROWS + threadIdx.x / WARP;
    const int64_t row = at.k + (int64_t)j * s.c;
    const bool mine = j < s.tk;
    /* The first query that sees the block's first key, to the start of its 32. */
    const int begin = s.causal ? (int)(blockIdx.x * ROWS) / WARP * WARP : 0;
    float sum_k[R] = {0.0f}, sum_v[R] = {0.0f};

    for (int from = begin; from < s.tq; from += WARP) {
        const float *rows_q = q + at.q + (int64_t)from * s.c, *rows_dy = dy + at.q + (int64_t)from * s.c;
        const int i = from + lane;
        float score = dots(&shared, mine ? k + row : NULL, rows_q, s.tq - from, s.c, s.d) * scale;
        float dp = dots(&shared, mine ? v + row : NULL, rows_dy, s.tq - from, s.c, s.d);
        float p = 0.0f, ds = 0.0f;
        if (i < s.tq && j < seen_by(s, i)) {
            const float *figures = stats + CUDA_ATT_STATS * (at.stats + i);
            p = expf(score - figures[0]) * figures[1];
            ds = p * (dp - figures[2]) * scale;
        }
        add_rows<R>(sum_k, ds, rows_q, min((int)WARP, s.tq - from), s.c, s.d);
        add_rows<R>(sum_v, p, rows_dy, min((int)WARP, s.tq - from), s.c, s.d);
    }
    if (mine) {
        store<R>(dk + row, sum_k, 1.0f, s.d);
        store<R>(dv + row, sum_v, 1.0f, s.d);
    }
}

/* ---- launchers: R is 2 for heads up to 64 wide, 5 up to 160 (the widest of UNets), 16 up to 512 (a VAE) ---- */

static dim3 grid_of(const cuda_att &at, int rows)
{
    return dim3((unsigned)((rows + ROWS - 1) / ROWS), (unsigned)(at.n * at.heads));
}

static float scale_of(const cuda_att &at)
{
    return (float)(1.0 / sqrt((double)at.d));
}

cudaError_t k_attention(cudaStream_t s, cuda_att at, float *y, const float *q, const float *k, const float *v)
{
    dim3 grid = grid_of(at, at.tq);
    float scale = scale_of(at);

    if (at.d <= 2 * WARP)
        LAUNCH(attend<2>, grid, BLOCK, s, at, scale, y, q, k, v);
    else if (at.d <= 5 * WARP)
        LAUNCH(attend<5>, grid, BLOCK, s, at, scale, y, q, k, v);
    else
        LAUNCH(attend<16>, grid, BLOCK, s, at, scale, y, q, k, v);
    return cudaGetLastError();
}

template <int R>
static void gradients(cudaStream_t s, const cuda_att &at, float *dq, float *dk, float *dv, const float *q,
                      const float *k, const float *v, const float *dy, const float *stats)
{
    float scale = scale_of(at);

    LAUNCH(attend_grad_q<R>, grid_of(at, at.tq), BLOCK, s, at, scale, dq, q, k, v, dy, stats);
    LAUNCH(attend_grad_kv<R>, grid_of(at, at.tk), BLOCK, s, at, scale, dk, dv, q, k, v, dy, stats);
}

cudaError_t k_attention_grad(cudaStream_t s, cuda_att at, float *dq, float *dk, float *dv, const float *q,
                             const float *k, const float *v, const float *y, const float *dy, float *stats)
{
    LAUNCH(attend_stats, grid_of(at, at.tq), BLOCK, s, at, scale_of(at), stats, q, k, y, dy);
    if (at.d <= 2 * WARP)
        gradients<2>(s, at, dq, dk, dv, q, k, v, dy, stats);
    else if (at.d <= 5 * WARP)
        gradients<5>(s, at, dq, dk, dv, q, k, v, dy, stats);
    else
        gradients<16>(s, at, dq, dk, dv, q, k, v, dy, stats);
    return cudaGetLastError();
}
