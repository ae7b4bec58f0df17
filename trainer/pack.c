/* Lanes turn, the desk does the rest: one thread loads those who wait and writes the files of those who are done. What is
 * asked of the model by name (words, text encoder, class pictures, the values a file keeps) happens at the desk alone, in
 * a slot of its own behind those of the places; first and last values are carried between that slot and the places'. */
#include "trainer/pack.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/training.h"

#define MOMENTS_KEPT ((size_t)1 << 30)
/* Concepts that are loaded before there is a place for them: always two, so that two places that fall free together both find
 * one, and as many as there are places, up to a few, while nobody waits to be written. */
enum { AHEAD = 2, AHEAD_MOST = 8 };

typedef struct guest {
    pack *p;
    train_job asked, job;        /* as it was put, and with one voice at a time */
    train_shelf shelf;
    pack_ended *ended;
    void *arg;
    training *t;
    float *w;                    /* its first values until it stands, its last ones from then on */
    bool gone;                   /* told to stop before its first step */
    int rc;
    err why;
    struct guest *next;
} guest;

typedef struct { guest *first, **last; } line;

/* Of a place that has fallen free: when (0: nobody stood there), the lane's processor time then, seconds of waiting since. */
typedef struct { double at, worked, waited; } refill;

typedef struct {
    pack *p;
    stepper *stepper;
    guest **at;                  /* [width] */
    step_turn *turns;
    training **trainings;        /* [width]: of those who stand, for training_prepare */
    refill *left;                /* [width]: since the last one took its last step */
    int first;                   /* its first slot */
    pack_figures told;
    pthread_t thread;
} lane;

typedef struct { const char *name; double value; } trait;
enum { TRAITS = 15 };

struct pack {
    sd *model;
    pack_opts opts;
    train_cfg how;               /* of the class: what the adapter is told. Numbers only: its texts go with the first concept */
    trait class[TRAITS];
    comm *alone;                 /* a stepper's gang */
    latents_pool *pool;
    size_t weights;
    float *zeros;                /* [weights]: moments of one who has taken no step */
    lane *lanes;
    int running;                 /* of their threads */
    bool attended;               /* the desk's runs */
    pthread_t desk;
    pthread_mutex_t lock, voice; /* over the lines; over what callers are told */
    pthread_cond_t news;
    line waiting, ready, done;
    int ready_n, inside;         /* inside: put and not ended */
    bool asks;                   /* those who are ready are to be asked whether they stay */
    bool closing;
};

/* ---- lines ---- */

static void line_empty(line *l) { *l = (line){.last = &l->first}; }

static void line_add(line *l, guest *g)
{
    g->next = NULL;
    *l->last = g;
    l->last = &g->next;
}

static guest *line_take(line *l)
{
    guest *g = l->first;

    if (g && !(l->first = g->next))
        l->last = &l->first;
    return g;
}

/* ---- one voice at a time ---- */

static bool say_progress(void *arg, const train_progress *p)
{
    guest *g = arg;

    pthread_mutex_lock(&g->p->voice);
    bool stop = g->asked.progress && g->asked.progress(g->asked.arg, p);
    pthread_mutex_unlock(&g->p->voice);
    return stop;
}

static void say_text(void *arg, const char *text)
{
    guest *g = arg;

    pthread_mutex_lock(&g->p->voice);
    if (g->asked.say)
        g->asked.say(g->asked.arg, text);
    pthread_mutex_unlock(&g->p->voice);
}

static void *shelf_open(void *arg, int step, size_t bytes, bool last)
{
    guest *g = arg;

    pthread_mutex_lock(&g->p->voice);
    void *at = g->asked.shelf->open(g->asked.shelf->arg, step, bytes, last);
    pthread_mutex_unlock(&g->p->voice);
    return at;
}

static void shelf_close(void *arg, int step, size_t bytes)
{
    guest *g = arg;

    pthread_mutex_lock(&g->p->voice);
    g->asked.shelf->close(g->asked.shelf->arg, step, bytes);
    pthread_mutex_unlock(&g->p->voice);
}

static guest *guest_new(pack *p, const train_job *job, pack_ended *ended, void *arg)
{
    guest *g = NEW(guest);

    *g = (guest){.p = p, .asked = *job, .job = *job, .ended = ended, .arg = arg};
    g->shelf = (train_shelf){g, shelf_open, shelf_close};
    g->job.progress = say_progress;
    g->job.say = say_text;
    g->job.arg = g;
    g->job.shelf = job->shelf ? &g->shelf : NULL;
    return g;
}

