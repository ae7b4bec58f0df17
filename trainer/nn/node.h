#ifndef NN_NODE_H
#define NN_NODE_H
/* For those who write operations (op/) and kernels (cpu/, cuda/). An operation is the rule for its shape and
 * the rule for its gradient, told in terms of other operations; how it is computed is a kernel's business. */
#include "trainer/nn/nn.h"

typedef enum {
#define NN_OP(name) NN_OP_##name,
#include "trainer/nn/ops.def"
#undef NN_OP
    NN_OP_COUNT
} nn_op_id;

enum { NN_MAX_SRC = 6 };
typedef struct nn_op nn_op;

/* What an operation needs besides its sources. */
typedef union {
    float scale;                                                   /* scale, fill */
    int slot;                                                      /* param: 1 + whose value in a pack; 0: the open one */
    struct { int groups, heads; float eps; bool causal; } norm;    /* norms and attention */
    struct { bool ta, tb; } mat;
    nn_conv conv;
    struct { nn_conv at; nn_pool how; int k; } pool;
    struct { int dim; int64_t from, count; } part;                 /* slice, pad, view (from), *_rows (count) */
    struct { int64_t first, rows; } embed;
    struct { int64_t dim; bool flip; float shift; } wave;
} nn_attr;

struct nn_node {
    const nn_op *op;
    int id;                    /* its place in the order of writing, which is an order of running */
    dtype type;
    nn_shape shape;
    nn_tensor src[NN_MAX_SRC]; /* an optional source in the middle is NULL; look at all NN_MAX_SRC */
    nn_attr at;
    int pack;                  /* concepts that share it: kernels are chosen by what one of them needs; set by nn_make */
    bool exact;                /* in f32, whatever the backend computes in; set by nn_make */
    const char *name;          /* leaves only, and what stands for one: the name they are found by; owned by the graph */
    const char *scope;         /* where it was written ("unet.mid_block"), for messages and listings; set by nn_make */
};

struct nn_op {
    nn_op_id id;               /* finds its kernels in a backend's table */
    const char *name;
    /* Sets y->shape and y->type from the sources (leaves and *_grad builders may have set them before), or says
     * what is wrong. */
    int (*shape)(struct nn_node *y, err *e);
    /* dx[i] = gradient for src[i], written as graph, where want[i]: somebody asks. NULL: the operation has no rule,
     * and a gradient that would have to pass through it is a mistake. */
    void (*grad)(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC], nn_tensor dx[NN_MAX_SRC]);
    bool alias;                /* the result is src[0]'s memory (from + at.part.from): no kernel, no buffer */
    bool stops;                /* its value flows on and no gradient flows back (detach) */
    bool in_place;             /* changes its states (adamw), is src[0]'s memory, runs always, where it was written */
};

#define NN_OP(name) extern const nn_op nn_op_##name;
#include "trainer/nn/ops.def"
#undef NN_OP
extern const nn_op *const nn_ops[NN_OP_COUNT]; /* for whoever must see them all: a test, a listing */

/* Adds a node: runs op->shape, keeps the first mistake (with scope), gives it an id. proto.name is copied. */
nn_tensor nn_make(nn_graph *g, struct nn_node proto);
/* A leaf that is already there under this operation and full name, or NULL. */
nn_tensor nn_leaf_find(const nn_graph *g, const nn_op *op, const char *name);
/* What nn_make returns after a mistake; it may go into further nodes, which are then mistakes in silence. */
bool nn_is_mistake(const nn_graph *g, nn_tensor t);
const char *nn_scope(const nn_graph *g);
size_t nn_unit_of(const nn_graph *g, const char *scope); /* of what is computed again; 0: kept */
const nn_pack *nn_pack_of(const nn_graph *g);
/* Writes what follows as if in `scope` (a node's), for backward.c; returns the scope to set again afterwards. */
const char *nn_scope_set(nn_graph *g, const char *scope);
int nn_node_count(const nn_graph *g);
nn_tensor nn_node_at(const nn_graph *g, int i);

/* Helpers for shape rules. The text begins with the operation's name: "matmul: [4,320] times [768,320]". */
int nn_shape_fail(const struct nn_node *y, err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool nn_broadcasts(nn_shape whole, nn_shape part); /* part's dims, right-aligned, are whole's or 1 */
nn_tensor nn_view(nn_graph *g, nn_tensor x, int64_t from, nn_shape s); /* a contiguous piece, from in elements */
int64_t nn_bytes(nn_tensor t);
#endif
