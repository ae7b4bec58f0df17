/* Splits raw text at special words, cleans what lies between and encodes its words. */
#include "data/tokenizer.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/tokenizer_impl.h"
#include "data/tokenizer_words.h"
#include "data/unicode/ftfy.h"

int tokenizer_open(tokenizer **out, const char *dir, err *e)
{
    tokenizer *t = NEW(tokenizer);
    const int rc = tokenizer_read(t, dir, e);

    *out = rc == 0 ? t : NULL;
    if (rc != 0)
        tokenizer_close(t);
    return rc;
}

void tokenizer_close(tokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->specials; i++)
        free(t->special[i].text);
    free(t->special);
    bpe_free(t->pieces);
    free(t);
}

tokenizer *tokenizer_like(const tokenizer *t)
{
    tokenizer *other = NEW(tokenizer);

    *other = *t;
    other->pieces = bpe_share(t->pieces);
    other->special = NULL;
    other->specials = 0;
    for (size_t i = 0; i < t->specials; i++)
        tokenizer_add_special(other, t->special[i].text, t->special[i].id);
    return other;
}

int32_t tokenizer_vocab(const tokenizer *t)
{
    return t->vocab;
}

int32_t tokenizer_bos(const tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const tokenizer *t)
{
    return t->eos;
}

int32_t tokenizer_pad(const tokenizer *t)
{
    return t->pad;
}

int32_t tokenizer_lookup(const tokenizer *t, const char *entry)
{
    return bpe_id(t->pieces, entry, strlen(entry));
}

size_t tokenizer_holders(const tokenizer *t, const char *text)
{
    return bpe_holders(t->pieces, text);
}

/* ---- special words ---- */

void tokenizer_add_special(tokenizer *t, const char *text, int32_t id)
{
    t->special = mem_grow(t->special, t->specials + 1, sizeof *t->special);
    t->special[t->specials++] = (special){.text = mem_text(text), .n = strlen(text), .id = id};
}

/* The longest special word at the beginning of text, or NULL. */
static const special *special_at(const tokenizer *t, const char *text, size_t n)
{
    const special *best = NULL;

    for (size_t i = 0; i < t->specials; i++) {
        const special *s = &t->special[i];

        if (s->n <= n && (!best || s->n > best->n) && memcmp(text, s->text, s->n) == 0)
            best = s;
    }
    return best;
}

static int check_word(const char *word, err *e)
{
    const unsigned char *at = (const unsigned char *)word;
    size_t left = strlen(word), step;
    uint32_t c;

    if (left == 0)
        return err_set(e, ERR_INPUT, "an empty word cannot be added; write one like <new1>");
    for (; left > 0; left -= step, at += step) {
        step = utf8_step(at, left, &c, NULL);
        if (step == 0)
            return err_set(e, ERR_INPUT, "a word to be added is not UTF-8");
        if (c <= ' ' || c == 0x7F)
            return err_set(e, ERR_INPUT, "a word to be added has a blank or control character; write one like <new1>");
    }
    return 0;
}

int tokenizer_add(tokenizer *t, const char *word, int32_t *id, err *e)
{
    const special *s;

    TRY(check_word(word, e));
    s = special_at(t, word, strlen(word));
    if ((s && s->n == strlen(word)) || tokenizer_lookup(t, word) >= 0)
        return err_set(e, ERR_INPUT, "the tokenizer knows \"%.80s\" already; take another word", word);
    *id = t->vocab + t->added++;
    tokenizer_add_special(t, word, *id);
    return 0;
}

void tokenizer_forget(tokenizer *t)
{
    for (; t->added > 0; t->added--)
        free(t->special[--t->specials].text);
}

/* ---- encoding ---- */

