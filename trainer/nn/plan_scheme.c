/* From a graph to a list of calls: what nobody asked for is dropped, aliases are resolved to the memory they name,
 * each call gets the first kernel that takes it, each temporary its lifetime. */
#include "trainer/nn/plan_scheme.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

static bool is_leaf(nn_tensor y)
{
    return y->op == &nn_op_input || y->op == &nn_op_param || y->op == &nn_op_state || y->op == &nn_op_fill;
}

static int check_kept(const nn_graph *g, const nn_tensor keep[], int n, err *e)
{
    TRY(nn_check(g, e));
    for (int i = 0; i < n; i++) {
        CHECK(keep[i]);
        if (keep[i]->id < 0 || keep[i]->id >= nn_node_count(g) || nn_node_at(g, keep[i]->id) != keep[i])
            return err_set(e, ERR_INPUT, "tensor %d to keep is not of this graph", i);
    }
    return 0;
}

static void mark_alive(plan_scheme *s, const nn_tensor keep[], int n)
{
    for (int i = 0; i < n; i++)
        s->alive[keep[i]->id] = true;
    for (int id = s->nodes - 1; id >= 0; id--) {
        nn_tensor y = nn_node_at(s->g, id);
        s->alive[id] = s->alive[id] || y->op->in_place;
        for (int i = 0; s->alive[id] && i < NN_MAX_SRC; i++)
            if (y->src[i])
                s->alive[y->src[i]->id] = true;
    }
}

static void find_roots(plan_scheme *s, const nn_tensor keep[], int n)
{
    for (int id = 0; id < s->nodes; id++) {
        nn_tensor y = nn_node_at(s->g, id);
        s->root[id] = id;
        if (!y->op->alias && !y->op->in_place)
            continue;
        int64_t from = y->op == &nn_op_view ? y->at.part.from : 0;
        s->root[id] = s->root[y->src[0]->id];
        s->offset[id] = s->offset[y->src[0]->id] + (size_t)from * dtype_bytes(y->type);
    }
    for (int i = 0; i < n; i++) {
        int root = s->root[keep[i]->id];
        s->kept[root] = !is_leaf(nn_node_at(s->g, root));
    }
}

/* ---- kernels ---- */

/* CFARM_WITHOUT: pieces of kernels' names, commas between them, that are done without wherever another kernel is left, and `adds`
 * for what is made with an add, `narrow` for results in bf16, `half` for those of them that not all who read them would round: to see which of them is to blame where a machine computes something wrong, or slowly. */
static bool without(const char *name)
{
    const char *list = getenv("CFARM_WITHOUT");

    for (size_t n; list && *list; list += n + (list[n] == ',')) {
        char word[64];
        n = strcspn(list, ",");
        snprintf(word, sizeof word, "%.*s", (int)n, list);
        if (n && strstr(name, word))
            return true;
    }
    return false;
}

const char *plan_declines(const nn_kernel *const *k, nn_tensor y)
{
    if (k[1] && without((*k)->name))
        return "is to be done without (CFARM_WITHOUT)";
    return (*k)->takes ? (*k)->takes(y) : NULL;
}

const nn_kernel *const *plan_kernels(const nn_backend *on, nn_tensor y)
{
    return (y->exact && on->exact ? on->exact : on->kernels)(y->op->id);
}

static int choose_kernel(plan_step *step, nn_backend *on, err *e)
{
    const nn_kernel *const *list = plan_kernels(on, step->y);
    const char *why = "there is no kernel for it", *name = on->name;

    for (; list && *list; list++) {
        const char *reason = plan_declines(list, step->y);
        if (!reason) {
            step->kernel = *list;
            return 0;
        }
        why = reason;
        name = (*list)->name;
    }
    const char *scope = step->y->scope;
    return err_set(e, ERR_DEVICE, "%s%s%s: %s %s", scope, scope[0] ? ": " : "", step->y->op->name, name, why);
}

/* ---- adds that are made with what they add ---- */

static int *count_uses(const plan_scheme *s)
{
    int *uses = NEW_N(int, s->nodes + 1);

    for (int id = 0; id < s->nodes; id++)
        for (int i = 0; s->alive[id] && i < NN_MAX_SRC; i++)
            if (nn_node_at(s->g, id)->src[i])
                uses[nn_node_at(s->g, id)->src[i]->id]++;
    return uses;
}

