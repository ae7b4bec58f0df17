/* Each element by itself: one thread an element, or four neighbours where most bytes go, since 4 bytes a thread do not fill
 * the way to memory; neighbours in memory are neighbours in a warp. Cost: the bytes read and written. No pointer is
 * __restrict__: a result may lie over a dying source. */
#include "trainer/nn/cuda/cuda_mma.cuh"

/* ---- a OP b, b repeated ---- */

template <cuda_binary OP>
__global__ void binary(float *out, const float *a, const float *b, const __grid_constant__ cuda_walk at, int64_t n)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    float p = a[i], q = b[walk_at(at, i)];
    out[i] = OP == CUDA_ADD ? p + q : OP == CUDA_SUB ? p - q : p * q;
}

/* The same where b is as long as a, four neighbours a thread. */
template <cuda_binary OP> __global__ void binary_4(float *out, const float *a, const float *b, int64_t fours)
{
    const int64_t i = thread_at();

    if (i >= fours)
        return;
    const several<4> p = ((const several<4> *)a)[i], q = ((const several<4> *)b)[i];
    several<4> y;
#pragma unroll
    for (int k = 0; k < 4; k++)
        y.at[k] = OP == CUDA_ADD ? p.at[k] + q.at[k] : OP == CUDA_SUB ? p.at[k] - q.at[k] : p.at[k] * q.at[k];
    ((several<4> *)out)[i] = y;
}

template <cuda_binary OP>
static void launch_binary(cudaStream_t s, float *out, const float *a, const float *b, const cuda_walk &at, int64_t n)
{
    const bool alike = at.n == 1 && at.step[0] == 1;

    if (alike && n % 4 == 0 && in_fours(out) && in_fours(a) && in_fours(b))
        LAUNCH(binary_4<OP>, blocks_for(n / 4), BLOCK, s, out, a, b, n / 4);
    else
        LAUNCH(binary<OP>, blocks_for(n), BLOCK, s, out, a, b, at, n);
}

cudaError_t k_binary(cudaStream_t s, cuda_binary op, float *out, const float *a, const float *b, cuda_walk at,
                     int64_t n)
{
    switch (op) {
    case CUDA_ADD: launch_binary<CUDA_ADD>(s, out, a, b, at, n); break;
    case CUDA_SUB: launch_binary<CUDA_SUB>(s, out, a, b, at, n); break;
    case CUDA_MUL: launch_binary<CUDA_MUL>(s, out, a, b, at, n); break;
    }
    return cudaGetLastError();
}

__global__ void add_two(float *out, const float *a, const float *b, int64_t width, const float *c,
                        const __grid_constant__ cuda_walk at, int64_t n)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    float x = b ? a[i] + b[part(i, width).rest] : a[i];
    out[i] = x + c[walk_at(at, i)];
}

cudaError_t k_add_two(cudaStream_t s, float *out, const float *a, const float *b, int64_t width, const float *c, cuda_walk at,
                      int64_t n)
{
    LAUNCH(add_two, blocks_for(n), BLOCK, s, out, a, b, width, c, at, n);
    return cudaGetLastError();
}

/* ---- a convolution's result in bf16, and what is added to it: four elements a thread where rows are of fours ---- */

/* The lowest 16 bits, as f32. */
__device__ inline float bf16_value(uint64_t bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

__global__ void widen_and_add(float *out, const uint16_t *a, const float *b, int64_t width, const float *c,
                              const __grid_constant__ cuda_walk at, int64_t n)
{
    int64_t i = thread_at();

    if (i >= n)
        return;
    float x = bf16_value(a[i]) + (b ? b[part(i, width).rest] : 0.0f);
    out[i] = c ? x + c[walk_at(at, i)] : x;
}

/* c, where there is one, lies as out does. */
__global__ void widen_and_add_4(float *out, const uint16_t *a, const float *b, int64_t width, const float *c, int64_t n)
{
    const int64_t i = thread_at() * 4;

    if (i >= n)
        return;
    const uint64_t bits = *(const uint64_t *)(a + i);
    const float4 by = b ? *(const float4 *)(b + part(i, width).rest) : float4{}, more = c ? *(const float4 *)(c + i) : float4{};
    float4 x = {bf16_value(bits), bf16_value(bits >> 16), bf16_value(bits >> 32), bf16_value(bits >> 48)};
    x = float4{x.x + by.x, x.y + by.y, x.z + by.z, x.w + by.w};
    *(float4 *)(out + i) = c ? float4{x.x + more.x, x.y + more.y, x.z + more.z, x.w + more.w} : x;
}

cudaError_t k_widen(cudaStream_t s, float *out, const uint16_t *a, const float *b, int64_t width, const float *c, cuda_walk at,
                    int64_t n)
{
    const bool like = !c || (at.n == 1 && at.step[0] == 1);

    if (like && width % 4 == 0 && in_fours(out, 16) && in_fours(a, 8) && in_fours(b, 16) && in_fours(c, 16))
        LAUNCH(widen_and_add_4, blocks_for(n / 4), BLOCK, s, out, a, b, width, c, n);
    else
        LAUNCH(widen_and_add, blocks_for(n), BLOCK, s, out, a, b, width, c, at, n);
    return cudaGetLastError();
}

__global__ void scale(float *out, const float *x, float by, int64_t n)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = x[i] * by;
}

