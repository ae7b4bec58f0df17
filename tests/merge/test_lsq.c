/* The merge's solve against exact numbers and against a dense solve of the same problem in long double. */
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
#include "merge/lsq.h"

/* facts of the algorithm, worked by hand in rationals: d 3, out 2, four captions, two targets */
static const float R4[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1};
static const double K2[] = {1, 0, 1, 0, 1, 2};
static const double W0[] = {1, 0, 0, 0, 1, 0};
static const double E2[] = {1, 0, 0, 2}; /* [out, s] */

static lsq_factor factor_of(const float *rows, int64_t n, int d)
{
    lsq_factor f;
    assert_int_equal(lsq_factor_new(&f, d, NULL), 0);
    assert_int_equal(lsq_factor_add(&f, rows, n, NULL), 0);
    assert_int_equal(lsq_factor_judge(&f, NULL), 0);
    return f;
}

/* W = W0 + E P  [2, 3] */
static void weights(double w[6], const double *p)
{
    for (int o = 0; o < 2; o++)
        for (int j = 0; j < 3; j++)
            w[o * 3 + j] = W0[o * 3 + j] + E2[o * 2] * p[j] + E2[o * 2 + 1] * p[3 + j];
}

static double objective(const double *w)
{
    double sum = 0;
    for (int r = 0; r < 4; r++)
        for (int o = 0; o < 2; o++) {
            double x = 0;
            for (int j = 0; j < 3; j++)
                x += (w[o * 3 + j] - W0[o * 3 + j]) * (double)R4[r * 3 + j];
            sum += x * x;
        }
    return sum;
}

static void solve2(double *p, const lsq_factor *f, double ridge, lsq_report *r)
{
    lsq_problem in = {.s = 2, .k = K2, .ridge = ridge};
    err e = {0};
    assert_int_equal(lsq_solve(p, r, f, &in, &e), 0);
}

static void the_worked_example_is_exact(void **state)
{
    static const double want[] = {1.7, -0.6, 0.3, -0.8, 1.4, 0.8};
    lsq_factor f = factor_of(R4, 4, 3);
    lsq_report r;
    double p[6], w[6];
    (void)state;
    solve2(p, &f, 0, &r);
    weights(w, p);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(w[i] - want[i]) < 1e-14);
    assert_true(fabs(objective(w) - 2.7) < 1e-13);
    assert_int_equal(r.reason, LSQ_SOLVED);
    assert_int_equal(r.rank, 2);
    assert_true(r.miss < 1e-14 && r.kkt < 1e-14 && r.condition >= 1);
    lsq_report_free(&r);
    lsq_factor_free(&f);
}

