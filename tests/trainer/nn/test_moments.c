/* AdamW with moments of 8 bits: the published values, the nearest of them, and updates that stay near those of 32 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/nn/cpu/cpu_moments.h"
#include "trainer/nn/plan.h"

enum { COUNT = 3 * NN_MOMENT_BLOCK + 48 };

static void the_values_are_the_published_ones(void **state)
{
    (void)state;
    for (int with_sign = 0; with_sign < 2; with_sign++) {
        moment_map map;
        int in_decade[7] = {0}, zeros = 0, negative = 0;
        moment_map_make(&map, with_sign);
        for (int i = 0; i < 256; i++) {
            assert_true(i == 0 || map.value[i] > map.value[i - 1]);
            zeros += map.value[i] == 0;
            negative += map.value[i] < 0;
            for (int k = 0; k < 7 && map.value[i] > 0 && map.value[i] < 1; k++)
                in_decade[k] += map.value[i] > pow(10, k - 7) && map.value[i] < pow(10, k - 6);
        }
        assert_true(map.value[255] == 1 && zeros == 1);
        assert_int_equal(negative, with_sign ? 127 : 0);
        for (int k = 0; k < 7; k++)
            assert_int_equal(in_decade[k], 1 << (with_sign ? k : k + 1));
    }
}

static void a_number_becomes_the_nearest_value(void **state)
{
    float x[512], back[512];
    uint8_t code[512];

    (void)state;
    for (int with_sign = 0; with_sign < 2; with_sign++) {
        moment_map map;
        moment_map_make(&map, with_sign);
        for (int i = 0; i < 512; i++) {
            x[i] = rng_normal(rng_open(1, "x", 0, (uint32_t)with_sign), (uint64_t)i) * powf(10, (float)(-i % 8));
            x[i] = with_sign ? x[i] : fabsf(x[i]);
        }
        float scale = moments_pack(code, x, &map, 512);
        moments_unpack(back, code, scale, &map, 512);
        for (int i = 0; i < 512; i++) {
            float best = INFINITY;
            for (int k = 0; k < 256; k++)
                best = fminf(best, fabsf(scale * map.value[k] - x[i]));
            assert_true(fabsf(back[i] - x[i]) <= best + 1e-6f * scale);
        }
    }
    moment_map map;
    memset(x, 0, sizeof x);
    moment_map_make(&map, true);
    moments_unpack(back, code, moments_pack(code, x, &map, 512), &map, 512);
    assert_memory_equal(x, back, sizeof x);
}

typedef struct {
    nn_graph *g;
    nn_params *p;
    nn_plan *plan;
    nn_tensor d, hyper;
    int concepts;
} adam;

static adam opened(nn_backend *on, int concepts, bool eight)
{
    adam a = {.g = nn_graph_new(), .p = nn_params_new(on), .concepts = concepts};
    nn_shape s = NN_SHAPE(concepts, COUNT), moments = NN_SHAPE(concepts, eight ? nn_moments8(COUNT) : COUNT);
    err e = {0};

    assert_int_equal(nn_params_state(a.p, "w", s, &e), 0);
    assert_int_equal(nn_params_state(a.p, "m", moments, &e), 0);
    assert_int_equal(nn_params_state(a.p, "v", moments, &e), 0);
    a.d = nn_input(a.g, "d", F32, s);
    a.hyper = nn_input(a.g, "hyper", F32, NN_SHAPE(concepts, NN_ADAMW_HYPER));
    nn_adamw(a.g, nn_state(a.g, "w", s), nn_state(a.g, "m", moments), nn_state(a.g, "v", moments), a.d, a.hyper, NULL);
    if (nn_plan_new(&a.plan, a.g, a.p, NULL, 0, &e) != 0)
        fail_msg("%s", e.text);
    return a;
}

static void closed(adam *a)
{
    nn_plan_free(a->plan);
    nn_params_free(a->p);
    nn_graph_free(a->g);
}

/* `steps` updates towards the minimum of sum(c (w - 1)^2) / 2 with some noise on the gradient; w is left in out. Concept p of a
 * pack gets what concept `first` + p gets alone. */
