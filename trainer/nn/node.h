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
    float scale;
    struct { int groups, heads; float eps; bool causal; } norm;    /* norms and attention */
    struct { bool ta, tb; } mat;
    nn_conv conv;
    struct { int dim; int64_t from, count; } part;                 /* slice, pad, detach_rows, view (from: elements) */
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
    char *name;                /* leaves only: the name they are found by; owned by the graph */
};

struct nn_op {
    nn_op_id id;               /* finds its kernels in a backend's table */
    const char *name;
    /* Sets y->shape and y->type from the sources (leaves and *_grad builders may have set them before), or says
     * what is wrong. */
    int (*shape)(struct nn_node *y, err *e);
    /* dx[i] = gradient for src[i], written as graph; leave it NULL where none flows. want[i]: whether anybody asks.
     * NULL: no gradient flows through this operation at all. */
    void (*grad)(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[NN_MAX_SRC], nn_tensor dx[NN_MAX_SRC]);
    bool alias;                /* the result is src[0]'s memory (from + at.part.from): no kernel, no buffer */
    bool in_place;             /* changes its states (adamw): runs after every reader of theirs written before it */
};

#define NN_OP(name) extern const nn_op nn_op_##name;
#include "trainer/nn/ops.def"
#undef NN_OP
extern const nn_op *const nn_ops[NN_OP_COUNT]; /* for whoever must see them all: a test, a listing */

/* Adds a node: runs op->shape, keeps the first mistake (with scope), gives it an id. */
nn_tensor nn_make(nn_graph *g, struct nn_node proto);
int nn_node_count(const nn_graph *g);
nn_tensor nn_node_at(const nn_graph *g, int i);

/* Helpers for shape rules. */
int nn_shape_fail(const struct nn_node *y, err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool nn_broadcasts(nn_shape whole, nn_shape part); /* part's dims, right-aligned, are whole's or 1 */
nn_tensor nn_view(nn_graph *g, nn_tensor x, int64_t from, nn_shape s); /* a contiguous piece, from in elements; no gradient */
#endif
