#ifndef TOKENIZER_WORDS_H
#define TOKENIZER_WORDS_H
/* From raw text to the words that are encoded: ftfy, blanks, lower case, CLIP's pattern. */
#include "data/unicode/utext.h"

/* ftfy; white space becomes one blank, none at the ends; lower case. work: see ftfy.h. */
void words_clean(utext *text, uint64_t *work);
/* str.lower() of Python 3.11 (Unicode 14), with its final sigma. */
void words_lower(utext *text);
/* The length of the word that begins at at[0], n > 0 characters: a special word, a contraction ('s), letters, one
 * digit, or what is neither letter, digit nor space; 0 on a space. */
size_t words_next(const uint32_t *at, size_t n);
#endif
