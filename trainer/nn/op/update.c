/* What changes weights. */
#include "trainer/nn/node.h"

static bool is_state_of(nn_tensor t, nn_shape s)
{
    nn_tensor whole = t->op == &nn_op_view ? t->src[0] : t; /* neighbouring concepts of a pack */

    return whole->op == &nn_op_state && nn_same_shape(t->shape, s);
}

static int adamw_shape(struct nn_node *y, err *e)
{
    nn_tensor w = y->src[0], d = y->src[3], hyper = y->src[4], base = y->src[5];
    nn_shape s = w->shape;
    char a[64], b[64];

    if (s.n != 2 || !is_state_of(w, s) || !is_state_of(y->src[1], s) || !is_state_of(y->src[2], s))
        return nn_shape_fail(y, e, "w, m and v must be states of one shape [concepts, count]");
    if (!nn_same_shape(d->shape, s) || (base && !nn_same_shape(base->shape, s)))
        return nn_shape_fail(y, e, "gradient %s of weights %s", nn_shape_text(d->shape, a), nn_shape_text(s, b));
    if (!nn_same_shape(hyper->shape, NN_SHAPE(s.d[0], NN_ADAMW_HYPER)))
        return nn_shape_fail(y, e, "settings %s of %lld concepts", nn_shape_text(hyper->shape, a), (long long)s.d[0]);
    y->shape = s;
    y->type = F32;
    return 0;
}

const nn_op nn_op_adamw = {.id = NN_OP_adamw, .name = "adamw", .shape = adamw_shape, .in_place = true};

nn_tensor nn_adamw(nn_graph *g, nn_tensor w, nn_tensor m, nn_tensor v, nn_tensor d, nn_tensor hyper, nn_tensor base)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_adamw, .src = {w, m, v, d, hyper, base}});
}
