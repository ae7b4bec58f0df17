/* Modifier tokens of several files side by side: nobody's <new1> may become somebody else's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/compose_impl.h"

static bool taken(const words *w, const char *word)
{
    for (int i = 0; i < w->n; i++)
        for (int t = 0; t < w->n_words[i]; t++)
            if (w->word[i][t] && strcmp(w->word[i][t], word) == 0)
                return true;
    return false;
}

static bool in_a_file(const concept in[], int n, const char *word)
{
    for (int i = 0; i < n; i++)
        for (int t = 0; t < in[i].n_tokens; t++)
            if (strcmp(in[i].tokens[t].word, word) == 0)
                return true;
    return false;
}

/* The next <newN> that neither stands in the result nor is somebody's own; those before *next are known to. */
static char *free_word(const words *w, const concept in[], int n, int *next)
{
    char word[32];
    for (;; ++*next) {
        snprintf(word, sizeof word, "<new%d>", *next);
        if (!taken(w, word) && !in_a_file(in, n, word))
            return mem_text(word);
    }
}

static int apply_wish(words *w, const concept in[], const char *const file[], const compose_name *name, err *e)
{
    for (int t = 0; t < in[name->from].n_tokens; t++) {
        if (strcmp(in[name->from].tokens[t].word, name->old) != 0)
            continue;
        if (taken(w, name->now))
            return err_set(e, ERR_INPUT, "two tokens are to be called %s", name->now);
        if (!name->now[0] || strpbrk(name->now, " /\t\n"))
            return err_set(e, ERR_INPUT, "\"%s\" cannot be a token: no blank and no / may be in it", name->now);
        w->word[name->from][t] = mem_text(name->now);
        return 0;
    }
    return err_set(e, ERR_INPUT, "%s has no token %s", file[name->from], name->old);
}

/* Wishes first, then everyone who can keep a name, then the rest. */
int words_choose(words *out, const concept in[], const char *const file[], int n, const compose_opts *o, err *e)
{
    int next = 1;
    *out = (words){.n = n, .word = NEW_N(char **, n), .n_words = NEW_N(int, n)};
    for (int i = 0; i < n; i++) {
        out->n_words[i] = in[i].n_tokens;
        out->word[i] = NEW_N(char *, in[i].n_tokens + 1);
    }
    for (int i = 0; i < o->n_names; i++)
        TRY(apply_wish(out, in, file, &o->names[i], e));
    for (int i = 0; i < n; i++)
        for (int t = 0; t < in[i].n_tokens; t++)
            if (!out->word[i][t] && !taken(out, in[i].tokens[t].word))
                out->word[i][t] = mem_text(in[i].tokens[t].word);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < in[i].n_tokens; t++)
            if (!out->word[i][t])
                out->word[i][t] = free_word(out, in, n, &next);
    return 0;
}

void words_free(words *w, const concept in[])
{
    for (int i = 0; i < w->n; i++) {
        for (int t = 0; t < in[i].n_tokens; t++)
            free(w->word[i][t]);
        free(w->word[i]);
    }
    free(w->word);
    free(w->n_words);
    *w = (words){0};
}

char *words_told(const words *w, const concept in[], int i)
{
    str s = {0};
    for (int t = 0; t < in[i].n_tokens; t++) {
        const char *old = in[i].tokens[t].word, *now = w->word[i][t];
        str_add(&s, "%s%s", t ? ", " : "", old);
        if (strcmp(old, now) != 0)
            str_add(&s, " as %s", now);
    }
    return s.at ? s.at : mem_text("");
}

/* The token that stands at `at`; the longest, as the tokenizer has it; -1: none. */
static int word_at(const concept *c, const char *at)
{
    int best = -1;
    for (int t = 0; t < c->n_tokens; t++)
        if (str_starts(at, c->tokens[t].word) && (best < 0 || strlen(c->tokens[t].word) > strlen(c->tokens[best].word)))
            best = t;
    return best;
}

char *words_in(const words *w, const concept in[], int i, const char *text)
{
    str out = {0};
    str_put(&out, "", 0);
    while (*text) {
        int t = word_at(&in[i], text);
        if (t < 0) {
            str_put(&out, text++, 1);
            continue;
        }
        str_add(&out, "%s", w->word[i][t]);
        text += strlen(in[i].tokens[t].word);
    }
    return out.at ? out.at : mem_text("");
}
