#ifndef SAMPLE_BATCH_H
#define SAMPLE_BATCH_H
/* Many pictures at once on a device: its loop is one recorded run that is begun for every call of the sampler and waited for
 * when all are done; guidance, the sampler's arithmetic and the latents stay on the device, and the VAE decodes the whole batch.
 * Each picture has words of its own, and where the model has a bank beside it, concepts of its own: a batch mixes them.
 *
 * Promise: a picture is sample_picture's of the same words, seed and index, to rounding, whoever is made beside it. */
#include "trainer/sample.h"

typedef struct { const char *prompt, *negative; uint32_t index; } sample_ask;
typedef struct sample_batch sample_batch;

/* NULL where pictures of these options can be made at once on this model's backend; else why not. */
const char *sample_batch_declines(sd *m, const sample_opts *o);
enum { SAMPLE_BATCH_USUAL = 8 };
/* For some of `all` pictures a run where nobody says how many: SAMPLE_BATCH_USUAL, or fewer where there are not so many, or no
 * memory for them: *most. Where they are made one after another: *out NULL, *most 1. How many are left to make should not
 * decide, so that a picture that is made anew comes of the same run. */
int sample_batch_some(sample_batch **out, sd *m, const sample_opts *o, int all, int *most, err *e);
/* For up to `most` pictures a run; the options are borrowed. Whoever changes the model's weights closes it before. */
int sample_batch_open(sample_batch **out, sd *m, const sample_opts *o, int most, err *e);
void sample_batch_close(sample_batch *b);
/* pixels [n, height, width, 3] in 0..1. */
int sample_batch_run(sample_batch *b, const tokenizer *t, const sample_ask asks[], int n, float *pixels, err *e);
#endif
