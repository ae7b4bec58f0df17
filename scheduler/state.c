/* The farm, its events and what they call for. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

int sched_find(const sched *s, const char *name)
{
    const json_t *at = json_object_get(s->by_name, name);

    return at ? (int)json_integer_value(at) : -1;
}

void sched_record(sched_effects *todo, const sched_event *ev)
{
    todo->record = mem_grow(todo->record, todo->records + 1, sizeof *todo->record);
    todo->record[todo->records++] = *ev;
}

sched_effect *sched_do(sched_effects *todo, sched_effect_type type, int job, const sched_job *j)
{
    todo->at = mem_grow(todo->at, todo->n + 1, sizeof *todo->at);
    todo->at[todo->n] = (sched_effect){
        .type = type, .job = job, .attempt = j->attempt, .node = j->node, .gang = j->gang};
    return &todo->at[todo->n++];
}

void sched_effects_free(sched_effects *todo)
{
    free(todo->record);
    free(todo->at);
    *todo = (sched_effects){0};
}

static int tick(sched *s, const sched_event *ev)
{
    if (ev->now_ms < s->next_wake_ms)
        return 0;
    s->next_wake_ms = INT64_MAX;
    for (int i = 0; i < s->jobs; i++) {
        sched_job *j = &s->job[i];
        if (j->state != JOB_RETRY_WAIT && j->state != JOB_HOLD)
            continue;
        if (j->wake_ms <= ev->now_ms)
            job_set(s, i, JOB_QUEUED);
        else if (j->wake_ms < s->next_wake_ms)
            s->next_wake_ms = j->wake_ms;
    }
    return 0;
}

/* A new coordinator: what was under way is to be begun again, unless an agent comes and has it still (ADOPT). */
static int epoch(sched *s, const sched_event *ev, err *e)
{
    if (ev->epoch <= s->epoch)
        return err_set(e, ERR_INPUT, "epoch %lld after %lld", (long long)ev->epoch, (long long)s->epoch);
    s->epoch = ev->epoch;
    for (int i = 0; i < s->jobs; i++) {
        sched_job *j = &s->job[i];
        parts_forget(s, i);
        job_let_go(s, i);
        if (sched_running(j) || j->state == JOB_RETRY_WAIT || (j->state == JOB_HOLD && !j->spec.hold))
            job_set(s, i, JOB_QUEUED);
    }
    s->next_wake_ms = INT64_MAX;
    return 0;
}

/* All that runs is stopped, and nothing starts: each goes back into the line when its agent says STOPPED. */
static int halt(sched *s, sched_effects *todo)
{
    s->open = false;
    s->halting = true;
    for (int i = 0; i < s->jobs; i++)
        if (sched_running(&s->job[i]))
            parts_stop(s, i, todo);
    return 0;
}

static int apply(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    switch (ev->type) {
    case EV_EPOCH:     return epoch(s, ev, e);
    case EV_SUBMIT:    return job_submit(s, ev, e);
    case EV_START:     return job_start(s, ev, e);
    case EV_ADOPT:     return job_adopt(s, ev, e);
    case EV_AWAIT:     return job_await(s, ev, e);
    case EV_DONE:      return job_done(s, ev, e);
    case EV_FAILED:    return job_failed(s, ev, e);
    case EV_CANCEL:    return job_cancel(s, ev, todo, e);
    case EV_RELEASE:   return job_release(s, ev, e);
    case EV_SNAPSHOT:  return sched_restore(s, ev->snapshot, e);
    case EV_HOLD:      return job_hold(s, ev, todo, e);
    case EV_PRIORITY:  return job_priority_set(s, ev, e);
    case EV_OPEN:      s->open = true; s->halting = false; return 0;
    case EV_DRAIN:     s->open = false; ahead_recall_all(s, todo); return 0;
    case EV_HALT:      return halt(s, todo);
    case EV_NODE_UP:   return node_up(s, ev, todo, e);
    case EV_NODE_LOST: return node_lost(s, ev, todo, e);
    case EV_SLOT:      return slot_becomes(s, ev, e);
    case EV_PROGRESS:  return job_progress(s, ev, e);
    case EV_STOPPED:   return job_stopped(s, ev, e);
    case EV_PART:      return parts_answer(s, ev, todo, e);
    case EV_TICK:      return tick(s, ev);
    case EV_DURABLE_END:
    case EV_END:       break;
    }
    return err_set(e, ERR_INPUT, "event %d is unknown", ev->type);
}

