#ifndef SAMPLE_INSIDE_H
#define SAMPLE_INSIDE_H
/* What sample.c and sample_batch.c share. */
#include "trainer/sample.h"

/* Features of the prompt, then of the negative prompt: [2, TOKENS, width + sd_beside]. */
int sample_words(sd *m, const tokenizer *t, const bank *beside, const char *prompt, const char *negative, float *features, err *e);
#endif
