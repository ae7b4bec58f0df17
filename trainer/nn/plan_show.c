/* What a plan takes and does, in figures. */
#include <stdlib.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "trainer/nn/plan_inside.h"

static size_t kept_bytes(const plan_scheme *s)
{
    size_t bytes = 0;

    for (int id = 0; id < s->nodes; id++)
        if (s->kept[id])
            bytes += plan_aligned((size_t)nn_bytes(nn_node_at(s->g, id)));
    return bytes;
}

size_t nn_plan_bytes(const nn_plan *p)
{
    return p->s.arena_bytes + p->scratch_bytes + kept_bytes(&p->s);
}

int nn_plan_calls(const nn_plan *p)
{
    return p->s.step_n;
}

static int ask_scratch(size_t *bytes, const plan_scheme *s, const plan_step *step, const nn_params *weights, err *e)
{
    nn_call c = {.y = step->y, .sizing = true};
    bool frozen[NN_MAX_SRC] = {false};

    if (!step->kernel->prepare)
        return 0;
    for (int i = 0; i < NN_MAX_SRC; i++) {
        nn_tensor root = c.y->src[i] ? nn_node_at(s->g, s->root[c.y->src[i]->id]) : NULL;
        frozen[i] = root && root->op == &nn_op_param && !nn_params_is_trained(weights, root->name);
    }
    int rc = step->kernel->prepare(nn_params_backend(weights), &c, frozen, e);
    if (rc == 0 && c.scratch_bytes > *bytes)
        *bytes = c.scratch_bytes;
    if (step->kernel->done)
        step->kernel->done(&c);
    return rc;
}

int nn_plan_predict(size_t *bytes, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n, err *e)
{
    plan_scheme s;
    nn_backend *on = nn_params_backend(weights);
    size_t scratch = 0;
    int rc = 0;

    on->begin(on);
    TRY(plan_scheme_make(&s, g, on, keep, n, e));
    for (int i = 0; i < s.step_n && rc == 0; i++)
        rc = ask_scratch(&scratch, &s, &s.steps[i], weights, e);
    *bytes = s.arena_bytes + scratch + kept_bytes(&s);
    plan_scheme_free(&s);
    return rc;
}

static void show_call(const nn_plan *p, int i, FILE *to)
{
    nn_tensor y = p->s.steps[i].y;
    const nn_kernel *const *list = plan_kernels(p->on, y);
    char text[64];

    fprintf(to, "%5d %-32s %-24s %12lld bytes  %s\n", i, p->s.steps[i].kernel->name, nn_shape_text(y->shape, text),
            (long long)nn_bytes(y), y->scope);
    for (; *list != p->s.steps[i].kernel; list++)
        fprintf(to, "      not %s: %s\n", (*list)->name, plan_declines(*list, y));
}

void nn_plan_show(const nn_plan *p, FILE *to)
{
    fprintf(to, "%d calls on %s: %zu bytes (arena %zu, kept %zu, scratch %zu)\n", p->s.step_n, p->on->name,
            nn_plan_bytes(p), p->s.arena_bytes, kept_bytes(&p->s), p->scratch_bytes);
    for (int i = 0; i < p->s.step_n; i++)
        show_call(p, i, to);
}

/* Nothing is written between the calls: they find the caches as in a run. */
static int time_calls(nn_plan *p, nn_timing *each, err *e)
{
    p->on->begin(p->on);
    for (int i = 0; i < p->s.step_n; i++) {
        int64_t start = clock_ns();
        TRY(plan_run_call(p, i, e));
        TRY(p->on->wait(p->on, e));
        each[i] = (nn_timing){p->s.steps[i].kernel->name, p->s.steps[i].y, (double)(clock_ns() - start) * 1e-9};
    }
    return plan_run_copies(p, e);
}

int nn_plan_times(nn_plan *p, nn_timing **each, int *n, err *e)
{
    TRY(plan_check_written(p, e));
    *n = p->s.step_n;
    *each = NEW_N(nn_timing, *n + 1);
    int rc = time_calls(p, *each, e);
    if (rc != 0)
        free(*each);
    return rc;
}

int nn_plan_time(nn_plan *p, FILE *to, err *e)
{
    nn_timing *each;
    char text[64];
    int n;

    TRY(nn_plan_times(p, &each, &n, e));
    for (int i = 0; i < n; i++)
        fprintf(to, "%.9f\t%s\t%s\t%s\n", each[i].seconds, each[i].kernel, nn_shape_text(each[i].y->shape, text),
                each[i].y->scope);
    free(each);
    return 0;
}
