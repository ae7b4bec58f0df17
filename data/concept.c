/* The concept as a value in memory: growing, freeing, finding, its weights, its names and its fingerprint. */
#include "data/concept.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/concept_impl.h"

const concept_text concept_texts[] = {
    {"method", offsetof(concept, method)},
    {"base", offsetof(concept, base)},
    {"base_path", offsetof(concept, base_path)},
    {"created", offsetof(concept, created)},
    {"recipe", offsetof(concept, recipe)},
    {"settings", offsetof(concept, settings)},
    {NULL, 0},
};

/* ---- names ---- */

static const char *after_attn2(const char *name)
{
    const char *at = strstr(name, ".attn2.");
    return at ? at + strlen(".attn2.") : NULL;
}

/* Weights whose ".weight" goes without saying. */
static const char *const SHORT[] = {"to_q", "to_k", "to_v"};

int concept_path_of(char path[CONCEPT_PATH], const char *name, err *e)
{
    const char *what = after_attn2(name);
    size_t tail;
    if (!name[0] || strlen(name) > CONCEPT_PATH / 2 || strchr(name, '/') || strcmp(name, ".") == 0)
        return err_set(e, ERR_INPUT, "\"%.80s\" cannot name a tensor in a file", name);
    if (!what) {
        snprintf(path, CONCEPT_PATH, "/weights/%s", name);
        return 0;
    }
    snprintf(path, CONCEPT_PATH, "/kv/%.*s/%s", (int)(what - 1 - name), name, what);
    tail = strlen(path) - strlen(what);
    for (size_t i = 0; i < sizeof SHORT / sizeof *SHORT; i++)
        if (str_starts(what, SHORT[i]) && strcmp(what + strlen(SHORT[i]), ".weight") == 0)
            path[tail + strlen(SHORT[i])] = '\0';
    return 0;
}

void concept_share_path(char path[CONCEPT_PATH], const char *what, int i)
{
    snprintf(path, CONCEPT_PATH, "/bank/%s/%05d", what, i);
}

void concept_block_path(char path[CONCEPT_PATH], int block)
{
    snprintf(path, CONCEPT_PATH, "/factors/left/%05d", block);
}

int concept_rows_of(const concept_factors *f, int s, int *first)
{
    int n = 0;
    *first = 0;
    if (!f->source) /* which is whose is not kept: all stand together */
        return s == 0 ? f->rank : 0;
    for (int r = 0; r < f->rank; r++) {
        *first += f->source[r] < s;
        n += f->source[r] == s;
    }
    return n;
}

int concept_name_of(char name[CONCEPT_PATH], const char *layer, const char *dataset, err *e)
{
    bool is_short = false;
    int n;
    for (size_t i = 0; i < sizeof SHORT / sizeof *SHORT; i++)
        is_short |= strcmp(dataset, SHORT[i]) == 0;
    n = snprintf(name, CONCEPT_PATH, "%s.%s%s", layer, dataset, is_short ? ".weight" : "");
    if (n >= CONCEPT_PATH || !after_attn2(name))
        return err_set(e, ERR_INPUT, "/kv/%.80s/%.80s is not a tensor of cross-attention", layer, dataset);
    return 0;
}

bool concept_is_kv(const char *name)
{
    return str_ends(name, "attn2.to_k.weight") || str_ends(name, "attn2.to_v.weight");
}

/* ---- growing and finding ---- */

static size_t count_of(int64_t rows, int64_t cols)
{
    return (size_t)rows * (size_t)(cols ? cols : 1);
}

static float *floats(size_t n, const float *from)
{
    float *to = NEW_N(float, n ? n : 1);
    if (from)
        memcpy(to, from, n * sizeof *to);
    return to;
}

concept_tensor *concept_add_tensor(concept *c, const char *name, int64_t rows, int64_t cols, const float *data)
{
    concept_tensor *t;
    c->tensors = mem_grow(c->tensors, (size_t)c->n_tensors + 1, sizeof *c->tensors);
    t = &c->tensors[c->n_tensors++];
    *t = (concept_tensor){mem_text(name), rows, cols, floats(count_of(rows, cols), data)};
    return t;
}

concept_token *concept_add_token(concept *c, const char *word, const char *class_word, int32_t initial_id,
                                 const float *row)
{
    concept_token *t;
    c->tokens = mem_grow(c->tokens, (size_t)c->n_tokens + 1, sizeof *c->tokens);
    t = &c->tokens[c->n_tokens++];
    *t = (concept_token){mem_text(word), mem_text(class_word ? class_word : ""), initial_id,
                         floats((size_t)c->width, row)};
    return t;
}

