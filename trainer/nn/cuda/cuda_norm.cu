/* Group norm, with silu behind it or not, layer norm and their gradients (op/norm.c has the formulas; a layer norm is a group
 * norm whose every row is a sample of one pixel and one group). One block a group of one sample, or one warp a row of a layer
 * norm; mean and variance in one pass: in double the sum of the squares of numbers of f32 has 29 bits to lose. Cost: a norm
 * reads x twice and writes it once; its gradient for x reads x three times and dy twice. A group of a map fits the second-level
 * cache, so the later passes mostly come from there. A group's numbers lie apart, so each thread asks for several before it
 * uses the first: otherwise it would wait for one after the other. silu costs no pass of its own: forward it is applied as the
 * result is written, backward its slope is made of x as dy is read. Sources in bf16 are half the bytes, and what is yet to be added to
 * them (cuda_source) comes from a cache; so does nothing of what a gradient is added to, which is read once, as the result is written. */
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

/* One group, `width` neighbouring channels of every pixel, the first of them channel `first`, and what of it is this thread's:
 * column `col` and every `across`-th after it, of pixel `row` and every `apart`-th after it. Neither needs a division. */
struct group {
    int64_t at; /* of its first element, in the tensor */
    int pixels, row, apart, c, first, width, col, across;

    __device__ double count() const { return (double)pixels * (double)width; }
    /* use(place in the tensor, load(place, channel)) for each of this thread's, N loads at a time. */
    template <int N, class LOAD, class USE> __device__ void each(LOAD load, USE use) const
    {
        if (pixels > 1) {
            for (int i = col; i < width; i += across)
                in_batches<N>(row, apart, pixels, [&](int p) { return load(at + (int64_t)p * c + i, first + i); },
                              [&](int p, const auto &got) { use(at + (int64_t)p * c + i, got); });
            return;
        }
        if (row < pixels)
            in_batches<N>(col, across, width, [&](int i) { return load(at + i, first + i); },
                          [&](int i, const auto &got) { use(at + i, got); });
    }
};

/* Block b works on group b % groups of sample b / groups. */
__device__ inline group group_of_block(const cuda_norm &s)
{
    const int c = (int)s.c, groups = (int)s.groups, width = c / groups, k = blockIdx.x % groups;
    const int across = width < BLOCK ? width : BLOCK, rows = BLOCK / across, mine = threadIdx.x / across;
    const int pixels = (int)s.pixels, row = mine < rows ? mine : pixels;

    return group{blockIdx.x / groups * s.pixels * s.c + (int64_t)k * width, pixels, row, rows, c, k * width, width,
                 (int)threadIdx.x % across, across};
}

/* x as a group reads it: `more` begins at its sample. */
template <typename X> struct reader {
    const X *x;
    const float *bias, *more;

    __device__ float operator()(int64_t at, int channel) const
    {
        float v = (float)x[at];
        if (bias)
            v += bias[channel];
        return more ? v + more[channel] : v;
    }
};

template <> struct reader<float> {
    const float *x;

    __device__ float operator()(int64_t at, int) const { return x[at]; }
};

__device__ inline reader<float> reader_of(const float *x, const cuda_source &, const cuda_norm &)
{
    return reader<float>{x};
}

__device__ inline reader<__nv_bfloat16> reader_of(const __nv_bfloat16 *x, const cuda_source &s, const cuda_norm &at)
{
    return reader<__nv_bfloat16>{x, s.bias, s.more ? s.more + blockIdx.x / at.groups * at.c : NULL};
}

/* Row r of a layer norm, for a warp. */
__device__ inline group group_of_row(const cuda_norm &s, int64_t r)
{
    return group{r * s.c, 1, 0, 1, (int)s.c, 0, (int)s.c, (int)threadIdx.x % WARP, WARP};
}

/* Who makes a group's sums. */
struct by_block {
    static __device__ double sum(double x) { return block_sum(x); }
};
struct by_warp {
    static __device__ double sum(double x) { return warp_sum(x); }
};

