#ifndef RESIZE_H
#define RESIZE_H
/* Pillow's resampling of 8-bit RGB, to the byte: separable, the filter widened by the factor of shrinking, rows
 * first and columns second, 22-bit fixed-point weights, rounded and clipped to 8 bits after each of the two. */
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

typedef enum {
    RESIZE_BILINEAR, /* a triangle of half width 1 */
    RESIZE_BICUBIC   /* Keys' cubic with a = -0.5, half width 2 (IEEE Trans. ASSP 29, 1981) */
} resize_filter;

/* A rectangle of a picture; rows lie `stride` bytes apart. */
typedef struct {
    const uint8_t *at;
    int h, w;
    size_t stride;
} resize_from;

/* A rectangle [top, top + h) x [left, left + w) of the picture scaled to high x wide. */
typedef struct {
    int high, wide;
    int top, left, h, w;
} resize_to;

/* to: [h, w, 3], dense. ERR_MEMORY. */
int resize(uint8_t *to, resize_to size, resize_from from, resize_filter filter, err *e);
/* The whole of it, each channel resampled as Pillow does a picture of mode F: values stay what they are, neither rounded
 * nor clipped. to: [high, wide, 3]. */
int resize_floats(float *to, int high, int wide, resize_from from, resize_filter filter, err *e);
#endif
