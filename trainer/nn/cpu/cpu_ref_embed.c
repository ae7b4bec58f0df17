/* The meaning of embeddings of words and of times. */
#include <math.h>
#include <string.h>

#include "trainer/nn/cpu/cpu.h"

static int run_embedding(nn_backend *b, const nn_call *c)
{
    const int32_t *ids = c->in[1];
    int64_t width = c->y->shape.d[c->y->shape.n - 1], n = nn_count(c->y->src[1]->shape);

    (void)b;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = ids[i] - c->y->at.embed.first;
        float *out = (float *)c->out + i * width;
        if (row >= 0 && row < c->y->at.embed.rows)
            memcpy(out, (const float *)c->in[0] + row * width, (size_t)width * sizeof *out);
        else
            memset(out, 0, (size_t)width * sizeof *out);
    }
    return 0;
}

static int run_embedding_grad(nn_backend *b, const nn_call *c)
{
    const int32_t *ids = c->in[0];
    const float *dy = c->in[1];
    int64_t width = c->y->shape.d[1], n = nn_count(c->y->src[0]->shape);

    (void)b;
    memset(c->out, 0, (size_t)nn_bytes(c->y));
    for (int64_t i = 0; i < n; i++) {
        int64_t row = ids[i] - c->y->at.embed.first;
        if (row < 0 || row >= c->y->at.embed.rows)
            continue;
        for (int64_t k = 0; k < width; k++)
            ((float *)c->out)[row * width + k] += dy[i * width + k];
    }
    return 0;
}

/* Ho 2020 as diffusers writes it, every step in f32: freq_i = exp(-ln(10000) i / (half - shift)), then sin and cos of
 * t freq_i. An odd width ends in a zero. */
static int run_timestep_embedding(nn_backend *b, const nn_call *c)
{
    const float *t = c->in[0];
    int64_t n = c->y->shape.d[0], dim = c->y->at.wave.dim, half = dim / 2;
    bool flip = c->y->at.wave.flip;

    (void)b;
    memset(c->out, 0, (size_t)nn_bytes(c->y));
    for (int64_t i = 0; i < half; i++) {
        float freq = expf((float)-9.210340371976184 * (float)i / ((float)half - c->y->at.wave.shift));
        for (int64_t k = 0; k < n; k++) {
            float *out = (float *)c->out + k * dim;
            out[flip ? i + half : i] = sinf(t[k] * freq);
            out[flip ? i : i + half] = cosf(t[k] * freq);
        }
    }
    return 0;
}

const nn_kernel cpu_ref_embedding = {.name = "cpu.embedding.ref", .takes = cpu_needs_f32, .run = run_embedding};
const nn_kernel cpu_ref_embedding_grad = {
    .name = "cpu.embedding_grad.ref", .takes = cpu_needs_f32, .run = run_embedding_grad};
const nn_kernel cpu_ref_timestep_embedding = {
    .name = "cpu.timestep_embedding.ref", .takes = cpu_needs_f32, .run = run_timestep_embedding};
