#ifndef STANDIN_CUDA_RUNTIME_H
#define STANDIN_CUDA_RUNTIME_H
/* CUDA's language as far as our kernels speak it, for a C++ compiler: put before every .cu file. */
#include <math.h>
#include <string.h>

#include <algorithm>

#include "tests/trainer/nn/cuda/standin/standin.h"

#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __restrict__ __restrict
#define __grid_constant__
#define __launch_bounds__(...)
#define LAUNCH(kernel, grid, block, stream, ...)                                                                       \
    standin_launch(grid, block, stream, [=] { kernel(__VA_ARGS__); })

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};

static inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}

static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return uint2{x, y};
}

using std::max;
using std::min;

static inline void __syncthreads()
{
    standin_block_barrier();
}

template <typename T> static inline T __shfl_sync(unsigned, T x, unsigned from)
{
    standin_exchange(&x, sizeof x, from);
    return x;
}

template <typename T> static inline T __shfl_xor_sync(unsigned, T x, unsigned by)
{
    standin_exchange(&x, sizeof x, (threadIdx.x + threadIdx.y * blockDim.x) % STANDIN_WARP ^ by);
    return x;
}

static inline void __syncwarp()
{
    char nothing = 0;

    standin_exchange(&nothing, 1, 0);
}

static inline float __uint_as_float(unsigned bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}

#include "tests/trainer/nn/cuda/standin/include/standin_mma.h"
#endif
