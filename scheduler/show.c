/* `cfarm plan`: what would happen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "configs/farm_packs.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/eta.h"
#include "scheduler/forecast.h"
#include "scheduler/join.h"
#include "scheduler/limit.h"
#include "scheduler/look.h"
#include "scheduler/prepare.h"
#include "scheduler/sim_times.h"

/* ---- plan ----------------------------------------------------------------------------------------------------- */

/* The worker's own words and status: it alone knows pictures and models. */
static int run_check(const char *path, err *e)
{
    char program[FS_PATH];
    const char *argv[] = {program, "--check", path, NULL};
    child_spec c = {.argv = argv, .fd = -1, .out = -1, .err = -1};
    int status;
    pid_t pid;

    TRY(child_program(program, "cfarm-worker", e));
    fflush(stdout);
    TRY(child_start(&pid, &c, e));
    while (waitpid(pid, &status, 0) != pid)
        ;
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 2)) {
        char ending[96];
        child_ending(status, ending, sizeof ending);
        return err_set(e, ERR_PEER, "cfarm-worker --check ended with %s", ending);
    }
    return WEXITSTATUS(status) == 0 ? 0 : err_set(e, ERR_INPUT, "%s has mistakes; nothing would be begun", path);
}

static const char *state_in(const ledger *l, const char *name)
{
    int at = l ? sched_find(l->s, name) : -1;

    return at < 0 ? "new" : l->s->job[at].state < JOB_DONE ? "to do" : job_state_name(l->s->job[at].state);
}

/* How many share a worker, and why. */
static void show_packs(const farmfile *f)
{
    bool own = f->limits.pack_max == CFG_WORD;
    int most = prepare_pack_max(f);
    str why = {0};

    if (own)
        farm_packs(f, NULL, &why);
    else
        str_add(&why, "pack_max: %d", most);
    if (most > 1)
        printf("packs: while more concepts wait than workers are free, up to %d of one class share a worker (%s%s)\n", most,
               own ? "pack_max: auto; " : "", why.at);
    else
        printf("packs: none (%s%s)\n", own ? "pack_max: auto; " : "", why.at);
    str_free(&why);
}

static void show_plan(const prepared *p)
{
    size_t left = 0;

    for (size_t i = 0; i < p->f->concept_count; i++) {
        const char *state = state_in(p->l, p->f->concepts[i].name);
        left += strcmp(state, "new") == 0 || strcmp(state, "to do") == 0;
        if (p->l)
            printf("%-20s %s\n", p->f->concepts[i].name, state);
    }
    for (size_t i = 0; i < p->f->merge_count; i++)
        printf("%-20s merge of %zu, %s\n", p->f->merges[i].name, p->f->merges[i].of.n,
               state_in(p->l, p->f->merges[i].name));
    show_packs(p->f);
    printf("farm %s in %s: %zu concepts, %zu to train, %zu merges\n", p->f->name, p->f->dir, p->f->concept_count, left,
           p->f->merge_count);
}

/* ---- what will finish ----------------------------------------------------------------------------------------- */

enum { STATUS_MOST = 64 << 20 };
static const double ASSUMED = 2; /* seconds of a slot for a sample, while nothing was done: Stable Diffusion 1.5 on a few cores */

typedef struct {
    double left, usable;         /* seconds; left negative: no limit */
    double sample;
    int slots, learned;          /* from so many concepts */
    bool seen;                   /* else from the steps that were made last; */
    bool measured;               /* else as cfarm calibrate measured them with this base; else assumed */
    sim_times times;
    forecast_work *work;
    size_t n, fit;
} outlook;

/* As many workers as the farm would have: on each node of the launcher's job, or here. */
static int slots_of(const farmfile *f)
{
    const char *nodes = getenv("SLURM_JOB_NUM_NODES"), *tasks = getenv("SLURM_NTASKS");
    int n = nodes && atoi(nodes) > 0 ? atoi(nodes) : 1;
    node_facts node;

    if (f->limits.workers > 0)
        return n * (int)f->limits.workers;
    if (tasks && atoi(tasks) > n)
        return atoi(tasks);
    node_look(&node);
    return n * join_slots(&node);
}

/* Seconds that a slot needs for a sample, by the farm's own status; 0: no step was seen yet. */
static double seen_last(const char *dir)
{
    char path[FS_PATH], *text;
    json_t *o = NULL;
    double seconds = 0;
    size_t n;

    if (fs_join(path, dir, "status.json", NULL) != 0 || fs_read(path, &text, &n, STATUS_MOST, NULL) != 0)
        return 0;
    if (json_parse(&o, text, n, path, NULL) == 0)
        seconds = json_number_value(json_object_get(o, "sample_seconds"));
    json_decref(o);
    free(text);
    return seconds;
}

/* Whole concepts tell most, with their loading and their results; while none is done, its steps. */
static void learn(outlook *o, const ledger *l, const char *dir)
{
    double seconds;
    eta known = {0};

    for (int i = 0; l && i < l->s->jobs; i++) {
        const sched_job *j = &l->s->job[i];
        if (j->state == JOB_DONE && j->spec.kind == JOB_TRAIN)
            eta_learn(&known, j->seconds, (double)j->spec.steps * (double)j->spec.batch);
    }
    o->learned = (int)known.n;
    seconds = known.n > 0 ? eta_sample(&known) : seen_last(dir);
    o->seen = known.n == 0 && seconds > 0;
    o->sample = seconds > 0 ? seconds : ASSUMED;
}

