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
        plan_find_narrow(s);
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
