/* Group norm (Wu, He 2018) of maps [n,h,w,c] and layer norm (Ba, Kiros, Hinton 2016) of the last dimension:
 *
 *   xhat = (x - mean) / sqrt(variance + eps),  y = xhat w + bias
 *
 * mean and (biased) variance are those of one sample's group of channels, or of one row. Gradients, with
 * f = w dy and means m() over the same elements as above:
 *
 *   dx = (f - m(f) - xhat m(f xhat)) / sqrt(variance + eps),  dw = sum dy xhat,  dbias = sum dy
 *
 * A group norm followed by silu, u sigmoid(u), is an operation of its own: its gradient for x has f = w silu'(u) dy, with u made
 * anew of x, so that a pass keeps x alone. */
#include "trainer/nn/node.h"

static int64_t channels(nn_shape x)
{
    return x.d[x.n - 1];
}

static int check_affine(const struct nn_node *y, nn_tensor t, const char *what, err *e)
{
    int64_t c = channels(y->src[0]->shape);
    char text[64];

    if (nn_same_shape(t->shape, NN_SHAPE(c)))
        return 0;
    return nn_shape_fail(y, e, "%s %s beside %lld channels", what, nn_shape_text(t->shape, text), (long long)c);
}

static bool is_grouped(const struct nn_node *y)
{
    return y->op->id == NN_OP_group_norm || y->op->id == NN_OP_group_norm_silu;
}

/* x has channels, and for a group norm they fall into whole groups. */
static int check_x(const struct nn_node *y, nn_shape x, bool grouped, err *e)
{
    char text[64];

    if (x.n < 1 || (grouped && x.n != 4))
        return nn_shape_fail(y, e, "%s is no map [n,h,w,c]", nn_shape_text(x, text));
    if (grouped && (y->at.norm.groups < 1 || channels(x) % y->at.norm.groups != 0))
        return nn_shape_fail(y, e, "%lld channels do not fall into %d groups", (long long)channels(x),
                             y->at.norm.groups);
    return 0;
}

static int norm_shape(struct nn_node *y, err *e)
{
    TRY(check_x(y, y->src[0]->shape, is_grouped(y), e));
    TRY(check_affine(y, y->src[1], "weight", e));
    TRY(check_affine(y, y->src[2], "bias", e));
    y->shape = y->src[0]->shape;
    y->type = y->src[0]->type;
    return 0;
}

static int check_dy(const struct nn_node *y, nn_tensor x, nn_tensor dy, err *e)
{
    char ta[64], tb[64];

    if (nn_same_shape(x->shape, dy->shape))
        return 0;
    return nn_shape_fail(y, e, "gradient %s of a result %s", nn_shape_text(dy->shape, ta),
                         nn_shape_text(x->shape, tb));
}

static int norm_grad_x_shape(struct nn_node *y, err *e)
{
    TRY(check_x(y, y->src[0]->shape, y->op->id != NN_OP_layer_norm_grad_x, e));
    TRY(check_affine(y, y->src[1], "weight", e));
    if (y->src[3])
        TRY(check_affine(y, y->src[3], "bias", e));
    y->shape = y->src[0]->shape;
    y->type = y->src[0]->type;
    return check_dy(y, y->src[0], y->src[2], e);
}

static int norm_grad_w_shape(struct nn_node *y, err *e)
{
    TRY(check_x(y, y->src[0]->shape, y->op->id == NN_OP_group_norm_grad_w, e));
    y->shape = NN_SHAPE(2 * channels(y->src[0]->shape));
    y->type = y->src[0]->type;
    return check_dy(y, y->src[0], y->src[1], e);
}

