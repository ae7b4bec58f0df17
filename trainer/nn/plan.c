/* A plan carried out: memory taken, kernels prepared, then nothing but calls. */
#include "trainer/nn/plan.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/plan_inside.h"

static int where(const nn_call *c, err *e)
{
    return err_wrap(e, "%s%s%s", c->y->scope, c->y->scope[0] ? ": " : "", c->y->op->name);
}

/* ---- memory ---- */

static int place_root(nn_plan *p, int id, err *e)
{
    nn_tensor y = plan_node(p, id);

    if (y->op == &nn_op_param)
        TRY(nn_params_look(p->params, y, &p->frozen[id], e));
    if (p->frozen[id])
        return 0;
    if (y->op == &nn_op_param || y->op == &nn_op_state)
        return nn_params_bind(p->params, y, &p->mem[id], &p->frozen[id], e);
    if (p->s.kept[id])
        return p->on->alloc(p->on, &p->mem[id], plan_aligned((size_t)nn_bytes(y)), e);
    int buffer = p->s.buffer[id];
    if (buffer != NO_BUFFER)
        p->mem[id] = (char *)(buffer < p->s.fixed_n ? p->fixed : p->arena) + p->s.buffers[buffer].at;
    return 0;
}

/* lent: another plan's of lent_bytes, taken where that is enough. */
static int take(nn_plan *p, void **mem, size_t bytes, void *lent, size_t lent_bytes, err *e)
{
    *mem = bytes > 0 && bytes <= lent_bytes ? lent : NULL;
    return bytes > 0 && !*mem ? p->on->alloc(p->on, mem, bytes, e) : 0;
}

/* Of an alias: its place within its root. */
static void *inside(const nn_plan *p, int id)
{
    const int root = p->s.root[id];

    return (char *)p->mem[root] + p->s.offset[id] / (p->s.narrow[root] ? 2 : 1);
}

static int place_all(nn_plan *p, err *e)
{
    const nn_plan *u = p->under;

    TRY(take(p, &p->fixed, p->s.fixed_bytes, NULL, 0, e));
    TRY(take(p, &p->arena, p->s.arena_bytes, u ? u->arena : NULL, u ? u->s.arena_bytes : 0, e));
    for (int id = 0; id < p->s.nodes; id++) {
        int root = p->s.root[id];
        if (!p->s.alive[id])
            continue;
        if (root == id)
            TRY(place_root(p, id, e));
        else if (p->mem[root])
            p->mem[id] = inside(p, id);
        p->unwritten[id] = plan_node(p, id)->op == &nn_op_input;
    }
    return 0;
}

static int write_constant(nn_plan *p, nn_tensor y, err *e)
{
    int64_t n = nn_count(y->shape);
    float *host = NEW_N(float, n);

    for (int64_t i = 0; i < n; i++)
        host[i] = y->at.scale;
    int rc = p->on->write(p->on, p->mem[y->id], host, (size_t)nn_bytes(y), e);
    free(host);
    return rc;
}

static int write_constants(nn_plan *p, err *e)
{
    for (int id = 0; id < p->s.nodes; id++)
        if (p->s.alive[id] && plan_node(p, id)->op == &nn_op_fill)
            TRY(write_constant(p, plan_node(p, id), e));
    return 0;
}

/* ---- calls ---- */

/* A frozen weight's plain values, which no kernel asked for before. */
static int hold(nn_plan *p, int root, err *e)
{
    if (p->held[root])
        return 0;
    TRY(nn_params_hold(p->params, plan_node(p, root), &p->mem[root], e));
    p->held[root] = true;
    for (int id = 0; id < p->s.nodes; id++)
        if (p->s.alive[id] && p->s.root[id] == root)
            p->mem[id] = inside(p, id);
    return 0;
}

static int hold_kept(nn_plan *p, const nn_tensor keep[], int n, err *e)
{
    for (int i = 0; i < n; i++)
        if (p->frozen[p->s.root[keep[i]->id]])
            TRY(hold(p, p->s.root[keep[i]->id], e));
    return 0;
}

/* Where something lies that is added; x NULL: nothing is. */
static int find_added(nn_plan *p, nn_tensor x, const void **at, err *e)
{
    if (x && p->frozen[p->s.root[x->id]])
        TRY(hold(p, p->s.root[x->id], e));
    *at = x ? p->mem[x->id] : NULL;
    return 0;
}

/* On the way out, and on the way in. */
static int find_all_added(nn_plan *p, const plan_step *step, nn_call *c, err *e)
{
    c->bare = p->s.bare[plan_made(step)->id];
    if (c->bare)
        c->in[2] = NULL;
    TRY(find_added(p, c->bare ? NULL : step->added, &c->more, e));
    TRY(find_added(p, plan_source(&p->s, step, PLAN_LATE_BIAS), &c->late_bias, e));
    return find_added(p, plan_source(&p->s, step, PLAN_LATE_MORE), &c->late_more, e);
}