/* ---- the desk ---- */

static size_t slot_at(const pack *p, int slot) { return (size_t)slot * p->weights; }
static int desk_slot(const pack *p) { return p->opts.lanes * p->opts.width; }

static int load(guest *g, err *e)
{
    pack *p = g->p;
    nn_params *params = sd_params(p->model);

    TRY(pack_takes(p, &g->job, e));
    TRY(nn_params_slot_clear(params, e));
    g->t = training_new(p->model, &g->job, p->pool);
    TRY(training_load(g->t, e));
    TRY(mem_big((void **)&g->w, p->weights * sizeof *g->w, "first values of a concept", e));
    return nn_params_state_read_at(params, "train.w", slot_at(p, desk_slot(p)), g->w, p->weights, e);
}

/* What it is told while it waits is answered as between two steps. */
static bool stays(guest *g)
{
    const train_progress waits = {.phase = "loading", .steps = (int)g->job.cfg->how.steps};

    return !say_progress(g, &waits);
}

static int publish(guest *g, err *e)
{
    pack *p = g->p;

    if (!g->job.out || training_summary(g->t)->stopped)
        return 0;
    TRY(nn_params_state_write_at(sd_params(p->model), "train.w", slot_at(p, desk_slot(p)), g->w, p->weights, e));
    return training_publish(g->t, e);
}

static void say_goodbye(guest *g)
{
    train_summary sum = g->t ? *training_summary(g->t) : (train_summary){0};
    pack *p = g->p;

    sum.stopped |= g->gone;
    training_free(g->t); /* first: what the job points at may be gone with that word */
    pthread_mutex_lock(&p->voice);
    g->ended(g->arg, g->rc, &sum, &g->why);
    pthread_mutex_unlock(&p->voice);
    free(g->w);
    free(g);
}

static int ahead(const pack *p)
{
    int places = desk_slot(p);

    return places < AHEAD ? AHEAD : places < AHEAD_MOST ? places : AHEAD_MOST;
}

/* Those who are ready and do not stay go to those who are done, under the lock. */
static void ask_ready(pack *p)
{
    line kept;
    guest *g;

    line_empty(&kept);
    while ((g = line_take(&p->ready))) {
        g->gone = !stays(g);
        line_add(g->gone ? &p->done : &kept, g);
        p->ready_n -= g->gone;
    }
    p->ready = kept;
    if (!kept.first)
        line_empty(&p->ready);
    p->asks = false;
}

/* What is next here, under the lock: someone to load where places may soon want one, else someone to write. */
static guest *next_at_desk(pack *p, bool *loads)
{
    *loads = p->waiting.first && p->ready_n < (p->done.first ? AHEAD : ahead(p));
    return *loads ? line_take(&p->waiting) : line_take(&p->done);
}

/* A lane that wakes the desk shall not lose its core to it in the same moment: where that cannot be had, it may. */
static void step_aside(void)
{
    const struct sched_param plain = {0};

    pthread_setschedparam(pthread_self(), SCHED_BATCH, &plain);
}

