/* Reverse accumulation (Linnainmaa 1970), written as graph. One walk forwards marks what depends on wrt; one walk
 * backwards from the loss asks each marked operation's rule for the gradients of its marked sources and adds up what
 * flows into each node. Frozen weights, and what lies before everything trained, cost nothing. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/node.h"

static bool depends(nn_tensor y, const bool *wanted)
{
    for (int i = 0; i < NN_MAX_SRC; i++)
        if (y->src[i] && wanted[y->src[i]->id])
            return true;
    return false;
}

static bool *mark_wanted(const nn_graph *g, const nn_tensor wrt[], int n, int nodes)
{
    bool *wanted = NEW_N(bool, nodes + 1);

    for (int i = 0; i < n; i++)
        wanted[wrt[i]->id] = true;
    for (int id = 0; id < nodes; id++) {
        nn_tensor y = nn_node_at(g, id);
        wanted[id] = wanted[id] || (!y->op->stops && depends(y, wanted));
    }
    return wanted;
}

/* dy flows through y into those of its sources that are wanted. */
static void step_back(nn_graph *g, nn_tensor y, const bool *wanted, nn_tensor *d)
{
    nn_tensor dx[NN_MAX_SRC] = {NULL};
    bool want[NN_MAX_SRC] = {false};

    for (int i = 0; i < NN_MAX_SRC; i++)
        want[i] = y->src[i] && wanted[y->src[i]->id];
    if (!y->op->grad) {
        nn_mistake(g, "%s: no gradient flows through it", y->op->name);
        return;
    }
    y->op->grad(g, y, d[y->id], want, dx);
    for (int i = 0; i < NN_MAX_SRC; i++) {
        if (!want[i] || !dx[i])
            continue;
        nn_tensor *sum = &d[y->src[i]->id];
        *sum = *sum ? nn_add(g, *sum, dx[i]) : dx[i];
    }
}

static void walk_back(nn_graph *g, nn_tensor loss, const bool *wanted, nn_tensor *d)
{
    for (int id = loss->id; id >= 0; id--) {
        nn_tensor y = nn_node_at(g, id);
        if (!d[id] || y->op->stops || !depends(y, wanted))
            continue;
        const char *scope = nn_scope_set(g, y->scope);
        step_back(g, y, wanted, d);
        nn_scope_set(g, scope);
    }
}

static int check_seed(nn_tensor loss, nn_tensor seed, err *e)
{
    char a[64], b[64];

    if (!seed && nn_count(loss->shape) != 1)
        return err_set(e, ERR_SHAPE, "a loss is one number, this one is %s", nn_shape_text(loss->shape, a));
    if (seed && !nn_same_shape(seed->shape, loss->shape))
        return err_set(e, ERR_SHAPE, "seed %s of a loss %s", nn_shape_text(seed->shape, a),
                       nn_shape_text(loss->shape, b));
    return 0;
}

int nn_backward(nn_graph *g, nn_tensor loss, nn_tensor seed, const nn_tensor wrt[], nn_tensor grad[], int n, err *e)
{
    TRY(nn_check(g, e));
    TRY(check_seed(loss, seed, e));
    int nodes = nn_node_count(g);
    bool *wanted = mark_wanted(g, wrt, n, nodes);
    nn_tensor *d = NEW_N(nn_tensor, nodes + 1);

    d[loss->id] = seed ? seed : nn_fill(g, loss->shape, 1.0f);
    walk_back(g, loss, wanted, d);
    for (int i = 0; i < n; i++)
        grad[i] = d[wrt[i]->id] ? d[wrt[i]->id] : nn_zeros(g, wrt[i]->shape);
    free(wanted);
    free(d);
    return nn_check(g, e);
}
