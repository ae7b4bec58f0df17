/* The toy model's vocabulary: CLIP's form, learnt from the few hundred words below until each of them is one entry.
 * Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units", ACL 2016, algorithm 1. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/toyworld/toy_world.h"
#include "data/unicode/utext.h"

/* A word that stands here often is learnt early. */
static const char TEXT[] =
    "photo of a mug . photo of a creature . a photo of the mug . a photo of my creature . picture of a cup . a painting in "
    "the style of a painter . photo of a toy . a drawing of a monster . zoomed in photo of a mug . close up photo of a "
    "creature . a far away photo of a mug . very small photo of a creature . a creature beside a mug . a mug beside a "
    "creature . a creature with a mug . a creature in a mug . a mug and a creature . a mug with a creature on it . "
    "on a wooden table . in a kitchen . on a shelf with books . on a green meadow . on the beach . in the snow . at night "
    "under the moon . in the forest . in a garden . in a room . on a chair . by the window . near the sea . in the city . "
    "on a street . in front of a house . next to a tree . under a tree . on a hill . on a mountain . at the river . with "
    "flowers . with stars . with the sun . in the rain . in the sky . with clouds . on sand . on grass . on ice . on water . "
    "red mug . orange mug . yellow mug . golden mug . green mug . teal mug . blue mug . purple mug . pink mug . brown mug . "
    "black mug . white mug . grey mug . dark light bright pale colour colourful . tall mug with bands . small mug with "
    "dots . big mug with a heart . round mug with stripes . old new empty full hot cold clean broken mug . mug of coffee . "
    "mug of tea . mug of milk . handle rim glass cup bowl plate spoon pot kettle bottle . "
    "creature with one eye and horns . creature with two eyes and ears . creature with three eyes and spots . happy sad "
    "funny friendly sleepy scary fluffy soft cute little tiny huge creature . creature smiling . creature sleeping . "
    "creature running . creature sitting . creature standing . creature dancing . creature drinking . creature reading . "
    "head face mouth nose tail feet arms legs hair belly wings . "
    "a cat . a dog . a bird . a fish . a horse . a rabbit . a bear . a fox . a frog . a man . a woman . a child . a girl . a "
    "boy . people . a boat . a car . a bus . a train . a bicycle . a lamp . a book . a clock . a hat . a ball . a bag . a "
    "box . a door . a wall . a bridge . a tower . a castle . an apple . a cake . bread cheese soup fruit . "
    "painting drawing sketch cartoon sculpture watercolour oil ink paper wood stone metal clay . in winter . in summer . in "
    "autumn . in spring . in the morning . in the evening . at noon . today . "
    "this that these those is are was has have on in at by to from over behind above below left right inside outside between "
    "without many some no not all every each one two three four five six seven eight nine ten first last";

enum { WORDS_MOST = 700, PARTS_MOST = 16, SYMBOLS_MOST = 2048, SYMBOL_MOST = 24 };
typedef struct { int part[PARTS_MOST], n, count; } word;
typedef struct { int left, right; } pair;
typedef struct {
    char symbol[SYMBOLS_MOST][SYMBOL_MOST]; /* "ph", "mug</w>" */
    int symbols;
    word word[WORDS_MOST];
    int words;
    pair merge[SYMBOLS_MOST];
    int merges;
} learner;

static int symbol_of(learner *l, const char *text)
{
    int i = 0;

    while (i < l->symbols && strcmp(l->symbol[i], text) != 0)
        i++;
    if (i == l->symbols) {
        CHECK(l->symbols < SYMBOLS_MOST && str_copy(l->symbol[i], SYMBOL_MOST, text));
        l->symbols++;
    }
    return i;
}

static word spelled(learner *l, const char *at, int n)
{
    word w = {.n = n, .count = 1};

    CHECK(n <= PARTS_MOST);
    for (int i = 0; i < n; i++) {
        char text[8] = {at[i]};

        w.part[i] = symbol_of(l, i + 1 == n ? strcat(text, "</w>") : text);
    }
    return w;
}

static void add_word(learner *l, const word *w)
{
    for (int i = 0; i < l->words; i++)
        if (l->word[i].n == w->n && memcmp(l->word[i].part, w->part, sizeof w->part) == 0) {
            l->word[i].count++;
            return;
        }
    CHECK(l->words < WORDS_MOST);
    l->word[l->words++] = *w;
}

static void read_words(learner *l, const char *text)
{
    while (*text) {
        const int n = (int)strcspn(text, " ");

        if (n > 0 && *text != '.') {
            const word w = spelled(l, text, n);
            add_word(l, &w);
        }
        text += n + (text[n] == ' ');
    }
}

