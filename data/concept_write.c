/* A concept into its file. The order of writing is fixed by the struct, so the same struct gives the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/concept_impl.h"

static const char *text_or_empty(const char *s)
{
    return s ? s : "";
}

static store_shape shape1(dtype t, int64_t a)
{
    return (store_shape){t, 1, {a}};
}

static store_shape shape2(dtype t, int64_t a, int64_t b)
{
    return (store_shape){t, 2, {a, b}};
}

static int put_attributes(store *s, const concept *c, err *e)
{
    TRY(store_attr_text(s, "/", "format", CONCEPT_FORMAT, e));
    TRY(store_attr_int(s, "/", "version", c->factors.rank > 0 ? CONCEPT_BLOCKS : c->bank.n > 0 ? CONCEPT_BANK : 1, e));
    TRY(store_attr_text(s, "/", "kind", c->kind == CONCEPT_MERGED ? "merged" : "concept", e));
    TRY(store_attr_int(s, "/", "seed", (int64_t)c->seed, e));
    TRY(store_attr_int(s, "/", "width", c->width, e));
    for (const concept_text *t = concept_texts; t->name; t++)
        TRY(store_attr_text(s, "/", t->name, text_or_empty(*concept_text_at(c, t)), e));
    return 0;
}

static int put_tensors(store *s, const concept *c, err *e)
{
    char path[CONCEPT_PATH];
    for (int i = 0; i < c->n_tensors; i++) {
        const concept_tensor *t = &c->tensors[i];
        TRY(concept_path_of(path, t->name, e));
        TRY(store_put(s, path, t->cols ? shape2(F32, t->rows, t->cols) : shape1(F32, t->rows), t->data, e));
    }
    return 0;
}

static int put_token(store *s, const concept *c, int i, err *e)
{
    const concept_token *t = &c->tokens[i];
    char path[CONCEPT_PATH];
    if (!t->word[0] || strchr(t->word, '/') || strlen(t->word) > 255)
        return err_set(e, ERR_INPUT, "\"%.60s\" cannot name a token in a file; it may have no / and 255 bytes",
                       t->word);
    snprintf(path, sizeof path, "/tokens/%s", t->word);
    TRY(store_put(s, path, shape1(F32, c->width), t->row, e));
    TRY(store_attr_text(s, path, "class", text_or_empty(t->class_word), e));
    TRY(store_attr_int(s, path, "initial_id", t->initial_id, e));
    return store_attr_int(s, path, "at", i, e);
}

/* The list of matrices: names and rows side by side. */
static int put_matrices(store *s, const char *group, const concept_matrix *m, int n, err *e)
{
    char path[CONCEPT_PATH];
    const char **name = NEW_N(const char *, n ? n : 1);
    int64_t *rows = NEW_N(int64_t, n ? n : 1);
    int rc;
    for (int i = 0; i < n; i++) {
        name[i] = m[i].name;
        rows[i] = m[i].rows;
    }
    snprintf(path, sizeof path, "%s/matrices", group);
    rc = store_put_texts(s, path, name, n, e);
    snprintf(path, sizeof path, "%s/matrix_rows", group);
    if (rc == 0)
        rc = store_put(s, path, shape1(I64, n), rows, e);
    free(name);
    free(rows);
    return rc;
}

static int put_card_rows(store *s, const concept_card *c, err *e)
{
    const char **label = NEW_N(const char *, c->n), **key = NEW_N(const char *, c->n);
    double *wanted = NEW_N(double, c->n);
    int rc;
    for (int i = 0; i < c->n; i++) {
        label[i] = c->row[i].label;
        key[i] = c->row[i].key;
        wanted[i] = c->row[i].wanted;
    }
    rc = store_put_texts(s, "/card/labels", label, c->n, e);
    if (rc == 0)
        rc = store_put_texts(s, "/card/keys", key, c->n, e);
    if (rc == 0)
        rc = store_put(s, "/card/wanted", shape1(F64, c->n), wanted, e);
    free(label);
    free(key);
    free(wanted);
    return rc;
}

