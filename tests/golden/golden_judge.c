/* Judging as golden/README.md and tools/compare.py do:
 *   error      |got - want| / |want|; where the entry has a base, / |want - base|: relative to the change; where it has
 *              a floor (gradients that vanish in exact arithmetic), / floor
 *   tolerance  max(1e-4, 10 err_fp32), err_fp32 being PyTorch's own error in f32; in bf16 1e-2 for losses, 5e-2 for
 *              gradients, 2e-2 for the rest
 * Integers must be equal, dimensions of 1 do not count, what is not finite fails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "tests/golden/golden_impl.h"

static const double LEAST = 1e-4, FACTOR = 10;

static float want_f32(const golden_entry *x, size_t i)
{
    float v;

    memcpy(&v, (const char *)x->want.data + i * sizeof v, sizeof v);
    return v;
}

static int64_t want_i64(const golden_entry *x, size_t i)
{
    int64_t v;

    memcpy(&v, (const char *)x->want.data + i * sizeof v, sizeof v);
    return v;
}

/* ---- what an error is divided by ---- */

/* |want - base|, base repeated where it is shorter. */
static double change_norm(const golden_entry *x, const float *base, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < x->want.count; i++) {
        double d = (double)want_f32(x, i) - (double)base[i % n];
        sum += d * d;
    }
    return sqrt(sum);
}

/* The base as a tensor of the model; rows: only those of it. */
static int file_change(const golden *g, const golden_entry *x, const json_t *base, double *out, err *e)
{
    const char *file, *tensor;
    char path[FS_PATH];
    safetensors *f;

    TRY(json_get_text(base, "file", &file, e));
    TRY(json_get_text(base, "tensor", &tensor, e));
    TRY(fs_join(path, g->model_dir, file, e));
    TRY(st_open(&f, path, e));
    const st_tensor *t = st_find(f, tensor);
    size_t n = t ? t->count : 1, picked = 0;
    float *all = NEW_N(float, n), *rows = NEW_N(float, x->want.count + 1);
    int rc = st_read_f32(f, tensor, all, n, e);
    const json_t *list = json_object_get(base, "rows");
    size_t width = rc == 0 && t->n == 2 ? (size_t)t->d[1] : n;

    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        size_t row = (size_t)json_integer_value(json_array_get(list, i));
        if ((row + 1) * width > n || picked + width > x->want.count)
            rc = err_set(e, ERR_INPUT, "%s: row %zu of its base is not there", x->name, row);
        else
            memcpy(rows + picked, all + row * width, width * sizeof *rows);
        picked += width;
    }
    if (rc == 0)
        *out = list ? change_norm(x, rows, picked ? picked : 1) : change_norm(x, all, n);
    free(all);
    free(rows);
    st_close(f);
    return rc;
}

static int denominator(const golden *g, const golden_entry *x, double *out, err *e)
{
    const json_t *floor = json_object_get(x->row, "floor"), *base = json_object_get(x->row, "base");
    const char *entry = json_string_value(json_object_get(base, "entry"));
    float zero = 0, *data;
    st_tensor shape;

    if (json_is_number(floor)) {
        *out = json_number_value(floor);
        return 0;
    }
    if (!base) {
        *out = change_norm(x, &zero, 1);
        return 0;
    }
    if (!entry)
        return file_change(g, x, base, out, e);
    TRY(golden_f32(g, entry, &data, &shape, e));
    *out = change_norm(x, data, shape.count);
    free(data);
    return 0;
}

/* ---- a verdict ---- */

typedef struct { const char *word; double error, tolerance; size_t differ; } verdict;

static void judge_ids(const golden_entry *x, verdict *v)
{
    for (size_t i = 0; i < x->want.count; i++)
        v->differ += ((const int64_t *)x->got)[i] != want_i64(x, i);
    v->word = v->differ ? "DIFFERS" : "ok";
}

static double tolerance_of(const golden *g, const golden_entry *x)
{
    if (g->opts.bf16)
        return strstr(x->name, "grad") ? 5e-2 : strstr(x->name, "loss") ? 1e-2 : 2e-2;
    return fmax(LEAST, FACTOR * json_number_value(json_object_get(x->row, "err_fp32")));
}

static int judge_floats(const golden *g, const golden_entry *x, verdict *v, err *e)
{
    double sum = 0, by;
    const float *got = x->got;

    for (size_t i = 0; i < x->want.count; i++) {
        double d = (double)got[i] - (double)want_f32(x, i);
        sum += d * d;
    }
    TRY(denominator(g, x, &by, e));
    v->error = by > 0 ? sqrt(sum) / by : sqrt(sum);
    v->tolerance = tolerance_of(g, x);
    v->word = !isfinite(v->error) ? "NOTFINITE" : v->error <= v->tolerance ? "ok" : "FAIL";
    return 0;
}

static int judge_one(const golden *g, const golden_entry *x, verdict *v, err *e)
{
    *v = (verdict){.word = "SHAPE"};
    if (x->got_count != x->want.count)
        return 0;
    if (x->want.type == I64) {
        judge_ids(x, v);
        return 0;
    }
    return judge_floats(g, x, v, e);
}

static void print_one(const golden_entry *x, const verdict *v, bool decides)
{
    printf("%-9s %-90s ", v->word, x->name);
    if (strcmp(v->word, "SHAPE") == 0)
        printf("%zu values where %llu are expected", x->got_count, (unsigned long long)x->want.count);
    else if (x->want.type == I64)
        printf("%zu of %zu integers differ", v->differ, x->got_count);
    else
        printf("%.3e (tolerance %.1e)", v->error, v->tolerance);
    printf("%s\n", decides ? "" : ", does not decide");
}

int golden_judge(golden *g, golden_tally *out, err *e)
{
    *out = (golden_tally){0};
    for (size_t i = 0; i < g->n; i++) {
        const golden_entry *x = &g->entry[i];
        bool decides = golden_decides(g, x);
        verdict v;

        if (!x->got) {
            if (decides) {
                printf("NOT BUILT %s\n", x->name);
                out->not_built++;
            }
            continue;
        }
        TRY(judge_one(g, x, &v, e));
        print_one(x, &v, decides);
        out->judged += decides;
        out->failed += decides && strcmp(v.word, "ok") != 0;
    }
    return 0;
}

int golden_write(const golden *g, const char *path, err *e)
{
    static const char *const NONE[] = {NULL};
    st_tensor *all = NEW_N(st_tensor, g->n + 1);
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++) {
        const golden_entry *x = &g->entry[i];
        if (!x->got)
            continue;
        all[n] = x->want;
        all[n].name = x->name;
        all[n].data = x->got;
        if (x->got_count != x->want.count) {
            all[n].n = 1;
            all[n].d[0] = (int64_t)x->got_count;
            all[n].count = x->got_count;
        }
        n++;
    }
    int rc = st_write(path, all, n, NONE, NONE, e);
    free(all);
    return rc;
}
