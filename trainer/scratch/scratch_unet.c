/* The UNet: noise on latents, told apart (Ho, Jain, Abbeel 2020), the caption left out one time in ten for guidance (Ho,
 * Salimans 2022). Latents of all pictures are made once and kept in memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/scratch/scratch.h"

enum { BATCH = 24, LATENT = 4, CELLS = WORLD_SIDE / 8, SAMPLE = CELLS * CELLS * LATENT, DROP_ONE_IN = 10, PLAIN_ONE_IN = 4 };
enum { PIXELS = WORLD_SIDE * WORLD_SIDE * 3, SEEN = 12 }; /* SEEN: steps of 255 by which a thing differs from its place */
static const float SNR_MOST = 5;
/* Places are known soon, what a thing looks like is most of what there is to learn: cells without a thing weigh this much. */
static const float EMPTY_CELL = 0.2F;
/* Marks are small and on one thing in three: alone they would be learnt last, and they are what a subject is known by. */
static const float MARK_CELL = 4;

typedef struct {
    const scratch *how;
    sd *model;
    tokenizer *words;
    float *latents;          /* [pictures, SAMPLE], scaled means */
    float *cells;            /* [pictures, CELLS * CELLS], each cell's weight in the loss */
    uint32_t *marked;        /* [marks]: pictures in which a thing has a mark; half of the samples are of these */
    uint32_t marks;
    nn_tensor x, mask, noise, alpha, sigma, weight, t, ids;
    float x_of[BATCH * SAMPLE], mask_of[BATCH * CELLS * CELLS], noise_of[BATCH * SAMPLE];
    float alpha_of[BATCH], sigma_of[BATCH], weight_of[BATCH], t_of[BATCH];
    int32_t ids_of[BATCH * TOKENS];
} stage;

static nn_tensor write_loss(nn_graph *g, stage *t)
{
    t->x = nn_input(g, "latents", F32, NN_SHAPE(BATCH, CELLS, CELLS, LATENT));
    t->mask = nn_input(g, "mask", F32, NN_SHAPE(BATCH, CELLS, CELLS));
    t->noise = nn_input(g, "noise", F32, NN_SHAPE(BATCH, CELLS, CELLS, LATENT));
    t->alpha = nn_input(g, "alpha", F32, NN_SHAPE(BATCH, 1, 1, 1));
    t->sigma = nn_input(g, "sigma", F32, NN_SHAPE(BATCH, 1, 1, 1));
    t->weight = nn_input(g, "weight", F32, NN_SHAPE(BATCH));
    t->t = nn_input(g, "timesteps", F32, NN_SHAPE(BATCH));
    t->ids = nn_input(g, "ids", I32, NN_SHAPE(BATCH, TOKENS));
    nn_tensor noisy = nn_add(g, nn_mul(g, t->x, t->alpha), nn_mul(g, t->noise, t->sigma));
    nn_tensor text = nn_detach(g, sd_text_write(g, t->model, t->ids, NULL));
    nn_tensor said = sd_unet_write(g, t->model, noisy, t->t, text, false);
    return nn_sum_to(g, nn_mul(g, nn_squared_error(g, said, t->noise, t->mask), t->weight), NN_SHAPE(1));
}

/* Where there is little noise its error says little of the picture (min-SNR: Hang et al. 2023, equation 7). */
static float weight_of(float alpha, float sigma)
{
    const float ratio = alpha * alpha / (sigma * sigma);

    return fminf(ratio, SNR_MOST) / ratio / (BATCH * SAMPLE);
}

/* One sample in four is plain: every cell and timestep alike, as concepts are trained, so that those need not spend their keys
 * and values on what their base has left alone. */
static void weigh(stage *t, uint32_t i, uint32_t picture, int when, bool plain)
{
    float *mask = t->mask_of + i * CELLS * CELLS;

    t->alpha_of[i] = schedule_alpha(sd_schedule(t->model), when);
    t->sigma_of[i] = schedule_sigma(sd_schedule(t->model), when);
    t->weight_of[i] = plain ? 1.0F / (BATCH * SAMPLE) : weight_of(t->alpha_of[i], t->sigma_of[i]);
    t->t_of[i] = (float)when;
    for (size_t k = 0; k < CELLS * CELLS; k++)
        mask[k] = plain ? 1 : t->cells[(size_t)picture * CELLS * CELLS + k];
}

/* What stands in a picture is decided half way: there most timesteps are. */
static void fill(stage *t, uint32_t step, uint32_t i)
{
    const rng_stream s = rng_open(SCRATCH_SEED, "sample", step, i);
    const bool marked = t->marks && rng_below(s, 5, 2) == 0;
    const uint32_t drawn = rng_below(s, 0, marked ? t->marks : (uint32_t)t->how->pictures), picture = marked ? t->marked[drawn] : drawn;
    const uint32_t steps = (uint32_t)sd_schedule(t->model)->steps;
    const uint32_t one = rng_below(s, 1, steps), two = rng_below(s, 3, steps);
    const bool plain = rng_below(s, 4, PLAIN_ONE_IN) == 0;

    memcpy(t->x_of + i * SAMPLE, t->latents + (size_t)picture * SAMPLE, SAMPLE * sizeof(float));
    rng_normal_fill(rng_open(SCRATCH_SEED, "noise", step, i), t->noise_of + i * SAMPLE, SAMPLE);
    weigh(t, i, picture, (int)(plain ? one : (one + two) / 2), plain);
    if (rng_below(s, 2, DROP_ONE_IN) == 0)
        tokenizer_encode(t->words, "", t->ids_of + i * TOKENS);
    else
        scratch_words(t->ids_of + i * TOKENS, t->words, SCRATCH_SEED, picture, step);
}

