/* The squared error of each sample, with a mask that says where it counts. */
#include "trainer/nn/node.h"

/* A mask has one number where a and b have their last dimension. */
static int check_pair(const struct nn_node *y, err *e)
{
    nn_tensor a = y->src[0], b = y->src[1], mask = y->src[2];
    nn_shape inner = a->shape;
    char ta[64], tb[64];

    if (a->shape.n < 2 || !nn_same_shape(a->shape, b->shape) || a->type != F32 || b->type != F32)
        return nn_shape_fail(y, e, "%s %s beside %s %s", dtype_name(a->type), nn_shape_text(a->shape, ta),
                             dtype_name(b->type), nn_shape_text(b->shape, tb));
    inner.n--;
    if (mask && (!nn_same_shape(mask->shape, inner) || mask->type != F32))
        return nn_shape_fail(y, e, "mask %s over %s", nn_shape_text(mask->shape, tb), nn_shape_text(a->shape, ta));
    return 0;
}

static int error_shape(struct nn_node *y, err *e)
{
    TRY(check_pair(y, e));
    y->shape = NN_SHAPE(y->src[0]->shape.d[0]);
    y->type = F32;
    return 0;
}

static int error_grad_shape(struct nn_node *y, err *e)
{
    TRY(check_pair(y, e));
    y->shape = y->src[0]->shape;
    y->type = F32;
    return 0;
}

/* d sum(mask (a - b)^2) / da = 2 mask (a - b), and its negative for b. */
static void error_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    nn_tensor da = nn_make(
        g, (struct nn_node){.op = &nn_op_squared_error_grad, .src = {y->src[0], y->src[1], y->src[2], dy}});

    if (want[0])
        dx[0] = da;
    if (want[1])
        dx[1] = nn_scale(g, da, -1.0f);
    if (want[2])
        dx[2] = nn_mistake(g, "squared_error: a mask is given, not learned");
}

const nn_op nn_op_squared_error = {
    .id = NN_OP_squared_error, .name = "squared_error", .shape = error_shape, .grad = error_grad};
const nn_op nn_op_squared_error_grad = {
    .id = NN_OP_squared_error_grad, .name = "squared_error_grad", .shape = error_grad_shape};

nn_tensor nn_squared_error(nn_graph *g, nn_tensor a, nn_tensor b, nn_tensor mask)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_squared_error, .src = {a, b, mask}});
}
