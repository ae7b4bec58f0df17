#ifndef LSQ_H
#define LSQ_H
/* Custom Diffusion's merge (Kumari et al. 2023, section 3.3): for every cross-attention matrix W, [out, d],
 *     minimise |(W - W0) R'|_F   subject to   W k_i = v_i   for the target rows k_1 .. k_s,
 * R [rows, d]: text features that must keep their images. README.md derives what is computed here:
 *     W = W0 + sum_i e_i p_i',   e_i = v_i - W0 k_i,
 * where the right factor P [s, d] depends on R and the k_i alone, so one P serves all matrices. Everything is double;
 * nothing is squared (the condition of R'R is that of R squared) and nothing inverted.
 *
 * A solver answers with a reason and figures; that the rows depend on each other is an answer, not an error. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/err.h"

/* F upper triangular with F'F = R'R, grown row block by row block (QR), so R is never held whole. */
typedef struct {
    int d;
    int64_t rows;     /* rows taken in */
    double *f;        /* [d, d] column-major; strictly lower part zero */
    double condition; /* sigma_1 / sigma_d of F, that of R; after lsq_factor_judge */
    int rank;         /* singular values above 3e-8 sigma_1, the noise of features rounded to f32 */
} lsq_factor;

int lsq_factor_new(lsq_factor *out, int d, err *e);
void lsq_factor_free(lsq_factor *f);
int lsq_factor_add(lsq_factor *f, const float *rows, int64_t n, err *e); /* [n, d] */
/* sqrt(weight) I as d more rows: C0 + weight I, for captions that do not span the space. */
int lsq_factor_ridge(lsq_factor *f, double weight, err *e);
int lsq_factor_judge(lsq_factor *f, err *e); /* rank and condition */
double lsq_factor_mean(const lsq_factor *f); /* trace(R'R) / d: the unit of a ridge */
/* y [n, d] = rows of x [n, d] times F': |y_i| is how much a matrix row along x_i moves the features R. */
void lsq_factor_apply(const lsq_factor *f, const double *x, int64_t n, double *y);

typedef enum {
    LSQ_SOLVED,
    LSQ_RIDGED,   /* constraints are met as far as the ridge allows */
    LSQ_DEPENDENT /* target rows depend on each other: `dependent` names them; no P */
} lsq_reason;

typedef struct {
    lsq_reason reason;
    int rank;       /* of the target rows, the fixed ones included */
    int *dependent; /* [n_dependent] indices into k, ascending */
    int n_dependent;
    double condition; /* of the target rows as the features see them (whitened, each of length 1), in the 1-norm */
    double miss;      /* largest |P K' - I| entry: what every constraint misses at most, per unit of e */
    double kkt;       /* part of P F' outside the span the optimum must lie in, relative: stationarity */
    int refined;      /* steps of refinement that helped */
    int nearest;      /* the row that is nearest to the others' span, an index into k, and */
    double own;       /* the part of it that is its own, a share; 0: not looked for */
} lsq_report;

typedef struct {
    int s;            /* target rows */
    int fixed;        /* the first so many have e = 0: they must stay (the first token's feature) */
    const double *k;  /* [s, d] */
    double tolerance; /* a row whose part outside the span of the others is below this share of it is dependent;
                         0: 1e-6, ten times what rounding features to f32 makes of it */
    double ridge;     /* 0: constraints hold exactly. > 0: minimise |(W-W0)R'|^2 + |WK'-V|^2 / (ridge g), g the mean
                         squared length of the whitened rows; the fixed rows hold exactly all the same */
} lsq_problem;

/* p [s - fixed, d]. *r is the caller's: lsq_report_free it. ERR_INPUT when R has no full rank or a value is not
 * finite; LSQ_DEPENDENT is success with p untouched. */
int lsq_solve(double *p, lsq_report *r, const lsq_factor *f, const lsq_problem *in, err *e);
void lsq_report_free(lsq_report *r);

/* ---- some rows more, some less ----
 *
 * What an earlier solve left is changed by as many rows as come and go, instead of solving anew. Whitened, Z = P F' are
 * the rows of Y^+ and everything follows from Z Y' = I and span Z = span Y:
 *     taking out J:  span(Y of the others) is span Y without span Z_J, so Z <- Z (I - Q Q'), Q an orthonormal Z_J
 *     adding A:      y_A without what the others span is r, its dual Z_A = r (r'r)^-1;  Z <- Z - (Z y_A) Z_A */
typedef struct {
    int n;
    const double *p; /* [n, d]: right factors, by a solve with the same fixed rows and no ridge */
    const int *now;  /* [n] which row with an image each is in the new problem; -1: taken out */
} lsq_known;

/* P as it is - P as it was = c r, over the rows known and behind them those added, in the new problem's order (P of what
 * is not there counts as zero). */
typedef struct {
    int rank;
    double *c, *r; /* [rows, rank], [rank, d] */
} lsq_change;
void lsq_change_free(lsq_change *c);

/* p [s - fixed, d] of in (no ridge, at most one row fixed) from what is known. What r says is seen by random probes: r->miss is the
 * largest length of a column of P K' - I, from above but for two chances in a thousand, r->kkt an estimate, r->condition about a bound
 * (Frobenius norms).
 * LSQ_DEPENDENT: a new row depends on the others, or too much was lost on the way; lsq_solve is to be asked (p is spoiled,
 * dependent is not named). */
int lsq_update(double *p, lsq_report *r, lsq_change *change, const lsq_factor *f, const lsq_problem *in, const lsq_known *was,
               err *e);

/* ---- a ridge, from the rows' singular values ----
 *
 * With the rows with an image, whitened, without what the fixed ones span, Y [n, d] = V diag(sigma) U', every ridge's P is V G,
 *     G = diag(sigma / (sigma^2 + ridge g)) U' F'^-1  [m, d],
 * so that X = E'P = (V'E)' G: however many rows there are, m <= d combinations of their images say all of X. */
typedef struct {
    int n, m, d, rank;
    double *v;     /* [n, m] orthonormal columns */
    double *sigma; /* [m] */
    double *right; /* [m, d]: U'F'^-1 */
    double unit;   /* g */
} lsq_spectrum;

int lsq_spectrum_open(lsq_spectrum *out, const lsq_factor *f, const lsq_problem *in, err *e); /* in->ridge is not looked at */
void lsq_spectrum_free(lsq_spectrum *sp);
/* The smallest ridge for which |(W - W0) R'| is at most `limit`, found by bisection; gain [m] is |V'E|^2 row by row, summed
 * over all matrices. At least 1e-12, at most 1e12. */
double lsq_spectrum_ridge(const lsq_spectrum *sp, const double *gain, double limit);
/* g [m, d] for this ridge; what r says is of P = V G. */
void lsq_spectrum_solve(double *g, lsq_report *r, const lsq_spectrum *sp, double ridge);
#endif
