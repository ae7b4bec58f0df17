/* The parts of a model as functions on host arrays. Each keeps plans for 1, 2, 4 and 8 samples of the size last asked for. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/model/sd_impl.h"

/* More pixels together than these would only cost memory: one picture of 512 takes half a gigabyte. */
enum { PIXELS_TOGETHER = 512 * 512, TEXTS_TOGETHER = 8 };

/* ---- graphs of r->n samples; size: what the function's caller gave ---- */

static void write_states(nn_graph *g, const sd *m, sd_ready *r)
{
    r->in[0] = nn_input(g, "ids", I32, NN_SHAPE(r->n, r->size[0]));
    r->out = sd_text_write(g, m, r->in[0], NULL);
}

static void write_text(nn_graph *g, const sd *m, sd_ready *r)
{
    nn_exact(g); /* a training's features of words are compared with a merge's */
    write_states(g, m, r);
}

static void write_project(nn_graph *g, const sd *m, sd_ready *r)
{
    nn_exact(g);
    r->in[0] = nn_input(g, "end", F32, NN_SHAPE(r->n, m->files.text.width));
    nn_enter(g, "%s", sd_part_scope(SD_TEXT));
    r->out = clip_project_write(g, &m->files.text, r->in[0]);
    nn_leave(g);
}

static void write_encode(nn_graph *g, const sd *m, sd_ready *r)
{
    r->in[0] = nn_input(g, "pixels", F32, NN_SHAPE(r->n, r->size[0], r->size[1], m->files.vae.in));
    nn_enter(g, "%s", sd_part_scope(SD_VAE));
    r->out = vae_encode_write(g, &m->files.vae, r->in[0]);
    nn_leave(g);
}

nn_tensor sd_vae_write_decode(nn_graph *g, const sd *m, nn_tensor latents)
{
    nn_enter(g, "%s", sd_part_scope(SD_VAE));
    nn_tensor out = vae_decode_write(g, &m->files.vae, latents);
    nn_leave(g);
    return out;
}

static void write_decode(nn_graph *g, const sd *m, sd_ready *r)
{
    r->in[0] = nn_input(g, "latents", F32, NN_SHAPE(r->n, r->size[0], r->size[1], m->files.vae.latent));
    r->out = sd_vae_write_decode(g, m, r->in[0]);
}

/* y + B z of a cross-attention's K or V; z: the numbers beside the text. */
static nn_tensor add_beside(const void *arg, nn_graph *g, nn_tensor y, nn_tensor x, const char *layer)
{
    nn_tensor z = arg;
    nn_shape in = nn_shape_get(z), out = nn_shape_get(y);

    (void)x;
    if (!str_ends(layer, ".attn2.to_k") && !str_ends(layer, ".attn2.to_v"))
        return y;
    return nn_add(g, y, nn_linear(g, z, nn_param(g, "beside", NN_SHAPE(out.d[out.n - 1], in.d[in.n - 1])), NULL));
}

nn_tensor sd_unet_write_beside(nn_graph *g, const sd *m, nn_tensor x, nn_tensor t, nn_tensor text, nn_tensor beside)
{
    nn_adapt(g, &(nn_adapter){.arg = beside, .linear = add_beside});
    nn_tensor out = sd_unet_write(g, m, x, t, text, false);
    nn_adapt(g, NULL);
    return out;
}

static void write_unet(nn_graph *g, const sd *m, sd_ready *r)
{
    const unet_shape *u = &m->files.unet;

    r->in[0] = nn_input(g, "latents", F32, NN_SHAPE(1, r->size[0], r->size[1], u->in));
    r->in[1] = nn_input(g, "timestep", F32, NN_SHAPE(1));
    r->in[2] = nn_input(g, "text", F32, NN_SHAPE(1, r->size[2], u->text_width));
    if (m->beside)
        r->in[3] = nn_input(g, "beside", F32, NN_SHAPE(1, r->size[2], m->beside));
    r->out = m->beside ? sd_unet_write_beside(g, m, r->in[0], r->in[1], r->in[2], r->in[3])
                       : sd_unet_write(g, m, r->in[0], r->in[1], r->in[2], false);
}

