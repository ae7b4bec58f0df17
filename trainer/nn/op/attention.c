/* Scaled dot-product attention (Vaswani et al. 2017, 3.2): per head of width d = c / heads,
 *
 *   P = softmax(Q K' / sqrt(d)),  Y = P V
 *
 * q [n,tq,c], k and v [n,tk,c]; head h owns channels h*d .. (h+1)*d - 1. causal: query i sees keys 0..i. */
#include "trainer/nn/node.h"

static int check(const struct nn_node *y, err *e)
{
    nn_shape q = y->src[0]->shape, k = y->src[1]->shape, v = y->src[2]->shape;
    char tq[64], tk[64], tv[64];

    if (q.n != 3 || k.n != 3 || !nn_same_shape(k, v) || q.d[0] != k.d[0] || q.d[2] != k.d[2])
        return nn_shape_fail(y, e, "queries %s, keys %s, values %s", nn_shape_text(q, tq), nn_shape_text(k, tk),
                             nn_shape_text(v, tv));
    if (y->at.norm.heads < 1 || q.d[2] % y->at.norm.heads != 0)
        return nn_shape_fail(y, e, "%lld channels do not fall into %d heads", (long long)q.d[2], y->at.norm.heads);
    if (y->at.norm.causal && q.d[1] != k.d[1])
        return nn_shape_fail(y, e, "causal with %lld queries and %lld keys", (long long)q.d[1], (long long)k.d[1]);
    return 0;
}

static int attention_shape(struct nn_node *y, err *e)
{
    TRY(check(y, e));
    y->shape = y->src[0]->shape;
    y->type = y->src[0]->type;
    return 0;
}

static int attention_grad_shape(struct nn_node *y, err *e)
{
    nn_shape q = y->src[0]->shape;
    char ta[64], tb[64];

    TRY(check(y, e));
    for (int i = 3; i < 5; i++)
        if (!nn_same_shape(y->src[i]->shape, q))
            return nn_shape_fail(y, e, "%s of queries %s", nn_shape_text(y->src[i]->shape, ta), nn_shape_text(q, tb));
    y->shape = NN_SHAPE(nn_count(q) + 2 * nn_count(y->src[1]->shape));
    y->type = y->src[0]->type;
    return 0;
}

static void attention_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC],
                           nn_tensor dx[NN_MAX_SRC])
{
    nn_tensor q = y->src[0], k = y->src[1], v = y->src[2];
    int64_t nq = nn_count(q->shape), nk = nn_count(k->shape);

    nn_tensor all = nn_make(g, (struct nn_node){
        .op = &nn_op_attention_grad, .src = {q, k, v, y, dy}, .at.norm = y->at.norm});
    dx[0] = want[0] ? nn_view(g, all, 0, q->shape) : NULL;
    dx[1] = want[1] ? nn_view(g, all, nq, k->shape) : NULL;
    dx[2] = want[2] ? nn_view(g, all, nq + nk, v->shape) : NULL;
}

const nn_op nn_op_attention = {
    .id = NN_OP_attention, .name = "attention", .shape = attention_shape, .grad = attention_grad};
const nn_op nn_op_attention_grad = {
    .id = NN_OP_attention_grad, .name = "attention_grad", .shape = attention_grad_shape};

nn_tensor nn_attention(nn_graph *g, nn_tensor q, nn_tensor k, nn_tensor v, int heads, bool causal)
{
    return nn_make(g, (struct nn_node){
        .op = &nn_op_attention, .src = {q, k, v}, .at.norm = {.heads = heads, .causal = causal}});
}
