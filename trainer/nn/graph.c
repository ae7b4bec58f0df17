/* A graph: nodes in the order they were written, the scope they are written in, and the first mistake.
 * After a mistake everything made of it is silently a mistake as well, so that one wrong size gives one sentence. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/nn/names.h"
#include "trainer/nn/node.h"

struct nn_graph {
    struct nn_node **node;
    int n, room;
    char **scopes; /* every scope ever entered; nodes point at them */
    int scope_n, scope_room;
    const char **open; /* the scopes that nn_leave goes back to */
    int open_n, open_room;
    const char *scope;
    nn_names leaves; /* "OP NAME" -> node id */
    char **keys;     /* the keys of leaves */
    int key_n, key_room;
    nn_adapter adapter; /* all NULL: none */
    nn_watcher watcher;
    nn_unit *unit;      /* NULL: everything is kept for the way back */
    nn_pack pack;       /* width 0: none */
    bool exact;
    err why;            /* the first mistake, or ERR_NONE */
    struct nn_node bad; /* what a mistake returns */
};

#define PUSH(list, n, room, value)                                                                           \
    do {                                                                                                     \
        if ((n) == (room)) {                                                                                 \
            (room) = (room) ? 2 * (room) : 64;                                                               \
            (list) = mem_grow((list), (size_t)(room), sizeof *(list));                                       \
        }                                                                                                    \
        (list)[(n)++] = (value);                                                                             \
    } while (0)

nn_graph *nn_graph_new(void)
{
    nn_graph *g = NEW(nn_graph);

    g->scope = "";
    g->bad = (struct nn_node){.op = &nn_op_fill, .id = -1, .scope = "", .shape = {0, {1, 1, 1, 1, 1}}};
    return g;
}

static void free_texts(char **list, int n)
{
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

void nn_graph_free(nn_graph *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n; i++)
        free(g->node[i]);
    free(g->node);
    free_texts(g->scopes, g->scope_n);
    free_texts(g->keys, g->key_n);
    free(g->open);
    nn_names_free(&g->leaves);
    free(g);
}

/* ---- mistakes ---- */

int nn_check(const nn_graph *g, err *e)
{
    if (g->why.code != ERR_NONE && e)
        *e = g->why;
    return (int)g->why.code;
}

static nn_tensor keep_mistake(nn_graph *g, err *why)
{
    if (g->why.code == ERR_NONE) {
        if (g->scope[0])
            err_wrap(why, "%s", g->scope);
        g->why = *why;
    }
    return &g->bad;
}

nn_tensor nn_mistake(nn_graph *g, const char *fmt, ...)
{
    char text[400];
    err why = {0};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&why, ERR_SHAPE, "%s", text);
    return keep_mistake(g, &why);
}

bool nn_is_mistake(const nn_graph *g, nn_tensor t)
{
    return t == &g->bad;
}

int nn_shape_fail(const struct nn_node *y, err *e, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(e, ERR_SHAPE, "%s: %s", y->op->name, text);
}

/* ---- scopes ---- */

void nn_enter(nn_graph *g, const char *fmt, ...)
{
    char piece[160];
    str full = {0};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    str_add(&full, "%s%s%s", g->scope, g->scope[0] ? "." : "", piece);
    PUSH(g->open, g->open_n, g->open_room, g->scope);
    PUSH(g->scopes, g->scope_n, g->scope_room, full.at);
    g->scope = full.at;
}

void nn_leave(nn_graph *g)
{
    CHECK(g->open_n > 0);
    g->scope = g->open[--g->open_n];
}

const char *nn_scope(const nn_graph *g)
{
    return g->scope;
}

const char *nn_scope_set(nn_graph *g, const char *scope)
{
    const char *old = g->scope;

    g->scope = scope;
    return old;
}

/* ---- nodes ---- */

static char *leaf_key(const nn_op *op, const char *name)
{
    str key = {0};

    str_add(&key, "%s %s", op->name, name);
    return key.at;
}

nn_tensor nn_leaf_find(const nn_graph *g, const nn_op *op, const char *name)
{
    char *key = leaf_key(op, name);
    int id = nn_names_find(&g->leaves, key);

    free(key);
    return id < 0 ? NULL : g->node[id];
}

/* The key ends in the name, so it keeps both. */
static void name_leaf(nn_graph *g, struct nn_node *y)
{
    char *key = leaf_key(y->op, y->name);

    PUSH(g->keys, g->key_n, g->key_room, key);
    y->name = key + strlen(y->op->name) + 1;
    nn_names_put(&g->leaves, key, y->id);
}

static int check_sizes(const struct nn_node *y, err *e)
{
    int64_t room = INT64_C(1) << 46; /* elements no machine has; keeps every later product of sizes in range */
    char text[64];

    for (int i = 0; i < y->shape.n; i++) {
        if (y->shape.d[i] <= 0)
            return nn_shape_fail(y, e, "%s has an empty dimension", nn_shape_text(y->shape, text));
        room /= y->shape.d[i];
    }
    return room > 0 ? 0 : nn_shape_fail(y, e, "%s is too large", nn_shape_text(y->shape, text));
}

nn_tensor nn_make(nn_graph *g, struct nn_node proto)
{
    err why = {0};

    for (int i = 0; i < NN_MAX_SRC; i++)
        if (proto.src[i] == &g->bad)
            return &g->bad;
    if (proto.op->shape(&proto, &why) != 0 || check_sizes(&proto, &why) != 0)
        return keep_mistake(g, &why);

    struct nn_node *y = NEW(struct nn_node);
    *y = proto;
    y->id = g->n;
    y->scope = g->scope;
    y->pack = g->pack.width > 1 ? g->pack.width : 1;
    y->exact = g->exact;
    if (y->name)
        name_leaf(g, y);
    PUSH(g->node, g->n, g->room, y);
    return y;
}

int nn_node_count(const nn_graph *g)
{
    return g->n;
}

nn_tensor nn_node_at(const nn_graph *g, int i)
{
    return g->node[i];
}

/* ---- precision, packs, adapters and watchers ---- */

void nn_exact(nn_graph *g)
{
    g->exact = true;
}

void nn_pack_set(nn_graph *g, const nn_pack *by)
{
    CHECK(g->n == 0);
    g->pack = *by;
}

const nn_pack *nn_pack_of(const nn_graph *g)
{
    return &g->pack;
}

void nn_recompute(nn_graph *g, nn_unit *unit)
{
    g->unit = unit;
}

size_t nn_unit_of(const nn_graph *g, const char *scope)
{
    return g->unit ? g->unit(scope) : 0;
}

void nn_adapt(nn_graph *g, const nn_adapter *by)
{
    g->adapter = by ? *by : (nn_adapter){0};
}

nn_tensor nn_weight(nn_graph *g, const char *name, nn_shape s)
{
    nn_tensor w = nn_param(g, name, s);

    return g->adapter.weight && w->name ? g->adapter.weight(g->adapter.arg, g, w, w->name) : w;
}

nn_tensor nn_beside(nn_graph *g, nn_tensor y, nn_tensor x)
{
    return g->adapter.linear ? g->adapter.linear(g->adapter.arg, g, y, x, nn_scope(g)) : y;
}

void nn_watch(nn_graph *g, const nn_watcher *by)
{
    g->watcher = by ? *by : (nn_watcher){0};
}

void nn_cross(nn_graph *g, nn_tensor q, nn_tensor k, int heads, int64_t h, int64_t w)
{
    if (g->watcher.cross)
        g->watcher.cross(g->watcher.arg, g, q, k, heads, h, w);
}
