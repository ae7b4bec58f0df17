/* The world of one run: events in the order of their time, GPUs and the trainings on them.
 *
 * A training's steps flow at a rate that holds until something on its GPUs changes: then it is settled (what was done since)
 * and its end foretold anew; what was foretold before carries an older version and is dropped when it comes. The waste ledger
 * is kept as counts of GPUs by what they do, added up over the time between two events, so it is exact. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "scheduler/sim.h"

static const double TELL_EVERY = 20, NODE_AWAY = 120, LOST_NODES = 0.15, RUNS_MOST = 50;
static const char SHA[] = "0000000000000000000000000000000000000000000000000000000000000000";

typedef enum { NODE_COMES, SLOT_WARM, LOADED, TELL, TRAINED, PUBLISHED, STOPPED, BREAKS, TAKEN, WAKE } happening;
typedef struct { double at; uint64_t order; happening what; int a, of; } event; /* of: the version it was foretold in */

typedef enum { AWAY, LOADING, TRAINING, PUBLISHING } phase;
typedef struct {
    phase at;
    double left, safe;       /* steps that are left; that were left at the last checkpoint */
    double since, began, rate; /* settled then; this phase began then; steps a second */
    int version, attempt, node, gang, slot[GANG_MOST];
    bool moved, lost;        /* why it loads again */
} run;

typedef enum { GPU_GONE, GPU_WARMING, GPU_READY } gpu_state;
enum { DOES_NOTHING = WASTES, DOES_KINDS };
typedef struct {
    gpu_state state;
    int member[PACK_MOST], n;
    double slow;
    int version;             /* of its worker */
    bool again;              /* the worker is a second one */
    int does;                /* a waste_kind; DOES_NOTHING: free; -1: gone */
    double reduces, writes;  /* shares of the time at steps */
    double gives;            /* of what a GPU can do: 0 while it is not there */
} gpu;

typedef struct {
    const sim_options *o;
    const sim_concept *work;
    sched *s;
    sched_effects todo;
    double now;
    event *heap;
    int n, room;
    uint64_t order;
    run *run;
    gpu *gpu;
    int *node_of, *node_gpus, nodes; /* the mind's number of each of ours; -1: gone */
    int *ours, ours_room;            /* and ours of each of its */
    double count[DOES_KINDS], reducing, writing;
    double gives;                    /* of all GPUs, now */
    sim_supply *there;               /* and as it was */
    int changes;
    double wake;                     /* foretold */
    double *at_half;                 /* samples by owner when half was done */
    double *samples, samples_sum;
    sim_result *out;
} world;

/* ---- time ------------------------------------------------------------------------------------------------------ */

static bool earlier(const event *a, const event *b) { return a->at != b->at ? a->at < b->at : a->order < b->order; }

static void foretell(world *w, double in, happening what, int a, int of)
{
    event ev = {.at = w->now + in, .order = w->order++, .what = what, .a = a, .of = of};
    int at = w->n++;

    if (w->n > w->room) {
        w->room = w->room ? 2 * w->room : 1024;
        w->heap = mem_grow(w->heap, (size_t)w->room, sizeof *w->heap);
    }
    for (; at > 0 && earlier(&ev, &w->heap[(at - 1) / 2]); at = (at - 1) / 2)
        w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = ev;
}