/* What makes source k of an add where nobody else looks at it, under another name or whole; or NULL. */
static nn_tensor made_for(const plan_scheme *s, nn_tensor sum, int k, const int *uses)
{
    nn_tensor y = sum->src[k];

    while (uses[y->id] == 1 && y->op->alias && nn_bytes(y) == nn_bytes(y->src[0]))
        y = y->src[0];
    return uses[y->id] == 1 && !y->op->alias && !is_leaf(y) && !s->kept[s->root[y->id]] ? y : NULL;
}

/* Made where the add stands, y must not miss a change of what it reads. */
static bool may_wait(const plan_scheme *s, nn_tensor y, nn_tensor sum)
{
    bool may = !y->op->in_place;

    for (int id = y->id + 1; id < sum->id; id++)
        may = may && !(s->alive[id] && nn_node_at(s->g, id)->op->in_place);
    return may;
}

/* Of two candidates the later one, which waits less. */
static int join(const plan_scheme *s, plan_step *step, const int *uses, nn_backend *on, err *e)
{
    nn_tensor sum = step->y;

    for (int k = 0; k < 2; k++) {
        nn_tensor y = made_for(s, sum, k, uses), added = sum->src[1 - k];
        if (!y || y->type != F32 || !nn_same_shape(sum->src[k]->shape, sum->shape) || !may_wait(s, y, sum))
            continue;
        plan_step with = {.y = y, .sum = sum, .added = added};
        TRY(choose_kernel(&with, on, e));
        const bool like = nn_same_shape(added->shape, sum->shape);
        if (with.kernel->adds >= (like ? NN_ADDS_LIKE : NN_ADDS_ANY) && (!step->sum || y->id > step->y->id))
            *step = with;
    }
    return 0;
}

static int find_joined(plan_scheme *s, plan_step *joined, nn_backend *on, err *e)
{
    int *uses, rc = 0;

    if (without("adds"))
        return 0;
    uses = count_uses(s);
    for (int id = 0; id < s->nodes && rc == 0; id++) {
        plan_step step = {.y = nn_node_at(s->g, id)};
        if (!s->alive[id] || step.y->op != &nn_op_add)
            continue;
        rc = join(s, &step, uses, on, e);
        if (rc == 0 && step.sum)
            joined[id] = joined[step.y->id] = step;
    }
    free(uses);
    return rc;
}

static int list_steps_with(plan_scheme *s, const plan_step *joined, nn_backend *on, err *e)
{
    for (int id = 0; id < s->nodes; id++) {
        nn_tensor y = nn_node_at(s->g, id);
        if (!s->alive[id] || is_leaf(y) || y->op->alias || joined[id].y == y)
            continue;
        plan_step *step = &s->steps[s->step_n++];
        *step = joined[id];
        if (step->sum)
            continue;
        step->y = y;
        TRY(choose_kernel(step, on, e));
    }
    return 0;
}

static int list_steps(plan_scheme *s, nn_backend *on, err *e)
{
    plan_step *joined = NEW_N(plan_step, s->nodes + 1); /* of adds, and of what is made with one */
    int rc = find_joined(s, joined, on, e);

    if (rc == 0)
        rc = list_steps_with(s, joined, on, e);
    free(joined);
    return rc;
}

/* ---- results in bf16 ---- */

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
static void find_narrow(plan_scheme *s)
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

/* ---- lifetimes ---- */

static int new_buffer(plan_scheme *s, nn_tensor root, bool half, int from, int to)
{
    const size_t bytes = (size_t)nn_bytes(root);

    s->buffers[s->buffer_n] = (plan_buffer){.bytes = half ? bytes / 2 : bytes, .from = from, .to = to};
    return s->buffer_n++;
}

static void hold(plan_scheme *s, const nn_op *op)
{
    for (int id = 0; id < s->nodes; id++) {
        nn_tensor y = nn_node_at(s->g, id);
        if (!s->alive[id] || y->op != op)
            continue;
        s->buffer[id] = new_buffer(s, y, false, 0, INT_MAX);
        s->buffers[s->buffer[id]].at = s->fixed_bytes;
        s->fixed_bytes += plan_aligned((size_t)nn_bytes(y));
    }
    s->fixed_n = s->buffer_n;
}

/* What is written from outside and read in every run: inputs in one piece, which a chain fills by one copy, then constants. */
static void hold_inputs(plan_scheme *s)
{
    hold(s, &nn_op_input);
    s->input_bytes = s->fixed_bytes;
    hold(s, &nn_op_fill);
}

