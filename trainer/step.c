#include "trainer/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

enum { MOST_LEVELS = 24 }; /* of the tree over leaves: 2^24 passes a step are enough */

typedef struct { nn_tensor latents, noise, alpha, sigma, t, ids, mask, weight, table; } inputs;

struct stepper {
    sd *model;
    comm *gang;
    step_opts opts;
    nn_adapter adapter;
    int64_t channels;
    size_t weights;              /* trained floats */
    double table;                /* what decay has left of the vocabulary's rows */
    bool stop;                   /* asked for by this rank */
    nn_graph *grad_graph, *judge_graph, *norm_graph, *update_graph;
    nn_plan *grad, *judge, *norm, *update;
    inputs in, judge_in;
    nn_tensor losses, judged, norm2, hyper;
    float *latents, *noise, *mask, *alpha, *sigma, *t, *weight; /* [micro, ...] as the plans want them */
    int32_t *ids;
    float *only;                 /* [batch]: the losses of a step that is one leaf */
    float *level[MOST_LEVELS];   /* partial sums of 2^k leaves: [weights + batch + 1], then the losses, then who would stop */
    bool full[MOST_LEVELS];
};

/* ---- the graphs ---- */

/* losses [micro] = weight * sum(mask * (model(noisy, t, text) - target)^2)   (custom-diffusion.md 1.1) */
static nn_tensor write_losses(nn_graph *g, inputs *in, const stepper *s)
{
    int64_t n = s->opts.micro, h = s->opts.h, w = s->opts.w, c = s->channels;

    nn_adapt(g, s->opts.adapter);
    *in = (inputs){
        .latents = nn_input(g, "latents", F32, NN_SHAPE(n, h, w, c)),
        .noise = nn_input(g, "noise", F32, NN_SHAPE(n, h, w, c)),
        .alpha = nn_input(g, "alpha", F32, NN_SHAPE(n, 1, 1, 1)),
        .sigma = nn_input(g, "sigma", F32, NN_SHAPE(n, 1, 1, 1)),
        .t = nn_input(g, "timesteps", F32, NN_SHAPE(n)),
        .ids = nn_input(g, "ids", I32, NN_SHAPE(n, TOKENS)),
        .mask = nn_input(g, "mask", F32, NN_SHAPE(n, h, w)),
        .weight = nn_input(g, "weight", F32, NN_SHAPE(n)),
        .table = s->opts.table_decays ? nn_input(g, "table", F32, NN_SHAPE(1)) : NULL,
    };
    nn_tensor noisy = nn_add(g, nn_mul(g, in->latents, in->alpha), nn_mul(g, in->noise, in->sigma));
    nn_tensor text = sd_text_write(g, s->model, in->ids, in->table);
    nn_tensor said = sd_unet_write(g, s->model, noisy, in->t, text, s->opts.detach_first);
    nn_tensor target = in->noise;
    if (sd_schedule(s->model)->prediction == PREDICT_V)
        target = nn_sub(g, nn_mul(g, in->noise, in->alpha), nn_mul(g, in->latents, in->sigma));
    return nn_mul(g, nn_squared_error(g, said, target, in->mask), in->weight);
}

static int plan_grad(stepper *s, err *e)
{
    int n = s->opts.n_moves, rc;
    nn_params *p = sd_params(s->model);
    nn_graph *g = s->grad_graph = nn_graph_new();
    nn_tensor *wrt = NEW_N(nn_tensor, n), *keep = NEW_N(nn_tensor, n + 1);

    s->losses = write_losses(g, &s->in, s);
    nn_tensor loss = nn_sum_to(g, s->losses, NN_SHAPE(1));
    for (int i = 0; i < n; i++)
        wrt[i] = nn_param_find(g, s->opts.moves[i]);
    rc = nn_check(g, e);
    for (int i = 0; i < n && rc == 0; i++)
        if (!wrt[i])
            rc = err_set(e, ERR_INPUT, "%s is to be trained but no part of the loss", s->opts.moves[i]);
    if (rc == 0)
        rc = nn_backward(g, loss, NULL, wrt, keep, n, e);
    keep[n] = s->losses;
    if (rc == 0)
        rc = nn_plan_new(&s->grad, g, p, keep, n + 1, e);
    for (int i = 0; i < n && rc == 0; i++) {
        size_t at, count;
        rc = nn_params_trained_at(p, s->opts.moves[i], &at, &count, e);
        if (rc == 0)
            rc = nn_keep_in(s->grad, keep[i], "train.g", at, e);
    }
    free(wrt);
    free(keep);
    return rc;
}

