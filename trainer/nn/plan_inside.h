#ifndef PLAN_INSIDE_H
#define PLAN_INSIDE_H
/* A plan as its own files see it: plan.c makes and runs it, plan_keep.c redirects results, plan_show.c tells. */
#include "trainer/nn/plan.h"
#include "trainer/nn/plan_scheme.h"

typedef struct {
    nn_tensor from;
    size_t at, bytes; /* the piece of it */
    void *to;
} late_copy;

struct nn_plan {
    plan_scheme s;
    nn_params *params;
    nn_backend *on;
    void **mem;       /* of each node; NULL where it is not alive */
    bool *frozen;     /* of each node: a weight that never changes; mem[] is NULL until a call reads it as it lies */
    bool *held;       /* of each node: nn_params_hold was called */
    nn_call *calls;   /* one for each step */
    const nn_plan *under; /* whose arena and scratch are used where they are large enough; NULL: nobody's */
    void *fixed, *arena, *scratch;
    size_t scratch_bytes, own_bytes; /* own: of weights that single calls have laid out */
    late_copy *copies; /* what nn_keep_in could not place directly */
    int copy_n;
    void *list;       /* the whole run, as the backend has recorded it; NULL: not yet, or it does not record */
    bool ran;         /* once, call by call */
    bool *unwritten;  /* of each node: an input that is needed and was never written */
};

static inline bool plan_owns_arena(const nn_plan *p)
{
    return !p->under || p->arena != p->under->arena;
}

static inline bool plan_owns_scratch(const nn_plan *p)
{
    return !p->under || p->scratch != p->under->scratch;
}

static inline nn_tensor plan_node(const nn_plan *p, int id)
{
    return nn_node_at(p->s.g, id);
}

/* ERR_SHAPE unless t is of this plan's graph and has exactly these bytes; name: how a message calls it. */
int plan_check_tensor(const nn_plan *p, nn_tensor t, const char *name, size_t bytes, err *e);
/* Whether its value still stands after a run. */
bool plan_is_readable(const nn_plan *p, nn_tensor t);
int plan_check_written(const nn_plan *p, err *e);

/* Call i: makes it ready with the memory its nodes have now; ends that; runs it, wrapping a failure with where. */
int plan_prepare_call(nn_plan *p, int i, err *e);
void plan_finish_call(nn_plan *p, int i);
int plan_run_call(const nn_plan *p, int i, err *e);
/* This thread's turn with the device: from true to false. */
static inline void plan_turn(const nn_plan *p, bool mine)
{
    if (p->on->turn)
        p->on->turn(p->on, mine);
}

int plan_run_copies(const nn_plan *p, err *e);
#endif
