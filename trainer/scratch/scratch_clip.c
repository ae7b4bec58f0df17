/* CLIP: a caption and its picture shall be more alike than either is to the others of a batch (Radford et al. 2021), at a fixed
 * temperature of 0.07. The graph makes features; their loss and its gradient are small sums, worked out here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/safetensors.h"
#include "trainer/eval/vit.h"
#include "trainer/model/clip.h"
#include "trainer/scratch/scratch.h"

enum { BATCH = 48, MATES = 12, KINDS = SCENES * WORLD_COLOURS, PIXELS = WORLD_SIDE * WORLD_SIDE * 3 };
static const float SCALE = 1 / 0.07F;

typedef struct {
    const scratch *how;
    safetensors *file;
    nn_params *weights;
    tokenizer *words;
    clip_shape text;
    vit_shape picture;
    uint8_t *pictures;
    uint32_t *by_kind, begin[KINDS + 1]; /* pictures of one place and one first colour beside each other */
    nn_tensor ids, end, pixels, seed;
    int32_t ids_of[BATCH * TOKENS];
    float end_of[BATCH * TOKENS], *pixels_of, *features, *gradient; /* features [BATCH, 2, projection] */
} stage;

/* ---- the graph ---- */

static nn_tensor write_features(nn_graph *g, stage *t)
{
    t->ids = nn_input(g, "ids", I32, NN_SHAPE(BATCH, TOKENS));
    t->end = nn_input(g, "end", F32, NN_SHAPE(BATCH, TOKENS, 1));
    t->pixels = nn_input(g, "pixels", F32, NN_SHAPE(BATCH, WORLD_SIDE, WORLD_SIDE, 3));
    t->seed = nn_input(g, "seed", F32, NN_SHAPE(BATCH, 2 * t->text.projection));
    nn_tensor states = nn_mul(g, clip_write(g, &t->text, t->ids, 0, NULL), t->end); /* all but the end token's become 0 */
    nn_tensor end = nn_reshape(g, nn_sum_to(g, states, NN_SHAPE(BATCH, 1, t->text.width)), NN_SHAPE(BATCH, t->text.width));
    return nn_concat(g, clip_project_write(g, &t->text, end), vit_write(g, &t->picture, t->pixels));
}

/* ---- the loss ---- */