static int plan_judge(stepper *s, err *e)
{
    s->judge_graph = nn_graph_new();
    s->judged = write_losses(s->judge_graph, &s->judge_in, s);
    return nn_plan_new(&s->judge, s->judge_graph, sd_params(s->model), &s->judged, 1, e);
}

static int plan_update(stepper *s, err *e)
{
    nn_shape all = NN_SHAPE(1, (int64_t)s->weights);
    nn_graph *g = s->norm_graph = nn_graph_new();

    s->norm2 = nn_sum_squares(g, nn_state(g, "train.g", all));
    TRY(nn_plan_new(&s->norm, g, sd_params(s->model), &s->norm2, 1, e));
    g = s->update_graph = nn_graph_new();
    s->hyper = nn_input(g, "hyper", F32, NN_SHAPE(1, NN_ADAMW_HYPER));
    nn_adamw(g, nn_state(g, "train.w", all), nn_state(g, "train.m", all), nn_state(g, "train.v", all),
             nn_state(g, "train.g", all), s->hyper, NULL);
    return nn_plan_new(&s->update, g, sd_params(s->model), NULL, 0, e);
}

/* ---- making and freeing ---- */

static int check_opts(const step_opts *o, const comm *gang, err *e)
{
    if (o->micro < 1 || o->batch < 1 || o->batch % o->micro != 0)
        return err_set(e, ERR_INPUT, "a batch of %d cannot be cut into passes of %d samples", o->batch, o->micro);
    if (comm_size(gang) > o->batch / o->micro)
        return err_set(e, ERR_INPUT, "a gang of %d is too wide for %d passes a step", comm_size(gang), o->batch / o->micro);
    return 0;
}

static void make_buffers(stepper *s)
{
    size_t n = (size_t)s->opts.micro, map = (size_t)(s->opts.h * s->opts.w);

    s->latents = NEW_N(float, n * map * (size_t)s->channels);
    s->noise = NEW_N(float, n * map * (size_t)s->channels);
    s->mask = NEW_N(float, n * map);
    s->alpha = NEW_N(float, n);
    s->sigma = NEW_N(float, n);
    s->t = NEW_N(float, n);
    s->weight = NEW_N(float, n);
    s->ids = NEW_N(int32_t, n * TOKENS);
    s->only = NEW_N(float, s->opts.batch);
}

int step_new(stepper **out, sd *model, comm *gang, const step_opts *opts, err *e)
{
    TRY(check_opts(opts, gang, e));
    stepper *s = NEW(stepper);
    *s = (stepper){.model = model, .gang = gang, .opts = *opts, .channels = sd_latent_channels(model), .table = 1};
    if (opts->adapter)
        s->adapter = *opts->adapter;
    s->opts.adapter = &s->adapter;
    make_buffers(s);
    int rc = nn_params_train(sd_params(model), opts->moves, opts->n_moves, e);
    if (rc == 0) {
        s->weights = nn_params_trained_count(sd_params(model));
        rc = plan_grad(s, e);
    }
    if (rc == 0)
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
    nn_plan *plans[] = {s->grad, s->judge, s->norm, s->update};
    nn_graph *graphs[] = {s->grad_graph, s->judge_graph, s->norm_graph, s->update_graph};
    void *memory[] = {s->latents, s->noise, s->mask, s->alpha, s->sigma, s->t, s->weight, s->ids, s->only};
    for (size_t i = 0; i < 4; i++)
        nn_plan_free(plans[i]);
    for (size_t i = 0; i < 4; i++)
        nn_graph_free(graphs[i]);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
    for (int k = 0; k < MOST_LEVELS; k++)
        free(s->level[k]);
    free(s);
}

