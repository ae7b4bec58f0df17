/* AdamW with moments of 8 bits and weights of 16: the published values, the nearest of them, rounding by an address, and updates
 * that stay near those of 32 bits. */
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
#include "trainer/nn/cpu/cpu_simd.h"
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
    bool narrow;
} adam;

static adam opened(nn_backend *on, int concepts, bool eight, bool narrow)
{
    adam a = {.g = nn_graph_new(), .p = nn_params_new(on), .concepts = concepts, .narrow = narrow};
    nn_shape s = NN_SHAPE(concepts, COUNT), w = NN_SHAPE(concepts, narrow ? COUNT / 2 : COUNT), moments = NN_SHAPE(concepts, eight ? nn_moments8(COUNT) : COUNT);
    err e = {0};

    assert_int_equal(nn_params_state(a.p, "w", w, &e), 0);
    assert_int_equal(nn_params_state(a.p, "m", moments, &e), 0);
    assert_int_equal(nn_params_state(a.p, "v", moments, &e), 0);
    a.d = nn_input(a.g, "d", F32, s);
    a.hyper = nn_input(a.g, "hyper", F32, NN_SHAPE(concepts, NN_ADAMW_HYPER));
    nn_adamw(a.g, nn_state(a.g, "w", w), nn_state(a.g, "m", moments), nn_state(a.g, "v", moments), a.d, a.hyper, NULL);
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

static void weights_of(const adam *a, float *out)
{
    size_t n = (size_t)a->concepts * COUNT;
    err e = {0};

    if (!a->narrow) {
        assert_int_equal(nn_params_state_read(a->p, "w", out, n, &e), 0);
        return;
    }
    float *half = NEW_N(float, n / 2);
    assert_int_equal(nn_params_state_read(a->p, "w", half, n / 2, &e), 0);
    f32_from(out, half, BF16, n);
    free(half);
}

/* At step t; the stream that rounds is concept's. */
static void set_hyper(float *h, float lr, int t, uint32_t concept)
{
    const rng_stream chance = rng_open(3, "round", (uint32_t)t, concept);

    memset(h, 0, NN_ADAMW_HYPER * sizeof *h);
    h[ADAMW_LR] = lr, h[ADAMW_BETA1] = 0.9f, h[ADAMW_BETA2] = 0.999f, h[ADAMW_EPS] = 1e-8f, h[ADAMW_GRAD_SCALE] = 1;
    h[ADAMW_CORRECT1] = (float)(1 - pow(0.9, t));
    h[ADAMW_CORRECT2] = (float)(1 - pow(0.999, t));
    memcpy(h + ADAMW_ROUND, &chance, sizeof chance);
}

static void update(adam *a, const float *d, const float *hyper)
{
    err e = {0};

    assert_int_equal(nn_write(a->plan, a->d, d, (size_t)a->concepts * COUNT * sizeof *d, &e), 0);
    assert_int_equal(nn_write(a->plan, a->hyper, hyper, (size_t)(a->concepts * NN_ADAMW_HYPER) * sizeof *hyper, &e), 0);
    assert_int_equal(nn_run(a->plan, &e), 0);
}

/* `steps` updates towards the minimum of sum(c (w - 1)^2) / 2 with some noise on the gradient; w is left in out. Concept p of a
 * pack gets what concept `first` + p gets alone. */
static void descend(adam *a, int first, int steps, float *out)
{
    size_t n = (size_t)a->concepts * COUNT;
    float *w = NEW_N(float, n), *d = NEW_N(float, n), *hyper = NEW_N(float, a->concepts * NN_ADAMW_HYPER);

    for (int t = 1; t <= steps; t++) {
        weights_of(a, w);
        for (size_t i = 0; i < n; i++) {
            uint32_t concept = (uint32_t)(first + (int)(i / COUNT));
            float curve = powf(10, (float)(i % COUNT % 4) - 2);
            d[i] = curve * (w[i] - 1 + 0.1f * rng_normal(rng_open(2, "noise", (uint32_t)t, concept), i % COUNT));
        }
        for (int p = 0; p < a->concepts; p++)
            set_hyper(hyper + p * NN_ADAMW_HYPER, 0.02f, t, (uint32_t)(first + p));
        update(a, d, hyper);
    }
    weights_of(a, out);
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
static void check_near(bool eight, bool narrow)
{
    nn_backend *b = cpu(false);
    float *wide = NEW_N(float, COUNT), *small = NEW_N(float, COUNT);
    adam x = opened(b, 1, false, false), y = opened(b, 1, eight, narrow);
    double apart = 0;

    descend(&x, 0, 150, wide);
    descend(&y, 0, 150, small);
    for (int i = 0; i < COUNT; i++)
        apart += ((double)wide[i] - (double)small[i]) * ((double)wide[i] - (double)small[i]);
    assert_true(far_from_one(wide) < 0.1 && far_from_one(small) < (narrow ? 1.25 : 1.1) * far_from_one(wide)); /* bf16 near 1: 0.004 */
    assert_true(sqrt(apart / COUNT) < 0.03);
    closed(&x);
    closed(&y);
    b->close(b);
    free(wide);
    free(small);
}

static void updates_stay_near_those_of_32_bits(void **state)
{
    (void)state;
    check_near(true, false);
    check_near(false, true);
    check_near(true, true);
}

static void check_bytes(bool eight, bool narrow)
{
    nn_backend *b = cpu(false), *plain = cpu(true);
    float *pack = NEW_N(float, 3 * COUNT), *alone = NEW_N(float, COUNT), *slow = NEW_N(float, COUNT);
    adam x = opened(b, 3, eight, narrow), y = opened(b, 1, eight, narrow), z = opened(plain, 1, eight, narrow);
    int apart = 0;

    descend(&x, 0, 10, pack);
    descend(&y, 2, 10, alone);
    descend(&z, 2, 10, slow);
    assert_memory_equal(pack + 2 * COUNT, alone, COUNT * sizeof *alone);
    for (int i = 0; i < COUNT; i++) { /* one that lies at the edge may be rounded to the neighbour, and goes on from there */
        assert_true(fabsf(slow[i] - alone[i]) < (narrow ? 1e-2f : 1e-5f));
        apart += fabsf(slow[i] - alone[i]) > 1e-5f;
    }
    assert_true(apart < COUNT / 100);
    closed(&x);
    closed(&y);
    closed(&z);
    b->close(b);
    plain->close(plain);
    free(pack);
    free(alone);
    free(slow);
}

static void a_concept_gets_the_same_bytes_alone_in_a_pack_and_by_the_reference(void **state)
{
    (void)state;
    check_bytes(true, false);
    check_bytes(false, true);
    check_bytes(true, true);
}

static float rounded(float x, rng_stream chance, uint64_t i)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return f32_of_bf16((uint16_t)((u + (rng_u32(chance, i / 2) >> 16 * (i % 2) & 0xffff)) >> 16));
}

/* One step of 0 toward weights in f32 rounds them, each by its own 16 bits of the stream, whoever computes. */
static void a_weight_of_16_bits_is_rounded_by_its_address(void **state)
{
    const cpu_simd *const kinds[] = {&cpu_simd_plain, &cpu_simd_avx2, &cpu_simd_avx512};
    uint16_t half[2048];
    float x[2048];

    (void)state;
    for (int i = 0; i < 2048; i++)
        x[i] = rng_normal(rng_open(1, "w", 0, 0), (uint64_t)i) * powf(10, (float)(-i % 6));
    x[7] = INFINITY, x[8] = -INFINITY, x[9] = NAN, x[10] = 0;
    const rng_stream chance = rng_open(3, "round", 5, 0);
    float stream[4];
    memcpy(stream, &chance, sizeof chance);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (!cpu_simd_runs(kinds[k]))
            continue;
        kinds[k]->round(half, x, stream, 64, 1999);
        for (int i = 0; i < 1999; i++)
            if (isfinite(x[i]))
                assert_true(f32_of_bf16(half[i]) == rounded(x[i], chance, (uint64_t)i + 64));
        assert_true(isinf(f32_of_bf16(half[7])) && f32_of_bf16(half[8]) < 0 && isnan(f32_of_bf16(half[9])));
    }
}

