#ifndef AGAIN_H
#define AGAIN_H
/* A merged file taken apart: it keeps the target rows and images of every concept in it, so each can go into another merge
 * without the file it came from. */
#include "data/concept.h"

/* The n_sources concepts of a merged file that was read with CONCEPT_ROWS at least; out [n_sources]. Their cards have no images
 * yet, as compose_again takes them. ERR_INPUT where the file does not keep its rows, or is a bank. */
int again_open(concept out[], const concept *merged, err *e);
/* The images of its source s, read by now, into that one's card, as compose() takes it. */
void again_images(concept *part, const concept *merged, int s);
/* All images into out, which compose_again made of merged: those it has, and those of the sources source[i] >= 0, read by now. */
void again_whole(concept *out, const concept *merged, const int source[]);
/* Whether a concept's rows may be missed by another when it is left out: it asks for rows on behalf of others, too. */
bool again_is_shared(const concept *merged);
#endif
