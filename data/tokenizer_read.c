/* A tokenizer's folder: vocab.json, merges.txt, and which words are special. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "data/tokenizer_impl.h"

enum {
    MERGES_BYTES = 64 << 20,
    MERGES_MOST = 49152 - 256 - 2, /* the reference reads no more of merges.txt */
    WORD_MOST = 1000               /* bytes of a special word */
};

/* ---- vocab.json: {"cat</w>": 2368, ...}, each id from 0 on once ---- */

static int read_entries(tokenizer *t, json_t *vocab, bool *seen, err *e)
{
    const int64_t n = (int64_t)json_object_size(vocab);
    const char *entry;
    json_t *id;

    json_object_foreach(vocab, entry, id) {
        const int64_t i = json_is_integer(id) ? (int64_t)json_integer_value(id) : -1;

        if (i < 0 || i >= n)
            return err_set(e, ERR_INPUT, "\"%.80s\" has no id from 0 to %" PRId64, entry, n - 1);
        if (seen[i])
            return err_set(e, ERR_INPUT, "\"%.80s\" has id %" PRId64 ", as \"%.80s\" has", entry, i,
                           bpe_spelling(t->pieces, (int32_t)i));
        seen[i] = true;
        bpe_set_id(t->pieces, entry, strlen(entry), (int32_t)i);
    }
    t->vocab = (int32_t)n;
    return 0;
}

