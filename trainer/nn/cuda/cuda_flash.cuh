#ifndef CUDA_FLASH_CUH
#define CUDA_FLASH_CUH
/* What attention on tensor cores and its gradient share (cuda_flash.cu, cuda_flash_grad.cu). A head is C pieces of 8 channels,
 * never padded: heads of 40 are two products of 16 deep and one of 8. A block is WARPS warps; rows of the side that it walks
 * over come into shared memory tile by tile, the next one while this one is computed with. */
#include "trainer/nn/cuda/cuda_mma.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP };

/* Elements from one row of a tile to the next: an odd number of 16 bytes, so that the eight rows of a matrix lie in different
 * banks. */
__host__ __device__ constexpr int apart(int c)
{
    return 8 * (c | 1);
}

/* Begins to copy rows first .. first + ROWS - 1 of a head, C pieces each; zeros from row `count` on. */
template <int C, int ROWS> __device__ inline void fetch_rows(bf16 *tile, const bf16 *head, int first, int count, int row)
{
    for (int i = threadIdx.x; i < ROWS * C; i += THREADS) {
        const int r = i / C, c = i % C;
        const bool there = first + r < count;
        copy_begin(tile + r * apart(C) + 8 * c, head + (there ? (int64_t)(first + r) * row + 8 * c : 0), there);
    }
}

/* Where a head's numbers begin in a table of one for each query, whole tiles of them (CUDA_FLASH_ROWS). */
__host__ __device__ inline int64_t figures_at(const cuda_att &s, int64_t head)
{
    return head * CUDA_FLASH_ROWS(s.tq);
}

/* The place of sample and head `at` in q (rows: tq) or k (rows: tk). */
__device__ inline int64_t head_at(const cuda_att &s, int at, int rows)
{
    return (int64_t)(at / s.heads) * rows * s.c + (int64_t)(at % s.heads) * s.d;
}

/* Rows first, first + 8, first + 16 .. of a head as M left factors; zeros behind the last. */
template <int C, int M> __device__ inline void load_own(uint32_t a[M][C][2], const bf16 *head, int first, int count, int row)
{
#pragma unroll
    for (int m = 0; m < M; m++) {
        const int i = first + 16 * m;
        load_left<C>(a[m], i < count ? head + (int64_t)i * row : NULL, i + 8 < count ? head + (int64_t)(i + 8) * row : NULL);
    }
}

/* Scores of columns from `first` on that no key is behind, or one that a query may not see, become -infinity. */
template <int TILES> __device__ inline void hide(float score[TILES][4], int first, int tk, bool causal, int query)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int key = first + 8 * j + 2 * t + e % 2;
            if (key >= tk || (causal && key > query + e / 2 * 8))
                score[j][e] = -INFINITY;
        }
}

/* A lane's columns of query `i`, which is half 0 or 1 of its 16: divided by the sum of the query's shares, of which the lane has
 * `of_lane`; and the query's log-sum, `most` being the largest of its scores. The head's first query begins at element `at` of y,
 * in bf16 if half_y; sums: the head's table, or NULL. */
template <int C>
__device__ inline void finish_query(const cuda_att &s, int half, const float sum[C][4], float most, float of_lane, int i, void *y,
                                    bool half_y, int64_t at, float *sums)
{
    const int t = threadIdx.x % 4;
    const float all = row_sum(of_lane), share = 1.0f / all;
    const int64_t to = at + (int64_t)i * s.c + 2 * t;

    if (t == 0 && sums && i < CUDA_FLASH_ROWS(s.tq))
        sums[i] = i < s.tq ? most + log2f(all) : INFINITY;
#pragma unroll
    for (int c = 0; c < C; c++)
        if (i < s.tq && half_y)
            *(uint32_t *)((bf16 *)y + to + 8 * c) = bf16_pair(sum[c][2 * half] * share, sum[c][2 * half + 1] * share);
        else if (i < s.tq)
            *(float2 *)((float *)y + to + 8 * c) = make_float2(sum[c][2 * half] * share, sum[c][2 * half + 1] * share);
}

/* half: in bf16; out is the tensor, `at` the place of the head in it. */
template <int C, int M>
__device__ inline void store_rows(void *out, bool half, int64_t at, int first, int count, int row, const float sum[M][C][4], float by)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int lower = 0; lower < 2; lower++) {
            const int i = first + 16 * m + 8 * lower;
            const int64_t to = at + (int64_t)i * row + 2 * t;
#pragma unroll
            for (int c = 0; c < C; c++) {
                const float a = sum[m][c][2 * lower] * by, b = sum[m][c][2 * lower + 1] * by;
                if (i < count && half)
                    *(uint32_t *)((bf16 *)out + to + 8 * c) = bf16_pair(a, b);
                else if (i < count)
                    *(float2 *)((float *)out + to + 8 * c) = make_float2(a, b);
            }
        }
}

/* What 16 queries know of themselves: rows g and g + 8 of a lane. */
struct rows_known {
    float from[2], D[2]; /* log-sums, dots */
};

__device__ inline rows_known known_of(const float *sums, const float *dots, int i, int tq)
{
    rows_known r;

#pragma unroll
    for (int half = 0; half < 2; half++) {
        r.from[half] = i + 8 * half < tq ? sums[i + 8 * half] : INFINITY;
        r.D[half] = i + 8 * half < tq ? dots[i + 8 * half] : 0.0f;
    }
    return r;
}

/* exp(x) is 2^(x log2 e). */
#define LOG2_E 1.4426950408889634f

static inline float flash_scale(const cuda_att &s)
{
    return (float)(1.0 / sqrt((double)s.d));
}

static inline dim3 flash_grid(const cuda_att &s, int rows, int rows_of_block, int parts)
{
    return dim3((unsigned)((rows + rows_of_block - 1) / rows_of_block), (unsigned)(s.n * s.heads), (unsigned)parts);
}
#endif
