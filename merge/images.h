#ifndef IMAGES_H
#define IMAGES_H
/* Images of target rows as the cards have them, [n, outs] over all concepts: gathered, combined, and compared with what a merge
 * makes of them. */
#include "merge/compose_impl.h"

float *images_gather(const rows *r, const concept in[]); /* free() it */
/* x [m, outs] = V' images, v [n, m]: some at a time, so that they need not lie behind each other. free() it. */
float *images_combine(const rows *r, const concept in[], const double *v, int m);
/* What x [m, outs] adds up to by t [n, m], beside what is wanted: off[i] = |x' t_i - weight_i image_i|^2 (weight NULL: 1, by
 * concept), size[i] = |image_i|^2. f32 throughout: for rows that are missed by far more than its rounding. */
void images_miss(double *off, double *size, const rows *r, const concept in[], const double *weight, const float *x,
                 const double *t, int m);
#endif
