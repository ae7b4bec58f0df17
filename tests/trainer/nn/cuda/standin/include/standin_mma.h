#ifndef STANDIN_MMA_H
#define STANDIN_MMA_H
/* What cuda_mma.cuh and cuda_wgmma.cuh take of PTX, played: a warp's product as plain loops over what its lanes brought, matrices as
 * the lanes' rows, copies that arrive when they are waited for, a warpgroup's products that read shared memory and write their sums
 * no sooner than that. Where the pieces lie is written down here a second time, from the manual and not from the kernels. */
#include "tests/trainer/nn/cuda/standin/standin.h"

extern "C" {
#include "cluster/base/dtype.h"
}

#define CUDA_MMA_CUH_PLAYED

/* Words of the lanes' left and right factors, of two bf16 each. */
struct standin_pieces {
    uint32_t a[4], b[2];
};

static inline float standin_half(uint32_t word, unsigned which)
{
    return f32_of_bf16((uint16_t)(word >> 16 * which));
}

/* Element (row, k) of the left factor: its words are upper left, lower left, upper right, lower right. */
static inline float standin_left(const standin_pieces *lanes, unsigned row, unsigned k)
{
    return standin_half(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + 2 * (k / 8)], k % 2);
}

/* Element (k, col) of the right factor: its words are upper and lower. */
static inline float standin_right(const standin_pieces *lanes, unsigned k, unsigned col)
{
    return standin_half(lanes[col * 4 + k % 8 / 2].b[k / 8], k % 2);
}

static inline void standin_product(float sum[4], const standin_pieces &mine, unsigned depth)
{
    const auto *lanes = (const standin_pieces *)standin_gather(&mine, sizeof mine);
    const unsigned lane = threadIdx.x % STANDIN_WARP;

    for (unsigned e = 0; e < 4; e++) {
        float all = 0.0f;
        for (unsigned k = 0; k < depth; k++)
            all += standin_left(lanes, lane / 4 + e / 2 * 8, k) * standin_right(lanes, k, lane % 4 * 2 + e % 2);
        sum[e] += all;
    }
}

static inline void mma_16(float sum[4], const uint32_t a[4], const uint32_t b[2])
{
    standin_product(sum, standin_pieces{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, 16);
}

static inline void mma_8(float sum[4], const uint32_t a[2], uint32_t b)
{
    standin_product(sum, standin_pieces{{a[0], a[1], 0, 0}, {b, 0}}, 8);
}

struct standin_row {
    uint16_t at[8];
};

template <int N, bool TURNED> static inline void load_matrices(uint32_t *to, const uint16_t *row)
{
    const unsigned lane = threadIdx.x % STANDIN_WARP, g = lane / 4, t = lane % 4;
    standin_row mine = {};

    if (lane < 8 * N)
        memcpy(&mine, standin_at(row, sizeof mine), sizeof mine);
    const auto *lanes = (const standin_row *)standin_gather(&mine, sizeof mine);
    for (unsigned m = 0; m < N; m++) {
        const standin_row *rows = lanes + 8 * m;
        const uint16_t first = TURNED ? rows[2 * t].at[g] : rows[g].at[2 * t];
        const uint16_t second = TURNED ? rows[2 * t + 1].at[g] : rows[g].at[2 * t + 1];
        to[m] = first | (uint32_t)second << 16;
    }
}

static inline void copy_begin(void *shared, const void *from, bool there)
{
    standin_copy_begin(standin_at(shared, 16), there ? standin_at(from, 16) : NULL, 16);
}

static inline void copy_group()
{
    standin_copy_group();
}

template <int LEFT> static inline void copy_wait()
{
    standin_copy_wait(LEFT);
}

static inline float exp2_near(float x)
{
    return exp2f(x);
}

static inline uint32_t bf16_pair(float first, float second)
{
    return bf16_of_f32(first) | (uint32_t)bf16_of_f32(second) << 16;
}

/* ---- cuda_wgmma.cuh ---- */

#define CUDA_HAS_WGMMA 1

/* A right factor: where its first piece of 8 x 8 lies, and how far the next along the inner side and along the columns. */
struct matrix {
    const unsigned char *at;
    int inner, column;
};

static inline matrix matrix_at(const uint16_t *at, int inner_bytes, int column_bytes)
{
    return matrix{(const unsigned char *)standin_at(at, 16), inner_bytes, column_bytes};
}

static inline matrix matrix_moved(matrix m, int bytes)
{
    return matrix{m.at + bytes, m.inner, m.column};
}

static inline float standin_element(const matrix &b, bool turned, int k, int n)
{
    const int row = turned ? k : n, within = turned ? n : k; /* of a piece */
    uint16_t half;

    memcpy(&half, b.at + k / 8 * b.inner + n / 8 * b.column + row % 8 * 16 + within % 8 * 2, sizeof half);
    return f32_of_bf16(half);
}

/* A lane's rows g and g + 8 of the left factor, from the four lanes that have pieces of them. */
struct standin_rows {
    float at[2][16];
};

static inline standin_rows standin_rows_of(const uint32_t a[4])
{
    standin_pieces mine = {{a[0], a[1], a[2], a[3]}, {0, 0}};
    const auto *lanes = (const standin_pieces *)standin_gather(&mine, sizeof mine);
    const unsigned lane = threadIdx.x % STANDIN_WARP;
    standin_rows r;

    for (unsigned half = 0; half < 2; half++)
        for (unsigned k = 0; k < 16; k++)
            r.at[half][k] = standin_left(lanes, lane / 4 + 8 * half, k);
    return r;
}

template <int N, bool TURNED> static inline void wgmma(float sum[N / 8][4], const uint32_t a[4], matrix b, bool add)
{
    const standin_rows left = standin_rows_of(a);
    const int t = (int)threadIdx.x % 4;

    standin_later([=] {
        for (int e = 0; e < N / 2; e++) {
            float all = 0.0f;
            for (int k = 0; k < 16; k++)
                all += left.at[e % 4 / 2][k] * standin_element(b, TURNED, k, e / 4 * 8 + 2 * t + e % 2);
            sum[e / 4][e % 4] = add ? sum[e / 4][e % 4] + all : all;
        }
    });
}

static inline void wgmma_fence()
{
}

static inline void wgmma_group()
{
    standin_later_group();
}

/* A warp waits as a whole. */
template <int LEFT> static inline void wgmma_wait()
{
    char nothing = 0;

    standin_later_wait(LEFT);
    standin_exchange(&nothing, 1, 0);
}

template <int TILES, typename T> static inline void settled(T (*)[4])
{
}

static inline void wgmma_wrote()
{
}

template <int N> static inline void registers_give()
{
}

template <int N> static inline void registers_take()
{
}

static inline void signal_begin(uint64_t *s, int count)
{
    standin_signal_begin(s, (unsigned)count);
}

static inline void signal_give(uint64_t *s)
{
    standin_signal_give(s);
}

static inline void signal_wait(uint64_t *s, int n)
{
    standin_signal_wait(s, (unsigned)n & 1);
}
#endif
