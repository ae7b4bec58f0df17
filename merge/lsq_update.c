/* A solve changed by a few rows (lsq.h has the algebra). Work is rows x d x changed rows, and as much again for a few random
 * looks at what came out: no product of all rows with all rows.
 *
 * Row-major: rows [n, d] behind each other, which LAPACK sees as columns [d, n]. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "merge/lsq_impl.h"

static const double TOLERANCE = 1e-5; /* a new row this near to the others' span is for the pivoted solve to judge */
static const double GOOD = 1e-10;     /* what may be missed; a solve anew leaves 1e-13 */
enum { ORTHOGONAL = 3, PROBES = 8, LENGTHS = 32 };

typedef struct {
    const lsq_factor *f;
    const lsq_problem *in;
    const lsq_known *was;
    int d, n, gone, come; /* n: rows with an image of the new problem; rows taken out, added */
    const double *k;      /* [n, d] theirs */
    double *p;            /* [n, d] the caller's: right factors as they change; zeroes where a row is yet to be added */
    double *fixed;        /* [d] that of the fixed row, whose image is zero */
    int *out, *add;       /* which they are: indices of was, and of the new rows */
    double *c;            /* [was->n + come, gone + come] */
    double *r;            /* [gone + come, d] */
    lsq_report *report;
} updater;

static double *doubles(size_t a, size_t b)
{
    return NEW_N(double, a *b + 1);
}

/* x [m, n] = a [m, d] b [n, d]' */
static void products(int m, int n, int d, double alpha, const double *a, const double *b, double *x, int ld)
{
    if (m > 0 && n > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, d, alpha, a, d, b, d, 0.0, x, ld);
}

/* x [m, d] += alpha a [m, n] b [n, d]; with Trans a is [n, m]. */
static void combine(CBLAS_TRANSPOSE t, int m, int n, int d, double alpha, const double *a, int ld, const double *b, double *x)
{
    if (m > 0 && n > 0)
        cblas_dgemm(CblasRowMajor, t, CblasNoTrans, m, d, n, alpha, a, ld, b, d, 1.0, x, d);
}

/* Rows through F or its inverse: x <- x F' (NoTrans), x F (Trans); and with F^-1 in its place. */
static void times_factor(const lsq_factor *f, CBLAS_TRANSPOSE t, double *x, int n)
{
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, t, CblasNonUnit, f->d, n, 1.0, f->f, f->d, x, f->d);
}

static void over_factor(const lsq_factor *f, CBLAS_TRANSPOSE t, double *x, int n)
{
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, t, CblasNonUnit, f->d, n, 1.0, f->f, f->d, x, f->d);
}

static bool is_fixed(const updater *u)
{
    return u->in->fixed > 0;
}

/* ---- taking out ---- */

/* Orthonormal rows in place of z [n, d]; tri [n, n] gets the triangle, column-major. */
static int orthonormal(double *z, double *tri, int n, int d)
{
    double *tau = doubles((size_t)n, 1);
    lapack_int info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, d, n, z, d, tau);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++)
            tri[j * n + i] = i <= j ? z[(size_t)j * (size_t)d + (size_t)i] : 0;
    if (info == 0)
        info = LAPACKE_dorgqr(LAPACK_COL_MAJOR, d, n, n, z, d, tau);
    free(tau);
    return (int)info;
}

/* P <- P (I - Q Q') in whitened coordinates: a = Z Q = P F' Q, then P <- P - a (F^-1 Q)'. */
static int take_out(updater *u)
{
    size_t d = (size_t)u->d, row = sizeof(double) * d;
    int n = u->was->n, all = u->gone + u->come, bad;
    double *q = doubles((size_t)u->gone, d), *back = doubles((size_t)u->gone, d), *a = doubles((size_t)u->n, (size_t)u->gone);
    double *tri = doubles((size_t)u->gone, (size_t)u->gone);
    for (int i = 0; i < u->gone; i++)
        memcpy(q + (size_t)i * d, u->was->p + (size_t)u->out[i] * d, row);
    times_factor(u->f, CblasNoTrans, q, u->gone);
    bad = orthonormal(q, tri, u->gone, u->d);
    memcpy(back, q, row * (size_t)u->gone);
    times_factor(u->f, CblasTrans, back, u->gone);
    over_factor(u->f, CblasNoTrans, q, u->gone);
    products(n, u->gone, u->d, -1, u->was->p, back, u->c, all);
    for (int i = 0; i < n; i++)
        if (u->was->now[i] >= 0)
            memcpy(a + (size_t)u->was->now[i] * (size_t)u->gone, u->c + (size_t)i * (size_t)all,
                   sizeof(double) * (size_t)u->gone);
    combine(CblasNoTrans, u->n, u->gone, u->d, 1, a, u->gone, q, u->p);
    memcpy(u->r, q, row * (size_t)u->gone);
    free(q);
    free(back);
    free(a);
    free(tri);
    return bad;
}

