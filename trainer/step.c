#include "trainer/step_inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "trainer/model/block.h"
#include "trainer/unmix.h"

static int64_t text_width(const stepper *s) { return sd_text_shape(s->model)->width; }
/* Numbers of one sample's text. */
static size_t text_count(const stepper *s) { return (size_t)TOKENS * (size_t)text_width(s); }

_Static_assert(sizeof(rng_stream) == NN_STREAM * sizeof(int32_t), "an address is what nn_normal reads");

/* ---- the graphs ---- */

/* losses [width * micro] = weight * sum(mask * (model(noisy, t, text) - target)^2)   (custom-diffusion.md 1.1) */
static void write_losses(pass *p, const stepper *s, bool said)
{
    int64_t n = step_samples(s), h = s->opts.h, w = s->opts.w, c = s->channels;
    nn_pack of = nn_params_pack(sd_params(s->model), s->opts.first, s->opts.width);
    nn_graph *g = p->graph = nn_graph_new();
    inputs *in = &p->in;

    nn_pack_set(g, &of);
    nn_adapt(g, s->opts.adapter);
    nn_recompute(g, s->opts.recompute ? block_unit : NULL);
    *in = (inputs){
        .latents = nn_input(g, "latents", F32, NN_SHAPE(n, h, w, c)),
        .noise = s->given ? nn_input(g, "noise", F32, NN_SHAPE(n, h, w, c)) : nn_input(g, "noise", I32, NN_SHAPE(n, NN_STREAM)),
        .alpha = nn_input(g, "alpha", F32, NN_SHAPE(n, 1, 1, 1)),
        .sigma = nn_input(g, "sigma", F32, NN_SHAPE(n, 1, 1, 1)),
        .t = nn_input(g, "timesteps", F32, NN_SHAPE(n)),
        .ids = said ? NULL : nn_input(g, "ids", I32, NN_SHAPE(n, TOKENS)),
        .text = said ? nn_input(g, "text", F32, NN_SHAPE(n, TOKENS, text_width(s))) : NULL,
        .mask = nn_input(g, "mask", F32, NN_SHAPE(n, h, w)),
        .weight = nn_input(g, "weight", F32, NN_SHAPE(n)),
        .table = s->opts.table_decays ? nn_input(g, "table", F32, NN_SHAPE(n, 1, 1)) : NULL,
        .words = s->opts.unmix ? nn_input(g, "words", F32, NN_SHAPE(n, TOKENS, 2)) : NULL,
    };
    unmix apart;
    nn_tensor noise = s->given ? in->noise : nn_normal(g, in->noise, NN_SHAPE(h, w, c));
    nn_tensor noisy = nn_add(g, nn_mul(g, in->latents, in->alpha), nn_mul(g, noise, in->sigma));
    nn_tensor text = in->text ? in->text : sd_text_write(g, s->model, in->ids, in->table);
    if (in->words)
        unmix_watch(&apart, g, in->words);
    nn_tensor eps = sd_unet_write(g, s->model, noisy, in->t, text, s->opts.detach_first);
    nn_tensor target = noise;
    if (sd_schedule(s->model)->prediction == PREDICT_V)
        target = nn_sub(g, nn_mul(g, noise, in->alpha), nn_mul(g, in->latents, in->sigma));
    p->losses = nn_mul(g, nn_squared_error(g, eps, target, in->mask), in->weight);
    if (in->words)
        p->losses = nn_add(g, p->losses, unmix_loss(&apart, g));
}

/* What is to be trained as the graph has it. Where texts are said the concept's own words are no part of the loss, and their
 * gradient is zeros. */
static int find_moves(nn_tensor *wrt, const pass *p, const stepper *s, bool words_rest, err *e)
{
    TRY(nn_check(p->graph, e));
    for (int i = 0; i < s->opts.n_moves; i++) {
        const char *name = s->opts.moves[i];
        nn_shape shape;
        wrt[i] = nn_param_find(p->graph, name);
        if (!wrt[i] && words_rest && strcmp(name, SD_MODIFIER) == 0) {
            TRY(nn_params_shape(sd_params(s->model), name, &shape, e));
            wrt[i] = nn_param(p->graph, name, shape);
        }
        if (!wrt[i])
            return err_set(e, ERR_INPUT, "%s is to be trained but no part of the loss", name);
    }
    return nn_check(p->graph, e);
}

