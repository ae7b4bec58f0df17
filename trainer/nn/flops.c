/* Counting; see flops.h. share[id]: the part of a node's channels that needs a gradient. */
#include "trainer/nn/flops.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

/* ---- one operation ---- */

static double product(nn_tensor y)
{
    nn_shape a = y->src[0]->shape;

    return 2.0 * (double)nn_count(y->shape) * (double)a.d[a.n - (y->at.mat.ta ? 2 : 1)];
}

/* Every number of y is a sum over one kernel. */
static double convolution(nn_shape y, nn_shape w)
{
    return 2.0 * (double)nn_count(y) * (double)nn_count(w) / (double)w.d[0];
}

static double scores_and_values(nn_shape q, nn_shape k)
{
    return 4.0 * (double)nn_count(q) * (double)k.d[1];
}

static double forward_of(nn_tensor y)
{
    switch (y->op->id) {
    case NN_OP_matmul: return product(y);
    case NN_OP_conv2d: return convolution(y->shape, y->src[1]->shape);
    case NN_OP_attention: return scores_and_values(y->src[0]->shape, y->src[1]->shape);
    default: return 0;
    }
}

double nn_flops_of_call(nn_tensor y)
{
    switch (y->op->id) {
    case NN_OP_conv2d_grad_x: return convolution(y->src[0]->shape, y->src[1]->shape);
    case NN_OP_conv2d_grad_w: return convolution(y->src[1]->shape, y->shape);
    case NN_OP_attention_grad: return 2 * scores_and_values(y->src[0]->shape, y->src[1]->shape);
    default: return forward_of(y);
    }
}

/* ---- a graph ---- */

static double channels(nn_tensor t)
{
    return t->shape.n ? (double)t->shape.d[t->shape.n - 1] : 1;
}

static double share_of(nn_tensor y, const double *share)
{
    double most = 0;

    if (y->op->stops)
        return 0;
    if (y->op->id == NN_OP_concat)
        return (channels(y->src[0]) * share[y->src[0]->id] + channels(y->src[1]) * share[y->src[1]->id]) / channels(y);
    for (int i = 0; i < NN_MAX_SRC; i++)
        if (y->src[i] && share[y->src[i]->id] > most)
            most = share[y->src[i]->id];
    return most > 0 && forward_of(y) > 0 ? 1 : most; /* a product mixes all channels */
}

static void mark_needed(const nn_graph *g, nn_tensor out, bool *needed)
{
    needed[out->id] = true;
    for (int id = out->id; id >= 0; id--)
        for (int i = 0; needed[id] && i < NN_MAX_SRC; i++)
            if (nn_node_at(g, id)->src[i])
                needed[nn_node_at(g, id)->src[i]->id] = true;
}

/* The values' gradient, that of the weights, and from those the queries' and keys'. */
static double attention_back(nn_tensor y, const double *share)
{
    bool q = share[y->src[0]->id] > 0, k = share[y->src[1]->id] > 0, v = share[y->src[2]->id] > 0;

    return forward_of(y) / 2 * (v + (q || k) + q + k);
}

static void add_node(nn_flops *f, nn_tensor y, const double *share)
{
    double all = forward_of(y);
    nn_op_id op = y->op->id;

    f->forward += all;
    if (all == 0)
        return;
    if (op == NN_OP_attention) {
        f->rows += attention_back(y, share);
        return;
    }
    f->rows += all * share[y->src[0]->id];
    f->weights += share[y->src[1]->id] > 0 ? all : 0;
}

static bool is_in(nn_tensor y, const char *scope)
{
    size_t n = scope ? strlen(scope) : 0;

    return n == 0 || (strncmp(y->scope, scope, n) == 0 && (y->scope[n] == '.' || y->scope[n] == '\0'));
}

nn_flops nn_flops_of(const nn_graph *g, nn_tensor out, const nn_tensor wrt[], int n, const char *scope)
{
    double *share = NEW_N(double, out->id + 1);
    bool *needed = NEW_N(bool, out->id + 1);
    nn_flops f = {0};

    mark_needed(g, out, needed);
    for (int i = 0; i < n; i++)
        share[wrt[i]->id] = 1;
    for (int id = 0; id <= out->id; id++) {
        nn_tensor y = nn_node_at(g, id);
        if (share[id] == 0)
            share[id] = share_of(y, share);
        if (needed[id] && is_in(y, scope))
            add_node(&f, y, share);
    }
    free(share);
    free(needed);
    return f;
}
