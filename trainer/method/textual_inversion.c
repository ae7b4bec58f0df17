/* Textual Inversion (Gal et al., "An Image is Worth One Word", ICLR 2023, arXiv 2208.01618): one or several rows of the
 * token table are learned, everything else stands still. They begin as a word of the user's or the class's own. Captions
 * are drawn from lists that name the new word and no class. */
#include "trainer/method/method.h"

/* Both rates are for one picture of an update. paper: the authors' settings for Stable Diffusion, 5e-3 times 2 pictures;
 * port: diffusers' README, 5e-4 times a batch of 1 accumulated over 4, here a batch of 4. Neither clips. */
const method method_textual_inversion = {
    .name = "textual-inversion",
    .help = "only the new words' rows of the token table (Gal et al., ICLR 2023)",
    .paper = {.lr = 5e-3, .lr_each = true, .steps = 6100, .batch = 2},
    .port = {.lr = 5e-4, .lr_each = true, .steps = 3000, .batch = 4},
    .manner = {.show = DATA_SQUASHED, .drawn_captions = true, .start_as_class = true},
    .learns_words = true,
    .packs = true,
};
