#include "trainer/scratch/eye.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/safetensors.h"
#include "data/toyworld/world.h"

enum { LEVELS = 5, GROUPS = 8, LAST = 96, INNER = 192 };
enum { FLATTENED = LAST * (WORLD_SIDE >> LEVELS) * (WORLD_SIDE >> LEVELS) };
static const int CHANNELS[LEVELS] = {16, 32, 64, 96, LAST};

static int add_weight(nn_params *p, uint64_t seed, const char *name, nn_shape shape, float centre, int inputs, err *e)
{
    const rng_stream s = rng_open(seed, name, 0, 0);
    const size_t n = (size_t)nn_count(shape);
    float *x = NEW_N(float, n);

    for (size_t i = 0; i < n; i++)
        x[i] = centre + (inputs ? sqrtf(2.0F / (float)inputs) * rng_normal(s, i) : 0);
    int rc = nn_params_set(p, name, shape, x, e);
    free(x);
    return rc;
}

int eye_begin(nn_params *p, int answers, uint64_t seed, err *e)
{
    char name[64];

    for (int i = 0; i < LEVELS; i++) {
        const int in = i ? CHANNELS[i - 1] : 3;
        snprintf(name, sizeof name, "conv%d.weight", i);
        TRY(add_weight(p, seed, name, NN_SHAPE(CHANNELS[i], in, 3, 3), 0, 9 * in, e));
        snprintf(name, sizeof name, "norm%d.weight", i);
        TRY(add_weight(p, seed, name, NN_SHAPE(CHANNELS[i]), 1, 0, e));
        snprintf(name, sizeof name, "norm%d.bias", i);
        TRY(add_weight(p, seed, name, NN_SHAPE(CHANNELS[i]), 0, 0, e));
    }
    TRY(add_weight(p, seed, "inner.weight", NN_SHAPE(INNER, FLATTENED), 0, FLATTENED, e));
    TRY(add_weight(p, seed, "inner.bias", NN_SHAPE(INNER), 0, 0, e));
    TRY(add_weight(p, seed, "answers.weight", NN_SHAPE(answers, INNER), 0, INNER, e));
    return add_weight(p, seed, "answers.bias", NN_SHAPE(answers), 0, 0, e);
}

nn_tensor eye_write(nn_graph *g, nn_tensor x, int answers)
{
    char name[64];
    int in = 3;

    for (int i = 0; i < LEVELS; i++) {
        snprintf(name, sizeof name, "conv%d.weight", i);
        x = nn_conv2d(g, x, nn_param(g, name, NN_SHAPE(CHANNELS[i], 3, 3, in)), NULL, (nn_conv){2, {1, 1, 1, 1}});
        in = CHANNELS[i];
        snprintf(name, sizeof name, "norm%d.weight", i);
        nn_tensor w = nn_param(g, name, NN_SHAPE(in));
        snprintf(name, sizeof name, "norm%d.bias", i);
        x = nn_silu(g, nn_group_norm(g, x, w, nn_param(g, name, NN_SHAPE(in)), GROUPS, 1e-5F));
    }
    x = nn_reshape(g, x, NN_SHAPE(nn_shape_get(x).d[0], FLATTENED));
    x = nn_linear(g, x, nn_param(g, "inner.weight", NN_SHAPE(INNER, FLATTENED)), nn_param(g, "inner.bias", NN_SHAPE(INNER)));
    x = nn_silu(g, x);
    return nn_linear(g, x, nn_param(g, "answers.weight", NN_SHAPE(answers, INNER)), nn_param(g, "answers.bias", NN_SHAPE(answers)));
}

/* ---- one that has learnt ---- */

struct eye {
    safetensors *file;
    nn_params *weights;
    nn_graph *graph;
    nn_plan *plan;
    nn_tensor pixels, logits;
};

static int prepare(eye *x, const char *file, int answers, nn_backend *on, err *e)
{
    TRY(st_open(&x->file, file, e));
    x->weights = nn_params_new(on);
    TRY(nn_params_add_file(x->weights, x->file, "", e));
    x->graph = nn_graph_new();
    x->pixels = nn_input(x->graph, "pixels", F32, NN_SHAPE(1, WORLD_SIDE, WORLD_SIDE, 3));
    x->logits = eye_write(x->graph, x->pixels, answers);
    return nn_plan_new(&x->plan, x->graph, x->weights, &x->logits, 1, e);
}

int eye_open(eye **out, const char *file, int answers, nn_backend *on, err *e)
{
    eye *x = NEW(eye);
    int rc = prepare(x, file, answers, on, e);

    if (rc != 0) {
        eye_close(x);
        return rc;
    }
    *out = x;
    return 0;
}

int eye_look(eye *x, const float *pixels, float *logits, err *e)
{
    TRY(nn_write(x->plan, x->pixels, pixels, (size_t)WORLD_SIDE * WORLD_SIDE * 3 * sizeof *pixels, e));
    TRY(nn_run(x->plan, e));
    return nn_read(x->plan, x->logits, logits, (size_t)nn_count(nn_shape_get(x->logits)) * sizeof *logits, e);
}

void eye_close(eye *x)
{
    if (!x)
        return;
    nn_plan_free(x->plan);
    nn_graph_free(x->graph);
    nn_params_free(x->weights);
    st_close(x->file);
    free(x);
}
