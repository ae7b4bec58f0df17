#include "merge/features.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/store.h"
#include "trainer/card.h"

#define FEATURES_FORMAT "conceptfarm features"
enum { FEATURES_VERSION = 2, HOLD_EVERY = 10, HOLD_FROM = 50, TELL_EVERY = 20, MOST_MATRICES = 1 << 20 };

/* ---- making ---- */

typedef struct {
    card_span span;
    bool held;
} caption;

/* Rows of features as they come, kept and held out. */
typedef struct {
    float *at;
    size_t n, room;
} row_list;

static void push_row(row_list *r, const float *row, size_t width)
{
    if (r->n == r->room) {
        r->room = r->room ? 2 * r->room : 1024;
        r->at = mem_grow(r->at, r->room * width, sizeof *r->at);
    }
    memcpy(r->at + r->n++ * width, row, width * sizeof *row);
}

/* Captions of one length behind each other, so that the model's plan is made once a length. */
static int by_length(const void *a, const void *b)
{
    const caption *x = a, *y = b;
    return x->span.end != y->span.end ? x->span.end - y->span.end : memcmp(x->span.id, y->span.id, sizeof x->span.id);
}

static caption *spans(const tokenizer *t, char *const captions[], int n)
{
    caption *c = NEW_N(caption, n);
    for (int i = 0; i < n; i++) {
        card_span_of(&c[i].span, t, captions[i]);
        c[i].held = n >= HOLD_FROM && i % HOLD_EVERY == HOLD_EVERY - 1;
    }
    qsort(c, (size_t)n, sizeof *c, by_length);
    return c;
}

static int encode(features *f, sd *m, const caption *c, row_list to[2], err *e)
{
    size_t width = (size_t)f->width;
    float *text = NEW_N(float, (size_t)(c->span.end + 1) * width);
    int rc = sd_text_encode(m, c->span.id, 1, c->span.end + 1, text, e);
    for (int p = c->span.first; rc == 0 && p <= c->span.end; p++)
        push_row(&to[c->held], text + (size_t)p * width, width);
    if (rc == 0 && !f->bos)
        f->bos = mem_copy(text, width * sizeof *text);
    free(text);
    return rc;
}

static int factor_rows(lsq_factor *out, const row_list *rows, int width, err *e)
{
    TRY(lsq_factor_new(out, width, e));
    if (rows->n == 0)
        return 0;
    TRY(lsq_factor_add(out, rows->at, (int64_t)rows->n, e));
    return lsq_factor_judge(out, e);
}

/* |W0 R'|_F = |W0 F'|_F, for F'F = R'R. */
static double norm_after(const lsq_factor *f, const double *w0, int64_t rows)
{
    size_t count = (size_t)rows * (size_t)f->d;
    double *y = NEW_N(double, count), norm;
    lsq_factor_apply(f, w0, rows, y);
    norm = cblas_dnrm2((int)count, y, 1);
    free(y);
    return norm;
}

static int measure_matrix(features *f, sd *m, const char *name, err *e)
{
    nn_shape shape;
    float *w0;
    double *w;
    size_t count, i = (size_t)f->matrices;
    int rc;
    TRY(sd_file_shape(m, name, &shape, e));
    if (shape.n != 2 || shape.d[1] != f->width)
        return err_set(e, ERR_SHAPE, "%s does not take text features of %d numbers", name, f->width);
    count = (size_t)shape.d[0] * (size_t)f->width;
    w0 = NEW_N(float, count);
    w = NEW_N(double, count);
    rc = sd_file_read(m, name, w0, count, e);
    for (size_t j = 0; j < count; j++)
        w[j] = w0[j];
    f->matrix = mem_grow(f->matrix, i + 1, sizeof *f->matrix);
    f->keep_norm = mem_grow(f->keep_norm, i + 1, sizeof *f->keep_norm);
    f->held_norm = mem_grow(f->held_norm, i + 1, sizeof *f->held_norm);
    f->matrix[i] = (concept_matrix){mem_text(name + strlen("unet.")), shape.d[0]};
    f->keep_norm[i] = norm_after(&f->keep, w, shape.d[0]);
    f->held_norm[i] = norm_after(&f->held, w, shape.d[0]);
    f->matrices++;
    free(w0);
    free(w);
    return rc;
}

