/* The merged K/V matrices in full, for readers that know nothing of factors. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "merge/compose.h"

enum { BLOCK = 64 };
static const double ROUNDED = 1e-4; /* what rounding to f32 may add to a row's miss, as a share of what it says */

/* What became of the target rows of all cards: their coordinates in the factors, and how far rounding moved them. */
typedef struct {
    int n;
    double *k;            /* [n, width] */
    double *at;           /* [n, rank]: K right', so that left' at' is what a row gets */
    double *wanted, *off; /* [n]: |W k| of the card; |.|^2 of the difference so far */
} watch;

static void open_watch(watch *w, const concept_factors *f, const concept in[], int n)
{
    size_t width = (size_t)f->width, row = 0;
    for (int i = 0; i < n; i++)
        w->n += in[i].card.n;
    w->k = NEW_N(double, (size_t)w->n *width);
    w->at = NEW_N(double, (size_t)w->n *(size_t)f->rank);
    w->wanted = NEW_N(double, w->n);
    w->off = NEW_N(double, w->n);
    for (int i = 0; i < n; i++)
        for (int a = 0; a < in[i].card.n; a++, row++) {
            w->wanted[row] = in[i].card.row[a].wanted;
            for (size_t j = 0; j < width; j++)
                w->k[row * width + j] = in[i].card.k[(size_t)a * width + j];
        }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, w->n, f->rank, f->width, 1.0, w->k, f->width, f->right,
                f->width, 0.0, w->at, f->rank);
}

static void close_watch(watch *w)
{
    free(w->k);
    free(w->at);
    free(w->wanted);
    free(w->off);
}

/* Rows are done some at a time, so that the doubles stay in the cache. */
typedef struct {
    double *left; /* [rank, BLOCK] */
    double *w;    /* [BLOCK, width] the update, then what of it f32 kept */
    double *gap;  /* [BLOCK, n] */
} block;

/* w = left' right; fused = (float)(w0 + w); w = fused - w0 */
static void fuse_rows(block *b, float *fused, const float *w0, const concept_factors *f, int64_t first, int rows)
{
    size_t count = (size_t)rows * (size_t)f->width;
    for (int64_t r = 0; r < f->rank; r++)
        for (int64_t i = 0; i < rows; i++)
            b->left[r * BLOCK + i] = f->left[r * f->outs + first + i];
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, f->width, f->rank, 1.0, b->left, BLOCK, f->right,
                f->width, 0.0, b->w, f->width);
    for (size_t i = 0; i < count; i++) {
        fused[i] = (float)((double)w0[i] + b->w[i]);
        b->w[i] = (double)fused[i] - (double)w0[i];
    }
}

/* off_i += |w k_i - left' at_i|^2 */
static void look(watch *w, const block *b, const concept_factors *f, int rows)
{
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasTrans, rows, w->n, f->rank, -1.0, b->left, BLOCK, w->at, f->rank,
                0.0, b->gap, w->n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, w->n, f->width, 1.0, b->w, f->width, w->k, f->width, 1.0,
                b->gap, w->n);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < w->n; i++)
            w->off[i] += b->gap[r * w->n + i] * b->gap[r * w->n + i];
}

static int fuse_matrix(concept *out, watch *w, block *b, int m, int64_t at, fuse_base *base, void *arg, err *e)
{
    const concept_factors *f = &out->factors;
    const concept_matrix *x = &f->matrix[m];
    size_t count = (size_t)x->rows * (size_t)f->width;
    concept_tensor *t = concept_add_tensor(out, x->name, x->rows, f->width, NULL);
    void *w0;
    int rc;
    TRY(mem_big(&w0, count * sizeof(float), x->name, e));
    rc = base(arg, x->name, w0, count, e);
    for (int64_t r = 0; rc == 0 && r < x->rows; r += BLOCK) {
        int rows = (int)(x->rows - r < BLOCK ? x->rows - r : BLOCK);
        fuse_rows(b, t->data + r * f->width, (float *)w0 + r * f->width, f, at + r, rows);
        look(w, b, f, rows);
    }
    free(w0);
    return rc;
}

int fuse(concept *out, const concept in[], int n, fuse_base *base, void *arg, err *e)
{
    const concept_factors *f = &out->factors;
    watch w = {0};
    block b = {NEW_N(double, BLOCK * f->rank), NEW_N(double, BLOCK * f->width), NULL};
    int64_t at = 0;
    int rc = 0;
    open_watch(&w, f, in, n);
    b.gap = NEW_N(double, BLOCK *w.n);
    for (int m = 0; rc == 0 && m < f->matrices; m++) {
        rc = fuse_matrix(out, &w, &b, m, at, base, arg, e);
        at += f->matrix[m].rows;
    }
    for (int i = 0; rc == 0 && i < w.n; i++)
        if (!(sqrt(w.off[i]) <= ROUNDED * w.wanted[i]))
            rc = err_set(e, ERR_INPUT,
                         "rounded to f32 the full matrices would miss a target row by %.2g of what it says; "
                         "write the factors instead (--factors-only)",
                         sqrt(w.off[i]) / w.wanted[i]);
    free(b.left);
    free(b.w);
    free(b.gap);
    close_watch(&w);
    return rc;
}