static int put_card(store *s, const concept_card *c, err *e)
{
    if (c->n == 0)
        return 0;
    TRY(put_card_rows(s, c, e));
    TRY(put_matrices(s, "/card", c->matrix, c->matrices, e));
    TRY(store_put(s, "/card/bos", shape1(F32, c->width), c->bos, e));
    TRY(store_put(s, "/card/k", shape2(F32, c->n, c->width), c->k, e));
    return store_put(s, "/card/image", shape2(F32, c->n, c->outs), c->image, e);
}

static int put_history(store *s, const concept_history *h, err *e)
{
    if (h->n == 0)
        return 0;
    TRY(store_put(s, "/history/loss", shape1(F32, h->n), h->loss, e));
    TRY(store_put(s, "/history/lr", shape1(F32, h->n), h->lr, e));
    return store_put(s, "/history/grad_norm", shape1(F32, h->n), h->grad_norm, e);
}

static int put_samples(store *s, const concept *c, err *e)
{
    char path[CONCEPT_PATH];
    for (int i = 0; i < c->n_samples; i++) {
        snprintf(path, sizeof path, "/samples/%.255s", c->samples[i].name);
        TRY(store_put(s, path, shape1(U8, (int64_t)c->samples[i].bytes), c->samples[i].png, e));
    }
    return 0;
}

static int put_factor_rows(store *s, const concept_factors *f, err *e)
{
    int64_t *source;
    int rc;
    if (!f->k)
        return 0;
    source = NEW_N(int64_t, f->rank);
    for (int i = 0; i < f->rank; i++)
        source[i] = f->source[i];
    rc = store_put(s, "/factors/source", shape1(I64, f->rank), source, e);
    free(source);
    TRY(rc);
    TRY(store_put_texts(s, "/factors/keys", (const char *const *)f->key, f->rank, e));
    TRY(store_put(s, "/factors/wanted", shape1(F64, f->rank), f->wanted, e));
    TRY(store_put(s, "/factors/bos", shape1(F32, f->width), f->bos, e));
    if (f->moved)
        TRY(store_put(s, "/factors/moved", shape1(F64, f->matrices + 1), f->moved, e));
    if (f->seen) {
        TRY(store_put(s, "/factors/seen", shape2(F32, f->rank, f->probes), f->seen, e));
        TRY(store_put(s, "/factors/size", shape1(F64, f->rank), f->size, e));
        TRY(store_put(s, "/factors/doubt", (store_shape){F64, 0, {0}}, &f->doubt, e));
    }
    return store_put(s, "/factors/k", shape2(F32, f->rank, f->width), f->k, e);
}

/* Images source by source, so that those of one can come and go. kept may be NULL: none. */
static int put_blocks(store *s, const concept *c, const bool kept[], err *e)
{
    const concept_factors *f = &c->factors;
    int n = f->source ? c->n_sources : 1;
    const float *left = f->left;
    int64_t *block = NEW_N(int64_t, n);
    char path[CONCEPT_PATH];
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        int first, rows = concept_rows_of(f, i, &first);
        block[i] = f->block ? f->block[i] : i;
        concept_block_path(path, (int)block[i]);
        if (rows > 0 && kept && kept[i]) {
            rc = store_keep(s, path, e);
        } else if (rows > 0) {
            rc = store_put(s, path, shape2(F32, rows, f->outs), left, e);
            left += rows * f->outs;
        }
    }
    if (rc == 0)
        rc = store_put(s, "/factors/blocks", shape1(I64, n), block, e);
    free(block);
    return rc;
}

static int put_factors(store *s, const concept *c, const bool kept[], err *e)
{
    const concept_factors *f = &c->factors;
    if (f->rank == 0)
        return 0;
    TRY(put_matrices(s, "/factors", f->matrix, f->matrices, e));
    TRY(store_put_texts(s, "/factors/labels", (const char *const *)f->label, f->rank, e));
    TRY(put_factor_rows(s, f, e));
    TRY(put_blocks(s, c, kept, e));
    return store_put(s, "/factors/right", shape2(F64, f->rank, f->width), f->right, e);
}

