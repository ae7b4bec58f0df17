/* Reverse accumulation (Linnainmaa 1970), written as graph. One walk forwards marks what depends on wrt; one walk
 * backwards from the loss asks each marked operation's rule for the gradients of its marked sources and adds up what
 * flows into each node. Frozen weights, and what lies before everything trained, cost nothing. */
#include <stdlib.h>
#include <string.h>

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

/* ---- values that are computed again ---- */

static bool is_leaf(nn_tensor y)
{
    for (int i = 0; i < NN_MAX_SRC; i++)
        if (y->src[i])
            return false;
    return true;
}

/* A weight of 16 bits as f32. To widen it again costs a pass over it; kept from the way there, all weights together would be
 * what 16 bits were to save. */
static bool is_widened(nn_tensor x)
{
    return x && x->op == &nn_op_cast && x->src[0]->op == &nn_op_param;
}

static nn_tensor written_again(nn_graph *g, struct nn_node copy)
{
    const char *before = nn_scope_set(g, copy.scope);

    copy.name = NULL;
    nn_tensor y = nn_make(g, copy);
    nn_scope_set(g, before);
    return y;
}

/* y, or where it reads such weights a copy that reads fresh ones. */
static nn_tensor with_weights_again(nn_graph *g, nn_tensor y)
{
    struct nn_node copy = *y;
    bool any = false;

    for (int i = 0; i < NN_MAX_SRC; i++)
        if (is_widened(y->src[i])) {
            copy.src[i] = written_again(g, *y->src[i]);
            any = true;
        }
    return any ? written_again(g, copy) : y;
}

static bool in_unit(const nn_graph *g, nn_tensor x, const char *scope, size_t n)
{
    return strncmp(x->scope, scope, n) == 0 && nn_unit_of(g, x->scope) == n;
}

/* Writes the unit's nodes once more, here, where they will run; what came into it from outside stays what it is. What no
 * gradient reads of the copy the plan leaves out. */
static void copy_unit(nn_graph *g, const char *scope, size_t n, nn_tensor *again, int nodes)
{
    for (int id = 0; id < nodes; id++) {
        nn_tensor x = nn_node_at(g, id);
        if (again[id] || is_leaf(x) || !in_unit(g, x, scope, n))
            continue;
        struct nn_node copy = *x;
        for (int i = 0; i < NN_MAX_SRC; i++)
            if (x->src[i] && again[x->src[i]->id] && in_unit(g, x->src[i], scope, n))
                copy.src[i] = again[x->src[i]->id];
        again[id] = written_again(g, copy);
    }
}

/* y as its gradient rule shall see it: itself, or its copy with the copies it is made of. */
static nn_tensor seen_again(nn_graph *g, nn_tensor y, nn_tensor *again, int nodes)
{
    size_t n = nn_unit_of(g, y->scope);

    if (n == 0)
        return with_weights_again(g, y);
    if (!again[y->id])
        copy_unit(g, y->scope, n, again, nodes);
    return again[y->id];
}

/* dy flows through y into those of its sources that are wanted. seen: y, or its copy. */
static void step_back(nn_graph *g, nn_tensor y, nn_tensor seen, const bool *wanted, nn_tensor *d)
{
    nn_tensor dx[NN_MAX_SRC] = {NULL};
    bool want[NN_MAX_SRC] = {false};

    for (int i = 0; i < NN_MAX_SRC; i++)
        want[i] = y->src[i] && wanted[y->src[i]->id];
    if (!y->op->grad) {
        nn_mistake(g, "%s: no gradient flows through it", y->op->name);
        return;
    }
    y->op->grad(g, seen, d[y->id], want, dx);
    for (int i = 0; i < NN_MAX_SRC; i++) {
        if (!want[i] || !dx[i])
            continue;
        nn_tensor *sum = &d[y->src[i]->id];
        *sum = *sum ? nn_add(g, *sum, dx[i]) : dx[i];
    }
}

static void walk_back(nn_graph *g, nn_tensor loss, const bool *wanted, nn_tensor *d, int nodes)
{
    nn_tensor *again = NEW_N(nn_tensor, nodes + 1);

    for (int id = loss->id; id >= 0; id--) {
        nn_tensor y = nn_node_at(g, id);
        if (!d[id] || y->op->stops || !depends(y, wanted))
            continue;
        const char *scope = nn_scope_set(g, y->scope);
        step_back(g, y, seen_again(g, y, again, nodes), wanted, d);
        nn_scope_set(g, scope);
    }
    free(again);
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
    walk_back(g, loss, wanted, d, nodes);
    for (int i = 0; i < n; i++)
        grad[i] = d[wrt[i]->id] ? d[wrt[i]->id] : nn_zeros(g, wrt[i]->shape);
    free(wanted);
    free(d);
    return nn_check(g, e);
}