/* last[root]: the last call that reads it; twin: its twin. */
static void find_last_reads(const plan_scheme *s, int *last, int *twin)
{
    for (int i = 0; i < s->step_n; i++)
        for (int k = 0; k < PLAN_SOURCES; k++)
            if (plan_source(s, &s->steps[i], k))
                (plan_reads_twin(s, &s->steps[i], k) ? twin : last)[s->root[plan_source(s, &s->steps[i], k)->id]] = i;
}

static bool is_whole(const plan_scheme *s, nn_tensor t)
{
    return nn_bytes(t) == nn_bytes(nn_node_at(s->g, s->root[t->id]));
}

/* Whether call i may put its result over source k: a temporary of the same size that dies here, and that no other
 * source reads in another order. */
static bool may_overwrite(const plan_scheme *s, int i, int k)
{
    const plan_step *step = &s->steps[i];
    nn_tensor x = step->y->src[k];
    int root = x ? s->root[x->id] : 0;

    if (!x || step->sum || !(step->kernel->over >> k & 1) || s->buffer[root] == NO_BUFFER || s->buffers[s->buffer[root]].to != i)
        return false;
    for (int o = 0; o < NN_MAX_SRC; o++) {
        nn_tensor other = step->y->src[o];
        if (other && s->root[other->id] == root && (!(step->kernel->over >> o & 1) || !is_whole(s, other)))
            return false;
    }
    return is_whole(s, x) && nn_bytes(x) == nn_bytes(step->y) && s->narrow[root] == s->narrow[step->y->id];
}

static int take_over(const plan_scheme *s, int i)
{
    for (int k = 0; k < NN_MAX_SRC; k++)
        if (may_overwrite(s, i, k))
            return s->buffer[s->root[s->steps[i].y->src[k]->id]];
    return NO_BUFFER;
}

static void find_lifetimes(plan_scheme *s, const int *last, const int *twin)
{
    for (int i = 0; i < s->step_n; i++) {
        nn_tensor y = plan_made(&s->steps[i]);
        if (s->twinned[y->id])
            s->twin[y->id] = new_buffer(s, y, true, i, twin[y->id]);
        if (s->root[y->id] != y->id || s->kept[y->id])
            continue;
        int over = take_over(s, i), end = last[y->id] > i ? last[y->id] : i;
        if (over == NO_BUFFER)
            over = new_buffer(s, y, s->narrow[y->id], i, end);
        s->buffers[over].to = end;
        s->buffer[y->id] = over;
    }
}

static void lay_out(plan_scheme *s)
{
    int *last = NEW_N(int, s->nodes + 1), *twin = NEW_N(int, s->nodes + 1);

    if (!without("narrow"))
        find_narrow(s);
    for (int id = 0; id < s->nodes; id++)
        s->buffer[id] = s->twin[id] = NO_BUFFER;
    hold_inputs(s);
    find_last_reads(s, last, twin);
    find_lifetimes(s, last, twin);
    s->arena_bytes = plan_layout(s->buffers + s->fixed_n, s->buffer_n - s->fixed_n);
    free(last);
    free(twin);
}

int plan_scheme_make(plan_scheme *s, const nn_graph *g, nn_backend *on, const nn_tensor keep[], int n, err *e)
{
    TRY(check_kept(g, keep, n, e));
    int nodes = nn_node_count(g), room = nodes + 1;
    *s = (plan_scheme){.g = g,
                       .nodes = nodes,
                       .alive = NEW_N(bool, room),
                       .kept = NEW_N(bool, room),
                       .narrow = NEW_N(bool, room),
                       .bare = NEW_N(const plan_step *, room),
                       .halves = on->computes == NN_BF16 && !without("half"),
                       .root = NEW_N(int, room),
                       .offset = NEW_N(size_t, room),
                       .buffer = NEW_N(int, room),
                       .twinned = NEW_N(bool, room),
                       .twin = NEW_N(int, room),
                       .steps = NEW_N(plan_step, room),
                       .buffers = NEW_N(plan_buffer, 2 * room)};
    mark_alive(s, keep, n);
    find_roots(s, keep, n);
    int rc = list_steps(s, on, e);
    if (rc == 0)
        lay_out(s);
    else
        plan_scheme_free(s);
    return rc;
}

void plan_scheme_free(plan_scheme *s)
{
    free(s->alive);
    free(s->kept);
    free(s->narrow);
    free(s->bare);
    free(s->root);
    free(s->offset);
    free(s->buffer);
    free(s->twinned);
    free(s->twin);
    free(s->steps);
    free(s->buffers);
    *s = (plan_scheme){0};
}