static int one_step(void *arg, fit *f, float *loss, err *e)
{
    stage *t = arg;

    for (uint32_t i = 0; i < BATCH; i++)
        fill(t, (uint32_t)fit_steps(f), i);
    TRY(fit_write(f, t->x, t->x_of, e));
    TRY(fit_write(f, t->mask, t->mask_of, e));
    TRY(fit_write(f, t->noise, t->noise_of, e));
    TRY(fit_write(f, t->alpha, t->alpha_of, e));
    TRY(fit_write(f, t->sigma, t->sigma_of, e));
    TRY(fit_write(f, t->weight, t->weight_of, e));
    TRY(fit_write(f, t->t, t->t_of, e));
    TRY(fit_write(f, t->ids, t->ids_of, e));
    return fit_step(f, loss, e);
}

/* Cells in which the picture is another than it is of `without` get this weight. */
static void weigh_cells(float *cells, const uint8_t *picture, const world_scene *without, float weight)
{
    uint8_t *other = NEW_N(uint8_t, PIXELS);

    scratch_draw(other, without);
    for (int k = 0; k < PIXELS; k++)
        if (abs(picture[k] - other[k]) > SEEN)
            cells[k / (WORLD_SIDE * 3) / 8 * CELLS + k / 3 % WORLD_SIDE / 8] = weight;
    free(other);
}

/* picture [PIXELS] and its cells [CELLS, CELLS]; true if a thing in it has a mark. */
static bool draw_and_weigh(uint8_t *picture, float *cells, uint32_t i)
{
    const world_scene what = world_pick(SCRATCH_SEED, i), bare = {.where = what.where};
    world_scene plain = what;
    bool marked = false;

    for (int k = 0; k < what.n; k++) {
        marked = marked || what.thing[k].marks;
        plain.thing[k].marks = 0;
    }
    scratch_draw(picture, &what);
    for (int k = 0; k < CELLS * CELLS; k++)
        cells[k] = EMPTY_CELL;
    weigh_cells(cells, picture, &bare, 1);
    if (marked)
        weigh_cells(cells, picture, &plain, MARK_CELL);
    return marked;
}

static int encode_all(stage *t, err *e)
{
    float *x = NEW_N(float, PIXELS), logvar[SAMPLE];
    uint8_t *bytes = NEW_N(uint8_t, PIXELS);
    int rc = 0;

    t->latents = NEW_N(float, (size_t)t->how->pictures * SAMPLE);
    t->cells = NEW_N(float, (size_t)t->how->pictures * CELLS * CELLS);
    t->marked = NEW_N(uint32_t, t->how->pictures);
    for (int i = 0; i < t->how->pictures && rc == 0; i++) {
        float *to = t->latents + (size_t)i * SAMPLE;
        if (draw_and_weigh(bytes, t->cells + (size_t)i * CELLS * CELLS, (uint32_t)i))
            t->marked[t->marks++] = (uint32_t)i;
        for (int k = 0; k < PIXELS; k++)
            x[k] = (float)bytes[k] / 127.5F - 1;
        rc = sd_vae_encode(t->model, x, 1, WORLD_SIDE, WORLD_SIDE, to, logvar, e);
        for (int k = 0; k < SAMPLE; k++)
            to[k] *= sd_vae_shape(t->model)->scaling;
    }
    free(x);
    free(bytes);
    return rc;
}

static int write_model(void *arg, err *e)
{
    stage *t = arg;
    char path[FS_PATH];

    TRY(fs_join(path, t->how->model, "unet/diffusion_pytorch_model.safetensors", e));
    return fit_write_model(sd_params(t->model), "unet.", "", path, e);
}

static int work(stage *t, nn_graph *g, err *e)
{
    const fit_opts how = {.lr = 4e-4, .weight_decay = 1e-3, .clip = 1, .mean = 0.9995, .warmup = 500, .until = t->how->until,
                          .only = "unet."};
    fit *f;

    TRY(encode_all(t, e));
    sd_forget_plans(t->model);
    nn_tensor loss = write_loss(g, t);
    TRY(fit_new(&f, sd_params(t->model), g, loss, NULL, &how, e));
    int rc = scratch_run(t->how, "unet", f, one_step, write_model, t, e);
    fit_free(f);
    return rc;
}

int scratch_unet(const scratch *s, err *e)
{
    stage *t = NEW(stage);
    nn_graph *g = nn_graph_new();

    t->how = s;
    int rc = scratch_tokenizer(&t->words, s, e);
    if (rc == 0)
        rc = sd_open(&t->model, s->model, s->on, e);
    if (rc == 0) {
        rc = work(t, g, e);
        sd_close(t->model);
    }
    tokenizer_close(t->words);
    nn_graph_free(g);
    free(t->latents);
    free(t->cells);
    free(t->marked);
    free(t);
    return rc;
}