static void *desk(void *arg)
{
    pack *p = arg;

    step_aside();
    pthread_mutex_lock(&p->lock);
    while (!p->closing || p->inside > 0) {
        bool loads, in;
        if (p->asks)
            ask_ready(p);
        guest *g = next_at_desk(p, &loads);
        if (!g) {
            pthread_cond_wait(&p->news, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        if (g->rc == 0 && !g->gone)
            g->rc = loads ? load(g, &g->why) : publish(g, &g->why);
        in = loads && g->rc == 0 && !training_left(g->t);
        if (in)
            in = !(g->gone = !stays(g));
        if (!in)
            say_goodbye(g);
        pthread_mutex_lock(&p->lock);
        if (in)
            line_add(&p->ready, g);
        p->ready_n += in;
        p->inside -= !in;
        pthread_cond_broadcast(&p->news);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- lanes ---- */

static double worked_s(void)
{
    struct timespec t;

    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double more(double a, double b) { return a > b ? a : b; }

static void note_refill(lane *l, int place)
{
    const refill *r = &l->left[place];
    pack_figures *told = &l->told;

    if (r->at <= 0)
        return;
    double gap = clock_s() - r->at, bubble = worked_s() - r->worked + r->waited;
    told->refills++;
    told->gap_sum += gap;
    told->gap_most = more(gap, told->gap_most);
    told->bubble_sum += bubble;
    told->bubble_most = more(bubble, told->bubble_most);
}

static int enter(lane *l, int place, err *e)
{
    pack *p = l->p;
    guest *g = l->at[place];

    TRY(step_state_write(l->stepper, place, g->w, p->zeros, p->zeros, 1, e));
    note_refill(l, place);
    return training_begin(g->t, l->stepper, place, e);
}

static void leave(lane *l, int place, int rc)
{
    pack *p = l->p;
    guest *g = l->at[place];

    if (rc == 0)
        rc = nn_params_state_read_at(sd_params(p->model), "train.w", slot_at(p, l->first + place), g->w, p->weights, &g->why);
    g->rc = rc;
    l->at[place] = NULL;
    pthread_mutex_lock(&p->lock);
    line_add(&p->done, g);
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
}

/* Free places are taken. True: somebody stands here. */
static bool fill_places(lane *l, guest *came[])
{
    pack *p = l->p;
    bool any = false;

    for (int i = 0; i < p->opts.width; i++) {
        came[i] = l->at[i] ? NULL : line_take(&p->ready);
        p->ready_n -= came[i] != NULL;
        if (came[i])
            l->at[i] = came[i];
        any |= l->at[i] != NULL;
    }
    return any;
}

/* Seconds until the lock was free. */
static double lock_waiting(pthread_mutex_t *lock)
{
    double from = clock_s();

    if (pthread_mutex_trylock(lock) == 0)
        return 0;
    pthread_mutex_lock(lock);
    return clock_s() - from;
}

/* False: nobody stands here and nobody will. */
static bool wait_for_guests(lane *l, guest *came[])
{
    pack *p = l->p;
    double waited = lock_waiting(&p->lock);
    bool any;

    while (!(any = fill_places(l, came)) && (!p->closing || p->waiting.first || p->ready_n > 0 || p->inside > 0)) {
        double from = clock_s();
        pthread_cond_wait(&p->news, &p->lock);
        waited += clock_s() - from;
    }
    for (int i = 0; i < p->opts.width; i++)
        if (came[i])
            l->left[i].waited += waited;
    pthread_cond_broadcast(&p->news); /* the desk may load another */
    pthread_mutex_unlock(&p->lock);
    return any;
}

static void seat(lane *l, guest *const came[])
{
    for (int i = 0; i < l->p->opts.width; i++) {
        if (!came[i])
            continue;
        int rc = enter(l, i, &came[i]->why);
        if (rc != 0)
            leave(l, i, rc);
    }
}

/* What came of a step for the one at this place, and whether it goes. */
static void take(lane *l, int place, int all, const err *why, double seconds)
{
    guest *g = l->at[place];
    int rc = all;

    if (all)
        g->why = *why;
    else
        rc = training_took(g->t, &l->turns[place], seconds, &g->why);
    if (rc == 0 && training_goes_on(g->t))
        return;
    l->left[place] = (refill){.at = clock_s(), .worked = worked_s()};
    if (rc == 0)
        rc = training_end(g->t, &g->why);
    leave(l, place, rc);
}

static void turn(lane *l)
{
    double from = clock_s();
    err why = {0};
    bool any = false;

    for (int i = 0; i < l->p->opts.width; i++) {
        l->turns[i] = (step_turn){0};
        l->trainings[i] = l->at[i] ? l->at[i]->t : NULL;
        if (l->at[i])
            training_turn(l->at[i]->t, &l->turns[i]);
        any |= l->at[i] != NULL;
    }
    if (!any)
        return;
    training_prepare(l->trainings, l->p->opts.width);
    int rc = step_run_all(l->stepper, l->turns, &why);
    double seconds = clock_s() - from;
    l->told.steps++;
    l->told.step_sum += seconds;
    for (int i = 0; i < l->p->opts.width; i++)
        if (l->at[i])
            take(l, i, rc, &why, seconds);
}

static void *lane_run(void *arg)
{
    lane *l = arg;
    guest **came = NEW_N(guest *, l->p->opts.width);

    while (wait_for_guests(l, came)) {
        seat(l, came);
        turn(l);
    }
    free(came);
    return NULL;
}

/* ---- the class ---- */

int pack_words(const data_cfg *d)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    int n = 0;

    for (int i = 0; i < data_subjects(d); i++)
        n += subject_tokens(words, d, i);
    return n;
}

/* What the members of a pack have in common, beside the method. */
static void traits_of(trait out[TRAITS], const train_cfg *how, const data_cfg *d, int leaves)
{
    const trait all[TRAITS] = {
        {"freeze", how->freeze},
        {"train_text_encoder", how->train_text_encoder},
        {"lora.rank", (double)how->lora_rank},
        {"lora.alpha", how->lora_alpha},
        {"lora.layers", how->lora_layers},
        {"compat", d->compat},
        {"resolution", (double)d->resolution},
        {"batch", data_batch(d)},
        {"accumulate", (double)how->accumulate},
        {"passes a step", leaves > 0 ? leaves : train_leaves(how, d)},
        {"compute", how->compute},
        {"moments", how->moments},
        {"recompute", how->recompute},
        {"unmix", how->unmix > 0},
        {"new words", pack_words(d)},
    };

    memcpy(out, all, sizeof all);
}

void pack_class(char out[PACK_CLASS], const concept_cfg *c, int leaves)
{
    const method *by = method_find(method_names[c->how.method]);
    trait is[TRAITS];
    char hex[HASH_HEX];
    str all = {0};

    out[0] = '\0';
    if (!by->packs)
        return;
    traits_of(is, &c->how, &c->data, leaves);
    str_add(&all, "%s", by->name);
    for (int i = 0; i < TRAITS; i++)
        str_add(&all, " %.17g", is[i].value);
    hash_bytes(all.at, all.n, hex);
    snprintf(out, PACK_CLASS, "%.16s", hex);
    str_free(&all);
}

int pack_takes(const pack *p, const train_job *job, err *e)
{
    const train_cfg *a = &p->how, *b = &job->cfg->how;
    const trait *have = p->class;
    trait want[TRAITS];

    traits_of(want, b, &job->cfg->data, job->leaves);
    if (comm_size(job->gang) > 1)
        return err_set(e, ERR_INPUT, "a concept of a pack has no gang");
    if (a->method != b->method)
        return err_set(e, ERR_INPUT, "a pack of %s takes no %s", method_names[a->method], method_names[b->method]);
    for (int i = 0; i < TRAITS; i++)
        if (have[i].value < want[i].value || have[i].value > want[i].value)
            return err_set(e, ERR_INPUT, "a pack shares one graph: %s is %g in it and %g here", have[i].name, have[i].value,
                           want[i].value);
    return 0;
}

/* ---- opening and closing ---- */

static int check(const train_job *like, const pack_opts *o, err *e)
{
    const method *by = method_find(method_names[like->cfg->how.method]);

    if (o->lanes < 1 || o->width < 1)
        return err_set(e, ERR_INPUT, "a pack of %d times %d places", o->lanes, o->width);
    if (!by->packs)
        return err_set(e, ERR_INPUT, "%s moves too much for a pack: its concepts are trained alone", by->name);
    if (o->width > 1 && like->cfg->how.freeze == FREEZE_CROSSATTN)
        return err_set(e, ERR_INPUT, "freeze: crossattn moves biases, and passes of several concepts share those; take width 1");
    return 0;
}

static int open_lane(pack *p, int i, const step_opts *opts, err *e)
{
    lane *l = &p->lanes[i];
    step_opts o = *opts;

    *l = (lane){.p = p, .first = i * p->opts.width, .at = NEW_N(guest *, p->opts.width),
                .turns = NEW_N(step_turn, p->opts.width), .trainings = NEW_N(training *, p->opts.width), .left = NEW_N(refill, p->opts.width)};
    o.first = l->first;
    o.width = p->opts.width;
    TRY(step_new(&l->stepper, p->model, p->alone, &o, e));
    l->told.bytes = step_bytes(l->stepper);
    return 0;
}

/* One of the class is loaded for what it says about its shapes, and leaves. */
static int make_room(pack *p, const train_job *like, err *e)
{
    nn_params *params = sd_params(p->model);
    training *t = training_new(p->model, like, NULL);
    nn_adapter adapter;
    step_opts o = {0};

    int rc = training_load(t, e);
    if (rc == 0 && training_left(t))
        rc = err_set(e, ERR_INPUT, "told to stop before the first concept was loaded");
    if (rc == 0)
        rc = training_opts(t, &o, &adapter, e);
    adapter.arg = &p->how;
    if (rc == 0)
        nn_params_moments(params, o.moments8);
    if (rc == 0)
        rc = nn_params_train_pack(params, o.moves, o.n_moves, desk_slot(p) + 1, e);
    if (rc == 0) {
        nn_params_slot(params, desk_slot(p));
        p->weights = nn_params_trained_count(params);
        p->zeros = NEW_N(float, p->weights);
        p->pool = latents_pool_new(p->model, (int)o.h * vae_factor(sd_vae_shape(p->model)), MOMENTS_KEPT);
        sd_forget_plans(p->model); /* they read what was not yet a slot */
    }
    for (int i = 0; i < p->opts.lanes && rc == 0; i++)
        rc = open_lane(p, i, &o, e);
    free((void *)(uintptr_t)o.moves);
    training_free(t);
    return rc;
}

static int start(pack *p, err *e)
{
    if (pthread_create(&p->desk, NULL, desk, p) != 0)
        return err_set(e, ERR_MEMORY, "no thread for a pack's desk");
    p->attended = true;
    for (int i = 0; i < p->opts.lanes; i++, p->running++)
        if (pthread_create(&p->lanes[i].thread, NULL, lane_run, &p->lanes[i]) != 0)
            return err_set(e, ERR_MEMORY, "no thread for lane %d of a pack", i);
    return 0;
}

static void free_pack(pack *p)
{
    nn_params_backend(sd_params(p->model))->lanes = 0;
    for (int i = 0; i < p->opts.lanes; i++) {
        step_free(p->lanes[i].stepper);
        free(p->lanes[i].at);
        free(p->lanes[i].turns);
        free(p->lanes[i].trainings);
        free(p->lanes[i].left);
    }
    sd_forget_plans(p->model);
    sd_restore(p->model);
    latents_pool_free(p->pool);
    comm_free(p->alone);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->voice);
    pthread_cond_destroy(&p->news);
    free(p->lanes);
    free(p->zeros);
    free(p);
}

int pack_open(pack **out, sd *model, const train_job *like, const pack_opts *o, err *e)
{
    TRY(check(like, o, e));
    pack *p = NEW(pack);
    *p = (pack){.model = model, .opts = *o, .how = like->cfg->how, .lanes = NEW_N(lane, o->lanes)};
    traits_of(p->class, &like->cfg->how, &like->cfg->data, like->leaves);
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0 && pthread_mutex_init(&p->voice, NULL) == 0);
    CHECK(pthread_cond_init(&p->news, NULL) == 0);
    line_empty(&p->waiting);
    line_empty(&p->ready);
    line_empty(&p->done);
    sd_forget_plans(model);
    sd_restore(model);
    nn_params_backend(sd_params(model))->lanes = o->lanes;
    int rc = comm_self(&p->alone, e);
    if (rc == 0)
        rc = make_room(p, like, e);
    if (rc == 0)
        rc = start(p, e);
    if (rc == 0)
        *out = p;
    else
        pack_close(p);
    return rc;
}

void pack_put(pack *p, const train_job *job, pack_ended *ended, void *arg)
{
    guest *g = guest_new(p, job, ended, arg);

    pthread_mutex_lock(&p->lock);
    line_add(&p->waiting, g);
    p->inside++;
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
}

void pack_ask(pack *p)
{
    pthread_mutex_lock(&p->lock);
    p->asks = true;
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
}

void pack_wait(pack *p)
{
    pthread_mutex_lock(&p->lock);
    while (p->inside > 0)
        pthread_cond_wait(&p->news, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void pack_close(pack *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->running; i++)
        pthread_join(p->lanes[i].thread, NULL);
    if (p->attended)
        pthread_join(p->desk, NULL);
    free_pack(p);
}

void pack_tell(const pack *p, pack_figures *out)
{
    *out = (pack_figures){0};
    for (int i = 0; i < p->opts.lanes; i++) {
        const pack_figures *l = &p->lanes[i].told;
        out->refills += l->refills;
        out->gap_sum += l->gap_sum;
        out->gap_most = more(l->gap_most, out->gap_most);
        out->bubble_sum += l->bubble_sum;
        out->bubble_most = more(l->bubble_most, out->bubble_most);
        out->step_sum += l->step_sum;
        out->steps += l->steps;
        out->bytes += l->bytes;
    }
}
