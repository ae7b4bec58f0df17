#ifndef LATENTS_H
#define LATENTS_H
/* The VAE's moments of every picture as it was shown, encoded once and kept while there is room: class pictures come
 * again and again, and so do pictures that no draw resized. What a training step needs of them is a fresh sample. */
#include "cluster/base/rng.h"
#include "data/batch.h"
#include "trainer/model/sd.h"

typedef struct latents latents;
/* bytes: most to keep. The model and the source are borrowed. */
latents *latents_new(sd *model, batch_source *from, size_t bytes);
void latents_free(latents *l);
/* out [h,w,c]: (mean + std * noise) * scaling with the noise of this stream; h = w = side / factor. */
int latents_draw(latents *l, const batch_sample *of, rng_stream noise, float *out, err *e);
void latents_tell(const latents *l, uint64_t *asked, uint64_t *encoded);
#endif
