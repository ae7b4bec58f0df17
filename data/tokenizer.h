#ifndef TOKENIZER_H
#define TOKENIZER_H
/* CLIP's byte-level BPE, exactly as Hugging Face's slow CLIPTokenizer with ftfy 6.3.1 does it (clean-up, Unicode
 * lower-casing, the pattern, merges with </w>). Sources: openai/CLIP simple_tokenizer.py; Sennrich, Haddow, Birch,
 * "Neural machine translation of rare words with subword units", ACL 2016. */
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { TOKENS = 77 };
typedef struct tokenizer tokenizer;

/* dir: a tokenizer/ folder with vocab.json, merges.txt and, where there, special_tokens_map.json and
 * tokenizer_config.json (they say what pads) and added_tokens.json. */
int tokenizer_open(tokenizer **out, const char *dir, err *e);
void tokenizer_close(tokenizer *t);
/* Another one that knows the same words. What was read from the folder, which takes a tenth of a second, both share: each may
 * be used, and closed, by a thread of its own. */
tokenizer *tokenizer_like(const tokenizer *t);
/* "<new1>": a word of its own, found anywhere and case-sensitively; its id is the next after the vocabulary and
 * the words added before. ERR_INPUT if the tokenizer knows it already. */
int tokenizer_add(tokenizer *t, const char *word, int32_t *id, err *e);
void tokenizer_forget(tokenizer *t);                     /* every word that tokenizer_add added */
int32_t tokenizer_vocab(const tokenizer *t);           /* without added words */
int32_t tokenizer_bos(const tokenizer *t);
int32_t tokenizer_eos(const tokenizer *t);
int32_t tokenizer_pad(const tokenizer *t);
/* BOS, at most TOKENS-2 ids, EOS, padding. Returns how many ids the text has before truncation, BOS and EOS not
 * counted. Any bytes are accepted: broken UTF-8 becomes U+FFFD. */
int tokenizer_encode(const tokenizer *t, const char *text, int32_t id[TOKENS]);
/* The same for n bytes, zeros among them. */
int tokenizer_encode_bytes(const tokenizer *t, const char *text, size_t n, int32_t id[TOKENS]);
/* A vocabulary entry by its raw spelling ("cat</w>"), or -1. */
int32_t tokenizer_lookup(const tokenizer *t, const char *entry);
/* How many vocabulary entries have this text in them; looks at all. */
size_t tokenizer_holders(const tokenizer *t, const char *text);
/* The id of one word as it stands in a sentence ("cat" -> "cat</w>"); ERR_INPUT tells its pieces if it has several. */
int tokenizer_word(const tokenizer *t, const char *word, int32_t *id, err *e);
#endif
