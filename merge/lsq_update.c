/* A solve changed by a few rows (lsq.h has the algebra). Work is rows x d x changed rows; only what is looked at in the
 * end (constraints, lengths) costs as much as a product of all rows with all rows.
 *
 * Row-major: rows [n, d] behind each other, which LAPACK sees as columns [d, n]. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "merge/lsq_impl.h"

static const double TOLERANCE = 1e-5; /* a new row this near to the others' span is for the pivoted solve to judge */
static const double GOOD = 1e-10;     /* what may be missed; a solve anew leaves 1e-13 */
enum { ORTHOGONAL = 3, PROBES = 8 };

typedef struct {
    const lsq_factor *f;
    const lsq_problem *in;
    const lsq_known *was;
    int d, gone, come, stay; /* rows taken out, added, kept */
    double *p;               /* [was->n, d] the known right factors as they change */
    int *out, *add;          /* which they are: indices of was, and of the new problem's rows with an image */
    double *c;               /* [was->n + come, gone + come] */
    double *r;               /* [gone + come, d] */
} updater;

static double *doubles(size_t a, size_t b)
{
    return NEW_N(double, a *b + 1);
}

/* x [m, n] = a [m, d] b [n, d]', plus beta x */
static void products(int m, int n, int d, double alpha, const double *a, const double *b, double beta, double *x, int ld)
{
    if (m > 0 && n > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, d, alpha, a, d, b, d, beta, x, ld);
}

