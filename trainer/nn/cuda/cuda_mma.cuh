#ifndef CUDA_MMA_CUH
#define CUDA_MMA_CUH
/* A warp's products on tensor cores and what feeds them, each one instruction of PTX (sm_80 on). What plays the device in
 * tests brings the same by another way (tests/trainer/nn/cuda/standin/include/standin_mma.h) and defines CUDA_MMA_CUH_PLAYED.
 *
 * Pieces of matrices lie over the lanes as the PTX manual has it (9.7.14): with g = lane / 4 and t = lane % 4 a lane holds
 *   of a sum, 16 x 8 in f32:      rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
 *   of a left factor, 16 x 8:     two words of two bf16: row g and row g + 8, columns 2t and 2t + 1
 *   of a right factor, 8 x 8:     one word: rows 2t and 2t + 1 of column g */
#include "trainer/nn/cuda/cuda_device.cuh"

typedef uint16_t bf16;

#ifndef CUDA_MMA_CUH_PLAYED

/* sum += a b, where a is 16 x 16 (its left half first) and b is 16 x 8 (its upper half first). */
__device__ inline void mma_16(float sum[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same of 16 x 8 and 8 x 8. */
__device__ inline void mma_8(float sum[4], const uint32_t a[2], uint32_t b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* N matrices of 8 x 8 bf16 from shared memory, N being 1, 2 or 4: lane l brings the place of row l % 8 of matrix l / 8, 16
 * bytes. A lane gets row g, columns 2t and 2t + 1 of each; TURNED: rows 2t and 2t + 1 of column g. */
template <int N, bool TURNED> __device__ inline void load_matrices(uint32_t *to, const bf16 *row)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);

    if constexpr (N == 4 && TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at));
    else if constexpr (N == 4)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at));
    else if constexpr (N == 2 && TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(at));
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(at));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(at));
}

/* Begins to copy 16 bytes to shared memory, or zeros where they are not `there`. Both places are multiples of 16. */
__device__ inline void copy_begin(void *shared, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

/* What this thread began since the last one is a group. */
__device__ inline void copy_group()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until all of this thread's groups but the last LEFT lie there; others see them behind a barrier. */
template <int LEFT> __device__ inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/* 2^x to some 22 bits. */
__device__ inline float exp2_near(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two numbers as bf16 in one word, rounded to nearest, ties to even; `first` is what lies first in memory. */
__device__ inline uint32_t bf16_pair(float first, float second)
{
    uint32_t both;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
#endif

/* ---- of these: factors whose inner side is C pieces of 8 wide, the last alone where C is odd ---- */

/* The left factor's 16 rows, `words` of row g and of row g + 8; NULL: zeros. */
template <int C> __device__ inline void load_left(uint32_t a[C][2], const bf16 *row_g, const bf16 *row_g8)
{
    const int t = threadIdx.x % 4;

#pragma unroll
    for (int c = 0; c < C; c++) {
        a[c][0] = row_g ? *(const uint32_t *)(row_g + 8 * c + 2 * t) : 0u;
        a[c][1] = row_g8 ? *(const uint32_t *)(row_g8 + 8 * c + 2 * t) : 0u;
    }
}

/* The right factor whose columns are 8 rows in shared memory, from `rows` on, `apart` elements from one to the next. */
template <int C> __device__ inline void load_right(uint32_t b[C], const bf16 *rows, int apart)
{
    const int lane = threadIdx.x % WARP;
    const bf16 *mine = rows + lane % 8 * apart;
    int c = 0;

#pragma unroll
    for (; c + 4 <= C; c += 4)
        load_matrices<4, false>(b + c, mine + (c + lane / 8) * 8);
    if constexpr (C % 4 >= 2)
        load_matrices<2, false>(b + C / 4 * 4, mine + (C / 4 * 4 + lane / 8 % 2) * 8);
    if constexpr (C % 2)
        load_matrices<1, false>(b + C - 1, mine + (C - 1) * 8);
}

/* sum += a b */
template <int C> __device__ inline void add_inner(float sum[4], const uint32_t a[C][2], const uint32_t b[C])
{
#pragma unroll
    for (int c = 0; c + 1 < C; c += 2)
        mma_16(sum, a[c], b + c);
    if constexpr (C % 2)
        mma_8(sum, a[C - 1], b[C - 1]);
}

/* sum[m] += a[m] b for M left factors of 16 columns; b's 16 rows lie in shared memory and are C pieces wide. */
template <int M, int C> __device__ inline void add_outer(float sum[M][C][4], const uint32_t a[M][4], const bf16 *rows, int apart)
{
    const int lane = threadIdx.x % WARP;
    const bf16 *mine = rows + lane % 16 * apart;

#pragma unroll
    for (int c = 0; c + 1 < C; c += 2) {
        uint32_t b[4];
        load_matrices<4, true>(b, mine + (c + lane / 16) * 8);
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma_16(sum[m][c], a[m], b);
            mma_16(sum[m][c + 1], a[m], b + 2);
        }
    }
    if constexpr (C % 2) {
        uint32_t b[2];
        load_matrices<2, true>(b, mine + (C - 1) * 8);
#pragma unroll
        for (int m = 0; m < M; m++)
            mma_16(sum[m][C - 1], a[m], b);
    }
}

/* Two sums that lie side by side, 16 x 16 in all, as a left factor. */
__device__ inline void as_left(uint32_t a[4], const float left[4], const float right[4])
{
    a[0] = bf16_pair(left[0], left[1]);
    a[1] = bf16_pair(left[2], left[3]);
    a[2] = bf16_pair(right[0], right[1]);
    a[3] = bf16_pair(right[2], right[3]);
}

/* Over the four lanes that share their rows. */
__device__ inline float row_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ inline float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
#endif
