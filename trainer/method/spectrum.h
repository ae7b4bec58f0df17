#ifndef SPECTRUM_H
#define SPECTRUM_H
/* Singular values of a base model's weights: W = U diag(s) V, made once and kept beside the model in DIR.svd/WEIGHT.h5 with
 * checksums, and with the sha256 of the weight they are of: a file of another weight is refused.
 *
 * A weight [out, ...] counts as a matrix [out, rest], as files hold it. A vector (the gain of a norm) has either one value
 * a channel, s = |w|, U = sign(w), or a single one, s = |w|_2, U = w / s; it needs no file, and v is NULL. */
#include "trainer/model/sd.h"

typedef struct {
    int64_t rows, cols, n;     /* n singular values */
    float *u, *s, *v;          /* [rows, n], [n], [n, cols]; of a vector u [rows] */
} spectrum;

/* weight: as in sd_params ("unet.conv_in.weight"). single: of a vector. ERR_IO when the files cannot be kept. */
int spectrum_of(spectrum *out, const sd *base, const char *weight, bool single, err *e);
void spectrum_free(spectrum *s);
#endif