/* What was read from the journal waits since the farm was begun again: the clock of before is another one. */
static void look_at_clock(sched *s, int64_t now_ms)
{
    if (s->now_ms == 0 && now_ms > 0) {
        for (int i = 0; i < s->jobs; i++)
            if (s->job[i].since_ms >= 0)
                s->job[i].since_ms = now_ms;
        queue_rebuild(s);
    }
    if (now_ms > s->now_ms)
        s->now_ms = now_ms;
}

/* A gang over several nodes that is under way: what its first node says waits for the others. */
static bool spread(const sched *s, const sched_event *ev)
{
    return ev->job >= 0 && ev->job < s->jobs && s->job[ev->job].part.each > 0 && s->job[ev->job].gang > 0;
}

int sched_step(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_event now = *ev;

    todo->records = todo->n = 0;
    todo->node = -1;
    look_at_clock(s, ev->now_ms);
    if (ev->type == EV_START || ev->type == EV_SNAPSHOT)
        return err_set(e, ERR_INPUT, "event %d comes from the farm itself, not to it", (int)ev->type);
    if (ev->type == EV_ADOPT && (ev->node < 0 || ev->node >= s->nodes || !s->node[ev->node].name))
        return err_set(e, ERR_INPUT, "node %d is not up", ev->node);
    if ((ev->type == EV_FAILED || ev->type == EV_STOPPED) && spread(s, ev)) {
        TRY(parts_lead(s, ev, todo, e));
    } else {
        if (ev->type == EV_FAILED && ev->verdict == VERDICT_NONE) {
            TRY(job_check(s, ev, e));
            job_judge(s, &now);
        }
        TRY(apply(s, &now, todo, e));
        if (now.type < EV_DURABLE_END)
            sched_record(todo, &now);
    }
    if (ev->type == EV_STOPPED && s->job[ev->job].moving && job_in_line(&s->job[ev->job]))
        place_moved(s, ev->job, todo);
    if (!ev->more)
        sched_place(s, todo);
    return 0;
}

int sched_replay(sched *s, const sched_event *ev, err *e)
{
    sched_effects none = {0};
    int rc;

    if (ev->type >= EV_DURABLE_END || (ev->type == EV_FAILED && ev->verdict == VERDICT_NONE))
        return err_set(e, ERR_INPUT, "event %d is not one of the journal's", ev->type);
    rc = apply(s, ev, &none, e);
    sched_effects_free(&none);
    return rc;
}

sched *sched_new(sched_options how)
{
    sched *s = NEW(sched);

    s->how = how;
    s->by_name = json_object();
    s->by_owner = json_object();
    s->by_class = json_object();
    s->next_wake_ms = INT64_MAX;
    return s;
}

void sched_free(sched *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->jobs; i++) {
        job_spec_free(&s->job[i]);
        free(s->job[i].why);
        free(s->job[i].wanted_by);
    }
    for (int n = 0; n < s->nodes; n++) {
        free(s->node[n].name);
        free(s->node[n].slot);
    }
    json_decref(s->by_name);
    json_decref(s->by_class);
    free(s->class);
    free(s->job);
    free(s->node);
    queue_free(s);
    free(s->soon);
    free(s->merge);
    free(s);
}

bool sched_waits(const sched *s)
{
    return s->waiting[PRIORITY_URGENT] + s->waiting[PRIORITY_NORMAL] + s->waiting[PRIORITY_BACKGROUND] > 0;
}

/* An open farm has started every merge that can run: sched_place() leaves none. */
bool sched_over(const sched *s)
{
    if (s->merging)
        return false;
    for (int k = JOB_ASSIGNED; k <= JOB_PUBLISHING; k++)
        if (s->count[k] > 0)
            return false;
    if (!s->open)
        return true;
    return s->next_wake_ms == INT64_MAX && !sched_waits(s);
}
