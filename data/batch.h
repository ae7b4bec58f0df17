#ifndef BATCH_H
#define BATCH_H
/* A batch is a value: which pictures, words, sizes and crops follows from (settings, seed, step) alone, for any step
 * in any order, on any rank. Randomness is looked up in the streams "pick", "flip", "crop",
 * "prefix" and "template".
 *
 *   Half and half   of B samples the first B - B/2 are targets (an odd batch has one target more), the others class
 *                   pictures; without regularisation all are targets. The same in every step, not only on average.
 *   Even use        draw j of a kind goes to subject j mod K; each subject deals its pictures in shuffled epochs, so
 *                   none is seen twice before all are seen once, and every subject counts alike.
 *   Collages        with cut_mix, that share of the samples shows two of several subjects side by side (stream "collage")
 *   Weights         the loss is  sum over samples of  weight * sum(mask * (prediction - target)^2),  mask broadcast
 *                   over the C latent channels; weight has every mean, the mask's size and prior_weight inside:
 *                     paper       1 / (B C M),                     class pictures times prior_weight
 *                     diffusers   1 / (T M) of the T targets,      prior_weight / (R C h w) of the R class pictures
 *                     in halves   1 / (T C M) and                  prior_weight / (R C M): data_manner, whatever compat says
 *                   with M the mask's cells. (diffusers divides by cells, not by cells and channels: its targets weigh
 *                   C times its class pictures.) */
#include "data/augment.h"
#include "data/subject.h"

typedef struct {
    int side;                     /* S: pixels; a multiple of factor */
    int factor;                   /* pixels per latent cell, 8 in Stable Diffusion */
    int channels;                 /* C of the latents, 4 */
    uint64_t seed;
    const regset_embed *embed;    /* where regularisation comes from an index, else NULL */
    size_t cache;                 /* bytes of decoded pictures to keep; 0: BATCH_CACHE */
} batch_opts;
#define BATCH_CACHE ((size_t)512 << 20)

typedef struct {
    int subject;
    int other;                    /* of a collage: the subject on the right; -1: none (collage.h) */
    uint32_t other_picture;
    augment_look other_look;
    bool prior;                   /* a class picture */
    uint32_t picture;             /* of the subject's targets or priors */
    augment_look look;
    uint64_t key;                 /* equal for equal pixels: what was encoded for one may serve the other */
    const char *caption;          /* without look.prefix; the source's */
    int32_t tokens[TOKENS];       /* of prefix and caption */
    float weight;
} batch_sample;

typedef struct batch_source batch_source;
/* t must hold the modifier tokens (subject_words) and outlive the source, as c must. Every caption is tokenised once:
 * one in which the modifier token falls off the end is an error. */
int batch_open(batch_source **out, const data_cfg *c, const tokenizer *t, const batch_opts *o, err *e);
void batch_close(batch_source *s);

int batch_size(const batch_source *s);          /* B */
int batch_targets(const batch_source *s);       /* how many of them, the first ones, are targets */
int batch_side(const batch_source *s);          /* S */
const subjects *batch_subjects(const batch_source *s);
const char *batch_manner(const batch_source *s); /* one word for how class pictures are rendered: equal words, equal pixels */

/* The functions below may be called from several threads at once. */
void batch_plan(const batch_source *s, uint32_t step, batch_sample out[]);        /* [batch_size] */
/* [S, S, 3] in -1..1; an error names the picture. */
int batch_pixels(batch_source *s, const batch_sample *sample, float *pixels, err *e);
void batch_mask(const batch_source *s, const batch_sample *sample, float *mask);  /* [S/factor, S/factor] */
#endif
