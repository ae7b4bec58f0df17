/* What a plan takes and does, in figures. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "trainer/nn/flops.h"
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
    size_t arena = plan_owns_arena(p) ? p->s.arena_bytes : 0, scratch = plan_owns_scratch(p) ? p->scratch_bytes : 0;

    return p->s.fixed_bytes + arena + scratch + p->own_bytes + kept_bytes(&p->s);
}

int nn_plan_calls(const nn_plan *p)
{
    return p->s.step_n;
}

/* ---- what a plan would take ---- */

typedef struct { nn_tensor leaf; void *key; size_t bytes; } asked_form;
typedef struct {
    const plan_scheme *s;
    const nn_params *weights;
    bool *plain;       /* of each node: counted already */
    asked_form *forms; /* counted already */
    int form_n;
    size_t scratch, own, loaded;
    nn_traffic *each;  /* one for each call, where it is asked for */
} weighing;

static void weigh_plain(weighing *w, nn_tensor root)
{
    if (!w->plain[root->id])
        w->loaded += nn_params_plain_bytes(w->weights, root);
    w->plain[root->id] = true;
}

/* Both directions of a layer may want one layout, and a layer computed again asks once more. */
static void weigh_form(weighing *w, nn_tensor leaf, const nn_call *c)
{
    for (int i = 0; i < w->form_n; i++)
        if (w->forms[i].leaf == leaf && w->forms[i].bytes == c->form_key_bytes
            && memcmp(w->forms[i].key, c->form_key, c->form_key_bytes) == 0)
            return;
    w->forms = mem_grow(w->forms, (size_t)w->form_n + 1, sizeof *w->forms);
    w->forms[w->form_n++] = (asked_form){leaf, mem_copy(c->form_key, c->form_key_bytes), c->form_key_bytes};
    if (!nn_params_has_form(w->weights, leaf, c->form_key, c->form_key_bytes))
        w->loaded += c->form_bytes;
}

static nn_tensor root_of(const weighing *w, nn_tensor x)
{
    return nn_node_at(w->s->g, w->s->root[x->id]);
}

static bool is_frozen(const weighing *w, nn_tensor x)
{
    nn_tensor root = root_of(w, x);

    return root->op == &nn_op_param && !nn_params_is_trained(w->weights, root->name);
}

static void weigh_sources(weighing *w, nn_call *c, const nn_kernel *k, bool frozen[NN_MAX_SRC])
{
    for (int i = 0; i < NN_MAX_SRC; i++) {
        nn_tensor x = c->y->src[i];
        frozen[i] = x && is_frozen(w, x);
        if (frozen[i] && root_of(w, x) == x && (k->forms >> i & 1))
            c->leaf[i] = x;
        else if (frozen[i])
            weigh_plain(w, root_of(w, x));
    }
}

/* A table of words is read where words are, and what is cut where the piece is. */
static double bytes_read(const plan_scheme *s, const plan_step *step, const nn_call *c, int k)
{
    nn_tensor x = plan_source(s, step, k);
    const bool part = (c->y->op == &nn_op_embedding || c->y->op == &nn_op_slice) && k == 0, formed = k == 1 && c->leaf[1] && c->form_key;

    return formed ? (double)c->form_bytes
                  : (double)nn_bytes(part ? c->y : x) / (s->narrow[s->root[x->id]] || plan_reads_twin(s, step, k) ? 2 : 1);
}

static nn_traffic traffic_of(const plan_scheme *s, const plan_step *step, const nn_call *c)
{
    nn_traffic t = {.kernel = step->kernel->name, .y = step->y, .flops = nn_flops_of_call(step->y), .launches = 1 + c->launches,
                    .adds = step->sum, .narrow = c->narrow};

    t.bytes = (double)nn_bytes(plan_made(step)) / (c->narrow ? 2 : 1) + c->beside;
    if (s->twinned[plan_made(step)->id])
        t.bytes += (double)nn_bytes(plan_made(step)) / 2;
    for (int k = 0; k < PLAN_SOURCES; k++)
        if (plan_source(s, step, k))
            t.bytes += bytes_read(s, step, c, k);
    return t;
}

