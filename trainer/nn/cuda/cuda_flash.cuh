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

/* Of a table of a number for each query: `count` of a head with those of whole tiles behind them, so that tiles read on. */
__host__ __device__ inline int64_t figures_at(const cuda_att &s, int64_t head)
{
    return head * CUDA_FLASH_ROWS(s.tq);
}

/* The place of sample and head `at` in q (rows: tq) or k (rows: tk). */
__device__ inline int64_t head_at(const cuda_att &s, int at, int rows)
{
    return (int64_t)(at / s.heads) * rows * s.c + (int64_t)(at % s.heads) * s.d;
}

#define LOG2_E 1.4426950408889634f

/* Scores are kept as powers of two. */
static inline float flash_scale(const cuda_att &s)
{
    return (float)(1.0 / sqrt((double)s.d));
}

static inline dim3 flash_grid(const cuda_att &s, int rows, int rows_of_block, int parts)
{
    return dim3((unsigned)((rows + rows_of_block - 1) / rows_of_block), (unsigned)(s.n * s.heads), (unsigned)parts);
}
#endif
