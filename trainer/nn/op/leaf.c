/* Leaves: what a graph is given. Their shape and type stand before any rule is asked. */
#include "cluster/base/str.h"
#include "trainer/nn/node.h"

static int as_declared(struct nn_node *y, err *e)
{
    (void)y;
    (void)e;
    return 0;
}

const nn_op nn_op_input = {.id = NN_OP_input, .name = "input", .shape = as_declared};
const nn_op nn_op_param = {.id = NN_OP_param, .name = "param", .shape = as_declared};
const nn_op nn_op_state = {.id = NN_OP_state, .name = "state", .shape = as_declared};
const nn_op nn_op_fill = {.id = NN_OP_fill, .name = "fill", .shape = as_declared};

nn_tensor nn_input(nn_graph *g, const char *name, dtype t, nn_shape s)
{
    if (nn_leaf_find(g, &nn_op_input, name))
        return nn_mistake(g, "two inputs are called %s", name);
    return nn_make(g, (struct nn_node){.op = &nn_op_input, .name = name, .type = t, .shape = s});
}

/* One name is one node: what is trained gets one gradient, however often it is used. */
static nn_tensor leaf_once(nn_graph *g, const nn_op *op, const char *name, nn_shape s)
{
    nn_tensor old = nn_leaf_find(g, op, name);
    char a[64], b[64];

    if (!old)
        return nn_make(g, (struct nn_node){.op = op, .name = name, .type = F32, .shape = s});
    if (nn_same_shape(old->shape, s))
        return old;
    return nn_mistake(g, "%s is asked for as %s and as %s", name, nn_shape_text(old->shape, a), nn_shape_text(s, b));
}

nn_tensor nn_param(nn_graph *g, const char *name, nn_shape s)
{
    const char *scope = nn_scope(g);
    str full = {0};

    str_add(&full, "%s%s%s", scope, scope[0] ? "." : "", name);
    nn_tensor y = leaf_once(g, &nn_op_param, full.at, s);
    str_free(&full);
    return y;
}

nn_tensor nn_param_find(const nn_graph *g, const char *name)
{
    return nn_leaf_find(g, &nn_op_param, name);
}

nn_tensor nn_state(nn_graph *g, const char *name, nn_shape s)
{
    return leaf_once(g, &nn_op_state, name, s);
}

nn_tensor nn_fill(nn_graph *g, nn_shape s, float value)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_fill, .type = F32, .shape = s, .at.scale = value});
}

nn_tensor nn_zeros(nn_graph *g, nn_shape s)
{
    return nn_fill(g, s, 0.0f);
}