static void (*const WRITE[SD_RUNS])(nn_graph *g, const sd *m, sd_ready *r) = {
    [RUN_TEXT] = write_text,     [RUN_STATES] = write_states, [RUN_PROJECT] = write_project, [RUN_ENCODE] = write_encode,
    [RUN_DECODE] = write_decode, [RUN_UNET] = write_unet,
};

/* ---- plans ---- */

static void forget(sd_ready *r)
{
    nn_plan_free(r->plan);
    nn_graph_free(r->graph);
    *r = (sd_ready){0};
}

void sd_forget_plans(sd *m)
{
    for (int i = 0; i < SD_RUNS; i++)
        for (int k = 0; k < SD_TOGETHER; k++)
            forget(&m->ready[i][k]);
}

static bool moves_for_nobody(const void *arg, const char *name, size_t *offset)
{
    (void)arg;
    (void)name;
    (void)offset;
    return false;
}

/* For 2^k samples. They are a pack that shares all weights, so that kernels are chosen by what one of them needs, and each gets the
 * numbers that it gets alone. */
static int ready_for(sd_ready **out, sd *m, sd_run which, const int64_t size[3], int k, err *e)
{
    sd_ready *r = *out = &m->ready[which][k];

    if (r->plan && memcmp(r->size, size, sizeof r->size) == 0)
        return 0;
    forget(r);
    memcpy(r->size, size, sizeof r->size);
    r->n = 1 << k;
    r->graph = nn_graph_new();
    if (r->n > 1)
        nn_pack_set(r->graph, &(nn_pack){.at = moves_for_nobody, .width = r->n});
    WRITE[which](r->graph, m, r);
    int rc = nn_check(r->graph, e);
    if (rc == 0)
        rc = nn_plan_new(&r->plan, r->graph, m->params, &r->out, 1, e);
    if (rc != 0)
        forget(r);
    return rc;
}

static int ready(sd_ready **out, sd *m, sd_run which, int64_t a, int64_t b, int64_t c, err *e)
{
    return ready_for(out, m, which, (int64_t[]){a, b, c}, 0, e);
}

static size_t elements(nn_tensor t)
{
    return (size_t)nn_count(nn_shape_get(t));
}

/* Inputs in the order of r->in (all have 4-byte elements), the output into out. */
static int run(sd_ready *r, const void *const in[], int n, float *out, err *e)
{
    for (int i = 0; i < n; i++)
        TRY(nn_write(r->plan, r->in[i], in[i], elements(r->in[i]) * 4, e));
    TRY(nn_run(r->plan, e));
    return nn_read(r->plan, r->out, out, elements(r->out) * sizeof *out, e);
}

/* How many of n go together, as a power of two. Not on a device: its library chooses kernels by rows, and a picture of 512 pixels
 * fills it. */
static int together(const sd *m, int n, int most)
{
    int k = 0;

    if (nn_params_backend(m->params)->kind)
        return 0;
    while (k + 1 < SD_TOGETHER && 2 << k <= n && 2 << k <= most)
        k++;
    return k;
}

/* n samples behind each other, with one input, of which at most `most` go together. */
static int run_each(sd *m, sd_run which, const int64_t size[3], int most, const void *in, int n, float *out, err *e)
{
    sd_ready *r;

    for (int done = 0; done < n; done += r->n) {
        TRY(ready_for(&r, m, which, size, together(m, n - done, most), e));
        size_t each_in = elements(r->in[0]) / (size_t)r->n * 4, each_out = elements(r->out) / (size_t)r->n;
        const void *at = (const char *)in + (size_t)done * each_in;
        TRY(run(r, &at, 1, out + (size_t)done * each_out, e));
    }
    return 0;
}

/* ---- words ---- */

static int check_ids(const sd *m, const int32_t *ids, size_t count, err *e)
{
    int most = m->files.text.vocab + m->modifiers;

    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= most)
            return err_set(e, ERR_INPUT, "token id %d where the text encoder has %d", (int)ids[i], most);
    return 0;
}

static int encode(sd *m, sd_run which, const int32_t *ids, int n, int tokens, float *out, err *e)
{
    TRY(check_ids(m, ids, (size_t)n * (size_t)tokens, e));
    pthread_mutex_lock(&m->text);
    int rc = run_each(m, which, (int64_t[]){tokens, 0, 0}, TEXTS_TOGETHER, ids, n, out, e);
    pthread_mutex_unlock(&m->text);
    return rc;
}