static int read_vocab(tokenizer *t, const char *dir, err *e)
{
    char path[FS_PATH];
    json_t *vocab;
    bool *seen;
    int rc;

    TRY(fs_join(path, dir, "vocab.json", e));
    TRY(json_read(&vocab, path, e));
    seen = NEW_N(bool, json_object_size(vocab) + 1);
    if (json_object_size(vocab) == 0)
        rc = err_set(e, ERR_INPUT, "no entries");
    else if (json_object_size(vocab) > INT32_MAX / 2)
        rc = err_set(e, ERR_INPUT, "%zu entries, too many", json_object_size(vocab));
    else
        rc = read_entries(t, vocab, seen, e);
    free(seen);
    json_decref(vocab);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* ---- merges.txt: a line for people, then two symbols a line, the most frequent first ---- */

static const char *const BLANKS = " \t\r\v\f";

/* The next run of other characters than blanks before end; its length, 0: none. */
static size_t next_symbol(const char **at, const char *end)
{
    size_t n = 0;

    while (*at < end && strchr(BLANKS, **at))
        (*at)++;
    while (*at + n < end && !strchr(BLANKS, (*at)[n]))
        n++;
    return n;
}

static int read_merge(tokenizer *t, const char *line, const char *end, uint32_t rank, err *e)
{
    const char *left = line, *right, *rest;
    const size_t n_left = next_symbol(&left, end);
    size_t n_right;

    right = left + n_left;
    n_right = next_symbol(&right, end);
    rest = right + n_right;
    if (n_right == 0 || next_symbol(&rest, end) > 0)
        return err_set(e, ERR_INPUT, "\"%.*s\" is not two symbols with a blank between",
                       (int)(end - line < 80 ? end - line : 80), line);
    bpe_merge(t->pieces, left, n_left, right, n_right, rank);
    return 0;
}

static int read_lines(tokenizer *t, const char *text, size_t n, err *e)
{
    const char *end = text + n;
    uint32_t line = 1;

    if (memchr(text, '\0', n))
        return err_set(e, ERR_INPUT, "not a text file: byte %zu is zero", strlen(text));
    while (end > text && (end[-1] == '\n' || strchr(BLANKS, end[-1])))
        end--;
    for (const char *at = text, *stop; at < end && line <= MERGES_MOST + 1; at = stop + 1, line++) {
        stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        if (line > 1 && read_merge(t, at, stop, line - 2, e) != 0)
            return err_wrap(e, "line %" PRIu32, line);
    }
    return line > 2 ? 0 : err_set(e, ERR_INPUT, "no merges");
}

static int read_merges(tokenizer *t, const char *dir, err *e)
{
    char path[FS_PATH], *text;
    size_t n;
    int rc;

    TRY(fs_join(path, dir, "merges.txt", e));
    TRY(fs_read(path, &text, &n, MERGES_BYTES, e));
    rc = read_lines(t, text, n, e);
    free(text);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* ---- special words: defaults, then tokenizer_config.json, then special_tokens_map.json ---- */

enum { BOS, EOS, PAD, UNKNOWN, ROLES };
typedef struct { char text[ROLES][WORD_MOST]; } roles;
static const char *const ROLE_KEYS[ROLES] = {"bos_token", "eos_token", "pad_token", "unk_token"};

/* "bos_token": a text, or an object with a text "content"; absent or null: as before. */
static int read_role(char to[WORD_MOST], const json_t *root, const char *key, err *e)
{
    const json_t *v = json_object_get(root, key);
    const char *text;

    if (!v || json_is_null(v))
        return 0;
    text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    if (!text || !*text || strlen(text) >= WORD_MOST)
        return err_set(e, ERR_INPUT, "key '%s' is neither a text nor an object with a text 'content'", key);
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

static int read_roles(roles *r, const char *dir, const char *name, err *e)
{
    char path[FS_PATH];
    json_t *root;
    int rc = 0;

    TRY(fs_join(path, dir, name, e));
    if (!fs_exists(path))
        return 0;
    TRY(json_read(&root, path, e));
    for (int i = 0; i < ROLES && rc == 0; i++)
        rc = read_role(r->text[i], root, ROLE_KEYS[i], e);
    json_decref(root);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int role_id(const tokenizer *t, const char *text, const char *key, const char *dir, int32_t *id, err *e)
{
    *id = tokenizer_lookup(t, text);
    if (*id < 0)
        return err_set(e, ERR_INPUT, "%s: the %s \"%.80s\" is not in vocab.json", dir, key, text);
    return 0;
}

static int read_specials(tokenizer *t, const char *dir, err *e)
{
    roles r = {{"<|startoftext|>", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}};
    int32_t *const id[ROLES] = {&t->bos, &t->eos, &t->pad, &t->unknown};

    TRY(read_roles(&r, dir, "tokenizer_config.json", e));
    TRY(read_roles(&r, dir, "special_tokens_map.json", e));
    for (int i = 0; i < ROLES; i++)
        TRY(role_id(t, r.text[i], ROLE_KEYS[i], dir, id[i], e));
    tokenizer_add_special(t, r.text[BOS], t->bos);
    if (t->eos != t->bos)
        tokenizer_add_special(t, r.text[EOS], t->eos);
    return 0;
}

/* ---- added_tokens.json: {"<new1>": 49408, ...}, what a fine-tuned model's folder carries ---- */

static const char *word_of(json_t *root, int64_t wanted)
{
    const char *word;
    json_t *id;

    json_object_foreach(root, word, id)
        if (json_is_integer(id) && json_integer_value(id) == wanted)
            return word;
    return NULL;
}

static int add_words(tokenizer *t, json_t *root, err *e)
{
    int32_t id;

    for (size_t i = 0; i < json_object_size(root); i++) {
        const char *word = word_of(root, t->vocab + (int64_t)t->added);

        if (!word)
            return err_set(e, ERR_INPUT, "no word has id %" PRId32 "; added words take the ids after the vocabulary's",
                           t->vocab + t->added);
        TRY(tokenizer_add(t, word, &id, e));
    }
    return 0;
}

static int read_added(tokenizer *t, const char *dir, err *e)
{
    char path[FS_PATH];
    json_t *root;
    int rc;

    TRY(fs_join(path, dir, "added_tokens.json", e));
    if (!fs_exists(path))
        return 0;
    TRY(json_read(&root, path, e));
    rc = json_object_size(root) > WORD_MOST ? err_set(e, ERR_INPUT, "more than %d words", WORD_MOST)
                                            : add_words(t, root, e);
    json_decref(root);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

int tokenizer_read(tokenizer *t, const char *dir, err *e)
{
    t->pieces = bpe_new();
    TRY(read_vocab(t, dir, e));
    TRY(read_merges(t, dir, e));
    TRY(read_specials(t, dir, e));
    return read_added(t, dir, e);
}
