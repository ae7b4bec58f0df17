#ifndef EYE_H
#define EYE_H
/* A small convolutional net that tells things of a picture of the captioned world (data/toyworld/world.h). What its logits mean is
 * the caller's: the examiner's questions (scratch_exam.c), or a yes or no for each thing (tests/findings). */
#include "trainer/nn/plan.h"

/* Random weights, variance 2 / inputs (He et al. 2015). */
int eye_begin(nn_params *weights, int answers, uint64_t seed, err *e);
/* pixels [n, WORLD_SIDE, WORLD_SIDE, 3] in -1..1 -> logits [n, answers] */
nn_tensor eye_write(nn_graph *g, nn_tensor pixels, int answers);

typedef struct eye eye;
/* One that has learnt, from its safetensors file. on is borrowed. */
int eye_open(eye **out, const char *file, int answers, nn_backend *on, err *e);
/* pixels [WORLD_SIDE, WORLD_SIDE, 3] in -1..1 -> logits [answers] */
int eye_look(eye *x, const float *pixels, float *logits, err *e);
void eye_close(eye *x); /* NULL is fine */
#endif
