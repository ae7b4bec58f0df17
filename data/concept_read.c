/* A concept out of its file, part by part. Shapes are checked against each other here, so nobody above need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/concept_impl.h"

enum { MOST_MATRICES = 1 << 20, MOST_WIDTH = 1 << 20, MOST_BLOCKS = 99999 };

static store_shape shape1(dtype t, int64_t a)
{
    return (store_shape){t, 1, {a}};
}

static store_shape shape2(dtype t, int64_t a, int64_t b)
{
    return (store_shape){t, 2, {a, b}};
}

static int get_head(store *s, concept *c, err *e)
{
    char *format = NULL, *kind = NULL;
    int64_t version = 0, seed = 0, width = 0;
    bool ours = store_get_text(s, "/", "format", &format, e) == 0 && strcmp(format, CONCEPT_FORMAT) == 0;
    free(format);
    if (!ours)
        return err_set(e, ERR_INPUT,
                       "an HDF5 file, but not one of a concept (attribute format is not " CONCEPT_FORMAT ")");
    TRY(store_get_int(s, "/", "version", &version, e));
    if (version < 1 || version > CONCEPT_VERSION)
        return err_set(e, ERR_INPUT, "written in version %lld; this program reads up to %d", (long long)version,
                       CONCEPT_VERSION);
    TRY(store_get_int(s, "/", "seed", &seed, e));
    TRY(store_get_int(s, "/", "width", &width, e));
    if (width < 1 || width > MOST_WIDTH)
        return err_set(e, ERR_INPUT, "a text width of %lld", (long long)width);
    TRY(store_get_text(s, "/", "kind", &kind, e));
    c->kind = strcmp(kind, "merged") == 0 ? CONCEPT_MERGED : CONCEPT_SINGLE;
    free(kind);
    c->seed = (uint64_t)seed;
    c->width = (int)width;
    for (const concept_text *t = concept_texts; t->name; t++)
        TRY(store_get_text(s, "/", t->name, concept_text_at(c, t), e));
    return 0;
}

static int get_tensor(store *s, concept *c, const char *path, const char *name, err *e)
{
    store_shape shape;
    concept_tensor *t;
    TRY(store_shape_of(s, path, &shape, e));
    if (shape.n < 1 || shape.n > 2 || shape.d[0] == 0 || (shape.n == 2 && shape.d[1] == 0))
        return err_set(e, ERR_INPUT, "%s is neither a matrix nor a vector", path);
    c->tensors = mem_grow(c->tensors, (size_t)c->n_tensors + 1, sizeof *c->tensors);
    t = &c->tensors[c->n_tensors++];
    *t = (concept_tensor){mem_text(name), shape.d[0], shape.n == 2 ? shape.d[1] : 0, NULL};
    return store_load(s, path, shape.n == 2 ? shape2(F32, -1, -1) : shape1(F32, -1), (void **)&t->data, NULL, e);
}

static int get_of_layer(store *s, concept *c, const char *layer, const char *dataset, err *e)
{
    char name[CONCEPT_PATH], path[2 * CONCEPT_PATH];
    TRY(concept_name_of(name, layer, dataset, e));
    snprintf(path, sizeof path, "/kv/%s/%s", layer, dataset);
    return get_tensor(s, c, path, name, e);
}

static int get_other_weights(store *s, concept *c, err *e)
{
    char path[CONCEPT_PATH], **names;
    size_t n;
    int rc = store_names(s, "/weights", &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        snprintf(path, sizeof path, "/weights/%s", names[i]);
        rc = get_tensor(s, c, path, names[i], e);
    }
    store_names_free(names);
    return rc;
}

static int get_layer(store *s, concept *c, const char *layer, err *e)
{
    char path[CONCEPT_PATH], **names;
    size_t n;
    int rc;
    snprintf(path, sizeof path, "/kv/%s", layer);
    rc = store_names(s, path, &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = get_of_layer(s, c, layer, names[i], e);
    store_names_free(names);
    return rc;
}

static int get_tensors(store *s, concept *c, err *e)
{
    char **layers;
    size_t n;
    int rc = store_names(s, "/kv", &layers, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = get_layer(s, c, layers[i], e);
    store_names_free(layers);
    return rc == 0 ? get_other_weights(s, c, e) : rc;
}

/* Fills the place the file says, so the tokens stand in the order they were given. */
static int get_token(store *s, concept *c, const char *word, err *e)
{
    char path[CONCEPT_PATH];
    int64_t at = 0, id = 0;
    concept_token *t;
    snprintf(path, sizeof path, "/tokens/%s", word);
    TRY(store_get_int(s, path, "at", &at, e));
    TRY(store_get_int(s, path, "initial_id", &id, e));
    if (at < 0 || at >= c->n_tokens || c->tokens[at].word || id < -1 || id > INT32_MAX)
        return err_set(e, ERR_INPUT, "%s: its attributes at and initial_id make no sense", path);
    t = &c->tokens[at];
    t->word = mem_text(word);
    t->initial_id = (int32_t)id;
    TRY(store_get_text(s, path, "class", &t->class_word, e));
    return store_load(s, path, shape1(F32, c->width), (void **)&t->row, NULL, e);
}