static int encode_all(features *f, sd *m, const caption *c, int n, row_list rows[2], void (*told)(void *, int, int),
                      void *arg, err *e)
{
    for (int i = 0; i < n; i++) {
        TRY(encode(f, m, &c[i], rows, e));
        f->n_held += c[i].held;
        if (told && (i + 1) % TELL_EVERY == 0)
            told(arg, i + 1, n);
    }
    f->n_keep = n - f->n_held;
    TRY(factor_rows(&f->keep, &rows[0], f->width, e));
    TRY(factor_rows(&f->held, &rows[1], f->width, e));
    for (size_t i = 0; i < (size_t)f->width * (size_t)f->width; i++)
        f->held.f[i] = (double)(float)f->held.f[i]; /* as it is kept: made or read, the same figures */
    return 0;
}

static int open_words(tokenizer **t, const sd *m, err *e)
{
    char dir[FS_PATH];
    TRY(sd_path(dir, sd_dir(m), "tokenizer", e));
    return tokenizer_open(t, dir, e);
}

int features_make(features *out, sd *m, char *const captions[], int n, void (*told)(void *arg, int done, int n),
                  void *arg, err *e)
{
    row_list rows[2] = {{0}, {0}};
    tokenizer *t;
    caption *c;
    const char *name;
    int rc;
    *out = (features){.width = sd_text_shape(m)->width};
    TRY(open_words(&t, m, e));
    captions_hash(out->captions, captions, n);
    c = spans(t, captions, n);
    rc = sd_fingerprint(m, out->base, e);
    if (rc == 0)
        rc = encode_all(out, m, c, n, rows, told, arg, e);
    for (size_t i = 0; rc == 0 && (name = sd_kv_name(m, i)) != NULL; i++)
        rc = measure_matrix(out, m, name, e);
    free(c);
    free(rows[0].at);
    free(rows[1].at);
    tokenizer_close(t);
    if (rc != 0)
        features_free(out);
    return rc;
}

void features_free(features *f)
{
    lsq_factor_free(&f->keep);
    lsq_factor_free(&f->held);
    for (int i = 0; f->matrix && i < f->matrices; i++)
        free(f->matrix[i].name);
    free(f->matrix);
    free(f->bos);
    free(f->keep_norm);
    free(f->held_norm);
    *f = (features){0};
}

/* ---- keeping ---- */

static size_t packed_count(int d)
{
    return (size_t)d * ((size_t)d + 1) / 2;
}

/* Column j of a triangle holds j + 1 numbers: half of what is kept would be zeroes otherwise. */
static void pack(double *to, const lsq_factor *f)
{
    for (size_t j = 0, d = (size_t)f->d; j < d; to += ++j)
        memcpy(to, f->f + j * d, (j + 1) * sizeof *to);
}

/* In place: what is packed stands at the end of the square, where no column gets before it is read. */
static void unpack(double *f, size_t d)
{
    const double *from = f + d * d - packed_count((int)d);
    for (size_t j = 0; j < d; from += ++j) {
        memmove(f + j * d, from, (j + 1) * sizeof *f);
        memset(f + j * d + j + 1, 0, (d - j - 1) * sizeof *f);
    }
}

static void unpack_rounded(double *f, size_t d)
{
    const char *from = (const char *)(f + d * d) - packed_count((int)d) * sizeof(float);
    for (size_t j = 0; j < d; j++) {
        for (size_t i = 0; i <= j; i++, from += sizeof(float)) {
            float x;
            memcpy(&x, from, sizeof x);
            f[j * d + i] = (double)x;
        }
        memset(f + j * d + j + 1, 0, (d - j - 1) * sizeof *f);
    }
}

static int put_triangle(store *s, const char *path, const lsq_factor *f, bool exact, err *e)
{
    size_t n = packed_count(f->d);
    double *all = NEW_N(double, n);
    float *rounded = NEW_N(float, exact ? 1 : n);
    int rc;
    pack(all, f);
    for (size_t i = 0; i < n && !exact; i++)
        rounded[i] = (float)all[i];
    rc = store_put(s, path, (store_shape){exact ? F64 : F32, 1, {(int64_t)n}}, exact ? (void *)all : (void *)rounded, e);
    free(all);
    free(rounded);
    return rc;
}