/* Where a root lies in bf16, beside its f32. */
static void *twin_of(const nn_plan *p, int root)
{
    return p->s.twinned[root] ? (char *)p->arena + p->s.buffers[p->s.twin[root]].at : NULL;
}

static int find_source(nn_plan *p, const plan_step *step, nn_call *c, int s, err *e)
{
    const nn_kernel *k = step->kernel;
    nn_tensor x = c->y->src[s];
    int root = p->s.root[x->id];

    if (p->frozen[root] && root == x->id && (k->forms >> s & 1)) {
        c->leaf[s] = x;
        return 0;
    }
    if (p->frozen[root])
        TRY(hold(p, root, e));
    c->in[s] = plan_reads_twin(&p->s, step, s) ? (char *)twin_of(p, root) + p->s.offset[x->id] / 2 : p->mem[x->id];
    return 0;
}

int plan_prepare_call(nn_plan *p, int i, err *e)
{
    const plan_step *step = &p->s.steps[i];
    nn_call c = {.y = step->y, .sum = step->sum, .added = step->added, .params = p->params};
    const nn_kernel *k = step->kernel;
    bool frozen[NN_MAX_SRC] = {false};

    c.out = p->mem[plan_made(step)->id];
    c.twin = twin_of(p, plan_made(step)->id);
    c.narrow = p->s.narrow[plan_made(step)->id];
    c.narrow_in = plan_narrow_in(&p->s, step);
    for (int s = 0; s < NN_MAX_SRC; s++)
        if (c.y->src[s]) {
            if (find_source(p, step, &c, s, e) != 0)
                return where(&c, e);
            frozen[s] = p->frozen[p->s.root[c.y->src[s]->id]];
        }
    if (find_all_added(p, step, &c, e) != 0)
        return where(&c, e);
    p->calls[i] = c;
    return k->prepare && k->prepare(p->on, &p->calls[i], frozen, e) != 0 ? where(&c, e) : 0;
}

void plan_finish_call(nn_plan *p, int i)
{
    if (p->s.steps[i].kernel->done && p->calls[i].y)
        p->s.steps[i].kernel->done(&p->calls[i]);
    p->calls[i].y = NULL;
}

static int prepare_all(nn_plan *p, err *e)
{
    for (int i = 0; i < p->s.step_n; i++) {
        TRY(plan_prepare_call(p, i, e));
        if (p->calls[i].scratch_bytes > p->scratch_bytes)
            p->scratch_bytes = p->calls[i].scratch_bytes;
        p->own_bytes += p->calls[i].own_bytes;
    }
    TRY(take(p, &p->scratch, p->scratch_bytes, p->under ? p->under->scratch : NULL, p->under ? p->under->scratch_bytes : 0, e));
    for (int i = 0; i < p->s.step_n; i++)
        p->calls[i].scratch = p->scratch;
    return 0;
}

int nn_plan_over(nn_plan **out, const nn_plan *under, const nn_graph *g, nn_params *weights, const nn_tensor keep[], int n, err *e)
{
    nn_plan *p = NEW(nn_plan);

    p->under = under;
    p->params = weights;
    p->on = nn_params_backend(weights);
    p->on->begin(p->on);
    nn_params_lock(weights);
    plan_turn(p, true);
    int rc = plan_scheme_make(&p->s, g, p->on, keep, n, e);
    p->mem = NEW_N(void *, p->s.nodes + 1);
    p->frozen = NEW_N(bool, p->s.nodes + 1);
    p->held = NEW_N(bool, p->s.nodes + 1);
    p->unwritten = NEW_N(bool, p->s.nodes + 1);
    p->calls = NEW_N(nn_call, p->s.step_n + 1);
    if (rc == 0)
        rc = place_all(p, e);
    if (rc == 0)
        rc = hold_kept(p, keep, n, e);
    if (rc == 0)
        rc = prepare_all(p, e);
    if (rc == 0)
        rc = write_constants(p, e);
    plan_turn(p, false);
    nn_params_unlock(weights);
    if (rc == 0)
        *out = p;
    else
        nn_plan_free(p);
    return rc;
}

int nn_plan_new(nn_plan **out, const nn_graph *g, nn_params *weights, const nn_tensor keep[], int n, err *e)
{
    return nn_plan_over(out, NULL, g, weights, keep, n, e);
}

void nn_plan_free(nn_plan *p)
{
    if (!p)
        return;
    nn_params_lock(p->params);
    if (p->list)
        p->on->forget(p->on, p->list);
    for (int i = 0; i < p->s.step_n; i++)
        plan_finish_call(p, i);
    for (int id = 0; id < p->s.nodes; id++)
        if (p->s.kept[id] && p->mem[id])
            p->on->release(p->on, p->mem[id]);
    if (p->fixed)
        p->on->release(p->on, p->fixed);
    if (p->arena && plan_owns_arena(p))
        p->on->release(p->on, p->arena);
    if (p->scratch && plan_owns_scratch(p))
        p->on->release(p->on, p->scratch);
    for (int id = 0; id < p->s.nodes; id++)
        if (p->held[id])
            nn_params_let_go(p->params, plan_node(p, id));
    nn_params_unlock(p->params);
    plan_scheme_free(&p->s);
    free(p->mem);
    free(p->frozen);
    free(p->held);
    free(p->unwritten);
    free(p->calls);
    free(p->copies);
    free(p);
}

