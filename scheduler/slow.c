/* Slow slots: those where trainings take longer than others of their class do elsewhere. A processor that is throttled, a
 * card in a worn socket, a neighbour that takes the cores: nobody tells of them, only the steps do.
 *
 * What runs is measured, class by class (spec.alike) and width by width, against the quick ones of its kind: an average
 * that falls fast and rises slowly. Where it takes SLOW times that, its slot is slow; a slow gang makes those of its slots
 * slow that were not seen to be quick. That is forgotten when something is quick there, or after a while. What is of no
 * class is not judged, nor what shares its slot. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

enum { SEEN_LEAST = 4, FORGET_MS = 600000 };
static const double SLOW = 1.4, FALLS = 0.3, RISES = 0.01; /* steps of one kind differ by a tenth or two, */
static const double KEEPS = 0.7;                            /* and one alone by more */

int slow_class(sched *s, const char *alike)
{
    const json_t *known = json_object_get(s->by_class, alike);

    if (!alike[0])
        return -1;
    if (known)
        return (int)json_integer_value(known);
    s->class = mem_grow(s->class, (size_t)s->classes + 1, sizeof *s->class);
    s->class[s->classes] = (sched_class){0};
    json_object_set_new(s->by_class, alike, json_integer(s->classes));
    return s->classes++;
}

static int width_of(int gang)
{
    int k = 0;

    while (2 << k <= gang)
        k++;
    return k;
}

static double ms_of(const sched_job *j)
{
    return 1000 * j->step_seconds * j->gang / (double)(j->spec.batch > 0 ? j->spec.batch : 1);
}

double slow_by(const sched *s, const sched_job *j)
{
    const sched_class *c = j->class >= 0 ? &s->class[j->class] : NULL;
    int k = width_of(j->gang);

    if (!c || j->packed || j->part.each > 0 || !(j->sample_ms > 0) || c->width[k].seen < SEEN_LEAST)
        return 1;
    return j->sample_ms / c->width[k].ms;
}

static void mark(sched *s, sched_node *n, int i, bool slow)
{
    s->slows += slow - (n->slot[i].slow_ms > 0);
    n->slot[i].slow_ms = slow ? s->now_ms + 1 : 0;
}

/* Of a slow gang some member is slow: one that was not seen to be quick, where there is one. */
static void judge(sched *s, int job, bool slow)
{
    sched_node *n = &s->node[s->job[job].node];
    bool unproved = false;

    for (int i = 0; i < n->n; i++)
        unproved |= slot_holds(n, i, job) && !n->slot[i].quick;
    for (int i = 0; i < n->n; i++) {
        if (!slot_holds(n, i, job))
            continue;
        if (!slow)
            n->slot[i].quick = true;
        else if (unproved && n->slot[i].quick)
            continue;
        else
            n->slot[i].quick = false;
        mark(s, n, i, slow);
    }
}

void slow_learn(sched *s, int job)
{
    sched_job *j = &s->job[job];
    sched_class *c = j->class >= 0 ? &s->class[j->class] : NULL;
    int k = width_of(j->gang);
    double ms = ms_of(j);

    if (!c || j->packed || j->part.each > 0 || j->node < 0)
        return;
    j->sample_ms = j->sample_ms > 0 ? KEEPS * j->sample_ms + (1 - KEEPS) * ms : ms;
    if (c->width[k].seen++ == 0)
        c->width[k].ms = ms;
    else
        c->width[k].ms += (ms < c->width[k].ms ? FALLS : RISES) * (ms - c->width[k].ms);
    if (c->width[k].seen >= SEEN_LEAST)
        judge(s, job, slow_runs(s, j));
}

void slow_forget(sched *s)
{
    for (int n = 0; s->slows > 0 && n < s->nodes; n++)
        for (int i = 0; i < s->node[n].n; i++)
            if (s->node[n].slot[i].slow_ms > 0 && (!s->node[n].name || s->now_ms - s->node[n].slot[i].slow_ms > FORGET_MS))
                mark(s, &s->node[n], i, false);
}

int slow_ready(const sched *s, const sched_node *n)
{
    int k = 0;

    for (int i = 0; s->slows > 0 && i < n->n; i++)
        k += n->slot[i].slow_ms > 0 && n->slot[i].job < 0 && n->slot[i].state == SLOT_READY;
    return k;
}

bool slow_runs(const sched *s, const sched_job *j) { return slow_by(s, j) >= SLOW; }
