/* Group norm, with silu behind it or not, layer norm and their gradients (op/norm.c has the formulas; a layer norm is a group
 * norm whose every row is a sample of one pixel and one group). One block a group of one sample, or one warp a row of a layer
 * norm; mean and variance in one pass: in double the sum of the squares of numbers of f32 has 29 bits to lose. Cost: a norm
 * reads x twice and writes it once; its gradient for x reads x three times and dy twice. A group of a map fits the second-level
 * cache, so the later passes mostly come from there. A group's numbers lie apart, so each thread asks for several before it
 * uses the first, two neighbours at a time where they lie so: otherwise it would wait for one after the other. silu costs no pass of
 * its own: forward it is applied as the result is written, backward its slope is made of x as dy is read. Sources in bf16 are half the
 * bytes, and what is yet to be added to them (cuda_source) is one number a column. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* use(k, load(k)) for k = from, from + step .. before `end`, N loads at a time. */
template <int N, class LOAD, class USE> __device__ inline void in_batches(int from, int step, int end, LOAD load, USE use)
{
    for (int k = from; k < end; k += N * step) {
        decltype(load(0)) got[N];
#pragma unroll
        for (int n = 0; n < N; n++)
            if (k + n * step < end)
                got[n] = load(k + n * step);
#pragma unroll
        for (int n = 0; n < N; n++)
            if (k + n * step < end)
                use(k + n * step, got[n]);
    }
}

/* One group, `width` neighbouring channels of every pixel, the first of them channel `first`, in columns of V channels, and what of it
 * is this thread's: column `col` and every `across`-th after it, of pixel `row` and every `apart`-th after it. Neither needs a
 * division. */
template <int V> struct group {
    int64_t at; /* of its first element, in the tensor */
    int pixels, row, apart, c, first, width, col, across;

    __device__ double count() const { return (double)pixels * (double)width; }
    /* use(place in the tensor, load(place), column(channel)) for each of this thread's, N loads at a time. */
    template <int N, class COLUMN, class LOAD, class USE> __device__ void each(COLUMN column, LOAD load, USE use) const
    {
        if (pixels > 1) {
            for (int i = V * col; i < width; i += V * across) {
                const auto here = column(first + i);
                in_batches<N>(row, apart, pixels, [&](int p) { return load(at + (int64_t)p * c + i); },
                              [&](int p, const auto &got) { use(at + (int64_t)p * c + i, got, here); });
            }
            return;
        }
        struct both { decltype(load(0)) got; decltype(column(0)) here; };
        if (row < pixels)
            in_batches<N>(col, across, width / V, [&](int i) { return both{load(at + V * i), column(first + V * i)}; },
                          [&](int i, const both &b) { use(at + V * i, b.got, b.here); });
    }
};

/* Block b works on group b % groups of sample b / groups. */
template <int V> __device__ inline group<V> group_of_block(const cuda_norm &s)
{
    const int c = (int)s.c, groups = (int)s.groups, width = c / groups, k = blockIdx.x % groups, columns = width / V;
    const int across = columns < BLOCK ? columns : BLOCK, rows = BLOCK / across, mine = threadIdx.x / across;
    const int pixels = (int)s.pixels, row = mine < rows ? mine : pixels;

    return group<V>{blockIdx.x / groups * s.pixels * s.c + (int64_t)k * width, pixels, row, rows, c, k * width, width,
                    (int)threadIdx.x % across, across};
}

/* Row r of a layer norm, for a warp. */
template <int V> __device__ inline group<V> group_of_row(const cuda_norm &s, int64_t r)
{
    return group<V>{r * s.c, 1, 0, 1, (int)s.c, 0, (int)s.c, (int)threadIdx.x % WARP, WARP};
}

/* x as a group reads it, and what is yet to be added to it, of the group's sample. */
template <typename X> struct reader {
    const X *x;
    const float *bias, *more;

    template <int V> __device__ several<V> late(int channel) const
    {
        several<V> sum = {};
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (bias)
                sum.at[k] += bias[channel + k];
            if (more)
                sum.at[k] += more[channel + k];
        }
        return sum;
    }
};

/* To f32 nothing is. */
template <> struct reader<float> {
    const float *x;

    template <int V> __device__ several<V> late(int) const { return several<V>{}; }
};

__device__ inline reader<float> reader_of(const float *x, const cuda_source &, const cuda_norm &)
{
    return reader<float>{x};
}