static void without_captions_to_keep_it_is_the_shortest_update(void **state)
{
    static const float unit[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    lsq_factor f = factor_of(unit, 3, 3);
    lsq_report r;
    double p[6], w[6];
    (void)state;
    solve2(p, &f, 0, &r);
    weights(w, p);
    assert_true(fabs(objective(w) - 55.0 / 18.0) < 1e-13);
    lsq_report_free(&r);
    lsq_factor_free(&f);
}

/* min |dW R'|^2 + |dW K' - E|^2 / c  has  dW = E (G + c I)^-1 D; with G, D of the example and c = ridge * (1+11/4)/2 */
static void a_ridge_relaxes_the_worked_example_as_computed_by_hand(void **state)
{
    const double ridge = 0.5, c = ridge * (1 + 2.75) / 2;
    const double a = 1 + c, b = 0.5, d = 2.75 + c, det = a * d - b * b;
    static const double D[] = {0.5, -0.5, 0.5, -0.75, 0.25, 1.25};
    lsq_factor f = factor_of(R4, 4, 3);
    lsq_report r;
    double p[6];
    (void)state;
    solve2(p, &f, ridge, &r);
    for (int j = 0; j < 3; j++) {
        assert_true(fabs(p[j] - (d * D[j] - b * D[3 + j]) / det) < 1e-14);
        assert_true(fabs(p[3 + j] - (a * D[3 + j] - b * D[j]) / det) < 1e-14);
    }
    assert_int_equal(r.reason, LSQ_RIDGED);
    lsq_report_free(&r);
    lsq_factor_free(&f);
}

/* ---- random problems against a dense KKT solve ---- */

/* a x = b, a [n, n] and b [n, m] row-major, overwritten by x; Gauss with row pivots in long double. */
static void gauss(long double *a, long double *b, int n, int m)
{
    for (int c = 0; c < n; c++) {
        int best = c;
        for (int i = c; i < n; i++)
            if (fabsl(a[i * n + c]) > fabsl(a[best * n + c]))
                best = i;
        for (int j = 0; j < n; j++) {
            long double t = a[c * n + j];
            a[c * n + j] = a[best * n + j];
            a[best * n + j] = t;
        }
        for (int j = 0; j < m; j++) {
            long double t = b[c * m + j];
            b[c * m + j] = b[best * m + j];
            b[best * m + j] = t;
        }
        for (int i = 0; i < n; i++) {
            long double f = i == c ? 0 : a[i * n + c] / a[c * n + c];
            for (int j = 0; j < n; j++)
                a[i * n + j] -= f * a[c * n + j];
            for (int j = 0; j < m; j++)
                b[i * m + j] -= f * b[c * m + j];
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            b[i * m + j] /= a[i * n + i];
}

/* [G K'; K 0] [P'; L'] = [0; I]: the update of unit images, P [s, d]. */
static void dense_kkt(double *p, const float *rows, int64_t n, int d, const double *k, int s)
{
    int size = d + s;
    long double *a = mem_new((size_t)size * (size_t)size, sizeof *a), *b = mem_new((size_t)size * (size_t)s, sizeof *b);
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++)
            for (int64_t r = 0; r < n; r++)
                a[i * size + j] += (long double)rows[r * d + i] * (long double)rows[r * d + j];
    for (int i = 0; i < s; i++)
        for (int j = 0; j < d; j++)
            a[(d + i) * size + j] = a[j * size + d + i] = k[i * d + j];
    for (int i = 0; i < s; i++)
        b[(d + i) * s + i] = 1;
    gauss(a, b, size, s);
    for (int i = 0; i < s; i++)
        for (int j = 0; j < d; j++)
            p[i * d + j] = (double)b[j * s + i];
    free(a);
    free(b);
}

typedef struct {
    const char *name;
    int d, captions, s;
    double decades; /* columns of the captions span this many powers of ten */
    double near;    /* target rows are this far from one another; 0: independent */
    double most;    /* relative difference from the dense solve */
} problem;

static const problem problems[] = {
    {"one target", 5, 40, 1, 0, 0, 1e-12},
    {"many", 24, 200, 12, 0, 0, 1e-12},
    {"as many as dimensions", 12, 60, 12, 0, 0, 1e-10},
    {"captions as few as dimensions", 20, 20, 4, 0, 0, 1e-10},
    {"a condition of R'R of 1e8", 24, 300, 8, 4, 0, 1e-10},
    {"a condition of R'R of 1e12", 24, 300, 8, 6, 0, 1e-8},
    {"targets alike to a thousandth", 24, 200, 8, 0, 1e-3, 1e-9},
};

static void random_problem(const problem *q, float *rows, double *k)
{
    rng_stream a = rng_open(7, "captions", (uint32_t)q->d, (uint32_t)q->s),
               b = rng_open(7, "targets", (uint32_t)q->d, 0);
    for (int i = 0; i < q->captions * q->d; i++)
        rows[i] = rng_normal(a, (uint64_t)i) * (float)pow(10, -q->decades * (i % q->d) / (q->d - 1));
    for (int i = 0; i < q->s * q->d; i++) {
        double own = (double)rng_normal(b, (uint64_t)i), common = (double)rng_normal(b, (uint64_t)(100000 + i % q->d));
        k[i] = (q->near > 0 ? common + q->near * own : own) * pow(10, -q->decades * (i % q->d) / (q->d - 1));
    }
}

static double distance(const double *a, const double *b, int n)
{
    double diff = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        diff += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(diff / norm);
}

static void random_problems_agree_with_a_dense_kkt_solve(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof problems / sizeof *problems; t++) {
        const problem *q = &problems[t];
        float *rows = NEW_N(float, q->captions * q->d);
        double *k = NEW_N(double, q->s * q->d), *p = NEW_N(double, q->s * q->d), *want = NEW_N(double, q->s * q->d);
        lsq_report r;
        err e = {0};
        lsq_factor f;
        random_problem(q, rows, k);
        f = factor_of(rows, q->captions, q->d);
        dense_kkt(want, rows, q->captions, q->d, k, q->s);
        assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = q->s, .k = k}, &e), 0);
        if (r.reason != LSQ_SOLVED || distance(p, want, q->s * q->d) > q->most)
            fail_msg("%s: reason %d, distance %.3g, miss %.3g, condition %.3g", q->name, (int)r.reason,
                     distance(p, want, q->s * q->d), r.miss, r.condition);
        assert_true(r.miss < 1e-9 && r.kkt < 1e-9);
        lsq_report_free(&r);
        lsq_factor_free(&f);
        free(rows);
        free(k);
        free(p);
        free(want);
    }
}

