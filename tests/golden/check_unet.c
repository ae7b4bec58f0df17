/* The UNet: its output, the loss, gradients with ordinary attention (unet/) and with the first token's K and V detached
 * (unet_cd/), latents whose sides are not multiples of 8, and a short context. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "tests/golden/probe.h"

typedef struct {
    float *noisy, *target, *t, *context;   /* [n,h,w,c], the same, [n], [n,tokens,width] */
    int64_t n, h, w, c, tokens, width;
} sample;

static void free_sample(sample *s)
{
    free(s->noisy);
    free(s->target);
    free(s->t);
    free(s->context);
}

static void put_maps(golden *g, const char *name, const float *data, const sample *s)
{
    golden_put_nhwc(g, name, data, s->n, s->h, s->w, s->c);
}

static int read_sample(golden *g, const sd *m, sample *s, err *e)
{
    float *x0 = NULL, *noise = NULL;
    int32_t *t = NULL;
    st_tensor shape;
    int rc;

    *s = (sample){0};
    TRY(golden_f32(g, "unet/context", &s->context, &shape, e));
    s->tokens = shape.d[1], s->width = shape.d[2];
    rc = golden_f32_nhwc(g, "unet/latents", &x0, &shape, e);
    if (rc == 0)
        rc = golden_f32_nhwc(g, "unet/noise", &noise, NULL, e);
    if (rc == 0)
        rc = golden_i32(g, "unet/timesteps", &t, NULL, e);
    if (rc == 0) {
        s->n = shape.d[0], s->c = shape.d[1], s->h = shape.d[2], s->w = shape.d[3];
        size_t each = (size_t)(s->h * s->w * s->c);
        s->noisy = NEW_N(float, (size_t)s->n * each);
        s->target = NEW_N(float, (size_t)s->n * each);
        s->t = NEW_N(float, s->n);
        for (int64_t i = 0; i < s->n; i++) {
            size_t at = (size_t)i * each;
            schedule_add_noise(sd_schedule(m), t[i], x0 + at, noise + at, s->noisy + at, each);
            schedule_target(sd_schedule(m), t[i], x0 + at, noise + at, s->target + at, each);
            s->t[i] = (float)t[i];
        }
        put_maps(g, "unet/noisy", s->noisy, s);
        put_maps(g, "unet/target", s->target, s);
    }
    free(x0);
    free(noise);
    free(t);
    return rc;
}

/* The mean of (a - b)^2 over all elements. */
static nn_tensor mean_square(nn_graph *g, nn_tensor a, nn_tensor b)
{
    float by = 1 / (float)nn_count(nn_shape_get(a));

    return nn_scale(g, nn_sum_to(g, nn_squared_error(g, a, b, NULL), NN_SHAPE(1)), by);
}

/* The whole graph under the entries unet/ or unet_cd/. */
static int run(golden *g, sd *m, const sample *s, bool detach_first, err *e)
{
    probe *p = probe_new(g, m);
    nn_graph *graph = probe_graph(p);
    nn_shape map = NN_SHAPE(s->n, s->h, s->w, s->c);
    size_t bytes = (size_t)nn_count(map) * sizeof(float);
    nn_tensor x = probe_input(p, nn_input(graph, "x", F32, map), mem_copy(s->noisy, bytes));
    nn_tensor target = probe_input(p, nn_input(graph, "target", F32, map), mem_copy(s->target, bytes));
    nn_tensor t = probe_input(p, nn_input(graph, "t", F32, NN_SHAPE(s->n)), mem_copy(s->t, (size_t)s->n * sizeof(float)));
    nn_tensor text = probe_input(p, nn_input(graph, "text", F32, NN_SHAPE(s->n, s->tokens, s->width)),
                                 mem_copy(s->context, (size_t)(s->n * s->tokens * s->width) * sizeof(float)));
    nn_tensor eps = sd_unet_write(graph, m, x, t, text, detach_first);

    if (!detach_first) {
        probe_debug(p, "unet/debug/", "unet.", 0);
        probe_debug(p, "unet/time_proj", "unet.time_proj", -1);
        probe_keep(p, "unet/eps", eps);
    }
    nn_tensor loss = mean_square(graph, eps, target);
    if (!detach_first)
        probe_keep(p, "unet/loss", loss);
    probe_wrt_params(p, detach_first ? "unet_cd/grad/" : "unet/grad/", "unet.");
    probe_wrt(p, detach_first ? "unet_cd/grad_context" : "unet/grad_context", text);
    probe_wrt(p, detach_first ? "unet_cd/grad_noisy" : "unet/grad_noisy", x);
    int rc = probe_backward(p, loss, NULL, e);
    if (rc == 0)
        rc = probe_run(p, e);
    probe_free(p);
    return rc;
}

/* The first rows of the context alone: 11, as golden/README.md says. */
static int run_short(golden *g, sd *m, const sample *s, err *e)
{
    int64_t few = s->tokens < 11 ? s->tokens : 11;
    float *text = NEW_N(float, s->n * few * s->width), *out = NEW_N(float, s->n * s->h * s->w * s->c);

    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < few * s->width; k++)
            text[i * few * s->width + k] = s->context[i * s->tokens * s->width + k];
    int rc = sd_unet(m, s->noisy, s->t, text, (int)s->n, (int)s->h, (int)s->w, (int)few, out, e);
    if (rc == 0)
        put_maps(g, "unet_shortctx/eps", out, s);
    free(text);
    free(out);
    return rc;
}

static int run_ragged(golden *g, sd *m, const sample *s, err *e)
{
    st_tensor z;
    float *x;

    TRY(golden_f32_nhwc(g, "unet_ragged/noisy", &x, &z, e));
    sample ragged = {.n = z.d[0], .c = z.d[1], .h = z.d[2], .w = z.d[3]};
    float *out = NEW_N(float, z.count);
    int rc = z.d[0] != 1 ? err_set(e, ERR_SHAPE, "unet_ragged/noisy has %lld samples where 1 is wanted", (long long)z.d[0])
                         : sd_unet(m, x, s->t, s->context, 1, (int)z.d[2], (int)z.d[3], (int)s->tokens, out, e);
    if (rc == 0)
        put_maps(g, "unet_ragged/eps", out, &ragged);
    free(x);
    free(out);
    return rc;
}

int check_unet(golden *g, err *e)
{
    sd *m;
    sample s;

    if (!golden_wants_any(g, "unet"))
        return 0;
    TRY(golden_sd(g, &m, e));
    int rc = read_sample(g, m, &s, e);
    if (rc == 0 && golden_wants_any(g, "unet/"))
        rc = run(g, m, &s, false, e);
    if (rc == 0 && golden_wants_any(g, "unet_cd/"))
        rc = run(g, m, &s, true, e);
    if (rc == 0 && golden_wants(g, "unet_shortctx/eps"))
        rc = run_short(g, m, &s, e);
    if (rc == 0 && golden_wants(g, "unet_ragged/eps"))
        rc = run_ragged(g, m, &s, e);
    free_sample(&s);
    return rc;
}