__device__ inline reader<__nv_bfloat16> reader_of(const __nv_bfloat16 *x, const cuda_source &s, const cuda_norm &at)
{
    return reader<__nv_bfloat16>{x, s.bias, s.more ? s.more + blockIdx.x / at.groups * at.c : NULL};
}

/* Who makes a group's sums. */
struct by_block {
    static __device__ double sum(double x) { return block_sum(x); }
};
struct by_warp {
    static __device__ double sum(double x) { return warp_sum(x); }
};

/* All threads that have the group call, and get the same. */
template <class BY, int V, typename X> __device__ inline void stats_of(const group<V> &g, const reader<X> &from, float eps, float *mean, float *rstd)
{
    double sum = 0.0, squares = 0.0;

    g.template each<8>([&](int channel) { return from.template late<V>(channel); },
                       [&](int64_t at) { return *(const several<V, X> *)(from.x + at); },
                       [&](int64_t, const several<V, X> &x, const several<V> &late) {
#pragma unroll
                           for (int k = 0; k < V; k++) {
                               const float v = (float)x.at[k] + late.at[k];
                               sum += (double)v;
                               squares += (double)v * (double)v;
                           }
                       });
    const double m = BY::sum(sum) / g.count(), variance = BY::sum(squares) / g.count() - m * m;
    *mean = (float)m;
    *rstd = (float)(1.0 / sqrt((variance > 0.0 ? variance : 0.0) + (double)eps));
}

/* What a column's channels have of their own. */
template <int V> struct affine { several<V> late, w, bias; };

/* bias NULL: none is asked for. */
template <int V, typename X>
__device__ inline affine<V> affine_of(const reader<X> &from, const float *w, const float *bias, int channel)
{
    const several<V> none = {};

    return affine<V>{from.template late<V>(channel), *(const several<V> *)(w + channel), bias ? *(const several<V> *)(bias + channel) : none};
}

template <bool SILU, class BY, int V, typename X>
__device__ inline void norm_group(const group<V> &g, float eps, void *out, bool half, const reader<X> &from, const float *w, const float *bias)
{
    float mean, rstd;

    stats_of<BY>(g, from, eps, &mean, &rstd);
    g.template each<8>([&](int channel) { return affine_of<V>(from, w, bias, channel); },
                       [&](int64_t at) { return *(const several<V, X> *)(from.x + at); },
                       [&](int64_t at, const several<V, X> &x, const affine<V> &c) {
                           several<V> y;
#pragma unroll
                           for (int k = 0; k < V; k++) {
                               const float u = ((float)x.at[k] + c.late.at[k] - mean) * rstd * c.w.at[k] + c.bias.at[k];
                               y.at[k] = SILU ? u / (1.0f + expf(-u)) : u;
                           }
                           store_several(out, half, at, y);
                       });
}

template <bool SILU, int V, typename X>
__global__ void norm(cuda_norm s, void *out, bool half, const X *x, const __grid_constant__ cuda_source from, const float *w, const float *bias)
{
    norm_group<SILU, by_block>(group_of_block<V>(s), s.eps, out, half, reader_of(x, from, s), w, bias);
}

/* A warp a row. */
template <int V> __global__ void norm_rows(cuda_norm s, void *out, bool half, const float *x, const float *w, const float *bias)
{
    const int64_t r = thread_at() / WARP;

    if (r < s.samples)
        norm_group<false, by_warp>(group_of_row<V>(s, r), s.eps, out, half, reader<float>{x}, w, bias);
}

/* What a gradient takes for w dy: behind silu that times its slope, at the norm's value. */
template <bool SILU> __device__ inline float slope_at(float xhat, float w, float bias, float dy)
{
    if (!SILU)
        return w * dy;
    const float u = xhat * w + bias, s = 1.0f / (1.0f + expf(-u));
    return w * dy * s * (1.0f + u * (1.0f - s));
}

/* Where a gradient goes: in f32 or bf16 (half); `add`, like it, is added, where there is one; to `twin` it goes in bf16, too. */
struct slope_out { void *out; bool half; const float *add; void *twin; };

