/* Pictures from a model; see sample.h. */
#include "trainer/sample_inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"

/* ---- the loop ---- */

/* said = uncond + guidance (cond - uncond) */
static int guided(const sample_loop *l, const float *x, int timestep, float *said, float *other, size_t count, err *e)
{
    float t = (float)timestep, by = (float)l->guidance;

    TRY(sd_unet(l->model, x, &t, l->cond, 1, l->h, l->w, l->tokens, said, e));
    if (!l->uncond)
        return 0;
    TRY(sd_unet(l->model, x, &t, l->uncond, 1, l->h, l->w, l->tokens, other, e));
    for (size_t i = 0; i < count; i++)
        said[i] = other[i] + by * (said[i] - other[i]);
    return 0;
}

int sample_denoise(const sample_loop *l, sampler *s, float *x, err *e)
{
    size_t count = (size_t)l->h * (size_t)l->w * (size_t)sd_latent_channels(l->model);
    float *said = NEW_N(float, count), *other = NEW_N(float, count), *noise = NEW_N(float, count);
    int rc = 0;

    for (int i = 0; rc == 0 && i < sampler_calls(s); i++) {
        rc = guided(l, x, sampler_timestep(s, i), said, other, count, e);
        if (rc != 0)
            break;
        if (sampler_wants_noise(s))
            l->noise(l->arg, i, noise, count);
        sampler_step(s, said, sampler_wants_noise(s) ? noise : NULL, x);
        if (l->watch)
            l->watch(l->arg, i, said, x);
    }
    free(said);
    free(other);
    free(noise);
    return rc;
}

int sample_decode(sd *m, const float *latents, int h, int w, float *pixels, err *e)
{
    const vae_shape *v = sd_vae_shape(m);
    size_t n = (size_t)h * (size_t)w, f = (size_t)vae_factor(v), count = n * (size_t)v->latent;
    size_t out = n * f * f * (size_t)v->out;
    float *z = NEW_N(float, count);

    for (size_t i = 0; i < count; i++)
        z[i] = latents[i] / v->scaling;
    int rc = sd_vae_decode(m, z, 1, h, w, pixels, e);
    for (size_t i = 0; rc == 0 && i < out; i++)
        pixels[i] = fminf(fmaxf(pixels[i] / 2 + 0.5F, 0), 1);
    free(z);
    return rc;
}

/* ---- a picture ---- */

int sample_check(const sd *m, const sample_opts *o, err *e)
{
    int f = vae_factor(sd_vae_shape(m));
    sampler *s;

    if (o->width < f || o->height < f || o->width % f != 0 || o->height % f != 0)
        return err_set(e, ERR_INPUT, "a picture of %d x %d where both must be multiples of %d", o->width, o->height, f);
    if (sd_vae_shape(m)->out != 3)
        return err_set(e, ERR_INPUT, "the VAE gives %d channels where a picture has 3", sd_vae_shape(m)->out);
    if (!isfinite(o->guidance))
        return err_set(e, ERR_INPUT, "guidance %g where a number is wanted", o->guidance);
    TRY(sampler_new(&s, o->sampler, sd_schedule(m), o->steps, o->eta, 1, e));
    sampler_free(s);
    return 0;
}

typedef struct { uint64_t seed; uint32_t index; } noise_address;

static void look_up_noise(void *arg, int call, float *noise, size_t count)
{
    const noise_address *at = arg;

    rng_normal_fill(rng_open(at->seed, "sampler", (uint32_t)call, at->index), noise, count);
}

int sample_words(sd *m, const tokenizer *t, const bank *beside, const char *prompt, const char *negative, float *features, err *e)
{
    size_t width = (size_t)sd_text_shape(m)->width, text = TOKENS * width;
    int32_t ids[2][TOKENS];

    tokenizer_encode(t, prompt, ids[0]);
    tokenizer_encode(t, negative, ids[1]);
    if (!beside)
        return sd_text_encode(m, ids[0], 2, TOKENS, features, e);
    float *plain = NEW_N(float, 2 * text);
    int rc = sd_text_encode(m, ids[0], 2, TOKENS, plain, e);
    for (size_t i = 0; rc == 0 && i < 2; i++)
        bank_features(beside, ids[0], ids[i], TOKENS, tokenizer_eos(t), plain + i * text,
                      features + i * (text + TOKENS * (size_t)sd_beside(m)));
    free(plain);
    return rc;
}

int sample_picture(sd *m, const tokenizer *t, const sample_opts *o, const char *prompt, const char *negative,
                   uint32_t index, float *pixels, err *e)
{
    int f = vae_factor(sd_vae_shape(m)), h = o->height / f, w = o->width / f, rc;
    size_t count = (size_t)h * (size_t)w * (size_t)sd_latent_channels(m);
    size_t text = (size_t)TOKENS * (size_t)(sd_text_shape(m)->width + sd_beside(m));
    noise_address at = {o->seed, index};
    sampler *s = NULL;

    TRY(sample_check(m, o, e));
    float *features = NEW_N(float, 2 * text), *x = NEW_N(float, count);
    sample_loop loop = {.model = m, .h = h, .w = w, .tokens = TOKENS, .cond = features,
                        .uncond = o->guidance == 1 ? NULL : features + text, .guidance = o->guidance,
                        .noise = look_up_noise, .arg = &at};
    rng_normal_fill(rng_open(o->seed, "latents", 0, index), x, count);
    rc = sample_words(m, t, o->beside, prompt, negative, features, e);
    if (rc == 0)
        rc = sampler_new(&s, o->sampler, sd_schedule(m), o->steps, o->eta, count, e);
    if (rc == 0)
        rc = sample_denoise(&loop, s, x, e);
    if (rc == 0)
        rc = sample_decode(m, x, h, w, pixels, e);
    sampler_free(s);
    free(features);
    free(x);
    return rc;
}

void sample_bytes(const float *pixels, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)lrintf(pixels[i] * 255);
}