static int weigh_call(weighing *w, int i, err *e)
{
    const plan_step *step = &w->s->steps[i];

    nn_call c = {.y = step->y, .sum = step->sum, .added = step->added, .sizing = true,
                 .narrow = w->s->narrow[plan_made(step)->id], .bare = w->s->bare[plan_made(step)->id],
                 .narrow_in = plan_narrow_in(w->s, step)};
    const nn_kernel *k = step->kernel;
    bool frozen[NN_MAX_SRC];

    weigh_sources(w, &c, k, frozen);
    if (c.added && is_frozen(w, c.added))
        weigh_plain(w, root_of(w, c.added));
    int rc = k->prepare ? k->prepare(nn_params_backend(w->weights), &c, frozen, e) : 0;
    if (rc == 0 && c.scratch_bytes > w->scratch)
        w->scratch = c.scratch_bytes;
    w->own += rc == 0 ? c.own_bytes : 0;
    if (rc == 0 && w->each)
        w->each[i] = traffic_of(w->s, step, &c);
    if (rc == 0 && c.form_key)
        weigh_form(w, c.leaf[1], &c);
    if (k->prepare && k->done)
        k->done(&c);
    return rc;
}

static int weigh(weighing *w, const nn_tensor keep[], int n, err *e)
{
    for (int i = 0; i < n; i++)
        if (is_frozen(w, keep[i]))
            weigh_plain(w, root_of(w, keep[i]));
    for (int i = 0; i < w->s->step_n; i++)
        TRY(weigh_call(w, i, e));
    return 0;
}

/* each NULL: the size alone */
static int predict(nn_traffic **each, int *calls, nn_plan_size *out, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n,
                   err *e)
{
    plan_scheme s;
    nn_backend *on = nn_params_backend(weights);

    on->begin(on);
    TRY(plan_scheme_make(&s, g, on, keep, n, e));
    weighing w = {.s = &s, .weights = weights, .plain = NEW_N(bool, s.nodes + 1), .each = each ? NEW_N(nn_traffic, s.step_n + 1) : NULL};
    int rc = weigh(&w, keep, n, e);
    *out = (nn_plan_size){s.fixed_bytes + s.arena_bytes + w.scratch + w.own + kept_bytes(&s), w.loaded};
    for (int i = 0; i < w.form_n; i++)
        free(w.forms[i].key);
    free(w.forms);
    free(w.plain);
    if (rc == 0 && each) {
        *each = w.each;
        *calls = s.step_n;
    } else {
        free(w.each);
    }
    plan_scheme_free(&s);
    return rc;
}

int nn_plan_predict(nn_plan_size *out, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n, err *e)
{
    return predict(NULL, NULL, out, g, weights, keep, n, e);
}

int nn_plan_traffic(nn_traffic **each, int *calls, nn_plan_size *size, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n,
                    err *e)
{
    return predict(each, calls, size, g, weights, keep, n, e);
}

/* ---- telling ---- */

static void show_call(const nn_plan *p, int i, FILE *to)
{
    nn_tensor y = p->s.steps[i].y;
    const nn_kernel *const *list = plan_kernels(p->on, y);
    char text[64];

    const bool narrow = p->s.narrow[plan_made(&p->s.steps[i])->id];
    fprintf(to, "%5d %-32s %-24s %12lld bytes%s  %s%s\n", i, p->s.steps[i].kernel->name, nn_shape_text(y->shape, text),
            (long long)nn_bytes(y) / (narrow ? 2 : 1), narrow ? " in bf16" : p->s.twinned[plan_made(&p->s.steps[i])->id] ? " and rounded, too" : "", y->scope,
            p->s.bare[plan_made(&p->s.steps[i])->id] ? ", to which readers add the rest" : p->s.steps[i].sum ? ", and an add" : "");
    for (; *list != p->s.steps[i].kernel; list++)
        fprintf(to, "      not %s: %s\n", (*list)->name, plan_declines(list, y));
}

void nn_plan_show(const nn_plan *p, FILE *to)
{
    fprintf(to, "%d calls on %s: %zu bytes (inputs %zu, arena %zu, kept %zu, scratch %zu, of single calls %zu)\n", p->s.step_n, p->on->name,
            nn_plan_bytes(p), p->s.fixed_bytes, p->s.arena_bytes, kept_bytes(&p->s), p->scratch_bytes, p->own_bytes);
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
    plan_turn(p, true);
    int rc = time_calls(p, *each, e);
    plan_turn(p, false);
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
