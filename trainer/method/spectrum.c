#include "trainer/method/spectrum.h"

#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/store.h"

enum { VERSION = 1 };

void spectrum_free(spectrum *s)
{
    free(s->u);
    free(s->s);
    free(s->v);
    *s = (spectrum){0};
}

static store_shape shape1(int64_t a)
{
    return (store_shape){F32, 1, {a}};
}

static store_shape shape2(int64_t a, int64_t b)
{
    return (store_shape){F32, 2, {a, b}};
}

/* ---- vectors ---- */

static void of_vector(spectrum *x, const float *w, bool single)
{
    double square = 0;

    x->n = single ? 1 : x->rows;
    x->u = NEW_N(float, x->rows);
    x->s = NEW_N(float, x->n);
    for (int64_t i = 0; i < x->rows; i++)
        square += (double)w[i] * (double)w[i];
    double norm = sqrt(square);
    if (single)
        x->s[0] = (float)norm;
    for (int64_t i = 0; i < x->rows; i++) {
        if (!single)
            x->s[i] = fabsf(w[i]);
        x->u[i] = single ? (float)(norm > 0 ? (double)w[i] / norm : 0) : w[i] < 0 ? -1.0f : 1.0f;
    }
}

/* ---- matrices ---- */

static int decompose(spectrum *x, float *w, err *e)
{
    int rows = (int)x->rows, cols = (int)x->cols, n = (int)x->n;

    TRY(mem_big((void **)&x->u, (size_t)(x->rows * x->n) * sizeof(float), "singular vectors", e));
    TRY(mem_big((void **)&x->v, (size_t)(x->n * x->cols) * sizeof(float), "singular vectors", e));
    x->s = NEW_N(float, x->n);
    if (LAPACKE_sgesdd(LAPACK_ROW_MAJOR, 'S', rows, cols, w, cols, x->s, x->u, n, x->v, cols) == 0)
        return 0;
    return err_set(e, ERR_INPUT, "its singular values do not converge; are there numbers that are not finite?");
}

static int put(store *s, const spectrum *x, const char *of, err *e)
{
    TRY(store_attr_int(s, "/", "version", VERSION, e));
    TRY(store_attr_text(s, "/", "weight_sha256", of, e));
    TRY(store_put(s, "/u", shape2(x->rows, x->n), x->u, e));
    TRY(store_put(s, "/s", shape1(x->n), x->s, e));
    return store_put(s, "/v", shape2(x->n, x->cols), x->v, e);
}

static int write_file(const char *path, const spectrum *x, const char *of, err *e)
{
    store *s;

    TRY(store_create(&s, path, e));
    int rc = put(s, x, of, e);
    if (rc == 0)
        return store_commit(s, e);
    store_drop(s);
    return rc;
}

static int get(store *s, spectrum *x, const char *of, err *e)
{
    char *kept = NULL;
    int64_t version;

    TRY(store_get_int(s, "/", "version", &version, e));
    TRY(store_get_text(s, "/", "weight_sha256", &kept, e));
    bool ours = version == VERSION && strcmp(kept, of) == 0;
    free(kept);
    if (!ours)
        return err_set(e, ERR_INPUT, "singular values of another weight");
    TRY(store_load(s, "/u", shape2(x->rows, x->n), (void **)&x->u, NULL, e));
    TRY(store_load(s, "/s", shape1(x->n), (void **)&x->s, NULL, e));
    return store_load(s, "/v", shape2(x->n, x->cols), (void **)&x->v, NULL, e);
}

/* Whether it was there, whole: a damaged file counts as none, and is written anew. */
static bool read_file(const char *path, spectrum *x, const char *of)
{
    store *s;

    if (!fs_exists(path) || store_open(&s, path, NULL) != 0)
        return false;
    bool whole = get(s, x, of, NULL) == 0;
    store_close(s);
    if (!whole) {
        free(x->u);
        free(x->s);
        free(x->v);
        x->u = x->s = x->v = NULL;
    }
    return whole;
}

/* CACHE/svd/ab/abcdef…-320x768.h5, after the weight itself. */
static int path_of(char path[FS_PATH], const spectrum *x, const char *of, err *e)
{
    char name[2 * HASH_HEX], cache[FS_PATH];

    TRY(fs_cache_dir(cache, e));
    snprintf(name, sizeof name, "svd/%.2s/%s-%lldx%lld.h5", of, of, (long long)x->rows, (long long)x->cols);
    return fs_join(path, cache, name, e);
}

static int keep(const char *path, const spectrum *x, const char *of, err *e)
{
    char dir[FS_PATH];

    snprintf(dir, sizeof dir, "%.*s", (int)(fs_base(path) - path - 1), path);
    TRY(fs_mkdirs(dir, e));
    return write_file(path, x, of, e);
}

static int of_matrix(spectrum *x, float *w, err *e)
{
    char path[FS_PATH], of[HASH_HEX];

    x->n = x->rows < x->cols ? x->rows : x->cols;
    hash_bytes(w, (size_t)(x->rows * x->cols) * sizeof *w, of);
    if (path_of(path, x, of, e) != 0)
        return err_wrap(e, "singular values are made once and kept");
    if (read_file(path, x, of))
        return 0;
    TRY(decompose(x, w, e));
    int rc = keep(path, x, of, e);
    return rc == 0 ? 0 : err_wrap(e, "singular values are made once and kept in the folder that XDG_CACHE_HOME names");
}

int spectrum_of(spectrum *out, const sd *base, const char *weight, bool single, err *e)
{
    nn_shape shape;
    float *w;

    *out = (spectrum){0};
    TRY(sd_file_shape(base, weight, &shape, e));
    int64_t count = nn_count(shape);
    out->rows = shape.d[0];
    out->cols = count / shape.d[0];
    TRY(mem_big((void **)&w, (size_t)count * sizeof *w, weight, e));
    int rc = sd_file_read(base, weight, w, (size_t)count, e);
    if (rc == 0 && shape.n == 1)
        of_vector(out, w, single);
    else if (rc == 0)
        rc = of_matrix(out, w, e);
    free(w);
    if (rc != 0)
        spectrum_free(out);
    return rc == 0 ? 0 : err_wrap(e, "%s", weight);
}