cudaError_t k_scale(cudaStream_t s, float *out, const float *x, float by, int64_t n)
{
    LAUNCH(scale, blocks_for(n), BLOCK, s, out, x, by, n);
    return cudaGetLastError();
}

/* ---- activations: value and slope; relu makes 0 of a NaN, as the reference does ---- */

__device__ inline float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

__device__ inline float normal_cdf(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678f));
}

__device__ inline float gelu(float x)
{
    return x * normal_cdf(x);
}

__device__ inline float gelu_slope(float x)
{
    return normal_cdf(x) + x * expf(-0.5f * x * x) * 0.39894228f; /* 1 / sqrt(2 pi) */
}

template <cuda_act F> __device__ inline float value(float x)
{
    if (F == CUDA_SILU)
        return x * sigmoid(x);
    if (F == CUDA_GELU)
        return gelu(x);
    if (F == CUDA_QUICK_GELU)
        return x * sigmoid(1.702f * x);
    return x > 0.0f ? x : 0.0f;
}

template <cuda_act F> __device__ inline float slope(float x)
{
    if (F == CUDA_GELU)
        return gelu_slope(x);
    if (F == CUDA_RELU)
        return x > 0.0f ? 1.0f : 0.0f;
    const float by = F == CUDA_SILU ? 1.0f : 1.702f;
    float g = sigmoid(by * x);
    return g + by * x * g * (1.0f - g);
}

/* x, and what is yet to be added. */
__device__ inline float load_act(const cuda_source &x, int64_t i, int64_t width)
{
    const float v = load_either(x.at, x.half, i);

    return x.bias ? v + x.bias[part(i, width).rest] : v;
}

template <cuda_act F> __global__ void act(void *out, bool half, const __grid_constant__ cuda_source x, int64_t n, int64_t width)
{
    int64_t i = thread_at();

    if (i < n)
        store_either(out, half, i, value<F>(load_act(x, i, width)));
}

template <cuda_act F>
__global__ void act_grad(void *out, bool half, const __grid_constant__ cuda_source x, const __grid_constant__ cuda_source dy, int64_t n, int64_t width)
{
    int64_t i = thread_at();

    if (i < n)
        store_either(out, half, i, load_either(dy.at, dy.half, i) * slope<F>(load_act(x, i, width)));
}

cudaError_t k_act(cudaStream_t s, cuda_act f, void *out, bool half, cuda_source x, int64_t n, int64_t width)
{
    switch (f) {
    case CUDA_SILU: LAUNCH(act<CUDA_SILU>, blocks_for(n), BLOCK, s, out, half, x, n, width); break;
    case CUDA_GELU: LAUNCH(act<CUDA_GELU>, blocks_for(n), BLOCK, s, out, half, x, n, width); break;
    case CUDA_QUICK_GELU: LAUNCH(act<CUDA_QUICK_GELU>, blocks_for(n), BLOCK, s, out, half, x, n, width); break;
    case CUDA_RELU: LAUNCH(act<CUDA_RELU>, blocks_for(n), BLOCK, s, out, half, x, n, width); break;
    }
    return cudaGetLastError();
}

cudaError_t k_act_grad(cudaStream_t s, cuda_act f, void *out, bool half, cuda_source x, cuda_source dy, int64_t n, int64_t width)
{
    switch (f) {
    case CUDA_SILU: LAUNCH(act_grad<CUDA_SILU>, blocks_for(n), BLOCK, s, out, half, x, dy, n, width); break;
    case CUDA_GELU: LAUNCH(act_grad<CUDA_GELU>, blocks_for(n), BLOCK, s, out, half, x, dy, n, width); break;
    case CUDA_QUICK_GELU: LAUNCH(act_grad<CUDA_QUICK_GELU>, blocks_for(n), BLOCK, s, out, half, x, dy, n, width); break;
    case CUDA_RELU: LAUNCH(act_grad<CUDA_RELU>, blocks_for(n), BLOCK, s, out, half, x, dy, n, width); break;
    }
    return cudaGetLastError();
}