/* ---- laws ---- */

static const problem plain = {"plain", 16, 100, 6, 1, 0, 0};

static void blocks_of_captions_give_one_factor(void **state)
{
    float *rows = NEW_N(float, plain.captions *plain.d);
    double k[16 * 6];
    lsq_factor whole, parts;
    (void)state;
    random_problem(&plain, rows, k);
    whole = factor_of(rows, plain.captions, plain.d);
    assert_int_equal(lsq_factor_new(&parts, plain.d, NULL), 0);
    for (int64_t at = 0; at < plain.captions; at += 7)
        assert_int_equal(
            lsq_factor_add(&parts, rows + at * plain.d, plain.captions - at < 7 ? plain.captions - at : 7, NULL), 0);
    for (int i = 0; i < plain.d * plain.d; i++)
        assert_true(fabs(whole.f[i] - parts.f[i]) < 1e-12 * sqrt(lsq_factor_mean(&whole) * plain.d));
    assert_int_equal(parts.rows, plain.captions);
    lsq_factor_free(&whole);
    lsq_factor_free(&parts);
    free(rows);
}

static void dependent_rows_are_named(void **state)
{
    float *rows = NEW_N(float, plain.captions *plain.d);
    double k[16 * 6], p[16 * 6];
    lsq_factor f;
    lsq_report r;
    err e = {0};
    (void)state;
    random_problem(&plain, rows, k);
    for (int j = 0; j < 16; j++)
        k[4 * 16 + j] = 0.25 * k[j] + 0.25 * k[16 + j]; /* shorter than what it is made of: pivoting leaves it last */
    f = factor_of(rows, plain.captions, plain.d);
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 6, .k = k}, &e), 0);
    assert_int_equal(r.reason, LSQ_DEPENDENT);
    assert_int_equal(r.rank, 5);
    assert_int_equal(r.n_dependent, 1);
    assert_true(r.dependent[0] == 0 || r.dependent[0] == 1 || r.dependent[0] == 4);
    lsq_report_free(&r);
    lsq_factor_free(&f);
    free(rows);
}

static void more_targets_than_dimensions_are_dependent(void **state)
{
    float rows[40];
    double k[6 * 4], p[6 * 4];
    lsq_factor f;
    lsq_report r;
    err e = {0};
    (void)state;
    for (int i = 0; i < 40; i++)
        rows[i] = rng_normal(rng_open(1, "r", 0, 0), (uint64_t)i);
    for (int i = 0; i < 24; i++)
        k[i] = (double)rng_normal(rng_open(1, "k", 0, 0), (uint64_t)i);
    f = factor_of(rows, 10, 4);
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 6, .k = k}, &e), 0);
    assert_int_equal(r.reason, LSQ_DEPENDENT);
    assert_int_equal(r.rank, 4);
    assert_int_equal(r.n_dependent, 2);
    lsq_report_free(&r);
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 6, .k = k, .ridge = 1e-3}, &e), 0);
    assert_int_equal(r.reason, LSQ_RIDGED);
    assert_true(r.miss > 1e-3); /* six rows cannot be met in four dimensions, and it says so */
    lsq_report_free(&r);
    lsq_factor_free(&f);
}