/* x /= |x|; returns 1 / |x|. */
static double to_length_one(float *x, int n)
{
    double sum = 1e-12;

    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    for (int i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
    return 1 / sqrt(sum);
}

/* p [n] = softmax of row or column i of the logits, less one at the right answer; returns -log of the right answer's share. */
static double blame(double *p, const double *logits, int n, int i, bool column)
{
    double most = -INFINITY, sum = 0;

    for (int k = 0; k < n; k++)
        most = fmax(most, p[k] = logits[column ? k * n + i : i * n + k]);
    for (int k = 0; k < n; k++)
        sum += p[k] = exp(p[k] - most);
    for (int k = 0; k < n; k++)
        p[k] /= sum;
    const double loss = -log(fmax(p[i], 1e-30));
    p[i] -= 1;
    return loss;
}

/* d logits [n, n], and the mean loss over both directions. */
static double contrast(double *d, const double *logits, int n)
{
    double p[BATCH], loss = 0;

    memset(d, 0, sizeof *d * (size_t)(n * n));
    for (int i = 0; i < n; i++)
        for (int way = 0; way < 2; way++) {
            loss += blame(p, logits, n, i, way == 1) / (2 * n);
            for (int k = 0; k < n; k++)
                d[way ? k * n + i : i * n + k] += p[k] / (2 * n);
        }
    return loss;
}

/* Through x / |x|: dx = (du - (du.u) u) / |x|. */
static void through_length(float *dx, const double *du, const float *u, double by, int n)
{
    double along = 0;

    for (int i = 0; i < n; i++)
        along += du[i] * (double)u[i];
    for (int i = 0; i < n; i++)
        dx[i] = (float)((du[i] - along * (double)u[i]) * by);
}

static double loss_of(stage *t)
{
    static double logits[BATCH * BATCH], d[BATCH * BATCH], by[2 * BATCH];
    const int n = t->text.projection;
    float *f = t->features;

    for (int i = 0; i < 2 * BATCH; i++)
        by[i] = to_length_one(f + i * n, n);
    for (int i = 0; i < BATCH * BATCH; i++) {
        const float *a = f + 2 * (i / BATCH) * n, *b = f + (2 * (i % BATCH) + 1) * n;
        logits[i] = 0;
        for (int k = 0; k < n; k++)
            logits[i] += (double)(SCALE * a[k] * b[k]);
    }
    const double loss = contrast(d, logits, BATCH);
    double *du = NEW_N(double, n);
    for (int i = 0; i < 2 * BATCH; i++) { /* row i: caption i/2, or its picture */
        memset(du, 0, sizeof *du * (size_t)n);
        for (int k = 0; k < BATCH; k++)
            for (int c = 0; c < n; c++)
                du[c] += (double)SCALE * (i % 2 ? d[k * BATCH + i / 2] : d[i / 2 * BATCH + k]) * (double)f[(2 * k + 1 - i % 2) * n + c];
        through_length(t->gradient + i * n, du, f + i * n, by[i], n);
    }
    free(du);
    return loss;
}

/* ---- a step ---- */

static int kind_of(uint32_t picture)
{
    const world_scene s = world_pick(SCRATCH_SEED, picture);

    return (int)s.where * WORLD_COLOURS + s.thing[0].colour;
}

static void sort_by_kind(stage *t)
{
    const uint32_t n = (uint32_t)t->how->pictures;
    uint32_t at[KINDS] = {0};

    t->by_kind = NEW_N(uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        t->begin[kind_of(i) + 1]++;
    for (int k = 0; k < KINDS; k++)
        t->begin[k + 1] += at[k] = t->begin[k];
    for (uint32_t i = 0; i < n; i++)
        t->by_kind[at[kind_of(i)]++] = i;
}

/* Twelve of one place and one colour at a time: places and colours tell pictures apart so well that what stands in them would
 * hardly be learnt. */
static uint32_t picture_of(const stage *t, uint32_t step, uint32_t i)
{
    const uint32_t lead = rng_below(rng_open(SCRATCH_SEED, "pair", step, i / MATES), 0, (uint32_t)t->how->pictures);
    const int kind = kind_of(lead);

    return t->by_kind[t->begin[kind] + rng_below(rng_open(SCRATCH_SEED, "mate", step, i), 0, t->begin[kind + 1] - t->begin[kind])];
}

static void fill(stage *t, uint32_t step, uint32_t i)
{
    static const float MEAN[3] = {0.48145466F, 0.4578275F, 0.40821073F}, DEVIATION[3] = {0.26862954F, 0.26130258F, 0.27577711F};
    const uint32_t picture = picture_of(t, step, i);
    const uint8_t *from = t->pictures + (size_t)picture * PIXELS;
    const int n = scratch_words(t->ids_of + i * TOKENS, t->words, SCRATCH_SEED, picture, step);

    memset(t->end_of + i * TOKENS, 0, TOKENS * sizeof(float));
    t->end_of[i * TOKENS + (uint32_t)n + 1] = 1;
    for (int k = 0; k < PIXELS; k++)
        t->pixels_of[i * PIXELS + (uint32_t)k] = ((float)from[k] / 255 - MEAN[k % 3]) / DEVIATION[k % 3];
}

static int one_step(void *arg, fit *f, float *loss, err *e)
{
    stage *t = arg;

    for (uint32_t i = 0; i < BATCH; i++)
        fill(t, (uint32_t)fit_steps(f), i);
    TRY(fit_write(f, t->ids, t->ids_of, e));
    TRY(fit_write(f, t->end, t->end_of, e));
    TRY(fit_write(f, t->pixels, t->pixels_of, e));
    TRY(fit_forward(f, t->features, e));
    *loss = (float)loss_of(t);
    TRY(fit_write(f, t->seed, t->gradient, e));
    return fit_step(f, loss, e);
}

static int write_model(void *arg, err *e)
{
    stage *t = arg;
    char path[FS_PATH];

    TRY(fs_join(path, t->how->model, "clip/model.safetensors", e));
    TRY(fit_write_model(t->weights, "", "", path, e));
    TRY(fs_join(path, t->how->model, "text_encoder/model.safetensors", e));
    return fit_write_model(t->weights, "", "text_model.", path, e);
}

/* ---- the stage ---- */

static int read_shapes(stage *t, err *e)
{
    char path[FS_PATH];
    json_t *config;

    TRY(fs_join(path, t->how->model, "clip/config.json", e));
    TRY(json_read(&config, path, e));
    int rc = vit_clip_shape_from(&t->picture, config, e);
    if (rc == 0)
        rc = clip_shape_from(&t->text, json_object_get(config, "text_config"), e);
    json_decref(config);
    return rc;
}

static int open_all(stage *t, err *e)
{
    char path[FS_PATH];

    TRY(read_shapes(t, e));
    TRY(scratch_tokenizer(&t->words, t->how, e));
    TRY(fs_join(path, t->how->model, "clip/model.safetensors", e));
    TRY(st_open(&t->file, path, e));
    TRY(nn_params_add_file(t->weights, t->file, "", e));
    t->pictures = scratch_pictures(t->how);
    sort_by_kind(t);
    t->pixels_of = NEW_N(float, BATCH * PIXELS);
    t->features = NEW_N(float, BATCH * 2 * t->text.projection);
    t->gradient = NEW_N(float, BATCH * 2 * t->text.projection);
    return 0;
}

static int work(stage *t, nn_graph *g, err *e)
{
    const fit_opts how = {.lr = 5e-4, .weight_decay = 0.01, .clip = 1, .mean = 0.995, .warmup = 200, .until = t->how->until};
    fit *f;

    TRY(open_all(t, e));
    nn_tensor features = write_features(g, t);
    TRY(fit_new(&f, t->weights, g, features, t->seed, &how, e));
    int rc = scratch_run(t->how, "clip", f, one_step, write_model, t, e);
    fit_free(f);
    return rc;
}

int scratch_clip(const scratch *s, err *e)
{
    stage *t = NEW(stage);
    nn_graph *g = nn_graph_new();

    t->how = s;
    t->weights = nn_params_new(s->on);
    int rc = work(t, g, e);
    nn_params_free(t->weights);
    st_close(t->file);
    tokenizer_close(t->words);
    nn_graph_free(g);
    free(t->pictures);
    free(t->by_kind);
    free(t->pixels_of);
    free(t->features);
    free(t->gradient);
    free(t);
    return rc;
}
