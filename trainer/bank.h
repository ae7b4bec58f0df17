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
/* text [tokens,width] of these ids, those of the prompt or of what guidance leads away from it -> out [tokens,
 * width + sd_beside]. */
void bank_features(const bank *b, const int32_t prompt[], const int32_t ids[], int tokens, int32_t eos, const float *text,
                   float *out);

/* ---- plain concepts side by side (bank_plain.c) ---- */

/* Files of concepts, each read with CONCEPT_TENSORS and CONCEPT_FACTORS, as one bank in memory: z is the text feature itself, in
 * the place of the concept whose word stands in the prompt, at all positions of the prompt and of what guidance leads away
 * from. So each sample has keys and values of its own, and a picture is the one that its concept alone makes, to rounding; a
 * prompt without words gets the base's. ERR_INPUT where a file moves more than keys and values and words, where two have a
 * word in common, or are of different bases. *out is overwritten; concept_free it, the files are not needed any more. */
int bank_of_plain(concept *out, const sd *m, const concept files[], const char *const paths[], int n, err *e);
/* ERR_INPUT where words of two plain concepts stand in a prompt: what they are together only a merge says. */
int bank_check_prompt(const concept *c, const tokenizer *t, const char *prompt, err *e);
#endif
