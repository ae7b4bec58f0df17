/* Two-dimensional convolution (cross-correlation, as every deep-learning framework has it) of maps [n,h,w,c] with
 * kernels [o,kh,kw,c], and its two gradients, which are operations of their own:
 *
 *   y[n,i,j,o]    = bias[o] + sum_{r,s,c} x[n, i*stride + r - top, j*stride + s - left, c] * w[o,r,s,c]
 *
 * with zeros read outside x. */
#include "trainer/nn/node.h"

static int64_t out_size(int64_t in, int kernel, int before, int after, int stride)
{
    return in + before + after < kernel ? 0 : (in + before + after - kernel) / stride + 1;
}

/* The shape of y for these x and w, or a sentence why there is none. */
static int conv_out(const struct nn_node *y, nn_shape x, nn_shape w, nn_conv at, nn_shape *out, err *e)
{
    char tx[64], tw[64];

    if (x.n != 4 || w.n != 4 || x.d[3] != w.d[3])
        return nn_shape_fail(y, e, "map %s with kernels %s", nn_shape_text(x, tx), nn_shape_text(w, tw));
    if (at.stride < 1 || at.pad[0] < 0 || at.pad[1] < 0 || at.pad[2] < 0 || at.pad[3] < 0)
        return nn_shape_fail(y, e, "stride %d, padding %d %d %d %d", at.stride, at.pad[0], at.pad[1], at.pad[2],
                             at.pad[3]);
    int64_t h = out_size(x.d[1], (int)w.d[1], at.pad[0], at.pad[2], at.stride);
    int64_t v = out_size(x.d[2], (int)w.d[2], at.pad[1], at.pad[3], at.stride);
    if (h < 1 || v < 1)
        return nn_shape_fail(y, e, "map %s is smaller than kernels %s", nn_shape_text(x, tx), nn_shape_text(w, tw));
    *out = NN_SHAPE(x.d[0], h, v, w.d[0]);
    return 0;
}

static int conv2d_shape(struct nn_node *y, err *e)
{
    char text[64];

    TRY(conv_out(y, y->src[0]->shape, y->src[1]->shape, y->at.conv, &y->shape, e));
    if (y->src[2] && !nn_same_shape(y->src[2]->shape, NN_SHAPE(y->shape.d[3])))
        return nn_shape_fail(y, e, "bias %s beside %lld channels", nn_shape_text(y->src[2]->shape, text),
                             (long long)y->shape.d[3]);
    y->type = y->src[0]->type;
    return 0;
}

/* dy must be what x and w would have given. */
static int check_dy(const struct nn_node *y, nn_shape x, nn_shape w, nn_shape dy, err *e)
{
    nn_shape out;
    char ta[64], tb[64];

    TRY(conv_out(y, x, w, y->at.conv, &out, e));
    if (!nn_same_shape(out, dy))
        return nn_shape_fail(y, e, "gradient %s of a result %s", nn_shape_text(dy, ta), nn_shape_text(out, tb));
    return 0;
}

static int conv2d_grad_x_shape(struct nn_node *y, err *e)
{
    y->type = y->src[0]->type;
    return check_dy(y, y->shape, y->src[1]->shape, y->src[0]->shape, e);
}

static int conv2d_grad_w_shape(struct nn_node *y, err *e)
{
    y->type = y->src[0]->type;
    return check_dy(y, y->src[0]->shape, y->shape, y->src[1]->shape, e);
}

static void conv2d_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC],
                        nn_tensor dx[NN_MAX_SRC])
{
    nn_tensor x = y->src[0], w = y->src[1];

    if (want[0])
        dx[0] = nn_make(g, (struct nn_node){
            .op = &nn_op_conv2d_grad_x, .shape = x->shape, .src = {dy, w}, .at.conv = y->at.conv});
    if (want[1])
        dx[1] = nn_make(g, (struct nn_node){
            .op = &nn_op_conv2d_grad_w, .shape = w->shape, .src = {x, dy}, .at.conv = y->at.conv});
    if (want[2])
        dx[2] = nn_sum_to(g, dy, y->src[2]->shape);
}

const nn_op nn_op_conv2d = {.id = NN_OP_conv2d, .name = "conv2d", .shape = conv2d_shape, .grad = conv2d_grad};
const nn_op nn_op_conv2d_grad_x = {
    .id = NN_OP_conv2d_grad_x, .name = "conv2d_grad_x", .shape = conv2d_grad_x_shape};
const nn_op nn_op_conv2d_grad_w = {
    .id = NN_OP_conv2d_grad_w, .name = "conv2d_grad_w", .shape = conv2d_grad_w_shape};

nn_tensor nn_conv2d(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, nn_conv at)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_conv2d, .src = {x, w, bias}, .at.conv = at});
}
