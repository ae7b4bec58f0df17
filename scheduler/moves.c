/* When work waits and no slot is free, a gang that has more than its share goes on with less; see "narrower" below.
 *
 * When nothing waits and slots are free, what runs is given more room: a training leaves its pack for a slot of its own, or goes
 * on as a gang twice as wide. A move is a stop with a checkpoint and a new start (STOPPED without blame, then START), so it costs
 * the loading once more; it is made where it saves twice that.
 *
 * What runs on slow slots (slow.c) goes on elsewhere, as wide as it is, where that saves as much. Slow slots are not planned with.
 *
 * The plan is greedy, as in the proof of the bound (the last to end decides the makespan): whoever will end last is improved
 * first, as far as free slots on one node go; then the next. A training may be improved several times in one plan, and is
 * stopped once. The slots are only counted, not kept: who finds less than was planned takes what there is. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

enum { PLAN_EVERY_MS = 500, COST_LEAST_MS = 2000, SEEN_LEAST = 50, HURRIES_MOST = 3, STEPS_LEAST = 3 };
static const double DWELLS = 20;    /* times the cost: so long a training runs before it is narrowed, and after it */
static const double PAYS = 1;       /* times the cost, besides the cost itself */
static const double HALVES = 0.55;  /* of the time is left on twice as many slots, before it was seen */
static const double ALONE = 1.1;    /* a pack of n takes n/ALONE of the time of one alone */

/* What ends together: a gang, or a pack. */
typedef struct {
    double end;                     /* ms from now */
    int node, slot;                 /* the pack's; -1: a gang's, or of one that is to leave its pack */
    int job;                        /* the gang's, the leaver's */
    int gang, was;                  /* planned, and now; 0: in a pack */
} unit;

typedef struct {
    sched *s;
    unit *heap;
    int n, room;
    int *ready;                     /* of each node: what is not yet planned with */
    double cost;
} plan;

static bool later(const unit *a, const unit *b) { return a->end != b->end ? a->end > b->end : a->job < b->job; }

static void push(plan *p, unit u)
{
    int at = p->n++;

    if (p->n > p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->heap = mem_grow(p->heap, (size_t)p->room, sizeof *p->heap);
    }
    for (; at > 0 && later(&u, &p->heap[(at - 1) / 2]); at = (at - 1) / 2)
        p->heap[at] = p->heap[(at - 1) / 2];
    p->heap[at] = u;
}

