/* Identifiers that nobody gave: rare words of the vocabulary at hand, as DreamBooth wants them (Ruiz et al., CVPR 2023: short entries
 * of its rarer part, drawn uniformly) and as Custom Diffusion's authors look for them in CLIP's (letters, in no other entry).
 * Byte-pair encoding learns the most frequent pairs first, so an entry's id tells how frequent it was. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/subject.h"

/* A vocabulary that ends before SMALL holds frequent words only, whatever their order. */
enum { LETTERS = 26, SHORTEST = 2, LONGEST = 3, SMALL = 10000, PART = 5 };

typedef struct { int32_t id; char word[LONGEST + 1]; } candidate;

static int by_id(const void *a, const void *b)
{
    int32_t x = ((const candidate *)a)->id, y = ((const candidate *)b)->id;

    return (x > y) - (x < y);
}

/* "aa" to "zzz". */
static void spell(char out[LONGEST + 1], int length, int nth)
{
    out[length] = '\0';
    for (int k = length - 1; k >= 0; k--, nth /= LETTERS)
        out[k] = (char)('a' + nth % LETTERS);
}

/* Words of two or three letters in the last fifth of the ids, each one piece as it stands in a sentence; by id. */
static candidate *list_candidates(uint32_t *n, const tokenizer *t)
{
    int32_t vocab = tokenizer_vocab(t), from = vocab - vocab / PART > SMALL ? vocab - vocab / PART : SMALL;
    candidate *list = NULL;

    *n = 0;
    for (int length = SHORTEST, all = LETTERS * LETTERS; length <= LONGEST; length++, all *= LETTERS)
        for (int i = 0; i < all; i++) {
            candidate c = {0};
            char entry[sizeof c.word + sizeof "</w>"];
            spell(c.word, length, i);
            strcat(strcpy(entry, c.word), "</w>");
            int32_t id = tokenizer_lookup(t, entry);
            if (id < from || tokenizer_word(t, c.word, &c.id, NULL) != 0 || c.id != id)
                continue;
            list = mem_grow(list, *n + 1u, sizeof *list);
            list[(*n)++] = c;
        }
    if (*n > 1)
        qsort(list, *n, sizeof *list, by_id);
    return list;
}

/* Known to mean something: a rifle. */
static bool means_something(const char *word) { return strcmp(word, "sks") == 0; }

/* Said of any subject already, as a token or in its class. */
static bool is_taken(const data_cfg *c, const char *word)
{
    for (int i = 0; i < data_subjects(c); i++) {
        const subject_cfg *s = data_subject(c, i);
        if (strcmp(data_chosen(c, i), word) == 0 || strstr(s->class_word, word))
            return true;
        for (size_t k = 0; k < s->token.n; k++)
            if (strcmp(s->token.at[k], word) == 0)
                return true;
    }
    return false;
}

/* What is drawn hangs on the subject alone: the same in every farm, gang and seed, another for other pictures. */
static rng_stream address_of(const data_cfg *c, int i)
{
    const subject_cfg *s = data_subject(c, i);
    str purpose = {0};

    str_add(&purpose, "identifier %s", s->class_word);
    for (size_t k = 0; k < s->images.n; k++)
        str_add(&purpose, "\n%s", s->images.at[k]);
    rng_stream r = rng_open(0, purpose.at, 0, (uint32_t)i);
    str_free(&purpose);
    return r;
}

/* The first that will do, from the drawn one on. That an entry is part of no other is asked last: it is the slow question. */
static int choose(data_cfg *c, int i, const candidate *list, uint32_t n, const tokenizer *t, err *e)
{
    uint32_t first = n ? rng_below(address_of(c, i), 0, n) : 0;

    if (i >= SUBJECT_WORDS_MOST)
        return err_set(e, ERR_INPUT, "%d or more subjects in one concept; of at most %d can words be chosen", i + 1, SUBJECT_WORDS_MOST);
    for (uint32_t k = 0; k < n; k++) {
        const char *word = list[(first + k) % n].word;
        if (means_something(word) || is_taken(c, word) || tokenizer_holders(t, word) > 1)
            continue;
        memcpy(c->rare[i], word, LONGEST + 1);
        return 0;
    }
    return err_set(e, ERR_INPUT, "this vocabulary of %d entries has no rare word to choose: two or three letters, in its last fifth, "
                                 "behind the first %d; give token, a rare word that it has", (int)tokenizer_vocab(t), SMALL);
}

int subject_choose(data_cfg *c, const tokenizer *t, err *e)
{
    candidate *list = NULL;
    uint32_t n = 0;
    int rc = 0;

    memset(c->rare, 0, sizeof c->rare);
    TRY(data_check(c, e));
    if (!c->manner.rare_words)
        return 0;
    for (int i = 0; i < data_subjects(c) && rc == 0; i++) {
        if (data_subject(c, i)->token.n > 0)
            continue;
        if (!list)
            list = list_candidates(&n, t);
        rc = choose(c, i, list, n, t, e);
    }
    free(list);
    return rc;
}
