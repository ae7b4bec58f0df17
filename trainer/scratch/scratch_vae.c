/* The autoencoder: squared error of pictures, latents with noise of a fixed size on them and held near zero (a posterior of
 * fixed variance: Kingma, Welling 2014). On crops, as it is a convolution nearly throughout. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/scratch/scratch.h"

enum { BATCH = 16, CROP = 64, LATENT = 4, CELLS = CROP / 8, MEASURED = 256 };
static const float SPREAD = 0.1F;    /* of the noise on latents */
static const float TIGHT = -12;      /* log variance that the file tells */
static const float HOLD = 2e-4F;     /* weight of mean^2 beside a pixel's squared error */

typedef struct {
    const scratch *how;
    const char *only;    /* what learns; NULL: all */
    sd *model;
    uint8_t *pictures;
    nn_tensor pixels, noise;
    float *x, *n;
} stage;

/* Means of squares over all elements. */
static nn_tensor mean_square(nn_graph *g, nn_tensor a, nn_tensor b, float weight)
{
    const float count = (float)nn_count(nn_shape_get(a));

    return nn_scale(g, nn_sum_to(g, nn_squared_error(g, a, b, NULL), NN_SHAPE(1)), weight / count);
}

static nn_tensor write_loss(nn_graph *g, stage *t)
{
    const vae_shape *v = sd_vae_shape(t->model);

    t->pixels = nn_input(g, "pixels", F32, NN_SHAPE(BATCH, CROP, CROP, 3));
    t->noise = nn_input(g, "noise", F32, NN_SHAPE(BATCH, CELLS, CELLS, LATENT));
    nn_enter(g, "vae");
    nn_tensor mean = nn_slice(g, vae_encode_write(g, v, t->pixels), 3, 0, LATENT);
    nn_tensor again = vae_decode_write(g, v, nn_add(g, mean, nn_scale(g, t->noise, SPREAD)));
    nn_leave(g);
    nn_tensor hold = mean_square(g, mean, nn_zeros(g, nn_shape_get(mean)), HOLD);
    return nn_add(g, mean_square(g, again, t->pixels, 1), hold);
}

static void crop(const stage *t, float *out, rng_stream s)
{
    const int i = (int)rng_below(s, 0, (uint32_t)t->how->pictures);
    const int y = (int)rng_below(s, 1, WORLD_SIDE - CROP + 1), x = (int)rng_below(s, 2, WORLD_SIDE - CROP + 1);
    const uint8_t *from = t->pictures + (size_t)i * WORLD_SIDE * WORLD_SIDE * 3;

    for (int r = 0; r < CROP; r++)
        for (int c = 0; c < CROP * 3; c++)
            out[r * CROP * 3 + c] = (float)from[((y + r) * WORLD_SIDE + x) * 3 + c] / 127.5F - 1;
}

static int one_step(void *arg, fit *f, float *loss, err *e)
{
    stage *t = arg;
    const uint32_t step = (uint32_t)fit_steps(f);

    for (uint32_t i = 0; i < BATCH; i++)
        crop(t, t->x + (size_t)i * CROP * CROP * 3, rng_open(SCRATCH_SEED, "crop", step, i));
    rng_normal_fill(rng_open(SCRATCH_SEED, "posterior", step, 0), t->n, BATCH * CELLS * CELLS * LATENT);
    TRY(fit_write(f, t->pixels, t->x, e));
    TRY(fit_write(f, t->noise, t->n, e));
    return fit_step(f, loss, e);
}

/* One over the standard deviation of the latents of whole pictures (Rombach et al. 2022, appendix G). */
static int measure(stage *t, double *scaling, err *e)
{
    const size_t pixels = (size_t)WORLD_SIDE * WORLD_SIDE * 3, n = pixels / 3 / 64 * LATENT;
    float *x = NEW_N(float, pixels), *mean = NEW_N(float, n), *logvar = NEW_N(float, n);
    double sum = 0, squares = 0;
    int rc = 0, count = t->how->pictures < MEASURED ? t->how->pictures : MEASURED;

    for (int i = 0; i < count && rc == 0; i++) {
        for (size_t k = 0; k < pixels; k++)
            x[k] = (float)t->pictures[(size_t)i * pixels + k] / 127.5F - 1;
        rc = sd_vae_encode(t->model, x, 1, WORLD_SIDE, WORLD_SIDE, mean, logvar, e);
        for (size_t k = 0; k < n; k++) {
            sum += (double)mean[k];
            squares += (double)mean[k] * (double)mean[k];
        }
    }
    sum /= (double)(n * (size_t)count);
    *scaling = 1 / sqrt(squares / (double)(n * (size_t)count) - sum * sum);
    free(x);
    free(mean);
    free(logvar);
    return rc;
}

static int write_model(void *arg, err *e)
{
    stage *t = arg;
    char path[FS_PATH];
    double scaling;

    TRY(fs_join(path, t->how->model, "vae/diffusion_pytorch_model.safetensors", e));
    TRY(fit_write_model(sd_params(t->model), "vae.", "", path, e));
    if (t->only) /* the latents stay, and so does their scale */
        return 0;
    TRY(measure(t, &scaling, e));
    return toy_vae_config(t->how->model, &TOY_WORLD, scaling, e);
}

/* The file's posterior is its mean: on means the UNet learns, and so shall concepts. */
static int fix_spread(stage *t, err *e)
{
    const char *const weight = "vae.quant_conv.weight", *const bias = "vae.quant_conv.bias";
    float w[4 * LATENT * LATENT], b[2 * LATENT];

    TRY(sd_file_read(t->model, weight, w, 4 * LATENT * LATENT, e));
    TRY(sd_file_read(t->model, bias, b, 2 * LATENT, e));
    memset(w + 2 * LATENT * LATENT, 0, sizeof w / 2);
    for (int i = LATENT; i < 2 * LATENT; i++)
        b[i] = TIGHT;
    TRY(sd_override(t->model, weight, w, 4 * LATENT * LATENT, e));
    return sd_override(t->model, bias, b, 2 * LATENT, e);
}

static int work(stage *t, nn_graph *g, const char *name, err *e)
{
    const fit_opts how = {.lr = 1e-3, .clip = 1, .mean = 0.999, .warmup = 200, .until = t->how->until, .only = t->only};
    fit *f;

    TRY(fix_spread(t, e));
    nn_tensor loss = write_loss(g, t);
    TRY(fit_new(&f, sd_params(t->model), g, loss, NULL, &how, e));
    int rc = scratch_run(t->how, name, f, one_step, write_model, t, e);
    fit_free(f);
    return rc;
}

static int run(const scratch *s, const char *name, const char *only, err *e)
{
    stage t = {.how = s, .only = only, .x = NEW_N(float, BATCH * CROP * CROP * 3), .n = NEW_N(float, BATCH * CELLS * CELLS * LATENT)};
    nn_graph *g = nn_graph_new();
    int rc = sd_open(&t.model, s->model, s->on, e);

    if (rc == 0) {
        t.pictures = scratch_pictures(s);
        rc = work(&t, g, name, e);
        sd_close(t.model);
    }
    nn_graph_free(g);
    free(t.pictures);
    free(t.x);
    free(t.n);
    return rc;
}

int scratch_vae(const scratch *s, err *e)
{
    return run(s, "vae", NULL, e);
}

int scratch_decoder(const scratch *s, err *e)
{
    return run(s, "decoder", "vae.decoder.", e);
}