const concept_tensor *concept_find(const concept *c, const char *name)
{
    for (int i = 0; i < c->n_tensors; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return &c->tensors[i];
    return NULL;
}

/* ---- weights ---- */

/* out = w0 + left' right, in double: left [rank, outs] f32 from column `first` on, right [rank, width] f64. */
static void add_factors(const concept_factors *f, int64_t first, const float *w0, int64_t rows, float *out)
{
    double *sum = NEW_N(double, f->width);
    for (int64_t i = 0; i < rows; i++) {
        const float *left = f->left + first + i;
        memset(sum, 0, (size_t)f->width * sizeof *sum);
        for (int r = 0; r < f->rank; r++)
            for (int j = 0; j < f->width; j++)
                sum[j] += (double)left[r * f->outs] * f->right[(size_t)r * (size_t)f->width + (size_t)j];
        for (int j = 0; j < f->width; j++)
            out[i * f->width + j] = (float)((double)w0[i * f->width + j] + sum[j]);
    }
    free(sum);
}

static int wrong_shape(const char *name, int64_t rows, int64_t cols, int64_t r, int64_t c, err *e)
{
    return err_set(e, ERR_SHAPE, "%s is [%lld,%lld] in the base model and [%lld,%lld] in the concept file", name,
                   (long long)rows, (long long)cols, (long long)r, (long long)c);
}

int concept_weight(const concept *c, const char *name, const float *w0, int64_t rows, int64_t cols, float *out,
                   bool *changed, err *e)
{
    const concept_tensor *t = concept_find(c, name);
    const concept_factors *f = &c->factors;
    int64_t first = 0;
    *changed = true;
    if (t && (t->rows != rows || t->cols != cols))
        return wrong_shape(name, rows, cols, t->rows, t->cols, e);
    if (t) {
        memcpy(out, t->data, count_of(rows, cols) * sizeof *out);
        return 0;
    }
    for (int i = 0; i < f->matrices && f->rank > 0; first += f->matrix[i++].rows) {
        if (strcmp(f->matrix[i].name, name) != 0)
            continue;
        if (f->matrix[i].rows != rows || f->width != cols)
            return wrong_shape(name, rows, cols, f->matrix[i].rows, f->width, e);
        add_factors(f, first, w0, rows, out);
        return 0;
    }
    *changed = false;
    memcpy(out, w0, count_of(rows, cols) * sizeof *out);
    return 0;
}

/* ---- fingerprint ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const concept_tensor *const *)a)->name, (*(const concept_tensor *const *)b)->name);
}

void concept_fingerprint(const concept_tensor *kv, int n, char hex[HASH_HEX])
{
    const concept_tensor **sorted = NEW_N(const concept_tensor *, n ? n : 1);
    hash *h = hash_new();
    int used = 0;
    for (int i = 0; i < n; i++)
        if (concept_is_kv(kv[i].name))
            sorted[used++] = &kv[i];
    qsort(sorted, (size_t)used, sizeof *sorted, by_name);
    for (int i = 0; i < used; i++) {
        const concept_tensor *t = sorted[i];
        int64_t shape[2] = {t->rows, t->cols};
        hash_add(h, t->name, strlen(t->name) + 1);
        hash_add(h, shape, sizeof shape);
        hash_add(h, t->data, count_of(t->rows, t->cols) * sizeof *t->data);
    }
    hash_end(h, hex);
    free(sorted);
}

/* ---- freeing ---- */

static void free_matrices(concept_matrix *m, int n)
{
    for (int i = 0; m && i < n; i++)
        free(m[i].name);
    free(m);
}

void concept_card_free(concept_card *c)
{
    for (int i = 0; c->row && i < c->n; i++) {
        free(c->row[i].label);
        free(c->row[i].key);
    }
    free(c->row);
    free_matrices(c->matrix, c->matrices);
    free(c->bos);
    free(c->k);
    free(c->image);
    *c = (concept_card){0};
}

static void free_factors(concept_factors *f)
{
    for (int i = 0; f->label && i < f->rank; i++)
        free(f->label[i]);
    free(f->label);
    free_matrices(f->matrix, f->matrices);
    for (int i = 0; f->key && i < f->rank; i++)
        free(f->key[i]);
    free(f->key);
    free(f->source);
    free(f->wanted);
    free(f->k);
    free(f->bos);
    free(f->moved);
    free(f->seen);
    free(f->size);
    free(f->block);
    free(f->left);
    free(f->right);
}

static void free_bank(concept_bank *b)
{
    for (int i = 0; b->share && i < b->n; i++) {
        free(b->share[i].left);
        free(b->share[i].right);
    }
    free(b->share);
    free_matrices(b->matrix, b->matrices);
}

static void free_lists(concept *c)
{
    for (int i = 0; i < c->n_tensors; i++) {
        free(c->tensors[i].name);
        free(c->tensors[i].data);
    }
    for (int i = 0; i < c->n_tokens; i++) {
        free(c->tokens[i].word);
        free(c->tokens[i].class_word);
        free(c->tokens[i].row);
    }
    for (int i = 0; i < c->n_samples; i++) {
        free(c->samples[i].name);
        free(c->samples[i].png);
    }
    for (int i = 0; i < c->n_sources; i++) {
        free(c->sources[i].name);
        free(c->sources[i].sha256);
        free(c->sources[i].words);
    }
}

void concept_free(concept *c)
{
    free_lists(c);
    free(c->tensors);
    free(c->tokens);
    free(c->samples);
    free(c->sources);
    for (const concept_text *t = concept_texts; t->name; t++)
        free(*concept_text_at(c, t));
    free(c->certificate);
    free(c->history.loss);
    free(c->history.lr);
    free(c->history.grad_norm);
    concept_card_free(&c->card);
    free_factors(&c->factors);
    free_bank(&c->bank);
    *c = (concept){0};
}
