/* Which results of a plan are in bf16: those that all who read them round, or take so (nn_kernel.narrows, halves, twins, leaves). */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/plan_scheme.h"

enum { PLACE = 32 }; /* a piece of a result begins where kernels can read bf16 in vectors of 16 bytes */

/* One number of each channel, or of each channel of each sample, of y [samples, .., channels]. */
static bool repeats_over_pixels(nn_tensor x, nn_tensor y)
{
    const int n = y->shape.n, of = x->shape.n;

    for (int i = 1; i < of - 1; i++)
        if (x->shape.d[i] != 1)
            return false;
    return of == n && n > 2 && x->shape.d[n - 1] == y->shape.d[n - 1] && x->shape.d[0] == y->shape.d[0];
}

/* Whether bias and add may be left to readers: where what a weight is does not change within a run. */
static bool may_be_bare(const plan_scheme *s, const plan_step *step)
{
    nn_tensor y = step->y, bias = y->src[2];

    if (!step->kernel->leaves || !step->kernel->leaves(y) || !(bias || step->sum) || (bias && bias->op != &nn_op_param))
        return false;
    for (int id = 0; id < s->nodes; id++)
        if (s->alive[id] && nn_node_at(s->g, id)->op->in_place)
            return false;
    return !step->sum || repeats_over_pixels(step->added, step->sum);
}

static bool may_be_narrow(const plan_scheme *s, const plan_step *step)
{
    nn_tensor y = plan_made(step);
    const bool like = step->sum && nn_same_shape(step->added->shape, y->shape), halves = step->kernel->narrow_sum == NN_SUM_HALVES;
    const bool adds = !step->sum || (like && (halves ? s->halves : step->kernel->narrow_sum == NN_SUM_ROUNDED));
    const bool may = s->bare[y->id] || (step->kernel->narrows && step->kernel->narrows(step->y) && adds);

    return may && y->type == F32 && s->root[y->id] == y->id && !s->kept[y->id];
}

/* Whether all of y, under another name, has y's channels, and its samples. */
static bool has_its_channels(nn_tensor x, nn_tensor y, bool samples)
{
    const bool channels = x->shape.n > 0 && x->shape.d[x->shape.n - 1] == y->shape.d[y->shape.n - 1];

    return nn_bytes(x) == nn_bytes(y) && channels && (!samples || x->shape.d[0] == y->shape.d[0]);
}

/* Whether a call that reads x as its source k does it as well where that is in bf16, and without what `maker` leaves to it. */
static bool reads_narrow(const plan_scheme *s, const plan_step *step, int k, const plan_step *maker)
{
    nn_tensor x = step->y->src[k];
    const nn_kernel *by = step->kernel;
    const bool exact = step->y->exact || maker->y->exact, rounds = by->takes_narrow >> k & 1;
    const bool half = s->halves && !exact && maker->kernel->halves && (by->takes_half >> k & 1);

    if (s->offset[x->id] % PLACE != 0 || !(rounds || half))
        return false;
    if (!s->bare[plan_made(maker)->id])
        return true;
    return k == 0 && half && by->takes_late >= (maker->sum ? NN_LATE_BOTH : NN_LATE_BIAS) && has_its_channels(x, plan_made(maker), maker->sum);
}

static void find_narrow_makers(plan_scheme *s, const plan_step **maker)
{
    for (int i = 0; i < s->step_n; i++) {
        const plan_step *step = &s->steps[i];
        const int id = plan_made(step)->id;
        s->bare[id] = s->halves && may_be_bare(s, step) ? step : NULL;
        s->narrow[id] = may_be_narrow(s, step);
        maker[id] = step;
    }
}

/* Whether a step's result and what it adds are both in bf16 or neither is. */
static bool adds_halves(const plan_scheme *s, const plan_step *step)
{
    return step->sum && !s->bare[step->sum->id] && step->kernel->narrow_sum == NN_SUM_HALVES;
}

/* Whether a call that adds x on its way out does so in bf16: its own result must be. */
static bool adds_narrow(const plan_scheme *s, const plan_step *step, const plan_step *maker)
{
    return adds_halves(s, step) && s->narrow[step->sum->id] && maker->kernel->halves && !maker->y->exact && !s->bare[plan_made(maker)->id]
           && s->offset[step->added->id] % PLACE == 0;
}

/* Takes back what this step forbids; whether it was anything. */
static bool forbid_narrow(plan_scheme *s, const plan_step *step, const plan_step *const *maker)
{
    bool any = false;

    for (int k = 0; k <= PLAN_ADDED; k++) {
        nn_tensor x = k == PLAN_ADDED ? step->added : step->y->src[k];
        const int root = x ? s->root[x->id] : 0;
        const bool was = x && s->narrow[root];
        if (was)
            s->narrow[root] = k == PLAN_ADDED ? adds_narrow(s, step, maker[root]) : reads_narrow(s, step, k, maker[root]);
        any = any || (was && !s->narrow[root]);
    }
    if (!adds_halves(s, step) || !s->narrow[step->sum->id] || s->narrow[s->root[step->added->id]])
        return any;
    s->narrow[plan_made(step)->id] = false;
    return true;
}

static bool rounds_at_place(const plan_scheme *s, const plan_step *step, int k)
{
    nn_tensor x = k < NN_MAX_SRC ? step->y->src[k] : NULL;

    return x && (step->kernel->takes_narrow >> k & 1) && s->offset[x->id] % PLACE == 0;
}

/* Results that somebody rounds and somebody does not. */
static void find_twins(plan_scheme *s, const plan_step *const *maker)
{
    for (int i = 0; i < s->step_n; i++)
        for (int k = 0; k < NN_MAX_SRC; k++) {
            const int root = rounds_at_place(s, &s->steps[i], k) ? s->root[s->steps[i].y->src[k]->id] : 0;
            const plan_step *by = rounds_at_place(s, &s->steps[i], k) ? maker[root] : NULL;
            if (by && by->kernel->twins && !s->narrow[root] && plan_made(by)->type == F32)
                s->twinned[root] = true;
        }
}

bool plan_reads_twin(const plan_scheme *s, const plan_step *step, int k)
{
    return rounds_at_place(s, step, k) && s->twinned[s->root[step->y->src[k]->id]];
}

/* One refusal may bring others, of sums that are added to one another. */
void plan_find_narrow(plan_scheme *s)
{
    const plan_step **maker = NEW_N(const plan_step *, s->nodes + 1);

    find_narrow_makers(s, maker);
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < s->step_n; i++)
            any = forbid_narrow(s, &s->steps[i], maker) || any;
    }
    for (int id = 0; id < s->nodes; id++)
        s->bare[id] = s->narrow[id] ? s->bare[id] : NULL;
    find_twins(s, maker);
    free(maker);
}

nn_tensor plan_source(const plan_scheme *s, const plan_step *step, int k)
{
    nn_tensor first = step->y->src[0];
    const plan_step *bare = first ? s->bare[s->root[first->id]] : NULL;

    switch (k) {
    case PLAN_ADDED: return step->added;
    case PLAN_LATE_BIAS: return bare ? bare->y->src[2] : NULL;
    case PLAN_LATE_MORE: return bare ? bare->added : NULL;
    default: return step->y->src[k];
    }
}

unsigned plan_narrow_in(const plan_scheme *s, const plan_step *step)
{
    unsigned bits = 0;

    for (int k = 0; k < NN_MAX_SRC; k++)
        if (step->y->src[k] && (s->narrow[s->root[step->y->src[k]->id]] || plan_reads_twin(s, step, k)))
            bits |= 1u << k;
    return bits;
}
