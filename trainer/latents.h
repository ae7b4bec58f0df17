#ifndef LATENTS_H
#define LATENTS_H
/* The VAE's moments of every picture as it was shown, encoded once and kept while there is room: class pictures come
 * again and again, and so do pictures that no draw resized. What a training step needs of them is a fresh sample. The same for
 * captions that no word which moves stands in, where the text encoder does not. */
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/batch.h"
#include "trainer/model/sd.h"

/* What is kept in memory, for all trainings of a worker with this model and side: what one had encoded serves the others,
 * from several threads. bytes: most to keep. The model is borrowed. */
typedef struct latents_pool latents_pool;
latents_pool *latents_pool_new(sd *model, int side, size_t bytes);
void latents_pool_free(latents_pool *p);

/* One training's. */
typedef struct latents latents;
/* kept: a folder where moments of class pictures shown whole, and their captions, are found, and left for other
 * concepts (moments.h); "": none. The pool, the source and the text are borrowed. The bytes of a result are the same
 * with and without. */
latents *latents_new(latents_pool *pool, batch_source *from, const char *kept);
void latents_free(latents *l);
/* out [h,w,c]: (mean + std * noise) * scaling with the noise of this stream; h = w = side / factor. */
int latents_draw(latents *l, const batch_sample *of, rng_stream noise, float *out, err *e);
/* What is encoded: a sample's picture as it is shown; its caption, in f32 (sd_text_encode), or as passes compute it (sd_text_states). */
typedef enum { LATENTS_PICTURE, LATENTS_TEXT_EXACT, LATENTS_TEXT } latents_what;
/* out [TOKENS, width of the text]: what the text encoder says of the sample's caption. */
int latents_text(latents *l, const batch_sample *of, latents_what w, float *out, err *e);
/* Samples of one training or of several with one pool, which will be asked for next: what is not known of them is encoded together,
 * to the same bits. What cannot be is left to whoever asks, and is told why. */
typedef struct {
    latents *of;
    const batch_sample *sample;
} latents_wish;
void latents_prepare(const latents_wish wish[], int n, latents_what w);
void latents_tell(const latents *l, str *line); /* how many were encoded, found on disk, and could not be kept there, and why */
#endif