/* The lists of who is who, as columns. */
static int put_shares(store *s, const concept_bank *b, err *e)
{
    static const char *const path[3] = {"/bank/first", "/bank/words", "/bank/rank"};
    int64_t *column = NEW_N(int64_t, b->n);
    int rc = 0;
    for (int k = 0; rc == 0 && k < 3; k++) {
        for (int i = 0; i < b->n; i++)
            column[i] = k == 0 ? b->share[i].first : k == 1 ? b->share[i].words : b->share[i].rank;
        rc = store_put(s, path[k], shape1(I64, b->n), column, e);
    }
    free(column);
    return rc;
}

/* For whoever has the file and not us. */
static const char BANK_RULE[] =
    "No weights: each concept's change of every K/V matrix is left' right, on some positions of a prompt only. Before the first "
    "end token a position belongs to the concept whose word was read last; from the end token on every concept of the prompt "
    "applies, each with weight 1/(their number); everywhere else, and in prompts without words, keys and values are the base's.";

/* Each concept's numbers are datasets of their own: a prompt asks for few of many. */
static int put_bank(store *s, const concept_bank *b, err *e)
{
    char path[CONCEPT_PATH];
    if (b->n == 0)
        return 0;
    TRY(put_matrices(s, "/bank", b->matrix, b->matrices, e));
    TRY(put_shares(s, b, e));
    for (int i = 0; i < b->n; i++) {
        const concept_share *x = &b->share[i];
        concept_share_path(path, "left", i);
        TRY(store_put(s, path, shape2(F32, x->rank, b->outs), x->left, e));
        concept_share_path(path, "right", i);
        TRY(store_put(s, path, shape2(F64, x->rank, b->width), x->right, e));
    }
    return store_attr_text(s, "/bank", "rule", BANK_RULE, e);
}

static int put_sources(store *s, const concept *c, err *e)
{
    const char **column = NEW_N(const char *, c->n_sources + 1);
    int rc = 0;
    for (int k = 0; rc == 0 && k < 3 && c->n_sources > 0; k++) {
        static const char *const path[3] = {"/sources/names", "/sources/sha256", "/sources/words"};
        for (int i = 0; i < c->n_sources; i++) {
            const char *field[3] = {c->sources[i].name, c->sources[i].sha256, c->sources[i].words};
            column[i] = text_or_empty(field[k]);
        }
        rc = store_put_texts(s, path[k], column, c->n_sources, e);
    }
    free(column);
    return rc;
}

static int put_weights(store *s, const concept *c, err *e)
{
    double *weight;
    bool any = false;
    int rc;
    for (int i = 0; i < c->n_sources; i++)
        any |= c->sources[i].weight != 0 && c->sources[i].weight != 1;
    if (!any)
        return 0;
    weight = NEW_N(double, c->n_sources);
    for (int i = 0; i < c->n_sources; i++)
        weight[i] = c->sources[i].weight != 0 ? c->sources[i].weight : 1;
    rc = store_put(s, "/sources/weights", shape1(F64, c->n_sources), weight, e);
    free(weight);
    return rc;
}

static int put_all(store *s, const concept *c, const bool kept[], err *e)
{
    TRY(put_attributes(s, c, e));
    TRY(put_tensors(s, c, e));
    for (int i = 0; i < c->n_tokens; i++)
        TRY(put_token(s, c, i, e));
    TRY(put_card(s, &c->card, e));
    TRY(put_history(s, &c->history, e));
    TRY(put_samples(s, c, e));
    TRY(put_factors(s, c, kept, e));
    TRY(put_bank(s, &c->bank, e));
    TRY(put_sources(s, c, e));
    TRY(put_weights(s, c, e));
    return c->certificate ? store_put_text(s, "/certificate", c->certificate, e) : 0;
}

static int fill(store *s, const concept *c, const bool kept[], err *e)
{
    int rc = put_all(s, c, kept, e);
    if (rc == 0)
        return store_commit(s, e);
    store_drop(s);
    return rc;
}

int concept_write(const char *path, const concept *c, err *e)
{
    store *s;
    TRY(store_create(&s, path, e));
    return fill(s, c, NULL, e);
}

int concept_renew(const char *path, const concept *c, const bool kept[], const char *from, const char *digest, err *e)
{
    store *s;
    TRY(store_renew(&s, from, digest, path, e));
    return fill(s, c, kept, e);
}
