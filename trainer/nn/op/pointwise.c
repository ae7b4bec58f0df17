/* Operations on each element by itself: sums and products with broadcasting, activations, casts. */
#include "trainer/nn/node.h"

static int like_first(struct nn_node *y, err *e)
{
    (void)e;
    y->shape = y->src[0]->shape;
    y->type = y->src[0]->type;
    return 0;
}

/* ---- add, sub, mul: the second operand is repeated where it has 1 or nothing ---- */

static int broadcast(struct nn_node *y, err *e)
{
    nn_tensor a = y->src[0], b = y->src[1];
    char ta[64], tb[64];

    if (!nn_broadcasts(a->shape, b->shape))
        return nn_shape_fail(y, e, "%s beside %s", nn_shape_text(a->shape, ta), nn_shape_text(b->shape, tb));
    if (a->type != b->type)
        return nn_shape_fail(y, e, "%s beside %s", dtype_name(a->type), dtype_name(b->type));
    return like_first(y, e);
}

static void add_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    if (want[0])
        dx[0] = dy;
    if (want[1])
        dx[1] = nn_sum_to(g, dy, y->src[1]->shape);
}

static void sub_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    if (want[0])
        dx[0] = dy;
    if (want[1])
        dx[1] = nn_scale(g, nn_sum_to(g, dy, y->src[1]->shape), -1.0f);
}

static void mul_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    if (want[0])
        dx[0] = nn_mul(g, dy, y->src[1]);
    if (want[1])
        dx[1] = nn_sum_to(g, nn_mul(g, dy, y->src[0]), y->src[1]->shape);
}

const nn_op nn_op_add = {.id = NN_OP_add, .name = "add", .shape = broadcast, .grad = add_grad};
const nn_op nn_op_sub = {.id = NN_OP_sub, .name = "sub", .shape = broadcast, .grad = sub_grad};
const nn_op nn_op_mul = {.id = NN_OP_mul, .name = "mul", .shape = broadcast, .grad = mul_grad};

static nn_tensor two(nn_graph *g, const nn_op *op, nn_tensor a, nn_tensor b)
{
    return nn_make(g, (struct nn_node){.op = op, .src = {a, b}});
}

nn_tensor nn_add(nn_graph *g, nn_tensor a, nn_tensor b)
{
    return two(g, &nn_op_add, a, b);
}

nn_tensor nn_sub(nn_graph *g, nn_tensor a, nn_tensor b)
{
    return two(g, &nn_op_sub, a, b);
}

nn_tensor nn_mul(nn_graph *g, nn_tensor a, nn_tensor b)
{
    return two(g, &nn_op_mul, a, b);
}

/* ---- scale ---- */

static void scale_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_scale(g, dy, y->at.scale);
}

const nn_op nn_op_scale = {.id = NN_OP_scale, .name = "scale", .shape = like_first, .grad = scale_grad};

nn_tensor nn_scale(nn_graph *g, nn_tensor x, float by)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_scale, .src = {x}, .at.scale = by});
}

/* ---- activations: NAME_grad (x, dy) = dy * NAME'(x) ---- */

#define ACTIVATION(NAME)                                                                                     \
    static void NAME##_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])       \
    {                                                                                                        \
        (void)want;                                                                                          \
        dx[0] = two(g, &nn_op_##NAME##_grad, y->src[0], dy);                                                 \
    }                                                                                                        \
    const nn_op nn_op_##NAME = {.id = NN_OP_##NAME, .name = #NAME, .shape = like_first, .grad = NAME##_grad}; \
    const nn_op nn_op_##NAME##_grad = {.id = NN_OP_##NAME##_grad, .name = #NAME "_grad", .shape = like_first}; \
    nn_tensor nn_##NAME(nn_graph *g, nn_tensor x)                                                            \
    {                                                                                                        \
        return nn_make(g, (struct nn_node){.op = &nn_op_##NAME, .src = {x}});                                \
    }

ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(quick_gelu)
ACTIVATION(relu)

/* ---- geglu (Shazeer 2020): half as wide as its source ---- */

static int half_as_wide(struct nn_node *y, err *e)
{
    nn_shape s = y->src[0]->shape;
    char text[64];

    if (s.n == 0 || s.d[s.n - 1] % 2 != 0)
        return nn_shape_fail(y, e, "%s has no two halves in its last dimension", nn_shape_text(s, text));
    s.d[s.n - 1] /= 2;
    y->shape = s;
    y->type = y->src[0]->type;
    return 0;
}

static void geglu_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = two(g, &nn_op_geglu_grad, y->src[0], dy);
}

const nn_op nn_op_geglu = {.id = NN_OP_geglu, .name = "geglu", .shape = half_as_wide, .grad = geglu_grad};
const nn_op nn_op_geglu_grad = {.id = NN_OP_geglu_grad, .name = "geglu_grad", .shape = like_first};

nn_tensor nn_geglu(nn_graph *g, nn_tensor x)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_geglu, .src = {x}});
}

/* ---- cast ---- */

static bool is_float(dtype t)
{
    return t == F32 || t == BF16 || t == F16;
}

static int cast_shape(struct nn_node *y, err *e)
{
    if (!is_float(y->type) || !is_float(y->src[0]->type))
        return nn_shape_fail(y, e, "%s to %s", dtype_name(y->src[0]->type), dtype_name(y->type));
    y->shape = y->src[0]->shape;
    return 0;
}

static void cast_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    (void)want;
    dx[0] = nn_cast(g, dy, y->src[0]->type);
}

const nn_op nn_op_cast = {.id = NN_OP_cast, .name = "cast", .shape = cast_shape, .grad = cast_grad};

nn_tensor nn_cast(nn_graph *g, nn_tensor x, dtype t)
{
    return x->type == t ? x : nn_make(g, (struct nn_node){.op = &nn_op_cast, .src = {x}, .type = t});
}
