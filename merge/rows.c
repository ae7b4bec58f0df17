/* The target rows of a merge: taken from the cards, checked, each once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/compose_impl.h"

static const double SAME = 1e-3; /* relative; text encoders run in f32 on different machines stay far below */

/* An exponent of ones: no number, or none that ends. Looked at in one pass without a way out, which a processor does eight at a
 * time. */
static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000U) == 0x7f800000U;
    }
    return bad == 0;
}

static bool differ(const float *a, const float *b, int n)
{
    double diff = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        diff += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return diff > SAME * SAME * norm;
}

static int check_matrices(const concept_card *c, const features *f, err *e)
{
    bool same = c->matrices == f->matrices;
    for (int i = 0; same && i < c->matrices; i++)
        same = c->matrix[i].rows == f->matrix[i].rows && strcmp(c->matrix[i].name, f->matrix[i].name) == 0;
    return same ? 0 : err_set(e, ERR_INPUT, "its merge card speaks of other matrices than the base model has");
}

int rows_check(const concept *c, const features *f, err *e)
{
    const concept_card *card = &c->card;
    if (c->kind == CONCEPT_MERGED)
        return err_set(e, ERR_INPUT, "is a merged file; give the files it was made of");
    if (strcmp(c->base, f->base) != 0)
        return err_set(e, ERR_INPUT, "was trained on another base model (fingerprint %.12s, not %.12s)", c->base,
                       f->base);
    if (card->n == 0)
        return err_set(e, ERR_INPUT, "has no merge card: only concepts that moved nothing but K and V can be merged");
    if (c->width != f->width)
        return err_set(e, ERR_SHAPE, "its text features have %d numbers, the base model's %d", c->width, f->width);
    TRY(check_matrices(card, f, e));
    if (!all_finite(card->k, (size_t)card->n * (size_t)card->width) ||
        (card->image && !all_finite(card->image, (size_t)card->n * (size_t)card->outs)))
        return err_set(e, ERR_INPUT, "its merge card holds numbers that are not finite");
    if (f->bos && differ(card->bos, f->bos, f->width))
        return err_set(e, ERR_INPUT, "was trained with another text encoder: the first token's feature differs");
    return 0;
}

/* The row with that key, -1: none; *place: where in the order it stands, or would. */
static int row_of_key(const rows *r, const char *key, int *place)
{
    int low = 0, high = r->n;
    while (low < high) {
        int mid = (low + high) / 2, order = strcmp(r->key[r->order[mid]], key);
        if (order == 0)
            return r->order[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *place = low;
    return -1;
}

static void add_row(rows *r, const concept_card *card, int from, int at, char *label, char *key, int place)
{
    size_t n = (size_t)r->n, w = (size_t)r->width;
    r->from = mem_grow(r->from, n + 1, sizeof *r->from);
    r->at = mem_grow(r->at, n + 1, sizeof *r->at);
    r->label = mem_grow(r->label, n + 1, sizeof *r->label);
    r->key = mem_grow(r->key, n + 1, sizeof *r->key);
    r->from[n] = from;
    r->at[n] = at;
    r->label[n] = label;
    r->key[n] = key;
    r->order = mem_grow(r->order, n + 1, sizeof *r->order);
    memmove(r->order + place + 1, r->order + place, (n - (size_t)place) * sizeof *r->order);
    r->order[place] = r->n;
    for (size_t j = 0; j < w; j++)
        r->k[(size_t)r->s * w + j] = card->k[(size_t)at * w + j];
    r->n++;
    r->s++;
}

/* Takes label. */
static void add_twice(rows *r, char *label, int from, int as)
{
    r->twice = mem_grow(r->twice, (size_t)r->n_twice + 1, sizeof *r->twice);
    r->twice[r->n_twice++] = (struct twice){label, from, as};
    r->shared[from]++;
}

/* A prefix that an earlier concept has, too, has the same feature and can have one image only: the earlier one's. */
static int add_concept(rows *r, const concept in[], int i, const words *w, err *e)
{
    const concept_card *card = &in[i].card;
    int first = r->n;
    for (int a = 0; a < card->n; a++) {
        char *key = words_in(w, in, i, card->row[a].key);
        int place = 0, same = row_of_key(r, key, &place);
        if (same < 0) {
            add_row(r, card, i, a, words_in(w, in, i, card->row[a].label), key, place);
            continue;
        }
        free(key);
        add_twice(r, words_in(w, in, i, card->row[a].label), i, r->from[same]);
        if (differ(card->k + (size_t)a * (size_t)r->width,
                   in[r->from[same]].card.k + (size_t)r->at[same] * (size_t)r->width, r->width))
            return err_set(e, ERR_INPUT, "was trained with another text encoder: the feature of %s differs",
                           r->label[same]);
    }
    if (r->n == first)
        return err_set(e, ERR_INPUT, "asks for the very words of an earlier concept; train one of them with a token");
    return 0;
}

int rows_gather(rows *out, const concept in[], const char *const file[], int n, const words *w, const features *f,
                const compose_opts *o, err *e)
{
    size_t most = 1;
    for (int i = 0; i < n; i++)
        most += (size_t)in[i].card.n;
    *out = (rows){.width = f->width, .fixed = !o->bos_free, .shared = NEW_N(int, n)};
    out->k = NEW_N(double, most *(size_t)f->width);
    if (out->fixed) {
        CHECK(f->bos);
        for (int j = 0; j < f->width; j++)
            out->k[j] = f->bos[j];
        out->s = 1;
    }
    for (int i = 0; i < n; i++) {
        int rc = rows_check(&in[i], f, e);
        if (rc == 0)
            rc = add_concept(out, in, i, w, e);
        if (rc != 0)
            return err_wrap(e, "%s", file[i]);
    }
    return 0;
}

void rows_free(rows *r)
{
    for (int i = 0; i < r->n; i++) {
        free(r->label[i]);
        free(r->key[i]);
    }
    free(r->label);
    free(r->key);
    free(r->order);
    free(r->from);
    free(r->at);
    free(r->k);
    for (int i = 0; i < r->n_twice; i++)
        free(r->twice[i].label);
    free(r->twice);
    free(r->shared);
    *r = (rows){0};
}
