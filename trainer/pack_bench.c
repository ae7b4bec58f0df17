#include "trainer/pack_bench.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/node/node.h"
#include "configs/farm_packs.h"
#include "trainer/made_up.h"
#include "trainer/pack.h"
#include "trainer/train.h"

enum { AT_ONCE_MOST = 8, STEPS_LEAST = 3, STEPS_MOST = 100, RACES = 3 };
static const double LONG_ENOUGH = 1; /* seconds of each measurement, where a step is short */

/* A worker of the farm: its threads, and the bytes that it may take. */
typedef struct { int threads; size_t room; } worker_like;

/* What some at once come to: steps a second of all together, bytes of the model with all of them, and of one more. */
typedef struct { double per_s; size_t bytes, each; } figures;

typedef struct {
    sd *model;
    const concept_cfg *cfg;
    comm *self;
    nn_adapter adapter;
    step_opts opts;
} shape;

typedef struct {
    stepper *s;
    const shape *of;
    pthread_barrier_t *start;
    int steps;
    double ended;
    err why;
} runner;

static int step_once(runner *r, int t, err *e)
{
    const step_adamw still = {.lr = 0, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    made_up from_nothing = {r->of->model, r->of->opts.h, r->of->opts.w};
    step_turn turn = {.fill = made_up_fill, .say = made_up_say, .arg = &from_nothing, .t = (uint64_t)t, .how = still};

    TRY(step_run_all(r->s, &turn, e));
    if (turn.why.code)
        *e = turn.why;
    return (int)turn.why.code;
}

static void *run(void *arg)
{
    runner *r = arg;

    int rc = step_once(r, 1, &r->why); /* what comes once has come */
    pthread_barrier_wait(r->start);
    for (int i = 0; i < r->steps && rc == 0; i++)
        rc = step_once(r, i + 2, &r->why);
    r->ended = clock_s();
    return NULL;
}

/* All at once; steps a second, of all together. */
static int race(runner *at, int n, int steps, double *per_s, err *e)
{
    pthread_barrier_t start;
    pthread_t *thread = NEW_N(pthread_t, n);
    double last = 0;
    int rc = 0;

    CHECK(pthread_barrier_init(&start, NULL, (unsigned)n + 1) == 0);
    for (int i = 0; i < n; i++) {
        at[i].start = &start;
        at[i].steps = steps;
        CHECK(pthread_create(&thread[i], NULL, run, &at[i]) == 0);
    }
    pthread_barrier_wait(&start);
    double from = clock_s();
    for (int i = 0; i < n; i++) {
        pthread_join(thread[i], NULL);
        last = at[i].ended > last ? at[i].ended : last;
        if (at[i].why.code && rc == 0) {
            *e = at[i].why;
            rc = (int)e->code;
        }
    }
    *per_s = n * steps / (last - from);
    pthread_barrier_destroy(&start);
    free(thread);
    return rc;
}

/* The best of some races where steps are short: what else ran on the machine is not the pack's. */
static int race_well(runner *at, int n, double *per_s, err *e)
{
    double wanted = LONG_ENOUGH * *per_s / n, again;

    for (int i = 0; i < RACES && wanted > STEPS_LEAST; i++) {
        TRY(race(at, n, wanted > STEPS_MOST ? STEPS_MOST : (int)wanted, &again, e));
        *per_s = again > *per_s ? again : *per_s;
    }
    return 0;
}

/* ---- a class ---- */

static int words_in(shape *of, err *e)
{
    int n = method_find(method_names[of->cfg->how.method])->learns_words ? pack_words(&of->cfg->data) : 0;
    size_t width = (size_t)sd_text_shape(of->model)->width;
    float *rows = NEW_N(float, (size_t)n * width + 1);
    int rc = n > 0 ? sd_text_row(of->model, 1, rows, e) : 0;

    for (int i = 1; i < n; i++)
        memcpy(rows + (size_t)i * width, rows, width * sizeof *rows);
    if (rc == 0 && n > 0)
        rc = sd_text_rows_set(of->model, rows, n, e);
    free(rows);
    return rc;
}

static int settle(shape *of, int n, const char ***moves, err *e)
{
    const method *by = method_find(method_names[of->cfg->how.method]);
    const train_cfg *how = &of->cfg->how;
    const data_cfg *data = &of->cfg->data;
    nn_params *p = sd_params(of->model);
    int all = data_batch(data) * (int)how->accumulate, leaves = train_leaves(how, data), moved;
    int cells = (data->resolution > 0 ? (int)data->resolution : sd_side(of->model)) / vae_factor(sd_vae_shape(of->model));

    sd_forget_plans(of->model);
    sd_restore(of->model);
    if (nn_params_backend(p)->compute)
        TRY(nn_params_backend(p)->compute(nn_params_backend(p), how->compute == COMPUTE_BF16 ? NN_BF16 : NN_F32, e));
    nn_params_backend(p)->lanes = n;
    TRY(words_in(of, e));
    if (by->prepare)
        TRY(by->prepare(of->model, how, e));
    TRY(train_moves(of->model, by, how, moves, &moved, e));
    of->adapter = by->adapter;
    of->adapter.arg = how;
    of->opts = (step_opts){.moves = *moves, .n_moves = moved, .batch = all, .micro = all / leaves, .h = cells, .w = cells,
                           .adapter = &of->adapter, .recompute = how->recompute, .detach_first = by->detach_first,
                           .text = train_texts(of->model, *moves, moved, false), .width = 1};
    nn_params_moments(p, how->moments == MOMENTS_8BIT);
    return nn_params_train_pack(p, *moves, moved, n, e);
}

/* After a race: what is laid out when it is first asked for lies there. */
static void weigh(const shape *of, const runner *at, int n, figures *out)
{
    const nn_params *p = sd_params(of->model);
    size_t block = nn_params_weights_count(p) + nn_params_trained_count(p) + 2 * nn_params_moments_count(p);

    out->each = step_bytes(at[0].s) + block * sizeof(float);
    out->bytes = nn_params_bytes(p);
    for (int i = 0; i < n; i++)
        out->bytes += step_bytes(at[i].s);
}

static int measure(shape *of, int n, figures *out, err *e)
{
    runner *at = NEW_N(runner, n);
    const char **moves = NULL;
    int rc = settle(of, n, &moves, e);

    for (int i = 0; i < n && rc == 0; i++) {
        of->opts.first = i;
        at[i].of = of;
        rc = step_new(&at[i].s, of->model, of->self, &of->opts, e);
    }
    if (rc == 0)
        rc = race(at, n, STEPS_LEAST, &out->per_s, e);
    if (rc == 0)
        rc = race_well(at, n, &out->per_s, e);
    if (rc == 0)
        weigh(of, at, n, out);
    for (int i = 0; i < n; i++)
        step_free(at[i].s);
    nn_params_backend(sd_params(of->model))->lanes = 0;
    sd_forget_plans(of->model);
    sd_restore(of->model);
    free((void *)(uintptr_t)moves);
    free(at);
    return rc;
}

static int mib(size_t bytes) { return (int)(bytes >> 20); }

/* Whether so many have room in what a worker of this farm may take, reckoned from fewer. */
static bool fits(const figures *fewer, int more, size_t room, json_t *steps, FILE *to)
{
    size_t bytes = fewer->bytes + (size_t)more * fewer->each;
    int n = 2 * more; /* twice as many as they were */

    if (bytes <= room)
        return true;
    json_array_append_new(steps, json_pack("{s:i s:i s:i}", "at_once", n, "mib", mib(bytes), "room_mib", mib(room)));
    fprintf(to, "  %d at once: would take %d MiB, and a worker has %d\n", n, mib(bytes), mib(room));
    return false;
}

/* 1, 2, 4, ... at once, until no more is gained or fits, or twice the threads. */
static int measure_class(shape *of, const worker_like *w, const char *name, const char *alike, json_t *into, FILE *to, err *e)
{
    json_t *steps = json_array(), *o = json_pack("{s:s s:s s:o}", "alike", alike, "like", name, "steps", steps);
    double one = 0, best = 0;
    figures is = {0};
    int most = 1;

    json_array_append_new(into, o);
    fprintf(to, "like %s:\n", name);
    for (int n = 1; n <= AT_ONCE_MOST && n <= 2 * w->threads; n *= 2) {
        if (n > 1 && !fits(&is, n / 2, w->room, steps, to))
            break;
        TRY(measure(of, n, &is, e));
        one = n == 1 ? is.per_s : one;
        json_array_append_new(steps, json_pack("{s:i s:f s:i}", "at_once", n, "per_s", is.per_s, "mib", mib(is.bytes)));
        fprintf(to, "  %d at once: %.3g steps a second, %.2f times, %d MiB\n", n, is.per_s, is.per_s / one, mib(is.bytes));
        if (n > 1 && is.per_s < best * FARM_PACKS_GAIN)
            break; /* the fewest that come within it: more would only wait longer */
        best = is.per_s;
        most = n;
    }
    json_object_set_new(o, "most", json_integer(most));
    json_object_set_new(o, "gain", json_real(best / one));
    return 0;
}

/* ---- the farm ---- */

static bool is_measured(const json_t *classes, const char *alike)
{
    for (size_t i = 0; i < json_array_size(classes); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(classes, i), "alike")), alike) == 0)
            return true;
    return false;
}

