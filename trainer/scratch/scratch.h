#ifndef SCRATCH_H
#define SCRATCH_H
/* A small Stable Diffusion from nothing, on the captioned world of data/toyworld: random weights, then in turn the
 * autoencoder, CLIP (whose text half becomes the text encoder), the UNet; and an examiner that tells what a picture shows.
 * Every stage goes on where its state file ends, writes the model's file with the running mean of the weights, and a row of
 * its log (STAGE.csv: step, loss, seconds) now and then. */
#include "data/tokenizer.h"
#include "data/toyworld/world.h"
#include "trainer/model/sd.h"
#include "trainer/scratch/eye.h"
#include "trainer/scratch/fit.h"

enum { SCRATCH_SEED = 1, SCRATCH_HELD_OUT = 2 }; /* of the world's pictures: learnt from; judged by */

typedef struct {
    const char *model, *state;  /* folders: the model that is made; what a stage goes on from, and its log */
    double minutes;             /* of work, after what was there before */
    int until;                  /* steps in all, the rate falling to zero toward them; 0: the minutes alone count */
    int pictures;               /* of the world, learnt from */
    int prompts, steps;         /* of an exam: captions, and steps of the sampler (DDIM) */
    double guidance;
    nn_backend *on;
} scratch;

int scratch_begin(const scratch *s, err *e);  /* the model's folder with random weights */
int scratch_vae(const scratch *s, err *e);
int scratch_decoder(const scratch *s, err *e); /* of the autoencoder, alone: latents stay what a UNet has learnt */
int scratch_clip(const scratch *s, err *e);
int scratch_unet(const scratch *s, err *e);
int scratch_examiner(const scratch *s, err *e); /* learns to tell what a picture shows; into the state folder */
/* The examiner on pictures it never saw, then on the model's for captions of the world: shares of right answers, as JSON. */
int scratch_exam(const scratch *s, err *e);

/* What an examiner says of a picture. A lone thing stands on both sides. */
typedef struct { int n; scene where; int class[2], colour[2]; } scratch_told;
int scratch_examiner_open(eye **out, const char *file, nn_backend *on, err *e);
int scratch_tell(scratch_told *out, eye *examiner, const float *pixels, err *e); /* [side, side, 3] in 0..1 */

/* ---- shared by the stages ---- */

/* A scene, and picture i of a seed: [side, side, 3] in 0..255. */
void scratch_draw(uint8_t *out, const world_scene *what);
void scratch_picture(uint8_t *out, uint64_t seed, uint32_t i);
uint8_t *scratch_pictures(const scratch *s);  /* all that are learnt from; free() */
/* What is said of picture i at a step: another way each time. */
int scratch_words(int32_t ids[TOKENS], const tokenizer *t, uint64_t seed, uint32_t i, uint32_t step);
int scratch_tokenizer(tokenizer **out, const scratch *s, err *e);

typedef int scratch_step(void *arg, fit *f, float *loss, err *e);
/* Steps for s->minutes; then write() once more, with the mean in place of the weights. */
int scratch_run(const scratch *s, const char *stage, fit *f, scratch_step *step, int (*write)(void *arg, err *e), void *arg, err *e);
#endif