/* Steps of a hundredth of what bf16 can tell apart at 1: to nearest none of them would leave a trace. */
static void steps_too_small_for_16_bits_are_kept_in_the_mean(void **state)
{
    enum { STEPS = 100 };
    const float step = 0x1p-8f / 100;
    nn_backend *b = cpu(false);
    float *d = NEW_N(float, COUNT), *w = NEW_N(float, COUNT), hyper[NN_ADAMW_HYPER];
    adam a = opened(b, 1, false, true);
    double sum = 0;
    err e = {0};

    (void)state;
    uint16_t *ones = (uint16_t *)w;
    for (int i = 0; i < COUNT; i++) {
        ones[i] = bf16_of_f32(1);
        d[i] = 1;
    }
    assert_int_equal(nn_params_state_write(a.p, "w", w, COUNT / 2, &e), 0);
    for (int t = 1; t <= STEPS; t++) {
        set_hyper(hyper, step, t, 0);
        update(&a, d, hyper);
    }
    weights_of(&a, w);
    for (int i = 0; i < COUNT; i++)
        sum += (double)w[i];
    double moved = 1 - sum / COUNT, should = STEPS * (double)step;
    assert_true(fabs(moved - should) < 0.05 * should);
    closed(&a);
    b->close(b);
    free(d);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_values_are_the_published_ones),
        cmocka_unit_test(a_number_becomes_the_nearest_value),
        cmocka_unit_test(updates_stay_near_those_of_32_bits),
        cmocka_unit_test(a_concept_gets_the_same_bytes_alone_in_a_pack_and_by_the_reference),
        cmocka_unit_test(a_weight_of_16_bits_is_rounded_by_its_address),
        cmocka_unit_test(steps_too_small_for_16_bits_are_kept_in_the_mean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
