#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H
/* Byte-pair encoding of one word: symbols (spelled in the byte alphabet of GPT-2: each byte is a printable character),
 * ranked merges of two neighbours, ids. Of the pairs in a word the one of least rank is joined, everywhere in it from
 * left to right, until none is left. Encoding n bytes takes O(n log n). */
#include <stddef.h>
#include <stdint.h>

typedef struct { int32_t *at; size_t n, room; } id_list; /* {0} is empty; free(at) */
void id_put(id_list *l, int32_t id);

typedef struct bpe bpe;
bpe *bpe_new(void);
bpe *bpe_share(bpe *b);  /* for one more, who will free it, too; from now on it does not change */
void bpe_free(bpe *b);
/* entry: n bytes, "cat</w>". */
void bpe_set_id(bpe *b, const char *entry, size_t n, int32_t id);
int32_t bpe_id(const bpe *b, const char *entry, size_t n); /* -1: has none */
const char *bpe_spelling(const bpe *b, int32_t id);        /* NULL: none has it; slow, for messages */
size_t bpe_holders(const bpe *b, const char *text);         /* entries that have this text in them; slow, too */
/* Joins left and right; a later call for the same two replaces the rank. */
void bpe_merge(bpe *b, const char *left, size_t n_left, const char *right, size_t n_right, uint32_t rank);
/* Appends the ids of a word of n > 0 raw bytes; `unknown` where a symbol has none. */
void bpe_word(const bpe *b, const unsigned char *word, size_t n, int32_t unknown, id_list *out);
#endif