static void a_fixed_row_keeps_its_image_relaxed_or_not(void **state)
{
    float *rows = NEW_N(float, plain.captions *plain.d);
    double k[16 * 6], p[16 * 5];
    lsq_factor f;
    err e = {0};
    (void)state;
    random_problem(&plain, rows, k);
    f = factor_of(rows, plain.captions, plain.d);
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        lsq_report r;
        lsq_problem in = {.s = 6, .fixed = 1, .k = k, .ridge = relaxed ? 0.1 : 0};
        assert_int_equal(lsq_solve(p, &r, &f, &in, &e), 0);
        for (int i = 0; i < 5; i++) {
            double dot = 0, own = 0;
            for (int j = 0; j < 16; j++) {
                dot += p[i * 16 + j] * k[j];
                own += p[i * 16 + j] * k[(i + 1) * 16 + j];
            }
            assert_true(fabs(dot) < 1e-11);
            assert_true(relaxed ? own < 1 : fabs(own - 1) < 1e-11);
        }
        lsq_report_free(&r);
    }
    lsq_factor_free(&f);
    free(rows);
}

static void captions_that_do_not_span_the_space_are_refused(void **state)
{
    float rows[5 * 8];
    double k[8] = {1, 2, 3, 4, 5, 6, 7, 8}, p[8];
    lsq_factor f;
    lsq_report r;
    err e = {0};
    (void)state;
    for (int i = 0; i < 40; i++)
        rows[i] = rng_normal(rng_open(2, "r", 0, 0), (uint64_t)i);
    f = factor_of(rows, 5, 8);
    assert_int_equal(f.rank, 5);
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 1, .k = k}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "span 5 of 8"));
    lsq_report_free(&r);
    assert_int_equal(lsq_factor_ridge(&f, 1e-4 * lsq_factor_mean(&f), &e), 0);
    assert_int_equal(lsq_factor_judge(&f, &e), 0);
    assert_int_equal(f.rank, 8);
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 1, .k = k}, &e), 0);
    lsq_report_free(&r);
    lsq_factor_free(&f);
}

static void values_that_are_not_finite_are_refused(void **state)
{
    float rows[12];
    double k[6], p[6];
    lsq_factor f = factor_of(R4, 4, 3);
    lsq_report r;
    err e = {0};
    (void)state;
    memcpy(k, K2, sizeof k);
    k[4] = NAN;
    assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = 2, .k = k}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "target row 1"));
    lsq_report_free(&r);
    memcpy(rows, R4, sizeof rows);
    rows[3] = INFINITY;
    assert_int_equal(lsq_factor_add(&f, rows, 4, &e), ERR_INPUT);
    lsq_factor_free(&f);
}

/* [c C + K'K b; b' 0] [P'; .] = [K'; 0]: of unit images, c = ridge g; the fixed row k_0 = b in front. P [s - 1, d]. */
static void dense_ridge(double *p, const float *rows, int64_t n, int d, const double *k, int s, double ridge)
{
    int size = d + 1, m = s - 1;
    long double *c = mem_new((size_t)(d * d), sizeof *c), *x = mem_new((size_t)(d * m), sizeof *x), g = 0;
    long double *a = mem_new((size_t)(size * size), sizeof *a), *b = mem_new((size_t)(size * m), sizeof *b);
    for (int i = 0; i < d * d; i++)
        for (int64_t r = 0; r < n; r++)
            c[i] += (long double)rows[r * d + i / d] * (long double)rows[r * d + i % d];
    for (int i = 0; i < d * m; i++)
        x[i] = b[i] = k[(1 + i % m) * d + i / m];
    for (int i = 0; i < d * d; i++)
        a[i / d * size + i % d] = c[i];
    gauss(c, x, d, m);
    for (int i = 0; i < d * m; i++) /* k_i C^-1 k_i */
        g += x[i] * (long double)k[(1 + i % m) * d + i / m] / m;
    for (int i = 0; i < d; i++) {
        for (int j = 0; j < d; j++) {
            a[i * size + j] *= (long double)ridge * g;
            for (int r = 1; r < s; r++)
                a[i * size + j] += (long double)k[r * d + i] * (long double)k[r * d + j];
        }
        a[i * size + d] = a[d * size + i] = k[i];
    }
    gauss(a, b, size, m);
    for (int i = 0; i < m * d; i++)
        p[i] = (double)b[i % d * m + i / d];
    free(a);
    free(b);
    free(c);
    free(x);
}

