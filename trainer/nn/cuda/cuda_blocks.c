/* Norms and windows: what a node says, as the arguments of our kernels. */
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"
#include "trainer/nn/cuda/cuda_sources.h"

/* ---- norms ---- */

static cuda_norm norm_of(const nn_call *c)
{
    norm_shape s = norm_shape_of(c->y);
    bool silu = c->y->op->id == NN_OP_group_norm_silu || c->y->op->id == NN_OP_group_norm_silu_grad_x;

    return (cuda_norm){s.samples, s.pixels, s.c, s.groups, s.eps, silu};
}

static int run_norm(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_norm(cuda_stream(b), norm_of(c), c->out, c->narrow, cuda_source_of(c, 0), c->in[1], c->in[2]));
}

static int run_norm_grad_x(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_norm_grad_x(cuda_stream(b), norm_of(c), c->out, c->narrow, cuda_source_of(c, 0), c->in[1], cuda_source_of(c, 2), c->in[3],
                                  c->more, c->twin));
}

static int prepare_norm_grad_w(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    cuda_norm s = norm_of(c);

    (void)b, (void)frozen, (void)e;
    c->scratch_bytes = (size_t)(2 * s.samples * s.groups) * sizeof(float);
    return 0;
}

static int run_norm_grad_w(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_norm_grad_w(cuda_stream(b), norm_of(c), c->out, c->in[0], c->in[1], c->scratch));
}

/* Of a map; and of rows, which lie in the stream of residuals and are of f32. */
#define NORM(NAME)                                                                                           \
    CUDA_LIST(NAME, .takes = cuda_needs_f32, .takes_half = 1, .takes_late = NN_LATE_BOTH, .narrows = cuda_narrows, .run = run_norm);                 \
    CUDA_LIST(NAME##_grad_x, .takes = cuda_needs_f32, .takes_half = 5, .takes_late = NN_LATE_BOTH, .narrows = cuda_narrows, .adds = NN_ADDS_LIKE,    \
              .narrow_sum = NN_SUM_ROUNDED, .twins = true,                                                                                       \
              .run = run_norm_grad_x);

NORM(group_norm_silu)
NORM(group_norm)
CUDA_LIST(group_norm_grad_w, .takes = cuda_needs_f32, .prepare = prepare_norm_grad_w, .run = run_norm_grad_w);
CUDA_LIST(layer_norm, .takes = cuda_needs_f32, .narrows = cuda_narrows, .run = run_norm);
CUDA_LIST(layer_norm_grad_x, .takes = cuda_needs_f32, .takes_half = 4, .narrows = cuda_narrows, .adds = NN_ADDS_LIKE,
          .narrow_sum = NN_SUM_ROUNDED, .twins = true, .run = run_norm_grad_x);
CUDA_LIST(layer_norm_grad_w, .takes = cuda_needs_f32, .prepare = prepare_norm_grad_w, .run = run_norm_grad_w);

/* ---- windows ---- */

static int run_pool2d(nn_backend *b, const nn_call *c)
{
    static const cuda_pooled HOW[] = {
        [NN_POOL_MAX] = CUDA_POOL_MAX, [NN_POOL_MEAN] = CUDA_POOL_MEAN, [NN_POOL_MEAN_WHOLE] = CUDA_POOL_MEAN_WHOLE};
    nn_shape x = c->y->src[0]->shape, y = c->y->shape;
    nn_conv at = c->y->at.pool.at;
    cuda_windows w = {.n = x.d[0], .h = x.d[1], .w = x.d[2], .c = x.d[3], .oh = y.d[1], .ow = y.d[2],
                      .k = c->y->at.pool.k, .stride = at.stride, .top = at.pad[0], .left = at.pad[1]};

    return cuda_ran(k_pool2d(cuda_stream(b), HOW[c->y->at.pool.how], c->out, c->in[0], w));
}

CUDA_LIST(pool2d, .takes = cuda_needs_f32, .run = run_pool2d);
