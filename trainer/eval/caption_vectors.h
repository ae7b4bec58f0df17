#ifndef CAPTION_VECTORS_H
#define CAPTION_VECTORS_H
/* Captions as the vectors they are compared by, many at a time: what sd_text_embed gives one by one. */
#include "data/tokenizer.h"
#include "trainer/model/sd.h"

enum { CAPTION_BATCH = 16 };
typedef struct caption_vectors caption_vectors;
int caption_vectors_open(caption_vectors **out, sd *model, const tokenizer *words, err *e);
void caption_vectors_close(caption_vectors *c);
int caption_vectors_width(const caption_vectors *c);
/* At most CAPTION_BATCH; out [n, width], not normalised. */
int caption_vectors_run(caption_vectors *c, const char *const captions[], int n, float *out, err *e);
#endif
