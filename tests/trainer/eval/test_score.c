/* Laws: KID is clean-fid's figure (tests/reference/eval_oracle.py kid), a function of its seed, and about nothing
 * between two halves of one set; cosines are told under each scaling by its name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/eval/score.h"

enum { WIDTH = 24 };

/* fill(name, (n, 24)) of eval_oracle.py, and something added. */
static float *rows(const char *name, int n, double more)
{
    float *out = NEW_N(float, n * WIDTH), by = (float)(1.7 / sqrt(WIDTH));

    for (int i = 0; i < n * WIDTH; i++)
        out[i] = (float)((double)(by * (rng_uniform(rng_open(7, name, 0, 0), (uint64_t)i) * 2 - 1)) + more);
    return out;
}

static void kid_is_the_figure_of_clean_fid(void **state)
{
    (void)state;
    kid_opts o = {.subsets = 3, .size = 1000, .seed = 1};
    float *x = rows("x", 30, 0), *y = rows("y", 30, 0.05);
    kid k;

    assert_int_equal(score_kid(&k, x, 30, y, 30, WIDTH, &o, NULL), 0);
    assert_float_equal(k.mean, 0.006081341640747695, 1e-8);
    assert_float_equal(k.deviation, 0, 1e-6); /* every subset is the whole */
    assert_int_equal(k.size, 30);
    assert_int_equal(score_kid(&k, x, 30, x, 30, WIDTH, &o, NULL), 0);
    assert_float_equal(k.mean, -0.007621844763423979, 1e-8);
    free(x);
    free(y);
}

static void kid_is_a_function_of_its_seed(void **state)
{
    (void)state;
    kid_opts o = {.subsets = 20, .size = 10, .seed = 1}, other = {.subsets = 20, .size = 10, .seed = 2};
    float *x = rows("x", 40, 0), *y = rows("y", 30, 0.05);
    kid a, b, c;

    assert_int_equal(score_kid(&a, x, 40, y, 30, WIDTH, &o, NULL), 0);
    assert_int_equal(score_kid(&b, x, 40, y, 30, WIDTH, &o, NULL), 0);
    assert_int_equal(score_kid(&c, x, 40, y, 30, WIDTH, &other, NULL), 0);
    assert_memory_equal(&a.mean, &b.mean, sizeof a.mean);
    assert_true(a.mean != c.mean && a.deviation > 0 && a.size == 10);
    free(x);
    free(y);
}

static void a_set_is_far_from_another_and_not_from_itself(void **state)
{
    (void)state;
    kid_opts o = {.subsets = 50, .size = 30, .seed = 3};
    float *x = rows("x", 120, 0), *far = rows("y", 60, 0.5);
    kid same, apart;

    assert_int_equal(score_kid(&same, x, 60, x + 60 * WIDTH, 60, WIDTH, &o, NULL), 0);
    assert_int_equal(score_kid(&apart, x, 60, far, 60, WIDTH, &o, NULL), 0);
    assert_true(fabs(same.mean) < 0.02 && apart.mean > 0.5);
    free(x);
    free(far);
}

static void one_picture_has_no_kid(void **state)
{
    (void)state;
    kid_opts o = {.subsets = 1, .size = 10};
    float x[2 * WIDTH] = {0};
    kid k;
    err e = {0};

    assert_int_not_equal(score_kid(&k, x, 1, x, 2, WIDTH, &o, &e), 0);
    assert_string_equal(e.text, "KID of 1 and 2 pictures, where at least two on each side are wanted");
}

static void the_mean_of_all_pairs_is_the_product_with_the_mean_row(void **state)
{
    (void)state;
    float *a = rows("x", 5, 0), *b = rows("y", 7, 0);
    double mean[WIDTH], pairs = 0, at_once = 0;

    score_normalise(a, 5, WIDTH);
    score_normalise(b, 7, WIDTH);
    assert_float_equal(score_cosine(a, a, WIDTH), 1, 1e-6);
    score_mean_row(mean, b, 7, WIDTH);
    for (int i = 0; i < 5; i++) {
        at_once += score_with_mean(a + i * WIDTH, mean, WIDTH) / 5;
        for (int j = 0; j < 7; j++)
            pairs += score_cosine(a + i * WIDTH, b + j * WIDTH, WIDTH) / 35;
    }
    assert_float_equal(pairs, at_once, 1e-12);
    free(a);
    free(b);
}

static void scalings_are_three_and_named(void **state)
{
    (void)state;
    assert_float_equal(score_scaled(SCALE_COSINE, -0.25), -0.25, 0);
    assert_float_equal(score_scaled(SCALE_HUNDRED, -0.25), -25, 0);
    assert_float_equal(score_scaled(SCALE_CLIPSCORE, -0.25), 0, 0);
    assert_float_equal(score_scaled(SCALE_CLIPSCORE, 0.25), 0.625, 0);
    for (int i = 0; i < SCORE_SCALES; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(score_scale_name((score_scale)i), score_scale_name((score_scale)k));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kid_is_the_figure_of_clean_fid),
        cmocka_unit_test(kid_is_a_function_of_its_seed),
        cmocka_unit_test(a_set_is_far_from_another_and_not_from_itself),
        cmocka_unit_test(one_picture_has_no_kid),
        cmocka_unit_test(the_mean_of_all_pairs_is_the_product_with_the_mean_row),
        cmocka_unit_test(scalings_are_three_and_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
