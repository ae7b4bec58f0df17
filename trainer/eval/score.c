#include "trainer/eval/score.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"

/* ---- cosines ---- */

const char *score_scale_name(score_scale s)
{
    static const char *const NAMES[] = {
        [SCALE_COSINE] = "cosine", [SCALE_HUNDRED] = "100 x cosine", [SCALE_CLIPSCORE] = "2.5 x max(cosine, 0)"};

    return NAMES[s];
}

double score_scaled(score_scale s, double cosine)
{
    if (s == SCALE_HUNDRED)
        return 100 * cosine;
    return s == SCALE_CLIPSCORE ? 2.5 * (cosine > 0 ? cosine : 0) : cosine;
}

void score_normalise(float *rows, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++, rows += width) {
        double squares = 0;
        for (int64_t k = 0; k < width; k++)
            squares += (double)rows[k] * rows[k];
        for (int64_t k = 0; k < width && squares > 0; k++)
            rows[k] = (float)(rows[k] / sqrt(squares));
    }
}

void score_mean_row(double *out, const float *rows, int64_t n, int64_t width)
{
    memset(out, 0, (size_t)width * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < width; k++)
            out[k] += (double)rows[i * width + k] / (double)n;
}

double score_cosine(const float *a, const float *b, int64_t width)
{
    double s = 0;

    for (int64_t k = 0; k < width; k++)
        s += (double)a[k] * b[k];
    return s;
}

double score_with_mean(const float *a, const double *mean, int64_t width)
{
    double s = 0;

    for (int64_t k = 0; k < width; k++)
        s += (double)a[k] * mean[k];
    return s;
}

/* ---- KID ---- */

/* Kernel of all rows of x and y with each other, once: subsets only pick from it. k [n,n], n = nx + ny. */
static int kernel_of_all(double **out, const float *x, int64_t nx, const float *y, int64_t ny, int64_t width, err *e)
{
    int64_t n = nx + ny;
    void *rows, *k;

    TRY(mem_big(&rows, (size_t)(n * width) * sizeof(double), "the features of a KID", e));
    int rc = mem_big(&k, (size_t)(n * n) * sizeof(double), "the kernel of a KID", e);
    if (rc == 0) {
        double *to = rows, *at = k;
        for (int64_t i = 0; i < n * width; i++)
            to[i] = i < nx * width ? x[i] : y[i - nx * width];
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)n, (int)width, 1 / (double)width, to,
                    (int)width, to, (int)width, 0, at, (int)n);
        for (int64_t i = 0; i < n * n; i++)
            at[i] = (at[i] + 1) * (at[i] + 1) * (at[i] + 1);
        *out = k;
    }
    free(rows);
    return rc;
}

/* The first m of a shuffled 0..n-1, plus `from`. */
static void draw(int32_t *out, int32_t *room, int64_t n, int m, int64_t from, rng_stream s)
{
    for (int64_t i = 0; i < n; i++)
        room[i] = (int32_t)i;
    for (int i = 0; i < m; i++) {
        int64_t at = i + (int64_t)rng_below(s, (uint64_t)i, (uint32_t)(n - i));
        int32_t taken = room[at];
        room[at] = room[i];
        out[i] = taken + (int32_t)from;
    }
}

/* sum of k over a times b, without equal places where they are the same list */
static double kernel_sum(const double *k, int64_t n, const int32_t *a, const int32_t *b, int m)
{
    double s = 0;

    for (int i = 0; i < m; i++) {
        double row = 0;
        for (int j = 0; j < m; j++)
            row += a == b && i == j ? 0 : k[a[i] * n + b[j]];
        s += row;
    }
    return s;
}

int score_kid(kid *out, const float *x, int64_t nx, const float *y, int64_t ny, int64_t width, const kid_opts *o,
              err *e)
{
    int64_t n = nx + ny, least = nx < ny ? nx : ny;
    int m = o->size < least ? o->size : (int)least;
    double *k, sum = 0, squares = 0;

    if (m < 2)
        return err_set(e, ERR_INPUT, "KID of %lld and %lld pictures, where at least two on each side are wanted",
                       (long long)nx, (long long)ny);
    TRY(kernel_of_all(&k, x, nx, y, ny, width, e));
    int32_t *a = NEW_N(int32_t, m), *b = NEW_N(int32_t, m), *room = NEW_N(int32_t, n);
    for (int i = 0; i < o->subsets; i++) {
        draw(a, room, nx, m, 0, rng_open(o->seed, "kid", (uint32_t)i, 0));
        draw(b, room, ny, m, nx, rng_open(o->seed, "kid", (uint32_t)i, 1));
        double inside = kernel_sum(k, n, a, a, m) + kernel_sum(k, n, b, b, m), across = kernel_sum(k, n, a, b, m);
        double mmd = inside / ((double)m * (m - 1)) - 2 * across / ((double)m * m);
        sum += mmd;
        squares += mmd * mmd;
    }
    double mean = sum / o->subsets, spread = squares / o->subsets - mean * mean;
    *out = (kid){mean, spread > 0 ? sqrt(spread) : 0, m};
    free(a);
    free(b);
    free(room);
    free(k);
    return 0;
}
