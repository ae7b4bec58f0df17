/* Group norm, with silu behind it or not, layer norm and their gradients (op/norm.c has the formulas; a layer norm is a group
 * norm whose every row is a sample of one pixel and one group). One block a group of one sample, mean and variance in two
 * passes, sums in double. Cost: a norm reads x three times and writes it once; its gradient for x reads x and dy twice more. A
 * group of a map fits the second-level cache, so the later passes mostly come from there. silu costs no pass of its own: forward
 * it is applied as the result is written, backward its slope is made of x as dy is read. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* One group, `width` neighbouring channels of every pixel, the first of them channel `first`, and what of it is this thread's:
 * column `col` and every `across`-th after it, of pixel `row` and every `apart`-th after it. Neither needs a division. */
struct group {
    const float *x;
    int64_t at, pixels, row, apart; /* at: of its first element, in the tensor */
    int c, first, width, col, across;

    __device__ int64_t count() const { return pixels * width; }
    /* f(place in the tensor, channel) for each of this thread's. */
    template <class F> __device__ void each(F f) const
    {
        for (int64_t p = row; p < pixels; p += apart)
            for (int i = col; i < width; i += across)
                f(at + p * c + i, first + i);
    }
};

__device__ inline group group_of(const cuda_norm &s, const float *x, int64_t sample, int64_t k)
{
    const int c = (int)s.c, width = (int)(s.c / s.groups), rows = width < BLOCK ? BLOCK / width : 1;
    const int row = width < BLOCK ? threadIdx.x / width : 0;

    return group{x, sample * s.pixels * s.c + k * width, s.pixels, row < rows ? row : s.pixels, rows, c, (int)k * width, width,
                 width < BLOCK ? (int)threadIdx.x % width : (int)threadIdx.x, width < BLOCK ? width : BLOCK};
}

/* Block b works on group b % groups of sample b / groups. */
__device__ inline group group_of_block(const cuda_norm &s, const float *x)
{
    return group_of(s, x, blockIdx.x / (int)s.groups, blockIdx.x % (int)s.groups);
}

/* All threads of the block call, and get the same. */
__device__ inline void stats_of(const group &g, float eps, float *mean, float *rstd)
{
    double sum = 0.0, squares = 0.0;

    g.each([&](int64_t at, int) { sum += (double)g.x[at]; });
    const double m = block_sum(sum) / (double)g.count();
    g.each([&](int64_t at, int) {
        double d = (double)g.x[at] - m;
        squares += d * d;
    });
    *mean = (float)m;
    *rstd = (float)(1.0 / sqrt(block_sum(squares) / (double)g.count() + (double)eps));
}

template <bool SILU> __global__ void norm(cuda_norm s, float *out, const float *x, const float *w, const float *bias)
{
    const group g = group_of_block(s, x);
    float mean, rstd;

    stats_of(g, s.eps, &mean, &rstd);
    g.each([&](int64_t at, int k) {
        float u = (x[at] - mean) * rstd * w[k] + bias[k];
        out[at] = SILU ? u / (1.0f + expf(-u)) : u;
    });
}

/* What a gradient takes for w dy: behind silu that times its slope, at the norm's value. */
template <bool SILU> __device__ inline float slope_at(float xhat, float w, float bias, float dy)
{
    if (!SILU)
        return w * dy;
    const float u = xhat * w + bias, s = 1.0f / (1.0f + expf(-u));
    return w * dy * s * (1.0f + u * (1.0f - s));
}

/* dx = (f - m(f) - xhat m(f xhat)) rstd; bias: of SILU only */
template <bool SILU>
__global__ void norm_grad_x(cuda_norm s, float *out, const float *x, const float *w, const float *dy, const float *bias)
{
    const group g = group_of_block(s, x);
    double sum_f = 0.0, sum_fx = 0.0;
    float mean, rstd;

    stats_of(g, s.eps, &mean, &rstd);
    g.each([&](int64_t at, int k) {
        const float xhat = (x[at] - mean) * rstd, f = slope_at<SILU>(xhat, w[k], SILU ? bias[k] : 0.0f, dy[at]);
        sum_f += (double)f;
        sum_fx += (double)f * (double)xhat;
    });
    const float mean_f = (float)(block_sum(sum_f) / (double)g.count());
    const float mean_fx = (float)(block_sum(sum_fx) / (double)g.count());
    g.each([&](int64_t at, int k) {
        const float xhat = (x[at] - mean) * rstd, f = slope_at<SILU>(xhat, w[k], SILU ? bias[k] : 0.0f, dy[at]);
        out[at] = (f - mean_f - xhat * mean_fx) * rstd;
    });
}

/* stats [samples, groups, 2] = mean, 1 / sqrt(variance + eps) */
__global__ void norm_stats(cuda_norm s, float *stats, const float *x)
{
    float mean, rstd;

    stats_of(group_of_block(s, x), s.eps, &mean, &rstd);
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

cudaError_t k_norm(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *w, const float *bias)
{
    if (groups_of(at) == 0)
        return cudaSuccess;
    if (at.silu)
        LAUNCH(norm<true>, groups_of(at), BLOCK, s, at, out, x, w, bias);
    else
        LAUNCH(norm<false>, groups_of(at), BLOCK, s, at, out, x, w, bias);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_x(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *w, const float *dy,
                          const float *bias)
{
    if (groups_of(at) == 0)
        return cudaSuccess;
    if (at.silu)
        LAUNCH(norm_grad_x<true>, groups_of(at), BLOCK, s, at, out, x, w, dy, bias);
    else
        LAUNCH(norm_grad_x<false>, groups_of(at), BLOCK, s, at, out, x, w, dy, bias);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_w(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *dy, float *stats)
{
    if (groups_of(at) > 0)
        LAUNCH(norm_stats, groups_of(at), BLOCK, s, at, stats, x);
    LAUNCH(norm_grad_w, (unsigned)at.c, BLOCK, s, at, out, x, dy, stats);
    return cudaGetLastError();
}