/* dx = (f - m(f) - xhat m(f xhat)) rstd; bias: of SILU only */
template <bool SILU, class BY, int V, typename X, typename DY>
__device__ inline void slope_of_group(const group<V> &g, float eps, const slope_out &to, const reader<X> &from, const float *w, const DY *dy,
                                      const float *bias)
{
    struct numbers { several<V, X> x; several<V, DY> dy; };
    struct with_add { numbers of; several<V> add; };
    struct terms { float xhat, f; };
    double sum_f = 0.0, sum_fx = 0.0;
    float mean, rstd;

    stats_of<BY>(g, from, eps, &mean, &rstd);
    const auto column = [&](int channel) { return affine_of<V>(from, w, SILU ? bias : NULL, channel); };
    const auto load = [&](int64_t at) { return numbers{*(const several<V, X> *)(from.x + at), *(const several<V, DY> *)(dy + at)}; };
    const auto terms_of = [&](const numbers &v, const affine<V> &c, int k) {
        const float xhat = ((float)v.x.at[k] + c.late.at[k] - mean) * rstd;
        return terms{xhat, slope_at<SILU>(xhat, c.w.at[k], c.bias.at[k], (float)v.dy.at[k])};
    };
    g.template each<4>(column, load, [&](int64_t, const numbers &v, const affine<V> &c) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const terms t = terms_of(v, c, k);
            sum_f += (double)t.f;
            sum_fx += (double)t.f * (double)t.xhat;
        }
    });
    const float mean_f = (float)(BY::sum(sum_f) / g.count()), mean_fx = (float)(BY::sum(sum_fx) / g.count());
    const auto load_all = [&](int64_t at) { return with_add{load(at), to.add ? *(const several<V> *)(to.add + at) : several<V>{}}; };
    g.template each<4>(column, load_all, [&](int64_t at, const with_add &v, const affine<V> &c) {
        several<V> dx;
#pragma unroll
        for (int k = 0; k < V; k++) {
            const terms t = terms_of(v.of, c, k);
            dx.at[k] = __fmul_rn(t.f - mean_f - t.xhat * mean_fx, rstd); /* the same number, whatever is done with it */
            dx.at[k] = to.add ? dx.at[k] + v.add.at[k] : dx.at[k];
        }
        store_several(to.out, to.half, at, dx);
        if (to.twin)
            store_several(to.twin, true, at, dx);
    });
}

template <bool SILU, int V, typename X, typename DY>
__global__ void norm_grad_x(cuda_norm s, const __grid_constant__ slope_out to, const X *x, const __grid_constant__ cuda_source from, const float *w,
                            const DY *dy, const float *bias)
{
    slope_of_group<SILU, by_block>(group_of_block<V>(s), s.eps, to, reader_of(x, from, s), w, dy, bias);
}

template <int V, typename DY>
__global__ void norm_rows_grad_x(cuda_norm s, const __grid_constant__ slope_out to, const float *x, const float *w, const DY *dy)
{
    const int64_t r = thread_at() / WARP;

    if (r < s.samples)
        slope_of_group<false, by_warp>(group_of_row<V>(s, r), s.eps, to, reader<float>{x}, w, dy, NULL);
}

/* stats [samples, groups, 2] = mean, 1 / sqrt(variance + eps) */
__global__ void norm_stats(cuda_norm s, float *stats, const float *x)
{
    float mean, rstd;

    stats_of<by_block>(group_of_block<1>(s), reader<float>{x}, s.eps, &mean, &rstd);
    if (threadIdx.x == 0) {
        stats[2 * (int64_t)blockIdx.x] = mean;
        stats[2 * (int64_t)blockIdx.x + 1] = rstd;
    }
}

/* One block a channel, over all its samples and pixels: dw = sum dy xhat, dbias = sum dy. Neighbours in a warp read c
 * elements apart; only full fine-tuning trains norms. */
__global__ void norm_grad_w(cuda_norm s, float *out, const float *x, const float *dy, const float *stats)
{
    int64_t k = blockIdx.x, group_at = k / (s.c / s.groups);
    double sum_w = 0.0, sum_bias = 0.0;

    for (int64_t r = threadIdx.x; r < s.samples * s.pixels; r += BLOCK) {
        const float *figures = stats + 2 * (part(r, s.pixels).whole * s.groups + group_at);
        int64_t at = r * s.c + k;
        sum_w += (double)dy[at] * (double)((x[at] - figures[0]) * figures[1]);
        sum_bias += (double)dy[at];
    }
    sum_w = block_sum(sum_w);
    sum_bias = block_sum(sum_bias);
    if (threadIdx.x == 0) {
        out[k] = (float)sum_w;
        out[s.c + k] = (float)sum_bias;
    }
}

