/* Copies of elements, rounded to bf16 on the way or not, and the sum that is a copy's gradient: one thread an element of the result, or
 * several neighbours. Cost: the bytes. */
#include "trainer/nn/cuda/cuda_device.cuh"

template <typename T> __global__ void copy_rows(T *out, const T *in, cuda_rows r)
{
    int64_t i = thread_at();

    if (i >= r.rows * r.width)
        return;
    const parted p = part(i, r.width);
    out[r.out_at + p.whole * r.out_step + p.rest] = in[r.in_at + p.whole * r.in_step + p.rest];
}

/* f32 to bf16, V neighbours a thread; widths are of V. */
template <int V> __global__ void round_rows(__nv_bfloat16 *out, const float *in, cuda_rows r)
{
    int64_t i = thread_at();

    if (i >= r.rows * r.width)
        return;
    const parted p = part(i, r.width);
    const several<V> x = ((const several<V> *)in)[r.in_at + p.whole * r.in_step + p.rest];
    several<V, __nv_bfloat16> y;
#pragma unroll
    for (int k = 0; k < V; k++)
        y.at[k] = narrow<__nv_bfloat16>(x.at[k]);
    ((several<V, __nv_bfloat16> *)out)[r.out_at + p.whole * r.out_step + p.rest] = y;
}

/* out, add and twin lie alike, without gaps; V neighbours a thread. */
template <int V>
__global__ void cut_rows(void *out, bool half, const float *in, const float *add, void *twin, cuda_rows r)
{
    int64_t i = thread_at();

    if (i >= r.rows * r.width)
        return;
    const parted p = part(i, r.width);
    several<V> x = ((const several<V> *)in)[r.in_at + p.whole * r.in_step + p.rest];
    if (add) {
        const several<V> more = ((const several<V> *)add)[i];
#pragma unroll
        for (int k = 0; k < V; k++)
            x.at[k] += more.at[k];
    }
    store_several(out, half, i * V, x);
    if (twin)
        store_several(twin, true, i * V, x);
}

/* Whether every stretch begins and ends at a multiple of 16 bytes, elements having `size`. */
static bool rows_in_fours(const void *out, const void *in, const cuda_rows &r, int size)
{
    const uint64_t all = (uint64_t)(r.width | r.out_at | r.out_step | r.in_at | r.in_step) * (uint64_t)size;

    return all % 16 == 0 && in_fours(out) && in_fours(in);
}

static cuda_rows in_parts(const cuda_rows &r, int each)
{
    return cuda_rows{r.rows, r.width / each, r.out_at / each, r.out_step / each, r.in_at / each, r.in_step / each};
}

cudaError_t k_round_rows(cudaStream_t s, void *out, const float *in, cuda_rows r)
{
    if (rows_in_fours(out, in, r, 4))
        LAUNCH(round_rows<4>, blocks_for(r.rows * r.width / 4), BLOCK, s, (__nv_bfloat16 *)out, in, in_parts(r, 4));
    else
        LAUNCH(round_rows<1>, blocks_for(r.rows * r.width), BLOCK, s, (__nv_bfloat16 *)out, in, r);
    return cudaGetLastError();
}

cudaError_t k_cut_rows(cudaStream_t s, void *out, bool half, const float *in, cuda_rows r, const float *add, void *twin)
{
    if (rows_in_fours(out, in, r, 4) && in_fours(add) && in_fours(twin))
        LAUNCH(cut_rows<4>, blocks_for(r.rows * r.width / 4), BLOCK, s, out, half, in, add, twin, in_parts(r, 4));
    else
        LAUNCH(cut_rows<1>, blocks_for(r.rows * r.width), BLOCK, s, out, half, in, add, twin, r);
    return cudaGetLastError();
}

cudaError_t k_copy_rows(cudaStream_t s, void *out, const void *in, cuda_rows r, int size)
{
    const unsigned blocks = blocks_for(r.rows * r.width);
    const int each = 16 / size;

    if (rows_in_fours(out, in, r, size)) {
        const cuda_rows fours = in_parts(r, each);
        LAUNCH(copy_rows, blocks_for(r.rows * fours.width), BLOCK, s, (several<4> *)out, (const several<4> *)in, fours);
    } else if (size == 2)
        LAUNCH(copy_rows, blocks, BLOCK, s, (uint16_t *)out, (const uint16_t *)in, r);
    else
        LAUNCH(copy_rows, blocks, BLOCK, s, (uint32_t *)out, (const uint32_t *)in, r);
    return cudaGetLastError();
}

