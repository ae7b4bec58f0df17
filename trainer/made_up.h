#ifndef MADE_UP_H
#define MADE_UP_H
/* Samples of random numbers, for measuring: what a step costs depends on no picture and no word, and nothing has to be encoded or
 * loaded. Of a model with rows for modifier tokens the first stands in every text. */
#include "trainer/step.h"

typedef struct { sd *model; int64_t h, w; } made_up;  /* h, w: of latents */
int made_up_fill(void *arg, int sample, step_sample *x, err *e); /* arg: a made_up; a step_fill */
int made_up_say(void *arg, int sample, float *text, err *e);
#endif