/* ---- adding ---- */

/* The fixed row's right factor is not kept, for its image is zero. Its dual among them all:
 * p_b = (g - sum p_i (k_i g)) / (b g), g = C^-1 b. Rows yet to be added have no part in it. */
static void find_fixed(updater *u)
{
    double *g = u->fixed, *at = doubles((size_t)u->n, 1), length;
    if (is_fixed(u)) {
        memcpy(g, u->in->k, sizeof(double) * (size_t)u->d);
        over_factor(u->f, CblasTrans, g, 1);
        length = cblas_ddot(u->d, g, 1, g, 1);
        over_factor(u->f, CblasNoTrans, g, 1);
        products(1, u->n, u->d, 1, g, u->k, at, u->n);
        combine(CblasNoTrans, 1, u->n, u->d, -1, at, u->n, u->p, g);
        cblas_dscal(u->d, 1 / length, g, 1);
    }
    free(at);
}

static const double *new_row(const updater *u, int i)
{
    return u->k + (size_t)u->add[i] * (size_t)u->d;
}

/* y [come, d] without what the rows there span; t [come, n] grows by how much of each that was. */
static void project_out(const updater *u, double *y, double *t, double *part)
{
    products(u->come, u->n, u->d, 1, y, u->p, part, u->n);
    for (int i = 0; i < u->come && is_fixed(u); i++) {
        double *row = y + (size_t)i * (size_t)u->d;
        cblas_daxpy(u->d, -cblas_ddot(u->d, row, 1, u->fixed, 1), u->in->k, 1, row, 1);
    }
    combine(CblasNoTrans, u->come, u->n, u->d, -1, part, u->n, u->k, y);
    cblas_daxpy(u->come * u->n, 1, part, 1, t, 1);
}

/* y [come, d] = the new rows, whitened, without what the others span. Once leaves what rounding left. False where one of them
 * leaves next to nothing. */
static bool outside(const updater *u, double *y, double *t)
{
    size_t d = (size_t)u->d;
    double *part = doubles((size_t)u->come, (size_t)u->n), *length = doubles((size_t)u->come, 1);
    bool good = true;
    for (int i = 0; i < u->come; i++)
        memcpy(y + (size_t)i * d, new_row(u, i), sizeof(double) * d);
    over_factor(u->f, CblasTrans, y, u->come);
    for (int i = 0; i < u->come; i++) {
        length[i] = cblas_dnrm2(u->d, y + (size_t)i * d, 1);
        memcpy(y + (size_t)i * d, new_row(u, i), sizeof(double) * d);
    }
    for (int pass = 0; pass < ORTHOGONAL; pass++)
        project_out(u, y, t, part);
    over_factor(u->f, CblasTrans, y, u->come);
    for (int i = 0; i < u->come; i++)
        good = good && cblas_dnrm2(u->d, y + (size_t)i * d, 1) > TOLERANCE * length[i];
    free(part);
    free(length);
    return good;
}

/* y [n, d] <- its dual: with y' = Q T, Q T'^-1, and F^-1 before it. */
static bool dual(const lsq_factor *f, double *y, int n)
{
    double *tri = doubles((size_t)n, (size_t)n), most = 0, least = INFINITY;
    bool good = orthonormal(y, tri, n, f->d) == 0;
    for (int i = 0; i < n; i++) {
        most = fmax(most, fabs(tri[i * n + i]));
        least = fmin(least, fabs(tri[i * n + i]));
    }
    good = good && least > TOLERANCE * most;
    if (good) {
        cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, f->d, n, 1.0, tri, n, y, f->d);
        over_factor(f, CblasNoTrans, y, n);
    }
    free(tri);
    return good;
}

