/* Text encoder and UNet together (e2e/: the loss and the gradient of embedding rows; e2e_cd/: with the first token
 * detached), and sampling with classifier-free guidance from given noise (cfg/). */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/golden/probe.h"
#include "trainer/sample.h"

static int set_modifiers(golden *g, sd *m, err *e)
{
    st_tensor shape;
    float *rows;

    TRY(golden_f32(g, "text/modifier_rows", &rows, &shape, e));
    int rc = sd_text_rows_set(m, rows, (int)shape.d[0], e);
    free(rows);
    return rc;
}

/* ---- e2e ---- */

/* Ascending, distinct, without modifier ids. */
static int32_t *used_ids(const sd *m, const int32_t *ids, size_t count, size_t *n)
{
    int vocab = sd_text_shape(m)->vocab;
    bool *used = NEW_N(bool, vocab);
    int32_t *list = NEW_N(int32_t, count + 1);

    for (size_t i = 0; i < count; i++)
        if (ids[i] >= 0 && ids[i] < vocab)
            used[ids[i]] = true;
    *n = 0;
    for (int32_t id = 0; id < vocab; id++)
        if (used[id])
            list[(*n)++] = id;
    free(used);
    return list;
}

typedef struct { nn_tensor ids, loss; size_t words; int32_t *id; } end_to_end;

static int write_e2e(golden *g, sd *m, probe *p, bool detach_first, end_to_end *out, err *e)
{
    nn_graph *graph = probe_graph(p);
    float *x0 = NULL, *noise = NULL;
    int32_t *steps = NULL, *ids;
    st_tensor s, words;

    TRY(golden_i32(g, "e2e/input_ids", &ids, &words, e));
    out->ids = probe_input(p, nn_input(graph, "ids", I32, NN_SHAPE(words.d[0], words.d[1])), ids);
    out->id = ids;
    out->words = words.count;
    int rc = golden_f32_nhwc(g, "e2e/latents", &x0, &s, e);
    if (rc == 0)
        rc = golden_f32_nhwc(g, "e2e/noise", &noise, NULL, e);
    if (rc == 0)
        rc = golden_i32(g, "e2e/timesteps", &steps, NULL, e);
    if (rc == 0) {
        size_t n = (size_t)s.d[0], each = s.count / n;
        float *noisy = NEW_N(float, s.count), *target = NEW_N(float, s.count), *t = NEW_N(float, n);
        for (size_t i = 0; i < n; i++) {
            schedule_add_noise(sd_schedule(m), steps[i], x0 + i * each, noise + i * each, noisy + i * each, each);
            schedule_target(sd_schedule(m), steps[i], x0 + i * each, noise + i * each, target + i * each, each);
            t[i] = (float)steps[i];
        }
        nn_shape map = NN_SHAPE(s.d[0], s.d[2], s.d[3], s.d[1]);
        nn_tensor x = probe_input(p, nn_input(graph, "x", F32, map), noisy);
        nn_tensor want = probe_input(p, nn_input(graph, "target", F32, map), target);
        nn_tensor time = probe_input(p, nn_input(graph, "t", F32, NN_SHAPE(s.d[0])), t);
        nn_tensor text = sd_text_write(graph, m, out->ids, NULL);
        nn_tensor eps = sd_unet_write(graph, m, x, time, text, detach_first);
        out->loss = nn_scale(graph, nn_sum_to(graph, nn_squared_error(graph, eps, want, NULL), NN_SHAPE(1)),
                             1 / (float)s.count);
    }
    free(x0);
    free(noise);
    free(steps);
    return rc;
}

/* Gradients of whole tables, of which rows are looked up as an embedding looks them up. */
static int run_e2e(golden *g, sd *m, probe *p, bool detach_first, err *e)
{
    nn_graph *graph = probe_graph(p);
    end_to_end x;
    nn_tensor grad[2];
    size_t n;

    TRY(write_e2e(g, m, p, detach_first, &x, e));
    TRY(nn_check(graph, e));
    nn_tensor wrt[2] = {nn_param_find(graph, SD_MODIFIER),
                        nn_param_find(graph, "text_encoder.text_model.embeddings.token_embedding.weight")};
    TRY(nn_backward(graph, x.loss, NULL, wrt, grad, 2, e));
    int32_t *used = used_ids(m, x.id, x.words, &n), *first = NEW_N(int32_t, 1);
    nn_tensor rows = probe_input(p, nn_input(graph, "used", I32, NN_SHAPE(1, (int64_t)n)), used);
    nn_tensor row = probe_input(p, nn_input(graph, "first", I32, NN_SHAPE(1, 1)), first);
    probe_keep(p, detach_first ? "e2e_cd/loss" : "e2e/loss", x.loss);
    probe_keep(p, detach_first ? "e2e_cd/grad_row" : "e2e/grad_row", nn_embedding(graph, grad[0], row, 0));
    probe_keep(p, detach_first ? "e2e_cd/grad_used_rows" : "e2e/grad_used_rows", nn_embedding(graph, grad[1], rows, 0));
    golden_put_i32(g, detach_first ? "e2e_cd/used_ids" : "e2e/used_ids", used, n);
    return probe_run(p, e);
}

static int check_e2e(golden *g, sd *m, bool detach_first, err *e)
{
    probe *p = probe_new(g, m);
    int rc = run_e2e(g, m, p, detach_first, e);

    probe_free(p);
    return rc;
}

/* ---- cfg ---- */

