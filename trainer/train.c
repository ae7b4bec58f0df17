/* The life of one concept: loaded (train_load.c), then step after step, then its file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/checkpoint.h"
#include "trainer/lr.h"
#include "trainer/training_inside.h"

static const double TOLD_WITHIN = 0.5; /* seconds, about, that steps may be under way before they are told of */
enum { PROBE_STEP = 1 << 30 }; /* its draws come from steps that no training reaches */

step_text train_texts(const sd *model, const char *const moves[], int n, bool table_decays)
{
    for (int i = 0; i < n; i++)
        if (str_starts(moves[i], "text_encoder.") && strcmp(moves[i], SD_MODIFIER) != 0)
            return TEXT_ENCODED;
    if (sd_text_rows(model) == 0)
        return TEXT_SAID;
    return table_decays ? TEXT_ENCODED : TEXT_EITHER;
}

int train_moves(sd *model, const method *by, const train_cfg *how, const char ***names, int *n, err *e)
{
    nn_params *p = sd_params(model);
    const char *name;

    *n = 0;
    *names = NULL;
    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++)
        if (by->moves && by->moves(name, how)) {
            *names = mem_grow(*names, (size_t)*n + 2, sizeof **names);
            (*names)[(*n)++] = name;
        }
    if (by->learns_words && sd_text_rows(model) > 0) {
        *names = mem_grow(*names, (size_t)*n + 1, sizeof **names);
        (*names)[(*n)++] = SD_MODIFIER;
    }
    return *n > 0 ? 0 : err_set(e, ERR_INPUT, "%s moves nothing in this model", by->name);
}

static int leaves_of(const train_job *job)
{
    const train_cfg *how = &job->cfg->how;

    if (!train_leaves_kept(how))
        return comm_size(job->gang) * (int)how->accumulate;
    return job->leaves > 0 ? job->leaves : train_leaves(how, &job->cfg->data);
}

int training_opts(training *t, step_opts *o, nn_adapter *adapter, err *e)
{
    int all = batch_size(t->batches) * (int)t->job->cfg->how.accumulate, leaves = leaves_of(t->job), n;
    int cells = batch_side(t->batches) / vae_factor(sd_vae_shape(t->model));
    const char **moves;

    if (all % leaves != 0)
        return err_set(e, ERR_INPUT, "a step of %d samples cannot be cut into %d equal passes; choose leaves or batch so that it can",
                       all, leaves);
    bool table_decays = t->how->port_decays_table && t->job->cfg->data.compat == COMPAT_DIFFUSERS;
    TRY(train_moves(t->model, t->how, &t->job->cfg->how, &moves, &n, e));
    *adapter = t->how->adapter;
    adapter->arg = &t->job->cfg->how;
    *o = (step_opts){.moves = moves, .n_moves = n, .batch = all, .micro = all / leaves, .h = cells, .w = cells,
                     .adapter = adapter, .recompute = t->job->cfg->how.recompute,
                     .moments8 = t->job->cfg->how.moments == MOMENTS_8BIT, .narrow = t->job->cfg->how.master == MASTER_BF16,
                     .sums_in = t->job->cfg->how.reduce == REDUCE_BF16 ? BF16 : F32,
                     .detach_first = t->how->detach_first, .unmix = t->job->cfg->how.unmix > 0,
                     .text = train_texts(t->model, moves, n, table_decays), .table_decays = table_decays};
    return 0;
}

/* ---- one sample ---- */

/* at: the address of its randomness. */
static int fill_from(training *t, const batch_sample *of, uint32_t step, uint32_t sample, step_sample *x, err *e)
{
    uint64_t seed = (uint64_t)t->job->cfg->how.seed;

    TRY(latents_draw(t->latents, of, rng_open(seed, "posterior", step, sample), x->latents, e));
    x->noise = rng_open(seed, "noise", step, sample);
    batch_mask(t->batches, of, x->mask);
    memcpy(x->ids, of->tokens, sizeof of->tokens);
    x->timestep = (int)rng_below(rng_open(seed, "timestep", step, sample), 0, (uint32_t)sd_schedule(t->model)->steps);
    return 0;
}