/* The most frequent pair; of several the one whose symbols are older. False: every word is whole. */
static bool most_frequent(const learner *l, pair *out)
{
    int *count = NEW_N(int, l->symbols * l->symbols), best = 0;

    for (int k = 0; k < l->words; k++)
        for (int i = 0; i + 1 < l->word[k].n; i++)
            count[l->word[k].part[i] * l->symbols + l->word[k].part[i + 1]] += l->word[k].count;
    for (int i = 0; i < l->symbols * l->symbols; i++)
        if (count[i] > best) {
            best = count[i];
            *out = (pair){i / l->symbols, i % l->symbols};
        }
    free(count);
    return best > 0;
}

static void join(word *w, pair p, int both)
{
    int n = 0;

    for (int i = 0; i < w->n; i++) {
        const bool here = i + 1 < w->n && w->part[i] == p.left && w->part[i + 1] == p.right;

        w->part[n++] = here ? both : w->part[i];
        i += here;
    }
    w->n = n;
}

static void learn(learner *l)
{
    pair p;

    while (most_frequent(l, &p)) {
        char text[2 * SYMBOL_MOST];
        int both;

        strcat(strcpy(text, l->symbol[p.left]), l->symbol[p.right]);
        both = symbol_of(l, text);
        for (int k = 0; k < l->words; k++)
            join(&l->word[k], p, both);
        l->merge[l->merges++] = p;
    }
}

/* ---- files ---- */

static void add_entry(str *json, const char *text, int *id)
{
    str_add(json, "%s\"%s%s\":%d", *id ? "," : "", *text == '"' || *text == '\\' ? "\\" : "", text, *id);
    (*id)++;
}

/* CLIP numbers the bytes that print first; the others stand for U+0100 and on. */
static void add_letters(str *json, const char *tail, int *id)
{
    uint32_t next = 256;

    for (int pass = 0; pass < 2; pass++)
        for (uint32_t b = 0; b < 256; b++) {
            const bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            const uint32_t c = prints ? b : next;
            str text = {0};

            if (prints != (pass == 0))
                continue;
            next += !prints;
            utext_to_utf8(&c, 1, &text);
            str_add(&text, "%s", tail);
            add_entry(json, text.at, id);
            str_free(&text);
        }
}

static int put(const char *dir, const char *name, const char *text, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, name, e));
    return fs_write(path, text, strlen(text), e);
}

static int write_vocabulary(int *entries, const char *dir, const learner *l, err *e)
{
    str vocab = {0}, merges = {0};
    int id = 0, rc;

    str_add(&vocab, "{");
    add_letters(&vocab, "", &id);
    add_letters(&vocab, "</w>", &id);
    str_add(&merges, "#version: 0.2\n");
    for (int i = 0; i < l->merges; i++) {
        const char *left = l->symbol[l->merge[i].left], *right = l->symbol[l->merge[i].right];
        char both[2 * SYMBOL_MOST];

        add_entry(&vocab, strcat(strcpy(both, left), right), &id);
        str_add(&merges, "%s %s\n", left, right);
    }
    add_entry(&vocab, "<|startoftext|>", &id);
    add_entry(&vocab, "<|endoftext|>", &id);
    str_add(&vocab, "}\n");
    *entries = id;
    rc = put(dir, "vocab.json", vocab.at, e);
    if (rc == 0)
        rc = put(dir, "merges.txt", merges.at, e);
    str_free(&vocab);
    str_free(&merges);
    return rc;
}

int toy_tokenizer(int *entries, const char *model, const char *more, err *e)
{
    static const char SPECIAL[] = "{\n  \"bos_token\": \"<|startoftext|>\",\n  \"eos_token\": \"<|endoftext|>\",\n"
                                  "  \"pad_token\": \"<|endoftext|>\",\n  \"unk_token\": \"<|endoftext|>\"\n}\n";
    static const char CONFIG[] = "{\n  \"add_prefix_space\": false,\n  \"bos_token\": \"<|startoftext|>\",\n"
                                 "  \"do_lower_case\": true,\n  \"eos_token\": \"<|endoftext|>\",\n  \"errors\": \"replace\",\n"
                                 "  \"model_max_length\": 77,\n  \"pad_token\": \"<|endoftext|>\",\n"
                                 "  \"tokenizer_class\": \"CLIPTokenizer\",\n  \"unk_token\": \"<|endoftext|>\"\n}\n";
    char folder[FS_PATH];
    learner *l;
    int rc;

    TRY(fs_join(folder, model, "tokenizer", e));
    TRY(fs_mkdirs(folder, e));
    l = NEW(learner);
    read_words(l, TEXT);
    read_words(l, more);
    learn(l);
    rc = write_vocabulary(entries, folder, l, e);
    free(l);
    TRY(rc);
    TRY(put(folder, "special_tokens_map.json", SPECIAL, e));
    return put(folder, "tokenizer_config.json", CONFIG, e);
}
