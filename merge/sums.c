#include "merge/sums.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/compose_impl.h"

static size_t count_of(const concept_tensor *t)
{
    return (size_t)(t->rows * (t->cols ? t->cols : 1));
}

/* ---- tensors ---- */

static int add_tensor(concept *out, const concept_tensor *t, const char *file, err *e)
{
    concept_tensor *sum = (concept_tensor *)(uintptr_t)concept_find(out, t->name);

    if (sum && (sum->rows != t->rows || sum->cols != t->cols))
        return err_set(e, ERR_INPUT, "%s: %s has %zu numbers here and %zu in a file before it; were they taught with one "
                                     "setting of svdiff.norms?", file, t->name, count_of(t), count_of(sum));
    for (size_t i = 0; i < count_of(t); i++)
        if (!isfinite(t->data[i]))
            return err_set(e, ERR_INPUT, "%s: %s holds numbers that are not finite", file, t->name);
    if (!sum) {
        concept_add_tensor(out, t->name, t->rows, t->cols, t->data);
        return 0;
    }
    for (size_t i = 0; i < count_of(t); i++)
        sum->data[i] += t->data[i];
    return 0;
}

/* ---- identifiers: words of the vocabulary leave no row behind, only the settings know them ---- */

/* A word that was chosen stands in the recipe. */
static json_t *chosen_word(const concept *c)
{
    json_t *recipe = json_loads(c->recipe, 0, NULL), *word = json_incref(json_array_get(json_object_get(recipe, "identifiers"), 0));

    json_decref(recipe);
    return word;
}

/* "ohwx dog", of the first subject; NULL: the settings do not say. */
static char *subject_of(const concept *c)
{
    json_t *settings = json_loads(c->settings, 0, NULL), *chosen = chosen_word(c);
    const json_t *given = json_object_get(settings, "token"), *token = given ? given : chosen;
    const char *word = json_string_value(json_is_array(token) ? json_array_get(token, 0) : token);
    const char *class_word = json_string_value(json_object_get(settings, "class"));
    str s = {0};

    if (class_word && class_word[0])
        str_add(&s, "%s%s%s", word ? word : "", word && word[0] ? " " : "", class_word);
    json_decref(chosen);
    json_decref(settings);
    return s.at;
}

static int check_subjects(const concept in[], const char *const file[], int n, err *e)
{
    char **of = NEW_N(char *, n);
    int rc = 0;

    for (int i = 0; i < n; i++) {
        of[i] = in[i].n_tokens == 0 ? subject_of(&in[i]) : NULL;
        for (int k = 0; k < i && rc == 0; k++)
            if (of[i] && of[k] && strcmp(of[i], of[k]) == 0)
                rc = err_set(e, ERR_INPUT, "%s and %s both teach \"%s\", and their sum could not tell the two apart; teach one "
                                           "of them again with another token", file[k], file[i], of[i]);
    }
    for (int i = 0; i < n; i++)
        free(of[i]);
    free(of);
    return rc;
}

/* ---- the sum ---- */

static void take_words(concept *out, const concept *c, char *const now[], const char *file)
{
    str told = {0};

    str_put(&told, "", 0);
    for (int t = 0; t < c->n_tokens; t++) {
        const concept_token *k = &c->tokens[t];
        str_add(&told, "%s%s%s%s", t ? ", " : "", k->word, strcmp(k->word, now[t]) ? " as " : "",
                strcmp(k->word, now[t]) ? now[t] : "");
        concept_add_token(out, now[t], k->class_word, k->initial_id, k->row);
    }
    out->sources[out->n_sources++] = (concept_source){mem_text(fs_base(file)), mem_text(c->digest),
                                                      told.at ? told.at : mem_text(""), 1};
}

static int add_up(concept *out, const concept in[], const char *const file[], int n, const words *w, err *e)
{
    *out = (concept){.kind = CONCEPT_MERGED, .width = in[0].width, .sources = NEW_N(concept_source, n)};
    out->method = mem_text(in[0].method);
    out->base = mem_text(in[0].base);
    out->base_path = mem_text(in[0].base_path);
    out->recipe = mem_text("{\"operation\":\"sum\",\"program\":\"conceptfarm " CFARM_VERSION "\"}");
    for (int i = 0; i < n; i++) {
        for (int t = 0; t < in[i].n_tensors; t++)
            TRY(add_tensor(out, &in[i].tensors[t], file[i], e));
        take_words(out, &in[i], w->word[i], file[i]);
    }
    return 0;
}

int sums(concept *out, const concept in[], const char *const file[], int n, const compose_opts *o, err *e)
{
    words w;
    int rc = words_choose(&w, in, file, n, o, e);

    *out = (concept){0};
    if (rc == 0)
        rc = check_subjects(in, file, n, e);
    if (rc == 0)
        rc = add_up(out, in, file, n, &w, e);
    words_free(&w, in);
    if (rc != 0)
        concept_free(out);
    return rc;
}

void sums_tell(FILE *to, const concept *merged)
{
    fprintf(to, "sum of %d concepts of %s: %d tensors, %d words; nothing was solved, and what the others do to a subject is not "
                "bounded\n", merged->n_sources, merged->method, merged->n_tensors, merged->n_tokens);
    for (int i = 0; i < merged->n_sources; i++)
        fprintf(to, "  %-24s %s\n", merged->sources[i].name, merged->sources[i].words);
}
