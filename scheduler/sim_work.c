/* Concepts by lot, the bound, and schedulers that most people would write. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "scheduler/sim.h"

/* Steps as people ask for them: about 450, some four times as many. */
enum { STEPS_MIDDLE = 450, STEPS_LEAST = 100, STEPS_MOST = 1700, STEPS_ROUND = 10, BOUND_HALVINGS = 60 };
static const double STEPS_SPREAD = 0.45; /* of the logarithm */

typedef struct { const sim_method *of; double upto; } lot;

static int read_part(const sim_times *t, const char *at, size_t n, lot *out, err *e)
{
    const char *colon = memchr(at, ':', n);
    char name[64];

    snprintf(name, sizeof name, "%.*s", (int)(colon ? (size_t)(colon - at) : n), at);
    out->of = sim_find(t, name);
    out->upto = colon ? atof(colon + 1) : 1;
    if (!out->of)
        return err_set(e, ERR_INPUT, "--mix: %s is no method whose times are known", name);
    return out->upto > 0 ? 0 : err_set(e, ERR_INPUT, "--mix: %s comes never", name);
}

/* Shares, added up. */
static int read_mix(const sim_options *o, lot out[SIM_METHODS], int *n, err *e)
{
    double sum = 0;

    *n = 0;
    for (const char *at = o->mix; *at;) {
        size_t length = strcspn(at, ",");
        if (*n == SIM_METHODS)
            return err_set(e, ERR_INPUT, "--mix: more than %d methods", SIM_METHODS);
        TRY(read_part(o->times, at, length, &out[*n], e));
        out[*n].upto = sum += out[*n].upto;
        ++*n;
        at += length + (at[length] == ',');
    }
    for (int i = 0; i < *n; i++)
        out[i].upto /= sum;
    return *n > 0 ? 0 : err_set(e, ERR_INPUT, "--mix: no method");
}

static int64_t steps_of(rng_stream s, uint64_t i)
{
    double x = STEPS_MIDDLE * exp(STEPS_SPREAD * rng_normal(s, i));
    int64_t steps = (int64_t)(x / STEPS_ROUND) * STEPS_ROUND;

    return steps < STEPS_LEAST ? STEPS_LEAST : steps > STEPS_MOST ? STEPS_MOST : steps;
}

sim_concept *sim_concepts(const sim_options *o, err *e)
{
    rng_stream steps = rng_open(o->seed, "steps", 0, 0), method = rng_open(o->seed, "method", 0, 0);
    rng_stream urgent = rng_open(o->seed, "urgent", 0, 0);
    lot mix[SIM_METHODS];
    sim_concept *work;
    int n;

    if (read_mix(o, mix, &n, e) != 0)
        return NULL;
    work = NEW_N(sim_concept, o->concepts);
    for (int i = 0; i < o->concepts; i++) {
        uint64_t at = (uint64_t)i;
        double x = rng_uniform(method, at);
        int m = 0;
        while (m < n - 1 && x >= mix[m].upto)
            m++;
        work[i] = (sim_concept){.method = mix[m].of, .steps = steps_of(steps, at), .batch = o->batch,
                                .urgent = rng_uniform(urgent, at) < o->urgent,
                                .owner = o->owners > 1 ? i % o->owners : 0};
    }
    return work;
}

/* ---- the bound ------------------------------------------------------------------------------------------------ */

static double around(const sim_times *t) { return t->load + t->publish; }

static int widest(const sim_options *o, const sim_concept *c)
{
    int g = 1;

    while (2 * g <= o->gang_max && 2 * g <= c->batch && 2 * g <= o->gpus && 2 * g <= o->per_node)
        g *= 2;
    return g;
}

/* The least work, in seconds of a GPU, with which it is made within `seconds`; infinite where no way is so quick. In a pack of
 * p it has at best a p-th of what all share, and takes at least as long as p such steps. */
static double least_work(const sim_options *o, const sim_concept *c, double seconds)
{
    const sim_method *m = c->method;
    double best = INFINITY, steps = (double)c->steps;

    for (int g = 1; g <= widest(o, c); g *= 2) {
        double t = around(o->times) + steps * sim_step(m, c->batch, g);
        if (t <= seconds && t * g < best)
            best = t * g;
    }
    for (int p = 2; p <= o->pack_max; p++) {
        double each = m->fixed / p + m->sample * c->batch + m->member;
        if (around(o->times) + steps * (m->fixed + m->sample * c->batch + m->member) <= seconds &&
            around(o->times) + steps * each < best)
            best = around(o->times) + steps * each;
    }
    return best;
}

/* Seconds of a GPU that there were up to then. */
static double supplied(const sim_supply *there, int n, double upto)
{
    double sum = 0;

    for (int i = 0; i < n && there[i].at < upto; i++)
        sum += there[i].gpus * (fmin(i + 1 < n ? there[i + 1].at : upto, upto) - there[i].at);
    return sum;
}

/* Nothing begins before a worker has started. */
static bool possible(const sim_options *o, const sim_concept *work, double seconds, double supply)
{
    double sum = 0;

    for (int i = 0; i < o->concepts; i++) {
        sum += least_work(o, &work[i], seconds - o->times->start);
        if (sum > supply)
            return false;
    }
    return true;
}

double sim_bound(const sim_options *o, const sim_concept *work, const sim_supply *there, int n, double upto)
{
    const sim_supply all = {.at = o->times->start, .gpus = o->gpus};
    double low = o->times->start, high = there ? upto : low + 1;

    if (!there) {
        there = &all;
        n = 1;
        while (!possible(o, work, high, supplied(there, n, high)))
            high += high;
    }
    for (int i = 0; i < BOUND_HALVINGS && high - low > 1e-6 * high; i++) {
        double middle = (low + high) / 2;
        if (possible(o, work, middle, supplied(there, n, middle)))
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* ---- others --------------------------------------------------------------------------------------------------- */

static void sift(double *free_at, int n)
{
    for (int at = 0, child; (child = 2 * at + 1) < n; at = child) {
        double keep = free_at[at];
        if (child + 1 < n && free_at[child + 1] < free_at[child])
            child++;
        if (keep <= free_at[child])
            return;
        free_at[at] = free_at[child];
        free_at[child] = keep;
    }
}

sim_other sim_in_order(const sim_options *o, const sim_concept *work, int gang, bool process_each)
{
    int n = o->gpus / gang > 0 ? o->gpus / gang : 1, g = gang < o->gpus ? gang : o->gpus;
    double *free_at = NEW_N(double, n);
    sim_other out = {0};

    for (int i = 0; i < n; i++)
        free_at[i] = process_each ? 0 : o->times->start;
    for (int i = 0; i < o->concepts; i++) {
        int width = g < work[i].batch ? g : work[i].batch;
        free_at[0] += around(o->times) + (process_each ? o->times->start : 0) +
                      (double)work[i].steps * sim_step(work[i].method, work[i].batch, width);
        out.mean += free_at[0] / o->concepts;
        if (free_at[0] > out.makespan)
            out.makespan = free_at[0];
        sift(free_at, n);
    }
    free(free_at);
    return out;
}
