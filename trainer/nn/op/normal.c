/* Random numbers by their address. */
#include "trainer/nn/node.h"

/* The builder sets the shape but for the rows. */
static int normal_shape(struct nn_node *y, err *e)
{
    nn_tensor at = y->src[0];
    char text[64];

    if (at->type != I32 || at->shape.n != 2 || at->shape.d[1] != NN_STREAM)
        return nn_shape_fail(y, e, "%s %s where addresses are I32 [n,%d]", dtype_name(at->type),
                             nn_shape_text(at->shape, text), NN_STREAM);
    y->shape.d[0] = at->shape.d[0];
    y->type = F32;
    return 0;
}

const nn_op nn_op_normal = {.id = NN_OP_normal, .name = "normal", .shape = normal_shape};

nn_tensor nn_normal(nn_graph *g, nn_tensor at, nn_shape one)
{
    nn_shape all = {.n = one.n + 1};

    CHECK(one.n < NN_MAX_DIM);
    for (int i = 0; i < one.n; i++)
        all.d[i + 1] = one.d[i];
    return nn_make(g, (struct nn_node){.op = &nn_op_normal, .shape = all, .src = {at}});
}
