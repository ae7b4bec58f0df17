#ifndef BANK_H
#define BANK_H
/* The sampling side of a bank (data/concept.h, concept_share): the update of a concept, left' (right c), is a product of
 * few numbers, z = right c, which stand beside a position's text feature c (sd_beside_set) and are 0 where the
 * concept is not addressed. So one model serves every prompt, and the base's matrices stay as they are. */
#include "data/concept.h"
#include "data/tokenizer.h"
#include "trainer/model/sd.h"

typedef struct bank bank;

/* c's words stand in m as modifiers, in c's order; those of its shares that are loaded are opened, and are borrowed. */
int bank_open(bank **out, sd *m, const concept *c, err *e);
void bank_close(bank *b); /* m keeps the numbers beside its text until sd_restore */

/* Which shares a prompt asks for: wanted[i] becomes true; t knows c's words. */
void bank_wanted(bool wanted[], const concept *c, const tokenizer *t, const char *prompt);
/* text [tokens,width] of these ids -> out [tokens, width + sd_beside]. */
void bank_features(const bank *b, const int32_t ids[], int tokens, int32_t eos, const float *text, float *out);
#endif
