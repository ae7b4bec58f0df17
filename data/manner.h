#ifndef MANNER_H
#define MANNER_H
/* How a method wants its pictures shown and its words said. No setting: a method's row decides it (trainer/method), and
 * all zero is Custom Diffusion's way. */
#include <stdbool.h>

typedef enum {
    DATA_RESIZED,            /* at random sizes with words for it, as compat says */
    DATA_CUT,                /* a random square of the picture (AUGMENT_CUT) */
    DATA_SQUASHED            /* the whole picture as a square (AUGMENT_SQUASH) */
} data_show;

typedef struct {
    data_show show;
    bool drawn_captions;     /* of caption_object_forms or caption_style_forms, without the class word */
    bool start_as_class;     /* a token starts as the class word where no initializer is given */
    bool rare_words;         /* tokens are words of the vocabulary; no row is learned for them */
    bool halves;             /* targets and class pictures: each a mean of its own in the loss */
} data_manner;
#endif
