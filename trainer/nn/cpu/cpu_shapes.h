#ifndef CPU_SHAPES_H
#define CPU_SHAPES_H
/* The sizes of a product, a convolution, a norm and an attention, read once from a node, for every kernel of theirs. */
#include "trainer/nn/node.h"

/* y [batch,m,n] = a [batch,m,k] b [batch,k,n]; element (i,k) of a lies at i * a_row + k * a_col. */
typedef struct {
    int64_t batch, m, n, k;
    int64_t a_row, a_col, b_row, b_col;
    bool ta, tb;
} mat_shape;

static inline mat_shape mat_shape_of(nn_tensor y)
{
    nn_shape a = y->src[0]->shape, out = y->shape;
    mat_shape s = {.batch = out.n == 3 ? out.d[0] : 1, .m = out.d[out.n - 2], .n = out.d[out.n - 1],
                   .ta = y->at.mat.ta, .tb = y->at.mat.tb};

    s.k = a.d[a.n - (s.ta ? 2 : 1)];
    s.a_row = s.ta ? 1 : s.k;
    s.a_col = s.ta ? s.m : 1;
    s.b_row = s.tb ? 1 : s.n;
    s.b_col = s.tb ? s.k : 1;
    return s;
}

/* Forward and both gradients speak of the same x [n,h,w,c], weights [o,kh,kw,c] and y [n,oh,ow,o]. */
typedef struct {
    int64_t n, h, w, c, o, kh, kw, oh, ow;
    int64_t stride, top, left, bottom, right;
} conv_shape;

static inline conv_shape conv_shape_from(nn_shape x, nn_shape w, nn_shape y, nn_conv at)
{
    return (conv_shape){.n = x.d[0], .h = x.d[1], .w = x.d[2], .c = x.d[3], .o = w.d[0], .kh = w.d[1], .kw = w.d[2],
                        .oh = y.d[1], .ow = y.d[2], .stride = at.stride, .top = at.pad[0], .left = at.pad[1],
                        .bottom = at.pad[2], .right = at.pad[3]};
}

static inline conv_shape conv_shape_of(nn_tensor y)
{
    nn_shape a = y->src[0]->shape, b = y->src[1]->shape;

    switch (y->op->id) {
    case NN_OP_conv2d_grad_x: return conv_shape_from(y->shape, b, a, y->at.conv); /* dy, w */
    case NN_OP_conv2d_grad_w: return conv_shape_from(a, y->shape, b, y->at.conv); /* x, dy */
    default: return conv_shape_from(a, b, y->shape, y->at.conv);                  /* x, w */
    }
}

/* x is `samples` times `pixels` rows of c channels; a layer norm is one where every row is its own sample and the
 * channels are one group. */
typedef struct { int64_t samples, pixels, c, groups; float eps; } norm_shape;

static inline norm_shape norm_shape_of(nn_tensor y)
{
    nn_shape x = y->src[0]->shape;
    int64_t c = x.d[x.n - 1];

    if (y->at.norm.groups > 0)
        return (norm_shape){x.d[0], x.d[1] * x.d[2], c, y->at.norm.groups, y->at.norm.eps};
    return (norm_shape){nn_count(x) / c, 1, c, 1, y->at.norm.eps}; /* a layer norm says no groups */
}

/* n samples of `heads` heads: tq queries, tk keys and values, each d numbers wide and c = heads * d apart. */
typedef struct { int64_t n, heads, tq, tk, d, c; bool causal; } att_shape;

static inline att_shape att_shape_of(nn_tensor y)
{
    nn_shape q = y->src[0]->shape, k = y->src[1]->shape;
    int heads = y->at.norm.heads;

    return (att_shape){q.d[0], heads, q.d[1], k.d[1], q.d[2] / heads, q.d[2], y->at.norm.causal};
}
#endif