/* What was measured here with another base says nothing of this one. */
static int look_up_times(outlook *o, const prepared *p, err *e)
{
    char path[FS_PATH];

    if (o->learned > 0 || o->seen || sim_times_here(path, NULL) != 0 || !fs_exists(path))
        return 0;
    TRY(sim_times_read(&o->times, path, e));
    o->measured = strcmp(o->times.base, p->f->base) == 0;
    return 0;
}

/* Seconds of a slot, where its method was measured. */
static double measured_seconds(const outlook *o, const json_t *checked, double samples)
{
    const char *method = json_string_value(json_object_get(checked, "method"));
    const sim_method *m = method ? sim_find(&o->times, method) : NULL;
    double batch = json_number_value(json_object_get(checked, "batch"));

    if (!m || batch <= 0)
        return samples * ASSUMED;
    return o->times.load + o->times.publish + samples / batch * sim_step(m, batch, 1);
}

/* What of the farm file is still to be trained and may start. */
static void list_work(outlook *o, const prepared *p, const json_t *checked)
{
    const json_t *list = json_object_get(checked, "concepts");
    double samples = 0, seconds = 0;

    o->work = NEW_N(forecast_work, json_array_size(list) + 1);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const farm_concept *f = farm_find(p->f, json_string_value(json_object_get(one, "name")));
        int at = f && p->l ? sched_find(p->l->s, f->name) : -1;
        if (!f || f->hold || (at >= 0 && p->l->s->job[at].state >= JOB_DONE))
            continue;
        double n = json_number_value(json_object_get(one, "steps")) * json_number_value(json_object_get(one, "batch"));
        double t = o->measured ? measured_seconds(o, one, n) : n * o->sample;
        samples += n;
        seconds += t;
        o->work[o->n++] = (forecast_work){.name = f->name, .priority = (int)f->priority, .samples = o->measured ? t : n};
    }
    if (o->measured && samples > 0)
        o->sample = seconds / samples;
}

static int look_ahead(outlook *o, const prepared *p, const json_t *checked, err *e)
{
    *o = (outlook){0};
    TRY(limit_left(&o->left, p->f, e));
    if (o->left < 0)
        return 0;
    o->usable = o->left - 2 * limit_margin(o->left);
    o->slots = slots_of(p->f);
    learn(o, p->l, p->f->dir);
    TRY(look_up_times(o, p, e));
    list_work(o, p, checked);
    o->fit = forecast(o->work, o->n, o->slots, o->usable, o->measured ? 1 : o->sample);
    return 0;
}

static void show_outlook(const outlook *o)
{
    if (o->left < 0) {
        printf("no time limit\n");
        return;
    }
    printf("%.0f s left, %.0f s of them to train in, %d slots, %.3g s for a sample (", o->left, o->usable, o->slots, o->sample);
    if (o->learned)
        printf("as %d concepts took)\n", o->learned);
    else if (o->seen)
        printf("as the last steps took)\n");
    else if (o->measured)
        printf("as cfarm calibrate measured)\n");
    else
        printf("an assumption: nothing was done here yet)\n");
    printf("%zu will finish, %zu will not and go on at the next start\n", o->fit, o->n - o->fit);
    for (size_t i = 0; i < o->n; i++)
        if (!o->work[i].fits)
            printf("%-20s will not finish\n", o->work[i].name);
}

static void add_outlook(json_t *to, const outlook *o)
{
    json_t *out = json_array();

    for (size_t i = 0; i < o->n; i++)
        if (!o->work[i].fits)
            json_array_append_new(out, json_string(o->work[i].name));
    if (o->left >= 0)
        json_object_set_new(to, "time", json_pack("{s:f, s:f, s:i, s:f, s:i, s:I, s:b, s:b}", "left", o->left, "usable", o->usable, "slots",
                                                  o->slots, "sample", o->sample, "learned_from", o->learned, "will_finish",
                                                  (json_int_t)o->fit, "by_steps", o->seen, "measured", o->measured));
    json_object_set_new(to, "will_not_finish", out);
}

/* The worker's list once more, for programs: only where there is a limit to hold it to. */
static int tell_ahead(const prepared *p, bool json, err *e)
{
    json_t *checked = NULL;
    double left;
    outlook o;

    TRY(limit_left(&left, p->f, e));
    if (json || left >= 0)
        TRY(prepare_check(&checked, p->f->path, NULL, e));
    int rc = look_ahead(&o, p, checked, e);
    if (rc == 0 && json) {
        add_outlook(checked, &o);
        json_dumpf(checked, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (rc == 0) {
        show_outlook(&o);
    }
    free(o.work);
    json_decref(checked);
    return rc;
}

static int plan(const char *path, bool json, err *e)
{
    prepared p;
    int rc = prepare_read(&p, path, 0, e);

    if (rc == 0 && !json)
        rc = run_check(path, e);
    if (rc == 0 && fs_is_dir(p.f->dir)) /* a past to compare with, if it stands still; else one to learn from */
        rc = ledger_busy(p.f->dir) ? look_open(&p.l, p.f->dir, e) : prepare_compare(&p, false, e);
    if (rc == 0 && !json)
        show_plan(&p);
    if (rc == 0)
        rc = tell_ahead(&p, json, e);
    prepare_free(&p);
    return rc;
}

int command_plan(int argc, char **argv)
{
    bool json = argc == 3 && strcmp(argv[2], "--json") == 0;
    err e = {0};

    if (argc < 2 || argv[1][0] == '-' || (argc > 2 && !json)) {
        fputs("usage: cfarm plan FARM.yaml [--json]\n", stderr);
        return FARM_BAD_INPUT;
    }
    return plan(argv[1], json, &e) == 0 ? FARM_DONE : look_complain(&e);
}