/* x [m, d] += alpha a [m, n] b [n, d] */
static void combine(int m, int n, int d, double alpha, const double *a, int ld, const double *b, double *x)
{
    if (m > 0 && n > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, d, n, alpha, a, ld, b, d, 1.0, x, d);
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

static const double *new_row(const updater *u, int i)
{
    return u->in->k + (size_t)(u->in->fixed + i) * (size_t)u->d;
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
    int n = u->was->n, all = u->gone + u->come;
    double *q = doubles((size_t)u->gone, d), *back = doubles((size_t)u->gone, d);
    double *tri = doubles((size_t)u->gone, (size_t)u->gone);
    int bad;
    for (int i = 0; i < u->gone; i++)
        memcpy(q + (size_t)i * d, u->p + (size_t)u->out[i] * d, row);
    times_factor(u->f, CblasNoTrans, q, u->gone);
    bad = orthonormal(q, tri, u->gone, u->d);
    memcpy(back, q, row * (size_t)u->gone);
    times_factor(u->f, CblasTrans, back, u->gone);
    over_factor(u->f, CblasNoTrans, q, u->gone);
    products(n, u->gone, u->d, -1, u->p, back, 0, u->c, all);
    combine(n, u->gone, u->d, 1, u->c, all, q, u->p);
    memcpy(u->r, q, row * (size_t)u->gone);
    free(q);
    free(back);
    free(tri);
    return bad;
}

/* ---- adding ---- */

/* Rows that stay, the fixed one in front, and their right factors. */
typedef struct {
    int n;
    double *k, *p; /* [n, d] */
    int *from;     /* [n] which of the known rows; -1: the fixed one */
} basis;

static void free_basis(basis *b)
{
    free(b->k);
    free(b->p);
    free(b->from);
}

/* The fixed row's right factor is not kept, for its image is zero. Its dual among them all:
 * p_b = (g - sum p_i (k_i g)) / (b g), g = C^-1 b. */
static void find_fixed(const lsq_factor *f, basis *b)
{
    size_t d = (size_t)f->d;
    double *g = b->p, *at = doubles((size_t)b->n, 1), length;
    memcpy(g, b->k, sizeof(double) * d);
    over_factor(f, CblasTrans, g, 1);
    length = cblas_ddot(f->d, g, 1, g, 1);
    over_factor(f, CblasNoTrans, g, 1);
    products(1, b->n - 1, f->d, 1, g, b->k + d, 0, at, b->n);
    combine(1, b->n - 1, f->d, -1, at, b->n, b->p + d, g);
    cblas_dscal(f->d, 1 / length, g, 1);
    free(at);
}

static void open_basis(basis *b, const updater *u)
{
    size_t d = (size_t)u->d, row = sizeof(double) * d, n = 0;
    *b = (basis){.n = u->in->fixed + u->stay};
    b->k = doubles((size_t)b->n, d);
    b->p = doubles((size_t)b->n, d);
    b->from = NEW_N(int, b->n + 1);
    if (is_fixed(u)) {
        memcpy(b->k, u->in->k, row);
        b->from[n++] = -1;
    }
    for (int i = 0; i < u->was->n; i++) {
        if (u->was->now[i] < 0)
            continue;
        memcpy(b->k + n * d, u->was->k + (size_t)i * d, row);
        memcpy(b->p + n * d, u->p + (size_t)i * d, row);
        b->from[n++] = i;
    }
    if (is_fixed(u))
        find_fixed(u->f, b);
}

/* y [come, d] = the new rows, whitened, without what the basis spans; t [come, basis] how much of each that is. Once leaves
 * what rounding left. False where one of them leaves next to nothing. */
static bool outside(const updater *u, const basis *b, double *y, double *t)
{
    size_t d = (size_t)u->d;
    double *part = doubles((size_t)u->come, (size_t)b->n), *length = doubles((size_t)u->come, 1);
    bool good = true;
    for (int i = 0; i < u->come; i++)
        memcpy(y + (size_t)i * d, new_row(u, u->add[i]), sizeof(double) * d);
    over_factor(u->f, CblasTrans, y, u->come);
    for (int i = 0; i < u->come; i++) {
        length[i] = cblas_dnrm2(u->d, y + (size_t)i * d, 1);
        memcpy(y + (size_t)i * d, new_row(u, u->add[i]), sizeof(double) * d);
    }
    for (int pass = 0; pass < ORTHOGONAL; pass++) {
        products(u->come, b->n, u->d, 1, y, b->p, 0, part, b->n);
        combine(u->come, b->n, u->d, -1, part, b->n, b->k, y);
        cblas_daxpy(u->come * b->n, 1, part, 1, t, 1);
    }
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

/* P <- P - t' P_A for the rows that stay, and P_A behind them. */
static bool add(updater *u)
{
    size_t d = (size_t)u->d;
    int all = u->gone + u->come;
    double *y = u->r + (size_t)u->gone * d, *t;
    basis b;
    bool good;
    open_basis(&b, u);
    t = doubles((size_t)u->come, (size_t)b.n);
    good = outside(u, &b, y, t) && dual(u->f, y, u->come);
    for (int j = 0; good && j < b.n; j++)
        for (int i = 0; i < u->come && b.from[j] >= 0; i++)
            u->c[b.from[j] * all + u->gone + i] = -t[i * b.n + j];
    for (int i = 0; i < u->come; i++)
        u->c[(u->was->n + i) * all + u->gone + i] = 1;
    if (good)
        combine(u->was->n, u->come, u->d, 1, u->c + u->gone, all, y, u->p);
    free(t);
    free_basis(&b);
    return good;
}

/* ---- what came of it ---- */

/* The largest entry of P K' - I over all rows. */
static double missing(const updater *u, const double *p)
{
    int n = u->in->s - u->in->fixed, s = u->in->s;
    double *miss = doubles((size_t)n, (size_t)s), most = 0;
    products(n, s, u->d, 1, p, u->in->k, 0, miss, s);
    for (int i = 0; i < n; i++)
        miss[(size_t)i * (size_t)s + (size_t)(u->in->fixed + i)] -= 1;
    for (size_t i = 0; i < (size_t)n * (size_t)s; i++)
        most = isnan(miss[i]) ? INFINITY : fmax(most, fabs(miss[i]));
    free(miss);
    return most;
}

static void open_whole(basis *b, const updater *u, const double *p)
{
    size_t d = (size_t)u->d;
    *b = (basis){.n = u->in->s, .p = doubles((size_t)u->in->s, d)};
    b->k = mem_copy(u->in->k, sizeof(double) * d * (size_t)u->in->s);
    memcpy(b->p + (size_t)u->in->fixed * d, p, sizeof(double) * d * (size_t)(u->in->s - u->in->fixed));
    if (is_fixed(u))
        find_fixed(u->f, b);
}

/* |z - Y Z'z| / |z| over random z in the span of P F': zero where that is the span of Y. */
static double probe(const updater *u, const basis *b)
{
    size_t d = (size_t)u->d;
    float *draw = NEW_N(float, b->n *PROBES);
    double *x = doubles(PROBES, (size_t)b->n), *z = doubles(PROBES, d), *t = doubles(PROBES, (size_t)b->n), whole, off;
    double *back = doubles(PROBES, d);
    rng_normal_fill(rng_open(1, "probe", 0, 0), draw, (size_t)b->n * PROBES);
    for (int i = 0; i < b->n * PROBES; i++)
        x[i] = draw[i];
    combine(PROBES, b->n, u->d, 1, x, b->n, b->p, z);
    times_factor(u->f, CblasNoTrans, z, PROBES);
    whole = cblas_dnrm2(PROBES * u->d, z, 1);
    memcpy(back, z, sizeof(double) * PROBES * d);
    times_factor(u->f, CblasTrans, back, PROBES);
    products(PROBES, b->n, u->d, 1, back, b->p, 0, t, b->n);
    memset(back, 0, sizeof(double) * PROBES * d);
    combine(PROBES, b->n, u->d, 1, t, b->n, b->k, back);
    over_factor(u->f, CblasTrans, back, PROBES);
    cblas_daxpy(PROBES * u->d, -1, back, 1, z, 1);
    off = cblas_dnrm2(PROBES * u->d, z, 1);
    free(draw);
    free(x);
    free(z);
    free(t);
    free(back);
    return whole > 0 ? off / whole : 0;
}

/* |Y| |Y^+| with the rows of Y at length 1, in Frobenius norms: at least the condition. Spoils b. */
static double bound(const updater *u, basis *b)
{
    double sum = 0;
    over_factor(u->f, CblasTrans, b->k, b->n);
    times_factor(u->f, CblasNoTrans, b->p, b->n);
    for (int i = 0; i < b->n; i++) {
        double x = cblas_dnrm2(u->d, b->k + (size_t)i * (size_t)u->d, 1) * cblas_dnrm2(u->d, b->p + (size_t)i * (size_t)u->d, 1);
        sum += x * x;
    }
    return sqrt(b->n * sum);
}

static void judge(const updater *u, double *p, lsq_report *r)
{
    basis b;
    r->miss = missing(u, p);
    open_whole(&b, u, p);
    r->kkt = probe(u, &b);
    r->condition = bound(u, &b);
    r->rank = u->in->s;
    r->reason = r->miss <= GOOD && r->kkt <= GOOD ? LSQ_SOLVED : LSQ_DEPENDENT;
    free_basis(&b);
}

/* ---- all of it ---- */

static void open_updater(updater *u)
{
    int n = u->in->s - u->in->fixed, rank;
    bool *taken = NEW_N(bool, n + 1);
    u->out = NEW_N(int, u->was->n + 1);
    u->add = NEW_N(int, n + 1);
    for (int i = 0; i < u->was->n; i++)
        if (u->was->now[i] < 0)
            u->out[u->gone++] = i;
        else
            taken[u->was->now[i]] = true;
    for (int i = 0; i < n; i++)
        if (!taken[i])
            u->add[u->come++] = i;
    free(taken);
    u->stay = u->was->n - u->gone;
    rank = u->gone + u->come;
    u->p = mem_copy(u->was->p, sizeof(double) * (size_t)u->was->n * (size_t)u->d);
    u->c = doubles((size_t)(u->was->n + u->come), (size_t)rank);
    u->r = doubles((size_t)rank, (size_t)u->d);
}

static void collect(const updater *u, double *p)
{
    size_t d = (size_t)u->d, row = sizeof(double) * d;
    for (int i = 0; i < u->was->n; i++)
        if (u->was->now[i] >= 0)
            memcpy(p + (size_t)u->was->now[i] * d, u->p + (size_t)i * d, row);
    for (int i = 0; i < u->come; i++)
        memcpy(p + (size_t)u->add[i] * d, u->r + (size_t)(u->gone + i) * d, row);
}

int lsq_update(double *p, lsq_report *r, lsq_change *change, const lsq_factor *f, const lsq_problem *in, const lsq_known *was,
               err *e)
{
    updater u = {.f = f, .in = in, .was = was, .d = f->d};
    bool good = true;
    CHECK(in->fixed <= 1 && in->s > in->fixed && in->ridge == 0);
    *r = (lsq_report){.reason = LSQ_DEPENDENT};
    *change = (lsq_change){0};
    TRY(lsq_check(f, in, e));
    open_updater(&u);
    if (u.gone > 0)
        good = take_out(&u) == 0;
    if (good && u.come > 0)
        good = add(&u);
    if (good) {
        collect(&u, p);
        judge(&u, p, r);
    }
    *change = (lsq_change){u.gone + u.come, u.c, u.r};
    free(u.p);
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
