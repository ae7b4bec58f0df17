#ifndef LATENTS_H
#define LATENTS_H
/* The VAE's moments of every picture as it was shown, encoded once and kept while there is room: class pictures come
 * again and again, and so do pictures that no draw resized. What a training step needs of them is a fresh sample. */
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/batch.h"
#include "trainer/model/sd.h"

typedef struct latents latents;
/* bytes: most to keep in memory. kept: a folder where moments of class pictures shown whole are found, and left for other
 * concepts (moments.h); "": none. The model, the source and the text are borrowed. The bytes of a result are the same
 * with and without. */
latents *latents_new(sd *model, batch_source *from, const char *kept, size_t bytes);
void latents_free(latents *l);
/* out [h,w,c]: (mean + std * noise) * scaling with the noise of this stream; h = w = side / factor. */
int latents_draw(latents *l, const batch_sample *of, rng_stream noise, float *out, err *e);
void latents_tell(const latents *l, str *line); /* how many were encoded, found on disk, and could not be kept there, and why */
#endif
