#ifndef CUDA_WGMMA_CUH
#define CUDA_WGMMA_CUH
/* A warpgroup's products (wgmma: four warps, 64 rows) and what keeps four warps and others apart, each an instruction of PTX for
 * sm_90a. What plays the device in tests brings the same by another way (standin_mma.h).
 *
 * A product is only begun: its sum and its left factor may not be touched until it is waited for. Sum and left factor lie over
 * each warp's lanes as mma_16's do (cuda_mma.cuh), warp w having rows 16 w on (PTX manual, 9.7.15.5.1.1). The right factor lies in
 * shared memory in pieces of 8 x 8, 128 bytes without a gap, each piece anywhere: 8 rows of the tile, 16 bytes each. Its
 * descriptor has no swizzle (manual, 9.7.15.5.1.2), so it says how many bytes lie between neighbours along the inner side, its
 * leading offset, and along the sum's columns, its stride. That is so whichever side is dense in memory: what the manual,
 * CUTLASS and Triton agree about. */
#include "trainer/nn/cuda/cuda_mma.cuh"

enum { WARPGROUP = 4 * WARP };

#ifndef CUDA_MMA_CUH_PLAYED

/* Only code for sm_90a has these. */
#if defined __CUDA_ARCH_FEAT_SM90_ALL
#define CUDA_HAS_WGMMA 1
#else
#define CUDA_HAS_WGMMA 0
#endif

#if CUDA_HAS_WGMMA
typedef uint64_t matrix; /* a right factor's descriptor */

__device__ inline matrix matrix_at(const bf16 *at, int inner_bytes, int column_bytes)
{
    return (uint64_t)((uint32_t)__cvta_generic_to_shared(at) >> 4 & 0x3fff) | (uint64_t)(inner_bytes >> 4) << 16 |
           (uint64_t)(column_bytes >> 4) << 32;
}

__device__ inline matrix matrix_moved(matrix m, int bytes)
{
    return m + (uint64_t)(bytes >> 4);
}

/* sum = a b, or sum + a b: a is 64 x 16, b 16 x N. Texts are the operands' numbers: of the sum, of a, of b, and the rest. */
#define WGMMA(N, SUM, A, B, ADD, TURN, ...)                                                                                    \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " ADD ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N                       \
                 "k16.f32.bf16.bf16 {" SUM "}, {" A "}, " B ", add, 1, 1, " TURN ";\n}"                                         \
                 : __VA_ARGS__                                                                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add), "n"((int)TURNED))
#define SUM_1(i) "+f"(sum[i][0]), "+f"(sum[i][1]), "+f"(sum[i][2]), "+f"(sum[i][3])
#define SUM_4(i) SUM_1(i), SUM_1(i + 1), SUM_1(i + 2), SUM_1(i + 3)
#define TO_15 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define TO_31 TO_15 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define TO_63                                                                                                                  \
    TO_31 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,"  \
          "%61,%62,%63"

/* TURNED: the right factor is dense along its columns, not along the inner side. */
template <int N, bool TURNED> __device__ inline void wgmma(float sum[N / 8][4], const uint32_t a[4], matrix b, bool add)
{
    if constexpr (N == 32)
        WGMMA(32, TO_15, "%16,%17,%18,%19", "%20", "%21", "%22", SUM_4(0));
    else if constexpr (N == 40)
        WGMMA(40, TO_15 ",%16,%17,%18,%19", "%20,%21,%22,%23", "%24", "%25", "%26", SUM_4(0), SUM_1(4));
    else if constexpr (N == 64)
        WGMMA(64, TO_31, "%32,%33,%34,%35", "%36", "%37", "%38", SUM_4(0), SUM_4(4));
    else if constexpr (N == 80)
        WGMMA(80, TO_31 ",%32,%33,%34,%35,%36,%37,%38,%39", "%40,%41,%42,%43", "%44", "%45", "%46", SUM_4(0), SUM_4(4), SUM_1(8),
              SUM_1(9));
    else if constexpr (N == 128)
        WGMMA(128, TO_63, "%64,%65,%66,%67", "%68", "%69", "%70", SUM_4(0), SUM_4(4), SUM_4(8), SUM_4(12));
    else
        static_assert(N == 0, "no instruction of this width is written down");
}

/* Before the first product, and after registers of one were written otherwise. */
__device__ inline void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* What was begun since the last one is a group. */
__device__ inline void wgmma_group()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until all groups but the last LEFT are done. */
template <int LEFT> __device__ inline void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/* Sums and factors have their numbers here, before a fence or behind a wait: the compiler, to which a product is done at once, would
 * else move what makes or takes them past it. */
template <int TILES> __device__ inline void settled(float sum[TILES][4])
{
#pragma unroll
    for (int j = 0; j < TILES; j++)
        asm volatile("" : SUM_1(j)::"memory");
}

template <int STEPS> __device__ inline void settled(uint32_t a[STEPS][4])
{
#pragma unroll
    for (int j = 0; j < STEPS; j++)
        asm volatile("" : "+r"(a[j][0]), "+r"(a[j][1]), "+r"(a[j][2]), "+r"(a[j][3])::"memory");
}

/* What this thread wrote to shared memory can be a factor, once others know that it is there. */
__device__ inline void wgmma_wrote()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* A warpgroup gives back registers, or takes more: N a thread from now on. */
template <int N> __device__ inline void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> __device__ inline void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
#endif

/* ---- signals in shared memory: given by `count` threads, they pass, and begin anew (mbarrier; manual, 9.7.13.15) ---- */

/* Others may use it behind a barrier of the block. */
__device__ inline void signal_begin(uint64_t *s, int count)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"((uint32_t)__cvta_generic_to_shared(s)), "r"(count) : "memory");
}

__device__ inline void signal_give(uint64_t *s)
{
    asm volatile("{\n.reg .b64 was;\nmbarrier.arrive.shared.b64 was, [%0];\n}" ::"r"((uint32_t)__cvta_generic_to_shared(s)) : "memory");
}

/* Until it has passed for the n-th time, counted from 0; n = -1: at once. Nobody may be two times behind. */
__device__ inline void signal_wait(uint64_t *s, int n)
{
#if CUDA_HAS_WGMMA
    uint32_t passed;

    do
        asm volatile("{\n.reg .pred passed;\nmbarrier.try_wait.parity.shared.b64 passed, [%1], %2;\nselp.u32 %0, 1, 0, passed;\n}"
                     : "=r"(passed)
                     : "r"((uint32_t)__cvta_generic_to_shared(s)), "r"(n & 1)
                     : "memory");
    while (!passed);
#endif
}
#endif
#endif
