#ifndef SMALL_MODEL_H
#define SMALL_MODEL_H
/* A Stable Diffusion with seeded random weights in a folder that comes and goes: two levels (the second without
 * attention), pictures of 16 x 16, latents of 4 channels at half that, a vocabulary of single letters. Its weights are
 * those that its own graphs ask for. */
#include "cluster/base/fs.h"
#include "data/tokenizer.h"
#include "trainer/model/sd.h"

/* Group setup and teardown of cmocka. */
int small_model_make(void **state);
int small_model_clear(void **state);
const char *small_model_dir(void);

/* Another model beside it, for tests that break one: a copy of all files. */
void small_model_copy(char to[FS_PATH], const char *name);
void small_model_write(const char *dir, const char *file, const char *text); /* one file of it, by its path inside */

/* Opened on the CPU; each fails the test when it cannot. */
sd *small_model_open(void);
void small_model_close(sd *m);
tokenizer *small_model_words(void);
float *small_model_noise(const char *purpose, size_t n);       /* N(0,1), the same at every call; free() it */
#endif
