#ifndef UNMIX_H
#define UNMIX_H
/* "Unmix" (Han et al., "SVDiff", ICCV 2023, section 3.3): in a picture of two subjects side by side (data/collage.h) the word of
 * each shall not look at the other's half, so that a model which has learned both keeps them apart. For each such sample, the
 * mean over all cross-attentions of
 *
 *     mean over heads and places of the right half of p(left one's words)^2  +  mean over the left half of p(right one's)^2
 *
 * where p is what a place's attention gives to those words in all. The maps are read by one more attention beside each, whose
 * values are ones at the words. */
#include "trainer/nn/nn.h"

typedef struct {
    nn_tensor words, sum;
    int maps;
} unmix;

/* From here on every cross-attention that is written to g is looked at. words F32 [n,tokens,2]: at the left one's words (w, 0), at
 * the right one's (0, w), else 0; the loss of a sample is then w^2 times what stands above. u must stay until unmix_loss. */
void unmix_watch(unmix *u, nn_graph *g, nn_tensor words);
nn_tensor unmix_loss(unmix *u, nn_graph *g); /* [n]; a mistake where no map has two halves */
#endif
