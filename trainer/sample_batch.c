/* See sample_batch.h. Latents x and the clean sample of the call before are states, which a call's run reads and leaves its own in;
 * what differs from call to call (timestep, the sampler's numbers and noise) crosses as inputs, so that one recorded run serves all. */
#include "trainer/sample_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/nn/plan.h"
#include "trainer/sample_inside.h"

enum { X0_X, X0_SAID, BY_X, BY_SAID, BY_BEFORE, BY_NOISE, GUIDANCE, NUMBERS };

struct sample_batch {
    sd *model;
    const sample_opts *opts;
    int most, h, w;              /* of latents */
    int64_t map;                 /* numbers of one picture's latents */
    bool guided, noisy;
    char x[48], before[48];      /* states */
    nn_graph *graph, *decode_graph;
    nn_plan *plan, *decode;
    nn_chain *chain;
    nn_tensor t, text, beside, noise, number[NUMBERS], pixels;
    float *words;                /* [guided ? 2 : 1, most, TOKENS, width + beside]: with guidance those of negative prompts first */
    float *text_rows, *beside_rows, *times;
    rng_stream *fresh;           /* [most]: where noise of a call is looked up */
};

static int64_t halves(const sample_batch *b) { return b->guided ? 2 : 1; }

const char *sample_batch_declines(sd *m, const sample_opts *o)
{
    sampler_line line;
    sampler *s = NULL;
    err no = {0};

    if (!nn_params_backend(sd_params(m))->crossing)
        return "the backend makes one picture as fast as several";
    if (sampler_new(&s, o->sampler, sd_schedule(m), o->steps, o->eta, 1, &no) != 0)
        return "the sampler's settings do not fit";
    bool fits = sampler_line_at(s, 0, &line);
    sampler_free(s);
    return fits ? NULL : "its sampler wants more than one call of the past; ddim, ddpm and dpmpp2m do not";
}

/* ---- graphs ---- */

/* x twice, one behind the other. */
static nn_tensor twice(nn_graph *g, nn_tensor x, nn_shape one)
{
    int64_t n = nn_count(one);

    one.d[0] *= 2;
    return nn_reshape(g, nn_expand(g, nn_reshape(g, x, NN_SHAPE(1, n)), NN_SHAPE(2, n)), one);
}

static nn_tensor write_said(sample_batch *b, nn_graph *g, nn_tensor x)
{
    nn_shape one = NN_SHAPE(b->most, b->h, b->w, sd_latent_channels(b->model));
    int64_t n = halves(b) * b->most;

    b->t = nn_input(g, "timesteps", F32, NN_SHAPE(n));
    b->text = nn_input(g, "text", F32, NN_SHAPE(n, TOKENS, sd_text_shape(b->model)->width));
    if (sd_beside(b->model))
        b->beside = nn_input(g, "beside", F32, NN_SHAPE(n, TOKENS, sd_beside(b->model)));
    nn_tensor in = b->guided ? twice(g, x, one) : x;
    nn_tensor said = b->beside ? sd_unet_write_beside(g, b->model, in, b->t, b->text, b->beside)
                               : sd_unet_write(g, b->model, in, b->t, b->text, false);
    if (!b->guided)
        return said;
    nn_tensor other = nn_view(g, said, 0, one), cond = nn_view(g, said, nn_count(one), one);
    return nn_add(g, other, nn_mul(g, nn_sub(g, cond, other), b->number[GUIDANCE]));
}

static int plan_call(sample_batch *b, err *e)
{
    static const char *const NAMES[NUMBERS] = {"x0_x", "x0_said", "by_x", "by_said", "by_before", "by_noise", "guidance"};
    nn_shape one = NN_SHAPE(b->most, b->h, b->w, sd_latent_channels(b->model));
    nn_graph *g = b->graph = nn_graph_new();
    nn_tensor *by = b->number;

    for (int i = 0; i < NUMBERS; i++)
        by[i] = nn_input(g, NAMES[i], F32, NN_SHAPE(1));
    nn_tensor x = nn_state(g, b->x, one), before = nn_state(g, b->before, one), said = write_said(b, g, x);
    nn_tensor next = nn_add(g, nn_mul(g, x, by[BY_X]), nn_mul(g, said, by[BY_SAID]));
    if (b->noisy) {
        b->noise = nn_input(g, "noise", I32, NN_SHAPE(b->most, NN_STREAM));
        nn_tensor fresh = nn_normal(g, b->noise, NN_SHAPE(b->h, b->w, sd_latent_channels(b->model)));
        next = nn_add(g, next, nn_mul(g, fresh, by[BY_NOISE]));
    }
    nn_tensor keep[] = {nn_add(g, nn_mul(g, x, by[X0_X]), nn_mul(g, said, by[X0_SAID])),
                        nn_add(g, next, nn_mul(g, before, by[BY_BEFORE]))};
    TRY(nn_plan_new(&b->plan, g, sd_params(b->model), keep, 2, e));
    TRY(nn_keep_in(b->plan, keep[0], b->before, 0, e));
    TRY(nn_keep_in(b->plan, keep[1], b->x, 0, e));
    return nn_chain_new(&b->chain, &b->plan, 1, e);
}

