#ifndef PLAN_SCHEME_H
#define PLAN_SCHEME_H
/* What a plan will do, before any memory is taken: which nodes are alive, whose memory each one is, which kernel
 * runs, and where the temporaries lie. nn_plan_new carries it out, nn_plan_predict only weighs it. */
#include "trainer/nn/backend.h"
#include "trainer/nn/plan_layout.h"

typedef struct {
    nn_tensor y;
    nn_tensor sum, added; /* the add that the kernel makes with y, and its other source (nn_call.sum); NULL: none */
    const nn_kernel *kernel;
} plan_step;

/* Whose value a step makes. */
static inline nn_tensor plan_made(const plan_step *s)
{
    return s->sum ? s->sum : s->y;
}

enum { NO_BUFFER = -1 };
typedef struct {
    const nn_graph *g;
    int nodes;         /* of the graph when the scheme was made; the arrays below have one element for each */
    bool *alive;
    bool *kept;        /* of roots: has memory of its own, outside the arena */
    bool *narrow;      /* of roots: its value is in bf16 (nn_kernel.narrows) */
    const plan_step **bare; /* of roots: the step that makes it without bias and add (nn_kernel.leaves); NULL: it is whole */
    bool halves;       /* results may be in bf16 though not all who read them round them (nn_kernel.halves) */
    int *root;         /* the node whose memory this is: itself, unless an alias or in place */
    size_t *offset;    /* bytes from the root's beginning */
    int *buffer;       /* of roots: index in buffers, or NO_BUFFER */
    bool *twinned;     /* of roots: its value is there in bf16, too (nn_kernel.twins), */
    int *twin;         /* in this buffer, or NO_BUFFER */
    plan_step *steps;  /* in order of running */
    int step_n;
    plan_buffer *buffers;
    int buffer_n, fixed_n; /* the first fixed_n, inputs and constants, lie in memory of their own */
    size_t input_bytes, fixed_bytes, arena_bytes; /* fixed_bytes: inputs first */
} plan_scheme;

/* On failure nothing needs to be freed. */
int plan_scheme_make(plan_scheme *s, const nn_graph *g, nn_backend *on, const nn_tensor keep[], int n, err *e);
void plan_scheme_free(plan_scheme *s);
const nn_kernel *const *plan_kernels(const nn_backend *on, nn_tensor y); /* that may compute y, preferred ones first */
/* What a step reads, k below PLAN_SOURCES; NULL where there is none: its sources, what is added, and what is yet to be added to the
 * first of them. */
enum { PLAN_ADDED = NN_MAX_SRC, PLAN_LATE_BIAS, PLAN_LATE_MORE, PLAN_SOURCES };
nn_tensor plan_source(const plan_scheme *s, const plan_step *step, int k);
/* Sets narrow, bare and twinned (plan_narrow.c); all are as they are made before. */
void plan_find_narrow(plan_scheme *s);
/* Whether a step reads the twin of its source k. */
bool plan_reads_twin(const plan_scheme *s, const plan_step *step, int k);
/* Which of a step's sources are in bf16 (nn_call.narrow_in). */
unsigned plan_narrow_in(const plan_scheme *s, const plan_step *step);
/* Why the kernel at this place of the list declines this node, or NULL. */
const char *plan_declines(const nn_kernel *const *k, nn_tensor y);
#endif
