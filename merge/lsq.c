/* The solve of README.md, in the features' own coordinates: y_i = F'^-1 k_i (whitened). There R is the unit matrix and
 * the merge is a minimum-norm problem, so P = Y^+' F'^-1 with the pseudo-inverse through a pivoted QR of Y (which also
 * tells which rows depend on which).
 *
 * Column-major throughout: a list of rows [s, d] is a matrix [d, s] whose columns are the rows. */
#include "merge/lsq.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/lsq_impl.h"

const double LSQ_TOLERANCE = 1e-6;
enum { REFINE_MOST = 3 };

typedef struct {
    const lsq_factor *f;
    const lsq_problem *in;
    int d, s, n;       /* n: rows with an image, s - fixed */
    double *y;         /* [d, s] whitened target rows, each of length 1 */
    double *length;    /* [s] the length each had */
    double *q;         /* pivoted QR of y: first reflectors and triangle, then Q [d, min(d, s)] */
    double *tri;       /* its triangle [m, s], m = min(d, s) */
    lapack_int *pivot; /* [s] from 1 */
    int m;
} solver;

static double *doubles(size_t a, size_t b)
{
    return NEW_N(double, a *b + 1); /* none is asked for by some: one is given */
}

static double tolerance(const lsq_problem *in)
{
    return in->tolerance > 0 ? in->tolerance : LSQ_TOLERANCE;
}

/* As rows.c looks at floats. */
static bool all_finite(const double *x, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7ff0000000000000U) == 0x7ff0000000000000U;
    }
    return bad == 0;
}

int lsq_check(const lsq_factor *f, const lsq_problem *in, err *e)
{
    size_t d = (size_t)f->d;
    CHECK(in->s > in->fixed && in->fixed >= 0);
    if (f->rank < f->d)
        return err_set(e, ERR_INPUT,
                       "the captions' features span %d of %d dimensions; give more captions, more varied ones", f->rank,
                       f->d);
    for (size_t i = 0; i < (size_t)in->s; i++)
        if (!all_finite(in->k + i * d, d))
            return err_set(e, ERR_INPUT, "target row %zu is not made of finite numbers", i);
    return 0;
}

static void close_solver(solver *v)
{
    free(v->y);
    free(v->length);
    free(v->q);
    free(v->tri);
    free(v->pivot);
}

/* Y = F'^-1 K', columns brought to length 1. */
static void whiten(solver *v)
{
    size_t d = (size_t)v->d, s = (size_t)v->s;
    memcpy(v->y, v->in->k, sizeof(double) * d * s);
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, v->d, v->s, 1.0, v->f->f, v->d, v->y,
                v->d);
    for (int i = 0; i < v->s; i++) {
        double *y = v->y + (size_t)i * d;
        v->length[i] = cblas_dnrm2(v->d, y, 1);
        if (v->length[i] > 0)
            cblas_dscal(v->d, 1 / v->length[i], y, 1);
    }
}

/* Y Pi = Q T; the fixed rows first, then whatever is left longest. */
static int pivoted_qr(solver *v, err *e)
{
    size_t d = (size_t)v->d, m = (size_t)v->m;
    double *tau = doubles(m, 1);
    lapack_int info;
    memcpy(v->q, v->y, sizeof(double) * d * (size_t)v->s);
    for (int i = 0; i < v->s; i++)
        v->pivot[i] = i < v->in->fixed;
    info = LAPACKE_dgeqp3(LAPACK_COL_MAJOR, v->d, v->s, v->q, v->d, v->pivot, tau);
    for (size_t j = 0; j < (size_t)v->s; j++)
        for (size_t i = 0; i < m; i++)
            v->tri[j * m + i] = i <= j ? v->q[j * d + i] : 0;
    if (info == 0)
        info = LAPACKE_dorgqr(LAPACK_COL_MAJOR, v->d, v->m, v->m, v->q, v->d, tau);
    free(tau);
    return info == 0 ? 0 : err_set(e, ERR_INPUT, "the target rows cannot be factored (LAPACK says %d)", (int)info);
}

static int open_solver(solver *v, const lsq_factor *f, const lsq_problem *in, err *e)
{
    size_t d = (size_t)f->d, s = (size_t)in->s;
    TRY(lsq_check(f, in, e));
    *v = (solver){.f = f, .in = in, .d = f->d, .s = in->s, .n = in->s - in->fixed};
    v->m = v->d < v->s ? v->d : v->s;
    v->y = doubles(d, s);
    v->length = doubles(s, 1);
    v->q = doubles(d, s);
    v->tri = doubles((size_t)v->m, s);
    v->pivot = NEW_N(lapack_int, s);
    whiten(v);
    return pivoted_qr(v, e);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* A pivot is the length of what the earlier ones leave of a row of length 1. */
static void find_dependent(const solver *v, lsq_report *r)
{
    r->rank = 0;
    while (r->rank < v->m && fabs(v->tri[(size_t)r->rank * (size_t)v->m + (size_t)r->rank]) > tolerance(v->in))
        r->rank++;
    if (r->rank > 0 && r->rank == v->s) {
        r->nearest = (int)v->pivot[r->rank - 1] - 1;
        r->own = fabs(v->tri[(size_t)(r->rank - 1) * (size_t)v->m + (size_t)r->rank - 1]);
    }
    r->n_dependent = v->s - r->rank;
    r->dependent = NEW_N(int, r->n_dependent + 1);
    for (int i = 0; i < r->n_dependent; i++)
        r->dependent[i] = (int)v->pivot[r->rank + i] - 1;
    qsort(r->dependent, (size_t)r->n_dependent, sizeof(int), ascending);
}

/* Z [d, s], row i of P in whitened coordinates: Y^+' = Q T'^-1 Pi' with each column over its old length. */
static void pseudo_inverse(const solver *v, double *z)
{
    size_t d = (size_t)v->d;
    double *turned = mem_copy(v->q, sizeof(double) * d * (size_t)v->s);
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, v->d, v->s, 1.0, v->tri, v->m, turned,
                v->d);
    for (int j = 0; j < v->s; j++) {
        size_t i = (size_t)v->pivot[j] - 1;
        memcpy(z + i * d, turned + (size_t)j * d, sizeof(double) * d);
        cblas_dscal(v->d, 1 / v->length[i], z + i * d, 1);
    }
    free(turned);
}

