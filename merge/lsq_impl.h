#ifndef LSQ_IMPL_H
#define LSQ_IMPL_H
/* Between lsq.c, lsq_ridge.c and lsq_update.c. */
#include "merge/lsq.h"

extern const double LSQ_TOLERANCE; /* where a problem names none */
int lsq_check(const lsq_factor *f, const lsq_problem *in, err *e); /* whether captions and rows can be solved with at all */
int lsq_solve_ridged(double *p, lsq_report *r, const lsq_factor *f, const lsq_problem *in, err *e);
#endif
