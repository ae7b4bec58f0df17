#include "trainer/scratch/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"

static const double BETA1 = 0.9, BETA2 = 0.99, EPS = 1e-8;

struct fit {
    nn_params *weights;
    fit_opts how;
    nn_tensor result, seed, norm2, hyper;
    nn_graph *norm_graph, *update_graph;
    nn_plan *forward, *grad, *norm, *update;
    size_t count;
    int64_t step;
    float *mean, *now; /* [count] */
};

/* ---- making it ---- */

static int list_used(const nn_params *p, const nn_graph *g, const char *only, const char ***names, int *n, err *e)
{
    const char *name;

    *names = NULL;
    *n = 0;
    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++)
        if ((!only || str_starts(name, only)) && nn_param_find(g, name)) {
            *names = mem_grow(*names, (size_t)*n + 1, sizeof **names);
            (*names)[(*n)++] = name;
        }
    return *n > 0 ? 0 : err_set(e, ERR_INPUT, "the graph uses none of the weights");
}

static int plan_grad(fit *f, nn_graph *g, const char **names, int n, err *e)
{
    nn_tensor *wrt = NEW_N(nn_tensor, n), *keep = NEW_N(nn_tensor, n + 1);
    int rc;

    for (int i = 0; i < n; i++)
        wrt[i] = nn_param_find(g, names[i]);
    rc = nn_backward(g, f->result, f->seed, wrt, keep, n, e);
    keep[n] = f->result;
    if (rc == 0)
        rc = nn_plan_new(&f->grad, g, f->weights, keep, n + 1, e);
    for (int i = 0; i < n && rc == 0; i++) {
        size_t at, count;
        rc = nn_params_trained_at(f->weights, names[i], &at, &count, e);
        if (rc == 0)
            rc = nn_keep_in(f->grad, keep[i], "train.g", at, e);
    }
    free(wrt);
    free(keep);
    return rc;
}

static int plan_update(fit *f, err *e)
{
    const nn_shape all = NN_SHAPE(1, (int64_t)f->count);
    nn_graph *g = f->norm_graph = nn_graph_new();

    f->norm2 = nn_sum_squares(g, nn_state(g, "train.g", all));
    TRY(nn_plan_new(&f->norm, g, f->weights, &f->norm2, 1, e));
    g = f->update_graph = nn_graph_new();
    f->hyper = nn_input(g, "hyper", F32, NN_SHAPE(1, NN_ADAMW_HYPER));
    nn_adamw(g, nn_state(g, "train.w", all), nn_state(g, "train.m", all), nn_state(g, "train.v", all), nn_state(g, "train.g", all),
             f->hyper, NULL);
    return nn_plan_new(&f->update, g, f->weights, NULL, 0, e);
}

static int prepare(fit *f, nn_graph *g, err *e)
{
    const char **names;
    int n;

    TRY(nn_check(g, e));
    TRY(list_used(f->weights, g, f->how.only, &names, &n, e));
    int rc = nn_params_train(f->weights, names, n, e);
    if (rc == 0 && f->seed)
        rc = nn_plan_new(&f->forward, g, f->weights, &f->result, 1, e);
    if (rc == 0)
        rc = plan_grad(f, g, names, n, e);
    free(names);
    TRY(rc);
    f->count = nn_params_trained_count(f->weights);
    f->mean = NEW_N(float, f->count);
    f->now = NEW_N(float, f->count);
    TRY(nn_params_state_read(f->weights, "train.w", f->mean, f->count, e));
    return plan_update(f, e);
}

