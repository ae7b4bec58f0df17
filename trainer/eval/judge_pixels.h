#ifndef JUDGE_PIXELS_H
#define JUDGE_PIXELS_H
/* Pictures as measuring models were trained to see them, to the byte of what their published programs do with Pillow
 * (facts 11.1, 11.4, 11.5). */
#include "data/image.h"

/* The shorter side to `shorter` by bicubic (the other in proportion, rounded down), a square of `side` cut from the
 * middle, then (v / 255 - mean) / std per channel. */
typedef struct {
    int shorter, side;
    float mean[3], std[3];
} judge_crop;
int judge_pixels_crop(float *out, const image *m, const judge_crop *how, err *e);              /* [side,side,3] */

/* As clean-fid: squashed to side x side in floats, clipped to 0..255, not rounded; then (v - centre) / centre. */
int judge_pixels_squash(float *out, const image *m, int side, float centre, err *e);          /* [side,side,3] */
#endif
