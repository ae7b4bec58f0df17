#ifndef AUGMENT_H
#define AUGMENT_H
/* How one picture is shown in one step: flipped or not, how large, where, with which words before its caption, and
 * which part of it counts. A draw is a pure function of the recipe, the picture's size and an address (seed, step,
 * sample); rendering draws nothing.
 *
 * Sources: Kumari et al., "Multi-Concept Customization of Text-to-Image Diffusion", CVPR 2023, as its authors' code
 * does it (AUGMENT_PAPER) and as the training script of diffusers does it (AUGMENT_DIFFUSERS). With S the side:
 *
 *                 paper                                       diffusers
 *   picture       largest centre square, bicubic              squashed to a square, bilinear
 *   size s        2/3: S/3..S, 1/3: 1.2S..1.4S-1, made even    0.66 and 0.34, not made even
 *   s < 0.6 S     "a far away " | "very small ", pasted        the same
 *   up to S       shown at S, all of it counts                pasted at s, no words
 *   s > S         "zoomed in " | "close up ", cut             the same
 *   not resized   shown at S, all of it counts                shown at S, but its outermost cells do not count
 *   class picture shown at S                                  its shorter side made S, cut at random or in the middle
 *
 * Two ways for other methods, for pictures of subject and class alike; all of the square counts:
 *   AUGMENT_CUT     as diffusers' class pictures above, bilinear (train_dreambooth.py)
 *   AUGMENT_SQUASH  the whole picture made a square, bicubic (textual_inversion.py); `middle`: its largest centre square
 *
 * A pasted picture lies on mid-grey (0), anywhere with equal chance; of it the latent cells count that lie inside it
 * by one cell. Where so little is left that none does (small S only), the one cell at its centre counts: a mask is
 * never empty. */
#include <stdbool.h>

#include "data/image.h"

typedef enum { AUGMENT_PAPER, AUGMENT_DIFFUSERS, AUGMENT_CUT, AUGMENT_SQUASH } augment_style;

typedef struct {
    augment_style style;
    int side;          /* S: pixels of the square that is trained on; a multiple of factor */
    int factor;        /* pixels per latent cell, 8 in Stable Diffusion */
    bool target;       /* a picture of the subject; false: of its class */
    bool resize;       /* draw a size (of targets only) */
    bool flip;         /* mirror every second picture */
    bool middle;       /* where a part is cut out at random: the middle instead */
} augment_recipe;

typedef struct {
    int top, left, bottom, right; /* half open */
} augment_box;

typedef struct {
    bool flip;
    int high, wide;      /* the picture's size when shown */
    int top, left;       /* of its corner on the square; what sticks out (negative too) is cut */
    const char *prefix;  /* of the caption, with its blank; "" or one of four texts that live for ever */
    augment_box counts;  /* latent cells where the loss counts */
} augment_look;

augment_look augment_draw(const augment_recipe *r, int h, int w, uint64_t seed, uint32_t step, uint32_t sample);

/* [side, side, 3] in -1..1. ERR_MEMORY. */
int augment_render(float *to, const augment_recipe *r, const augment_look *look, const image *from, err *e);
/* [side/factor, side/factor], 0 or 1. */
void augment_mask(float *to, const augment_recipe *r, const augment_look *look);
int augment_cells(const augment_look *look); /* how many of them are 1; at least 1 */
#endif