static void descend(adam *a, int first, int steps, float *out)
{
    size_t n = (size_t)a->concepts * COUNT;
    float *w = NEW_N(float, n), *d = NEW_N(float, n), *hyper = NEW_N(float, a->concepts * NN_ADAMW_HYPER);
    err e = {0};

    for (int t = 1; t <= steps; t++) {
        assert_int_equal(nn_params_state_read(a->p, "w", w, n, &e), 0);
        for (size_t i = 0; i < n; i++) {
            uint32_t concept = (uint32_t)(first + (int)(i / COUNT));
            float curve = powf(10, (float)(i % COUNT % 4) - 2);
            d[i] = curve * (w[i] - 1 + 0.1f * rng_normal(rng_open(2, "noise", (uint32_t)t, concept), i % COUNT));
        }
        for (int p = 0; p < a->concepts; p++) {
            float *h = hyper + p * NN_ADAMW_HYPER;
            h[ADAMW_LR] = 0.02f, h[ADAMW_BETA1] = 0.9f, h[ADAMW_BETA2] = 0.999f, h[ADAMW_EPS] = 1e-8f, h[ADAMW_GRAD_SCALE] = 1;
            h[ADAMW_CORRECT1] = (float)(1 - pow(0.9, t));
            h[ADAMW_CORRECT2] = (float)(1 - pow(0.999, t));
        }
        assert_int_equal(nn_write(a->plan, a->d, d, n * sizeof *d, &e), 0);
        assert_int_equal(nn_write(a->plan, a->hyper, hyper, (size_t)(a->concepts * NN_ADAMW_HYPER) * sizeof *hyper, &e), 0);
        assert_int_equal(nn_run(a->plan, &e), 0);
    }
    assert_int_equal(nn_params_state_read(a->p, "w", out, n, &e), 0);
    free(w);
    free(d);
    free(hyper);
}

static nn_backend *cpu(bool reference)
{
    nn_backend *b = NULL;
    err e = {0};

    assert_int_equal(nn_cpu_open(&b, 2, reference, &e), 0);
    return b;
}

static double far_from_one(const float *w)
{
    double sum = 0;

    for (int i = 0; i < COUNT; i++)
        sum += ((double)w[i] - 1) * ((double)w[i] - 1);
    return sqrt(sum / COUNT);
}

/* From a distance of 1 both come down to the noise, and the paths stay together. */
static void updates_stay_near_those_of_32_bits(void **state)
{
    nn_backend *b = cpu(false);
    float *wide = NEW_N(float, COUNT), *eight = NEW_N(float, COUNT);
    adam x = opened(b, 1, false), y = opened(b, 1, true);
    double apart = 0;

    (void)state;
    descend(&x, 0, 150, wide);
    descend(&y, 0, 150, eight);
    for (int i = 0; i < COUNT; i++)
        apart += ((double)wide[i] - (double)eight[i]) * ((double)wide[i] - (double)eight[i]);
    assert_true(far_from_one(wide) < 0.1 && far_from_one(eight) < 1.1 * far_from_one(wide));
    assert_true(sqrt(apart / COUNT) < 0.03);
    closed(&x);
    closed(&y);
    b->close(b);
    free(wide);
    free(eight);
}

static void a_concept_gets_the_same_bytes_alone_in_a_pack_and_by_the_reference(void **state)
{
    nn_backend *b = cpu(false), *plain = cpu(true);
    float *pack = NEW_N(float, 3 * COUNT), *alone = NEW_N(float, COUNT), *slow = NEW_N(float, COUNT);
    adam x = opened(b, 3, true), y = opened(b, 1, true), z = opened(plain, 1, true);

    (void)state;
    descend(&x, 0, 10, pack);
    descend(&y, 2, 10, alone);
    descend(&z, 2, 10, slow);
    assert_memory_equal(pack + 2 * COUNT, alone, COUNT * sizeof *alone);
    for (int i = 0; i < COUNT; i++)
        assert_true(fabsf(slow[i] - alone[i]) < 1e-5f);
    closed(&x);
    closed(&y);
    closed(&z);
    b->close(b);
    plain->close(plain);
    free(pack);
    free(alone);
    free(slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_values_are_the_published_ones),
        cmocka_unit_test(a_number_becomes_the_nearest_value),
        cmocka_unit_test(updates_stay_near_those_of_32_bits),
        cmocka_unit_test(a_concept_gets_the_same_bytes_alone_in_a_pack_and_by_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