/* Whether this is one of subject i's words. */
static bool is_word_of(const training *t, int i, int32_t id)
{
    for (int k = 0; k < t->n_said[i]; k++)
        if (t->said[i][k] == id)
            return true;
    return false;
}

/* Where the words of the two subjects of a collage stand. */
static void mark_words(const training *t, const batch_sample *of, float *words)
{
    const train_cfg *how = &t->job->cfg->how;
    float by = (float)sqrt(how->unmix / (double)(batch_targets(t->batches) * how->accumulate));

    for (int i = 0; i < TOKENS && of->other >= 0 && !of->prior; i++) {
        words[2 * i] = is_word_of(t, of->subject, of->tokens[i]) ? by : 0;
        words[2 * i + 1] = is_word_of(t, of->other, of->tokens[i]) ? by : 0;
    }
}

static int fill(void *arg, int i, step_sample *x, err *e)
{
    training *t = arg;
    int batch = batch_size(t->batches), accumulate = (int)t->job->cfg->how.accumulate;
    const batch_sample *of = &t->plan[i];

    x->weight = of->weight / (float)accumulate;
    if (x->words)
        mark_words(t, of, x->words);
    return fill_from(t, of, (uint32_t)((t->step + t->begun) * accumulate + i / batch), (uint32_t)(i % batch), x, e);
}

/* In f32 where every step says all texts; else as the passes have it that encode theirs. */
static latents_what what_is_said(const training *t)
{
    return step_texts(t->stepper) == TEXT_SAID ? LATENTS_TEXT_EXACT : LATENTS_TEXT;
}

static int say_of(training *t, const batch_sample *of, float *text, err *e)
{
    return latents_text(t->latents, of, what_is_said(t), text, e);
}

static int say(void *arg, int i, float *text, err *e)
{
    training *t = arg;

    return say_of(t, &t->plan[i], text, e);
}

/* The i-th fixed draw: the first target of a far step, with the mean over what of it counts. */
static int fill_probe(void *arg, int i, step_sample *x, err *e)
{
    training *t = arg;

    batch_plan(t->batches, (uint32_t)(PROBE_STEP + i), t->plan);
    x->weight = 1 / (float)(augment_cells(&t->plan->look) * sd_latent_channels(t->model));
    return fill_from(t, t->plan, (uint32_t)(PROBE_STEP + i), 0, x, e);
}

static int say_probe(void *arg, int i, float *text, err *e)
{
    training *t = arg;

    batch_plan(t->batches, (uint32_t)(PROBE_STEP + i), t->plan);
    return say_of(t, t->plan, text, e);
}

static int probe(training *t, double *mean, err *e)
{
    int n = (int)t->job->cfg->how.probe, micro = step_micro(t->stepper);

    *mean = NAN;
    n = (n + micro - 1) / micro * micro;
    if (n == 0 || comm_rank(t->job->gang) != 0)
        return 0;
    float *losses = NEW_N(float, n);
    const step_turn draws = {.fill = fill_probe, .say = say_probe, .arg = t};
    int rc = step_judge(t->stepper, t->place, n, &draws, losses, e);
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)losses[i];
    if (rc == 0)
        *mean = sum / n;
    free(losses);
    return rc;
}

/* ---- telling ---- */

bool training_tell(training *t, const char *phase, const step_result *r, double lr, double seconds)
{
    train_progress p = {.phase = phase, .step = t->step, .steps = (int)t->job->cfg->how.steps, .lr = lr, .seconds = seconds};

    if (r) {
        p.loss = r->loss;
        p.grad_norm = r->grad_norm;
        p.joined = r->joined;
    }
    return t->job->progress && t->job->progress(t->job->arg, &p);
}

void training_say(const training *t, const char *text)
{
    if (t->job->say)
        t->job->say(t->job->arg, text);
}

/* ---- checkpoints ---- */

int train_key(const sd *model, const train_job *job, char key[HASH_HEX], err *e)
{
    char base[HASH_HEX];
    str all = {0};

    TRY(sd_fingerprint(model, base, e));
    str_add(&all, "conceptfarm %s\nbase %s\ncompute %s\nleaves %d\nsettings %s\n", CFARM_VERSION, base,
            job->cfg->how.compute == COMPUTE_BF16 ? "bf16" : "f32", train_leaves_kept(&job->cfg->how) ? leaves_of(job) : 0, job->settings);
    hash_bytes(all.at, all.n, key);
    str_free(&all);
    return 0;
}

