/* Matrix products and convolutions by plain tiles: one row of kernels that takes everything, for what cuBLASLt and
 * cuDNN decline. All are one product C [m, n] = A [m, k] B [k, n]; they differ in how an element of A or B is found, so
 * a convolution is made without its matrix of patches. A block makes 16 x 16 results, a thread one; the factors' tiles
 * go through shared memory. Sums of 16 terms in f32, these in double (a gradient of kernels has a hundred thousand
 * terms). Cost: 2 m n k operations, far from the fastest way to do them. */
#include "trainer/nn/cuda/cuda_device.cuh"

enum { TILE = 16 };

/* F has a(i, k), b(k, j), which are asked only inside the matrices, and m, n, k. Blocks: rows of tiles in x (there may
 * be many), columns in y, z for batches. */
template <class F> __global__ void product(F f, float *out, const float *bias)
{
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE + 1];
    const int row = threadIdx.y, col = threadIdx.x;
    const int64_t i = (int64_t)blockIdx.x * TILE + row, j = (int64_t)blockIdx.y * TILE + col;
    double sum = 0.0;

    f.choose(blockIdx.z);
    for (int64_t from = 0; from < f.k; from += TILE) {
        a[row][col] = i < f.m && from + col < f.k ? f.a(i, from + col) : 0.0f;
        b[row][col] = from + row < f.k && j < f.n ? f.b(from + row, j) : 0.0f;
        __syncthreads();
        float part = 0.0f;
        for (int t = 0; t < TILE; t++)
            part += a[row][t] * b[t][col];
        sum += (double)part;
        __syncthreads();
    }
    if (i < f.m && j < f.n)
        out[((int64_t)blockIdx.z * f.m + i) * f.n + j] = (float)(sum + (bias ? (double)bias[j] : 0.0));
}

template <class F> static cudaError_t launch(cudaStream_t s, F f, int64_t batch, float *out, const float *bias)
{
    dim3 grid((unsigned)((f.m + TILE - 1) / TILE), (unsigned)((f.n + TILE - 1) / TILE), (unsigned)batch);

    LAUNCH(product, grid, dim3(TILE, TILE), s, f, out, bias);
    return cudaGetLastError();
}

/* ---- matmul ---- */

struct matrices {
    cuda_mat s;
    const float *left, *right;
    int64_t m, n, k;

    __device__ void choose(int64_t batch)
    {
        left += batch * s.m * s.k;
        right += batch * s.k * s.n;
    }
    __device__ float a(int64_t i, int64_t t) const { return left[i * s.a_row + t * s.a_col]; }
    __device__ float b(int64_t t, int64_t j) const { return right[t * s.b_row + j * s.b_col]; }
};

cudaError_t k_matmul(cudaStream_t s, cuda_mat at, float *out, const float *a, const float *b, const float *bias)
{
    return launch(s, matrices{at, a, b, at.m, at.n, at.k}, at.batch, out, bias);
}

/* ---- conv2d: y [pixels, o] = patches [pixels, (r, q, c)] w' ---- */

/* A place of a kernel: its row, column and channel. */
struct tap { int r, q, c; };

__device__ inline tap tap_of(const cuda_conv_at &s, int64_t k, int channels)
{
    int c = (int)(k % channels), at = (int)(k / channels);

    return tap{at / s.kw, at % s.kw, c};
}

/* A pixel of a map [n, h, w]. */
struct pixel { int n, i, j; };

__device__ inline pixel pixel_of(int64_t at, int h, int w)
{
    int j = (int)(at % w);

    return pixel{(int)(at / w / h), (int)(at / w % h), j};
}

/* What output pixel p reads of x through tap t: zero outside the map. */
__device__ inline float read_x(const cuda_conv_at &s, const float *x, pixel p, tap t)
{
    int i = p.i * s.stride + t.r - s.top, j = p.j * s.stride + t.q - s.left;

    if (i < 0 || i >= s.h || j < 0 || j >= s.w)
        return 0.0f;
    return x[(((int64_t)p.n * s.h + i) * s.w + j) * s.c + t.c];
}

struct forward {
    cuda_conv_at s;
    const float *x, *w;
    int64_t m, n, k;

    __device__ void choose(int) {}
    __device__ float a(int64_t i, int64_t t) const
    {
        return read_x(s, x, pixel_of(i, s.oh, s.ow), tap_of(s, t, s.c));
    }
    __device__ float b(int64_t t, int64_t j) const { return w[j * k + t]; }
};

cudaError_t k_conv2d(cudaStream_t s, cuda_conv_at at, float *y, const float *x, const float *w, const float *bias)
{
    int64_t pixels = (int64_t)at.n * at.oh * at.ow, taps = (int64_t)at.kh * at.kw * at.c;

    return launch(s, forward{at, x, w, pixels, at.o, taps}, 1, y, bias);
}

/* ---- gradient for x: dx [pixels of x, c] = (dy that read this pixel) [.., (r, q, o)] w [(r, q, o), c] ---- */

/* The output place along one axis that reads x place `at` through tap t, or -1. */
__device__ inline int reader(int at, int t, int before, int stride, int out)
{
    int far = at + before - t;

    return far < 0 || far % stride != 0 || far / stride >= out ? -1 : far / stride;
}

struct backward_x {
    cuda_conv_at s;
    const float *dy, *w;
    int64_t m, n, k;

    __device__ void choose(int) {}
    __device__ float a(int64_t at, int64_t t) const
    {
        pixel p = pixel_of(at, s.h, s.w);
        tap u = tap_of(s, t, s.o);
        int i = reader(p.i, u.r, s.top, s.stride, s.oh), j = reader(p.j, u.q, s.left, s.stride, s.ow);
        return i < 0 || j < 0 ? 0.0f : dy[(((int64_t)p.n * s.oh + i) * s.ow + j) * s.o + u.c];
    }
    __device__ float b(int64_t t, int64_t c) const
    {
        tap u = tap_of(s, t, s.o);
        return w[(((int64_t)u.c * s.kh + u.r) * s.kw + u.q) * s.c + c];
    }
};

cudaError_t k_conv2d_grad_x(cudaStream_t s, cuda_conv_at at, float *dx, const float *dy, const float *w)
{
    int64_t pixels = (int64_t)at.n * at.h * at.w, taps = (int64_t)at.kh * at.kw * at.o;

    return launch(s, backward_x{at, dy, w, pixels, at.c, taps}, 1, dx, (const float *)NULL);
}

/* ---- gradient for w: dw [o, (r, q, c)] = dy' [o, pixels] patches [pixels, (r, q, c)] ---- */

struct backward_w {
    cuda_conv_at s;
    const float *x, *dy;
    int64_t m, n, k;

    __device__ void choose(int) {}
    __device__ float a(int64_t o, int64_t p) const { return dy[p * s.o + o]; }
    __device__ float b(int64_t p, int64_t t) const
    {
        return read_x(s, x, pixel_of(p, s.oh, s.ow), tap_of(s, t, s.c));
    }
};

cudaError_t k_conv2d_grad_w(cudaStream_t s, cuda_conv_at at, float *dw, const float *x, const float *dy)
{
    int64_t pixels = (int64_t)at.n * at.oh * at.ow, taps = (int64_t)at.kh * at.kw * at.c;

    return launch(s, backward_w{at, x, dy, at.o, taps, pixels}, 1, dw, (const float *)NULL);
}