/* P <- P - t' P_A for the rows that stay, and P_A in its place. */
static bool add(updater *u)
{
    size_t d = (size_t)u->d;
    int all = u->gone + u->come;
    double *y = u->r + (size_t)u->gone * d, *t = doubles((size_t)u->come, (size_t)u->n);
    bool good;
    find_fixed(u);
    good = outside(u, y, t) && dual(u->f, y, u->come);
    for (int i = 0; good && i < u->was->n; i++)
        for (int a = 0; a < u->come && u->was->now[i] >= 0; a++)
            u->c[i * all + u->gone + a] = -t[a * u->n + u->was->now[i]];
    for (int a = 0; a < u->come; a++)
        u->c[(u->was->n + a) * all + u->gone + a] = 1;
    if (good)
        combine(CblasTrans, u->n, u->come, u->d, -1, t, u->n, y, u->p);
    for (int a = 0; good && a < u->come; a++)
        memcpy(u->p + (size_t)u->add[a] * d, y + (size_t)a * d, sizeof(double) * d);
    free(t);
    return good;
}

/* ---- what came of it: all rows with all would cost more than the change, so random combinations of them ---- */

static double *draw_signs(const char *what, size_t n)
{
    rng_stream bits = rng_open(1, what, 0, 0);
    double *x = doubles(n, 1);
    uint32_t word = 0;
    for (size_t i = 0; i < n; i++, word >>= 1) {
        word = i % 32 == 0 ? rng_u32(bits, i / 32) : word;
        x[i] = word & 1 ? 1 : -1;
    }
    return x;
}

/* The largest length of a column of P K' - I, all but surely from above (lsq.h): of x (P K' - I) for each of a few random x.
 * z [PROBES, d] = x P. */
static double missing(const updater *u, const double *x, const double *z)
{
    int s = u->in->s, fixed = u->in->fixed;
    double *at = doubles(PROBES, (size_t)s), most = 0;
    products(PROBES, s, u->d, 1, z, u->in->k, at, s);
    for (int j = 0; j < s; j++) {
        double sum = 0;
        for (int i = 0; i < PROBES; i++) {
            double off = at[i * s + j] - (j < fixed ? 0 : x[i * u->n + j - fixed]);
            sum += off * off;
        }
        most = isnan(sum) ? INFINITY : fmax(most, sqrt(sum));
    }
    free(at);
    return most;
}

/* |z - Y Z'z| / |z| for z in the span of P F': zero where that is the span of Y. x [PROBES, d]: combinations of P, spoiled. */
static double probe(const updater *u, double *x)
{
    size_t d = (size_t)u->d;
    double *z = x, *back, *t = doubles(PROBES, (size_t)u->n), *of_fixed = doubles(PROBES, 1), whole, off;
    times_factor(u->f, CblasNoTrans, z, PROBES);
    whole = cblas_dnrm2(PROBES * u->d, z, 1);
    back = mem_copy(z, sizeof(double) * PROBES * d);
    times_factor(u->f, CblasTrans, back, PROBES);
    products(PROBES, u->n, u->d, 1, back, u->p, t, u->n);
    if (is_fixed(u))
        products(PROBES, 1, u->d, 1, back, u->fixed, of_fixed, 1);
    memset(back, 0, sizeof(double) * PROBES * d);
    combine(CblasNoTrans, PROBES, u->n, u->d, 1, t, u->n, u->k, back);
    if (is_fixed(u))
        combine(CblasNoTrans, PROBES, 1, u->d, 1, of_fixed, 1, u->in->k, back);
    over_factor(u->f, CblasTrans, back, PROBES);
    cblas_daxpy(PROBES * u->d, -1, back, 1, z, 1);
    off = cblas_dnrm2(PROBES * u->d, z, 1);
    free(t);
    free(back);
    free(of_fixed);
    return whole > 0 ? off / whole : 0;
}

/* Of rows [n, d] behind `first`, which may be NULL: |row F^-1|^2 or |row F'|^2, seen by random g: row (F^-1 g), row (F' g). */
static double *squares(const updater *u, const char *what, bool over, const double *first, const double *rows)
{
    int n = u->n + (first != NULL);
    double *g = draw_signs(what, (size_t)LENGTHS * (size_t)u->d), *at = doubles(LENGTHS, (size_t)n), *sum = doubles((size_t)n, 1);
    if (over)
        over_factor(u->f, CblasNoTrans, g, LENGTHS);
    else
        times_factor(u->f, CblasTrans, g, LENGTHS);
    if (first)
        products(LENGTHS, 1, u->d, 1, g, first, at, n);
    products(LENGTHS, u->n, u->d, 1, g, rows, at + (first != NULL), n);
    for (int i = 0; i < LENGTHS; i++)
        for (int j = 0; j < n; j++)
            sum[j] += at[i * n + j] * at[i * n + j] / LENGTHS;
    free(g);
    free(at);
    return sum;
}

