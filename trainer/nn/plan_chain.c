/* Several plans as one run that nobody waits for.
 *
 * A run is put down call by call the first time, since libraries load code at a first call, then recorded as one list of the
 * backend's, which every later start replays. Inputs do not belong to the list: they cross in two places by turns (nn_crossing)
 * and are copied in front of the run to where the plans have them, so that one list serves both. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/plan_inside.h"

typedef struct {
    int plan, call;              /* behind this call */
    nn_chain_act *act;
    void *arg;
} chain_act;

struct nn_chain {
    nn_backend *on;
    nn_plan *plans[NN_CHAIN_MOST];
    size_t at[NN_CHAIN_MOST];    /* where each plan's inputs lie in a place */
    int n;
    nn_ferry *ferry;
    char *place;                 /* being filled; NULL: none */
    bool *missing[NN_CHAIN_MOST]; /* of each node: an input that is needed and was not written for the next run */
    chain_act *acts;
    int act_n;
    void *list;                  /* as recorded; NULL: not yet, or the backend does not record */
    bool ran;
};

static void want_all(nn_chain *c)
{
    for (int i = 0; i < c->n; i++)
        for (int id = 0; id < c->plans[i]->s.nodes; id++)
            c->missing[i][id] = c->plans[i]->s.alive[id] && plan_node(c->plans[i], id)->op == &nn_op_input;
}

static int check_written(const nn_chain *c, err *e)
{
    for (int i = 0; i < c->n; i++) {
        const nn_plan *p = c->plans[i];
        const bool *first = memchr(c->missing[i], true, (size_t)p->s.nodes);
        if (first)
            return err_set(e, ERR_INPUT, "input %s was not written for this run", plan_node(p, (int)(first - c->missing[i]))->name);
    }
    return 0;
}

int nn_chain_new(nn_chain **out, nn_plan *const plans[], int n, err *e)
{
    nn_chain *c = NEW(nn_chain);
    size_t bytes = 0;

    CHECK(n > 0 && n <= NN_CHAIN_MOST && plans[0]->on->crossing);
    *c = (nn_chain){.on = plans[0]->on, .n = n};
    for (int i = 0; i < n; i++) {
        CHECK(plans[i]->on == c->on);
        c->plans[i] = plans[i];
        c->at[i] = bytes;
        bytes += plans[i]->s.input_bytes;
        c->missing[i] = NEW_N(bool, plans[i]->s.nodes + 1);
    }
    want_all(c);
    c->on->begin(c->on);
    int rc = c->on->crossing->open(c->on, &c->ferry, bytes, e);
    if (rc == 0)
        *out = c;
    else
        nn_chain_free(c);
    return rc;
}

void nn_chain_free(nn_chain *c)
{
    if (!c)
        return;
    if (c->list)
        c->on->forget(c->on, c->list);
    if (c->ferry)
        c->on->crossing->close(c->ferry);
    for (int i = 0; i < c->n; i++)
        free(c->missing[i]);
    free(c->acts);
    free(c);
}

/* The last call that writes there; what is copied there comes behind all calls. */
int nn_plan_ready(const nn_plan *p, const void *mem, size_t bytes)
{
    const char *from = mem;

    for (int k = 0; k < p->copy_n; k++)
        if ((char *)p->copies[k].to < from + bytes && from < (char *)p->copies[k].to + p->copies[k].bytes)
            return p->s.step_n;
    for (int i = p->s.step_n - 1; i >= 0; i--) {
        const nn_call *c = &p->calls[i];
        const char *to = c->out, *end = to + nn_bytes(c->y) / (c->narrow ? 2 : 1);
        if (to < from + bytes && from < end)
            return i;
    }
    return p->s.step_n;
}

void nn_chain_when(nn_chain *c, int i, const void *mem, size_t bytes, nn_chain_act *act, void *arg)
{
    const chain_act *last = c->act_n > 0 ? &c->acts[c->act_n - 1] : NULL;
    int call = nn_plan_ready(c->plans[i], mem, bytes);

    CHECK(!c->ran && i < c->n && (!last || last->plan <= i));
    if (last && last->plan == i && last->call > call)
        call = last->call;
    c->acts = mem_grow(c->acts, (size_t)c->act_n + 1, sizeof *c->acts);
    c->acts[c->act_n++] = (chain_act){i, call, act, arg};
}

int nn_chain_write(nn_chain *c, int i, nn_tensor input, const void *from, size_t bytes, err *e)
{
    nn_plan *p = c->plans[i];

    CHECK(input->op == &nn_op_input);
    TRY(plan_check_tensor(p, input, input->name, bytes, e));
    if (!c->place)
        TRY(c->on->crossing->fill(c->ferry, (void **)&c->place, e));
    if (p->mem[input->id])
        memcpy(c->place + c->at[i] + ((char *)p->mem[input->id] - (char *)p->fixed), from, bytes);
    c->missing[i][input->id] = p->unwritten[input->id] = false;
    return 0;
}

/* ---- a run ---- */

static int act_behind(const nn_chain *c, int plan, int call, int *done, err *e)
{
    for (; *done < c->act_n && c->acts[*done].plan == plan && c->acts[*done].call == call; ++*done)
        TRY(c->acts[*done].act(c->acts[*done].arg, e));
    return 0;
}

static int put_down(const nn_chain *c, err *e)
{
    int done = 0;

    for (int i = 0; i < c->n; i++) {
        const nn_plan *p = c->plans[i];
        for (int k = 0; k < p->s.step_n; k++) {
            TRY(plan_run_call(p, k, e));
            TRY(act_behind(c, i, k, &done, e));
        }
        TRY(plan_run_copies(p, e));
        TRY(act_behind(c, i, p->s.step_n, &done, e));
    }
    return 0;
}

static int record(nn_chain *c, err *e)
{
    err late = {0};

    TRY(c->on->record(c->on, e));
    int rc = put_down(c, e);
    int end = c->on->recorded(c->on, &c->list, rc ? &late : e);
    return rc ? rc : end;
}

static int run(nn_chain *c, err *e)
{
    if (!c->on->record || !c->ran)
        return put_down(c, e);
    if (!c->list)
        TRY(record(c, e));
    return c->on->replay(c->on, c->list, e);
}

static int bring_inputs(nn_chain *c, err *e)
{
    void *there;

    TRY(c->on->crossing->cross(c->ferry, &there, e));
    c->place = NULL;
    for (int i = 0; i < c->n; i++) {
        const nn_plan *p = c->plans[i];
        if (p->s.input_bytes > 0 && c->on->copy(c->on, p->fixed, (char *)there + c->at[i], p->s.input_bytes) != 0)
            return err_set(e, ERR_DEVICE, "%s refused a copy", c->on->name);
    }
    return c->on->crossing->over(c->ferry, e);
}

int nn_chain_start(nn_chain *c, err *e)
{
    TRY(check_written(c, e));
    c->on->begin(c->on);
    plan_turn(c->plans[0], true);
    int rc = c->place ? bring_inputs(c, e) : 0;
    if (rc == 0)
        rc = run(c, e);
    plan_turn(c->plans[0], false);
    c->ran = c->ran || rc == 0;
    want_all(c);
    return rc;
}