int sd_text_encode(sd *m, const int32_t *ids, int n, int tokens, float *out, err *e)
{
    return encode(m, RUN_TEXT, ids, n, tokens, out, e);
}

int sd_text_states(sd *m, const int32_t *ids, int n, int tokens, float *out, err *e)
{
    return encode(m, RUN_STATES, ids, n, tokens, out, e);
}

int sd_text_embed_width(const sd *m)
{
    return m->files.text.projection > 0 ? m->files.text.projection : m->files.text.width;
}

/* The place of the first end token; the last place where there is none. */
static size_t end_of(const int32_t *ids, int tokens, int32_t eos)
{
    int i = 0;

    while (i < tokens - 1 && ids[i] != eos)
        i++;
    return (size_t)i;
}

int sd_text_embed(sd *m, const int32_t *ids, int n, int tokens, int32_t eos, float *out, err *e)
{
    size_t width = (size_t)m->files.text.width, each = (size_t)sd_text_embed_width(m);
    float *states = NEW_N(float, (size_t)tokens * width);
    const bool projects = m->files.text.projection > 0;
    int rc = 0;

    for (int i = 0; rc == 0 && i < n; i++) {
        const int32_t *id = ids + (size_t)i * (size_t)tokens;
        const float *end = states + end_of(id, tokens, eos) * width;

        rc = sd_text_encode(m, id, 1, tokens, states, e);
        if (rc == 0 && projects)
            rc = run_each(m, RUN_PROJECT, (int64_t[]){0, 0, 0}, 1, end, 1, out + (size_t)i * each, e);
        else
            memcpy(out + (size_t)i * each, end, width * sizeof *out);
    }
    free(states);
    return rc;
}

/* ---- pictures ---- */

int sd_vae_encode(sd *m, const float *pixels, int n, int h, int w, float *mean, float *logvar, err *e)
{
    const vae_shape *v = &m->files.vae;

    if (h < vae_factor(v) || w < vae_factor(v))
        return err_set(e, ERR_SHAPE, "a picture of %d x %d is smaller than one latent (%d pixels)", w, h, vae_factor(v));
    int64_t size[3] = {h, w, 0}, cells = (int64_t)(h / vae_factor(v)) * (w / vae_factor(v));
    float *moments = NEW_N(float, n * cells * 2 * v->latent);
    int rc = run_each(m, RUN_ENCODE, size, PIXELS_TOGETHER / (h * w), pixels, n, moments, e);
    if (rc == 0)
        vae_moments(v, moments, (size_t)n * (size_t)cells, mean, logvar);
    free(moments);
    return rc;
}

int sd_vae_decode(sd *m, const float *latents, int n, int h, int w, float *pixels, err *e)
{
    return run_each(m, RUN_DECODE, (int64_t[]){h, w, 0}, 1, latents, n, pixels, e);
}

/* Rows of a + b numbers as rows of a and rows of b. */
static void part_rows(const float *both, size_t rows, size_t a, size_t b, float *first, float *second)
{
    for (size_t i = 0; i < rows; i++) {
        memcpy(first + i * a, both + i * (a + b), a * sizeof *first);
        memcpy(second + i * b, both + i * (a + b) + a, b * sizeof *second);
    }
}

int sd_unet(sd *m, const float *latents, const float *t, const float *context, int n, int h, int w, int tokens,
            float *out, err *e)
{
    sd_ready *r;

    TRY(ready(&r, m, RUN_UNET, h, w, tokens, e));
    size_t map = elements(r->in[0]), text = elements(r->in[2]), said = elements(r->out), rows = (size_t)tokens;
    size_t beside = (size_t)m->beside, width = (size_t)m->files.unet.text_width;
    float *first = beside ? NEW_N(float, text) : NULL, *second = beside ? NEW_N(float, rows * beside) : NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < (size_t)n; i++) {
        const float *at = context + i * (text + rows * beside);
        const void *in[] = {latents + i * map, t + i, beside ? first : at, second};
        if (beside)
            part_rows(at, rows, width, beside, first, second);
        rc = run(r, in, beside ? 4 : 3, out + i * said, e);
    }
    free(first);
    free(second);
    return rc;
}
