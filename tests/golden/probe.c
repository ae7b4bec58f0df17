/* Tensors of a graph under the names of entries; see probe.h. */
#include "tests/golden/probe.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/nn/node.h"
#include "trainer/nn/plan.h"

typedef struct { char *name; nn_tensor t; int64_t item; bool gradient; } kept; /* item -1: the whole batch */
typedef struct { nn_tensor t; void *data; } given;

struct probe {
    golden *golden;
    sd *model;
    nn_graph *graph;
    kept *kept;
    given *given;
    int n_kept, n_given;
};

probe *probe_new(golden *g, sd *m)
{
    probe *p = NEW(probe);

    *p = (probe){.golden = g, .model = m, .graph = nn_graph_new()};
    return p;
}

void probe_free(probe *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_kept; i++)
        free(p->kept[i].name);
    for (int i = 0; i < p->n_given; i++)
        free(p->given[i].data);
    free(p->kept);
    free(p->given);
    nn_graph_free(p->graph);
    free(p);
}

nn_graph *probe_graph(probe *p)
{
    return p->graph;
}

nn_tensor probe_input(probe *p, nn_tensor t, void *data)
{
    p->given = mem_grow(p->given, (size_t)p->n_given + 1, sizeof *p->given);
    p->given[p->n_given++] = (given){t, data};
    return t;
}

static void keep(probe *p, const char *name, nn_tensor t, int64_t item, bool gradient)
{
    if (!t || !golden_wants(p->golden, name))
        return;
    p->kept = mem_grow(p->kept, (size_t)p->n_kept + 1, sizeof *p->kept);
    p->kept[p->n_kept++] = (kept){mem_text(name), t, item, gradient};
}

void probe_keep(probe *p, const char *name, nn_tensor t)
{
    keep(p, name, t, -1, false);
}

void probe_wrt(probe *p, const char *name, nn_tensor t)
{
    keep(p, name, t, -1, true);
}

/* ---- whole families ---- */

void probe_wrt_params(probe *p, const char *prefix, const char *scope)
{
    size_t n;
    const char **names = golden_wanted(p->golden, prefix, &n);

    for (size_t i = 0; i < n; i++) {
        str full = {0};
        str_add(&full, "%s%s", scope, names[i] + strlen(prefix));
        keep(p, names[i], nn_param_find(p->graph, full.at), -1, true);
        str_free(&full);
    }
    free(names);
}

static bool within(const char *scope, const char *module)
{
    size_t n = strlen(module);

    return strncmp(scope, module, n) == 0 && (scope[n] == '\0' || scope[n] == '.');
}

/* A norm whose module is one operation with the silu behind it, which the module has not. */
static nn_tensor without_silu(nn_graph *g, nn_tensor t)
{
    if (t->op->id != NN_OP_group_norm_silu)
        return t;
    return nn_group_norm(g, t->src[0], t->src[1], t->src[2], t->at.norm.groups, t->at.norm.eps);
}

/* A module's result is what was written last in its scope. */
static nn_tensor result_of(nn_graph *g, const char *module)
{
    for (int i = nn_node_count(g) - 1; i >= 0; i--)
        if (within(nn_node_at(g, i)->scope, module))
            return without_silu(g, nn_node_at(g, i));
    return NULL;
}

void probe_debug(probe *p, const char *prefix, const char *scope, int64_t item)
{
    size_t n;
    const char **names = golden_wanted(p->golden, prefix, &n);

    for (size_t i = 0; i < n; i++) {
        str full = {0};
        str_add(&full, "%s%s", scope, names[i] + strlen(prefix));
        keep(p, names[i], result_of(p->graph, full.at), item, false);
        str_free(&full);
    }
    free(names);
}

/* ---- running ---- */

int probe_backward(probe *p, nn_tensor loss, nn_tensor seed, err *e)
{
    nn_tensor *wrt = NEW_N(nn_tensor, p->n_kept + 1), *grad = NEW_N(nn_tensor, p->n_kept + 1);
    int n = 0, rc = nn_check(p->graph, e);

    for (int i = 0; i < p->n_kept; i++)
        if (p->kept[i].gradient)
            wrt[n++] = p->kept[i].t;
    if (rc == 0 && n > 0)
        rc = nn_backward(p->graph, loss, seed, wrt, grad, n, e);
    for (int i = 0, k = 0; rc == 0 && i < p->n_kept; i++)
        if (p->kept[i].gradient)
            p->kept[i].t = grad[k++];
    free(wrt);
    free(grad);
    return rc;
}

/* Each tensor once. */
static int list_kept(const probe *p, nn_tensor out[])
{
    int n = 0;

    for (int i = 0; i < p->n_kept; i++) {
        int k = 0;
        while (k < n && out[k] != p->kept[i].t)
            k++;
        out[k] = p->kept[i].t;
        n += k == n;
    }
    return n;
}

static int hand_in(probe *p, nn_plan *plan, const kept *k, err *e)
{
    nn_shape s = nn_shape_get(k->t);
    size_t count = (size_t)nn_count(s);
    float *data = NEW_N(float, count), *at = data;
    int rc = nn_read(plan, k->t, data, count * sizeof *data, e);

    if (rc == 0 && k->item >= 0 && s.n > 0) {
        count /= (size_t)s.d[0];
        at += (size_t)k->item * count;
        s.d[0] = 1;
    }
    if (rc == 0 && s.n == 4) /* weights of convolutions lie as maps do */
        golden_put_nhwc(p->golden, k->name, at, s.d[0], s.d[1], s.d[2], s.d[3]);
    else if (rc == 0)
        golden_put(p->golden, k->name, at, count);
    free(data);
    return rc;
}

int probe_run(probe *p, err *e)
{
    nn_tensor *keeps = NEW_N(nn_tensor, p->n_kept + 1);
    nn_plan *plan = NULL;
    int n = list_kept(p, keeps), rc = n > 0 ? nn_check(p->graph, e) : 0;

    if (rc == 0 && n > 0)
        rc = nn_plan_new(&plan, p->graph, sd_params(p->model), keeps, n, e);
    for (int i = 0; rc == 0 && plan && i < p->n_given; i++)
        rc = nn_write(plan, p->given[i].t, p->given[i].data, (size_t)nn_count(nn_shape_get(p->given[i].t)) * 4, e);
    if (rc == 0 && plan)
        rc = nn_run(plan, e);
    for (int i = 0; rc == 0 && i < p->n_kept; i++)
        rc = hand_in(p, plan, &p->kept[i], e);
    nn_plan_free(plan);
    free(keeps);
    return rc;
}
