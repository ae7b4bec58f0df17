/* Constraints relaxed by a ridge (lsq.h has the algebra): one singular value decomposition, which then answers for every
 * ridge.
 *
 * Row-major: rows [n, d] behind each other, which LAPACK sees as columns [d, n]. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/lsq_impl.h"

static const double LEAST = 1e-12, MOST = 1e12; /* the least is far below anything visible, yet it makes any rows solvable */

static double *doubles(size_t a, size_t b)
{
    return NEW_N(double, a *b + 1);
}

/* y [s, d] = K F^-1, the fixed rows in front. */
static double *whiten(const lsq_factor *f, const lsq_problem *in)
{
    double *y = mem_copy(in->k, sizeof(double) * (size_t)in->s * (size_t)f->d);
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, f->d, in->s, 1.0, f->f, f->d, y, f->d);
    return y;
}

/* y [n, d] behind q [fixed, d] without what those span; q becomes orthonormal. */
static int without_fixed(double *q, double *y, int fixed, int n, int d)
{
    double *tau = doubles((size_t)fixed, 1), *part = doubles((size_t)n, (size_t)fixed);
    lapack_int info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, d, fixed, q, d, tau);
    if (info == 0)
        info = LAPACKE_dorgqr(LAPACK_COL_MAJOR, d, fixed, fixed, q, d, tau);
    for (int twice = 0; twice < 2; twice++) { /* once leaves what rounding left */
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, fixed, d, 1.0, y, d, q, d, 0.0, part, fixed);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, fixed, -1.0, part, fixed, q, d, 1.0, y, d);
    }
    free(tau);
    free(part);
    return (int)info;
}

static double mean_square(const double *y, int n, int d)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += cblas_ddot(d, y + (size_t)i * (size_t)d, 1, y + (size_t)i * (size_t)d, 1) / n;
    return sum;
}

static int count_rank(const lsq_spectrum *sp, const lsq_problem *in)
{
    double least = (in->tolerance > 0 ? in->tolerance : LSQ_TOLERANCE) * sqrt(sp->unit);
    int rank = in->fixed;
    for (int i = 0; i < sp->m; i++)
        rank += sp->sigma[i] > least;
    return rank < sp->d ? rank : sp->d;
}

/* Y [n, d] = V diag(sigma) U', seen from the side on which it is tall: LAPACK then does it in 3/5 of the time. Spoils y. */
static int decompose(lsq_spectrum *sp, double *y)
{
    if (sp->n > sp->d)
        return (int)LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', sp->n, sp->d, y, sp->d, sp->sigma, sp->v, sp->m, sp->right, sp->d);
    return (int)LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', sp->d, sp->n, y, sp->d, sp->sigma, sp->right, sp->d, sp->v, sp->m);
}

int lsq_spectrum_open(lsq_spectrum *out, const lsq_factor *f, const lsq_problem *in, err *e)
{
    size_t d = (size_t)f->d;
    int n = in->s - in->fixed, bad = 0;
    double *y, *with_image;
    *out = (lsq_spectrum){0};
    TRY(lsq_check(f, in, e));
    *out = (lsq_spectrum){.n = n, .m = n < f->d ? n : f->d, .d = f->d};
    out->v = doubles((size_t)n, (size_t)out->m);
    out->sigma = doubles((size_t)out->m, 1);
    out->right = doubles((size_t)out->m, d);
    y = whiten(f, in);
    with_image = y + (size_t)in->fixed * d;
    out->unit = mean_square(with_image, n, f->d);
    if (in->fixed > 0)
        bad = without_fixed(y, with_image, in->fixed, n, f->d);
    bad = bad != 0 ? bad : decompose(out, with_image);
    free(y);
    if (bad != 0)
        return err_set(e, ERR_INPUT, "the singular values of the target rows do not converge");
    out->rank = count_rank(out, in);
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, f->d, out->m, 1.0, f->f, f->d, out->right,
                f->d);
    return 0;
}

void lsq_spectrum_free(lsq_spectrum *sp)
{
    free(sp->v);
    free(sp->sigma);
    free(sp->right);
    *sp = (lsq_spectrum){0};
}

/* ---- one ridge ---- */

static double damped(double sigma, double ridge)
{
    return sigma > 0 ? sigma / (sigma * sigma + ridge) : 0;
}

/* I - P K' = V (I - diag(sigma damped)) V' + I - V V' is symmetric and nowhere negative, so its largest entry stands on the
 * diagonal. */
static double miss(const lsq_spectrum *sp, double ridge)
{
    double most = 0;
    for (int i = 0; i < sp->n; i++) {
        double met = 0;
        for (int j = 0; j < sp->m; j++) {
            double v = sp->v[(size_t)i * (size_t)sp->m + (size_t)j];
            met += v * v * sp->sigma[j] * damped(sp->sigma[j], ridge);
        }
        most = fmax(most, fabs(1 - met));
    }
    return most;
}

void lsq_spectrum_solve(double *g, lsq_report *r, const lsq_spectrum *sp, double ridge)
{
    double weight = ridge * sp->unit, top = sp->sigma[0] * sp->sigma[0], low = sp->n > sp->m ? 0 : sp->sigma[sp->m - 1];
    memcpy(g, sp->right, sizeof(double) * (size_t)sp->m * (size_t)sp->d);
    for (int i = 0; i < sp->m; i++)
        cblas_dscal(sp->d, damped(sp->sigma[i], weight), g + (size_t)i * (size_t)sp->d, 1);
    *r = (lsq_report){.reason = LSQ_RIDGED, .rank = sp->rank, .miss = miss(sp, weight)};
    r->condition = sqrt((top + weight) / (low * low + weight));
}

int lsq_solve_ridged(double *p, lsq_report *r, const lsq_factor *f, const lsq_problem *in, err *e)
{
    lsq_spectrum sp;
    int rc = lsq_spectrum_open(&sp, f, in, e);
    if (rc == 0) {
        double *g = doubles((size_t)sp.m, (size_t)sp.d);
        lsq_spectrum_solve(g, r, &sp, in->ridge);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, sp.n, sp.d, sp.m, 1.0, sp.v, sp.m, g, sp.d, 0.0, p, sp.d);
        free(g);
    }
    lsq_spectrum_free(&sp);
    return rc;
}

/* ---- the ridge that keeps a drift ---- */

static double drift_at(const lsq_spectrum *sp, const double *gain, double ridge)
{
    double sum = 0;
    for (int i = 0; i < sp->m; i++) {
        double z = damped(sp->sigma[i], ridge * sp->unit);
        sum += z * z * fmax(gain[i], 0);
    }
    return sqrt(sum);
}

/* Drift falls as the ridge grows; bisected in its logarithm, to a thousandth. */
double lsq_spectrum_ridge(const lsq_spectrum *sp, const double *gain, double limit)
{
    double low = LEAST, high = MOST;
    if (drift_at(sp, gain, low) <= limit)
        return low;
    while (high / low > 1.001) {
        double mid = sqrt(low * high);
        if (drift_at(sp, gain, mid) <= limit)
            high = mid;
        else
            low = mid;
    }
    return high;
}
