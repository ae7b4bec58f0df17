/* One wave: nothing runs, and not many more concepts wait than slots are free. Then who gets how many slots is planned for
 * all of them at once, as the longest decide when all is over: they are gangs from the start, and the others follow each
 * other, longest first, on the slots that are left, so that all end together. With a slot for each, most slots would have
 * nothing to do while the longest end.
 *
 * For a guess of the end each concept gets the narrowest gang with which it ends by then, and all are laid out, longest
 * first, each where slots are free first: the dual of moldable scheduling. The guess whose layout ends first is the plan:
 * gangs, and an order of the line. It holds until the line is empty; who comes without a place in it ends it, and what
 * still waits goes on as place.c has it. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

enum { WAVE_LEAST = 8, DOUBLINGS = 6 };   /* slots, and concepts: with fewer it is as good to see who ends first */
static const double WAVE_MOST = 2.5;      /* concepts a slot: where more wait, the order matters little and packs more */
static const double GUESS = 1.03;         /* from one guess to the next */
static const double HALVES[DOUBLINGS] = {0.55, 0.62, 0.69, 0.75, 0.8, 0.85}; /* of the time, before it was seen */
static const double GROWN = 1.125;        /* times as many slots as were planned with: once more */

typedef struct { int job, class, gang, leaves; double work, time; } part;

typedef struct {
    part *at, *best;
    int n, slots, widest;
    double *free_at;                      /* heap of `idle`: when each slot is free */
    int idle;
    double halves[DOUBLINGS];             /* of the time on 2^k slots, what is left on twice as many */
} wave;

/* ---- slots by when they are free ------------------------------------------------------------------------------- */

static double take(wave *w)
{
    double first = w->free_at[0], last = w->free_at[--w->idle];
    int at = 0;

    for (int child; (child = 2 * at + 1) < w->idle; at = child) {
        child += child + 1 < w->idle && w->free_at[child + 1] < w->free_at[child];
        if (last <= w->free_at[child])
            break;
        w->free_at[at] = w->free_at[child];
    }
    w->free_at[at] = last;
    return first;
}

static void give_back(wave *w, double t)
{
    int at = w->idle++;

    for (; at > 0 && t < w->free_at[(at - 1) / 2]; at = (at - 1) / 2)
        w->free_at[at] = w->free_at[(at - 1) / 2];
    w->free_at[at] = t;
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

/* The class first, as in the line; then the longest. */
static int by_turn(const void *a, const void *b)
{
    const part *x = a, *y = b;

    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    if (x->work != y->work)
        return x->work > y->work ? -1 : 1;
    return x->job < y->job ? -1 : x->job > y->job;
}

static int most_of(const wave *w, const part *p) { return p->leaves < w->widest ? p->leaves : w->widest; }

/* The narrowest gang with which it ends within t; the widest, where none does. */
static void widen_to(const wave *w, part *p, double t)
{
    int most = most_of(w, p);

    p->gang = 1;
    p->time = p->work;
    for (int k = 0; k < DOUBLINGS && 2 * p->gang <= most && p->time > t; k++) {
        p->gang *= 2;
        p->time *= w->halves[k];
    }
}

/* When all have ended. A gang begins when as many slots as it needs are free. */
static double lay_out(wave *w, double guess)
{
    double end = 0, from = 0;

    w->idle = 0;
    for (int i = 0; i < w->slots; i++)
        give_back(w, 0);
    for (int i = 0; i < w->n; i++) {
        part *p = &w->at[i];
        widen_to(w, p, guess);
        for (int r = 0; r < p->gang; r++)
            from = take(w);
        for (int r = 0; r < p->gang; r++)
            give_back(w, from + p->time);
        end = from + p->time > end ? from + p->time : end;
    }
    return end;
}

/* No end is sooner than the work on all slots, or than the longest on its widest gang; with the longest alone on a slot nothing
 * becomes wider any more. */
static double search(wave *w)
{
    double sum = 0, longest = 0, least = 0, best = 0;

    for (int i = 0; i < w->n; i++) {
        sum += w->at[i].work;
        longest = w->at[i].work > longest ? w->at[i].work : longest;
        widen_to(w, &w->at[i], 0);
        least = w->at[i].time > least ? w->at[i].time : least;
    }
    least = sum / w->slots > least ? sum / w->slots : least;
    for (double guess = least; guess < longest * GUESS || best <= 0; guess *= GUESS) {
        double end = lay_out(w, guess);
        if (best > 0 && end >= best)
            continue;
        best = end;
        for (int i = 0; i < w->n; i++)
            w->best[i] = w->at[i];
    }
    return best;
}

/* Where all begin at once and slots are left, the others end sooner than need be, too, as far as slots go. */
static void fill(wave *w, double end)
{
    for (double guess = end / GUESS; guess > 0; guess /= GUESS) {
        int slots = 0;
        bool wider = false;
        for (int i = 0; i < w->n; i++) {
            widen_to(w, &w->at[i], guess);
            slots += w->at[i].gang;
            wider |= 2 * w->at[i].gang <= most_of(w, &w->at[i]);
        }
        if (slots > w->slots)
            return;
        for (int i = 0; i < w->n; i++)
            w->best[i] = w->at[i];
        if (!wider)
            return;
    }
}

/* The widest gang that a node has room for, or as many nodes as one may be spread over. */
static int widest(const sched *s)
{
    int most = 1, g = 1, nodes = s->how.gang_nodes > 1 ? s->how.gang_nodes : 1;

    for (int n = 0; n < s->nodes; n++)
        if (s->node[n].name && s->node[n].n > most)
            most = s->node[n].n;
    while (2 * g <= most * nodes && 2 * g <= s->how.gang_max && 2 * g <= GANG_MOST)
        g *= 2;
    return g;
}

static void make_plan(sched *s, int slots, int n)
{
    wave w = {.at = NEW_N(part, n), .best = NEW_N(part, n), .free_at = NEW_N(double, slots), .slots = slots, .widest = widest(s)};

    for (int k = 0; k < DOUBLINGS; k++)
        w.halves[k] = move_halves(s, 1 << k, HALVES[k]);
    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        s->job[i].wave_gang = 0;
        if (job_in_line(j) && w.n < n)
            w.at[w.n++] = (part){.job = i, .class = (int)j->spec.priority, .leaves = j->spec.leaves,
                                 .work = 1 + (double)j->spec.steps * (double)j->spec.batch}; /* 1: no work has a time, too */
    }
    qsort(w.at, (size_t)w.n, sizeof *w.at, by_turn);
    fill(&w, search(&w));
    for (int i = 0; i < w.n; i++) {
        s->job[w.best[i].job].wave_gang = w.best[i].gang;
        s->job[w.best[i].job].wave_turn = i;
    }
    s->wave_slots = slots;
    queue_rebuild(s);
    free(w.at);
    free(w.best);
    free(w.free_at);
}

void wave_plan(sched *s)
{
    int slots = s->ready + s->warming, n = 0;

    for (int p = 0; p < PRIORITIES; p++)
        n += s->waiting[p];
    for (int k = JOB_ASSIGNED; k <= JOB_PUBLISHING; k++)
        if (s->count[k] > 0)
            return;
    if (slots < WAVE_LEAST || n < WAVE_LEAST || n > WAVE_MOST * slots || slots < GROWN * s->wave_slots)
        return;
    make_plan(s, slots, n);
}

void wave_end(sched *s)
{
    if (s->wave_slots == 0)
        return;
    s->wave_slots = 0;
    queue_rebuild(s);
}
