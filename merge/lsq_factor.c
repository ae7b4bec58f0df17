/* The factor of the regularisation features: a QR that takes rows in blocks, and what its singular values tell. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/lsq.h"

static const double NOISE = 3e-8; /* half a unit in the last place of an f32, relative */

int lsq_factor_new(lsq_factor *out, int d, err *e)
{
    *out = (lsq_factor){.d = d, .f = calloc((size_t)d * (size_t)d, sizeof(double))}; /* half is never touched */
    return out->f ? 0 : err_set(e, ERR_MEMORY, "no memory for a factor of captions of %d numbers", d);
}

void lsq_factor_free(lsq_factor *f)
{
    free(f->f);
    *f = (lsq_factor){0};
}

/* [F; block] = Q F_new: work is column-major [d + n, d]; its triangle becomes F. Signs are made positive on the
 * diagonal, so that F does not depend on how rows were cut into blocks beyond rounding. */
static int absorb(lsq_factor *f, double *work, int64_t n, err *e)
{
    size_t d = (size_t)f->d, m = d + (size_t)n;
    double *tau = NEW_N(double, d);
    lapack_int info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, (lapack_int)m, f->d, work, (lapack_int)m, tau);
    free(tau);
    if (info != 0)
        return err_set(e, ERR_INPUT, "caption features that are not finite numbers");
    for (size_t i = 0; i < d; i++) {
        double sign = work[i * m + i] < 0 ? -1 : 1;
        for (size_t j = i; j < d; j++)
            f->f[j * d + i] = sign * work[j * m + i];
    }
    return 0;
}

static int new_work(double **work, const lsq_factor *f, int64_t n, err *e)
{
    size_t d = (size_t)f->d, m = d + (size_t)n;
    TRY(mem_big((void **)work, sizeof(double) * m * d, "rows of captions", e));
    memset(*work, 0, sizeof(double) * m * d);
    for (size_t j = 0; j < d; j++)
        memcpy(*work + j * m, f->f + j * d, sizeof(double) * d);
    return 0;
}

static int add_block(lsq_factor *f, const float *rows, int64_t n, err *e)
{
    size_t d = (size_t)f->d, m = d + (size_t)n;
    double *work;
    int rc;
    TRY(new_work(&work, f, n, e));
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t j = 0; j < d; j++)
            work[j * m + d + i] = rows[i * d + j];
    rc = absorb(f, work, n, e);
    free(work);
    if (rc == 0)
        f->rows += n;
    return rc;
}

int lsq_factor_add(lsq_factor *f, const float *rows, int64_t n, err *e)
{
    const int64_t block = 2 * (int64_t)f->d; /* F counts d rows in each step: a block of 2 d wastes a third */
    for (int64_t i = 0; i < n * f->d; i++)
        if (!isfinite(rows[i]))
            return err_set(e, ERR_INPUT, "caption features that are not finite numbers");
    for (int64_t at = 0; at < n; at += block)
        TRY(add_block(f, rows + at * f->d, n - at < block ? n - at : block, e));
    return 0;
}

int lsq_factor_ridge(lsq_factor *f, double weight, err *e)
{
    size_t d = (size_t)f->d;
    double *work;
    int rc;
    TRY(new_work(&work, f, f->d, e));
    for (size_t i = 0; i < d; i++)
        work[i * 2 * d + d + i] = sqrt(weight);
    rc = absorb(f, work, f->d, e);
    free(work);
    return rc;
}

double lsq_factor_mean(const lsq_factor *f)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)f->d * (size_t)f->d; i++)
        sum += f->f[i] * f->f[i];
    return sum / f->d;
}

int lsq_factor_judge(lsq_factor *f, err *e)
{
    size_t d = (size_t)f->d;
    double *a = mem_copy(f->f, sizeof(double) * d * d), *sigma = NEW_N(double, d), none;
    lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', f->d, f->d, a, f->d, sigma, &none, 1, &none, 1);
    f->rank = 0;
    for (size_t i = 0; i < d && info == 0; i++)
        f->rank += sigma[i] > NOISE * sigma[0];
    f->condition = sigma[d - 1] > 0 ? sigma[0] / sigma[d - 1] : INFINITY;
    free(a);
    free(sigma);
    return info == 0 ? 0 : err_set(e, ERR_INPUT, "the singular values of the captions' features do not converge");
}

void lsq_factor_apply(const lsq_factor *f, const double *x, int64_t n, double *y)
{
    /* y = x F', both row-major [n, d], that is column-major [d, n]: y = F x */
    memcpy(y, x, sizeof(double) * (size_t)n * (size_t)f->d);
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, f->d, (int)n, 1.0, f->f, f->d, y,
                f->d);
}