/* ---- geglu, of and to f32 or bf16: a thread has V neighbours of the narrow side; it reads both halves before it writes. bias [2 width]:
 * yet to be added to x, or NULL ---- */

/* Both halves of x. */
template <int V> struct gated { several<V> a, b; };

template <int V, typename X> __device__ inline gated<V> load_gated(const X *x, const float *bias, int64_t at, int64_t from, int64_t width)
{
    gated<V> v = {load_several<V>(x + at), load_several<V>(x + at + width)};

    if (!bias)
        return v;
    const several<V> p = *(const several<V> *)(bias + from), q = *(const several<V> *)(bias + from + width);
#pragma unroll
    for (int k = 0; k < V; k++) {
        v.a.at[k] += p.at[k];
        v.b.at[k] += q.at[k];
    }
    return v;
}

template <int V, typename T, typename X> __global__ void geglu(T *out, const X *x, const float *bias, int64_t n, int64_t width)
{
    const int64_t i = thread_at() * V;

    if (i >= n)
        return;
    const parted p = part(i, width);
    const gated<V> v = load_gated<V>(x, bias, p.whole * 2 * width + p.rest, p.rest, width);
    several<V, T> y;
#pragma unroll
    for (int k = 0; k < V; k++)
        y.at[k] = narrow<T>(v.a.at[k] * gelu(v.b.at[k]));
    *(several<V, T> *)(out + i) = y;
}

/* da = dy gelu(b), db = dy a gelu'(b); out may be x where both have one type. */
template <int V, typename T, typename X, typename DY>
__global__ void geglu_grad(T *out, const X *x, const float *bias, const DY *dy, int64_t n, int64_t width)
{
    const int64_t i = thread_at() * V;

    if (i >= n)
        return;
    const parted p = part(i, width);
    const int64_t at = p.whole * 2 * width + p.rest;
    const gated<V> v = load_gated<V>(x, bias, at, p.rest, width);
    const several<V> d = load_several<V>(dy + i);
    several<V, T> da, db;
#pragma unroll
    for (int k = 0; k < V; k++) {
        da.at[k] = narrow<T>(d.at[k] * gelu(v.b.at[k]));
        db.at[k] = narrow<T>(d.at[k] * v.a.at[k] * gelu_slope(v.b.at[k]));
    }
    *(several<V, T> *)(out + at) = da;
    *(several<V, T> *)(out + at + width) = db;
}

template <typename T, typename X> static void geglu_of(cudaStream_t s, T *out, const cuda_source &from, int64_t n, int64_t width)
{
    const X *x = (const X *)from.at;

    if (width % 4 == 0 && in_fours(out) && in_fours(x) && in_fours(from.bias))
        LAUNCH(geglu<4>, blocks_for(n / 4), BLOCK, s, out, x, from.bias, n, width);
    else
        LAUNCH(geglu<1>, blocks_for(n), BLOCK, s, out, x, from.bias, n, width);
}

template <typename T> static void geglu_to(cudaStream_t s, T *out, const cuda_source &x, int64_t n, int64_t width)
{
    if (x.half)
        geglu_of<T, __nv_bfloat16>(s, out, x, n, width);
    else
        geglu_of<T, float>(s, out, x, n, width);
}

cudaError_t k_geglu(cudaStream_t s, void *out, bool half, cuda_source x, int64_t rows, int64_t width)
{
    if (half)
        geglu_to(s, (__nv_bfloat16 *)out, x, rows * width, width);
    else
        geglu_to(s, (float *)out, x, rows * width, width);
    return cudaGetLastError();
}

template <typename T, typename X, typename DY>
static void geglu_grad_by(cudaStream_t s, T *out, const cuda_source &from, const DY *dy, int64_t n, int64_t width)
{
    const X *x = (const X *)from.at;

    if (width % 4 == 0 && in_fours(out) && in_fours(x) && in_fours(dy) && in_fours(from.bias))
        LAUNCH(geglu_grad<4>, blocks_for(n / 4), BLOCK, s, out, x, from.bias, dy, n, width);
    else
        LAUNCH(geglu_grad<1>, blocks_for(n), BLOCK, s, out, x, from.bias, dy, n, width);
}