/* What only a figure is made of (exact false) is kept in f32. */
static int put_factor(store *s, const char *group, const lsq_factor *f, bool exact, err *e)
{
    char path[64];
    snprintf(path, sizeof path, "%s/triangle", group);
    TRY(put_triangle(s, path, f, exact, e));
    TRY(store_attr_int(s, group, "rows", f->rows, e));
    TRY(store_attr_int(s, group, "rank", f->rank, e));
    return store_attr_real(s, group, "condition", f->condition, e);
}

static int put_matrices(store *s, const features *f, err *e)
{
    const char **name = NEW_N(const char *, f->matrices);
    int64_t *rows = NEW_N(int64_t, f->matrices), n = f->matrices;
    int rc;
    for (int i = 0; i < f->matrices; i++) {
        name[i] = f->matrix[i].name;
        rows[i] = f->matrix[i].rows;
    }
    rc = store_put_texts(s, "/matrices", name, n, e);
    if (rc == 0)
        rc = store_put(s, "/matrix_rows", (store_shape){I64, 1, {n}}, rows, e);
    free(name);
    free(rows);
    TRY(rc);
    TRY(store_put(s, "/keep/norm", (store_shape){F64, 1, {n}}, f->keep_norm, e));
    return store_put(s, "/held/norm", (store_shape){F64, 1, {n}}, f->held_norm, e);
}

static int put_all(store *s, const features *f, err *e)
{
    TRY(store_attr_text(s, "/", "format", FEATURES_FORMAT, e));
    TRY(store_attr_int(s, "/", "version", FEATURES_VERSION, e));
    TRY(store_attr_text(s, "/", "base", f->base, e));
    TRY(store_attr_text(s, "/", "captions", f->captions, e));
    TRY(store_attr_int(s, "/", "width", f->width, e));
    TRY(store_attr_int(s, "/", "n_keep", f->n_keep, e));
    TRY(store_attr_int(s, "/", "n_held", f->n_held, e));
    TRY(store_put(s, "/bos", (store_shape){F32, 1, {f->width}}, f->bos, e));
    TRY(put_matrices(s, f, e));
    TRY(put_factor(s, "/keep", &f->keep, true, e));
    return put_factor(s, "/held", &f->held, false, e);
}

int features_write(const char *path, const features *f, err *e)
{
    store *s;
    int rc;
    TRY(store_create(&s, path, e));
    rc = put_all(s, f, e);
    if (rc == 0)
        return store_commit(s, e);
    store_drop(s);
    return rc;
}

static int get_triangle(store *s, const char *path, lsq_factor *f, bool exact, err *e)
{
    size_t n = packed_count(f->d), bytes = n * (exact ? sizeof(double) : sizeof(float));
    store_shape shape;
    double *end;
    TRY(store_shape_of(s, path, &shape, e));
    if (shape.n != 1 || shape.d[0] != (int64_t)n) /* before there is room for it */
        return err_set(e, ERR_SHAPE, "%s: not a triangle of %d columns", path, f->d);
    TRY(lsq_factor_new(f, f->d, e));
    end = f->f + (size_t)f->d * (size_t)f->d;
    TRY(store_get(s, path, (store_shape){exact ? F64 : F32, 1, {(int64_t)n}}, (char *)end - bytes, e));
    if (exact)
        unpack(f->f, (size_t)f->d);
    else
        unpack_rounded(f->f, (size_t)f->d);
    return 0;
}

/* Version 1 kept whole squares. */
static int get_factor(store *s, const char *group, int d, bool exact, lsq_factor *f, err *e)
{
    char path[64];
    int64_t rank = 0;
    f->d = d;
    snprintf(path, sizeof path, "%s/factor", group);
    if (store_has(s, path)) {
        TRY(store_load(s, path, (store_shape){F64, 2, {d, d}}, (void **)&f->f, NULL, e));
    } else {
        snprintf(path, sizeof path, "%s/triangle", group);
        TRY(get_triangle(s, path, f, exact, e));
    }
    TRY(store_get_int(s, group, "rows", &f->rows, e));
    TRY(store_get_int(s, group, "rank", &rank, e));
    f->rank = (int)rank;
    return store_get_real(s, group, "condition", &f->condition, e);
}