/* P = Z F'^-1: columns p_i = F^-1 z_i. */
static void unwhiten(const solver *v, double *z, int n)
{
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, v->d, n, 1.0, v->f->f, v->d, z, v->d);
}

/* miss = I - K P' [s, s] (column i: what row i of P makes of every target row); returns the largest entry. */
static double missing(const solver *v, const double *p, double *miss)
{
    double most = 0;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, v->s, v->s, v->d, -1.0, v->in->k, v->d, p, v->d, 0.0, miss,
                v->s);
    for (int i = 0; i < v->s; i++)
        miss[(size_t)i * (size_t)v->s + (size_t)i] += 1;
    for (size_t i = 0; i < (size_t)v->s * (size_t)v->s; i++)
        most = fmax(most, fabs(miss[i]));
    return most;
}

/* Newton's step for a pseudo-inverse stays in the span of the rows: P <- P + (I - P K') P. */
static void refine(const solver *v, double *p, lsq_report *r)
{
    size_t count = (size_t)v->d * (size_t)v->s;
    double *miss = doubles((size_t)v->s, (size_t)v->s), *next = doubles((size_t)v->d, (size_t)v->s);
    double *gap = doubles((size_t)v->s, (size_t)v->s);
    r->miss = missing(v, p, miss);
    while (r->refined < REFINE_MOST) {
        double left;
        memcpy(next, p, sizeof(double) * count);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, v->d, v->s, v->s, 1.0, p, v->d, miss, v->s, 1.0, next,
                    v->d);
        left = missing(v, next, gap);
        if (!(left < r->miss / 2))
            break;
        memcpy(p, next, sizeof(double) * count);
        memcpy(miss, gap, sizeof(double) * (size_t)v->s * (size_t)v->s);
        r->miss = left;
        r->refined++;
    }
    free(miss);
    free(next);
    free(gap);
}

/* Stationarity: the gradient (W-W0) R'R must be a combination of target rows; whitened, P F' must lie in span Y = span
 * Q. */
static double stationarity(const solver *v, const double *p)
{
    size_t count = (size_t)v->d * (size_t)v->s;
    double *z = doubles((size_t)v->d, (size_t)v->s), *in_span = doubles((size_t)v->m, (size_t)v->s), whole, outside;
    lsq_factor_apply(v->f, p, v->s, z);
    whole = cblas_dnrm2((int)count, z, 1);
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, v->m, v->s, v->d, 1.0, v->q, v->d, z, v->d, 0.0, in_span,
                v->m);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, v->d, v->s, v->m, -1.0, v->q, v->d, in_span, v->m, 1.0, z,
                v->d);
    outside = cblas_dnrm2((int)count, z, 1);
    free(z);
    free(in_span);
    return whole > 0 ? outside / whole : 0;
}

static void solve_exactly(const solver *v, double *p, lsq_report *r)
{
    size_t d = (size_t)v->d;
    double *all = doubles(d, (size_t)v->s), share = 0;
    pseudo_inverse(v, all);
    unwhiten(v, all, v->s);
    refine(v, all, r);
    r->kkt = stationarity(v, all);
    LAPACKE_dtrcon(LAPACK_COL_MAJOR, '1', 'U', 'N', v->m, v->tri, v->m, &share);
    r->condition = share > 0 ? 1 / share : INFINITY;
    r->reason = LSQ_SOLVED;
    memcpy(p, all + d * (size_t)v->in->fixed, sizeof(double) * d * (size_t)v->n);
    free(all);
}

int lsq_solve(double *p, lsq_report *r, const lsq_factor *f, const lsq_problem *in, err *e)
{
    solver v = {0};
    int rc;
    *r = (lsq_report){0};
    if (in->ridge > 0)
        return lsq_solve_ridged(p, r, f, in, e);
    rc = open_solver(&v, f, in, e);
    if (rc == 0) {
        find_dependent(&v, r);
        if (r->n_dependent > 0)
            r->reason = LSQ_DEPENDENT;
        else
            solve_exactly(&v, p, r);
    }
    close_solver(&v);
    return rc;
}

void lsq_report_free(lsq_report *r)
{
    free(r->dependent);
    *r = (lsq_report){0};
}