static int measure_all(const farmfile *farm, shape *of, const worker_like *w, json_t *classes, FILE *to, err *e)
{
    for (size_t i = 0; i < farm->concept_count; i++) {
        const farm_concept *f = &farm->concepts[i];
        char alike[PACK_CLASS];
        concept_cfg one;
        TRY(concept_cfg_fill(&one, NULL, farm->doc, f->settings, e));
        pack_class(alike, &one, 0);
        of->cfg = &one;
        if (alike[0] && !is_measured(classes, alike) && measure_class(of, w, f->name, alike, classes, to, e) != 0)
            return err_wrap(e, "concept %s", f->name);
    }
    return json_array_size(classes) > 0 ? 0 : err_set(e, ERR_INPUT, "%s: its methods' concepts share no workers", farm->path);
}

static int keep(const farmfile *farm, const json_t *o, FILE *to, err *e)
{
    char path[FS_PATH], *text = json_dumps(o, JSON_INDENT(1));
    int rc = fs_mkdirs(farm->dir, e);

    if (rc == 0)
        rc = farm_packs_path(path, farm, e);
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    if (rc == 0)
        fprintf(to, "kept in %s, where cfarm plan and cfarm train read it (pack_max: auto)\n", path);
    free(text);
    return rc;
}

/* As agents share a node's memory out. */
static size_t worker_room(const farmfile *farm, const node_facts *node)
{
    int workers = farm->limits.workers > 0 ? (int)farm->limits.workers : node_workers(node);

    return (size_t)(farm->limits.memory * (double)node->memory / (workers > 0 ? workers : 1));
}

int pack_bench(const farmfile *farm, int threads, FILE *to, err *e)
{
    json_t *classes = json_array();
    shape of = {0};
    nn_backend *b = NULL;
    node_facts node;

    node_look(&node);
    const worker_like w = {threads, worker_room(farm, &node)};
    int rc = nn_cpu_open(&b, threads, false, e);
    if (rc == 0)
        rc = sd_open(&of.model, farm->base, b, e);
    if (rc == 0)
        rc = comm_self(&of.self, e);
    if (rc == 0)
        rc = measure_all(farm, &of, &w, classes, to, e);
    json_t *o = json_pack("{s:i s:s s:s s:i s:o}", "version", FARM_PACKS_VERSION, "base", farm->base, "node", node.name, "threads",
                          threads, "classes", classes);
    if (rc == 0)
        rc = keep(farm, o, to, e);
    json_decref(o);
    comm_free(of.self);
    sd_close(of.model);
    if (b)
        b->close(b);
    return rc;
}
