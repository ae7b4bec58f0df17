#include "merge/again.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/json.h"
#include "cluster/base/mem.h"

/* "<a>, <b> as <c>" are two. */
static int count_words(const char *words)
{
    int n = words[0] != '\0';
    for (const char *at = words; (at = strstr(at, ", ")) != NULL; at += 2)
        n++;
    return n;
}

static void add_row(concept_card *c, const concept_factors *f, int r)
{
    size_t n = (size_t)c->n, w = (size_t)f->width;
    c->row[n] = (concept_row){mem_text(f->label[r]), mem_text(f->key[r]), f->wanted[r]};
    memcpy(c->k + n * w, f->k + (size_t)r * w, w * sizeof *c->k);
    c->n++;
}

/* With room for n rows. */
static void open_card(concept_card *c, const concept_factors *f, int n)
{
    *c = (concept_card){.width = f->width, .matrices = f->matrices, .outs = f->outs};
    c->matrix = NEW_N(concept_matrix, f->matrices);
    for (int i = 0; i < f->matrices; i++)
        c->matrix[i] = (concept_matrix){mem_text(f->matrix[i].name), f->matrix[i].rows};
    c->bos = mem_copy(f->bos, (size_t)f->width * sizeof *c->bos);
    c->row = NEW_N(concept_row, n);
    c->k = NEW_N(float, (size_t)n *(size_t)f->width);
}

/* Rows stand source by source. */
static int rows_of(const concept_factors *f, int s, int *first)
{
    int n = 0;
    *first = 0;
    for (int r = 0; r < f->rank; r++) {
        *first += f->source[r] < s;
        n += f->source[r] == s;
    }
    return n;
}

static int open_one(concept *out, const concept *merged, int s, int *token, err *e)
{
    const concept_source *from = &merged->sources[s];
    int words = count_words(from->words), first, n = rows_of(&merged->factors, s, &first);
    *out = (concept){.method = mem_text(merged->method),
                     .base = mem_text(merged->base),
                     .base_path = mem_text(merged->base_path),
                     .width = merged->width};
    memcpy(out->digest, from->sha256, strlen(from->sha256) < HASH_HEX ? strlen(from->sha256) : HASH_HEX - 1);
    if (*token + words > merged->n_tokens)
        return err_set(e, ERR_INPUT, "its words are not those of its sources");
    for (; words > 0; words--, ++*token) {
        const concept_token *t = &merged->tokens[*token];
        concept_add_token(out, t->word, t->class_word, t->initial_id, t->row);
    }
    open_card(&out->card, &merged->factors, n);
    for (int r = first; r < first + n; r++)
        add_row(&out->card, &merged->factors, r);
    return out->card.n > 0 ? 0 : err_set(e, ERR_INPUT, "%s has no rows in it", from->name);
}

int again_open(concept out[], const concept *merged, err *e)
{
    int token = 0;
    if (merged->bank.n > 0)
        return err_set(e, ERR_INPUT, "is a bank; give the files it was made of");
    if (!merged->factors.k)
        return err_set(e, ERR_INPUT, "is a merged file that does not keep its rows; give the files it was made of");
    for (int s = 0; s < merged->n_sources; s++)
        TRY(open_one(&out[s], merged, s, &token, e));
    return 0;
}

void again_images(concept *part, const concept *merged, int s)
{
    const concept_factors *f = &merged->factors;
    size_t outs = (size_t)f->outs, n = 0;
    part->card.image = NEW_N(float, (size_t)part->card.n *outs);
    for (int r = 0; r < f->rank; r++) {
        if (f->source[r] != s)
            continue;
        memcpy(part->card.image + n++ * outs, f->left + (size_t)r * outs, outs * sizeof *f->left);
    }
}

void again_whole(concept *out, const concept *merged, const int source[])
{
    concept_factors *f = &out->factors;
    size_t outs = (size_t)f->outs, row = outs * sizeof(float);
    float *left = NEW_N(float, (size_t)f->rank *outs), *to = left;
    const float *own = f->left;
    mem_whole(left, (size_t)f->rank * row);
    for (int i = 0; i < out->n_sources; i++) {
        int first, n = source[i] >= 0 ? rows_of(&merged->factors, source[i], &first) : rows_of(f, i, &first);
        memcpy(to, source[i] >= 0 ? merged->factors.left + (size_t)first * outs : own, (size_t)n * row);
        own += source[i] >= 0 ? 0 : (size_t)n * outs;
        to += (size_t)n * outs;
    }
    free(f->left);
    f->left = left;
}

bool again_is_shared(const concept *merged)
{
    json_t *o = merged->certificate ? json_loads(merged->certificate, 0, NULL) : NULL, *p;
    bool shared = false;
    size_t i;
    json_array_foreach(json_object_get(o, "concepts"), i, p) shared |= json_integer_value(json_object_get(p, "shared")) > 0;
    json_decref(o);
    return shared;
}
