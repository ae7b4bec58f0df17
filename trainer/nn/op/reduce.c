/* Sums over dimensions and their opposite, repetition. Each is the other's gradient. */
#include "trainer/nn/node.h"

static int sum_to_shape(struct nn_node *y, err *e)
{
    nn_shape x = y->src[0]->shape;
    char a[64], b[64];

    if (!nn_broadcasts(x, y->shape))
        return nn_shape_fail(y, e, "%s does not sum to %s", nn_shape_text(x, a), nn_shape_text(y->shape, b));
    y->type = y->src[0]->type;
    return 0;
}

static int expand_shape(struct nn_node *y, err *e)
{
    nn_shape x = y->src[0]->shape;
    char a[64], b[64];

    if (!nn_broadcasts(y->shape, x))
        return nn_shape_fail(y, e, "%s does not repeat into %s", nn_shape_text(x, a), nn_shape_text(y->shape, b));
    y->type = y->src[0]->type;
    return 0;
}

static void sum_to_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_expand(g, dy, y->src[0]->shape);
}

static void expand_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_sum_to(g, dy, y->src[0]->shape);
}

const nn_op nn_op_sum_to = {.id = NN_OP_sum_to, .name = "sum_to", .shape = sum_to_shape, .grad = sum_to_grad};
const nn_op nn_op_expand = {.id = NN_OP_expand, .name = "expand", .shape = expand_shape, .grad = expand_grad};

/* Dimensions of 1 that come or go are a change of name only. */
nn_tensor nn_sum_to(nn_graph *g, nn_tensor x, nn_shape s)
{
    if (nn_broadcasts(x->shape, s) && nn_count(x->shape) == nn_count(s))
        return nn_reshape(g, x, s);
    return nn_make(g, (struct nn_node){.op = &nn_op_sum_to, .src = {x}, .shape = s});
}

/* A constant repeated is a larger constant: a loss of 1 goes back through its sums for nothing. */
nn_tensor nn_expand(nn_graph *g, nn_tensor x, nn_shape s)
{
    if (nn_broadcasts(s, x->shape) && nn_count(x->shape) == nn_count(s))
        return nn_reshape(g, x, s);
    if (nn_broadcasts(s, x->shape) && x->op == &nn_op_fill && !nn_is_mistake(g, x))
        return nn_fill(g, s, x->at.scale);
    return nn_make(g, (struct nn_node){.op = &nn_op_expand, .src = {x}, .shape = s});
}

/* ---- sum of squares ---- */

static int one_number(struct nn_node *y, err *e)
{
    (void)e;
    y->shape = NN_SHAPE(1);
    y->type = F32;
    return 0;
}

static void sum_squares_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_scale(g, nn_mul(g, y->src[0], dy), 2.0f);
}

const nn_op nn_op_sum_squares = {
    .id = NN_OP_sum_squares, .name = "sum_squares", .shape = one_number, .grad = sum_squares_grad};

nn_tensor nn_sum_squares(nn_graph *g, nn_tensor x)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_sum_squares, .src = {x}});
}