static unit pop(plan *p)
{
    unit first = p->heap[0], last = p->heap[--p->n];
    int at = 0;

    for (int child; (child = 2 * at + 1) < p->n; at = child) {
        if (child + 1 < p->n && later(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (!later(&p->heap[child], &last))
            break;
        p->heap[at] = p->heap[child];
    }
    p->heap[at] = last;
    return first;
}

/* ---- what is left ---------------------------------------------------------------------------------------------- */

/* A gang over several nodes stays as it is. */
static bool may_move(const sched_job *j)
{
    return j->state == JOB_TRAINING && !j->moving && !j->slotless && j->node >= 0 && j->part.each == 0 &&
           j->step_seconds > 0;
}

/* So what changes to and fro, as work comes and ends, costs a training at most a twentieth of its time. */
static bool settled(const sched *s, const sched_job *j, double cost)
{
    return (double)(s->now_ms - j->began_ms) >= DWELLS * cost;
}

static double left_ms(const sched *s, const sched_job *j)
{
    double ms = (double)(j->spec.steps - j->step) * j->step_seconds * 1000 - (double)(s->now_ms - j->told_ms);

    return ms > 0 ? ms : 0;
}

double move_halves(const sched *s, int gang, double unseen)
{
    int k = 0;
    double f;

    while (2 << k <= gang)
        k++;
    if (s->pace[k].seen < SEEN_LEAST || s->pace[k + 1].seen < SEEN_LEAST)
        return unseen;
    f = s->pace[k + 1].ms / s->pace[k].ms / 2;
    return f < 0.5 ? 0.5 : f > 1 ? 1 : f;
}

static int pack_of(const sched *s, const sched_job *j)
{
    const sched_node *n = &s->node[j->node];
    int job = (int)(j - s->job);

    for (int i = 0; i < n->n; i++)
        if (slot_holds(n, i, job))
            return i;
    return -1;
}

/* In a pack of n all advance at one pace: together they take the sum of what is left, over n. */
static void gather_pack(plan *p, int node, int i)
{
    const sched_node *n = &p->s->node[node];
    unit u = {.node = node, .slot = i, .job = n->slot[i].job};
    int members = n->slot[i].mates + 1;

    for (int k = -1; k < n->slot[i].mates; k++) {
        const sched_job *j = &p->s->job[k < 0 ? n->slot[i].job : n->slot[i].mate[k]];
        if (!may_move(j))
            return;
        u.end += left_ms(p->s, j) / members;
    }
    push(p, u);
}

static void gather(plan *p)
{
    sched *s = p->s;

    for (int n = 0; n < s->nodes; n++) {
        p->ready[n] = s->node[n].name && node_takes(&s->node[n]) ? s->node[n].ready - slow_ready(s, &s->node[n]) : 0;
        for (int i = 0; i < s->node[n].n; i++) {
            int job = s->node[n].slot[i].job;
            const sched_job *j = job >= 0 ? &s->job[job] : NULL;
            if (j && s->node[n].slot[i].mates > 0)
                gather_pack(p, n, i);
            else if (j && may_move(j) && !(j->gang > 1 && i != pack_of(s, j)))
                push(p, (unit){.end = left_ms(s, j), .node = n, .slot = -1, .job = job, .gang = j->gang, .was = j->gang});
        }
    }
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

static void improve(sched *s, int job, int gang, sched_effects *todo)
{
    sched_job *j = &s->job[job];

    if (!j->moving) {
        j->moving = true;
        s->moving++;
        sched_do(todo, DO_STOP, job, j);
    }
    j->want = gang;
}

static int roomiest(const plan *p)
{
    int best = -1;

    for (int n = 0; n < p->s->nodes; n++)
        if (p->ready[n] > 0 && (best < 0 || p->ready[n] > p->ready[best]))
            best = n;
    return best;
}

/* The one that has most left gets a slot of its own. */
static bool unpack(plan *p, const unit *u, sched_effects *todo)
{
    const sched_node *n = &p->s->node[u->node];
    int members = 0, longest = -1, to = roomiest(p);
    double most = -1, own;

    for (int k = -1; k < n->slot[u->slot].mates; k++) {
        int job = k < 0 ? n->slot[u->slot].job : n->slot[u->slot].mate[k];
        const sched_job *j = &p->s->job[job];
        members += !j->moving;
        if (!j->moving && left_ms(p->s, j) > most) {
            most = left_ms(p->s, j);
            longest = job;
        }
    }
    own = most / (n->slot[u->slot].mates + 1) * ALONE;
    if (members < 2 || to < 0 || own + p->cost > u->end || own < PAYS * p->cost)
        return false;
    p->ready[to]--;
    improve(p->s, longest, 1, todo);
    push(p, (unit){.end = own + p->cost, .node = to, .slot = -1, .job = longest, .gang = 1});
    push(p, (unit){.end = u->end - own / ALONE, .node = u->node, .slot = u->slot, .job = u->job});
    return true;
}

/* Of its own slots, those that are not slow. */
static int own(const plan *p, const unit *u)
{
    const sched_node *n = &p->s->node[p->s->job[u->job].node];
    int slow = 0;

    for (int i = 0; p->s->slows > 0 && i < n->n; i++)
        slow += n->slot[i].slow_ms > 0 && slot_holds(n, i, u->job);
    return slow < u->gang ? u->gang - slow : 0;
}

/* Its own slots are free for it; another node's where it has more. */
static int node_for(const plan *p, const unit *u, int gang)
{
    int best = -1;

    if (p->ready[u->node] + own(p, u) >= gang)
        return u->node;
    for (int n = 0; n < p->s->nodes; n++)
        if (p->ready[n] >= gang && (best < 0 || p->ready[n] < p->ready[best]))
            best = n;
    return best;
}

static bool widen(plan *p, const unit *u, sched_effects *todo)
{
    const sched_job *j = &p->s->job[u->job];
    int gang = 2 * u->gang, to;
    double end = u->end * move_halves(p->s, u->gang, HALVES) + (u->gang == u->was ? p->cost : 0);

    if (gang > p->s->how.gang_max || gang > GANG_MOST || gang > j->spec.leaves || u->end - end < PAYS * p->cost)
        return false;
    if (j->narrowed && !settled(p->s, j, p->cost))
        return false;
    to = node_for(p, u, gang);
    if (to < 0)
        return false;
    p->ready[u->node] += own(p, u);
    p->ready[to] -= gang;
    improve(p->s, u->job, gang, todo);
    push(p, (unit){.end = end, .node = to, .slot = -1, .job = u->job, .gang = gang, .was = u->was});
    return true;
}

/* Off slow slots, as wide as it is. The move is paid for: it may become wider by the same one. */
static bool hurry(plan *p, const unit *u, sched_effects *todo)
{
    sched_job *j = &p->s->job[u->job];
    double by = u->was == u->gang ? slow_by(p->s, j) : 1, end = u->end / by + p->cost;
    int to;

    if (u->was != u->gang || !slow_runs(p->s, j) || j->step < j->began_step + STEPS_LEAST || j->hurried >= HURRIES_MOST ||
        u->end - end < PAYS * p->cost)
        return false;
    to = node_for(p, u, u->gang);
    if (to < 0)
        return false;
    p->ready[u->node] += own(p, u);
    p->ready[to] -= u->gang;
    j->hurried++;
    improve(p->s, u->job, u->gang, todo);
    push(p, (unit){.end = end, .node = to, .slot = -1, .job = u->job, .gang = u->gang});
    return true;
}

/* ---- narrower --------------------------------------------------------------------------------------------------- */

/* What waiting costs now: so many wait, each for as long as the next has, and a slot is free by itself after so long. */
typedef struct { int waiting, share; double each, until; } press;

/* So many times as long on fewer slots. */
static double slower(const sched *s, int from, int to)
{
    double f = 1;

    for (; to < from; to *= 2)
        f /= move_halves(s, to, HALVES);
    return f;
}

/* Waiting that is spared (those who start at once would have waited for the next slot), less what the gang is later: at the lower
 * pace until the line is done, or itself, and by going out and back. 0 or less: it does not pay. */
static double gain(const sched *s, const sched_job *j, int to, const press *w, double cost)
{
    double f = slower(s, j->gang, to), freed = j->gang - to < w->waiting ? j->gang - to : w->waiting;
    double low = w->waiting * w->each / freed, itself = left_ms(s, j) * f;

    if (low > itself)
        low = itself;
    return freed * w->until - (1 + PAYS) * (low * (1 - 1 / f) + 2 * cost);
}

static press look_around(sched *s)
{
    int slots = 0, runs = 0, next = queue_top(s);
    press w = {.share = 1, .until = -1};

    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; s->node[n].name && i < s->node[n].n; i++) {
            int job = s->node[n].slot[i].job;
            double left;
            slots += s->node[n].slot[i].state != SLOT_DOWN;
            if (job < 0 || s->job[job].node != n || pack_of(s, &s->job[job]) != i)
                continue;
            runs++;
            left = s->job[job].step_seconds > 0 ? left_ms(s, &s->job[job]) : 0;
            if (w.until < 0 || left < w.until)
                w.until = left;
        }
    for (int p = 0; p < PRIORITIES; p++)
        w.waiting += s->waiting[p];
    w.each = next >= 0 ? (double)(s->job[next].spec.steps * s->job[next].spec.batch) * s->ms_per_sample : 0;
    while (2 * w.share * (runs + w.waiting) <= slots)
        w.share *= 2;
    return w;
}

/* The one gang that pays most, to what pays most; one at a time, and what follows is seen then. */
void sched_narrow(sched *s, sched_effects *todo)
{
    double cost = s->load_ms > COST_LEAST_MS ? s->load_ms : COST_LEAST_MS, best = 0;
    int job = -1, to = 0;
    press w = {.share = 0};

    if (!s->how.moves || s->ready + s->warming > 0 || s->moving > 0 || s->wave_slots > 0 || ahead_any(s) ||
        s->now_ms < s->plan_ms)
        return;
    s->plan_ms = s->now_ms + PLAN_EVERY_MS;
    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; s->node[n].name && i < s->node[n].n; i++) {
            const sched_job *j = s->node[n].slot[i].job >= 0 ? &s->job[s->node[n].slot[i].job] : NULL;
            if (!j || j->gang < 2 || !may_move(j) || !settled(s, j, cost))
                continue;
            if (w.share == 0)
                w = look_around(s);
            for (int g = j->gang / 2; g >= w.share; g /= 2)
                if (gain(s, j, g, &w, cost) > best) {
                    best = gain(s, j, g, &w, cost);
                    job = (int)(j - s->job);
                    to = g;
                }
        }
    if (job >= 0)
        improve(s, job, to, todo);
}

static bool due(const sched *s)
{
    return s->how.moves && s->ready > 0 && !ahead_any(s) && s->moving == 0 && s->now_ms >= s->plan_ms;
}

void sched_move(sched *s, sched_effects *todo)
{
    plan p = {.s = s, .cost = s->load_ms > COST_LEAST_MS ? s->load_ms : COST_LEAST_MS};

    if (!due(s))
        return;
    s->plan_ms = s->now_ms + PLAN_EVERY_MS;
    p.ready = NEW_N(int, s->nodes);
    slow_forget(s);
    gather(&p);
    for (int left = s->ready; p.n > 0 && left > 0;) {
        unit u = pop(&p);
        left -= u.slot >= 0 ? unpack(&p, &u, todo) : hurry(&p, &u, todo) || widen(&p, &u, todo);
    }
    free(p.ready);
    free(p.heap);
}
