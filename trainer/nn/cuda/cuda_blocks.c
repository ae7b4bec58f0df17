/* Norms, windows and attention: what a node says, as the arguments of our kernels. */
#include <limits.h>

#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

/* ---- norms ---- */

static cuda_norm norm_of(const nn_call *c)
{
    norm_shape s = norm_shape_of(c->y);

    return (cuda_norm){s.samples, s.pixels, s.c, s.groups, s.eps};
}

static int run_norm(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_norm(cuda_stream(b), norm_of(c), c->out, c->in[0], c->in[1], c->in[2]));
}

static int run_norm_grad_x(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_norm_grad_x(cuda_stream(b), norm_of(c), c->out, c->in[0], c->in[1], c->in[2]));
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

#define NORM(NAME)                                                                                           \
    CUDA_LIST(NAME, .takes = cuda_needs_f32, .run = run_norm);                                               \
    CUDA_LIST(NAME##_grad_x, .takes = cuda_needs_f32, .run = run_norm_grad_x);                               \
    CUDA_LIST(NAME##_grad_w, .takes = cuda_needs_f32, .prepare = prepare_norm_grad_w, .run = run_norm_grad_w);

NORM(group_norm)
NORM(layer_norm)

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

/* ---- attention ---- */

static const char *takes_attention(const struct nn_node *y)
{
    att_shape s = att_shape_of(y);

    if (s.d > CUDA_HEAD_MOST)
        return "needs heads at most 512 wide";
    if (s.n * s.heads > CUDA_ATT_GRID_MOST || s.tq > INT_MAX / 2 || s.tk > INT_MAX / 2 || s.c > INT_MAX / 2)
        return "needs at most 65535 heads of all samples together";
    return cuda_needs_f32(y);
}

static cuda_att att_of(const nn_call *c)
{
    att_shape s = att_shape_of(c->y);

    return (cuda_att){(int)s.n, (int)s.heads, (int)s.tq, (int)s.tk, (int)s.d, (int)s.c, s.causal};
}

static int run_attention(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_attention(cuda_stream(b), att_of(c), c->out, c->in[0], c->in[1], c->in[2]));
}

static int prepare_attention_grad(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    att_shape s = att_shape_of(c->y);

    (void)b, (void)frozen, (void)e;
    c->scratch_bytes = (size_t)(CUDA_ATT_STATS * s.n * s.heads * s.tq) * sizeof(float);
    return 0;
}

static int run_attention_grad(nn_backend *b, const nn_call *c)
{
    float *dq = c->out, *dk = dq + nn_count(c->y->src[0]->shape), *dv = dk + nn_count(c->y->src[1]->shape);

    return cuda_ran(k_attention_grad(cuda_stream(b), att_of(c), dq, dk, dv, c->in[0], c->in[1], c->in[2], c->in[3],
                                     c->in[4], c->scratch));
}

CUDA_LIST(attention, .takes = takes_attention, .run = run_attention);
CUDA_LIST(attention_grad, .takes = takes_attention, .prepare = prepare_attention_grad, .run = run_attention_grad);