static double largest_miss(const double *p, const double *k, int n, int d)
{
    double most = 0;
    for (int i = 0; i < n * n; i++) {
        double dot = 0;
        for (int j = 0; j < d; j++)
            dot += p[i / n * d + j] * k[i % n * d + j];
        most = fmax(most, fabs(dot - (i / n == i % n)));
    }
    return most;
}

static void a_ridge_of_any_number_of_rows_agrees_with_a_dense_solve(void **state)
{
    static const int counts[] = {2, 11, 12, 13, 14, 60};
    (void)state;
    for (size_t t = 0; t < sizeof counts / sizeof *counts; t++) {
        enum { DIM = 12 };
        problem q = {"", DIM, 60, counts[t], 1, 0, 0};
        int n = q.s - 1;
        float *rows = NEW_N(float, q.captions *DIM);
        double *k = NEW_N(double, q.s *DIM), *p = NEW_N(double, q.s *DIM), *want = NEW_N(double, q.s *DIM);
        lsq_factor f;
        lsq_report r;
        err e = {0};
        random_problem(&q, rows, k);
        f = factor_of(rows, q.captions, DIM);
        for (double ridge = 1e-4; ridge < 10; ridge *= 100) {
            dense_ridge(want, rows, q.captions, DIM, k, q.s, ridge);
            assert_int_equal(lsq_solve(p, &r, &f, &(lsq_problem){.s = q.s, .fixed = 1, .k = k, .ridge = ridge}, &e), 0);
            assert_true(distance(p, want, n * DIM) < 1e-9);
            assert_true(fabs(r.miss - largest_miss(want, k + DIM, n, DIM)) < 1e-9);
            assert_int_equal(r.rank, q.s < DIM ? q.s : DIM);
            lsq_report_free(&r);
        }
        lsq_factor_free(&f);
        free(rows);
        free(k);
        free(p);
        free(want);
    }
}

static void the_chosen_ridge_keeps_the_drift(void **state)
{
    lsq_factor f = factor_of(R4, 4, 3);
    double gain[2] = {0}, p[6], w[6], exact = sqrt(2.7);
    lsq_spectrum sp;
    lsq_report r;
    err e = {0};
    (void)state;
    assert_int_equal(lsq_spectrum_open(&sp, &f, &(lsq_problem){.s = 2, .k = K2}, &e), 0);
    for (int i = 0; i < 2; i++)
        for (int o = 0; o < 2; o++) {
            double x = E2[o * 2] * sp.v[i] + E2[o * 2 + 1] * sp.v[sp.m + i];
            gain[i] += x * x;
        }
    for (double limit = 0.1; limit < exact; limit += 0.4) {
        solve2(p, &f, lsq_spectrum_ridge(&sp, gain, limit), &r);
        weights(w, p);
        assert_true(sqrt(objective(w)) <= limit && sqrt(objective(w)) > 0.99 * limit);
        lsq_report_free(&r);
    }
    assert_true(lsq_spectrum_ridge(&sp, gain, 2 * exact) <= 1e-12);
    lsq_spectrum_free(&sp);
    lsq_factor_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example_is_exact),
        cmocka_unit_test(without_captions_to_keep_it_is_the_shortest_update),
        cmocka_unit_test(a_ridge_relaxes_the_worked_example_as_computed_by_hand),
        cmocka_unit_test(random_problems_agree_with_a_dense_kkt_solve),
        cmocka_unit_test(blocks_of_captions_give_one_factor),
        cmocka_unit_test(dependent_rows_are_named),
        cmocka_unit_test(more_targets_than_dimensions_are_dependent),
        cmocka_unit_test(a_fixed_row_keeps_its_image_relaxed_or_not),
        cmocka_unit_test(captions_that_do_not_span_the_space_are_refused),
        cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(a_ridge_of_any_number_of_rows_agrees_with_a_dense_solve),
        cmocka_unit_test(the_chosen_ridge_keeps_the_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