template <typename T, typename X> static void geglu_grad_of(cudaStream_t s, T *out, const cuda_source &x, const cuda_source &dy, int64_t n, int64_t width)
{
    if (dy.half)
        geglu_grad_by<T, X>(s, out, x, (const __nv_bfloat16 *)dy.at, n, width);
    else
        geglu_grad_by<T, X>(s, out, x, (const float *)dy.at, n, width);
}

template <typename T> static void geglu_grad_to(cudaStream_t s, T *out, const cuda_source &x, const cuda_source &dy, int64_t n, int64_t width)
{
    if (x.half)
        geglu_grad_of<T, __nv_bfloat16>(s, out, x, dy, n, width);
    else
        geglu_grad_of<T, float>(s, out, x, dy, n, width);
}

cudaError_t k_geglu_grad(cudaStream_t s, void *out, bool half, cuda_source x, cuda_source dy, int64_t rows, int64_t width)
{
    if (half)
        geglu_grad_to(s, (__nv_bfloat16 *)out, x, dy, rows * width, width);
    else
        geglu_grad_to(s, (float *)out, x, dy, rows * width, width);
    return cudaGetLastError();
}

/* ---- f32 to bf16, as every source of a product is: twice four neighbours a thread, several tensors in one launch ---- */

__global__ void round_8(const __grid_constant__ cuda_roundings r)
{
    const float *from = r.from[blockIdx.y];
    bf16 *to = r.to[blockIdx.y];
    const int64_t first = (int64_t)blockIdx.x * 8 * BLOCK + 4 * threadIdx.x, second = first + 4 * BLOCK, n = r.n[blockIdx.y];

    if (second + 4 <= n && (uintptr_t)from % 16 == 0) { /* a piece of a larger tensor may lie anywhere */
        const float4 x = *(const float4 *)(from + first), y = *(const float4 *)(from + second);
        *(uint2 *)(to + first) = make_uint2(bf16_pair(x.x, x.y), bf16_pair(x.z, x.w));
        *(uint2 *)(to + second) = make_uint2(bf16_pair(y.x, y.y), bf16_pair(y.z, y.w));
        return;
    }
    for (int64_t from_k = first; from_k <= second; from_k += 4 * BLOCK)
        for (int64_t k = from_k; k < from_k + 4 && k < n; k++)
            to[k] = (bf16)bf16_pair(from[k], 0.0f);
}

cudaError_t k_round(cudaStream_t s, cuda_roundings r)
{
    int64_t most = 1;

    for (int k = 0; k < r.count; k++)
        most = r.n[k] > most ? r.n[k] : most;
    LAUNCH(round_8, dim3(blocks_for((most + 7) / 8), (unsigned)r.count), BLOCK, s, r);
    return cudaGetLastError();
}

/* ---- cast: through f32, to nearest, ties to even ---- */

template <typename T> __device__ inline float widen(T x)
{
    return (float)x;
}

template <typename TO, typename FROM> __global__ void cast(TO *out, const FROM *x, int64_t n)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = narrow<TO>(widen<FROM>(x[i]));
}

template <typename TO>
static void cast_from(cudaStream_t s, TO *out, const void *x, cuda_float from, int64_t n)
{
    switch (from) {
    case CUDA_F32: LAUNCH(cast, blocks_for(n), BLOCK, s, out, (const float *)x, n); break;
    case CUDA_BF16: LAUNCH(cast, blocks_for(n), BLOCK, s, out, (const __nv_bfloat16 *)x, n); break;
    case CUDA_F16: LAUNCH(cast, blocks_for(n), BLOCK, s, out, (const __half *)x, n); break;
    }
}

cudaError_t k_cast(cudaStream_t s, void *out, cuda_float to, const void *x, cuda_float from, int64_t n)
{
    if (to == CUDA_BF16 && from == CUDA_F32 && (uintptr_t)out % 16 == 0)
        return k_round(s, cuda_roundings{1, {(const float *)x}, {(uint16_t *)out}, {n}});
    switch (to) {
    case CUDA_F32: cast_from(s, (float *)out, x, from, n); break;
    case CUDA_BF16: cast_from(s, (__nv_bfloat16 *)out, x, from, n); break;
    case CUDA_F16: cast_from(s, (__half *)out, x, from, n); break;
    }
    return cudaGetLastError();
}
