/* A prompt has two readings: what the taught model is asked, with its tokens, and what an outside judge reads, without.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/eval/eval.h"

/* ---- subjects ---- */

static void add_token(eval_words *w, const char *token)
{
    w->token = mem_grow(w->token, (size_t)w->tokens + 1, sizeof *w->token);
    w->token[w->tokens++] = mem_text(token);
}

/* A word may be "". */
static void add_subject(eval_words *w, const char *word, const char *class_word)
{
    str said = {0};

    str_add(&said, "%s%s%s", word, *word && *class_word ? " " : "", class_word);
    w->said = mem_grow(w->said, (size_t)w->n + 1, sizeof *w->said);
    w->meant = mem_grow(w->meant, (size_t)w->n + 1, sizeof *w->meant);
    w->said[w->n] = said.at;
    w->meant[w->n++] = mem_text(class_word);
}

/* "<new1>_1" is a further vector of "<new1>": both stand together in a prompt. */
static bool goes_on(const char *word, const char *first)
{
    size_t n = strlen(first);

    return strncmp(word, first, n) == 0 && word[n] == '_';
}

static void of_concept(eval_words *w, const eval_cfg *set, const concept *c)
{
    for (int i = 0, next; i < c->n_tokens; i = next) {
        const char *class_word = *c->tokens[i].class_word ? c->tokens[i].class_word : set->class_word;
        str word = {0};

        str_add(&word, "%s", c->tokens[i].word);
        add_token(w, c->tokens[i].word);
        for (next = i + 1; next < c->n_tokens && goes_on(c->tokens[next].word, c->tokens[i].word); next++) {
            str_add(&word, " %s", c->tokens[next].word);
            add_token(w, c->tokens[next].word);
        }
        add_subject(w, word.at, class_word);
        str_free(&word);
    }
}

void eval_words_of(eval_words *out, const eval_cfg *set, const concept *c)
{
    *out = (eval_words){0};
    if (c)
        of_concept(out, set, c);
    for (size_t i = 0; i < set->token.n; i++)
        add_token(out, set->token.at[i]);
    if (out->n == 0 && (set->token.n > 0 || set->class_word[0]))
        add_subject(out, set->token.n > 0 ? set->token.at[0] : "", set->class_word);
}

void eval_words_free(eval_words *w)
{
    for (int i = 0; i < w->n; i++) {
        free(w->said[i]);
        free(w->meant[i]);
    }
    for (int i = 0; i < w->tokens; i++)
        free(w->token[i]);
    free(w->said);
    free(w->meant);
    free(w->token);
    *w = (eval_words){0};
}

/* ---- filling ---- */

/* Length of the token that stands at `at` as a word of its own; 0: none. The longest, since one may begin another. */
static size_t token_at(const eval_words *w, const char *text, size_t at)
{
    size_t longest = 0;

    if (at > 0 && isalnum((unsigned char)text[at - 1]))
        return 0;
    for (int i = 0; i < w->tokens; i++) {
        size_t n = strlen(w->token[i]);
        if (n > longest && strncmp(text + at, w->token[i], n) == 0 && !isalnum((unsigned char)text[at + n]))
            longest = n;
    }
    return longest;
}

/* Tokens go, with one blank of those around them. */
static char *without_tokens(const eval_words *w, const char *text)
{
    str out = {0};

    str_add(&out, "%s", "");
    for (size_t i = 0; text[i];) {
        size_t n = token_at(w, text, i);
        if (n == 0)
            str_put(&out, &text[i++], 1);
        else if (i += n, text[i] == ' ')
            i++;
        else if (out.n > 0 && out.at[out.n - 1] == ' ')
            out.at[--out.n] = '\0';
    }
    return out.at;
}

/* The subject that a place at `at` means and the place's length: {}, {0}, {1}, ...; length 0: no place. */
static size_t place_at(const char *at, int *which)
{
    char *end;

    *which = 0;
    if (strncmp(at, "{}", 2) == 0)
        return 2;
    if (*at != '{' || !isdigit((unsigned char)at[1]))
        return 0;
    long i = strtol(at + 1, &end, 10);
    *which = i > 1 << 20 ? 1 << 20 : (int)i;
    return *end == '}' ? (size_t)(end - at) + 1 : 0;
}

int eval_words_fill(char **said, char **meant, const eval_words *w, const char *prompt, err *e)
{
    str a = {0}, b = {0};
    int which;

    str_add(&a, "%s", "");
    str_add(&b, "%s", "");
    for (const char *at = prompt; *at;) {
        size_t n = place_at(at, &which);
        if (n > 0 && which >= w->n) {
            str_free(&a);
            str_free(&b);
            return err_set(e, ERR_INPUT,
                           "prompt \"%.80s\" has a place for subject %d and %d %s known; give --from FILE.h5 or "
                           "--class WORD",
                           prompt, which, w->n, w->n == 1 ? "is" : "are");
        }
        str_put(&a, n > 0 ? w->said[which] : at, n > 0 ? strlen(w->said[which]) : 1);
        str_put(&b, n > 0 ? w->meant[which] : at, n > 0 ? strlen(w->meant[which]) : 1);
        at += n > 0 ? n : 1;
    }
    *said = a.at;
    *meant = without_tokens(w, b.at);
    str_free(&b);
    return 0;
}