static void write_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const nn_op *by_x, const nn_op *by_w,
                       const bool want[NN_MAX_SRC], nn_tensor dx[NN_MAX_SRC])
{
    nn_tensor x = y->src[0], w = y->src[1];
    nn_shape affine = w->shape;

    if (want[0])
        dx[0] = nn_make(g, (struct nn_node){.op = by_x, .src = {x, w, dy}, .at.norm = y->at.norm});
    if (!want[1] && !want[2])
        return;
    nn_tensor both = nn_make(g, (struct nn_node){.op = by_w, .src = {x, dy}, .at.norm = y->at.norm});
    dx[1] = want[1] ? nn_view(g, both, 0, affine) : NULL;
    dx[2] = want[2] ? nn_view(g, both, nn_count(affine), affine) : NULL;
}

static void group_norm_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC],
                            nn_tensor dx[NN_MAX_SRC])
{
    write_grad(g, y, dy, &nn_op_group_norm_grad_x, &nn_op_group_norm_grad_w, want, dx);
}

/* Who trains w or bias needs silu's slope by itself, at the norm's values. */
static void group_norm_silu_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC], nn_tensor dx[NN_MAX_SRC])
{
    const bool affine[NN_MAX_SRC] = {false, want[1], want[2]};
    nn_tensor x = y->src[0], w = y->src[1], bias = y->src[2];

    if (want[0])
        dx[0] = nn_make(g, (struct nn_node){.op = &nn_op_group_norm_silu_grad_x, .src = {x, w, dy, bias}, .at.norm = y->at.norm});
    if (!want[1] && !want[2])
        return;
    nn_tensor u = nn_make(g, (struct nn_node){.op = &nn_op_group_norm, .src = {x, w, bias}, .at.norm = y->at.norm});
    nn_tensor du = nn_make(g, (struct nn_node){.op = &nn_op_silu_grad, .src = {u, dy}});
    group_norm_grad(g, u, du, affine, dx);
}

static void layer_norm_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC],
                            nn_tensor dx[NN_MAX_SRC])
{
    write_grad(g, y, dy, &nn_op_layer_norm_grad_x, &nn_op_layer_norm_grad_w, want, dx);
}

const nn_op nn_op_group_norm = {
    .id = NN_OP_group_norm, .name = "group_norm", .shape = norm_shape, .grad = group_norm_grad};
const nn_op nn_op_group_norm_grad_x = {
    .id = NN_OP_group_norm_grad_x, .name = "group_norm_grad_x", .shape = norm_grad_x_shape};
const nn_op nn_op_group_norm_grad_w = {
    .id = NN_OP_group_norm_grad_w, .name = "group_norm_grad_w", .shape = norm_grad_w_shape};
const nn_op nn_op_group_norm_silu = {
    .id = NN_OP_group_norm_silu, .name = "group_norm_silu", .shape = norm_shape, .grad = group_norm_silu_grad};
const nn_op nn_op_group_norm_silu_grad_x = {
    .id = NN_OP_group_norm_silu_grad_x, .name = "group_norm_silu_grad_x", .shape = norm_grad_x_shape};
const nn_op nn_op_layer_norm = {
    .id = NN_OP_layer_norm, .name = "layer_norm", .shape = norm_shape, .grad = layer_norm_grad};
const nn_op nn_op_layer_norm_grad_x = {
    .id = NN_OP_layer_norm_grad_x, .name = "layer_norm_grad_x", .shape = norm_grad_x_shape};
const nn_op nn_op_layer_norm_grad_w = {
    .id = NN_OP_layer_norm_grad_w, .name = "layer_norm_grad_w", .shape = norm_grad_w_shape};

nn_tensor nn_group_norm(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, int groups, float eps)
{
    return nn_make(g, (struct nn_node){
        .op = &nn_op_group_norm, .src = {x, w, bias}, .at.norm = {.groups = groups, .eps = eps}});
}

nn_tensor nn_group_norm_silu(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, int groups, float eps)
{
    return nn_make(g, (struct nn_node){
        .op = &nn_op_group_norm_silu, .src = {x, w, bias}, .at.norm = {.groups = groups, .eps = eps}});
}

nn_tensor nn_layer_norm(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, float eps)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_layer_norm, .src = {x, w, bias}, .at.norm = {.eps = eps}});
}