static int keep_gradient(stepper *s, nn_plan *p, nn_tensor grad, const char *name, err *e)
{
    size_t at, count;

    TRY(nn_params_trained_at(sd_params(s->model), name, &at, &count, e));
    at += (size_t)s->opts.first * s->weights;
    if (s->opts.width == 1)
        return nn_keep_in(p, grad, "train.g", at, e);
    return nn_keep_rows_in(p, grad, s->opts.width, "train.g", at, s->weights, e);
}

/* keep [n_moves + STEP_KEEPS]: the gradients, in the order of moves, and what tells the losses; *kept of them. */
int step_write_grad(stepper *s, pass *p, bool said, nn_tensor *keep, int *kept, err *e)
{
    int n = s->opts.n_moves;
    nn_tensor *wrt = NEW_N(nn_tensor, n);
    const bool beside = p == &s->said;

    write_losses(p, s, said);
    nn_tensor loss = nn_sum_to(p->graph, p->losses, NN_SHAPE(1));
    int rc = find_moves(wrt, p, s, beside, e);
    if (rc == 0 && p == &s->grad)
        s->flops = nn_flops_of(p->graph, loss, wrt, n, NULL);
    if (rc == 0)
        rc = nn_backward(p->graph, loss, NULL, wrt, keep, n, e);
    keep[n] = p->losses;
    *kept = n + 1 + (rc == 0 && s->flight ? flight_keeps(s, p, keep + n + 1) : 0);
    free(wrt);
    return rc;
}

static int plan_grad(stepper *s, pass *p, bool said, err *e)
{
    nn_tensor *keep = NEW_N(nn_tensor, s->opts.n_moves + STEP_KEEPS);
    int kept, rc = step_write_grad(s, p, said, keep, &kept, e);

    if (rc == 0)
        rc = nn_plan_over(&p->plan, p == &s->said ? s->grad.plan : NULL, p->graph, sd_params(s->model), keep, kept, e);
    for (int i = 0; i < s->opts.n_moves && rc == 0; i++)
        rc = keep_gradient(s, p->plan, keep[i], s->opts.moves[i], e);
    if (rc == 0 && s->flight)
        rc = flight_lands(s, p, e);
    free(keep);
    return rc;
}

static int plan_judge(stepper *s, err *e)
{
    pass *p = &s->judge;

    write_losses(p, s, s->opts.text == TEXT_SAID);
    return nn_plan_over(&p->plan, s->grad.plan, p->graph, sd_params(s->model), &p->losses, 1, e);
}

/* What a state of `count` numbers a concept has of `width` concepts, the first of them at this place. */
nn_tensor step_part_of(nn_graph *g, const stepper *s, const char *state, int64_t count, int place, int width)
{
    nn_tensor all = nn_state(g, state, NN_SHAPE(nn_params_slots(sd_params(s->model)), count));

    return nn_view(g, all, (s->opts.first + place) * count, NN_SHAPE(width, count));
}

static int plan_norm(stepper *s, err *e)
{
    nn_graph *g = s->norm_graph = nn_graph_new();

    s->norm2 = NEW_N(nn_tensor, s->opts.width);
    for (int i = 0; i < s->opts.width; i++)
        s->norm2[i] = nn_sum_squares(g, step_part_of(g, s, "train.g", (int64_t)s->weights, i, 1));
    return nn_plan_new(&s->norm, g, sd_params(s->model), s->norm2, s->opts.width, e);
}

static int plan_update(stepper *s, err *e)
{
    nn_graph *g = s->update_graph = nn_graph_new();
    int width = s->opts.width;

    s->hyper = nn_input(g, "hyper", F32, NN_SHAPE(width, NN_ADAMW_HYPER));
    nn_params *p = sd_params(s->model);
    int64_t n = (int64_t)s->weights, w = (int64_t)nn_params_weights_count(p), moments = (int64_t)nn_params_moments_count(p);
    nn_adamw(g, step_part_of(g, s, "train.w", w, 0, width), step_part_of(g, s, "train.m", moments, 0, width),
             step_part_of(g, s, "train.v", moments, 0, width), step_part_of(g, s, "train.g", n, 0, width), s->hyper, NULL);
    return nn_plan_new(&s->update, g, p, NULL, 0, e);
}