/* ---- writing, running, reading ---- */

int plan_check_tensor(const nn_plan *p, nn_tensor t, const char *name, size_t bytes, err *e)
{
    char text[64];

    if (t->id < 0 || t->id >= p->s.nodes || plan_node(p, t->id) != t)
        return err_set(e, ERR_INPUT, "%s is not of this plan's graph", name);
    if (bytes != (size_t)nn_bytes(t))
        return err_set(e, ERR_SHAPE, "%s is %s %s, %lld bytes, and %zu were given", name, dtype_name(t->type),
                       nn_shape_text(t->shape, text), (long long)nn_bytes(t), bytes);
    return 0;
}

int nn_write(nn_plan *p, nn_tensor input, const void *from, size_t bytes, err *e)
{
    CHECK(input->op == &nn_op_input);
    TRY(plan_check_tensor(p, input, input->name, bytes, e));
    p->unwritten[input->id] = false;
    return p->mem[input->id] ? p->on->write(p->on, p->mem[input->id], from, bytes, e) : 0;
}

int plan_check_written(const nn_plan *p, err *e)
{
    const bool *first = memchr(p->unwritten, true, (size_t)p->s.nodes);

    if (!first)
        return 0;
    return err_set(e, ERR_INPUT, "input %s was never written", plan_node(p, (int)(first - p->unwritten))->name);
}

int plan_run_call(const nn_plan *p, int i, err *e)
{
    const nn_kernel *k = p->s.steps[i].kernel;
    int rc = k->run(p->on, &p->calls[i]);

    if (rc == 0)
        return 0;
    if (p->on->wait(p->on, e) == 0) /* else the device says why */
        err_set(e, (err_code)rc, "%s gave up", k->name);
    return where(&p->calls[i], e);
}

int plan_run_copies(const nn_plan *p, err *e)
{
    for (int i = 0; i < p->copy_n; i++) {
        const late_copy *c = &p->copies[i];
        if (p->on->copy(p->on, c->to, (char *)p->mem[c->from->id] + c->at, c->bytes) != 0)
            return err_set(e, ERR_DEVICE, "%s refused a copy", p->on->name);
    }
    return 0;
}

static int run_calls(const nn_plan *p, err *e)
{
    for (int i = 0; i < p->s.step_n; i++)
        TRY(plan_run_call(p, i, e));
    return plan_run_copies(p, e);
}

static int record(nn_plan *p, err *e)
{
    err late = {0};

    TRY(p->on->record(p->on, e));
    int rc = run_calls(p, e);
    int end = p->on->recorded(p->on, &p->list, rc ? &late : e);
    return rc ? rc : end;
}

/* Only what has run once is recorded: libraries load code at a first call, which a device does not let be recorded. */
static int run_all(nn_plan *p, err *e)
{
    if (!p->on->record || p->on->lanes > 1 || !p->ran)
        return run_calls(p, e);
    if (!p->list)
        TRY(record(p, e));
    return p->on->replay(p->on, p->list, e);
}

int nn_run(nn_plan *p, err *e)
{
    TRY(plan_check_written(p, e));
    p->on->begin(p->on);
    plan_turn(p, true);
    int rc = run_all(p, e);
    plan_turn(p, false);
    p->ran = p->ran || rc == 0;
    return rc ? rc : p->on->wait(p->on, e);
}

bool plan_is_readable(const nn_plan *p, nn_tensor t)
{
    nn_tensor root = plan_node(p, p->s.root[t->id]);

    return p->mem[t->id] && (p->s.kept[root->id] || p->s.buffer[root->id] == NO_BUFFER || root->op == &nn_op_input
                             || root->op == &nn_op_fill);
}

static int check_readable(const nn_plan *p, nn_tensor kept, size_t bytes, err *e)
{
    TRY(plan_check_tensor(p, kept, kept->name ? kept->name : "the tensor read", bytes, e));
    if (!plan_is_readable(p, kept))
        return err_set(e, ERR_INPUT, "the tensor read is a %s that the plan was not told to keep", kept->op->name);
    return 0;
}

int nn_tell(const nn_plan *p, nn_tensor kept, void *pinned, size_t bytes, err *e)
{
    TRY(check_readable(p, kept, bytes, e));
    return p->on->crossing->tell(p->on, pinned, p->mem[kept->id], bytes, e);
}

int nn_read(nn_plan *p, nn_tensor kept, void *to, size_t bytes, err *e)
{
    TRY(check_readable(p, kept, bytes, e));
    return p->on->read(p->on, to, p->mem[kept->id], bytes, e);
}