/* About |Y| |Y^+| with the rows of Y at length 1, in Frobenius norms, which is at least the condition. */
static double bound(const updater *u)
{
    double *y = squares(u, "rows", true, is_fixed(u) ? u->in->k : NULL, u->k), sum = 0;
    double *z = squares(u, "duals", false, is_fixed(u) ? u->fixed : NULL, u->p);
    for (int i = 0; i < u->in->s; i++)
        sum += y[i] * z[i];
    free(y);
    free(z);
    return sqrt(u->in->s * sum);
}

static void see_residuals(const updater *u, lsq_report *r)
{
    double *x = draw_signs("probe", (size_t)u->n * PROBES), *z = doubles(PROBES, (size_t)u->d);
    combine(CblasNoTrans, PROBES, u->n, u->d, 1, x, u->n, u->p, z);
    r->miss = missing(u, x, z);
    if (is_fixed(u))
        for (int i = 0; i < PROBES; i++)
            cblas_daxpy(u->d, x[i], u->fixed, 1, z + (size_t)i * (size_t)u->d, 1);
    r->kkt = probe(u, z);
    free(x);
    free(z);
}

static void *see_bound(void *arg)
{
    const updater *u = arg;
    u->report->condition = bound(u);
    return NULL;
}

/* The looks change nothing, and are as long as the change itself: two at once. */
static void judge(updater *u)
{
    lsq_report *r = u->report;
    pthread_t thread;
    bool aside;
    find_fixed(u);
    aside = pthread_create(&thread, NULL, see_bound, u) == 0;
    see_residuals(u, r);
    if (aside)
        pthread_join(thread, NULL);
    else
        see_bound(u);
    r->rank = u->in->s;
    r->reason = r->miss <= GOOD && r->kkt <= GOOD ? LSQ_SOLVED : LSQ_DEPENDENT;
}

/* ---- all of it ---- */

static void open_updater(updater *u)
{
    size_t d = (size_t)u->d, row = sizeof(double) * d;
    bool *taken = NEW_N(bool, u->n + 1);
    u->out = NEW_N(int, u->was->n + 1);
    u->add = NEW_N(int, u->n + 1);
    u->fixed = doubles(d, 1);
    for (int i = 0; i < u->was->n; i++) {
        int now = u->was->now[i];
        if (now < 0) {
            u->out[u->gone++] = i;
            continue;
        }
        taken[now] = true;
        memcpy(u->p + (size_t)now * d, u->was->p + (size_t)i * d, row);
    }
    for (int i = 0; i < u->n; i++) {
        if (taken[i])
            continue;
        u->add[u->come++] = i;
        memset(u->p + (size_t)i * d, 0, row);
    }
    free(taken);
    u->c = doubles((size_t)(u->was->n + u->come), (size_t)(u->gone + u->come));
    u->r = doubles((size_t)(u->gone + u->come), d);
}

int lsq_update(double *p, lsq_report *r, lsq_change *change, const lsq_factor *f, const lsq_problem *in, const lsq_known *was,
               err *e)
{
    updater u = {.f = f, .in = in, .was = was, .d = f->d, .n = in->s - in->fixed, .p = p, .report = r};
    bool good = true;
    CHECK(in->fixed <= 1 && in->s > in->fixed && in->ridge == 0);
    *r = (lsq_report){.reason = LSQ_DEPENDENT};
    *change = (lsq_change){0};
    TRY(lsq_check(f, in, e));
    u.k = in->k + (size_t)in->fixed * (size_t)f->d;
    open_updater(&u);
    if (u.gone > 0)
        good = take_out(&u) == 0;
    if (good && u.come > 0)
        good = add(&u);
    if (good)
        judge(&u);
    *change = (lsq_change){u.gone + u.come, u.c, u.r};
    free(u.fixed);
    free(u.out);
    free(u.add);
    return 0;
}

void lsq_change_free(lsq_change *c)
{
    free(c->c);
    free(c->r);
    *c = (lsq_change){0};
}
