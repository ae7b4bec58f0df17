/* The solve against one of 400 bits (tests/reference/merge_exact.py): P to 1e-10 where the condition of R'R reaches 1e12. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "merge/lsq.h"

enum { LINE = 4096 };

typedef struct {
    char name[64];
    int d, n, s;
    double condition;
    float *r;
    double *k, *p;
} problem;

static double *row_of(char *line, int d, double *to)
{
    char *at = strchr(line, '\t');
    for (int j = 0; j < d; j++)
        to[j] = strtod(at + 1, &at);
    return to + d;
}

/* False at the end of the file. */
static bool read_problem(FILE *f, problem *q)
{
    char line[LINE];
    do
        if (!fgets(line, sizeof line, f))
            return false;
    while (line[0] == '#');
    assert_int_equal(sscanf(line, "problem\t%63[^\t]\t%d\t%d\t%d\t%lf", q->name, &q->d, &q->n, &q->s, &q->condition), 5);
    double *all = NEW_N(double, (q->n + 2 * q->s) * q->d), *at = all;
    for (int i = 0; i < q->n + 2 * q->s; i++) {
        assert_non_null(fgets(line, sizeof line, f));
        at = row_of(line, q->d, at);
    }
    q->r = NEW_N(float, q->n *q->d);
    for (int i = 0; i < q->n * q->d; i++)
        q->r[i] = (float)all[i];
    q->k = mem_copy(all + q->n * q->d, sizeof(double) * (size_t)(q->s * q->d));
    q->p = mem_copy(all + (q->n + q->s) * q->d, sizeof(double) * (size_t)(q->s * q->d));
    free(all);
    return true;
}

static double solve(const problem *q)
{
    lsq_factor f;
    lsq_report r;
    lsq_problem in = {.s = q->s, .k = q->k};
    double *p = NEW_N(double, q->s *q->d), diff = 0, norm = 0;
    err e = {0};
    assert_int_equal(lsq_factor_new(&f, q->d, &e), 0);
    assert_int_equal(lsq_factor_add(&f, q->r, q->n, &e), 0);
    assert_int_equal(lsq_factor_judge(&f, &e), 0);
    assert_int_equal(lsq_solve(p, &r, &f, &in, &e), 0);
    assert_int_equal(r.reason, LSQ_SOLVED);
    for (int i = 0; i < q->s * q->d; i++) {
        diff += (p[i] - q->p[i]) * (p[i] - q->p[i]);
        norm += q->p[i] * q->p[i];
    }
    lsq_report_free(&r);
    lsq_factor_free(&f);
    free(p);
    return sqrt(diff / norm);
}

static void a_merge_is_that_of_four_hundred_bits(void **state)
{
    char path[4096];
    FILE *f;
    problem q;
    int n = 0;
    (void)state;
    snprintf(path, sizeof path, "%s/tests/merge/exact.tsv", getenv("CFARM_SOURCE"));
    f = fopen(path, "r");
    assert_non_null(f);
    for (; read_problem(f, &q); n++) {
        double far = solve(&q);
        printf("%-32s condition %.1e: %.1e from exact\n", q.name, q.condition, far);
        assert_true(far < 1e-10);
        free(q.r);
        free(q.k);
        free(q.p);
    }
    fclose(f);
    assert_true(n >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_merge_is_that_of_four_hundred_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
