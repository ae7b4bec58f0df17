#ifndef SAMPLE_H
#define SAMPLE_H
/* From words to a picture: classifier-free guidance (Ho, Salimans 2022) around a sampler. A picture is a function of
 * the model, the words, the options and (seed, index): its noise is looked up in the streams "latents" and "sampler". */
#include "data/tokenizer.h"
#include "trainer/bank.h"
#include "trainer/diffusion/sampler.h"
#include "trainer/model/sd.h"

typedef struct {
    const char *sampler;      /* a name of sampler.h */
    int steps, width, height; /* in pixels; multiples of the VAE's factor */
    double eta, guidance;     /* guidance 1: the negative prompt is not asked */
    uint64_t seed;
    const bank *beside;       /* concepts beside the base, opened on the model; NULL: none */
} sample_opts;

/* What can be refused before any work. */
int sample_check(const sd *m, const sample_opts *o, err *e);

/* pixels [height,width,3] in 0..1. negative may be "". */
int sample_picture(sd *m, const tokenizer *t, const sample_opts *o, const char *prompt, const char *negative,
                   uint32_t index, float *pixels, err *e);
/* To 8 bits, rounded: count numbers of 0..1. */
void sample_bytes(const float *pixels, uint8_t *out, size_t count);

/* ---- its loop, for whoever brings features and noise of their own ---- */

typedef struct {
    sd *model;
    int h, w, tokens;             /* latents; rows of the features */
    const float *cond, *uncond;   /* [tokens, width + sd_beside]; uncond NULL: no guidance */
    double guidance;
    /* Fills noise [count] for a call, where the sampler wants it. */
    void (*noise)(void *arg, int call, float *noise, size_t count);
    /* After each call, or NULL: the guided output and x, both [h,w,c]. */
    void (*watch)(void *arg, int call, const float *said, const float *x);
    void *arg;
} sample_loop;

/* x [h,w,c]: noise in, clean latents (scaled) out. */
int sample_denoise(const sample_loop *l, sampler *s, float *x, err *e);
/* latents [h,w,c] (scaled) -> pixels in 0..1 [h*f,w*f,3]. */
int sample_decode(sd *m, const float *latents, int h, int w, float *pixels, err *e);
#endif
