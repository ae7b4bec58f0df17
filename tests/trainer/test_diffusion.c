/* The laws of noise schedules, samplers and learning rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/rng.h"
#include "trainer/diffusion/sampler.h"
#include "trainer/lr.h"

enum { COUNT = 24 };

static int try_schedule(schedule *s, const char *config, err *e)
{
    json_t *j = NULL;
    int rc = json_parse(&j, config, strlen(config), "scheduler_config.json", e);

    if (rc == 0)
        rc = schedule_from(s, j, e);
    json_decref(j);
    return rc;
}

static schedule stable_diffusion(const char *more)
{
    char text[400];
    schedule s = {0};
    err e = {0};

    snprintf(text, sizeof text, "{\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"beta_end\": 0.012, "
             "\"steps_offset\": 1%s%s}", more[0] ? ", " : "", more);
    if (try_schedule(&s, text, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

/* ---- schedules ---- */

static void a_clean_sample_comes_back_from_noise_and_velocity(void **state)
{
    schedule s = stable_diffusion("");
    float x0[COUNT], noise[COUNT], x[COUNT], v[COUNT];

    (void)state;
    rng_normal_fill(rng_open(1, "x0", 0, 0), x0, COUNT);
    rng_normal_fill(rng_open(1, "noise", 0, 0), noise, COUNT);
    for (int t = 0; t < s.steps; t += 37) {
        float a = schedule_alpha(&s, t), b = schedule_sigma(&s, t);
        assert_true(fabsf(a * a + b * b - 1) < 1e-6F);
        schedule_add_noise(&s, t, x0, noise, x, COUNT);
        schedule_velocity(&s, t, x0, noise, v, COUNT);
        for (int i = 0; i < COUNT; i++) {
            assert_true(fabsf(a * x[i] - b * v[i] - x0[i]) < 1e-5F);
            assert_true(fabsf(b * x[i] + a * v[i] - noise[i]) < 1e-5F);
        }
    }
    schedule_free(&s);
}

static void noise_grows_with_the_timestep(void **state)
{
    schedule s = stable_diffusion("");

    (void)state;
    for (int t = 1; t < s.steps; t++)
        assert_true(s.acp[t] < s.acp[t - 1]);
    assert_true(fabsf(s.betas[0] - 0.00085F) < 1e-8F && fabsf(s.betas[999] - 0.012F) < 1e-7F);
    schedule_free(&s);
}