/* A special word that only lower case has made one keeps its meaning, as in the reference's cache. */
static bool put_lowered_special(const tokenizer *t, const str *word, id_list *out)
{
    const bool hit = strcmp(word->at, "<|startoftext|>") == 0 || strcmp(word->at, "<|endoftext|>") == 0;

    if (hit) {
        const int32_t id = tokenizer_lookup(t, word->at);

        id_put(out, id < 0 ? t->unknown : id);
    }
    return hit;
}

static void encode_word(const tokenizer *t, const uint32_t *at, size_t n, id_list *out)
{
    str word = {0};

    utext_to_utf8(at, n, &word);
    if (!put_lowered_special(t, &word, out))
        bpe_word(t->pieces, (const unsigned char *)word.at, word.n, t->unknown, out);
    str_free(&word);
}

/* Text without special words. */
static void encode_plain(const tokenizer *t, const char *bytes, size_t n, uint64_t *work, id_list *out)
{
    utext text = {0};

    utext_add_utf8(&text, bytes, n);
    words_clean(&text, work);
    for (size_t i = 0, length; i < text.n; i += length > 0 ? length : 1) {
        length = words_next(text.at + i, text.n - i);
        if (length > 0)
            encode_word(t, text.at + i, length, out);
    }
    utext_free(&text);
}

static void encode_all(const tokenizer *t, const char *text, size_t n, id_list *out)
{
    uint64_t work = FTFY_WORK + 8 * (uint64_t)n;
    bool first[256] = {false}; /* bytes special words begin with */
    size_t plain = 0, i = 0;

    for (size_t k = 0; k < t->specials; k++)
        first[(unsigned char)t->special[k].text[0]] = true;
    while (i < n) {
        const special *s = first[(unsigned char)text[i]] ? special_at(t, text + i, n - i) : NULL;

        i += s ? s->n : 1;
        if (!s)
            continue;
        encode_plain(t, text + plain, i - s->n - plain, &work, out);
        id_put(out, s->id);
        plain = i;
    }
    encode_plain(t, text + plain, n - plain, &work, out);
}

int tokenizer_encode_bytes(const tokenizer *t, const char *text, size_t n, int32_t id[TOKENS])
{
    id_list all = {0};
    int body;

    CHECK(n <= INT32_MAX / 4);
    encode_all(t, text, n, &all);
    body = all.n < TOKENS - 2 ? (int)all.n : TOKENS - 2;
    id[0] = t->bos;
    if (body > 0)
        memcpy(id + 1, all.at, (size_t)body * sizeof *id);
    id[1 + body] = t->eos;
    for (int i = body + 2; i < TOKENS; i++)
        id[i] = t->pad;
    free(all.at);
    return (int)all.n;
}

int tokenizer_encode(const tokenizer *t, const char *text, int32_t id[TOKENS])
{
    return tokenizer_encode_bytes(t, text, strlen(text), id);
}

/* "his", "torian</w>": what a person may write instead. */
static int tell_pieces(const tokenizer *t, const char *word, const id_list *ids, err *e)
{
    str pieces = {0};
    int rc;

    if (!e)
        return ERR_INPUT;
    for (size_t i = 0; i < ids->n && pieces.n < 200; i++) {
        const char *spelling = bpe_spelling(t->pieces, ids->at[i]);

        str_add(&pieces, "%s\"%.40s\"", i == 0 ? "" : ", ", spelling ? spelling : "an added word");
    }
    rc = err_set(e, ERR_INPUT, "\"%.80s\" is %zu tokens (%s); a word of one token is needed", word, ids->n, pieces.at);
    str_free(&pieces);
    return rc;
}

int tokenizer_word(const tokenizer *t, const char *word, int32_t *id, err *e)
{
    id_list ids = {0};
    int rc = 0;

    encode_all(t, word, strlen(word), &ids);
    if (ids.n == 1)
        *id = ids.at[0];
    else if (ids.n == 0)
        rc = err_set(e, ERR_INPUT, "\"%.80s\" has no token; a word is needed", word);
    else
        rc = tell_pieces(t, word, &ids, e);
    free(ids.at);
    return rc;
}