/* All threads that have the group call, and get the same. */
template <class BY, class READ> __device__ inline void stats_of(const group &g, const READ &x, float eps, float *mean, float *rstd)
{
    double sum = 0.0, squares = 0.0;

    g.each<8>([&](int64_t at, int k) { return x(at, k); },
              [&](int64_t, float v) {
                  sum += (double)v;
                  squares += (double)v * (double)v;
              });
    const double m = BY::sum(sum) / g.count(), variance = BY::sum(squares) / g.count() - m * m;
    *mean = (float)m;
    *rstd = (float)(1.0 / sqrt((variance > 0.0 ? variance : 0.0) + (double)eps));
}

template <bool SILU, class BY, class READ>
__device__ inline void norm_group(const group &g, float eps, void *out, bool half, const READ &x, const float *w, const float *bias)
{
    struct numbers { float x, w, bias; };
    float mean, rstd;

    stats_of<BY>(g, x, eps, &mean, &rstd);
    g.each<8>([&](int64_t at, int k) { return numbers{x(at, k), w[k], bias[k]}; },
              [&](int64_t at, const numbers &v) {
                  float u = (v.x - mean) * rstd * v.w + v.bias;
                  store_either(out, half, at, SILU ? u / (1.0f + expf(-u)) : u);
              });
}

template <bool SILU, typename X>
__global__ void norm(cuda_norm s, void *out, bool half, const X *x, const __grid_constant__ cuda_source from, const float *w, const float *bias)
{
    norm_group<SILU, by_block>(group_of_block(s), s.eps, out, half, reader_of(x, from, s), w, bias);
}

/* A warp a row. */
__global__ void norm_rows(cuda_norm s, void *out, bool half, const float *x, const float *w, const float *bias)
{
    const int64_t r = thread_at() / WARP;

    if (r < s.samples)
        norm_group<false, by_warp>(group_of_row(s, r), s.eps, out, half, reader<float>{x}, w, bias);
}

/* What a gradient takes for w dy: behind silu that times its slope, at the norm's value. */
template <bool SILU> __device__ inline float slope_at(float xhat, float w, float bias, float dy)
{
    if (!SILU)
        return w * dy;
    const float u = xhat * w + bias, s = 1.0f / (1.0f + expf(-u));
    return w * dy * s * (1.0f + u * (1.0f - s));
}

/* dx = (f - m(f) - xhat m(f xhat)) rstd, and `add` where there is one; bias: of SILU only */
template <bool SILU, class BY, class READ, typename DY>
__device__ inline void slope_of_group(const group &g, float eps, void *out, bool half, const READ &x, const float *w, const DY *dy,
                                      const float *bias, const float *add)
{
    struct numbers { float x, w, dy, bias; };
    double sum_f = 0.0, sum_fx = 0.0;
    float mean, rstd;

    stats_of<BY>(g, x, eps, &mean, &rstd);
    const auto load = [&](int64_t at, int k) { return numbers{x(at, k), w[k], (float)dy[at], SILU ? bias[k] : 0.0f}; };
    g.each<4>(load, [&](int64_t, const numbers &v) {
        const float xhat = (v.x - mean) * rstd, f = slope_at<SILU>(xhat, v.w, v.bias, v.dy);
        sum_f += (double)f;
        sum_fx += (double)f * (double)xhat;
    });
    const float mean_f = (float)(BY::sum(sum_f) / g.count()), mean_fx = (float)(BY::sum(sum_fx) / g.count());
    g.each<4>(load, [&](int64_t at, const numbers &v) {
        const float xhat = (v.x - mean) * rstd, f = slope_at<SILU>(xhat, v.w, v.bias, v.dy);
        const float dx = (f - mean_f - xhat * mean_fx) * rstd;
        store_either(out, half, at, add ? dx + add[at] : dx);
    });
}

