/* The noise schedule; see schedule.h. */
#include "trainer/diffusion/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

/* ---- reading scheduler_config.json ---- */

typedef struct { const char *word; int value; } choice;

/* words ended by NULL, the first being the fallback. */
static int choose(const json_t *config, const char *key, const choice *words, int *out, err *e)
{
    const char *is;

    TRY(json_opt_text(config, key, words[0].word, &is, e));
    for (const choice *w = words; w->word; w++)
        if (strcmp(w->word, is) == 0) {
            *out = w->value;
            return 0;
        }
    return err_set(e, ERR_INPUT, "%s %s is not built", key, is);
}

enum { BETAS_LINEAR, BETAS_SCALED };
static const choice BETAS[] = {{"linear", BETAS_LINEAR}, {"scaled_linear", BETAS_SCALED}, {0}};
static const choice PREDICTIONS[] = {{"epsilon", PREDICT_EPSILON}, {"v_prediction", PREDICT_V}, {0}};
static const choice SPACINGS[] = {{"", SPACING_DEFAULT}, {"leading", SPACING_LEADING}, {"linspace", SPACING_LINSPACE},
                                  {"trailing", SPACING_TRAILING}, {0}};

/* What would change every number and is not built must be off. */
static int check_off(const json_t *config, err *e)
{
    static const char *const OFF[] = {"clip_sample", "thresholding", "rescale_betas_zero_snr", "use_karras_sigmas"};
    bool on;

    for (size_t i = 0; i < sizeof OFF / sizeof *OFF; i++) {
        TRY(json_opt_bool(config, OFF[i], false, &on, e));
        if (on)
            return err_set(e, ERR_INPUT, "%s true is not built (false is)", OFF[i]);
    }
    const json_t *given = json_object_get(config, "trained_betas");
    if (given && !json_is_null(given))
        return err_set(e, ERR_INPUT, "trained_betas are not built (beta_start and beta_end are)");
    return 0;
}

/* torch.linspace in f32: counted from the nearer end. */
static float linspace(float from, float to, int n, int i)
{
    float step = n > 1 ? (to - from) / (float)(n - 1) : 0;

    return i < n / 2 ? from + step * (float)i : to - step * (float)(n - 1 - i);
}

static void fill_betas(schedule *s, double from, double to, int how)
{
    bool scaled = how == BETAS_SCALED; /* linear in the square root */
    float a = (float)(scaled ? sqrt(from) : from), b = (float)(scaled ? sqrt(to) : to);
    double product = 1;

    s->betas = NEW_N(float, s->steps);
    s->acp = NEW_N(float, s->steps);
    for (int i = 0; i < s->steps; i++) {
        float x = linspace(a, b, s->steps, i);

        s->betas[i] = scaled ? x * x : x;
        product *= (double)(1 - s->betas[i]);
        s->acp[i] = (float)product;
    }
}

int schedule_from(schedule *out, const json_t *config, err *e)
{
    schedule s = {0};
    int betas = 0, prediction = 0, spacing = 0;
    int64_t steps, offset;
    double from, to;

    TRY(check_off(config, e));
    TRY(json_opt_int(config, "num_train_timesteps", 1, 1 << 20, 1000, &steps, e));
    TRY(json_opt_int(config, "steps_offset", 0, 1 << 20, 0, &offset, e));
    TRY(json_opt_real(config, "beta_start", 0.0001, &from, e));
    TRY(json_opt_real(config, "beta_end", 0.02, &to, e));
    TRY(json_opt_bool(config, "set_alpha_to_one", false, &s.set_alpha_to_one, e));
    TRY(choose(config, "beta_schedule", BETAS, &betas, e));
    TRY(choose(config, "prediction_type", PREDICTIONS, &prediction, e));
    TRY(choose(config, "timestep_spacing", SPACINGS, &spacing, e));
    if (!(from > 0 && to >= from && to < 1))
        return err_set(e, ERR_INPUT, "beta_start %g and beta_end %g where 0 < beta_start <= beta_end < 1 is wanted", from, to);
    s.steps = (int)steps;
    s.steps_offset = (int)offset;
    s.prediction = (schedule_prediction)prediction;
    s.spacing = (schedule_spacing)spacing;
    fill_betas(&s, from, to, betas);
    *out = s;
    return 0;
}

void schedule_free(schedule *s)
{
    free(s->betas);
    free(s->acp);
    *s = (schedule){0};
}

/* ---- using it ---- */

float schedule_alpha(const schedule *s, int t)
{
    CHECK(t >= 0 && t < s->steps);
    return sqrtf(s->acp[t]);
}

float schedule_sigma(const schedule *s, int t)
{
    CHECK(t >= 0 && t < s->steps);
    return sqrtf(1 - s->acp[t]);
}

void schedule_add_noise(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count)
{
    float alpha = schedule_alpha(s, t), sigma = schedule_sigma(s, t);

    for (size_t i = 0; i < count; i++)
        out[i] = alpha * x0[i] + sigma * noise[i];
}

void schedule_velocity(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count)
{
    float alpha = schedule_alpha(s, t), sigma = schedule_sigma(s, t);

    for (size_t i = 0; i < count; i++)
        out[i] = alpha * noise[i] - sigma * x0[i];
}

void schedule_target(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count)
{
    if (s->prediction == PREDICT_V)
        schedule_velocity(s, t, x0, noise, out, count);
    else
        memcpy(out, noise, count * sizeof *out);
}