static int put_away(training *t, err *e)
{
    const train_shelf *shelf = t->job->shelf;
    size_t weights = step_weights(t->stepper), bytes = checkpoint_bytes(weights, (uint64_t)t->step);
    size_t told = (size_t)t->step * sizeof(float);
    checkpoint c;

    if (!shelf || comm_rank(t->job->gang) != 0 || t->step == (int)t->job->cfg->how.steps)
        return 0;
    void *at = shelf->open(shelf->arg, t->step, bytes, t->stop);
    if (!at)
        return 0;
    checkpoint_lay(&c, at, weights, (uint64_t)t->step);
    c.probe = t->sum.probe_before;
    TRY(step_state_read(t->stepper, t->place, c.w, c.m, c.v, &c.table, e));
    memcpy(c.loss, t->history.loss, told);
    memcpy(c.lr, t->history.lr, told);
    memcpy(c.grad_norm, t->history.grad_norm, told);
    checkpoint_seal(&c, at, t->key);
    shelf->close(shelf->arg, t->step, bytes);
    return 0;
}

static int take_over(training *t, const checkpoint *c, err *e)
{
    size_t told = (size_t)c->step * sizeof(float);

    if (c->weights != step_weights(t->stepper) || c->step >= (uint64_t)t->job->cfg->how.steps)
        return err_set(e, ERR_INPUT, "a checkpoint of step %llu with %zu trained numbers; here are %lld and %zu",
                       (unsigned long long)c->step, c->weights, (long long)t->job->cfg->how.steps, step_weights(t->stepper));
    memcpy(t->history.loss, c->loss, told);
    memcpy(t->history.lr, c->lr, told);
    memcpy(t->history.grad_norm, c->grad_norm, told);
    t->history.n = t->step = (int)c->step;
    t->sum.probe_before = c->probe;
    return step_state_write(t->stepper, t->place, c->w, c->m, c->v, c->table, e);
}

/* Rank 0's checkpoint, handed to all. */
static int go_on(training *t, err *e)
{
    const train_job *job = t->job;
    bool first = comm_rank(job->gang) == 0;
    uint64_t n = first && job->from ? job->from_bytes : 0;
    checkpoint c;
    err mine = {0};
    void *bytes = NULL;

    TRY(comm_broadcast(job->gang, &n, sizeof n, 0, e));
    if (n == 0)
        return 0;
    if (!first)
        mem_big(&bytes, (size_t)n, "a checkpoint", &mine);
    int rc = comm_agree(job->gang, &mine, e);
    void *all = first ? (void *)(uintptr_t)job->from : bytes;
    if (rc == 0)
        rc = comm_broadcast(job->gang, all, (size_t)n, 0, e);
    if (rc == 0 && checkpoint_open(&c, all, (size_t)n, t->key, &mine) == 0)
        take_over(t, &c, &mine);
    if (rc == 0)
        rc = comm_agree(job->gang, &mine, e);
    free(bytes);
    return rc;
}

/* ---- the steps ---- */

int training_begin(training *t, stepper *s, int place, err *e)
{
    int steps = (int)t->job->cfg->how.steps;

    t->stepper = s;
    t->place = place;
    t->history.loss = NEW_N(float, steps);
    t->history.lr = NEW_N(float, steps);
    t->history.grad_norm = NEW_N(float, steps);
    t->sum.load_seconds = clock_s() - t->started;
    if (t->job->shelf || t->job->from || comm_size(t->job->gang) > 1) {
        TRY(train_key(t->model, t->job, t->key, e));
        TRY(go_on(t, e));
    }
    t->sum.began = t->step;
    return t->step == 0 ? probe(t, &t->sum.probe_before, e) : 0;
}

bool training_goes_on(const training *t) { return !t->stop && t->step < (int)t->job->cfg->how.steps; }