int fit_new(fit **out, nn_params *weights, nn_graph *g, nn_tensor result, nn_tensor seed, const fit_opts *how, err *e)
{
    fit *f = NEW(fit);

    *f = (fit){.weights = weights, .how = *how, .result = result, .seed = seed};
    int rc = prepare(f, g, e);
    if (rc != 0) {
        fit_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

void fit_free(fit *f)
{
    if (!f)
        return;
    nn_plan_free(f->forward);
    nn_plan_free(f->grad);
    nn_plan_free(f->norm);
    nn_plan_free(f->update);
    nn_graph_free(f->norm_graph);
    nn_graph_free(f->update_graph);
    free(f->mean);
    free(f->now);
    free(f);
}

/* ---- a step ---- */

int fit_write(fit *f, nn_tensor input, const void *from, err *e)
{
    const size_t bytes = (size_t)nn_count(nn_shape_get(input)) * sizeof(float);

    if (f->forward && input != f->seed)
        TRY(nn_write(f->forward, input, from, bytes, e));
    return nn_write(f->grad, input, from, bytes, e);
}

int fit_forward(fit *f, float *result, err *e)
{
    TRY(nn_run(f->forward, e));
    return nn_read(f->forward, f->result, result, (size_t)nn_count(nn_shape_get(f->result)) * sizeof(float), e);
}

/* Up, level, down (Hu et al. 2024, MiniCPM): the level part can be gone on with for a longer `until`. */
static double rate(const fit *f)
{
    const double t = (double)f->step, all = (double)f->how.until, up = fmin(1, t / fmax(1, f->how.warmup));

    return f->how.lr * (f->how.until ? fmin(up, fmax(0, all - t) / (0.2 * all)) : up);
}

static int move(fit *f, double norm, err *e)
{
    const double t = (double)f->step, lr = rate(f);
    const double scale = f->how.clip > 0 && norm > f->how.clip ? f->how.clip / norm : 1;
    const float hyper[NN_ADAMW_HYPER] = {
        [ADAMW_LR] = (float)lr, [ADAMW_BETA1] = (float)BETA1, [ADAMW_BETA2] = (float)BETA2, [ADAMW_EPS] = (float)EPS,
        [ADAMW_DECAY] = (float)f->how.weight_decay, [ADAMW_CORRECT1] = (float)(1 - pow(BETA1, t)),
        [ADAMW_CORRECT2] = (float)(1 - pow(BETA2, t)), [ADAMW_GRAD_SCALE] = (float)scale,
    };

    TRY(nn_write(f->update, f->hyper, hyper, sizeof hyper, e));
    return nn_run(f->update, e);
}

/* What stays grows to how.mean, so that the random beginning is forgotten soon (as in TensorFlow's moving averages). */
static int average(fit *f, err *e)
{
    const float stays = (float)fmin(f->how.mean, (1 + (double)f->step) / (10 + (double)f->step));

    TRY(nn_params_state_read(f->weights, "train.w", f->now, f->count, e));
    for (size_t i = 0; i < f->count; i++)
        f->mean[i] = f->now[i] + stays * (f->mean[i] - f->now[i]);
    return 0;
}

int fit_step(fit *f, float *loss, err *e)
{
    float norm2;

    TRY(nn_run(f->grad, e));
    if (!f->seed)
        TRY(nn_read(f->grad, f->result, loss, sizeof *loss, e));
    TRY(nn_run(f->norm, e));
    TRY(nn_read(f->norm, f->norm2, &norm2, sizeof norm2, e));
    if (!isfinite(norm2))
        return err_set(e, ERR_INPUT, "step %lld: the gradient is not a finite number; try a lower rate", (long long)f->step + 1);
    f->step++;
    TRY(move(f, sqrt((double)norm2), e));
    return average(f, e);
}

int64_t fit_steps(const fit *f) { return f->step; }

/* ---- files ---- */

typedef struct { char magic[8]; int64_t step; uint64_t count; } head;
static const char MAGIC[8] = "cfarmfit";

int fit_save(const fit *f, const char *path, err *e)
{
    const size_t bytes = f->count * sizeof(float), all = sizeof(head) + 4 * bytes;
    head h = {.step = f->step, .count = f->count};
    char *out;
    int rc = 0;

    TRY(mem_big((void **)&out, all, "the state of a training", e));
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    memcpy(out, &h, sizeof h);
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = nn_params_state_read(f->weights, (const char *const[]){"train.w", "train.m", "train.v"}[i],
                                  (float *)(void *)(out + sizeof h + (size_t)i * bytes), f->count, e);
    memcpy(out + sizeof h + 3 * bytes, f->mean, bytes);
    if (rc == 0)
        rc = fs_write(path, out, all, e);
    free(out);
    return rc;
}

int fit_load(fit *f, const char *path, bool *found, err *e)
{
    const size_t bytes = f->count * sizeof(float);
    fs_map m;
    head h;
    int rc = 0;

    *found = fs_exists(path);
    if (!*found)
        return 0;
    TRY(fs_map_open(&m, path, e));
    memcpy(&h, m.at, m.n < sizeof h ? m.n : sizeof h);
    if (m.n != sizeof h + 4 * bytes || memcmp(h.magic, MAGIC, sizeof MAGIC) != 0 || h.count != f->count)
        rc = err_set(e, ERR_INPUT, "%s: not the state of this training; remove it to begin anew", path);
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = nn_params_state_write(f->weights, (const char *const[]){"train.w", "train.m", "train.v"}[i],
                                   (const float *)(const void *)(m.at + sizeof h + (size_t)i * bytes), f->count, e);
    if (rc == 0) {
        memcpy(f->mean, m.at + sizeof h + 3 * bytes, bytes);
        f->step = h.step;
    }
    fs_map_close(&m);
    return rc;
}

int fit_swap(fit *f, err *e)
{
    float *was = f->mean;

    TRY(nn_params_state_read(f->weights, "train.w", f->now, f->count, e));
    TRY(nn_params_state_write(f->weights, "train.w", f->mean, f->count, e));
    f->mean = f->now;
    f->now = was;
    return 0;
}

static int half_of(st_tensor *out, nn_params *weights, const char *name, size_t skip, err *e)
{
    nn_shape s;

    TRY(nn_params_shape(weights, name, &s, e));
    const size_t count = (size_t)nn_count(s);
    float *full = NEW_N(float, count);
    uint16_t *half = NEW_N(uint16_t, count);
    *out = (st_tensor){.name = name + skip, .type = F16, .n = s.n, .count = count, .data = half};
    memcpy(out->d, s.d, (size_t)s.n * sizeof *s.d);
    int rc = nn_params_get(weights, name, full, count, e);
    for (size_t i = 0; i < count; i++)
        half[i] = f16_of_f32(full[i]);
    free(full);
    return rc;
}

int fit_write_model(nn_params *weights, const char *scope, const char *begin, const char *path, err *e)
{
    st_tensor *t = NULL;
    const char *name;
    size_t n = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (name = nn_params_name(weights, i)) != NULL; i++)
        if (str_starts(name, scope) && str_starts(name + strlen(scope), begin)) {
            t = mem_grow(t, n + 1, sizeof *t);
            t[n] = (st_tensor){0};
            rc = half_of(&t[n++], weights, name, strlen(scope), e);
        }
    if (rc == 0)
        rc = st_write(path, t, n, NULL, NULL, e);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)t[i].data);
    free(t);
    return rc;
}
