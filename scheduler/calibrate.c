/* `cfarm calibrate FARM.yaml`: what the simulator and the plan reckon with, measured here.
 *
 * For each method of the farm file, copies of its first concept are trained: on every slot at once, as in a farm at
 * work, short and three times as long, with its batch and with half of it; as gangs of 2, 4, ...; two to a worker; and
 * with a checkpoint after each step. A step is the difference between long and short over their steps, so that loading
 * and publishing drop out; these are what is left. Then a small farm of all sorts is predicted by `sim_run` with the
 * figures, and trained: both times are told and kept. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "scheduler/calibrate.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/join.h"
#include "scheduler/look.h"
#include "scheduler/prepare.h"
#include "scheduler/sim.h"

enum { LONGER = 3, CONCEPTS_MOST = 512 };

typedef struct {
    const farmfile *f;
    char dir[FS_PATH]; /* of the trials: on the farm's own disk */
    int workers, steps;
    json_t *settings[SIM_METHODS];
    int batch[SIM_METHODS], methods, gang_most;
    sim_times t;
    site_times site;
    double step_alone[SIM_METHODS]; /* with its own batch */
    int predicted_n;
    double predicted, measured;
} calibration;

/* ---- what is to be measured ------------------------------------------------------------------------------------ */

static json_t *settings_of(const farm_concept *c)
{
    char *text, hex[HASH_HEX];

    farm_concept_json(c, &text, hex);
    json_t *o = json_loads(text, 0, NULL);
    free(text);
    return o;
}

static void add_method(calibration *c, const char *name, json_t *settings, const json_t *checked)
{
    str_copy(c->t.method[c->methods].name, sizeof c->t.method->name, name);
    c->settings[c->methods] = settings;
    c->batch[c->methods] = (int)json_integer_value(json_object_get(checked, "batch"));
    c->t.methods = ++c->methods;
}

/* The first concept of each method; checked: what the worker says of all. */
static int find_methods(calibration *c, const json_t *checked, err *e)
{
    const json_t *list = json_object_get(checked, "concepts");

    for (size_t i = 0; i < json_array_size(list) && c->methods < SIM_METHODS; i++) {
        const json_t *one = json_array_get(list, i);
        const farm_concept *f = farm_find(c->f, json_string_value(json_object_get(one, "name")));
        const char *method = json_string_value(json_object_get(one, "method"));
        json_t *settings = f ? settings_of(f) : NULL;
        if (settings && method && !sim_find(&c->t, method) && !json_object_get(settings, "subjects"))
            add_method(c, method, settings, one);
        else
            json_decref(settings);
    }
    return c->methods > 0 ? 0 : err_set(e, ERR_INPUT, "%s: no concept of one subject to measure with", c->f->path);
}

static int other_batch(const calibration *c, int m)
{
    return c->batch[m] >= 4 ? c->batch[m] / 2 : 2 * c->batch[m];
}

/* ---- trials ---------------------------------------------------------------------------------------------------- */

static trial new_trial(const calibration *c, const char *name)
{
    return (trial){.dir = c->dir,
                   .name = name,
                   .base = c->f->base,
                   .root = c->f->root,
                   .settings = c->settings,
                   .workers = c->workers,
                   .gang_max = 1,
                   .pack_max = 1,
                   .threads = c->f->limits.threads > 0 ? (int)c->f->limits.threads : 0,
                   .at = NEW_N(trial_concept, CONCEPTS_MOST)};
}

static void add_stage(trial *t, int copies, int method, int batch, int64_t steps, int stage)
{
    for (int i = 0; i < copies && t->n < CONCEPTS_MOST; i++)
        t->at[t->n++] = (trial_concept){.method = method, .batch = batch, .steps = steps, .stage = stage};
}

/* Of a stage, as a mean: from START to DONE, and what of it the worker's watch has. */
static double took(const trial *t, int stage, bool by_worker)
{
    double sum = 0;
    int n = 0;

    for (int i = 0; i < t->n; i++)
        if (t->at[i].stage == stage) {
            sum += by_worker ? t->at[i].seconds : t->at[i].ended - t->at[i].began;
            n++;
        }
    return n ? sum / n : 0;
}

/* The least disturbed of a stage, by the worker's watch. */
static double least(const trial *t, int stage)
{
    double best = INFINITY;

    for (int i = 0; i < t->n; i++)
        if (t->at[i].stage == stage)
            best = fmin(best, t->at[i].seconds);
    return best;
}

