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
static nn_tensor leaf_once(nn_graph *g, const nn_op *op, const char *name, dtype t, nn_shape s, int slot)
{
    nn_tensor old = nn_leaf_find(g, op, name);
    char a[64], b[64];

    if (!old)
        return nn_make(g, (struct nn_node){.op = op, .name = name, .type = t, .shape = s, .at.slot = slot});
    if (nn_same_shape(old->shape, s))
        return old;
    return nn_mistake(g, "%s is asked for as %s and as %s", name, nn_shape_text(old->shape, a), nn_shape_text(s, b));
}

/* [slots, count] -> [width, count of one] -> [width, ...], under the parameter's name. */
static nn_tensor packed(nn_graph *g, const nn_pack *by, const char *name, size_t at, nn_shape s)
{
    nn_tensor block = nn_state(g, "train.w", NN_SHAPE(by->slots, by->count));
    nn_tensor rows = nn_view(g, block, by->first * by->count, NN_SHAPE(by->width, by->count));
    nn_tensor part = nn_slice(g, rows, 1, (int64_t)at, nn_count(s));
    nn_shape all = {.n = s.n + 1, .d = {by->width}};

    for (int i = 0; i < s.n; i++)
        all.d[i + 1] = s.d[i];
    return nn_make(g, (struct nn_node){.op = &nn_op_reshape, .src = {part}, .name = name, .type = F32, .shape = all});
}

/* As f32, under the parameter's name: gradients are those of what was widened. */
static nn_tensor widened(nn_graph *g, const char *name, nn_shape s, int slot)
{
    nn_tensor x = leaf_once(g, &nn_op_param, name, BF16, s, slot), old = nn_leaf_find(g, &nn_op_cast, name);

    if (nn_is_mistake(g, x) || old)
        return old ? old : x;
    return nn_make(g, (struct nn_node){.op = &nn_op_cast, .src = {x}, .name = name, .type = F32});
}

static nn_tensor param(nn_graph *g, const char *full, nn_shape s)
{
    const nn_pack *by = nn_pack_of(g);
    nn_tensor old = nn_param_find(g, full);
    size_t at;

    if (by->width == 1 && by->narrow && by->at(by->arg, full, &at))
        return widened(g, full, s, by->first + 1);
    if (by->width < 2 || !by->at(by->arg, full, &at))
        return leaf_once(g, &nn_op_param, full, F32, s, by->width == 1 ? by->first + 1 : 0);
    if (s.n >= NN_MAX_DIM || (old && nn_count(old->shape) != by->width * nn_count(s)))
        return nn_mistake(g, "%s is trained in a pack and cannot be asked for in this shape", full);
    return old ? old : packed(g, by, full, at, s);
}

nn_tensor nn_param(nn_graph *g, const char *name, nn_shape s)
{
    const char *scope = nn_scope(g);
    str full = {0};

    str_add(&full, "%s%s%s", scope, scope[0] ? "." : "", name);
    nn_tensor y = param(g, full.at, s);
    str_free(&full);
    return y;
}

nn_tensor nn_param_find(const nn_graph *g, const char *name)
{
    static const nn_op *const by[] = {&nn_op_cast, &nn_op_param, &nn_op_reshape};
    nn_tensor y = NULL;

    for (size_t i = 0; i < sizeof by / sizeof *by && !y; i++)
        y = nn_leaf_find(g, by[i], name);
    return y;
}

nn_tensor nn_state(nn_graph *g, const char *name, nn_shape s)
{
    return leaf_once(g, &nn_op_state, name, F32, s, 0);
}

nn_tensor nn_fill(nn_graph *g, nn_shape s, float value)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_fill, .type = F32, .shape = s, .at.scale = value});
}

nn_tensor nn_zeros(nn_graph *g, nn_shape s)
{
    return nn_fill(g, s, 0.0f);
}
