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
