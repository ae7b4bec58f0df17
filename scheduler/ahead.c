/* The next order is there before its slot is free: its worker goes on to it at once, and what becomes of the last result
 * (syncing it, naming it, the journal) goes on beside. Only a slot that will be free within ahead_ms has one, and only one: so
 * little is decided too early, and what is can be taken back. It comes back when another slot is free and nobody else waits,
 * when one of a better class waits, and when the farm is to end; if it has begun meanwhile, it just goes on.
 *
 * In the journal it is a start like any other. Gangs and packs have none: they are put together of what is free. */
#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

/* It has one slot of its own, and does not leave it but by its end. */
static bool alone_on_slot(const sched_job *j)
{
    return sched_running(j) && j->spec.kind == JOB_TRAIN && j->gang == 1 && j->node >= 0 && !j->packed && !j->slotless &&
           !j->ahead && !j->moving;
}

/* Before it has told of a step, as long as such a one takes. */
static double left_ms(const sched *s, const sched_job *j)
{
    if (j->state == JOB_PUBLISHING)
        return 0;
    if (j->step_seconds > 0 && j->began_step >= 0)
        return (double)(j->spec.steps - j->step) * j->step_seconds * 1000;
    return s->ms_per_sample > 0 ? (double)(j->spec.steps * j->spec.batch) * s->ms_per_sample : (double)s->how.ahead_ms + 1;
}

static bool stale(const sched *s, int i)
{
    const sched_job *j = &s->job[s->soon[i].job];

    return j->attempt != s->soon[i].attempt || !alone_on_slot(j);
}

static void make_room(sched *s)
{
    int kept = 0;

    for (int i = 0; i < s->soons; i++)
        if (!stale(s, i))
            s->soon[kept++] = s->soon[i];
    s->soons = kept;
    if (2 * kept < s->soon_room)
        return;
    s->soon_room = s->soon_room ? 2 * s->soon_room : 64;
    s->soon = mem_grow(s->soon, (size_t)s->soon_room, sizeof *s->soon);
}

void ahead_look(sched *s, int job)
{
    sched_job *j = &s->job[job];

    if (s->how.ahead_ms <= 0 || j->soon || !alone_on_slot(j) || left_ms(s, j) > (double)s->how.ahead_ms)
        return;
    if (s->soons == s->soon_room)
        make_room(s);
    s->soon[s->soons].job = job;
    s->soon[s->soons++].attempt = j->attempt;
    j->soon = true;
}

void ahead_tally(sched *s, int job, int by)
{
    const sched_job *j = &s->job[job];

    s->aheads[j->spec.priority] += j->ahead && !j->recalled ? by : 0;
    s->recalls += j->ahead && j->recalled ? by : 0;
}

/* ---- giving ---------------------------------------------------------------------------------------------------- */

static int slot_of(const sched *s, int job)
{
    const sched_node *n = &s->node[s->job[job].node];

    for (int i = 0; i < n->n; i++)
        if (n->slot[i].job == job)
            return i;
    return -1;
}

/* A slot that will soon be free and has nobody to come next. */
static bool soonest(sched *s, int *node, int *slot)
{
    for (; s->soons > 0; s->soon[0] = s->soon[--s->soons]) {
        const sched_job *j = &s->job[s->soon[0].job];
        if (stale(s, 0))
            continue;
        *node = j->node;
        *slot = slot_of(s, s->soon[0].job);
        if (*slot >= 0 && s->node[*node].trouble == NODE_WELL && s->node[*node].slot[*slot].state == SLOT_READY &&
            s->node[*node].slot[*slot].ahead < 0)
            return true;
    }
    return false;
}

/* Whoever has failed is placed with care, whoever is on a move has his slots to come; of a wave, gangs have their own. */
static bool may_come_next(const sched *s, const sched_job *j)
{
    bool packs = s->how.pack_max > 1 && j->spec.alike[0] && j->spec.priority != PRIORITY_URGENT && !j->alone;

    return j->failures + j->mishaps == 0 && j->want == 0 && !packs && (s->wave_slots == 0 || j->wave_gang < 2);
}

void ahead_place(sched *s, sched_effects *todo)
{
    int job, node, slot;

    while (s->soons > 0 && s->ready == 0 && (job = queue_top(s)) >= 0 && may_come_next(s, &s->job[job]) &&
           soonest(s, &node, &slot)) {
        queue_pop(s);
        sched_begin(s, job, 1, &node, &slot, false, todo);
        s->soon[0] = s->soon[--s->soons];
    }
}

/* ---- taking back ------------------------------------------------------------------------------------------------ */

static void recall(sched *s, int job, sched_effects *todo)
{
    sched_job *j = &s->job[job];

    ahead_tally(s, job, -1);
    j->recalled = true;
    ahead_tally(s, job, 1);
    sched_do(todo, DO_RECALL, job, j);
}

/* At most `most` of those whose class is worse than `than`. */
static void recall_some(sched *s, int most, int than, sched_effects *todo)
{
    for (int n = 0; n < s->nodes && most > 0; n++)
        for (int i = 0; i < s->node[n].n && most > 0; i++) {
            int job = s->node[n].slot[i].ahead;
            if (job < 0 || s->job[job].recalled || (int)s->job[job].spec.priority <= than)
                continue;
            recall(s, job, todo);
            most--;
        }
}

bool ahead_any(const sched *s)
{
    int n = s->recalls;

    for (int p = 0; p < PRIORITIES; p++)
        n += s->aheads[p];
    return n > 0;
}

void ahead_recall_all(sched *s, sched_effects *todo) { recall_some(s, s->jobs, -1, todo); }

/* As many as those who want their places; who is on the way back counts. */
void ahead_recall(sched *s, sched_effects *todo)
{
    int worse = 0, waits = 0;

    for (int p = PRIORITIES - 1; p >= 0; p--) {
        if (s->waiting[p] > 0 && worse > 0)
            recall_some(s, s->waiting[p] - s->recalls, p, todo);
        worse += s->aheads[p];
        waits += s->waiting[p];
    }
    if (waits == 0 && worse > 0 && s->ready > 0)
        recall_some(s, s->ready - s->recalls, -1, todo);
}