/* ---- making and freeing ---- */

static int check_opts(const step_opts *o, const comm *gang, err *e)
{
    if (o->micro < 1 || o->batch < 1 || o->batch % o->micro != 0)
        return err_set(e, ERR_INPUT, "a batch of %d cannot be cut into passes of %d samples", o->batch, o->micro);
    if (comm_size(gang) > o->batch / o->micro)
        return err_set(e, ERR_INPUT, "a gang of %d is too wide for %d passes a step", comm_size(gang), o->batch / o->micro);
    if (o->width > 1 && comm_size(gang) > 1)
        return err_set(e, ERR_INPUT, "a pack of %d concepts has no gang", o->width);
    return 0;
}

static void make_buffers(stepper *s)
{
    size_t n = (size_t)step_samples(s), map = (size_t)(s->opts.h * s->opts.w);

    s->latents = NEW_N(float, n * map * (size_t)s->channels);
    s->noise = NEW_N(rng_stream, n);
    s->given = s->opts.noise_given ? NEW_N(float, n * map * (size_t)s->channels) : NULL;
    s->mask = NEW_N(float, n * map);
    s->alpha = NEW_N(float, n);
    s->sigma = NEW_N(float, n);
    s->t = NEW_N(float, n);
    s->weight = NEW_N(float, n);
    s->scale = NEW_N(float, n);
    s->ids = NEW_N(int32_t, n * TOKENS);
    s->text = s->opts.text != TEXT_ENCODED ? NEW_N(float, n * text_count(s)) : NULL;
    s->marks = s->opts.unmix ? NEW_N(float, n * TOKENS * 2) : NULL;
    s->lost = NEW_N(float, n);
    s->only = NEW_N(float, s->opts.width * s->opts.batch);
    s->table = NEW_N(double, s->opts.width);
    for (int i = 0; i < s->opts.width; i++)
        s->table[i] = 1;
}

/* Everything but its plans. *out is there to be freed even after an error, unless it is NULL. */
int step_new_bare(stepper **out, sd *model, comm *gang, const step_opts *opts, err *e)
{
    *out = NULL;
    TRY(check_opts(opts, gang, e));
    stepper *s = NEW(stepper);
    *s = (stepper){.model = model, .gang = gang, .opts = *opts, .channels = sd_latent_channels(model),
                   .vocabulary = sd_text_shape(model)->vocab, .words = sd_text_rows(model)};
    if (opts->adapter)
        s->adapter = *opts->adapter;
    s->opts.adapter = &s->adapter;
    s->opts.moves = s->moves = mem_copy(opts->moves, (size_t)opts->n_moves * sizeof *opts->moves);
    s->opts.width = opts->width > 0 ? opts->width : 1;
    make_buffers(s);
    if (opts->width == 0 && nn_params_trained_count(sd_params(model)) == 0) {
        nn_params_moments(sd_params(model), opts->moments8);
        nn_params_narrow(sd_params(model), opts->narrow);
    }
    *out = s;
    if (opts->width == 0)
        TRY(nn_params_train(sd_params(model), opts->moves, opts->n_moves, e));
    s->weights = nn_params_trained_count(sd_params(model));
    return flight_new(s, e);
}

