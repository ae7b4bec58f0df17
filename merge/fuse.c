/* The merged K/V matrices in full, for readers that know nothing of factors. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/compose.h"

static const double ROUNDED = 1e-4; /* what rounding to f32 may add to a row's miss, as a share of what it says */

/* out = (float)(w0 + left right) */
static void add_update(float *out, const float *w0, const concept_factors *f, int64_t at, int64_t rows)
{
    size_t count = (size_t)rows * (size_t)f->width, n = (size_t)rows * (size_t)f->rank;
    double *sum = NEW_N(double, count), *left = NEW_N(double, n);
    for (size_t i = 0; i < n; i++)
        left[i] = f->left[(size_t)at * (size_t)f->rank + i];
    for (size_t i = 0; i < count; i++)
        sum[i] = w0[i];
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, f->width, f->rank, 1.0, left, f->rank, f->right,
                f->width, 1.0, sum, f->width);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)sum[i];
    free(sum);
    free(left);
}

/* What became of the target rows of all cards: their coordinates in the factors, and how far rounding moved them. */
typedef struct {
    int n;
    double *k;            /* [n, width] */
    double *at;           /* [n, rank]: K right', so that left at' is what a row gets */
    double *wanted, *off; /* [n]: |W k| of the card; |.|^2 of the difference so far */
} watch;

static void open_watch(watch *w, const concept_factors *f, const concept in[], int n)
{
    size_t width = (size_t)f->width, row = 0;
    for (int i = 0; i < n; i++)
        w->n += in[i].card.n;
    w->k = NEW_N(double, (size_t)w->n * width);
    w->at = NEW_N(double, (size_t)w->n * (size_t)f->rank);
    w->wanted = NEW_N(double, w->n);
    w->off = NEW_N(double, w->n);
    for (int i = 0; i < n; i++)
        for (int a = 0; a < in[i].card.n; a++, row++) {
            w->wanted[row] = in[i].card.row[a].wanted;
            for (size_t j = 0; j < width; j++)
                w->k[row * width + j] = in[i].card.k[(size_t)a * width + j];
        }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, w->n, f->rank, f->width, 1.0, w->k, f->width, f->right, f->width,
                0.0, w->at, f->rank);
}

static void close_watch(watch *w)
{
    free(w->k);
    free(w->at);
    free(w->wanted);
    free(w->off);
}

/* off_i += |(W - W0) k_i - left at_i|^2 over the rows of one matrix */
static void look(watch *w, const float *fused, const float *w0, const concept_factors *f, int64_t first, int64_t rows)
{
    size_t width = (size_t)f->width, rank = (size_t)f->rank, n = (size_t)w->n;
    double *change = NEW_N(double, (size_t)rows * width), *gap = NEW_N(double, (size_t)rows * n);
    double *left = NEW_N(double, (size_t)rows * rank);
    for (size_t i = 0; i < (size_t)rows * width; i++)
        change[i] = (double)fused[i] - (double)w0[i];
    for (size_t i = 0; i < (size_t)rows * rank; i++)
        left[i] = f->left[(size_t)first * rank + i];
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, w->n, f->rank, -1.0, left, f->rank, w->at, f->rank, 0.0,
                gap, w->n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, w->n, f->width, 1.0, change, f->width, w->k, f->width,
                1.0, gap, w->n);
    for (size_t r = 0; r < (size_t)rows; r++)
        for (size_t i = 0; i < n; i++)
            w->off[i] += gap[r * n + i] * gap[r * n + i];
    free(change);
    free(gap);
    free(left);
}

static int fuse_matrix(concept *out, watch *w, int m, int64_t at, sd *base, err *e)
{
    const concept_factors *f = &out->factors;
    const concept_matrix *x = &f->matrix[m];
    size_t count = (size_t)x->rows * (size_t)f->width;
    float *w0 = NEW_N(float, count);
    char name[256];
    int rc;
    snprintf(name, sizeof name, "unet.%s", x->name);
    rc = sd_file_read(base, name, w0, count, e);
    if (rc == 0) {
        concept_tensor *t = concept_add_tensor(out, x->name, x->rows, f->width, NULL);
        add_update(t->data, w0, f, at, x->rows);
        look(w, t->data, w0, f, at, x->rows);
    }
    free(w0);
    return rc;
}

int fuse(concept *out, const concept in[], int n, sd *base, err *e)
{
    watch w = {0};
    int64_t at = 0;
    int rc = 0;
    open_watch(&w, &out->factors, in, n);
    for (int m = 0; rc == 0 && m < out->factors.matrices; m++) {
        rc = fuse_matrix(out, &w, m, at, base, e);
        at += out->factors.matrix[m].rows;
    }
    for (int i = 0; rc == 0 && i < w.n; i++)
        if (!(sqrt(w.off[i]) <= ROUNDED * w.wanted[i]))
            rc = err_set(e, ERR_INPUT, "rounded to f32 the full matrices would miss a target row by %.2g of what it says; "
                         "write the factors instead (--factors-only)", sqrt(w.off[i]) / w.wanted[i]);
    close_watch(&w);
    return rc;
}
