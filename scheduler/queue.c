/* The queue is a binary heap of job numbers. A job that left the queued state by another door (cancelled, changed)
 * stays in the heap until it comes up, and is dropped there. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

/* With gangs that fill the tail the makespan hardly depends on the order; the mean completion does, and shortest first
 * is its best. A job sent back by no fault of its own keeps its key, and so its place. */
static bool before(const sched *s, int a, int b)
{
    const job_spec *x = &s->job[a].spec, *y = &s->job[b].spec;
    double wx = (double)x->steps * (double)x->batch, wy = (double)y->steps * (double)y->batch;

    if (x->priority != y->priority)
        return x->priority < y->priority;
    return wx != wy ? wx < wy : a < b;
}

int sched_ahead(const sched *s, int job)
{
    int n = 0;

    for (int i = 0; i < s->jobs; i++)
        n += i != job && job_in_line(&s->job[i]) && before(s, i, job);
    return n;
}

static void swap(int *a, int *b)
{
    int keep = *a;

    *a = *b;
    *b = keep;
}

static void sink(sched *s, int at)
{
    for (int child; (child = 2 * at + 1) < s->queue_n; at = child) {
        if (child + 1 < s->queue_n && before(s, s->queue[child + 1], s->queue[child]))
            child++;
        if (!before(s, s->queue[child], s->queue[at]))
            return;
        swap(&s->queue[child], &s->queue[at]);
    }
}

static void rise(sched *s, int at)
{
    for (; at > 0 && before(s, s->queue[at], s->queue[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&s->queue[at], &s->queue[(at - 1) / 2]);
}

void queue_push(sched *s, int job)
{
    if (s->job[job].in_queue)
        return;
    s->job[job].in_queue = true;
    s->queue[s->queue_n] = job; /* as large as the list of jobs */
    rise(s, s->queue_n++);
}

void queue_pop(sched *s)
{
    s->job[s->queue[0]].in_queue = false;
    s->queue[0] = s->queue[--s->queue_n];
    sink(s, 0);
}

int queue_top(sched *s)
{
    while (s->queue_n > 0 && !job_in_line(&s->job[s->queue[0]]))
        queue_pop(s);
    return s->queue_n > 0 ? s->queue[0] : -1;
}

void queue_rebuild(sched *s)
{
    for (int at = s->queue_n / 2 - 1; at >= 0; at--)
        sink(s, at);
}