void training_turn(training *t, step_turn *turn)
{
    const train_cfg *how = &t->job->cfg->how;
    int batch = batch_size(t->batches), step = t->step + t->begun;

    for (int a = 0; a < how->accumulate; a++)
        batch_plan(t->batches, (uint32_t)(step * (int)how->accumulate + a), t->plan + a * batch);
    *turn = (step_turn){.fill = fill, .say = say, .arg = t, .t = (uint64_t)step + 1};
    turn->how = (step_adamw){
        .lr = lr_at((lr_kind)how->lr_schedule, how->lr, (int)how->warmup, (int)how->steps, step),
        .beta1 = how->beta1, .beta2 = how->beta2, .eps = how->eps, .weight_decay = how->weight_decay, .clip = how->clip,
        .seed = (uint64_t)how->seed,
    };
}

/* Whether the step will ask for its text. Passes of several samples that have one to encode encode all. */
static bool will_be_said(const training *t, const batch_sample *of)
{
    if (step_texts(t->stepper) != TEXT_EITHER)
        return step_texts(t->stepper) == TEXT_SAID;
    if (step_width(t->stepper) * step_micro(t->stepper) > 1)
        return false;
    for (int i = 0; i < TOKENS; i++)
        if (of->tokens[i] >= sd_text_shape(t->model)->vocab)
            return false;
    return true;
}

static int planned(const training *t) { return t ? (int)t->job->cfg->how.accumulate * batch_size(t->batches) : 0; }

void training_prepare(training *const of[], int n)
{
    int all = 0, texts = 0;

    for (int i = 0; i < n; i++)
        all += planned(of[i]);
    latents_wish *wish = NEW_N(latents_wish, 2 * all + 1), *said = wish + all;
    latents_what what = LATENTS_TEXT;
    for (int i = 0, k = 0; i < n; i++)
        for (int j = 0; j < planned(of[i]); j++) {
            wish[k++] = (latents_wish){of[i]->latents, &of[i]->plan[j]};
            if (will_be_said(of[i], &of[i]->plan[j]))
                said[texts++] = wish[k - 1];
            what = what_is_said(of[i]);
        }
    latents_prepare(wish, all, LATENTS_PICTURE);
    latents_prepare(said, texts, what);
    free(wish);
}

int training_took(training *t, const step_turn *turn, double seconds, err *e)
{
    const step_result *r = &turn->result;

    if (turn->why.code) {
        *e = turn->why;
        return err_wrap(e, "step %d", t->step + 1);
    }
    t->history.loss[t->step] = (float)r->loss;
    t->history.lr[t->step] = (float)turn->how.lr;
    t->history.grad_norm[t->step] = (float)r->grad_norm;
    t->history.n = ++t->step;
    t->begun -= t->begun > 0;
    t->stop |= r->stop;
    bool stop = training_tell(t, "training", r, turn->how.lr, seconds);
    if (stop && comm_size(t->job->gang) > 1)
        step_ask_stop(t->stepper); /* in a gang nobody leaves alone: the others learn it by the next step */
    else
        t->stop |= stop;
    return t->begun == 0 ? put_away(t, e) : 0; /* the weights are further than this step while others are under way */
}

/* ---- the end ---- */

static double mean_of(const float *x, int from, int to)
{
    double sum = 0;

    for (int i = from; i < to; i++)
        sum += (double)x[i];
    return to > from ? sum / (to - from) : NAN;
}

int training_end(training *t, err *e)
{
    train_summary *out = &t->sum;
    int n = t->history.n, tenth = n < 10 ? 1 : n / 10;

    TRY(probe(t, &out->probe_after, e));
    out->stopped = t->stop && t->step < (int)t->job->cfg->how.steps;
    out->steps = n;
    out->first_loss = mean_of(t->history.loss, 0, n < tenth ? n : tenth);
    out->last_loss = mean_of(t->history.loss, n - tenth < 0 ? 0 : n - tenth, n);
    out->bytes = step_bytes(t->stepper);
    out->seconds = clock_s() - t->started;
    return 0;
}

const train_summary *training_summary(const training *t) { return &t->sum; }

static void tell_latents(const training *t)
{
    str line = {0};

    if (!t->kept[0] || !t->job->say)
        return;
    latents_tell(t->latents, &line);
    t->job->say(t->job->arg, line.at);
    str_free(&line);
}

