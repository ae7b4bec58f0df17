/* The autoencoder: moments, a sample of them, a decoded picture, and another size. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "tests/golden/probe.h"

static int encode(golden *g, sd *m, err *e)
{
    const vae_shape *v = sd_vae_shape(m);
    int64_t f = vae_factor(v);
    st_tensor s;
    float *image, *noise = NULL;

    TRY(golden_f32_nhwc(g, "vae/image", &image, &s, e));
    int64_t n = s.d[0], h = s.d[2], w = s.d[3], count = n * (h / f) * (w / f) * v->latent;
    float *mean = NEW_N(float, count), *logvar = NEW_N(float, count);
    int rc = sd_vae_encode(m, image, (int)n, (int)h, (int)w, mean, logvar, e);
    if (rc == 0) {
        golden_put_nhwc(g, "vae/mean", mean, n, h / f, w / f, v->latent);
        golden_put_nhwc(g, "vae/logvar", logvar, n, h / f, w / f, v->latent);
    }
    if (rc == 0 && golden_wants(g, "vae/latent"))
        rc = golden_f32_nhwc(g, "vae/sample_noise", &noise, NULL, e);
    if (rc == 0 && noise) {
        vae_sample(v, mean, logvar, noise, mean, (size_t)count);
        golden_put_nhwc(g, "vae/latent", mean, n, h / f, w / f, v->latent);
    }
    free(image);
    free(noise);
    free(mean);
    free(logvar);
    return rc;
}

static int encode_other(golden *g, sd *m, err *e)
{
    const vae_shape *v = sd_vae_shape(m);
    int64_t f = vae_factor(v);
    st_tensor s;
    float *image;

    TRY(golden_f32_nhwc(g, "vae_other/image", &image, &s, e));
    int64_t n = s.d[0], h = s.d[2] / f, w = s.d[3] / f;
    float *mean = NEW_N(float, n * h * w * v->latent), *logvar = NEW_N(float, n * h * w * v->latent);
    int rc = sd_vae_encode(m, image, (int)n, (int)s.d[2], (int)s.d[3], mean, logvar, e);
    if (rc == 0)
        golden_put_nhwc(g, "vae_other/mean", mean, n, h, w, v->latent);
    free(image);
    free(mean);
    free(logvar);
    return rc;
}

static int decode(golden *g, sd *m, err *e)
{
    const vae_shape *v = sd_vae_shape(m);
    int64_t f = vae_factor(v);
    st_tensor s;
    float *latent;

    TRY(golden_f32_nhwc(g, "vae/latent_in", &latent, &s, e));
    int64_t n = s.d[0], h = s.d[2], w = s.d[3];
    float *pixels = NEW_N(float, n * h * f * w * f * v->out);
    int rc = sd_vae_decode(m, latent, (int)n, (int)h, (int)w, pixels, e);
    if (rc == 0)
        golden_put_nhwc(g, "vae/decoded", pixels, n, h * f, w * f, v->out);
    free(latent);
    free(pixels);
    return rc;
}

/* What the modules on the way give. */
static int inside(golden *g, sd *m, err *e)
{
    probe *p = probe_new(g, m);
    nn_graph *graph = probe_graph(p);
    float *image = NULL, *latent = NULL;
    st_tensor a, b;
    int rc = golden_f32_nhwc(g, "vae/image", &image, &a, e);

    if (rc == 0)
        rc = golden_f32_nhwc(g, "vae/latent_in", &latent, &b, e);
    if (rc == 0) {
        nn_tensor x = nn_input(graph, "x", F32, NN_SHAPE(a.d[0], a.d[2], a.d[3], a.d[1]));
        nn_tensor z = nn_input(graph, "z", F32, NN_SHAPE(b.d[0], b.d[2], b.d[3], b.d[1]));
        nn_enter(graph, "vae");
        vae_encode_write(graph, sd_vae_shape(m), probe_input(p, x, image));
        vae_decode_write(graph, sd_vae_shape(m), probe_input(p, z, latent));
        nn_leave(graph);
        probe_debug(p, "vae/debug/", "vae.", 0);
        rc = probe_run(p, e);
    } else {
        free(image);
        free(latent);
    }
    probe_free(p);
    return rc;
}

int check_vae(golden *g, err *e)
{
    sd *m;

    if (!golden_wants_any(g, "vae"))
        return 0;
    TRY(golden_sd(g, &m, e));
    if (golden_wants(g, "vae/mean") || golden_wants(g, "vae/logvar") || golden_wants(g, "vae/latent"))
        TRY(encode(g, m, e));
    if (golden_wants(g, "vae/decoded"))
        TRY(decode(g, m, e));
    if (golden_wants(g, "vae_other/mean"))
        TRY(encode_other(g, m, e));
    if (golden_wants_any(g, "vae/debug/"))
        TRY(inside(g, m, e));
    return 0;
}
