/* The line of trainings: a binary heap for each owner, and a rule which owner's turn it is.
 *
 * Between owners: whoever has had least so far, for his weight, goes next (work that was started, in samples, over the
 * weight). Who comes back after a pause begins where the others are: what was not used is not saved up. A better class
 * goes first all the same, but only as far as it costs the one who has had least no more than LEAD times his next
 * training: so nobody's urgent work keeps another from his share, and who waits, waits at most 1 + LEAD times as long as his
 * share alone would make him.
 *
 * Within an owner: the better class, then the shortest, where a wait counts for a quarter of its time: none that comes
 * later than four times its own length can overtake it. With gangs that fill the tail the makespan hardly depends on the
 * order; the mean completion does, and shortest first is its best.
 *
 * Where all that waits has its turn at once, the order is planned (wave.c).
 *
 * A job that left the queued state by another door (cancelled, changed) stays in the heap until it comes up, and is dropped
 * there. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

static const double LEAD = 2, WAIT_COUNTS = 0.25, MS_PER_SAMPLE = 100; /* the last: before any step was seen */

static double work(const job_spec *p) { return (double)p->steps * (double)p->batch; }

/* Milliseconds. It holds for as long as the job waits: what all gain by waiting need not be written down. */
static double key_of(const sched *s, const sched_job *j)
{
    double ms = s->ms_per_sample > 0 ? s->ms_per_sample : MS_PER_SAMPLE;

    return work(&j->spec) * ms + WAIT_COUNTS * (double)j->since_ms;
}

static bool before(const sched *s, int a, int b)
{
    const sched_job *x = &s->job[a], *y = &s->job[b];

    if (x->spec.priority != y->spec.priority)
        return x->spec.priority < y->spec.priority;
    if (s->wave_slots > 0 && x->wave_turn != y->wave_turn)
        return x->wave_turn < y->wave_turn;
    return x->key != y->key ? x->key < y->key : a < b;
}

int sched_ahead(const sched *s, int job)
{
    int n = 0;

    for (int i = 0; i < s->jobs; i++)
        n += i != job && job_in_line(&s->job[i]) && before(s, i, job);
    return n;
}

/* ---- one owner's heap ----------------------------------------------------------------------------------------- */

static void swap(int *a, int *b)
{
    int keep = *a;

    *a = *b;
    *b = keep;
}

static void sink(const sched *s, sched_owner *o, int at)
{
    for (int child; (child = 2 * at + 1) < o->n; at = child) {
        if (child + 1 < o->n && before(s, o->queue[child + 1], o->queue[child]))
            child++;
        if (!before(s, o->queue[child], o->queue[at]))
            return;
        swap(&o->queue[child], &o->queue[at]);
    }
}

static void rise(const sched *s, sched_owner *o, int at)
{
    for (; at > 0 && before(s, o->queue[at], o->queue[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&o->queue[at], &o->queue[(at - 1) / 2]);
}

static void insert(sched *s, int job)
{
    sched_job *j = &s->job[job];
    sched_owner *o = &s->owner[j->owner];

    if (o->n == o->room) {
        o->room = o->room ? 2 * o->room : 64;
        o->queue = mem_grow(o->queue, (size_t)o->room, sizeof *o->queue);
    }
    j->in_queue = true;
    j->key = key_of(s, j);
    o->queue[o->n] = job;
    rise(s, o, o->n++);
}

static void drop_top(sched *s, sched_owner *o)
{
    s->job[o->queue[0]].in_queue = false;
    o->queue[0] = o->queue[--o->n];
    sink(s, o, 0);
}

static int top_of(sched *s, sched_owner *o)
{
    while (o->n > 0 && !job_in_line(&s->job[o->queue[0]]))
        drop_top(s, o);
    return o->n > 0 ? o->queue[0] : -1;
}

/* ---- owners --------------------------------------------------------------------------------------------------- */

int queue_owner(sched *s, const char *name)
{
    const json_t *known = json_object_get(s->by_owner, name);
    sched_owner o = {.weight = 1};

    if (known)
        return (int)json_integer_value(known);
    for (int i = 0; i < s->how.shares; i++)
        if (strcmp(s->how.share[i].owner, name) == 0)
            o.weight = s->how.share[i].weight;
    s->owner = mem_grow(s->owner, (size_t)s->owners + 1, sizeof *s->owner);
    s->owner[s->owners] = o;
    json_object_set_new(s->by_owner, name, json_integer(s->owners));
    return s->owners++;
}

/* The least that anyone who waits has had; that of `but` is not asked for. */
static double least_spent(sched *s, const sched_owner *but, bool *any)
{
    double least = 0;

    *any = false;
    for (int i = 0; i < s->owners; i++) {
        sched_owner *o = &s->owner[i];
        if (o == but || top_of(s, o) < 0 || (*any && o->spent >= least))
            continue;
        least = o->spent;
        *any = true;
    }
    return least;
}

static void rebuild(sched *s)
{
    for (int i = 0; i < s->owners; i++)
        s->owner[i].n = 0;
    for (int i = 0; i < s->jobs; i++)
        s->job[i].in_queue = false;
    for (int i = 0; i < s->jobs; i++)
        if (job_in_line(&s->job[i]))
            insert(s, i);
    s->queue_stale = false;
}

void queue_rebuild(sched *s) { s->queue_stale = true; }

void queue_push(sched *s, int job)
{
    sched_owner *o = &s->owner[s->job[job].owner];
    bool others;
    double least;

    if (s->job[job].wave_gang == 0)
        wave_end(s);
    if (s->job[job].in_queue) { /* left behind when it went by another door: its key may be another now */
        s->queue_stale = true;
        return;
    }
    if (!s->queue_stale && top_of(s, o) < 0) {
        least = least_spent(s, o, &others);
        if (others && o->spent < least)
            o->spent = least;
    }
    insert(s, job);
}

/* Of the owners whose next one is of the better class, the one who has had least; as far as the lead goes. */
static sched_owner *whose_turn(sched *s)
{
    sched_owner *first = NULL, *best = NULL;
    double most;

    for (int i = 0; i < s->owners; i++)
        if (top_of(s, &s->owner[i]) >= 0 && (!first || s->owner[i].spent < first->spent))
            first = &s->owner[i];
    if (!first)
        return NULL;
    most = first->spent + LEAD * work(&s->job[first->queue[0]].spec) / first->weight;
    best = first;
    for (int i = 0; i < s->owners; i++) {
        sched_owner *o = &s->owner[i];
        job_priority p, q = s->job[best->queue[0]].spec.priority;
        if (o->n == 0 || o->spent > most)
            continue;
        p = s->job[o->queue[0]].spec.priority;
        if (p < q || (p == q && o->spent < best->spent))
            best = o;
    }
    return best;
}

int queue_top(sched *s)
{
    if (s->queue_stale)
        rebuild(s);
    s->turn = whose_turn(s);
    return s->turn ? s->turn->queue[0] : -1;
}

void queue_pop(sched *s)
{
    sched_owner *o = s->turn;

    o->spent += work(&s->job[o->queue[0]].spec) / o->weight;
    drop_top(s, o);
}

void queue_refund(sched *s, int job)
{
    sched_owner *o = &s->owner[s->job[job].owner];

    o->spent -= work(&s->job[job].spec) / o->weight;
}

void queue_free(sched *s)
{
    for (int i = 0; i < s->owners; i++)
        free(s->owner[i].queue);
    free(s->owner);
    json_decref(s->by_owner);
}
