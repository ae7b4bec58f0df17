/* The waste ledger of a farm that runs: each turn's time of each slot goes where the slot stands; of a gang that trains, the part
 * in which it adds up, as its first member tells, goes to reduce. What an attempt had done and the next one does again goes from
 * training to lost when the next one tells from which step it goes on. */
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "scheduler/coord_impl.h"

static const int64_t LEAST = 10000000;

static waste_kind kind_of(const sched *s, const sched_node *n, int i)
{
    const sched_job *j = n->slot[i].job >= 0 ? &s->job[n->slot[i].job] : NULL;

    if (n->slot[i].state == SLOT_DOWN)
        return WASTE_LOST;
    if (!j && n->slot[i].state == SLOT_WARMING)
        return WASTE_LOAD;
    if (!j)
        return sched_waits(s) ? WASTE_SCHEDULER : WASTE_NO_WORK;
    if (j->moving)
        return WASTE_RESIZE;
    switch (j->state) {
    case JOB_ASSIGNED:
    case JOB_LOADING:    return j->moved ? WASTE_RESIZE : WASTE_LOAD;
    case JOB_TRAINING:   return WASTE_TRAIN;
    case JOB_PUBLISHING: return WASTE_CHECKPOINT;
    default:             return WASTE_LOST; /* cancelled, on hold: it is on its way out */
    }
}

static double joins(const coordinator *c, int job)
{
    return job < c->joins_n && c->s->job[job].gang > 1 ? c->joins[job] : 0;
}

void waste_turn(coordinator *c)
{
    const sched *s = c->s;
    int64_t now = clock_ns();
    double dt = c->waste_ns ? (double)(now - c->waste_ns) * 1e-9 : 0;

    if (c->waste_ns && now - c->waste_ns < LEAST) /* thousands of slots; a busy coordinator has very many turns */
        return;
    c->waste_ns = now;
    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; s->node[n].name && i < s->node[n].n; i++) {
            waste_kind k = kind_of(s, &s->node[n], i);
            double join = k == WASTE_TRAIN ? joins(c, s->node[n].slot[i].job) : 0;
            c->where.seconds[k] += (1 - join) * dt;
            c->where.seconds[WASTE_REDUCE] += join * dt;
        }
}

static void note_joins(coordinator *c, const sched_event *ev, double joined)
{
    if (c->joins_n < c->s->jobs) {
        c->joins = mem_grow(c->joins, (size_t)c->s->jobs, sizeof *c->joins);
        memset(c->joins + c->joins_n, 0, (size_t)(c->s->jobs - c->joins_n) * sizeof *c->joins);
        c->joins_n = c->s->jobs;
    }
    c->joins[ev->job] = !(joined > 0) ? 0 : ev->step_seconds > joined ? joined / ev->step_seconds : 1;
}

void waste_progress(coordinator *c, const sched_event *ev, double joined)
{
    const sched_job *j = ev->job >= 0 && ev->job < c->s->jobs ? &c->s->job[ev->job] : NULL;

    if (j && ev->attempt == j->attempt)
        note_joins(c, ev, joined);
    if (!j || ev->attempt != j->attempt || ev->phase != JOB_TRAINING || j->state >= JOB_TRAINING || ev->step - 1 >= j->had_step)
        return;
    waste_lose(&c->where, j->had_seconds * (1 - (double)(ev->step > 0 ? ev->step - 1 : 0) / (double)j->had_step));
}