static int plan_decode(sample_batch *b, err *e)
{
    const vae_shape *v = sd_vae_shape(b->model);
    nn_graph *g = b->decode_graph = nn_graph_new();
    nn_tensor x = nn_state(g, b->x, NN_SHAPE(b->most, b->h, b->w, sd_latent_channels(b->model)));

    b->pixels = sd_vae_write_decode(g, b->model, nn_scale(g, x, 1 / v->scaling));
    return nn_plan_over(&b->decode, b->plan, g, sd_params(b->model), &b->pixels, 1, e);
}

/* States stay until the parameters are reset; those of another batch of this size serve as well. */
static int make_state(sample_batch *b, char name[48], const char *what, err *e)
{
    nn_shape one = NN_SHAPE(b->most, b->h, b->w, sd_latent_channels(b->model));
    err no = {0};
    void *there;

    snprintf(name, 48, "sample.%s.%d.%d.%d", what, b->most, b->h, b->w);
    if (nn_params_state_place(sd_params(b->model), name, 0, (size_t)nn_count(one), &there, &no) == 0)
        return 0;
    return nn_params_state(sd_params(b->model), name, one, e);
}

static int make(sample_batch *b, err *e)
{
    size_t rows = (size_t)(halves(b) * b->most) * TOKENS, width = (size_t)sd_text_shape(b->model)->width;
    size_t beside = (size_t)sd_beside(b->model);

    b->words = NEW_N(float, rows * (width + beside));
    b->text_rows = NEW_N(float, rows * width);
    b->beside_rows = NEW_N(float, rows * beside + 1);
    b->times = NEW_N(float, rows);
    b->fresh = NEW_N(rng_stream, b->most);
    TRY(make_state(b, b->x, "x", e));
    TRY(make_state(b, b->before, "before", e));
    TRY(plan_call(b, e));
    return plan_decode(b, e);
}

int sample_batch_open(sample_batch **out, sd *m, const sample_opts *o, int most, err *e)
{
    int f = vae_factor(sd_vae_shape(m));

    CHECK(most > 0 && !sample_batch_declines(m, o));
    TRY(sample_check(m, o, e));
    sampler *s;
    TRY(sampler_new(&s, o->sampler, sd_schedule(m), o->steps, o->eta, 1, e));
    bool noisy = sampler_wants_noise(s);
    sampler_free(s);
    sample_batch *b = NEW(sample_batch);
    *b = (sample_batch){.model = m, .opts = o, .most = most, .h = o->height / f, .w = o->width / f,
                        .guided = o->guidance != 1, .noisy = noisy};
    b->map = (int64_t)b->h * b->w * sd_latent_channels(m);
    int rc = make(b, e);
    if (rc == 0)
        *out = b;
    else
        sample_batch_close(b);
    return rc;
}

int sample_batch_some(sample_batch **out, sd *m, const sample_opts *o, int all, int *most, err *e)
{
    err tried = {0};

    *out = NULL;
    *most = 1;
    if (sample_batch_declines(m, o))
        return 0;
    for (*most = all < SAMPLE_BATCH_USUAL ? all : SAMPLE_BATCH_USUAL; *most > 0; *most /= 2) {
        tried = (err){0};
        if (sample_batch_open(out, m, o, *most, &tried) == 0)
            return 0;
        if (tried.code != ERR_MEMORY)
            break;
    }
    return err_set(e, tried.code, "%s", tried.text);
}

void sample_batch_close(sample_batch *b)
{
    if (!b)
        return;
    nn_chain_free(b->chain);
    nn_plan_free(b->decode);
    nn_plan_free(b->plan);
    nn_graph_free(b->decode_graph);
    nn_graph_free(b->graph);
    free(b->words);
    free(b->text_rows);
    free(b->beside_rows);
    free(b->times);
    free(b->fresh);
    free(b);
}

/* ---- a run ---- */

/* Asks are filled up with the last one. */
static const sample_ask *ask_at(const sample_ask asks[], int n, int i)
{
    return &asks[i < n ? i : n - 1];
}