void step_ask_stop(stepper *s) { s->stop = true; }
size_t step_weights(const stepper *s) { return s->weights; }
int step_micro(const stepper *s) { return s->opts.micro; }
size_t step_bytes(const stepper *s) { return nn_plan_bytes(s->grad) + nn_plan_bytes(s->norm) + nn_plan_bytes(s->update); }

int step_time(stepper *s, FILE *to, err *e) { return nn_plan_time(s->grad, to, e); }

/* ---- one pass ---- */

static int fill_pass(stepper *s, int first, step_fill *fill, void *arg, err *e)
{
    const schedule *noise = sd_schedule(s->model);
    size_t map = (size_t)(s->opts.h * s->opts.w), sample = map * (size_t)s->channels;

    for (int i = 0; i < s->opts.micro; i++) {
        size_t k = (size_t)i;
        step_sample x = {.latents = s->latents + k * sample, .noise = s->noise + k * sample, .mask = s->mask + k * map,
                         .ids = s->ids + k * TOKENS};
        TRY(fill(arg, first + i, &x, e));
        s->t[i] = (float)x.timestep;
        s->alpha[i] = schedule_alpha(noise, x.timestep);
        s->sigma[i] = schedule_sigma(noise, x.timestep);
        s->weight[i] = x.weight;
    }
    return 0;
}

static int run_pass(stepper *s, nn_plan *p, const inputs *in, nn_tensor losses, float *out, err *e)
{
    size_t n = (size_t)s->opts.micro, map = (size_t)(s->opts.h * s->opts.w) * n, all = map * (size_t)s->channels;

    TRY(nn_write(p, in->latents, s->latents, all * sizeof(float), e));
    TRY(nn_write(p, in->noise, s->noise, all * sizeof(float), e));
    TRY(nn_write(p, in->mask, s->mask, map * sizeof(float), e));
    TRY(nn_write(p, in->alpha, s->alpha, n * sizeof(float), e));
    TRY(nn_write(p, in->sigma, s->sigma, n * sizeof(float), e));
    TRY(nn_write(p, in->t, s->t, n * sizeof(float), e));
    TRY(nn_write(p, in->weight, s->weight, n * sizeof(float), e));
    TRY(nn_write(p, in->ids, s->ids, n * TOKENS * sizeof(int32_t), e));
    if (in->table) {
        float table = (float)s->table;
        TRY(nn_write(p, in->table, &table, sizeof table, e));
    }
    TRY(nn_run(p, e));
    return nn_read(p, losses, out, n * sizeof(float), e);
}

/* ---- the tree over leaves: a binary counter, level k holding the sum of 2^k neighbouring leaves ---- */

static size_t sum_size(const stepper *s) { return s->weights + (size_t)s->opts.batch + 1; }

