#ifndef SCORE_H
#define SCORE_H
/* What the figures of a measurement are, on features alone. Nothing here knows a model or a picture. */
#include <stdint.h>

#include "cluster/base/err.h"

/* One figure under several published scalings: each is named wherever it is written, and none stands for another. */
typedef enum {
    SCALE_COSINE,   /* as it is: DreamBooth, Textual Inversion, every image alignment */
    SCALE_HUNDRED,  /* 100 cosine, as many tables print */
    SCALE_CLIPSCORE /* 2.5 max(cosine, 0) of each picture (Hessel et al. 2021): Custom Diffusion's text alignment */
} score_scale;
enum { SCORE_SCALES = 3 };
const char *score_scale_name(score_scale s);
double score_scaled(score_scale s, double cosine);

/* Rows [n,width] to length 1, in place; a row of zeros stays. */
void score_normalise(float *rows, int64_t n, int64_t width);
/* Of rows of length 1: the mean row (not normalised), whose product with a row is that row's mean cosine with all. */
void score_mean_row(double *out, const float *rows, int64_t n, int64_t width);
double score_cosine(const float *a, const float *b, int64_t width); /* of rows of length 1 */
double score_with_mean(const float *a, const double *mean, int64_t width);

/* Kernel inception distance (Binkowski et al. 2018): the unbiased estimate of the squared maximum mean discrepancy
 * under the kernel (x.y / width + 1)^3, the mean over subsets of `size` rows drawn without replacement from each side;
 * a function of the rows, the options and the seed. */
typedef struct {
    int subsets, size;  /* 100 and 1000 in clean-fid; size falls to the smaller side's count */
    uint64_t seed;
} kid_opts;
typedef struct {
    double mean, deviation; /* over subsets; deviation 0 for one */
    int size;               /* as used */
} kid;
/* x [nx,width], y [ny,width]; ERR_INPUT for fewer than two rows on a side. */
int score_kid(kid *out, const float *x, int64_t nx, const float *y, int64_t ny, int64_t width, const kid_opts *o,
              err *e);
#endif