static int say_words(sample_batch *b, const tokenizer *t, const sample_ask asks[], int n, err *e)
{
    const sample_opts *o = b->opts;
    size_t each = (size_t)TOKENS * (size_t)(sd_text_shape(b->model)->width + sd_beside(b->model));
    float *pair = NEW_N(float, 2 * each);
    int rc = 0;

    for (int i = 0; i < b->most && rc == 0; i++) {
        const sample_ask *a = ask_at(asks, n, i);
        rc = sample_words(b->model, t, o->beside, a->prompt, a->negative, pair, e);
        float *cond = b->words + (size_t)(b->guided ? b->most + i : i) * each;
        memcpy(cond, pair, each * sizeof *cond);
        if (b->guided)
            memcpy(b->words + (size_t)i * each, pair + each, each * sizeof *pair);
    }
    free(pair);
    return rc;
}

/* Rows of text and of what is beside it, apart. */
static void part_words(sample_batch *b)
{
    size_t rows = (size_t)(halves(b) * b->most) * TOKENS, width = (size_t)sd_text_shape(b->model)->width;
    size_t beside = (size_t)sd_beside(b->model);

    for (size_t r = 0; r < rows; r++) {
        memcpy(b->text_rows + r * width, b->words + r * (width + beside), width * sizeof(float));
        memcpy(b->beside_rows + r * beside, b->words + r * (width + beside) + width, beside * sizeof(float));
    }
}

static int begin_latents(sample_batch *b, const sample_ask asks[], int n, err *e)
{
    size_t all = (size_t)(b->most * b->map);
    float *x = NEW_N(float, all);

    for (int i = 0; i < b->most; i++)
        rng_normal_fill(rng_open(b->opts->seed, "latents", 0, ask_at(asks, n, i)->index), x + i * b->map, (uint64_t)b->map);
    int rc = nn_params_state_write(sd_params(b->model), b->x, x, all, e);
    memset(x, 0, all * sizeof *x);
    if (rc == 0)
        rc = nn_params_state_write(sd_params(b->model), b->before, x, all, e);
    free(x);
    return rc;
}

/* Each picture's own, as sample_picture looks it up. */
static int write_noise(sample_batch *b, const sample_ask asks[], int n, int call, err *e)
{
    for (int i = 0; i < b->most; i++)
        b->fresh[i] = rng_open(b->opts->seed, "sampler", (uint32_t)call, ask_at(asks, n, i)->index);
    return nn_chain_write(b->chain, 0, b->noise, b->fresh, (size_t)nn_bytes(b->noise), e);
}

static int call(sample_batch *b, const sampler *s, const sample_ask asks[], int some, int i, err *e)
{
    int64_t n = halves(b) * b->most;
    sampler_line line;

    CHECK(sampler_line_at(s, i, &line));
    const float number[NUMBERS] = {(float)line.x0_x, (float)line.x0_said, (float)line.by_x, (float)line.by_said,
                                   (float)line.by_before, (float)line.by_noise, (float)b->opts->guidance};
    for (int64_t k = 0; k < n; k++)
        b->times[k] = (float)sampler_timestep(s, i);
    TRY(nn_chain_write(b->chain, 0, b->t, b->times, (size_t)n * sizeof(float), e));
    TRY(nn_chain_write(b->chain, 0, b->text, b->text_rows, (size_t)nn_bytes(b->text), e));
    if (b->beside)
        TRY(nn_chain_write(b->chain, 0, b->beside, b->beside_rows, (size_t)nn_bytes(b->beside), e));
    if (b->noisy)
        TRY(write_noise(b, asks, some, i, e));
    for (int k = 0; k < NUMBERS; k++)
        TRY(nn_chain_write(b->chain, 0, b->number[k], &number[k], sizeof number[k], e));
    return nn_chain_start(b->chain, e);
}

/* The device is waited for where the pixels are read. */
static int decode(sample_batch *b, int n, float *pixels, err *e)
{
    size_t all = (size_t)nn_count(b->pixels->shape), asked = all / (size_t)b->most * (size_t)n;
    float *host;

    TRY(mem_big((void **)&host, all * sizeof *host, "pictures", e));
    int rc = nn_run(b->decode, e);
    if (rc == 0)
        rc = nn_read(b->decode, b->pixels, host, all * sizeof *host, e);
    for (size_t i = 0; rc == 0 && i < asked; i++)
        pixels[i] = fminf(fmaxf(host[i] / 2 + 0.5F, 0), 1);
    free(host);
    return rc;
}

int sample_batch_run(sample_batch *b, const tokenizer *t, const sample_ask asks[], int n, float *pixels, err *e)
{
    const sample_opts *o = b->opts;
    sampler *s;

    CHECK(n > 0 && n <= b->most);
    TRY(say_words(b, t, asks, n, e));
    part_words(b);
    TRY(begin_latents(b, asks, n, e));
    TRY(sampler_new(&s, o->sampler, sd_schedule(b->model), o->steps, o->eta, 1, e));
    int rc = 0;
    for (int i = 0; i < sampler_calls(s) && rc == 0; i++)
        rc = call(b, s, asks, n, i, e);
    sampler_free(s);
    return rc ? rc : decode(b, n, pixels, e);
}
