/* A gang over several nodes. Its first node, which has rank 0, answers for it; each of the others says when its part is over.
 * Nothing is judged before all have spoken: whoever fell first says why, and the others only that somebody did (FAILED_GANG). As
 * soon as one has failed or left, the rest are stopped. A result needs nobody's leave. */
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/sched_impl.h"

void parts_begin(sched_job *j, int gang, const int on[])
{
    sched_parts *p = &j->part;

    p->each = p->n = p->bare = 0;
    p->stopping = p->answered = p->failed = false;
    for (int r = 1; r < gang; r++)
        if (on[r] != on[r - 1])
            p->node[p->n++] = on[r];
    if (p->n > 0)
        p->each = gang / (p->n + 1);
}

static int part_at(const sched_job *j, int node)
{
    for (int i = 0; i < j->part.n; i++)
        if (j->part.node[i] == node)
            return i;
    return -1;
}

bool sched_part(const sched *s, int job, int attempt, int node)
{
    return job >= 0 && job < s->jobs && s->job[job].attempt == attempt && part_at(&s->job[job], node) >= 0;
}

void parts_stop(sched *s, int job, sched_effects *todo)
{
    const sched_job *j = &s->job[job];

    if (!j->part.answered)
        sched_do(todo, DO_STOP, job, j);
    for (int i = 0; i < j->part.n; i++)
        sched_do(todo, DO_STOP, job, j)->node = j->part.node[i];
}

static void stop_once(sched *s, int job, sched_effects *todo)
{
    if (!s->job[job].part.stopping)
        parts_stop(s, job, todo);
    s->job[job].part.stopping = true;
}

static bool of_another(const char *code) { return strcmp(code, FAILED_GANG) == 0; }

/* The first reason that is one of its own. */
static void remember(sched_parts *p, const sched_event *ev, int node)
{
    const char *code = ev->code ? ev->code : "";

    if (p->failed && (!of_another(p->code) || of_another(code)))
        return;
    p->failed = true;
    p->culprit = node;
    p->blame = ev->blame;
    p->retry = ev->retry;
    p->step = ev->step;
    str_copy(p->code, sizeof p->code, code);
    str_copy(p->text, sizeof p->text, ev->text ? ev->text : "");
}

/* All have spoken. Stopped by nobody's order, and nobody has failed: a node left. */
static void conclude(sched *s, int job, int64_t now_ms, sched_effects *todo)
{
    sched_job *j = &s->job[job];
    sched_parts *p = &j->part;
    sched_event ev = {.type = p->failed ? EV_FAILED : EV_STOPPED, .now_ms = now_ms, .job = job, .attempt = j->attempt,
                      .blame = p->blame, .retry = p->retry, .code = p->code, .text = p->text, .step = p->step};

    p->answered = false;
    if (!p->failed) {
        CHECK(job_stopped(s, &ev, NULL) == 0);
    } else {
        job_judge(s, &ev);
        CHECK(job_failed(s, &ev, NULL) == 0);
        sched_record(todo, &ev); /* its texts stay as they are until the next gang over several nodes fails */
    }
    p->each = 0;
}

static void go_on(sched *s, int job, int64_t now_ms, sched_effects *todo)
{
    sched_parts *p = &s->job[job].part;

    if (p->answered && p->n > 0)
        stop_once(s, job, todo);
    else if (p->answered)
        conclude(s, job, now_ms, todo);
    else if (p->failed)
        stop_once(s, job, todo);
}

int parts_lead(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_parts *p;

    TRY(job_check(s, ev, e));
    p = &s->job[ev->job].part;
    p->answered = true;
    if (ev->type == EV_FAILED)
        remember(p, ev, s->job[ev->job].node);
    go_on(s, ev->job, ev->now_ms, todo);
    return 0;
}

static void free_part(sched *s, int job, int node)
{
    sched_parts *p = &s->job[job].part;
    bool held = false;

    for (int i = 0; i < s->node[node].n; i++) {
        held |= slot_holds(&s->node[node], i, job);
        slot_leave(s, node, i, job);
    }
    p->bare -= !held;
    p->node[part_at(&s->job[job], node)] = p->node[p->n - 1];
    p->n--;
    if (p->n == 0 && s->job[job].gang == 0) /* the gang itself has long been over */
        p->each = 0;
}

/* Nobody is left who could answer. */
void parts_forget(sched *s, int job)
{
    sched_parts *p = &s->job[job].part;

    while (p->n > 0)
        free_part(s, job, p->node[0]);
    p->each = 0;
    p->answered = false;
}

int parts_answer(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    if (!sched_part(s, ev->job, ev->attempt, ev->node))
        return err_set(e, ERR_PEER, "job %d attempt %d: late, that node has no part in it", ev->job, ev->attempt);
    free_part(s, ev->job, ev->node);
    if (s->job[ev->job].gang == 0)
        return 0;
    if (ev->failed)
        remember(&s->job[ev->job].part, ev, ev->node);
    if (ev->stopped && !s->job[ev->job].part.answered)
        stop_once(s, ev->job, todo);
    go_on(s, ev->job, ev->now_ms, todo);
    return 0;
}

void parts_lost(sched *s, int job, const sched_event *lost, sched_effects *todo)
{
    if (part_at(&s->job[job], lost->node) >= 0) {
        CHECK(parts_answer(s, lost, todo, NULL) == 0);
        return;
    }
    for (int i = 0; i < s->node[lost->node].n; i++)
        slot_leave(s, lost->node, i, job);
    if (!s->job[job].part.answered)
        CHECK(parts_lead(s, lost, todo, NULL) == 0);
}
