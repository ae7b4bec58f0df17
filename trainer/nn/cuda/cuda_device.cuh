#ifndef CUDA_DEVICE_CUH
#define CUDA_DEVICE_CUH
/* What the kernels share: the size of a block, how an element finds its thread, sums over a block in a fixed order. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "trainer/nn/cuda/cuda_kernels.h"

/* 256 threads: eight warps hide latency on every GPU from sm_80 on, and eight such blocks fill a multiprocessor. */
enum { BLOCK = 256, WARP = 32 };

/* Every launch is written with it, so that a C++ compiler without CUDA can take the kernels as well: what plays the device
 * there (tests/trainer/nn/cuda/standin) brings a LAUNCH of its own. */
#ifndef LAUNCH
#define LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

/* Blocks for one thread per element; at least one, as an empty grid is an error. 2^31 - 1 blocks are allowed. */
static inline unsigned blocks_for(int64_t n)
{
    return n < 1 ? 1u : (unsigned)((n + BLOCK - 1) / BLOCK);
}

__device__ inline int64_t thread_at()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* V numbers, moved as one: their place is a multiple of their size. */
template <int V, typename T = float> struct alignas(V * sizeof(T)) several { T at[V]; };

static inline bool in_fours(const void *place, int64_t bytes = 16)
{
    return (uintptr_t)place % (uintptr_t)bytes == 0;
}

/* f32 to another type: to nearest, ties to even. */
template <typename T> __device__ inline T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half_rn(x); }

/* V neighbours, in f32. */
template <int V, typename T> __device__ inline several<V> load_several(const T *x)
{
    const several<V, T> raw = *(const several<V, T> *)x;
    several<V> wide;

#pragma unroll
    for (int k = 0; k < V; k++)
        wide.at[k] = (float)raw.at[k];
    return wide;
}

/* A number of a source whose type is not known when this is compiled, and to such a result. */
__device__ inline float load_either(const void *x, bool half, int64_t i)
{
    return half ? (float)((const __nv_bfloat16 *)x)[i] : ((const float *)x)[i];
}

__device__ inline void store_either(void *out, bool half, int64_t i, float v)
{
    if (half)
        ((__nv_bfloat16 *)out)[i] = narrow<__nv_bfloat16>(v);
    else
        ((float *)out)[i] = v;
}

template <int V> __device__ inline void store_several(void *out, bool half, int64_t i, const several<V> &v)
{
    several<V, __nv_bfloat16> rounded;

    if (!half) {
        *(several<V> *)((float *)out + i) = v;
        return;
    }
#pragma unroll
    for (int k = 0; k < V; k++)
        rounded.at[k] = narrow<__nv_bfloat16>(v.at[k]);
    *(several<V, __nv_bfloat16> *)((__nv_bfloat16 *)out + i) = rounded;
}

/* a = whole * by + rest, none of them negative. A division of 64 bits is a hundred instructions, more than an element's bytes
 * take; nearly all numbers have 32. */
struct parted { int64_t whole, rest; };

__device__ inline parted part(int64_t a, int64_t by)
{
    const bool small = ((uint64_t)a | (uint64_t)by) >> 32 == 0;
    const int64_t whole = small ? (int64_t)((uint32_t)a / (uint32_t)by) : a / by;

    return parted{whole, a - whole * by};
}

/* A kernel takes its walks as const __grid_constant__: without it each thread would copy them to memory of its own, since where
 * they are read is not known when it is compiled. */
__device__ inline int64_t walk_at(const cuda_walk &w, int64_t i)
{
    int64_t at = 0;

    for (int k = w.n - 1; k > 0; k--) {
        const parted p = part(i, w.d[k]);
        at += p.rest * w.step[k];
        i = p.whole;
    }
    return w.n > 0 ? at + i * w.step[0] : 0;
}

/* The sum of all BLOCK threads' x, for every thread: by halves, so its order is fixed. All threads must call. One warp adds
 * up, which needs no barrier between two halves. */
template <typename T> __device__ T block_sum(T x)
{
    __shared__ T part[BLOCK];

    __syncthreads(); /* a sum before this one may still be read */
    part[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x < WARP) {
        T mine[BLOCK / WARP];
        for (int i = 0; i < BLOCK / WARP; i++)
            mine[i] = part[threadIdx.x + WARP * i];
        for (int k = BLOCK / WARP / 2; k > 0; k /= 2)
            for (int i = 0; i < k; i++)
                mine[i] += mine[i + k];
        for (int k = WARP / 2; k > 0; k /= 2)
            mine[0] += __shfl_xor_sync(0xffffffffu, mine[0], k);
        if (threadIdx.x == 0)
            part[0] = mine[0];
    }
    __syncthreads();
    return part[0];
}

/* The same over a warp's lanes. */
template <typename T> __device__ inline T warp_sum(T x)
{
    for (int k = WARP / 2; k > 0; k /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, k);
    return x;
}

__device__ inline float warp_max(float x)
{
    for (int k = WARP / 2; k > 0; k /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, k));
    return x;
}
#endif