template <typename T>
__global__ void zero_rows(T *out, const T *x, int64_t n, int64_t sample, int64_t zeros)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = part(i, sample).rest < zeros ? (T)0 : x[i];
}

cudaError_t k_zero_rows(cudaStream_t s, void *out, const void *x, int64_t n, int64_t t, int64_t c, int64_t zeros,
                        int size)
{
    int64_t count = n * t * c;

    if (size == 2)
        LAUNCH(zero_rows, blocks_for(count), BLOCK, s, (uint16_t *)out, (const uint16_t *)x, count, t * c, zeros * c);
    else
        LAUNCH(zero_rows, blocks_for(count), BLOCK, s, (uint32_t *)out, (const uint32_t *)x, count, t * c, zeros * c);
    return cudaGetLastError();
}

/* ---- upsample ---- */

/* Element i of maps [n, height, width, c]. */
struct cell { int64_t n, row, col, k; };

__device__ inline cell cell_at(int64_t i, int64_t c, int64_t width, int64_t height)
{
    const parted pixel = part(i, c), line = part(pixel.whole, width), map = part(line.whole, height);

    return cell{map.whole, map.rest, line.rest, pixel.rest};
}

template <typename T> __device__ inline void put(T *to, T x)
{
    *to = x;
}

__device__ inline void put(__nv_bfloat16 *to, float x)
{
    *to = narrow<__nv_bfloat16>(x);
}

template <typename TO, typename T> __global__ void upsample(TO *out, const T *x, cuda_zoom z)
{
    int64_t i = thread_at();

    if (i >= z.n * z.oh * z.ow * z.c)
        return;
    const cell p = cell_at(i, z.c, z.ow, z.oh);
    put(out + i, x[((p.n * z.h + part(p.row * z.h, z.oh).whole) * z.w + part(p.col * z.w, z.ow).whole) * z.c + p.k]);
}

cudaError_t k_upsample(cudaStream_t s, void *out, bool half, const void *x, cuda_zoom z, int size)
{
    unsigned blocks = blocks_for(z.n * z.oh * z.ow * z.c);

    if (half)
        LAUNCH(upsample, blocks, BLOCK, s, (__nv_bfloat16 *)out, (const float *)x, z);
    else if (size == 2)
        LAUNCH(upsample, blocks, BLOCK, s, (uint16_t *)out, (const uint16_t *)x, z);
    else
        LAUNCH(upsample, blocks, BLOCK, s, (uint32_t *)out, (const uint32_t *)x, z);
    return cudaGetLastError();
}

/* The first position of the larger side whose source is `at` or later: the smallest p with p * small / large >= at. */
__device__ inline int64_t first_from(int64_t at, int64_t small, int64_t large)
{
    return part(at * large + small - 1, small).whole;
}

template <typename T> __global__ void upsample_grad(float *out, const T *dy, cuda_zoom z)
{
    int64_t i = thread_at();

    if (i >= z.n * z.h * z.w * z.c)
        return;
    const cell at = cell_at(i, z.c, z.w, z.h);
    const int64_t from_p = first_from(at.row, z.h, z.oh), to_p = first_from(at.row + 1, z.h, z.oh);
    const int64_t from_q = first_from(at.col, z.w, z.ow), to_q = first_from(at.col + 1, z.w, z.ow);
    float sum = 0.0f;
    for (int64_t p = from_p; p < to_p; p++)
        for (int64_t q = from_q; q < to_q; q++)
            sum += (float)dy[((at.n * z.oh + p) * z.ow + q) * z.c + at.k];
    out[i] = sum;
}

cudaError_t k_upsample_grad(cudaStream_t s, float *out, const void *dy, bool half, cuda_zoom z)
{
    const unsigned blocks = blocks_for(z.n * z.h * z.w * z.c);

    if (half)
        LAUNCH(upsample_grad, blocks, BLOCK, s, out, (const __nv_bfloat16 *)dy, z);
    else
        LAUNCH(upsample_grad, blocks, BLOCK, s, out, (const float *)dy, z);
    return cudaGetLastError();
}

/* ---- expand ---- */

__global__ void expand(float *out, const float *x, const __grid_constant__ cuda_walk at, int64_t n)
{
    int64_t i = thread_at();

    if (i < n)
        out[i] = x[walk_at(at, i)];
}

cudaError_t k_expand(cudaStream_t s, float *out, const float *x, cuda_walk at, int64_t n)
{
    LAUNCH(expand, blocks_for(n), BLOCK, s, out, x, at, n);
    return cudaGetLastError();
}
