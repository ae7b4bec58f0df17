/* What changes weights. */
#include "trainer/nn/node.h"

static bool is_state_of(nn_tensor t, nn_shape s)
{
    nn_tensor whole = t->op == &nn_op_view ? t->src[0] : t; /* neighbouring concepts of a pack */

    return whole->op == &nn_op_state && nn_same_shape(t->shape, s);
}

int64_t nn_moments8(int64_t count)
{
    return count / 4 + (count + NN_MOMENT_BLOCK - 1) / NN_MOMENT_BLOCK;
}

static int adamw_shape(struct nn_node *y, err *e)
{
    nn_tensor w = y->src[0], d = y->src[3], hyper = y->src[4], base = y->src[5];
    nn_shape s = w->shape, stored = s, moments;
    char a[64], b[64];

    if (s.n == 2 && d->shape.n == 2 && d->shape.d[1] == 2 * s.d[1])
        s.d[1] *= 2;
    moments = s;
    if (s.n == 2 && s.d[1] % 4 == 0 && !nn_same_shape(y->src[1]->shape, s))
        moments.d[1] = nn_moments8(s.d[1]);
    if (s.n != 2 || !is_state_of(w, stored) || !is_state_of(y->src[1], moments) || !is_state_of(y->src[2], moments))
        return nn_shape_fail(y, e, "w, m and v must be states of one shape [concepts, count]");
    if (!nn_same_shape(d->shape, s) || (base && !nn_same_shape(base->shape, s)))
        return nn_shape_fail(y, e, "gradient %s of weights %s", nn_shape_text(d->shape, a), nn_shape_text(s, b));
    if (!nn_same_shape(hyper->shape, NN_SHAPE(s.d[0], NN_ADAMW_HYPER)))
        return nn_shape_fail(y, e, "settings %s of %lld concepts", nn_shape_text(hyper->shape, a), (long long)s.d[0]);
    y->shape = stored;
    y->type = F32;
    return 0;
}

static int clip_shape(struct nn_node *y, err *e)
{
    nn_tensor hyper = y->src[0], norm2 = y->src[1], losses = y->src[2];
    int64_t concepts = hyper->shape.d[0];
    char a[64], b[64];

    if (!nn_same_shape(hyper->shape, NN_SHAPE(concepts, NN_ADAMW_HYPER)))
        return nn_shape_fail(y, e, "settings %s", nn_shape_text(hyper->shape, a));
    if (!nn_same_shape(norm2->shape, NN_SHAPE(concepts)) || losses->shape.n != 2 || losses->shape.d[0] != concepts)
        return nn_shape_fail(y, e, "norms %s and losses %s of %lld concepts", nn_shape_text(norm2->shape, a),
                             nn_shape_text(losses->shape, b), (long long)concepts);
    y->shape = hyper->shape;
    y->type = F32;
    return 0;
}

const nn_op nn_op_clip = {.id = NN_OP_clip, .name = "clip", .shape = clip_shape};
const nn_op nn_op_adamw = {.id = NN_OP_adamw, .name = "adamw", .shape = adamw_shape, .in_place = true};

nn_tensor nn_adamw(nn_graph *g, nn_tensor w, nn_tensor m, nn_tensor v, nn_tensor d, nn_tensor hyper, nn_tensor base)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_adamw, .src = {w, m, v, d, hyper, base}});
}

nn_tensor nn_clip(nn_graph *g, nn_tensor hyper, nn_tensor norm2, nn_tensor losses)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_clip, .src = {hyper, norm2, losses}});
}