static int get_tokens(store *s, concept *c, err *e)
{
    char **words;
    size_t n;
    int rc = store_names(s, "/tokens", &words, &n, e);
    if (rc == 0) {
        c->n_tokens = (int)n;
        c->tokens = NEW_N(concept_token, n + 1);
    }
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = get_token(s, c, words[i], e);
    store_names_free(words);
    return rc;
}

static int get_matrices(store *s, const char *group, concept_matrix **out, int *count, int64_t *outs, err *e)
{
    char path[CONCEPT_PATH], **name = NULL;
    int64_t *rows = NULL, n = 0;
    int rc;
    snprintf(path, sizeof path, "%s/matrices", group);
    TRY(store_load_texts(s, path, &name, &n, e));
    snprintf(path, sizeof path, "%s/matrix_rows", group);
    rc = store_load(s, path, shape1(I64, n), (void **)&rows, NULL, e);
    if (rc == 0 && (n < 1 || n > MOST_MATRICES))
        rc = err_set(e, ERR_INPUT, "%s: %lld matrices", group, (long long)n);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        if (rows[i] < 1 || rows[i] > INT32_MAX)
            rc = err_set(e, ERR_INPUT, "%s: a matrix of %lld rows", group, (long long)rows[i]);
        *outs += rows[i];
    }
    if (rc == 0) {
        *count = (int)n;
        *out = NEW_N(concept_matrix, n);
        for (int64_t i = 0; i < n; i++)
            (*out)[i] = (concept_matrix){mem_text(name[i]), rows[i]};
    }
    store_names_free(name);
    free(rows);
    return rc;
}

static int get_card_rows(store *s, concept_card *c, err *e)
{
    char **label = NULL, **key = NULL;
    int64_t n = 0, n_keys = 0;
    double *wanted = NULL;
    int rc = store_load_texts(s, "/card/labels", &label, &n, e);
    if (rc == 0)
        rc = store_load_texts(s, "/card/keys", &key, &n_keys, e);
    if (rc == 0)
        rc = store_load(s, "/card/wanted", shape1(F64, n), (void **)&wanted, NULL, e);
    if (rc == 0 && (n != n_keys || n < 1 || n > INT32_MAX))
        rc = err_set(e, ERR_INPUT, "/card: %lld labels and %lld keys", (long long)n, (long long)n_keys);
    if (rc == 0) {
        c->n = (int)n;
        c->row = NEW_N(concept_row, n);
        for (int64_t i = 0; i < n; i++)
            c->row[i] = (concept_row){mem_text(label[i]), mem_text(key[i]), wanted[i]};
    }
    store_names_free(label);
    store_names_free(key);
    free(wanted);
    return rc;
}

static int get_card(store *s, concept *c, err *e)
{
    concept_card *card = &c->card;
    if (!store_has(s, "/card"))
        return 0;
    card->width = c->width;
    TRY(get_card_rows(s, card, e));
    TRY(get_matrices(s, "/card", &card->matrix, &card->matrices, &card->outs, e));
    TRY(store_load(s, "/card/bos", shape1(F32, c->width), (void **)&card->bos, NULL, e));
    TRY(store_load(s, "/card/k", shape2(F32, card->n, c->width), (void **)&card->k, NULL, e));
    return store_load(s, "/card/image", shape2(F32, card->n, card->outs), (void **)&card->image, NULL, e);
}

static int get_history(store *s, concept_history *h, err *e)
{
    store_shape shape;
    if (!store_has(s, "/history"))
        return 0;
    TRY(store_load(s, "/history/loss", shape1(F32, -1), (void **)&h->loss, &shape, e));
    if (shape.d[0] > INT32_MAX)
        return err_set(e, ERR_INPUT, "/history: %lld steps", (long long)shape.d[0]);
    h->n = (int)shape.d[0];
    TRY(store_load(s, "/history/lr", shape1(F32, h->n), (void **)&h->lr, NULL, e));
    return store_load(s, "/history/grad_norm", shape1(F32, h->n), (void **)&h->grad_norm, NULL, e);
}

