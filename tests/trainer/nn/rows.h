#ifndef NN_ROWS_H
#define NN_ROWS_H
/* One row says how an operation is written and of what shapes. test_grad tries its gradient rule by differences,
 * test_kernels every kernel of every operation that the row's function and its gradients contain. An operation with
 * a rule, or a kernel, that no row reaches fails by name.
 *
 * A family's rows stand in rows_FAMILY.c and end in a row without write; rows.c lists the families. */
#include <stddef.h>

#include "trainer/nn/node.h"

enum { ROW_INPUTS = 4 };

typedef struct {
    nn_op_id op;               /* the operation this row is there for; test_grad sees that it is written */
    const char *name;
    nn_shape in[ROW_INPUTS];   /* what gets a gradient, filled with numbers in -1..1; a shape of no dimensions ends */
    nn_tensor (*write)(nn_graph *g, const nn_tensor x[]);
    /* The function whose true slope the rule gives, where that is not write's own (detach_rows). NULL: it is. */
    nn_tensor (*slope_of)(nn_graph *g, const nn_tensor x[]);
    bool kernels_only;         /* too large to nudge every element */
    double slope_tolerance;    /* of a gradient against the slope; 0: 1e-4 */
    double tolerance;          /* of a kernel's largest error against the reference's largest value; 0: 1e-5 */
} nn_row;

extern const nn_row *const nn_row_families[]; /* ended by NULL */

int row_inputs(const nn_row *r);
/* A cotangent's gradient through y: for rows of operations that only gradient rules write (pad, zero_rows). */
nn_tensor row_pull_back(nn_graph *g, nn_tensor y, nn_tensor seed, nn_tensor wrt);
/* The i-th number of stream `key`, in -1..1. */
float row_number(uint64_t key, uint64_t i);
/* Fills a host copy of t: an I32 one with ids that leave small tables at both ends (-2..6), others with numbers. */
void row_fill(void *to, nn_tensor t, uint64_t key);
/* Whether this backend (NULL: none is asked for) cannot be opened here; tells why, for a test that then skips. */
bool row_device_missing(const char *device);
#endif
