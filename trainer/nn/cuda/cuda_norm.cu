/* Group norm, layer norm and their gradients (op/norm.c has the formulas; a layer norm is a group norm whose every row
 * is a sample of one pixel and one group). One block a group of one sample, mean and variance in two passes, sums in
 * double. Cost: a norm reads x three times and writes it once; its gradient for x reads x and dy twice more. A group of
 * a map fits the second-level cache, so the later passes mostly come from there. */
#include "trainer/nn/cuda/cuda_device.cuh"

/* One group: element e (0 .. count - 1) is channel first + e % width of pixel e / width. */
struct group {
    const float *x;
    int64_t at, c, first, width, count; /* at: of its first element, in the tensor */

    __device__ int64_t place(int64_t e) const { return at + e / width * c + e % width; }
    __device__ int64_t channel(int64_t e) const { return first + e % width; }
};

__device__ inline group group_of(const cuda_norm &s, const float *x, int64_t sample, int64_t k)
{
    int64_t width = s.c / s.groups;

    return group{x, sample * s.pixels * s.c + k * width, s.c, k * width, width, s.pixels * width};
}

/* Block b works on group b % groups of sample b / groups. */
__device__ inline group group_of_block(const cuda_norm &s, const float *x)
{
    return group_of(s, x, blockIdx.x / s.groups, blockIdx.x % s.groups);
}

/* All threads of the block call, and get the same. */
__device__ inline void stats_of(const group &g, float eps, float *mean, float *rstd)
{
    double sum = 0.0, squares = 0.0;

    for (int64_t e = threadIdx.x; e < g.count; e += BLOCK)
        sum += (double)g.x[g.place(e)];
    double m = block_sum(sum) / (double)g.count;
    for (int64_t e = threadIdx.x; e < g.count; e += BLOCK) {
        double d = (double)g.x[g.place(e)] - m;
        squares += d * d;
    }
    *mean = (float)m;
    *rstd = (float)(1.0 / sqrt(block_sum(squares) / (double)g.count + (double)eps));
}

__global__ void norm(cuda_norm s, float *out, const float *x, const float *w, const float *bias)
{
    const group g = group_of_block(s, x);
    float mean, rstd;

    stats_of(g, s.eps, &mean, &rstd);
    for (int64_t e = threadIdx.x; e < g.count; e += BLOCK) {
        int64_t at = g.place(e), k = g.channel(e);
        out[at] = (x[at] - mean) * rstd * w[k] + bias[k];
    }
}

/* dx = (f - m(f) - xhat m(f xhat)) rstd, f = w dy */
__global__ void norm_grad_x(cuda_norm s, float *out, const float *x, const float *w, const float *dy)
{
    const group g = group_of_block(s, x);
    double sum_f = 0.0, sum_fx = 0.0;
    float mean, rstd;

    stats_of(g, s.eps, &mean, &rstd);
    for (int64_t e = threadIdx.x; e < g.count; e += BLOCK) {
        int64_t at = g.place(e);
        float f = w[g.channel(e)] * dy[at];
        sum_f += (double)f;
        sum_fx += (double)f * (double)((x[at] - mean) * rstd);
    }
    float mean_f = (float)(block_sum(sum_f) / (double)g.count);
    float mean_fx = (float)(block_sum(sum_fx) / (double)g.count);
    for (int64_t e = threadIdx.x; e < g.count; e += BLOCK) {
        int64_t at = g.place(e);
        float f = w[g.channel(e)] * dy[at], xhat = (x[at] - mean) * rstd;
        out[at] = (f - mean_f - xhat * mean_fx) * rstd;
    }
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
        const float *figures = stats + 2 * (r / s.pixels * s.groups + group_at);
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
    LAUNCH(norm, groups_of(at), BLOCK, s, at, out, x, w, bias);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_x(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *w, const float *dy)
{
    if (groups_of(at) == 0)
        return cudaSuccess;
    LAUNCH(norm_grad_x, groups_of(at), BLOCK, s, at, out, x, w, dy);
    return cudaGetLastError();
}

cudaError_t k_norm_grad_w(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *dy, float *stats)
{
    if (groups_of(at) > 0)
        LAUNCH(norm_stats, groups_of(at), BLOCK, s, at, stats, x);
    LAUNCH(norm_grad_w, (unsigned)at.c, BLOCK, s, at, out, x, dy, stats);
    return cudaGetLastError();
}