static int get_sample(store *s, concept *c, const char *name, err *e)
{
    char path[CONCEPT_PATH];
    store_shape shape;
    concept_sample *p;
    snprintf(path, sizeof path, "/samples/%s", name);
    c->samples = mem_grow(c->samples, (size_t)c->n_samples + 1, sizeof *c->samples);
    p = &c->samples[c->n_samples++];
    *p = (concept_sample){.name = mem_text(name)};
    TRY(store_load(s, path, shape1(U8, -1), (void **)&p->png, &shape, e));
    p->bytes = (size_t)shape.d[0];
    return 0;
}

static int get_samples(store *s, concept *c, err *e)
{
    char **names;
    size_t n;
    int rc = store_names(s, "/samples", &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = get_sample(s, c, names[i], e);
    store_names_free(names);
    return rc;
}

static int get_seen(store *s, concept_factors *f, err *e)
{
    store_shape shape;
    TRY(store_shape_of(s, "/factors/seen", &shape, e));
    if (shape.n != 2 || shape.d[1] < 1 || shape.d[1] > MOST_MATRICES)
        return err_set(e, ERR_INPUT, "/factors/seen: not some numbers for each row");
    f->probes = (int)shape.d[1];
    TRY(store_load(s, "/factors/seen", shape2(F32, f->rank, f->probes), (void **)&f->seen, NULL, e));
    TRY(store_load(s, "/factors/size", shape1(F64, f->rank), (void **)&f->size, NULL, e));
    return store_get(s, "/factors/doubt", (store_shape){F64, 0, {0}}, &f->doubt, e);
}

static int get_factor_rows(store *s, concept_factors *f, err *e)
{
    int64_t *source = NULL, n = 0;
    int rc;
    if (!store_has(s, "/factors/k"))
        return 0;
    TRY(store_load(s, "/factors/source", shape1(I64, f->rank), (void **)&source, NULL, e));
    f->source = NEW_N(int, f->rank);
    rc = store_load_texts(s, "/factors/keys", &f->key, &n, e);
    for (int i = 0; rc == 0 && i < f->rank; i++) {
        if (n != f->rank || source[i] < (i > 0 ? source[i - 1] : 0) || source[i] > INT32_MAX)
            rc = err_set(e, ERR_INPUT, "/factors: keys and sources are not those of %d rows", f->rank);
        f->source[i] = (int)source[i];
    }
    if (rc != 0 && n != f->rank) { /* not to be freed by rank */
        store_names_free(f->key);
        f->key = NULL;
    }
    free(source);
    TRY(rc);
    TRY(store_load(s, "/factors/wanted", shape1(F64, f->rank), (void **)&f->wanted, NULL, e));
    TRY(store_load(s, "/factors/bos", shape1(F32, f->width), (void **)&f->bos, NULL, e));
    if (store_has(s, "/factors/moved"))
        TRY(store_load(s, "/factors/moved", shape1(F64, f->matrices + 1), (void **)&f->moved, NULL, e));
    TRY(store_load(s, "/factors/k", shape2(F32, f->rank, f->width), (void **)&f->k, NULL, e));
    return store_has(s, "/factors/seen") ? get_seen(s, f, e) : 0;
}

/* Files of versions 1 and 2 have all images as one [outs, rank]. */
static int get_turned(store *s, concept_factors *f, err *e)
{
    enum { BLOCK = 64 }; /* columns at a time: their places in left stay in the cache */
    float *turned = NULL;
    int64_t outs = f->outs, rank = f->rank;
    TRY(store_load(s, "/factors/left", shape2(F32, outs, rank), (void **)&turned, NULL, e));
    f->left = NEW_N(float, outs *rank);
    for (int64_t o = 0; o < outs; o += BLOCK)
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = o; i < outs && i < o + BLOCK; i++)
                f->left[r * outs + i] = turned[i * rank + r];
    free(turned);
    return 0;
}

static int get_blocks(store *s, concept_factors *f, err *e)
{
    store_shape shape;
    int64_t *block = NULL;
    int rc = 0;
    TRY(store_load(s, "/factors/blocks", shape1(I64, -1), (void **)&block, &shape, e));
    if (shape.d[0] < 1 || shape.d[0] > INT32_MAX || (f->source && f->source[f->rank - 1] >= shape.d[0]))
        rc = err_set(e, ERR_INPUT, "/factors/blocks: not as many as there are sources");
    if (rc == 0)
        f->block = NEW_N(int, shape.d[0]);
    for (int64_t i = 0; rc == 0 && i < shape.d[0]; i++) {
        if (block[i] < 0 || block[i] > MOST_BLOCKS)
            rc = err_set(e, ERR_INPUT, "/factors/blocks: a %lld", (long long)block[i]);
        f->block[i] = (int)block[i];
    }
    free(block);
    return rc;
}