int training_publish(training *t, err *e)
{
    keep_job k = {
        .model = t->model, .words = t->words, .word = t->word, .n_words = t->n_words, .how = t->how, .cfg = t->job->cfg,
        .data = &t->data,
        .name = t->job->name, .settings = t->job->settings, .history = &t->history, .leaves = leaves_of(t->job),
    };

    training_tell(t, "publishing", NULL, 0, 0);
    tell_latents(t);
    return keep_concept(t->job->out, &k, e);
}

/* ---- the whole ---- */

training *training_new(sd *model, const train_job *job, latents_pool *pool)
{
    training *t = NEW(training);

    *t = (training){.model = model, .job = job, .pool = pool, .how = method_find(method_names[job->cfg->how.method]),
                    .data = job->cfg->data, .started = clock_s(), .sum = {.probe_before = NAN, .probe_after = NAN}};
    return t;
}

void training_free(training *t)
{
    if (!t)
        return;
    latents_free(t->latents);
    latents_pool_free(t->own);
    batch_close(t->batches);
    tokenizer_close(t->words);
    free(t->model_key);
    free(t->said);
    free(t->n_said);
    free(t->plan);
    free(t->history.loss);
    free(t->history.lr);
    free(t->history.grad_norm);
    free(t);
}

bool training_left(const training *t) { return t->left; }

static int open_stepper(training *t, stepper **out, err *e)
{
    nn_adapter adapter;
    step_opts o;
    err mine = {0};

    if (training_opts(t, &o, &adapter, &mine) == 0) {
        step_new(out, t->model, t->job->gang, &o, &mine);
        free((void *)(uintptr_t)o.moves);
    }
    return comm_agree(t->job->gang, &mine, e);
}

static void tell_steps(training *t, const stepper *s)
{
    str line = {0};

    step_describe(s, &line);
    if (line.n > 0 && comm_rank(t->job->gang) == 0)
        training_say(t, line.at);
    str_free(&line);
}

/* Begins as many as may be, but one alone no more when the first has waited long enough to be told of: slow steps are told one by
 * one. The ranks of a gang begin the same ones, whatever the time. */
static int begin_some(training *t, stepper *s, step_turn turns[], err *e)
{
    const double late = clock_s() + TOLD_WITHIN;

    for (t->begun = 0; t->begun < step_most(s) && t->step + t->begun < (int)t->job->cfg->how.steps; t->begun++) {
        step_turn *turn = &turns[t->begun];
        if (t->begun > 0 && (turn[-1].why.code || clock_s() > late) && comm_size(t->job->gang) == 1)
            return 0;
        training_turn(t, turn);
        if (comm_size(t->job->gang) == 1) /* a rank of several needs but its share */
            training_prepare(&t, 1);
        TRY(step_begin(s, turn, e));
    }
    return 0;
}

static int some_steps(training *t, stepper *s, err *e)
{
    step_turn turns[STEP_AHEAD];
    double from = clock_s();
    int rc = begin_some(t, s, turns, e), n = t->begun;

    if (rc == 0)
        rc = step_tell(s, turns, n, e);
    if (rc != 0)
        return err_wrap(e, "step %d", t->step + 1);
    double each = (clock_s() - from) / n;
    for (int i = 0; i < n; i++)
        TRY(training_took(t, &turns[i], each, e));
    return 0;
}

/* A pack of one. */
static int live(training *t, stepper **s, err *e)
{
    TRY(training_load(t, e));
    if (t->left)
        return 0;
    TRY(open_stepper(t, s, e));
    tell_steps(t, *s);
    TRY(training_begin(t, *s, 0, e));
    while (training_goes_on(t))
        TRY(some_steps(t, *s, e));
    TRY(training_end(t, e));
    return t->job->out && !t->sum.stopped ? training_publish(t, e) : 0;
}

int train_concept(sd *model, const train_job *job, train_summary *out, err *e)
{
    training *t = training_new(model, job, NULL);
    stepper *s = NULL;

    sd_forget_plans(model);
    sd_restore(model);
    int rc = live(t, &s, e);
    *out = t->sum;
    step_free(s);
    training_free(t);
    return rc;
}