static void what_is_not_built_is_named(void **state)
{
    static const struct { const char *config, *says; } ROWS[] = {
        {"{\"beta_schedule\": \"squaredcos_cap_v2\"}", "beta_schedule squaredcos_cap_v2 is not built"},
        {"{\"prediction_type\": \"sample\"}", "prediction_type sample is not built"},
        {"{\"timestep_spacing\": \"random\"}", "timestep_spacing random is not built"},
        {"{\"clip_sample\": true}", "clip_sample true is not built"},
        {"{\"rescale_betas_zero_snr\": true}", "rescale_betas_zero_snr true is not built"},
        {"{\"trained_betas\": [0.1]}", "trained_betas are not built"},
        {"{\"beta_start\": 0.02, \"beta_end\": 0.01}", "0 < beta_start <= beta_end < 1 is wanted"},
        {"{\"num_train_timesteps\": 0}", "num_train_timesteps"},
        {"{\"steps_offset\": \"one\"}", "steps_offset"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        schedule s;
        err e = {0};
        assert_int_not_equal(try_schedule(&s, ROWS[i].config, &e), 0);
        if (!strstr(e.text, ROWS[i].says))
            fail_msg("%s does not say %s", e.text, ROWS[i].says);
    }
}

static void a_config_with_pythons_infinity_is_read(void **state)
{
    schedule s;
    err e = {0};

    (void)state;
    assert_int_equal(try_schedule(&s, "{\"lambda_min_clipped\": -Infinity, \"name\": \"a \\\"NaN\\\" b\"}", &e), 0);
    schedule_free(&s);
}

/* ---- samplers ---- */

/* A model that knows the clean sample says what noise, or velocity, there is in x at t. */
static void perfect(const schedule *s, int t, const float *x0, const float *x, float *said)
{
    double a = s->acp[t], alpha = sqrt(a), sigma = sqrt(1 - a);

    for (int i = 0; i < COUNT; i++) {
        double eps = (x[i] - alpha * x0[i]) / sigma;
        said[i] = (float)(s->prediction == PREDICT_V ? alpha * eps - sigma * x0[i] : eps);
    }
}

/* From the first timestep's noisy sample to the end under the perfect model; calls are checked on the way. */
static void run_sampler(const char *name, const schedule *s, int steps, double eta, const float *x0, float *x)
{
    float said[COUNT], noise[COUNT];
    sampler *p;
    err e = {0};

    if (sampler_new(&p, name, s, steps, eta, COUNT, &e) != 0)
        fail_msg("%s", e.text);
    rng_normal_fill(rng_open(2, "x", 0, 0), noise, COUNT);
    schedule_add_noise(s, sampler_timestep(p, 0), x0, noise, x, COUNT);
    for (int i = 0; i < sampler_calls(p); i++) {
        int t = sampler_timestep(p, i);
        assert_in_range(t, 0, s->steps - 1);
        assert_true(i == 0 || t <= sampler_timestep(p, i - 1));
        perfect(s, t, x0, x, said);
        rng_normal_fill(rng_open(2, "noise", (uint32_t)i, 0), noise, COUNT);
        sampler_step(p, said, sampler_wants_noise(p) ? noise : NULL, x);
    }
    sampler_free(p);
}

static double distance(const float *a, const float *b)
{
    double sum = 0;

    for (int i = 0; i < COUNT; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum / COUNT);
}

static void every_sampler_finds_what_a_perfect_model_knows(void **state)
{
    static const char *const MORE[] = {"", "\"prediction_type\": \"v_prediction\""};
    static const int STEPS[] = {1, 2, 3, 7, 14, 15, 50, 333};
    const sampler_kind *k;
    float x0[COUNT], x[COUNT];

    (void)state;
    rng_normal_fill(rng_open(1, "x0", 0, 0), x0, COUNT);
    for (int v = 0; v < 2; v++) {
        schedule s = stable_diffusion(MORE[v]);
        for (size_t i = 0; (k = sampler_kind_at(i)) != NULL; i++)
            for (size_t n = 0; n < sizeof STEPS / sizeof *STEPS; n++) {
                run_sampler(k->name, &s, STEPS[n], 0, x0, x);
                /* Noise of timestep 0, sigma_0 = 0.03, may be left. PNDM, as diffusers has it, blends velocities of
                 * different timesteps, which only many steps forgive. */
                double near = v == 1 && strcmp(k->name, "pndm") == 0 ? 0.3 : 0.06;
                if (!(distance(x, x0) < near))
                    fail_msg("%s, %d steps: %g away", k->name, STEPS[n], distance(x, x0));
            }
        schedule_free(&s);
    }
}

static void ddim_is_exact_where_alpha_ends_at_one(void **state)
{
    static const double ETA[] = {0, 0.5, 1};
    schedule s = stable_diffusion("\"set_alpha_to_one\": true");
    float x0[COUNT], x[COUNT];

    (void)state;
    rng_normal_fill(rng_open(1, "x0", 0, 0), x0, COUNT);
    for (int steps = 1; steps <= 200; steps += 33)
        for (int i = 0; i < 3; i++) {
            run_sampler("ddim", &s, steps, ETA[i], x0, x);
            assert_true(distance(x, x0) < 1e-4);
        }
    schedule_free(&s);
}

static void timesteps_are_those_of_diffusers(void **state)
{
    static const struct { const char *name, *more; int steps, n, t[8]; } ROWS[] = {
        {"ddim", "", 5, 5, {801, 601, 401, 201, 1}},
        {"ddim", "\"timestep_spacing\": \"trailing\"", 4, 4, {999, 749, 499, 249}},
        {"ddim", "\"timestep_spacing\": \"linspace\"", 4, 4, {999, 666, 333, 0}},
        {"pndm", "", 4, 5, {751, 501, 501, 251, 1}},
        {"dpmpp2m", "", 4, 4, {999, 749, 500, 250}},
        {"dpmpp2m", "\"timestep_spacing\": \"leading\"", 4, 4, {801, 601, 401, 201}},
        {"dpmpp2m", "\"timestep_spacing\": \"trailing\"", 4, 4, {999, 749, 499, 249}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        schedule s = stable_diffusion(ROWS[i].more);
        sampler *p;
        err e = {0};
        assert_int_equal(sampler_new(&p, ROWS[i].name, &s, ROWS[i].steps, 0, 1, &e), 0);
        assert_int_equal(sampler_calls(p), ROWS[i].n);
        for (int k = 0; k < ROWS[i].n; k++)
            assert_int_equal(sampler_timestep(p, k), ROWS[i].t[k]);
        sampler_free(p);
        schedule_free(&s);
    }
}

static void impossible_wishes_are_refused(void **state)
{
    static const struct { const char *name; int steps; double eta; const char *says; } ROWS[] = {
        {"euler", 10, 0, "no sampler euler (there are ddim, ddpm, pndm, dpmpp2m)"},
        {"ddim", 0, 0, "0 steps where 1 to 1000 are possible"},
        {"ddim", 1001, 0, "1001 steps"},
        {"ddim", 10, 1.5, "eta 1.5"},
        {"ddim", 10, NAN, "eta nan"},
        {"ddim", 1000, 0, "asks for timestep 1000 of 1000"},
    };
    schedule s = stable_diffusion("");

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        sampler *p;
        err e = {0};
        assert_int_equal(sampler_new(&p, ROWS[i].name, &s, ROWS[i].steps, ROWS[i].eta, 1, &e), ERR_INPUT);
        if (!strstr(e.text, ROWS[i].says))
            fail_msg("%s does not say %s", e.text, ROWS[i].says);
    }
    schedule_free(&s);
}

/* ---- learning rates ---- */

static void rates_rise_over_warm_up_and_fall_to_zero(void **state)
{
    static const struct { lr_kind kind; int step; double rate; } ROWS[] = {
        {LR_CONSTANT, 0, 2}, {LR_CONSTANT, 99, 2},
        {LR_CONSTANT_WITH_WARMUP, 0, 0}, {LR_CONSTANT_WITH_WARMUP, 5, 1}, {LR_CONSTANT_WITH_WARMUP, 50, 2},
        {LR_LINEAR, 5, 1}, {LR_LINEAR, 10, 2}, {LR_LINEAR, 20, 1}, {LR_LINEAR, 30, 0}, {LR_LINEAR, 99, 0},
        {LR_COSINE, 10, 2}, {LR_COSINE, 20, 1}, {LR_COSINE, 30, 0}, {LR_COSINE, 99, 0},
    };
    lr_kind kind;
    err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        assert_true(fabs(lr_at(ROWS[i].kind, 2, 10, 30, ROWS[i].step) - ROWS[i].rate) < 1e-12);
    for (lr_kind k = 0; k < LR_KINDS; k++) {
        assert_int_equal(lr_find(lr_names[k], &kind, &e), 0);
        assert_int_equal(kind, k);
        assert_true(isfinite(lr_at(k, 1, 0, 0, 0)));
    }
    assert_int_equal(lr_find("cosin", &kind, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "did you mean cosine"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clean_sample_comes_back_from_noise_and_velocity),
        cmocka_unit_test(noise_grows_with_the_timestep),
        cmocka_unit_test(what_is_not_built_is_named),
        cmocka_unit_test(a_config_with_pythons_infinity_is_read),
        cmocka_unit_test(every_sampler_finds_what_a_perfect_model_knows),
        cmocka_unit_test(ddim_is_exact_where_alpha_ends_at_one),
        cmocka_unit_test(timesteps_are_those_of_diffusers),
        cmocka_unit_test(impossible_wishes_are_refused),
        cmocka_unit_test(rates_rise_over_warm_up_and_fall_to_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