static int push_leaf(stepper *s, int first, const float *losses, err *e)
{
    size_t n = sum_size(s);
    int k = 0;

    while (s->full[k])
        k++;
    if (!s->level[k])
        TRY(mem_big((void **)&s->level[k], n * sizeof(float), "gradient sums", e));
    float *sum = s->level[k];
    TRY(nn_params_state_read(sd_params(s->model), "train.g", sum, s->weights, e));
    memset(sum + s->weights, 0, (size_t)s->opts.batch * sizeof(float));
    sum[n - 1] = s->stop;
    memcpy(sum + s->weights + first, losses, (size_t)s->opts.micro * sizeof(float));
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

static int add_up(stepper *s, step_fill *fill, void *arg, float **sum, err *e)
{
    int leaves = s->opts.batch / s->opts.micro, rank = comm_rank(s->gang), size = comm_size(s->gang);
    float *losses = NEW_N(float, s->opts.micro);
    int rc = 0;

    memset(s->full, 0, sizeof s->full);
    for (int leaf = leaves * rank / size; leaf < leaves * (rank + 1) / size && rc == 0; leaf++) {
        int first = leaf * s->opts.micro;
        rc = fill_pass(s, first, fill, arg, e);
        if (rc == 0)
            rc = run_pass(s, s->grad, &s->in, s->losses, losses, e);
        if (rc == 0)
            rc = push_leaf(s, first, losses, e);
    }
    free(losses);
    *sum = rc == 0 ? take_sum(s) : NULL;
    return rc;
}

static int move(stepper *s, uint64_t t, const step_adamw *how, double norm, err *e)
{
    float hyper[NN_ADAMW_HYPER] = {
        [ADAMW_LR] = (float)how->lr, [ADAMW_BETA1] = (float)how->beta1, [ADAMW_BETA2] = (float)how->beta2,
        [ADAMW_EPS] = (float)how->eps, [ADAMW_DECAY] = (float)how->weight_decay,
        [ADAMW_CORRECT1] = (float)(1 - pow(how->beta1, (double)t)), [ADAMW_CORRECT2] = (float)(1 - pow(how->beta2, (double)t)),
        [ADAMW_GRAD_SCALE] = 1,
    };

    if (how->clip > 0 && norm + 1e-6 > how->clip)
        hyper[ADAMW_GRAD_SCALE] = (float)(how->clip / (norm + 1e-6)); /* as torch's clip_grad_norm_ */
    s->table *= 1 - how->lr * how->weight_decay;
    TRY(nn_write(s->update, s->hyper, hyper, sizeof hyper, e));
    return nn_run(s->update, e);
}

/* train.g holds the whole gang's gradient then. A single leaf leaves it there by itself, and nothing passes the host. */
static int gradient(stepper *s, step_fill *fill, void *arg, step_result *out, err *e)
{
    float *sum = NULL;
    err mine = {0};

    out->losses = s->only;
    out->stop = s->stop;
    if (s->opts.batch == s->opts.micro) {
        TRY(fill_pass(s, 0, fill, arg, e));
        return run_pass(s, s->grad, &s->in, s->losses, s->only, e);
    }
    add_up(s, fill, arg, &sum, &mine);
    TRY(comm_agree(s->gang, &mine, e)); /* nobody leaves a step alone */
    TRY(comm_sum(s->gang, sum, sum_size(s), e));
    out->losses = sum + s->weights;
    out->stop = sum[sum_size(s) - 1] > 0;
    return nn_params_state_write(sd_params(s->model), "train.g", sum, s->weights, e);
}

int step_run(stepper *s, uint64_t t, const step_adamw *how, step_fill *fill, void *arg, step_result *out, err *e)
{
    float norm2 = 0;

    TRY(gradient(s, fill, arg, out, e));
    out->loss = 0;
    for (int i = 0; i < s->opts.batch; i++)
        out->loss += (double)out->losses[i];
    TRY(nn_run(s->norm, e));
    TRY(nn_read(s->norm, s->norm2, &norm2, sizeof norm2, e));
    out->grad_norm = sqrt((double)norm2);
    if (!isfinite(out->loss) || !isfinite(out->grad_norm))
        return err_set(e, ERR_INPUT, "the loss or its gradient is not a finite number (loss %g, gradient norm %g); try a lower lr",
                       out->loss, out->grad_norm);
    return move(s, t, how, out->grad_norm, e);
}

int step_judge(stepper *s, int n, step_fill *fill, void *arg, float *losses, err *e)
{
    int micro = s->opts.micro;

    CHECK(n % micro == 0);
    if (!s->judge)
        TRY(plan_judge(s, e));
    for (int i = 0; i < n; i += micro) {
        TRY(fill_pass(s, i, fill, arg, e));
        TRY(run_pass(s, s->judge, &s->judge_in, s->judged, losses + i, e));
    }
    return 0;
}

/* ---- the state between two steps ---- */

int step_state_read(const stepper *s, float *w, float *m, float *v, double *table, err *e)
{
    nn_params *p = sd_params(s->model);

    *table = s->table;
    TRY(nn_params_state_read(p, "train.w", w, s->weights, e));
    TRY(nn_params_state_read(p, "train.m", m, s->weights, e));
    return nn_params_state_read(p, "train.v", v, s->weights, e);
}

int step_state_write(stepper *s, const float *w, const float *m, const float *v, double table, err *e)
{
    nn_params *p = sd_params(s->model);

    s->table = table;
    TRY(nn_params_state_write(p, "train.w", w, s->weights, e));
    TRY(nn_params_state_write(p, "train.m", m, s->weights, e));
    return nn_params_state_write(p, "train.v", v, s->weights, e);
}