/* Between a short stage and a long one. */
static double step_of(const calibration *c, const trial *t, int stage)
{
    double dt = least(t, stage + 1) - least(t, stage);

    return dt > 0 ? dt / ((LONGER - 1) * c->steps) : 0;
}

/* fixed + sample batch, through two batches; what noise makes negative is nothing. */
static void fit_step(sim_method *m, double a, int batch_a, double b, int batch_b)
{
    m->sample = fmax(0, (a - b) / (batch_a - batch_b));
    m->fixed = fmax(0, a - m->sample * batch_a);
    m->sample = (a - m->fixed) / batch_a;
}

static int measure_alone(calibration *c, err *e)
{
    trial t = new_trial(c, "alone");
    double load = 0, around = 0;

    for (int m = 0; m < c->methods; m++) {
        add_stage(&t, c->workers, m, c->batch[m], c->steps, 4 * m);
        add_stage(&t, c->workers, m, c->batch[m], LONGER * c->steps, 4 * m + 1);
        add_stage(&t, c->workers, m, other_batch(c, m), c->steps, 4 * m + 2);
        add_stage(&t, c->workers, m, other_batch(c, m), LONGER * c->steps, 4 * m + 3);
    }
    int rc = trial_run(&t, e);
    for (int m = 0; m < c->methods && rc == 0; m++) {
        double a = step_of(c, &t, 4 * m), b = step_of(c, &t, 4 * m + 2);
        if (!(a > 0))
            rc = err_set(e, ERR_PEER, "%s: %d steps more take no time that is measured; give --steps more",
                         c->t.method[m].name, (LONGER - 1) * c->steps);
        fit_step(&c->t.method[m], a, c->batch[m], b > 0 ? b : a, other_batch(c, m));
        c->step_alone[m] = a;
        load += fmax(0, least(&t, 4 * m) - a * c->steps) / c->methods;
        around += fmax(0, took(&t, 4 * m + 1, false) - took(&t, 4 * m + 1, true)) / c->methods;
    }
    c->t.start = t.start;
    c->t.load = load;
    c->t.publish = around;
    free(t.at);
    return rc;
}

/* reduce(2) = hop + share, reduce(4) = 2 hop + 1.5 share: from two widths both, from one the share alone. */
static void fit_reduce(sim_method *m, int widths, const double reduce[])
{
    if (widths == 0)
        return;
    m->hop = widths > 1 ? fmax(0, 2 * reduce[1] - 3 * reduce[0]) : 0;
    m->share = fmax(0, reduce[0] - m->hop);
}

static int measure_gangs(calibration *c, err *e)
{
    double reduce[SIM_METHODS][2] = {{0}};
    int widths = 0, rc = 0;

    c->gang_most = 1;
    for (int g = 2; g <= c->workers && g <= 4 && rc == 0; g *= 2) {
        char name[24];
        snprintf(name, sizeof name, "gangs-%d", g);
        trial t = new_trial(c, name);
        t.gang_max = g;
        for (int m = 0; m < c->methods; m++) {
            add_stage(&t, c->workers / g, m, c->batch[m], c->steps, 2 * m);
            add_stage(&t, c->workers / g, m, c->batch[m], LONGER * c->steps, 2 * m + 1);
        }
        rc = trial_run(&t, e);
        for (int m = 0; m < c->methods && rc == 0; m++)
            reduce[m][widths] =
                fmax(0, step_of(c, &t, 2 * m) - c->t.method[m].fixed - c->t.method[m].sample * c->batch[m] / g);
        widths++;
        c->gang_most = g;
        free(t.at);
    }
    for (int m = 0; m < c->methods; m++)
        fit_reduce(&c->t.method[m], widths, reduce[m]);
    return rc;
}

/* Where they do not share a worker, a place in a pack costs as much as a slot. */
static int measure_packs(calibration *c, err *e)
{
    trial t = new_trial(c, "packs");

    t.pack_max = 2;
    for (int m = 0; m < c->methods; m++) {
        add_stage(&t, 2 * c->workers, m, c->batch[m], c->steps, 2 * m);
        add_stage(&t, 2 * c->workers, m, c->batch[m], LONGER * c->steps, 2 * m + 1);
    }
    int rc = trial_run(&t, e);
    for (int m = 0; m < c->methods && rc == 0; m++) {
        sim_method *to = &c->t.method[m];
        double step = step_of(c, &t, 2 * m);
        bool packed = false;
        for (int i = 0; i < t.n; i++)
            packed |= t.at[i].method == m && t.at[i].packed;
        to->member = packed ? fmax(0, (step - to->fixed) / 2 - to->sample * c->batch[m]) : to->fixed;
    }
    free(t.at);
    return rc;
}