/* One block a group; no blocks are an error, and then there is nothing to do. */
static unsigned groups_of(cuda_norm at)
{
    return (unsigned)(at.samples * at.groups);
}

/* Whether it is a layer norm, which a warp a row does. */
static bool of_rows(cuda_norm at)
{
    return at.pixels == 1 && at.groups == 1 && !at.silu;
}

/* Whether all of these lie where two neighbouring numbers can be moved as one; those in bf16 need less. */
static bool in_pairs(cuda_norm at, const void *const places[], int n)
{
    bool all = at.c / at.groups % 2 == 0;

    for (int i = 0; i < n; i++)
        all = all && in_fours(places[i], 8);
    return all;
}

template <int V, typename X>
static void norm_of(cudaStream_t s, cuda_norm at, void *out, bool half, const cuda_source &x, const float *w, const float *bias)
{
    if (at.silu)
        LAUNCH((norm<true, V, X>), groups_of(at), BLOCK, s, at, out, half, (const X *)x.at, x, w, bias);
    else
        LAUNCH((norm<false, V, X>), groups_of(at), BLOCK, s, at, out, half, (const X *)x.at, x, w, bias);
}

template <int V> static void norm_by(cudaStream_t s, cuda_norm at, void *out, bool half, const cuda_source &x, const float *w, const float *bias)
{
    if (of_rows(at))
        LAUNCH(norm_rows<V>, blocks_for(at.samples * WARP), BLOCK, s, at, out, half, (const float *)x.at, w, bias);
    else if (x.half)
        norm_of<V, __nv_bfloat16>(s, at, out, half, x, w, bias);
    else
        norm_of<V, float>(s, at, out, half, x, w, bias);
}

cudaError_t k_norm(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, const float *bias)
{
    const void *const places[] = {out, x.at, w, bias};

    if (groups_of(at) == 0)
        return cudaSuccess;
    if (in_pairs(at, places, 4))
        norm_by<2>(s, at, out, half, x, w, bias);
    else
        norm_by<1>(s, at, out, half, x, w, bias);
    return cudaGetLastError();
}

/* What a gradient is made of. */
typedef struct { slope_out to; cuda_source x, dy; const float *w, *bias; } slope_args;

template <int V, typename X, typename DY> static void slope_of(cudaStream_t s, cuda_norm at, const slope_args &a)
{
    if (at.silu)
        LAUNCH((norm_grad_x<true, V, X, DY>), groups_of(at), BLOCK, s, at, a.to, (const X *)a.x.at, a.x, a.w, (const DY *)a.dy.at, a.bias);
    else
        LAUNCH((norm_grad_x<false, V, X, DY>), groups_of(at), BLOCK, s, at, a.to, (const X *)a.x.at, a.x, a.w, (const DY *)a.dy.at, a.bias);
}

template <int V, typename DY> static void slope_by(cudaStream_t s, cuda_norm at, const slope_args &a)
{
    if (of_rows(at))
        LAUNCH(norm_rows_grad_x<V>, blocks_for(at.samples * WARP), BLOCK, s, at, a.to, (const float *)a.x.at, a.w, (const DY *)a.dy.at);
    else if (a.x.half)
        slope_of<V, __nv_bfloat16, DY>(s, at, a);
    else
        slope_of<V, float, DY>(s, at, a);
}

template <int V> static void slope_in(cudaStream_t s, cuda_norm at, const slope_args &a)
{
    if (a.dy.half)
        slope_by<V, __nv_bfloat16>(s, at, a);
    else
        slope_by<V, float>(s, at, a);
}

cudaError_t k_norm_grad_x(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, cuda_source dy, const float *bias,
                          const float *add, void *twin)
{
    const slope_args a = {{out, half, add, twin}, x, dy, w, bias};
    const void *const places[] = {out, x.at, w, dy.at, bias, add, twin};

    if (groups_of(at) == 0)
        return cudaSuccess;
    if (in_pairs(at, places, 7))
        slope_in<2>(s, at, a);
    else
        slope_in<1>(s, at, a);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_w(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *dy, float *stats)
{
    if (groups_of(at) > 0)
        LAUNCH(norm_stats, groups_of(at), BLOCK, s, at, stats, x);
    LAUNCH(norm_grad_w, (unsigned)at.c, BLOCK, s, at, out, x, dy, stats);
    return cudaGetLastError();
}