static int get_block(store *s, concept_factors *f, int i, err *e)
{
    char path[CONCEPT_PATH];
    int first, rows = concept_rows_of(f, i, &first);
    concept_block_path(path, f->block[i]);
    return rows > 0 ? store_get(s, path, shape2(F32, rows, f->outs), f->left + first * f->outs, e) : 0;
}

/* Its size is the file's word, so it is asked for politely. */
static int get_left(store *s, concept_factors *f, err *e)
{
    void *left;
    int n = f->source ? f->source[f->rank - 1] + 1 : 1;
    if (!f->block)
        return get_turned(s, f, e);
    if ((uint64_t)f->rank > store_bytes(s) / sizeof(float) / (uint64_t)f->outs)
        return err_set(e, ERR_INPUT, "/factors: images larger than the file");
    TRY(mem_big(&left, (size_t)f->outs * (size_t)f->rank * sizeof(float), "/factors/left", e));
    f->left = left;
    mem_whole(f->left, (size_t)f->outs * (size_t)f->rank * sizeof(float));
    for (int i = 0; i < n; i++)
        TRY(get_block(s, f, i, e));
    return 0;
}

static int get_factors(store *s, concept *c, bool left, err *e)
{
    concept_factors *f = &c->factors;
    int64_t rank = 0;
    if (!store_has(s, "/factors"))
        return 0;
    f->width = c->width;
    TRY(get_matrices(s, "/factors", &f->matrix, &f->matrices, &f->outs, e));
    TRY(store_load_texts(s, "/factors/labels", &f->label, &rank, e));
    f->rank = (int)rank;
    if (rank < 1 || rank > INT32_MAX)
        return err_set(e, ERR_INPUT, "/factors: a rank of %lld", (long long)rank);
    TRY(get_factor_rows(s, f, e));
    if (store_has(s, "/factors/blocks"))
        TRY(get_blocks(s, f, e));
    if (left)
        TRY(get_left(s, f, e));
    return store_load(s, "/factors/right", shape2(F64, rank, c->width), (void **)&f->right, NULL, e);
}

static int get_column(store *s, const char *path, int n, int64_t most, int64_t **out, err *e)
{
    TRY(store_load(s, path, shape1(I64, n), (void **)out, NULL, e));
    for (int i = 0; i < n; i++)
        if ((*out)[i] < 0 || (*out)[i] > most)
            return err_set(e, ERR_INPUT, "%s: a %lld", path, (long long)(*out)[i]);
    return 0;
}

static int get_shares(store *s, const concept *c, concept_bank *b, err *e)
{
    int64_t *first = NULL, *words = NULL, *rank = NULL;
    int rc = get_column(s, "/bank/first", b->n, c->n_tokens, &first, e);
    if (rc == 0)
        rc = get_column(s, "/bank/words", b->n, c->n_tokens, &words, e);
    if (rc == 0)
        rc = get_column(s, "/bank/rank", b->n, c->width, &rank, e);
    for (int i = 0; rc == 0 && i < b->n; i++) {
        if (first[i] + words[i] > c->n_tokens || words[i] < 1 || rank[i] < 1)
            rc = err_set(e, ERR_INPUT, "/bank: concept %d has no words, or no rows", i);
        b->share[i] = (concept_share){.first = (int)first[i], .words = (int)words[i], .rank = (int)rank[i]};
    }
    free(first);
    free(words);
    free(rank);
    return rc;
}

static int get_bank(store *s, concept *c, err *e)
{
    concept_bank *b = &c->bank;
    store_shape shape;
    if (!store_has(s, "/bank"))
        return 0;
    b->width = c->width;
    TRY(get_matrices(s, "/bank", &b->matrix, &b->matrices, &b->outs, e));
    TRY(store_shape_of(s, "/bank/first", &shape, e));
    if (shape.n != 1 || shape.d[0] < 1 || shape.d[0] > c->n_tokens)
        return err_set(e, ERR_INPUT, "/bank: not as many concepts as there could be words");
    b->share = NEW_N(concept_share, shape.d[0]);
    b->n = (int)shape.d[0];
    return get_shares(s, c, b, e);
}