static event next_event(world *w)
{
    event first = w->heap[0], last = w->heap[--w->n];
    int at = 0;

    for (int child; (child = 2 * at + 1) < w->n; at = child) {
        if (child + 1 < w->n && earlier(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!earlier(&w->heap[child], &last))
            break;
        w->heap[at] = w->heap[child];
    }
    w->heap[at] = last;
    return first;
}

/* A change of what there is, seen when time has passed: at one moment there may be many. */
static void note_supply(world *w)
{
    if (w->changes > 0 && w->there[w->changes - 1].gpus == w->gives)
        return;
    w->there = mem_grow(w->there, (size_t)w->changes + 1, sizeof *w->there);
    w->there[w->changes++] = (sim_supply){.at = w->now, .gpus = w->gives};
}

static void pass_time(world *w, double to)
{
    double dt = to - w->now, *where = w->out->where.seconds;

    if (dt > 0)
        note_supply(w);
    for (int k = 0; k < WASTES; k++)
        where[k] += w->count[k] * dt;
    where[WASTE_TRAIN] -= (w->reducing + w->writing) * dt;
    where[WASTE_REDUCE] += w->reducing * dt;
    where[WASTE_CHECKPOINT] += w->writing * dt;
    where[sched_waits(w->s) ? WASTE_SCHEDULER : WASTE_NO_WORK] += w->count[DOES_NOTHING] * dt;
    w->now = to;
}

/* ---- GPUs ------------------------------------------------------------------------------------------------------ */

static int does(const world *w, const gpu *g)
{
    bool trains = false, publishes = false;

    if (g->state != GPU_READY)
        return g->state == GPU_GONE ? -1 : g->again ? WASTE_LOST : WASTE_LOAD;
    for (int i = 0; i < g->n; i++) {
        const run *r = &w->run[g->member[i]];
        if (r->at == LOADING)
            return r->lost ? WASTE_LOST : r->moved ? WASTE_RESIZE : WASTE_LOAD;
        trains |= r->at == TRAINING;
        publishes |= r->at == PUBLISHING;
    }
    return publishes ? WASTE_CHECKPOINT : trains ? WASTE_TRAIN : DOES_NOTHING;
}

static void recount(world *w, gpu *g)
{
    const sim_times *t = w->o->times;
    const run *r = g->n > 0 ? &w->run[g->member[0]] : NULL;

    if (g->does >= 0)
        w->count[g->does]--;
    w->reducing -= g->reduces;
    w->writing -= g->writes;
    w->gives -= g->gives;
    g->does = does(w, g);
    g->reduces = g->writes = 0;
    g->gives = g->state == GPU_READY ? 1 / g->slow : 0;
    if (g->does == WASTE_TRAIN) {
        const sim_concept *c = &w->work[g->member[0]];
        g->writes = t->every > 0 ? t->checkpoint / t->every : 0;
        g->reduces = r->gang > 1 ? (1 - g->writes) * sim_reduce(c->method, r->gang) / sim_step(c->method, c->batch, r->gang) : 0;
    }
    if (g->does >= 0)
        w->count[g->does]++;
    w->reducing += g->reduces;
    w->writing += g->writes;
    w->gives += g->gives;
}

static void settle(world *w, run *r)
{
    if (r->at == TRAINING)
        r->left = fmax(0, r->left - (w->now - r->since) * r->rate);
    r->since = w->now;
}

/* One that loads or writes keeps the others of its pack waiting. */
static bool stalled(const world *w, const gpu *g)
{
    for (int i = 0; i < g->n; i++)
        if (w->run[g->member[i]].at != TRAINING)
            return true;
    return false;
}

static double step_seconds(const world *w, int job)
{
    const run *r = &w->run[job];
    const sim_concept *c = &w->work[job];
    const gpu *g = &w->gpu[r->slot[0]];
    double t = c->method->fixed, slow = 1;

    for (int k = 0; k < r->gang; k++)
        slow = fmax(slow, w->gpu[r->slot[k]].slow);
    if (g->n < 2)
        return slow * sim_step(c->method, c->batch, r->gang);
    for (int i = 0; i < g->n; i++)
        t += w->work[g->member[i]].method->sample * w->work[g->member[i]].batch + c->method->member;
    return slow * t;
}

static void foretell_end(world *w, int job)
{
    const sim_times *t = w->o->times;
    run *r = &w->run[job];

    r->version++;
    if (r->at != TRAINING)
        return;
    r->rate = stalled(w, &w->gpu[r->slot[0]]) ? 0 : (1 - (t->every > 0 ? t->checkpoint / t->every : 0)) / step_seconds(w, job);
    if (r->rate > 0)
        foretell(w, r->left / r->rate, TRAINED, job, r->version);
}

/* Everything on these GPUs, before and after a change there. */
static void settle_all(world *w, const run *r)
{
    for (int k = 0; k < r->gang; k++)
        for (int i = 0; i < w->gpu[r->slot[k]].n; i++)
            settle(w, &w->run[w->gpu[r->slot[k]].member[i]]);
}

static void flow_again(world *w, const run *r)
{
    for (int k = 0; k < r->gang; k++)
        recount(w, &w->gpu[r->slot[k]]);
    for (int i = 0; i < w->gpu[r->slot[0]].n; i++)
        foretell_end(w, w->gpu[r->slot[0]].member[i]);
}

static void take_off(world *w, int job)
{
    run *r = &w->run[job];

    settle_all(w, r);
    for (int k = 0; k < r->gang; k++) {
        gpu *g = &w->gpu[r->slot[k]];
        for (int i = 0; i < g->n; i++)
            if (g->member[i] == job)
                g->member[i--] = g->member[--g->n];
    }
    r->at = AWAY;
    r->version++;
    flow_again(w, r);
}

static void enter(world *w, int job, phase at)
{
    run *r = &w->run[job];

    settle_all(w, r);
    r->at = at;
    r->began = w->now;
    flow_again(w, r);
}

/* ---- the mind -------------------------------------------------------------------------------------------------- */

static void begin(world *w, const sched_effect *x)
{
    run *r = &w->run[x->job];

    r->attempt = x->attempt;
    r->node = w->ours[x->node];
    r->gang = x->gang;
    r->since = w->now;
    for (int k = 0; k < x->gang; k++) {
        gpu *g = &w->gpu[r->slot[k] = r->node * w->o->per_node + x->slot[k]];
        g->member[g->n++] = x->job;
    }
    w->out->starts++;
    enter(w, x->job, LOADING);
    foretell(w, w->o->times->load + (r->moved ? w->o->times->resize : 0), LOADED, x->job, x->attempt);
}

/* At the end of its step. */
static void stop(world *w, const sched_effect *x)
{
    const run *r = &w->run[x->job];

    foretell(w, r->at == TRAINING ? step_seconds(w, x->job) : 0, STOPPED, x->job, x->attempt);
}

/* Of the processor, not of the wall: what else runs on this machine is not the mind's. */
static double processor_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void step(world *w, sched_event ev)
{
    double seconds = processor_seconds();
    err e = {0};

    ev.now_ms = 1 + (int64_t)(w->now * 1000);
    if (sched_step(w->s, &ev, &w->todo, &e) != 0)
        err_bug(__FILE__, __LINE__, e.text);
    seconds = processor_seconds() - seconds;
    w->out->mind_seconds += seconds;
    w->out->mind_worst = fmax(w->out->mind_worst, seconds);
    for (size_t i = 0; i < w->todo.n; i++) {
        const sched_effect *x = &w->todo.at[i];
        if (x->type == DO_START)
            begin(w, x);
        else if (x->type == DO_STOP)
            stop(w, x);
    }
    if (w->s->next_wake_ms != INT64_MAX && (double)w->s->next_wake_ms * 1e-3 < w->wake) {
        w->wake = (double)w->s->next_wake_ms * 1e-3;
        foretell(w, fmax(0, w->wake - w->now), WAKE, 0, 0);
    }
}

static void tell(world *w, int job, job_state stage)
{
    const run *r = &w->run[job];
    double done = (double)w->work[job].steps - r->left;

    step(w, (sched_event){.type = EV_PROGRESS, .job = job, .attempt = r->attempt, .phase = stage, .step = (int64_t)done,
                          .step_seconds = r->rate > 0 ? 1 / r->rate : 0});
}

/* ---- what happens ---------------------------------------------------------------------------------------------- */

static void loaded(world *w, int job)
{
    run *r = &w->run[job];

    r->moved = r->lost = false;
    enter(w, job, TRAINING);
    r->safe = r->left;
    foretell(w, step_seconds(w, job), TELL, job, r->attempt);
    tell(w, job, JOB_TRAINING);
}

static void trained(world *w, int job)
{
    w->run[job].left = 0;
    enter(w, job, PUBLISHING);
    foretell(w, w->o->times->publish, PUBLISHED, job, w->run[job].attempt);
    tell(w, job, JOB_PUBLISHING);
}

static void note_half(world *w, int job)
{
    const sim_concept *c = &w->work[job];

    w->samples[c->owner] += (double)c->steps * c->batch;
    if (2 * w->out->done == w->o->concepts || (2 * w->out->done == w->o->concepts + 1))
        memcpy(w->at_half, w->samples, (size_t)w->o->owners * sizeof *w->samples);
}

static void published(world *w, int job)
{
    const run *r = &w->run[job];

    w->out->done++;
    w->out->mean += w->now;
    w->out->urgent_mean += w->work[job].urgent ? w->now : 0;
    w->out->makespan = w->now;
    note_half(w, job);
    take_off(w, job);
    step(w, (sched_event){.type = EV_DONE, .job = job, .attempt = r->attempt, .sha256 = SHA});
}

static void stopped(world *w, int job)
{
    run *r = &w->run[job];

    take_off(w, job);
    r->moved = true;
    w->out->moves++;
    step(w, (sched_event){.type = EV_STOPPED, .job = job, .attempt = r->attempt});
}

/* What was done since the last checkpoint, or since the start where the node is gone with its memory, was for nothing. */
static void set_back(world *w, int job, bool node)
{
    run *r = &w->run[job];
    double last, each = step_seconds(w, job) * r->gang / (w->gpu[r->slot[0]].n > 1 ? w->gpu[r->slot[0]].n : 1), again;

    settle(w, r);
    if (r->at != TRAINING && r->at != PUBLISHING)
        return;
    last = w->o->times->every > 0 ? fmod(w->now - r->began, w->o->times->every) * r->rate : 0;
    again = node ? (double)w->work[job].steps : fmin(r->safe, r->left + last);
    waste_lose(&w->out->where, (again - r->left) * each);
    r->left = again;
}

static void fail(world *w, int job, bool pack)
{
    run *r = &w->run[job];

    set_back(w, job, false);
    take_off(w, job);
    r->lost = true;
    step(w, (sched_event){.type = EV_FAILED, .job = job, .attempt = r->attempt, .blame = BLAME_NODE, .retry = true,
                          .code = pack ? FAILED_PACK : "signal", .text = "a fault of the simulation",
                          .step = (int64_t)((double)w->work[job].steps - r->left), .more = true});
}

static void fail_later(world *w, int at)
{
    const gpu *g = &w->gpu[at];
    rng_stream s = rng_open(w->o->seed, "fail", (uint32_t)at, (uint32_t)g->version);

    if (w->o->mtbf_hours > 0)
        foretell(w, -log(1 - (double)rng_uniform(s, 0)) * w->o->mtbf_hours * 3600, BREAKS, at, g->version);
}

static void warm_up(world *w, int at, bool again)
{
    gpu *g = &w->gpu[at];

    g->state = GPU_WARMING;
    g->again = again;
    g->version++;
    recount(w, g);
    foretell(w, w->o->times->start * g->slow, SLOT_WARM, at, g->version);
}

static void restart(world *w, int at)
{
    warm_up(w, at, true);
    step(w, (sched_event){.type = EV_SLOT, .node = w->node_of[at / w->o->per_node], .slot = at % w->o->per_node,
                          .becomes = SLOT_WARMING, .room = w->o->pack_max, .more = true});
}

/* A worker dies, and with it its gang's others: they are killed, as they would wait for it. */
static void breaks(world *w, int at)
{
    gpu *g = &w->gpu[at];
    run first = g->n > 0 ? w->run[g->member[0]] : (run){0};
    bool pack = g->n > 1;

    w->out->failures++;
    if (g->n == 0)
        restart(w, at);
    for (int k = 0; g->n > 0 && k < first.gang; k++)
        restart(w, first.slot[k]);
    while (g->n > 0)
        fail(w, g->member[0], pack);
    step(w, (sched_event){.type = EV_TICK});
}

static void slot_warm(world *w, int at)
{
    gpu *g = &w->gpu[at];

    g->state = GPU_READY;
    recount(w, g);
    fail_later(w, at);
    step(w, (sched_event){.type = EV_SLOT, .node = w->node_of[at / w->o->per_node], .slot = at % w->o->per_node,
                          .becomes = SLOT_READY, .room = w->o->pack_max});
}

static void taken_later(world *w, int node, int times)
{
    rng_stream s = rng_open(w->o->seed, "taken", (uint32_t)node, (uint32_t)times);

    if (w->o->preempt_minutes > 0)
        foretell(w, -log(1 - (double)rng_uniform(s, 0)) * w->o->preempt_minutes * 60, TAKEN, node, times);
}

/* Most are told in time and keep their checkpoints on the disk; some die. */
static void taken(world *w, int node, int times)
{
    bool dies = rng_uniform(rng_open(w->o->seed, "dies", (uint32_t)node, (uint32_t)times), 0) < LOST_NODES;

    w->out->preemptions++;
    for (int i = 0; i < w->node_gpus[node]; i++) {
        gpu *g = &w->gpu[node * w->o->per_node + i];
        while (g->n > 0) {
            int job = g->member[0];
            if (dies)
                set_back(w, job, true);
            take_off(w, job);
            w->run[job].lost = true;
        }
        g->state = GPU_GONE;
        g->version++;
        recount(w, g);
    }
    step(w, (sched_event){.type = EV_NODE_LOST, .node = w->node_of[node]});
    w->node_of[node] = -1;
    foretell(w, NODE_AWAY, NODE_COMES, node, times + 1);
}

static void node_comes(world *w, int node, int times)
{
    char name[32];

    snprintf(name, sizeof name, "n%d", node);
    step(w, (sched_event){.type = EV_NODE_UP, .name = name, .slots = w->node_gpus[node], .more = true});
    w->node_of[node] = w->todo.node;
    w->ours = mem_grow(w->ours, (size_t)w->todo.node + 1, sizeof *w->ours);
    w->ours[w->todo.node] = node;
    for (int i = 0; i < w->node_gpus[node]; i++)
        warm_up(w, node * w->o->per_node + i, times > 0);
    taken_later(w, node, times);
}

static bool is_current(const world *w, const event *ev)
{
    switch (ev->what) {
    case LOADED:    return w->run[ev->a].attempt == ev->of && w->run[ev->a].at == LOADING;
    case TELL:      return w->run[ev->a].attempt == ev->of && w->run[ev->a].at == TRAINING;
    case STOPPED:   return w->run[ev->a].attempt == ev->of && (w->run[ev->a].at == TRAINING || w->run[ev->a].at == LOADING);
    case PUBLISHED: return w->run[ev->a].attempt == ev->of && w->run[ev->a].at == PUBLISHING;
    case TRAINED:   return w->run[ev->a].version == ev->of;
    case SLOT_WARM:
    case BREAKS:    return w->gpu[ev->a].version == ev->of;
    default:        return true;
    }
}

static void tell_on(world *w, int job)
{
    run *r = &w->run[job];

    settle(w, r);
    foretell(w, TELL_EVERY, TELL, job, r->attempt);
    tell(w, job, JOB_TRAINING);
}

static void happen(world *w, const event *ev)
{
    switch (ev->what) {
    case NODE_COMES: node_comes(w, ev->a, ev->of); break;
    case SLOT_WARM:  slot_warm(w, ev->a); break;
    case LOADED:     loaded(w, ev->a); break;
    case TELL:       tell_on(w, ev->a); break;
    case TRAINED:    trained(w, ev->a); break;
    case PUBLISHED:  published(w, ev->a); break;
    case STOPPED:    stopped(w, ev->a); break;
    case BREAKS:     breaks(w, ev->a); break;
    case TAKEN:      taken(w, ev->a, ev->of); break;
    case WAKE:
        w->wake = INFINITY;
        step(w, (sched_event){.type = EV_TICK});
        break;
    }
}

/* ---- a run ----------------------------------------------------------------------------------------------------- */

static void submit(world *w)
{
    for (int i = 0; i < w->o->concepts; i++) {
        const sim_concept *c = &w->work[i];
        char name[32], owner[32];
        snprintf(name, sizeof name, "c%d", i);
        snprintf(owner, sizeof owner, "o%d", c->owner);
        step(w, (sched_event){.type = EV_SUBMIT, .more = true,
                              .spec = {.priority = c->urgent ? PRIORITY_URGENT : PRIORITY_NORMAL, .name = name, .settings = "{}",
                                       .steps = c->steps, .batch = c->batch, .leaves = c->batch, .retries = 3, .owner = owner,
                                       .alike = c->method->name}});
        w->run[i].left = w->run[i].safe = (double)c->steps;
    }
}

static void set_up(world *w, double bound)
{
    const sim_options *o = w->o;
    rng_stream slow = rng_open(o->seed, "slow", 0, 0), late = rng_open(o->seed, "late", 0, 0);

    w->wake = INFINITY;
    for (int i = 0; i < o->gpus; i++) {
        w->gpu[i].does = -1;
        w->gpu[i].slow = rng_uniform(slow, (uint64_t)i) < o->slow ? o->slow_by : 1;
    }
    for (int n = 0; n < w->nodes; n++) {
        uint64_t at = 2 * (uint64_t)n;
        bool comes_late = n > 0 && rng_uniform(late, at) < o->late;
        w->node_gpus[n] = n < w->nodes - 1 ? o->per_node : o->gpus - n * o->per_node;
        foretell(w, comes_late ? bound * rng_uniform(late, at + 1) : 0, NODE_COMES, n, 0);
    }
}

static void weigh(world *w)
{
    double least = INFINITY, most = 0;
    int urgent = 0;

    for (int i = 0; i < w->o->owners; i++) {
        double had = w->at_half[i] / (i == 0 && w->o->owners > 1 ? 2 : 1);
        least = fmin(least, had);
        most = fmax(most, had);
    }
    for (int i = 0; i < w->o->concepts; i++) {
        urgent += w->work[i].urgent;
        w->out->useful += (double)w->work[i].steps * sim_step(w->work[i].method, w->work[i].batch, 1);
    }
    w->out->owner_least = most > 0 ? least / most : 1;
    w->out->mean /= w->out->done > 0 ? (double)w->out->done : 1;
    w->out->urgent_mean = urgent > 0 ? w->out->urgent_mean / urgent : 0;
    w->out->useful /= w->out->makespan * w->o->gpus;
    w->out->busy = waste_share(&w->out->where, WASTE_TRAIN) + waste_share(&w->out->where, WASTE_REDUCE);
}

static void world_free(world *w)
{
    sched_free(w->s);
    sched_effects_free(&w->todo);
    free(w->heap);
    free(w->run);
    free(w->gpu);
    free(w->node_of);
    free(w->node_gpus);
    free(w->ours);
    free(w->samples);
    free(w->at_half);
    free(w->there);
}

int sim_run(sim_result *out, const sim_options *o, const sim_concept *work, err *e)
{
    sched_share first = {.owner = "o0", .weight = o->owners > 1 ? 2 : 1};
    sched_options how = {.gang_max = o->gang_max, .pack_max = o->pack_max, .share = &first, .shares = 1, .moves = true, .backoff_ms = 5000,
                         .hold_ms = 10000};
    int nodes = (o->gpus + o->per_node - 1) / o->per_node, rc = 0;
    world w = {.o = o, .work = work, .s = sched_new(how), .out = out, .nodes = nodes, .run = NEW_N(run, o->concepts),
               .gpu = NEW_N(gpu, o->gpus), .node_of = NEW_N(int, nodes), .node_gpus = NEW_N(int, nodes),
               .samples = NEW_N(double, o->owners), .at_half = NEW_N(double, o->owners)};

    *out = (sim_result){.bound = sim_bound(o, work, NULL, 0, 0)};
    submit(&w);
    set_up(&w, out->bound);
    step(&w, (sched_event){.type = EV_OPEN});
    while (out->done + w.s->count[JOB_QUARANTINED] < o->concepts && w.n > 0 && rc == 0) {
        event ev = next_event(&w);
        if (ev.at > RUNS_MOST * out->bound)
            rc = err_set(e, ERR_INPUT, "%lld of %d concepts are done after %.0f times the bound: these failures leave no time to work",
                         (long long)out->done, o->concepts, RUNS_MOST);
        if (rc != 0 || !is_current(&w, &ev))
            continue;
        pass_time(&w, ev.at);
        out->events++;
        happen(&w, &ev);
    }
    out->quarantined = w.s->count[JOB_QUARANTINED];
    if (rc == 0 && out->done + out->quarantined < o->concepts)
        rc = err_set(e, ERR_INPUT, "%lld of %d concepts are done, and nothing more can happen", (long long)out->done, o->concepts);
    if (rc == 0) {
        out->bound_there = sim_bound(o, work, w.there, w.changes, out->makespan);
        weigh(&w);
    }
    world_free(&w);
    return rc;
}
