/* What is given to cfarm merge: concepts, merged files taken apart, and who of them goes, weighs otherwise, is renamed. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/again.h"
#include "merge/command_merge_impl.h"

enum { MANY = 8 }; /* files: fewer are read before another thread is awake */

/* ---- --rename FILE:<old>=<new> ---- */

static bool has_word(const concept *c, const char *word)
{
    for (int t = 0; t < c->n_tokens; t++)
        if (strcmp(c->tokens[t].word, word) == 0)
            return true;
    return false;
}

/* The file named before the colon; without one the only file that has the word. -1: none, or several. */
static int file_of(const merge_job *j, const char *name, size_t n, const char *word)
{
    int found = -1, count = 0;
    for (int i = 0; i < j->n; i++) {
        const char *path = j->file[i], *base = fs_base(path);
        bool named =
            (strlen(path) == n && memcmp(path, name, n) == 0) || (strlen(base) == n && memcmp(base, name, n) == 0);
        if (n > 0 ? named : has_word(&j->in[i], word)) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : -1;
}

static int read_rename(merge_job *j, const char *text, err *e)
{
    const char *colon = strstr(text, ":<"), *old = colon ? colon + 1 : text, *equals = strchr(old, '=');
    compose_name *name;
    char *word;
    if (!equals || !equals[1])
        return err_set(e, ERR_INPUT, "--rename %s is not of the form FILE:<old>=<new>", text);
    word = mem_new((size_t)(equals - old) + 1, 1);
    memcpy(word, old, (size_t)(equals - old));
    j->names = mem_grow(j->names, (size_t)j->n_names + 1, sizeof *j->names);
    name = &j->names[j->n_names++];
    *name = (compose_name){.old = word, .now = mem_text(equals + 1)};
    name->from = file_of(j, text, colon ? (size_t)(colon - text) : 0, word);
    if (name->from < 0)
        return err_set(e, ERR_INPUT, "--rename %s: %s", text,
                       colon ? "no file of that name is merged"
                             : "not exactly one file has that word; put FILE: in front");
    return 0;
}

/* ---- reading and opening ---- */

static concept *push(merge_job *j, const char *name, bool is_file, double weight)
{
    size_t n = (size_t)j->n + 1;
    j->in = mem_grow(j->in, n, sizeof *j->in);
    j->file = mem_grow(j->file, n, sizeof *j->file);
    j->is_file = mem_grow(j->is_file, n, sizeof *j->is_file);
    j->weight = mem_grow(j->weight, n, sizeof *j->weight);
    j->source = mem_grow(j->source, n, sizeof *j->source);
    j->in[j->n] = (concept){0};
    j->source[j->n] = -1;
    j->file[j->n] = mem_text(name);
    j->is_file[j->n] = is_file;
    j->weight[j->n] = weight;
    return &j->in[j->n++];
}

/* The concepts of a merged file, as if their own had been given; without images where it stays open. */
static int take_apart(merge_job *j, const concept *merged, bool stays, err *e)
{
    concept *parts = NEW_N(concept, merged->n_sources + 1);
    int rc = j->set->remove.n > 0 && again_is_shared(merged)
                 ? err_set(e, ERR_INPUT, "concepts in it share rows, which leave with the first that asks for them; merge the "
                                         "files it was made of")
                 : again_open(parts, merged, e);
    for (int i = 0; i < merged->n_sources; i++) {
        if (rc != 0) {
            concept_free(&parts[i]);
            continue;
        }
        if (!stays)
            again_images(&parts[i], merged, i);
        *push(j, merged->sources[i].name, false, merged->sources[i].weight) = parts[i];
        j->source[j->n - 1] = stays ? i : -1;
    }
    free(parts);
    return rc;
}

/* Takes c. */
static int take_given(merge_job *j, const char *path, concept c, err *e)
{
    bool first = j->start.n_sources == 0;
    int rc;
    if (c.kind != CONCEPT_MERGED || (c.factors.rank == 0 && c.bank.n == 0)) {
        *push(j, path, true, 1) = c;
        return 0;
    }
    rc = first ? 0 : concept_read_left(&c, path, e);
    if (rc == 0)
        rc = take_apart(j, &c, first, e);
    if (rc == 0 && first) {
        j->start = c;
        j->start_file = path;
    } else {
        concept_free(&c);
    }
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* Each on a core of its own, for every byte is hashed; the first error is the first file's. */
static int read_given(merge_job *j, err *e)
{
    concept *c = NEW_N(concept, j->n_given);
    err *wrong = NEW_N(err, j->n_given);
    int rc = 0;
#pragma omp parallel for schedule(dynamic) if (j->n_given >= MANY)
    for (int i = 0; i < j->n_given; i++)
        concept_read(&c[i], j->given[i], CONCEPT_CARD | CONCEPT_ROWS, &wrong[i]);
    for (int i = 0; i < j->n_given; i++) {
        if (rc == 0 && wrong[i].code == ERR_NONE) {
            rc = take_given(j, j->given[i], c[i], e);
            continue;
        }
        if (rc == 0) {
            *e = wrong[i];
            rc = (int)e->code;
        }
        if (wrong[i].code == ERR_NONE)
            concept_free(&c[i]);
    }
    free(c);
    free(wrong);
    return rc;
}

/* From here on nobody needs the merged file. */
int merge_take_images(merge_job *j, err *e)
{
    TRY(concept_read_left(&j->start, j->start_file, e));
    for (int i = 0; i < j->n; i++)
        if (j->source[i] >= 0)
            again_images(&j->in[i], &j->start, j->source[i]);
    concept_free(&j->start);
    return 0;
}

/* By its file's name, with or without folders and ".h5"; -1: none, or several. */
int merge_named(const merge_job *j, const char *name, size_t n)
{
    int found = -1, count = 0;
    for (int i = 0; i < j->n; i++) {
        const char *base = fs_base(j->file[i]);
        size_t stem = strlen(base) - (str_ends(base, ".h5") ? 3 : 0);
        if ((strlen(j->file[i]) == n && memcmp(j->file[i], name, n) == 0) || (strlen(base) == n && memcmp(base, name, n) == 0) ||
            (stem == n && memcmp(base, name, n) == 0)) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : -1;
}

static int remove_one(merge_job *j, const char *name, err *e)
{
    int i = merge_named(j, name, strlen(name));
    if (i < 0)
        return err_set(e, ERR_INPUT, "--remove %s: not exactly one concept has that name", name);
    concept_free(&j->in[i]);
    free(j->file[i]);
    j->n--;
    memmove(j->in + i, j->in + i + 1, (size_t)(j->n - i) * sizeof *j->in);
    memmove(j->file + i, j->file + i + 1, (size_t)(j->n - i) * sizeof *j->file);
    memmove(j->is_file + i, j->is_file + i + 1, (size_t)(j->n - i) * sizeof *j->is_file);
    memmove(j->source + i, j->source + i + 1, (size_t)(j->n - i) * sizeof *j->source);
    memmove(j->weight + i, j->weight + i + 1, (size_t)(j->n - i) * sizeof *j->weight);
    return j->n > 0 ? 0 : err_set(e, ERR_INPUT, "--remove %s: nothing is left to merge", name);
}

static int weigh_one(merge_job *j, const char *text, err *e)
{
    const char *equals = strrchr(text, '=');
    char *end;
    double weight = equals ? strtod(equals + 1, &end) : 0;
    int i = equals ? merge_named(j, text, (size_t)(equals - text)) : -1;
    if (!equals || !equals[1] || *end || !(weight > 0 && weight <= 10))
        return err_set(e, ERR_INPUT, "--weight %s: NAME=NUMBER is wanted, above 0 and at most 10; 0 is --remove", text);
    if (i < 0)
        return err_set(e, ERR_INPUT, "--weight %s: not exactly one concept has that name", text);
    j->weight[i] = weight;
    return 0;
}

static int change_concepts(merge_job *j, err *e)
{
    const merge_settings *s = j->set;
    for (size_t i = 0; i < s->remove.n; i++)
        TRY(remove_one(j, s->remove.at[i], e));
    for (size_t i = 0; i < s->weight.n; i++)
        TRY(weigh_one(j, s->weight.at[i], e));
    return 0;
}

int merge_read_concepts(merge_job *j, err *e)
{
    TRY(read_given(j, e));
    TRY(change_concepts(j, e));
    for (int i = 0; i < j->n; i++)
        if (strcmp(j->in[i].base, j->in[0].base) != 0)
            return err_set(e, ERR_INPUT,
                           "%s and %s were trained on different base models (fingerprints %.12s and %.12s)", j->file[0],
                           j->file[i], j->in[0].base, j->in[i].base);
    for (size_t i = 0; i < j->set->rename.n; i++)
        TRY(read_rename(j, j->set->rename.at[i], e));
    return 0;
}