static int get_matrices(store *s, features *f, err *e)
{
    char **name = NULL;
    int64_t *rows = NULL, n = 0;
    int rc = store_load_texts(s, "/matrices", &name, &n, e);
    if (rc == 0 && (n < 1 || n > MOST_MATRICES))
        rc = err_set(e, ERR_INPUT, "%lld matrices", (long long)n);
    if (rc == 0)
        rc = store_load(s, "/matrix_rows", (store_shape){I64, 1, {n}}, (void **)&rows, NULL, e);
    if (rc == 0) {
        f->matrix = NEW_N(concept_matrix, n);
        for (; f->matrices < n; f->matrices++)
            f->matrix[f->matrices] = (concept_matrix){mem_text(name[f->matrices]), rows[f->matrices]};
    }
    store_names_free(name);
    free(rows);
    TRY(rc);
    TRY(store_load(s, "/keep/norm", (store_shape){F64, 1, {n}}, (void **)&f->keep_norm, NULL, e));
    return store_load(s, "/held/norm", (store_shape){F64, 1, {n}}, (void **)&f->held_norm, NULL, e);
}

static int get_text(store *s, const char *name, char hex[HASH_HEX], err *e)
{
    char *text = NULL;
    TRY(store_get_text(s, "/", name, &text, e));
    str_copy(hex, HASH_HEX, text);
    free(text);
    return 0;
}

static int get_head(store *s, features *f, err *e)
{
    char *format = NULL;
    int64_t version = 0, width = 0, keep = 0, held = 0;
    bool ours = store_get_text(s, "/", "format", &format, e) == 0 && strcmp(format, FEATURES_FORMAT) == 0;
    free(format);
    if (!ours)
        return err_set(e, ERR_INPUT, "an HDF5 file, but not one of caption features");
    TRY(store_get_int(s, "/", "version", &version, e));
    TRY(store_get_int(s, "/", "width", &width, e));
    TRY(store_get_int(s, "/", "n_keep", &keep, e));
    TRY(store_get_int(s, "/", "n_held", &held, e));
    if (version < 1 || version > FEATURES_VERSION || width < 1 || width > 1 << 16 || keep < 0 || keep > INT32_MAX ||
        held < 0 || held > INT32_MAX)
        return err_set(e, ERR_INPUT, "version %lld with features of %lld numbers; this program reads up to version %d",
                       (long long)version, (long long)width, FEATURES_VERSION);
    f->width = (int)width;
    f->n_keep = (int)keep;
    f->n_held = (int)held;
    TRY(get_text(s, "base", f->base, e));
    return get_text(s, "captions", f->captions, e);
}

static int get_all(store *s, features *f, err *e)
{
    TRY(get_head(s, f, e));
    TRY(store_load(s, "/bos", (store_shape){F32, 1, {f->width}}, (void **)&f->bos, NULL, e));
    TRY(get_matrices(s, f, e));
    TRY(get_factor(s, "/keep", f->width, true, &f->keep, e));
    return get_factor(s, "/held", f->width, false, &f->held, e);
}

int features_read(features *out, const char *path, err *e)
{
    store *s;
    int rc;
    *out = (features){0};
    TRY(store_open(&s, path, e));
    rc = get_all(s, out, e);
    store_close(s);
    if (rc == 0)
        return 0;
    features_free(out);
    return e && str_starts(e->text, path) ? rc : err_wrap(e, "%s", path);
}

int features_path(char out[FS_PATH], const char *base, const char *captions, err *e)
{
    char name[80], dir[FS_PATH];
    if (fs_cache_dir(dir, e) != 0)
        return err_wrap(e, "the captions' features are kept there; --features names another place");
    snprintf(name, sizeof name, "features-%.16s-%.16s.h5", base, captions);
    return fs_join(out, dir, name, e);
}
