#ifndef SVD_H
#define SVD_H
/* Singular values and vectors of one matrix; export_lora.c has the code. */
#include "cluster/base/err.h"

typedef struct {
    int rows, cols, m;
    double *u, *sigma, *vt; /* row-major [rows, m], [m], [m, cols]; m the smaller side */
} svd;
int svd_make(svd *out, double *a, int rows, int cols, err *e); /* a [rows, cols] row-major is destroyed */
void svd_free(svd *s);
#endif