static int measure_checkpoints(calibration *c, err *e)
{
    trial t = new_trial(c, "kept");

    t.keeps = true;
    add_stage(&t, c->workers, 0, c->batch[0], c->steps, 0);
    add_stage(&t, c->workers, 0, c->batch[0], LONGER * c->steps, 1);
    int rc = trial_run(&t, e);
    c->t.every = 5;
    c->t.checkpoint = rc == 0 ? fmax(0, step_of(c, &t, 0) - c->step_alone[0]) : 0;
    c->t.checkpoint = fmin(c->t.checkpoint, c->t.every);
    c->t.resize = c->t.checkpoint + c->site.commit + 2 * c->site.message;
    free(t.at);
    return rc;
}

/* ---- predicted, and measured ----------------------------------------------------------------------------------- */

/* Of all methods, one to five times as long as a short one. */
static int try_farm(calibration *c, err *e)
{
    trial t = new_trial(c, "predicted");
    rng_stream lot = rng_open(1, "calibrate", 0, 0);
    sim_options o = {.times = &c->t,
                     .seed = 1,
                     .gpus = c->workers,
                     .per_node = c->workers,
                     .owners = 1,
                     .gang_max = c->gang_most,
                     .pack_max = 1,
                     .slow_by = 1,
                     .batch = c->batch[0]};
    sim_concept *work = NEW_N(sim_concept, CONCEPTS_MOST);
    sim_result r;

    t.gang_max = c->gang_most;
    for (int i = 0; i < 4 * c->workers + 1; i++) {
        int m = i % c->methods;
        add_stage(&t, 1, m, c->batch[m], c->steps * (1 + (int)rng_below(lot, (uint64_t)i, 5)), 0);
    }
    for (int i = 0; i < t.n; i++)
        work[i] = (sim_concept){.method = &c->t.method[t.at[i].method], .steps = t.at[i].steps, .batch = t.at[i].batch};
    o.concepts = c->predicted_n = t.n;
    int rc = sim_run(&r, &o, work, e);
    if (rc == 0)
        rc = trial_run(&t, e);
    c->predicted = rc == 0 ? r.makespan : 0;
    c->measured = t.end - t.came;
    free(work);
    free(t.at);
    return rc;
}

/* ---- telling --------------------------------------------------------------------------------------------------- */

static json_t *as_json(const calibration *c)
{
    json_t *o = sim_times_json(&c->t);
    char when[32];

    clock_iso(when, clock_wall_ms());
    json_object_update_new(o,
                           json_pack("{s:s, s:s, s:i, s:i, s:{s:f, s:f, s:f}, s:{s:i, s:f, s:f}}", "base", c->f->base,
                                     "at", when, "workers", c->workers, "steps", c->steps, "site", "commit",
                                     c->site.commit, "name", c->site.name, "message", c->site.message, "checked",
                                     "concepts", c->predicted_n, "predicted", c->predicted, "measured", c->measured));
    return o;
}

static void print(const calibration *c, const char *path)
{
    printf("%s, seconds:\n", c->t.machine);
    for (int m = 0; m < c->methods; m++) {
        const sim_method *k = &c->t.method[m];
        printf("  %-20s a step of %d: %.4f alone (%.4f and %.5f a sample)", k->name, c->batch[m], c->step_alone[m],
               k->fixed, k->sample);
        for (int g = 2; g <= c->gang_most; g *= 2)
            printf(", %.4f on %d", sim_step(k, c->batch[m], g), g);
        printf(", %.4f two to a worker\n", k->fixed + 2 * (k->sample * c->batch[m] + k->member));
    }
    printf("  a worker starts in %.3f, loads a concept in %.3f; its result and the orders around it take %.3f, a "
           "checkpoint %.4f\n",
           c->t.start, c->t.load, c->t.publish, c->t.checkpoint);
    printf("  a commit of the journal takes %.5f, a result's two names %.5f, a message there and back %.6f\n",
           c->site.commit, c->site.name, c->site.message);
    printf("a farm of %d concepts on %d workers: predicted %.2f s, measured %.2f s (%+.1f %%)\n", c->predicted_n,
           c->workers, c->predicted, c->measured, 100 * (c->measured / c->predicted - 1));
    printf("kept in %s: cfarm simulate --machine here, and cfarm plan for this base\n", path);
}

