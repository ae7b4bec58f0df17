/* Modifier tokens: added to the tokenizer, and the vocabulary row each starts from. Sources: custom-diffusion's
 * train.py and diffusers' train_custom_diffusion.py for the rare rows; the latter's order. A word given by the user
 * is looked for as it stands in a sentence ("cat</w>") before it is taken for a raw entry. */
#include <stdlib.h>
#include <string.h>

#include "data/subject.h"

static const char *const rare[] = {"ktn", "pll", "ucd</w>"}; /* 42170, 47629, 43514 of CLIP's vocabulary */

static int start_automatic(int32_t *out, int nth, const char *class_word, const tokenizer *t, err *e)
{
    const int rares = (int)(sizeof rare / sizeof *rare);

    if (tokenizer_lookup(t, rare[0]) < 0) {
        if (tokenizer_word(t, class_word, out, e) == 0)
            return 0;
        err_wrap(e, "neither ktn nor the class is one entry of this vocabulary");
        return err_wrap(e, "give initializer, an id or a word of one piece");
    }
    if (nth >= rares)
        return err_set(e, ERR_INPUT, "only %d tokens have a row to start from by themselves; give initializer", rares);
    *out = tokenizer_lookup(t, rare[nth]);
    return *out >= 0 ? 0 : err_set(e, ERR_INPUT, "this vocabulary has no %s; give initializer", rare[nth]);
}

static int start_given(int32_t *out, const char *given, const tokenizer *t, err *e)
{
    if (given[0] && strspn(given, "0123456789") == strlen(given)) {
        long id = strtol(given, NULL, 10);
        if (id >= tokenizer_vocab(t))
            return err_set(e, ERR_INPUT, "initializer %s: the vocabulary ends at %d", given, tokenizer_vocab(t) - 1);
        *out = (int32_t)id;
        return 0;
    }
    if (tokenizer_word(t, given, out, e) == 0)
        return 0;
    int32_t entry = tokenizer_lookup(t, given);
    if (entry < 0)
        return err_wrap(e, "initializer %s", given);
    *out = entry;
    return 0;
}

static int start_of(int32_t *out, const data_cfg *c, int i, int k, int nth, const tokenizer *t, err *e)
{
    const subject_cfg *s = data_subject(c, i);
    const char *given = s->initializer.n > (size_t)k ? s->initializer.at[k] : "auto";

    if (strcmp(given, "auto") != 0)
        return start_given(out, given, t, e);
    if (!c->manner.start_as_class)
        return start_automatic(out, nth, s->class_word, t, e);
    return tokenizer_word(t, s->class_word, out, e) == 0 ? 0 : err_wrap(e, "give initializer, a word of one piece");
}

int subject_words(subject_word out[SUBJECT_WORDS_MOST], int *n, const data_cfg *c, tokenizer *t, err *e)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];

    *n = 0;
    TRY(data_check(c, e));
    for (int i = 0, named = 0; i < data_subjects(c); i++) {
        if (c->manner.rare_words)
            continue;
        int tokens = subject_tokens(words, c, i), vectors = (int)data_subject(c, i)->vectors;
        for (int k = 0; k < tokens; k++) {
            subject_word *w = &out[*n];
            *w = (subject_word){.subject = i};
            memcpy(w->word, words[k], SUBJECT_WORD);
            if (tokenizer_word(t, w->word, &w->id, NULL) == 0)
                return err_set(e, ERR_INPUT, "token %s: a word of the vocabulary already; take a new one, <%s>",
                               w->word, w->word);
            if (start_of(&w->start, c, i, k / vectors, named, t, e) != 0)
                return err_wrap(e, "token %s", w->word);
            TRY(tokenizer_add(t, w->word, &w->id, e));
            (*n)++;
            named += (k + 1) % vectors == 0;
        }
    }
    return 0;
}
