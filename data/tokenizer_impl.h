#ifndef TOKENIZER_IMPL_H
#define TOKENIZER_IMPL_H
/* What tokenizer.c and tokenizer_read.c share. */
#include "data/tokenizer.h"
#include "data/tokenizer_bpe.h"

typedef struct { char *text; size_t n; int32_t id; } special; /* found in raw text, before anything else */

struct tokenizer {
    bpe *pieces;
    special *special;
    size_t specials;
    int32_t vocab, added;
    int32_t bos, eos, pad, unknown;
};

void tokenizer_add_special(tokenizer *t, const char *text, int32_t id);
/* Fills a zeroed tokenizer from its folder. */
int tokenizer_read(tokenizer *t, const char *dir, err *e);
#endif
