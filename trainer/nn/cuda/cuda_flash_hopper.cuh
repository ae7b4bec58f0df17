#ifndef CUDA_FLASH_HOPPER_CUH
#define CUDA_FLASH_HOPPER_CUH
/* What attention by wgmma and its gradient share (cuda_flash_hopper.cu, cuda_flash_hopper_grad.cu).
 *
 * A tile lies in shared memory as columns of 16 bytes (8 channels), a row behind the other: so it is a factor as it lies, keys
 * dense along the inner side, values along the columns. Columns are 80 bytes further apart than they are long, which spreads
 * what one row's copies write over the banks. An odd number of columns is filled with one of zeros for the scores. */
#include "trainer/nn/cuda/cuda_flash.cuh"
#include "trainer/nn/cuda/cuda_wgmma.cuh"

#if CUDA_HAS_WGMMA

/* Elements from one column of a tile to the next. */
__host__ __device__ constexpr int column(int keys)
{
    return 8 * keys + 40;
}

/* ---- who copies ---- */

enum { FEEDERS = WARPGROUP / 2 }; /* threads that copy keys, and that copy values */

/* Copies tiles of KEYS rows of a head from `first` on, each thread one column of as many rows as are left to it: to STAGES places,
 * `apart` elements each. With each tile come as many numbers of a table of one for each row, if there is one. */
template <int C, int KEYS, int STAGES>
__device__ inline void feed(bf16 *tile, int apart, float *numbers, uint64_t *there, uint64_t *unused, int tiles, const bf16 *head,
                            const float *table, int first, int count, int row)
{
    constexpr int ROWS = FEEDERS / C; /* at once */
    const int me = threadIdx.x % FEEDERS, c = me % C, begin = me < ROWS * C ? me / C : KEYS;

    for (int n = 0; n < tiles; n++) {
        const int stage = n % STAGES, at = first + n * KEYS;
        bf16 *to = tile + stage * apart + c * column(KEYS);
        const bf16 *from = head + (int64_t)at * row + 8 * c;
        signal_wait(&unused[stage], n / STAGES - 1);
#pragma unroll 2
        for (int r = begin; r < KEYS; r += ROWS) {
            const bool is = at + r < count;
            copy_begin(to + 8 * r, is ? from + (int64_t)r * row : head, is);
        }
        if (table && me < KEYS / 4)
            copy_begin(numbers + stage * KEYS + 4 * me, table + at + 4 * me, true);
        copy_group();
        copy_wait<0>();
        wgmma_wrote();
        signal_give(&there[stage]);
    }
}

/* ---- who computes ---- */

/* A warp's 16 rows as left factors of 16 deep, of which the last is half zeros where C is odd. */
template <int C> __device__ inline void load_sixteen(uint32_t q[(C + 1) / 2][4], const bf16 *row_g, const bf16 *row_g8)
{
    uint32_t a[C][2];

    load_left<C>(a, row_g, row_g8);
#pragma unroll
    for (int c = 0; c < (C + 1) / 2 * 2; c++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            q[c / 2][c % 2 * 2 + half] = c < C ? a[c < C ? c : 0][half] : 0u;
}

/* Begins scores = own rows times those of a tile. */
template <int C, int KEYS>
__device__ inline void begin_scores(float score[KEYS / 8][4], const uint32_t own[(C + 1) / 2][4], const bf16 *keys)
{
    const matrix b = matrix_at(keys, 2 * column(KEYS), 128);

#pragma unroll
    for (int k = 0; k < (C + 1) / 2; k++)
        wgmma<KEYS, false>(score, own[k], matrix_moved(b, 4 * column(KEYS) * k), k > 0);
    wgmma_group();
}

/* Begins sum += p times a tile, whose rows are now its inner side; no instruction is wider than 80 here. */
template <int C, int KEYS>
__device__ inline void begin_values(float sum[C][4], const uint32_t p[KEYS / 16][4], const bf16 *values)
{
    constexpr int WIDE = C > 10 ? 10 : C;
    const matrix b = matrix_at(values, 128, 2 * column(KEYS));

#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
        for (int c = 0; c < C; c += WIDE)
            wgmma<8 * WIDE, true>(sum + c, p[j], matrix_moved(b, 256 * j + 2 * column(KEYS) * c), true);
    wgmma_group();
}

template <int KEYS> __device__ inline void as_shares(uint32_t p[KEYS / 16][4], const float score[KEYS / 8][4])
{
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
        as_left(p[j], score[2 * j], score[2 * j + 1]);
    settled<KEYS / 16>(p);
}

/* For a whole warp. */
__device__ inline void give_by_warp(uint64_t *s)
{
    __syncwarp();
    if (threadIdx.x % WARP == 0)
        signal_give(s);
}
#endif
#endif