typedef struct { float *said, *x; size_t count; int32_t *t; const sampler *s; } seen;

static void watch(void *arg, int call, const float *said, const float *x)
{
    seen *v = arg;

    memcpy(v->said + (size_t)call * v->count, said, v->count * sizeof *said);
    memcpy(v->x + (size_t)call * v->count, x, v->count * sizeof *x);
    v->t[call] = sampler_timestep(v->s, call);
}

static char *entry(const char *run, const char *what)
{
    str s = {0};

    str_add(&s, "%s/%s", run, what);
    return s.at;
}

/* Steps follow from how many timesteps are expected: PNDM makes one call more. */
static int steps_of(const golden *g, const char *run, const char *kind, int *out, err *e)
{
    const st_tensor *t;
    char *name = entry(run, "timesteps");
    int rc = golden_tensor(g, name, &t, e);

    if (rc == 0)
        *out = (int)t->count - (strcmp(kind, "pndm") == 0);
    free(name);
    return rc;
}

static void put_seen(golden *g, const char *run, const seen *v, const st_tensor *map)
{
    char *said = entry(run, "eps"), *x = entry(run, "latents"), *t = entry(run, "timesteps");
    int64_t calls = sampler_calls(v->s);

    golden_put_nhwc(g, said, v->said, calls, map->d[2], map->d[3], map->d[1]);
    golden_put_nhwc(g, x, v->x, calls, map->d[2], map->d[3], map->d[1]);
    golden_put_i32(g, t, v->t, (size_t)calls);
    free(said);
    free(x);
    free(t);
}

static int put_image(golden *g, sd *m, const char *run, const float *x, const st_tensor *map, err *e)
{
    int64_t f = vae_factor(sd_vae_shape(m)), h = map->d[2] * f, w = map->d[3] * f, c = sd_vae_shape(m)->out;
    char *name = entry(run, "image");
    float *pixels = NEW_N(float, h * w * c);
    int rc = golden_wants(g, name) ? sample_decode(m, x, (int)map->d[2], (int)map->d[3], pixels, e) : 0;

    if (rc == 0)
        golden_put_nhwc(g, name, pixels, 1, h, w, c);
    free(pixels);
    free(name);
    return rc;
}

static int denoise(golden *g, sd *m, const char *run, const schedule *noise, sample_loop *l, err *e)
{
    const char *kind = strchr(run, '/') + 1;
    st_tensor map;
    float *x;
    sampler *s = NULL;
    int steps, rc;

    TRY(steps_of(g, run, kind, &steps, e));
    TRY(golden_f32_nhwc(g, "cfg/x_T", &x, &map, e));
    l->h = (int)map.d[2], l->w = (int)map.d[3];
    rc = sampler_new(&s, kind, noise, steps, 0, map.count, e);
    if (rc == 0) {
        size_t calls = (size_t)sampler_calls(s);
        seen v = {NEW_N(float, calls * map.count), NEW_N(float, calls * map.count), map.count, NEW_N(int32_t, calls), s};
        l->watch = watch;
        l->arg = &v;
        rc = sample_denoise(l, s, x, e);
        if (rc == 0) {
            put_seen(g, run, &v, &map);
            rc = put_image(g, m, run, x, &map, e);
        }
        free(v.said);
        free(v.x);
        free(v.t);
    }
    sampler_free(s);
    free(x);
    return rc;
}

static int check_cfg(golden *g, sd *m, const char *run, const json_t *config, err *e)
{
    int32_t *ids = NULL;
    float *scale = NULL, *text = NULL;
    schedule noise;
    st_tensor words;

    TRY(schedule_from(&noise, config, e));
    int rc = golden_i32(g, "cfg/input_ids", &ids, &words, e);
    if (rc == 0)
        rc = golden_f32(g, "cfg/guidance_scale", &scale, NULL, e);
    if (rc == 0) {
        size_t each = (size_t)words.d[1] * (size_t)sd_text_shape(m)->width;
        text = NEW_N(float, 2 * each);
        rc = sd_text_encode(m, ids, 2, (int)words.d[1], text, e);
        sample_loop l = {.model = m, .tokens = (int)words.d[1], .cond = text, .uncond = text + each,
                         .guidance = (double)scale[0]};
        if (rc == 0)
            rc = denoise(g, m, run, &noise, &l, e);
    }
    free(ids);
    free(scale);
    free(text);
    schedule_free(&noise);
    return rc;
}

static int check_all_cfg(golden *g, sd *m, err *e)
{
    const char *run;
    json_t *config;

    json_object_foreach(json_object_get(golden_json(g, GOLDEN_MAIN), "schedulers"), run, config)
    {
        char *prefix = entry(run, "");
        bool wanted = str_starts(run, "cfg/") && golden_wants_any(g, prefix);

        free(prefix);
        if (wanted && check_cfg(g, m, run, config, e) != 0)
            return err_wrap(e, "%s", run);
    }
    return 0;
}

int check_sample(golden *g, err *e)
{
    sd *m;

    if (!golden_wants_any(g, "e2e") && !golden_wants_any(g, "cfg/"))
        return 0;
    TRY(golden_sd(g, &m, e));
    TRY(set_modifiers(g, m, e));
    if (golden_wants_any(g, "e2e/"))
        TRY(check_e2e(g, m, false, e));
    if (golden_wants_any(g, "e2e_cd/"))
        TRY(check_e2e(g, m, true, e));
    return check_all_cfg(g, m, e);
}