template <bool SILU, typename X, typename DY>
__global__ void norm_grad_x(cuda_norm s, void *out, bool half, const X *x, const __grid_constant__ cuda_source from, const float *w, const DY *dy,
                            const float *bias, const float *add)
{
    slope_of_group<SILU, by_block>(group_of_block(s), s.eps, out, half, reader_of(x, from, s), w, dy, bias, add);
}

template <typename DY>
__global__ void norm_rows_grad_x(cuda_norm s, void *out, bool half, const float *x, const float *w, const DY *dy, const float *add)
{
    const int64_t r = thread_at() / WARP;

    if (r < s.samples)
        slope_of_group<false, by_warp>(group_of_row(s, r), s.eps, out, half, reader<float>{x}, w, dy, NULL, add);
}

/* stats [samples, groups, 2] = mean, 1 / sqrt(variance + eps) */
__global__ void norm_stats(cuda_norm s, float *stats, const float *x)
{
    float mean, rstd;

    stats_of<by_block>(group_of_block(s), reader<float>{x}, s.eps, &mean, &rstd);
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

template <typename X> static void norm_of(cudaStream_t s, cuda_norm at, void *out, bool half, const cuda_source &x, const float *w, const float *bias)
{
    if (at.silu)
        LAUNCH((norm<true, X>), groups_of(at), BLOCK, s, at, out, half, (const X *)x.at, x, w, bias);
    else
        LAUNCH((norm<false, X>), groups_of(at), BLOCK, s, at, out, half, (const X *)x.at, x, w, bias);
}

cudaError_t k_norm(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, const float *bias)
{
    if (groups_of(at) == 0)
        return cudaSuccess;
    if (of_rows(at))
        LAUNCH(norm_rows, blocks_for(at.samples * WARP), BLOCK, s, at, out, half, (const float *)x.at, w, bias);
    else if (x.half)
        norm_of<__nv_bfloat16>(s, at, out, half, x, w, bias);
    else
        norm_of<float>(s, at, out, half, x, w, bias);
    return cudaGetLastError();
}

/* What a gradient is made of, but for x and dy. */
typedef struct { void *out; bool half; const float *w, *bias, *add; } slope_args;

template <typename X, typename DY>
static void slope_of(cudaStream_t s, cuda_norm at, const slope_args &to, const cuda_source &x, const cuda_source &dy)
{
    if (at.silu)
        LAUNCH((norm_grad_x<true, X, DY>), groups_of(at), BLOCK, s, at, to.out, to.half, (const X *)x.at, x, to.w, (const DY *)dy.at, to.bias, to.add);
    else
        LAUNCH((norm_grad_x<false, X, DY>), groups_of(at), BLOCK, s, at, to.out, to.half, (const X *)x.at, x, to.w, (const DY *)dy.at, to.bias, to.add);
}

template <typename DY> static void slope_to(cudaStream_t s, cuda_norm at, const slope_args &to, const cuda_source &x, const cuda_source &dy)
{
    if (of_rows(at))
        LAUNCH(norm_rows_grad_x, blocks_for(at.samples * WARP), BLOCK, s, at, to.out, to.half, (const float *)x.at, to.w, (const DY *)dy.at, to.add);
    else if (x.half)
        slope_of<__nv_bfloat16, DY>(s, at, to, x, dy);
    else
        slope_of<float, DY>(s, at, to, x, dy);
}

cudaError_t k_norm_grad_x(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, cuda_source dy, const float *bias,
                          const float *add)
{
    const slope_args to = {out, half, w, bias, add};

    if (groups_of(at) == 0)
        return cudaSuccess;
    if (dy.half)
        slope_to<__nv_bfloat16>(s, at, to, x, dy);
    else
        slope_to<float>(s, at, to, x, dy);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_w(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *dy, float *stats)
{
    if (groups_of(at) > 0)
        LAUNCH(norm_stats, groups_of(at), BLOCK, s, at, stats, x);
    LAUNCH(norm_grad_w, (unsigned)at.c, BLOCK, s, at, out, x, dy, stats);
    return cudaGetLastError();
}
