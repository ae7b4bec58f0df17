#ifndef SPECTRUM_H
#define SPECTRUM_H
/* Singular values of a base model's weights: W = U diag(s) V, made once and kept in the cache folder (fs_cache_dir), one file
 * with checksums a weight, named after the sha256 of the weight itself: models that have it in common share it, and no file is
 * taken for another's. A damaged one is made anew. The model's own folder is only read.
 *
 * A weight [out, ...] counts as a matrix [out, rest], as files hold it. A vector (the gain of a norm) has either one value
 * a channel, s = |w|, U = sign(w), or a single one, s = |w|_2, U = w / s; it needs no file, and v is NULL. */
#include "trainer/model/sd.h"

typedef struct {
    int64_t rows, cols, n;     /* n singular values */
    float *u, *s, *v;          /* [rows, n], [n], [n, cols]; of a vector u [rows] */
} spectrum;

/* weight: as in sd_params ("unet.conv_in.weight"). single: of a vector. ERR_IO when a file cannot be kept. */
int spectrum_of(spectrum *out, const sd *base, const char *weight, bool single, err *e);
void spectrum_free(spectrum *s);
#endif
