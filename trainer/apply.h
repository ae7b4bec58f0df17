#ifndef APPLY_H
#define APPLY_H
/* A concept or a merged model laid over its base: its matrices in place of the base's, its words in the tokenizer, its
 * embedding rows behind the vocabulary. Of a bank the words only: what they mean is for bank.h. */
#include "data/concept.h"
#include "data/tokenizer.h"
#include "trainer/model/sd.h"

/* c must have been read with CONCEPT_TENSORS and CONCEPT_FACTORS. ERR_INPUT when it was made from another base model,
 * or the tokenizer knows one of its words already. What was laid over m before is taken away; after an error m is the
 * base. */
int apply_concept(sd *m, tokenizer *t, const concept *c, err *e);
#endif