int step_new(stepper **out, sd *model, comm *gang, const step_opts *opts, err *e)
{
    stepper *s;
    int rc = step_new_bare(&s, model, gang, opts, e);

    if (rc == 0)
        rc = step_fits(s, e);
    if (rc == 0)
        rc = plan_grad(s, &s->grad, s->opts.text == TEXT_SAID, e);
    if (rc == 0)
        rc = s->flight ? flight_plan(s, e) : plan_norm(s, e);
    if (rc == 0 && !s->flight)
        rc = plan_update(s, e);
    if (rc != 0) {
        step_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void step_free(stepper *s)
{
    if (!s)
        return;
    nn_chain_free(s->said.chain);
    nn_chain_free(s->grad.chain);
    flight_free(s->flight);
    nn_plan *plans[] = {s->judge.plan, s->said.plan, s->grad.plan, s->norm, s->update};
    nn_graph *graphs[] = {s->judge.graph, s->said.graph, s->grad.graph, s->norm_graph, s->update_graph};
    void *memory[] = {s->latents, s->noise, s->given, s->mask, s->alpha, s->sigma, s->t, s->weight, s->scale, s->ids, s->text,
                      s->marks, s->lost, s->only, s->table, s->norm2, s->moves};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        nn_plan_free(plans[i]);
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++)
        nn_graph_free(graphs[i]);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
    for (int k = 0; k < MOST_LEVELS; k++)
        free(s->level[k]);
    free(s);
}

void step_ask_stop(stepper *s) { s->stop = true; }
size_t step_weights(const stepper *s) { return s->weights; }
void step_enter(stepper *s, int place) { s->table[place] = 1; }
int step_width(const stepper *s) { return s->opts.width; }
int step_micro(const stepper *s) { return s->opts.micro; }
step_text step_texts(const stepper *s) { return s->opts.text; }
size_t step_bytes(const stepper *s)
{
    size_t grad = nn_plan_bytes(s->grad.plan);

    return grad + (s->flight ? flight_bytes(s->flight) : nn_plan_bytes(s->norm) + nn_plan_bytes(s->update));
}

int step_time(stepper *s, FILE *to, err *e) { return nn_plan_time(s->grad.plan, to, e); }

int step_times(stepper *s, nn_timing **each, int *n, err *e) { return nn_plan_times(s->grad.plan, each, n, e); }

nn_flops step_flops(const stepper *s) { return s->flops; }

/* ---- one pass ---- */

/* Sample k of a pass, of the concept at this place: sample i of its step. */
static int fill_one(stepper *s, int place, size_t k, int i, const step_turn *of, err *e)
{
    const schedule *noise = sd_schedule(s->model);
    size_t map = (size_t)(s->opts.h * s->opts.w), sample = map * (size_t)s->channels;
    step_sample x = {.latents = s->latents + k * sample, .given = s->given ? s->given + k * sample : NULL,
                     .mask = s->mask + k * map, .ids = s->ids + k * TOKENS,
                     .words = s->marks ? s->marks + k * TOKENS * 2 : NULL};

    if (x.words)
        memset(x.words, 0, TOKENS * 2 * sizeof *x.words);
    TRY(of->fill(of->arg, i, &x, e));
    for (int token = 0; token < TOKENS; token++) /* its rows stand behind those of the concepts before it */
        if (x.ids[token] >= s->vocabulary)
            x.ids[token] += place * s->words;
    s->noise[k] = x.noise;
    s->t[k] = (float)x.timestep;
    s->alpha[k] = schedule_alpha(noise, x.timestep);
    s->sigma[k] = schedule_sigma(noise, x.timestep);
    s->weight[k] = x.weight;
    s->scale[k] = (float)s->table[place];
    return 0;
}

/* Numbers like any other, of which nothing comes: the loss counts for nothing. */
static void fill_none(stepper *s, size_t k)
{
    size_t map = (size_t)(s->opts.h * s->opts.w), sample = map * (size_t)s->channels;

    memset(s->latents + k * sample, 0, sample * sizeof(float));
    memset(&s->noise[k], 0, sizeof s->noise[k]);
    if (s->given)
        memset(s->given + k * sample, 0, sample * sizeof(float));
    memset(s->mask + k * map, 0, map * sizeof(float));
    memset(s->ids + k * TOKENS, 0, TOKENS * sizeof(int32_t));
    if (s->text)
        memset(s->text + k * text_count(s), 0, text_count(s) * sizeof(float));
    if (s->marks)
        memset(s->marks + k * TOKENS * 2, 0, TOKENS * 2 * sizeof(float));
    s->t[k] = s->weight[k] = s->sigma[k] = 0;
    s->alpha[k] = s->scale[k] = 1;
}

/* Samples first .. first + micro - 1 of every concept. One that cannot make its own is out of this step. */
static void fill_pass(stepper *s, int first, step_turn turns[])
{
    int micro = s->opts.micro;

    for (int place = 0; place < s->opts.width; place++)
        for (int i = 0; i < micro; i++) {
            size_t k = (size_t)(place * micro + i);
            if (!step_stands(&turns[place]) || fill_one(s, place, k, first + i, &turns[place], &turns[place].why) != 0)
                fill_none(s, k);
        }
}

/* Whether no sample of the pass needs its text encoded in it. */
static bool all_said(const stepper *s, const step_turn turns[])
{
    if (s->opts.text != TEXT_EITHER || s->opts.micro > 1)
        return s->opts.text == TEXT_SAID;
    for (int place = 0; place < s->opts.width; place++) {
        const int32_t *ids = s->ids + place * TOKENS;
        for (int i = 0; i < TOKENS; i++)
            if (ids[i] >= s->vocabulary)
                return false;
        if (step_stands(&turns[place]) && !turns[place].say)
            return false;
    }
    return true;
}

static void say_pass(stepper *s, int first, step_turn turns[])
{
    int micro = s->opts.micro;

    for (int place = 0; place < s->opts.width; place++)
        for (int i = 0; i < micro; i++) {
            size_t k = (size_t)(place * micro + i);
            step_turn *of = &turns[place];
            CHECK(of->say || !step_stands(of));
            if (!step_stands(of) || of->say(of->arg, first + i, s->text + k * text_count(s), &of->why) != 0)
                fill_none(s, k);
        }
}

/* To the plan at once, or into the next load of its chain. */
static int write_input(const pass *of, nn_tensor input, const void *from, size_t bytes, err *e)
{
    return of->chain ? nn_chain_write(of->chain, 0, input, from, bytes, e) : nn_write(of->plan, input, from, bytes, e);
}

int step_write_pass(stepper *s, const pass *of, err *e)
{
    size_t n = (size_t)step_samples(s), map = (size_t)(s->opts.h * s->opts.w) * n, all = map * (size_t)s->channels;
    const inputs *in = &of->in;

    TRY(write_input(of, in->latents, s->latents, all * sizeof(float), e));
    TRY(write_input(of, in->noise, s->given ? (void *)s->given : s->noise, (size_t)nn_bytes(in->noise), e));
    TRY(write_input(of, in->mask, s->mask, map * sizeof(float), e));
    TRY(write_input(of, in->alpha, s->alpha, n * sizeof(float), e));
    TRY(write_input(of, in->sigma, s->sigma, n * sizeof(float), e));
    TRY(write_input(of, in->t, s->t, n * sizeof(float), e));
    TRY(write_input(of, in->weight, s->weight, n * sizeof(float), e));
    if (in->ids)
        TRY(write_input(of, in->ids, s->ids, n * TOKENS * sizeof(int32_t), e));
    if (in->text)
        TRY(write_input(of, in->text, s->text, n * text_count(s) * sizeof(float), e));
    if (in->words)
        TRY(write_input(of, in->words, s->marks, n * TOKENS * 2 * sizeof(float), e));
    return in->table ? write_input(of, in->table, s->scale, n * sizeof(float), e) : 0;
}

static int run_pass(stepper *s, const pass *of, float *out, err *e)
{
    TRY(step_write_pass(s, of, e));
    TRY(nn_run(of->plan, e));
    return nn_read(of->plan, of->losses, out, (size_t)step_samples(s) * sizeof(float), e);
}

int step_make_pass(stepper *s, int first, step_turn turns[], pass **out, err *e)
{
    pass *of = &s->grad;

    fill_pass(s, first, turns);
    if (all_said(s, turns)) {
        say_pass(s, first, turns);
        of = s->opts.text == TEXT_SAID ? of : &s->said;
    }
    *out = of;
    return of->plan ? 0 : plan_grad(s, of, true, e);
}

/* Losses and gradients of samples first .. first + micro - 1 of every concept. */
static int pass_at(stepper *s, int first, step_turn turns[], float *losses, err *e)
{
    pass *of;

    TRY(step_make_pass(s, first, turns, &of, e));
    return run_pass(s, of, losses, e);
}

/* ---- the tree over leaves: a binary counter, level k holding the sum of 2^k neighbouring leaves ---- */

/* A sum: gradients [width, weights], losses [width, batch], and how many ranks would stop. */
static size_t gradients(const stepper *s) { return (size_t)s->opts.width * s->weights; }
static size_t sum_size(const stepper *s) { return gradients(s) + (size_t)(s->opts.width * s->opts.batch) + 1; }
static size_t gradients_at(const stepper *s) { return (size_t)s->opts.first * s->weights; }

/* The gang's devices add up what lies on them: where a rank has one leaf, its gradient never leaves the device. */
static bool stays(const stepper *s)
{
    return comm_joins_devices(s->gang) && s->opts.batch / s->opts.micro == comm_size(s->gang);
}

static int push_leaf(stepper *s, int first, err *e)
{
    size_t n = sum_size(s), micro = (size_t)s->opts.micro, batch = (size_t)s->opts.batch;
    int k = 0;

    while (s->full[k])
        k++;
    if (!s->level[k])
        TRY(mem_big((void **)&s->level[k], n * sizeof(float), "gradient sums", e));
    float *sum = s->level[k], *losses = sum + gradients(s);
    if (!stays(s))
        TRY(nn_params_state_read_at(sd_params(s->model), "train.g", gradients_at(s), sum, gradients(s), e));
    memset(losses, 0, (n - gradients(s)) * sizeof(float));
    sum[n - 1] = s->stop;
    for (size_t place = 0; place < (size_t)s->opts.width; place++)
        memcpy(losses + place * batch + (size_t)first, s->lost + place * micro, micro * sizeof(float));
    for (int low = 0; low < k; low++) { /* the older leaves stand on the left of each addition */
        float *left = s->level[low];
        for (size_t i = 0; i < n; i++)
            sum[i] = left[i] + sum[i];
        s->full[low] = false;
    }
    s->full[k] = true;
    return 0;
}

/* What is left when the leaves are no power of two: the wider sums are older. */
static float *take_sum(stepper *s)
{
    size_t n = sum_size(s);
    float *sum = NULL;

    for (int k = 0; k < MOST_LEVELS; k++) {
        if (!s->full[k])
            continue;
        s->full[k] = false;
        for (size_t i = 0; sum && i < n; i++)
            s->level[k][i] += sum[i];
        sum = s->level[k];
    }
    return sum;
}

/* ---- the step ---- */

static int add_up(stepper *s, step_turn turns[], float **sum, err *e)
{
    int leaves = s->opts.batch / s->opts.micro, rank = comm_rank(s->gang), size = comm_size(s->gang);

    memset(s->full, 0, sizeof s->full);
    for (int leaf = leaves * rank / size; leaf < leaves * (rank + 1) / size; leaf++) {
        int first = leaf * s->opts.micro;
        TRY(pass_at(s, first, turns, s->lost, e));
        if (s->opts.width == 1 && turns->why.code) /* nothing is left to be added up */
            return 0;
        TRY(push_leaf(s, first, e));
    }
    *sum = take_sum(s);
    return 0;
}

/* A concept that is out of this step does not move; where its gradient is no number its weights are none, either, and
 * nobody goes on from them. */
void step_set_hyper(const step_turn *of, float h[NN_ADAMW_HYPER])
{
    const step_adamw *how = &of->how;
    bool moves = step_stands(of);

    memset(h, 0, NN_ADAMW_HYPER * sizeof *h);
    h[ADAMW_LR] = moves ? (float)how->lr : 0;
    h[ADAMW_BETA1] = (float)how->beta1;
    h[ADAMW_BETA2] = (float)how->beta2;
    h[ADAMW_EPS] = moves ? (float)how->eps : 1;
    h[ADAMW_DECAY] = (float)how->weight_decay;
    h[ADAMW_CORRECT1] = moves ? (float)(1 - pow(how->beta1, (double)of->t)) : 1;
    h[ADAMW_CORRECT2] = moves ? (float)(1 - pow(how->beta2, (double)of->t)) : 1;
    const rng_stream chance = rng_open(how->seed, "round", (uint32_t)of->t, 0);
    memcpy(h + ADAMW_ROUND, &chance, sizeof chance);
    h[ADAMW_GRAD_SCALE] = 1;
}

void step_decay_tables(stepper *s, const step_turn turns[])
{
    for (int i = 0; i < s->opts.width; i++)
        if (step_stands(&turns[i]))
            s->table[i] *= 1 - turns[i].how.lr * turns[i].how.weight_decay;
}

static int move(stepper *s, const step_turn turns[], err *e)
{
    int width = s->opts.width;
    float *hyper = NEW_N(float, width * NN_ADAMW_HYPER);

    for (int i = 0; i < width; i++) {
        float *h = hyper + i * NN_ADAMW_HYPER;
        double norm = turns[i].result.grad_norm, clip = turns[i].how.clip;
        step_set_hyper(&turns[i], h);
        if (clip > 0 && norm + 1e-6 > clip)
            h[ADAMW_GRAD_SCALE] = (float)(clip / (norm + 1e-6)); /* as torch's clip_grad_norm_ */
    }
    step_decay_tables(s, turns);
    int rc = nn_write(s->update, s->hyper, hyper, (size_t)(width * NN_ADAMW_HYPER) * sizeof *hyper, e);
    free(hyper);
    return rc ? rc : nn_run(s->update, e);
}

/* As much of the sum as the host needs by the host, the gradient by the devices. */
static int sum_devices(stepper *s, float *sum, err *e)
{
    size_t n = gradients(s);
    void *at;

    TRY(comm_sum(s->gang, sum + n, sum_size(s) - n, e));
    if (!stays(s))
        TRY(nn_params_state_write_at(sd_params(s->model), "train.g", gradients_at(s), sum, n, e));
    TRY(nn_params_state_place(sd_params(s->model), "train.g", gradients_at(s), n, &at, e));
    TRY(comm_begin_sum(s->gang, at, n, s->opts.sums_in, e));
    TRY(comm_end_sums(s->gang, e));
    return comm_wait_devices(s->gang, e);
}

/* train.g holds the whole gang's gradient then, losses [width, batch] its losses. A single leaf leaves it there by itself,
 * and nothing passes the host. */
static int gradient(stepper *s, step_turn turns[], const float **losses, bool *stop, err *e)
{
    float *sum = NULL;
    err mine = {0};

    *losses = s->only;
    *stop = s->stop;
    if (s->opts.batch == s->opts.micro)
        return pass_at(s, 0, turns, s->only, e);
    add_up(s, turns, &sum, &mine);
    if (s->opts.width == 1 && turns->why.code)
        mine = turns->why;
    double since = clock_s();
    TRY(comm_agree(s->gang, &mine, e)); /* nobody leaves a step alone */
    bool devices = comm_joins_devices(s->gang);
    TRY(devices ? sum_devices(s, sum, e) : comm_sum(s->gang, sum, sum_size(s), e));
    s->joined = comm_size(s->gang) > 1 ? clock_s() - since : 0;
    *losses = sum + gradients(s);
    *stop = sum[sum_size(s) - 1] > 0;
    return devices ? 0 : nn_params_state_write_at(sd_params(s->model), "train.g", gradients_at(s), sum, gradients(s), e);
}

void step_judge_numbers(step_turn *of)
{
    const step_result *r = &of->result;

    if (step_stands(of) && (!isfinite(r->loss) || !isfinite(r->grad_norm)))
        err_set(&of->why, ERR_INPUT,
                "the loss or its gradient is not a finite number (loss %g, gradient norm %g); try a lower lr", r->loss, r->grad_norm);
}

static int sum_up(stepper *s, step_turn *of, int place, const float *losses, bool stop, err *e)
{
    step_result *r = &of->result;
    float norm2 = 0;

    *r = (step_result){.losses = losses + place * s->opts.batch, .joined = s->joined, .stop = stop};
    for (int i = 0; i < s->opts.batch; i++)
        r->loss += (double)r->losses[i];
    TRY(nn_read(s->norm, s->norm2[place], &norm2, sizeof norm2, e));
    r->grad_norm = sqrt((double)norm2);
    step_judge_numbers(of);
    return 0;
}

static int run_now(stepper *s, step_turn turns[], err *e)
{
    const float *losses;
    bool stop;

    TRY(gradient(s, turns, &losses, &stop, e));
    TRY(nn_run(s->norm, e));
    for (int i = 0; i < s->opts.width; i++)
        TRY(sum_up(s, &turns[i], i, losses, stop, e));
    return move(s, turns, e);
}

int step_most(const stepper *s) { return s->flight ? STEP_AHEAD : 1; }

int step_begin(stepper *s, step_turn turns[], err *e)
{
    for (int i = 0; i < s->opts.width; i++)
        turns[i].why = (err){0};
    return s->flight ? flight_begin(s, turns, e) : run_now(s, turns, e);
}

int step_tell(stepper *s, step_turn turns[], int n, err *e) { return s->flight ? flight_tell(s, turns, n, e) : 0; }

int step_run_all(stepper *s, step_turn turns[], err *e)
{
    TRY(step_begin(s, turns, e));
    return step_tell(s, turns, 1, e);
}

void step_describe(const stepper *s, str *to)
{
    if (s->flight)
        flight_describe(s, to);
}

int step_run(stepper *s, uint64_t t, const step_adamw *how, step_fill *fill, void *arg, step_result *out, err *e)
{
    step_turn turn = {.fill = fill, .arg = arg, .t = t, .how = *how};

    CHECK(s->opts.width == 1);
    TRY(step_run_all(s, &turn, e));
    *out = turn.result;
    if (turn.why.code && e)
        *e = turn.why;
    return (int)turn.why.code;
}

int step_judge(stepper *s, int place, int n, const step_turn *of, float *losses, err *e)
{
    int micro = s->opts.micro;
    step_turn *turns = NEW_N(step_turn, s->opts.width);
    int rc = s->judge.plan ? 0 : plan_judge(s, e);

    CHECK(n % micro == 0);
    turns[place] = *of;
    for (int i = 0; i < n && rc == 0; i += micro) {
        fill_pass(s, i, turns);
        if (s->opts.text == TEXT_SAID)
            say_pass(s, i, turns);
        if (turns[place].why.code && e)
            *e = turns[place].why;
        rc = (int)turns[place].why.code;
        if (rc == 0)
            rc = run_pass(s, &s->judge, s->lost, e);
        memcpy(losses + i, s->lost + place * micro, (size_t)micro * sizeof *losses);
    }
    free(turns);
    return rc;
}

/* ---- the state between two steps ---- */

/* Moments of 8 bits take the beginning of the caller's floats, as they are; what follows is 0. */
static int moments_read(const stepper *s, const char *name, int place, float *to, err *e)
{
    size_t n = nn_params_moments_count(sd_params(s->model));

    memset(to, 0, s->weights * sizeof *to);
    return nn_params_state_read_at(sd_params(s->model), name, (size_t)(s->opts.first + place) * n, to, n, e);
}

static int moments_write(stepper *s, const char *name, int place, const float *from, err *e)
{
    size_t n = nn_params_moments_count(sd_params(s->model));

    return nn_params_state_write_at(sd_params(s->model), name, (size_t)(s->opts.first + place) * n, from, n, e);
}

static size_t state_at(const stepper *s, int place) { return (size_t)(s->opts.first + place) * s->weights; }

int step_state_read(const stepper *s, int place, float *w, float *m, float *v, double *table, err *e)
{
    *table = s->table[place];
    TRY(nn_params_weights_read(sd_params(s->model), state_at(s, place), w, s->weights, e));
    TRY(moments_read(s, "train.m", place, m, e));
    return moments_read(s, "train.v", place, v, e);
}

int step_state_write(stepper *s, int place, const float *w, const float *m, const float *v, double table, err *e)
{
    s->table[place] = table;
    TRY(nn_params_weights_write(sd_params(s->model), state_at(s, place), w, s->weights, e));
    TRY(moments_write(s, "train.m", place, m, e));
    return moments_write(s, "train.v", place, v, e);
}