static int path_of(const char *out, char path[FS_PATH], err *e)
{
    char dir[FS_PATH];

    if (out)
        return fs_join(path, "", out, e);
    TRY(fs_cache_dir(dir, e));
    TRY(fs_mkdirs(dir, e));
    return sim_times_here(path, e);
}

static int keep(const calibration *c, const char *out, char path[FS_PATH], err *e)
{
    json_t *o;

    TRY(path_of(out, path, e));
    o = as_json(c);
    char *text = json_dumps(o, JSON_INDENT(1));
    int rc = fs_write(path, text, strlen(text), e);
    free(text);
    json_decref(o);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

typedef struct {
    const char *farm, *out;
    int workers, steps;
    bool json, keep;
} request;

static int measure(calibration *c, err *e)
{
    TRY(site_measure(&c->site, c->dir, e));
    TRY(measure_alone(c, e));
    TRY(measure_gangs(c, e));
    TRY(measure_packs(c, e));
    TRY(measure_checkpoints(c, e));
    return try_farm(c, e);
}

static void name_machine(calibration *c)
{
    node_facts here;

    node_look(&here);
    c->workers = c->workers > 0 ? c->workers : c->f->limits.workers > 0 ? (int)c->f->limits.workers : join_slots(&here);
    snprintf(c->t.machine, sizeof c->t.machine, "%.40s, %d workers on %d cores", here.name, c->workers, here.cores);
}

/* Beside the farm file, where the farm will be: another disk syncs at another pace. */
static int begin_trials(calibration *c, err *e)
{
    TRY(fs_join(c->dir, c->f->root, ".cfarm-calibrate-XXXXXX", e));
    return mkdtemp(c->dir) ? 0 : err_set(e, ERR_IO, "%s: no folder can be made there: %s", c->f->root, strerror(errno));
}

static void end_trials(const calibration *c, bool stay)
{
    err e = {0};

    if (stay)
        fprintf(stderr, "the trials stay in %s\n", c->dir);
    else if (fs_remove_tree(c->dir, &e) != 0)
        fprintf(stderr, "cfarm: %s\n", e.text);
}

static int calibrate(const request *r, err *e)
{
    calibration c = {.workers = r->workers, .steps = r->steps};
    char path[FS_PATH];
    json_t *checked = NULL;
    prepared p;

    int rc = prepare_read(&p, r->farm, 0, e);
    c.f = p.f;
    if (rc == 0)
        name_machine(&c);
    if (rc == 0)
        rc = prepare_check(&checked, p.f->path, NULL, e);
    if (rc == 0)
        rc = find_methods(&c, checked, e);
    if (rc == 0)
        rc = begin_trials(&c, e);
    if (rc == 0) {
        rc = measure(&c, e);
        if (rc == 0)
            rc = keep(&c, r->out, path, e);
        end_trials(&c, r->keep);
    }
    if (rc == 0 && r->json) {
        json_t *o = as_json(&c);
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
    } else if (rc == 0) {
        print(&c, path);
    }
    for (int m = 0; m < c.methods; m++)
        json_decref(c.settings[m]);
    json_decref(checked);
    prepare_free(&p);
    return rc;
}

static bool parse(request *r, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            r->out = argv[++i];
        else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0 && atoi(argv[i + 1]) <= 64)
            r->workers = atoi(argv[++i]);
        else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0)
            r->steps = atoi(argv[++i]);
        else if (strcmp(argv[i], "--keep") == 0)
            r->keep = true;
        else if (argv[i][0] != '-' && !r->farm)
            r->farm = argv[i];
        else
            return false;
    }
    return r->farm != NULL;
}

int command_calibrate(int argc, char **argv)
{
    request r = {.steps = 20, .json = look_json(&argc, argv)};
    err e = {0};

    if (!parse(&r, argc, argv)) {
        fputs("usage: cfarm calibrate FARM.yaml [--workers N] [--steps 20] [--out FILE] [--keep] [--json]\n"
              "  measures, by small farms of the first concept of each method, what steps, gangs, packs, starts, "
              "loading, results,\n"
              "  checkpoints, commits and messages take here; fits the simulator's figures to it; predicts a farm and "
              "trains it.\n"
              "  --steps   of a short training; a long one has three times as many\n"
              "  --keep    the trials' folders stay\n",
              stderr);
        return FARM_BAD_INPUT;
    }
    return calibrate(&r, &e) == 0 ? FARM_DONE : look_complain(&e);
}