static int get_share(store *s, const concept_bank *b, int i, err *e)
{
    concept_share *x = &b->share[i];
    char path[CONCEPT_PATH];
    if (x->left)
        return 0;
    concept_share_path(path, "right", i);
    TRY(store_load(s, path, shape2(F64, x->rank, b->width), (void **)&x->right, NULL, e));
    concept_share_path(path, "left", i);
    return store_load(s, path, shape2(F32, x->rank, b->outs), (void **)&x->left, NULL, e);
}

int concept_read_shares(concept *c, const char *path, const bool wanted[], err *e)
{
    store *s;
    int rc;
    TRY(store_open(&s, path, e));
    rc = strcmp(store_digest(s), c->digest) == 0 ? 0 : err_set(e, ERR_INPUT, "%s: changed while it was read", path);
    for (int i = 0; rc == 0 && i < c->bank.n; i++)
        if (!wanted || wanted[i])
            rc = get_share(s, &c->bank, i, e);
    store_close(s);
    return rc;
}

int concept_read_left(concept *c, const char *path, err *e)
{
    store *s;
    int rc;
    if (c->factors.rank == 0 || c->factors.left)
        return 0;
    TRY(store_open(&s, path, e));
    rc = strcmp(store_digest(s), c->digest) == 0 ? 0 : err_set(e, ERR_INPUT, "%s: changed while it was read", path);
    if (rc == 0)
        rc = get_left(s, &c->factors, e);
    store_close(s);
    return rc;
}

static int get_weights(store *s, concept *c, err *e)
{
    double *weight = NULL;
    TRY(store_load(s, "/sources/weights", shape1(F64, c->n_sources), (void **)&weight, NULL, e));
    for (int i = 0; i < c->n_sources; i++)
        c->sources[i].weight = weight[i];
    free(weight);
    return 0;
}

static int get_sources(store *s, concept *c, err *e)
{
    static const char *const path[3] = {"/sources/names", "/sources/sha256", "/sources/words"};
    char **column[3] = {NULL, NULL, NULL};
    int64_t n[3] = {0, 0, 0};
    int rc = 0;
    if (!store_has(s, "/sources"))
        return 0;
    for (int k = 0; rc == 0 && k < 3; k++)
        rc = store_load_texts(s, path[k], &column[k], &n[k], e);
    if (rc == 0 && (n[0] != n[1] || n[0] != n[2] || n[0] > INT32_MAX))
        rc = err_set(e, ERR_INPUT, "/sources: lists of different lengths");
    if (rc == 0) {
        c->n_sources = (int)n[0];
        c->sources = NEW_N(concept_source, n[0] + 1);
        for (int64_t i = 0; i < n[0]; i++)
            c->sources[i] = (concept_source){mem_text(column[0][i]), mem_text(column[1][i]), mem_text(column[2][i]), 1};
    }
    for (int k = 0; k < 3; k++)
        store_names_free(column[k]);
    if (rc == 0 && store_has(s, "/sources/weights"))
        rc = get_weights(s, c, e);
    return rc;
}

static int get_parts(store *s, concept *c, unsigned parts, err *e)
{
    TRY(get_head(s, c, e));
    TRY(get_tokens(s, c, e));
    if (parts & CONCEPT_TENSORS)
        TRY(get_tensors(s, c, e));
    if (parts & CONCEPT_CARD)
        TRY(get_card(s, c, e));
    if (parts & CONCEPT_HISTORY)
        TRY(get_history(s, &c->history, e));
    if (parts & CONCEPT_SAMPLES)
        TRY(get_samples(s, c, e));
    if (!(parts & (CONCEPT_FACTORS | CONCEPT_ROWS)))
        return 0;
    TRY(get_factors(s, c, parts & CONCEPT_FACTORS, e));
    TRY(get_bank(s, c, e));
    TRY(get_sources(s, c, e));
    return store_has(s, "/certificate") ? store_load_text(s, "/certificate", &c->certificate, e) : 0;
}

int concept_read(concept *out, const char *path, unsigned parts, err *e)
{
    store *s;
    int rc;
    *out = (concept){0};
    TRY(store_open(&s, path, e));
    rc = get_parts(s, out, parts, e);
    if (rc == 0)
        str_copy(out->digest, sizeof out->digest, store_digest(s));
    store_close(s);
    if (rc == 0)
        return 0;
    concept_free(out);
    return e && str_starts(e->text, path) ? rc : err_wrap(e, "%s", path); /* the store names its file itself */
}
