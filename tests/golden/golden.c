/* Reading a directory of expected values, and keeping what was computed; see golden.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tests/golden/golden.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/golden/golden_impl.h"

/* ---- entries ---- */

static const struct { const char *word; golden_kind kind; } KINDS[] = {
    {"input", KIND_INPUT}, {"output", KIND_OUTPUT}, {"debug", KIND_DEBUG}, {"info", KIND_TOLD}, {"unstable", KIND_TOLD},
};

static int kind_of(const json_t *row, golden_kind *out, err *e)
{
    const char *word;

    TRY(json_get_text(row, "kind", &word, e));
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(KINDS[i].word, word) == 0) {
            *out = KINDS[i].kind;
            return 0;
        }
    return err_set(e, ERR_INPUT, "an entry of kind %s, which is none of input, output, debug, info and unstable", word);
}

static golden_entry *add(golden *g, const char *name)
{
    g->entry = mem_grow(g->entry, g->n + 1, sizeof *g->entry);
    golden_entry *x = &g->entry[g->n++];
    *x = (golden_entry){.name = mem_text(name)};
    return x;
}

static int add_tensor(golden *g, const safetensors *f, const char *name, const json_t *row, err *e)
{
    const st_tensor *t = st_find(f, name);
    golden_entry *x;

    if (!t)
        return err_set(e, ERR_INPUT, "%s: no tensor %s, which the .json beside it lists", st_path(f), name);
    if (t->type != F32 && t->type != I64)
        return err_set(e, ERR_INPUT, "%s: %s is of type %s where F32 or I64 is wanted", st_path(f), name,
                       dtype_name(t->type));
    x = add(g, name);
    x->row = row;
    x->want = *t;
    return kind_of(row, &x->kind, e);
}

static int add_ids(golden *g, size_t i, const json_t *prompt, err *e)
{
    const json_t *ids = json_object_get(prompt, "ids");
    size_t n = json_array_size(ids);
    str name = {0};

    if (n == 0)
        return err_set(e, ERR_INPUT, "prompt %zu has no ids", i);
    str_add(&name, "tokenizer/%zu", i);
    golden_entry *x = add(g, name.at);
    str_free(&name);
    x->kind = KIND_OUTPUT;
    x->ids = NEW_N(int64_t, n);
    for (size_t k = 0; k < n; k++)
        x->ids[k] = json_integer_value(json_array_get(ids, k));
    x->want = (st_tensor){.type = I64, .n = 1, .d = {(int64_t)n}, .count = n, .data = x->ids};
    return 0;
}

/* ---- files ---- */

static const char *const STEMS[GOLDEN_FILES] = {"golden", "train_golden", "merge_golden", "tokenizer_golden"};

static int read_entries(golden *g, golden_file which, err *e)
{
    const char *name;
    json_t *row;
    size_t i;

    if (which == GOLDEN_TOKENIZER) {
        json_array_foreach(json_object_get(g->json[which], "prompts"), i, row)
            TRY(add_ids(g, i, row, e));
        return 0;
    }
    json_object_foreach(json_object_get(g->json[which], "entries"), name, row)
        TRY(add_tensor(g, g->tensors[which], name, row, e));
    return 0;
}

/* Prompts may hold zero bytes, which the product's JSON reader refuses. */
static int read_prompts(json_t **out, const char *path, err *e)
{
    json_error_t bad;

    *out = json_load_file(path, JSON_ALLOW_NUL, &bad);
    return *out ? 0 : err_set(e, ERR_INPUT, "%s:%d:%d: %s", path, bad.line, bad.column, bad.text);
}

static int read_file(golden *g, golden_file which, err *e)
{
    char path[FS_PATH];
    str name = {0};

    str_add(&name, "%s.json", STEMS[which]);
    int rc = fs_join(path, g->dir, name.at, e);
    str_free(&name);
    TRY(rc);
    if (!fs_exists(path))
        return 0;
    TRY(which == GOLDEN_TOKENIZER ? read_prompts(&g->json[which], path, e) : json_read(&g->json[which], path, e));
    if (which != GOLDEN_TOKENIZER) {
        *strrchr(path, '.') = '\0';
        str_add(&name, "%s.safetensors", path);
        rc = st_open(&g->tensors[which], name.at, e);
        str_free(&name);
        TRY(rc);
    }
    rc = read_entries(g, which, e);
    return rc == 0 ? 0 : err_wrap(e, "%s", STEMS[which]);
}

/* The folder is taken where it exists, else the other. */
static int choose_dir(char **out, const char *base, const char *name, const char *other, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, base, name, e));
    if (!fs_is_dir(path) && other)
        TRY(fs_join(path, other, name, e));
    *out = mem_text(path);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const golden_entry *)a)->name, ((const golden_entry *)b)->name);
}

/* Perl's expressions, searched anywhere in the name. */
static int choose_entries(golden *g, err *e)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR said[120];
    const char *only = g->opts.only ? g->opts.only : "";
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)only, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);

    if (!re) {
        pcre2_get_error_message(code, said, sizeof said);
        return err_set(e, ERR_INPUT, "--only %s: %s at character %zu", only, (char *)said, (size_t)at);
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    for (size_t i = 0; i < g->n; i++) {
        const char *name = g->entry[i].name;
        g->entry[i].chosen = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, match, NULL) >= 0;
    }
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return 0;
}

static int open_all(golden *g, err *e)
{
    if (!fs_is_dir(g->dir))
        return err_set(e, ERR_INPUT, "%s: no such folder", g->dir);
    if (g->opts.model)
        g->model_dir = mem_text(g->opts.model);
    else
        TRY(choose_dir(&g->model_dir, g->dir, "model", NULL, e));
    TRY(choose_dir(&g->tokenizer_dir, g->model_dir, "tokenizer", g->dir, e));
    for (golden_file i = 0; i < GOLDEN_FILES; i++)
        TRY(read_file(g, i, e));
    if (g->n == 0)
        return err_set(e, ERR_INPUT, "%s: no golden.json, train_golden.json, merge_golden.json or tokenizer_golden.json "
                       "with entries", g->dir);
    qsort(g->entry, g->n, sizeof *g->entry, by_name);
    return choose_entries(g, e);
}

int golden_open(golden **out, const golden_opts *o, err *e)
{
    golden *g = NEW(golden);

    g->opts = *o;
    g->dir = mem_text(o->dir);
    int rc = open_all(g, e);
    if (rc != 0) {
        golden_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

void golden_close(golden *g)
{
    if (!g)
        return;
    sd_close(g->model);
    if (g->backend)
        g->backend->close(g->backend);
    for (size_t i = 0; i < g->n; i++) {
        free(g->entry[i].name);
        free(g->entry[i].ids);
        free(g->entry[i].got);
    }
    free(g->entry);
    for (golden_file i = 0; i < GOLDEN_FILES; i++) {
        json_decref(g->json[i]);
        st_close(g->tensors[i]);
    }
    free(g->dir);
    free(g->model_dir);
    free(g->tokenizer_dir);
    free(g);
}

/* ---- looking ---- */

golden_entry *golden_find(const golden *g, const char *name)
{
    golden_entry key = {.name = (char *)(uintptr_t)name};

    return g->n ? bsearch(&key, g->entry, g->n, sizeof key, by_name) : NULL;
}

static bool wanted(const golden *g, const golden_entry *x)
{
    return x->chosen && !x->got && x->kind != KIND_INPUT && (x->kind != KIND_DEBUG || g->opts.debug);
}

bool golden_decides(const golden *g, const golden_entry *x)
{
    return x->chosen && (x->kind == KIND_OUTPUT || (x->kind == KIND_DEBUG && g->opts.debug));
}

bool golden_wants(const golden *g, const char *name)
{
    const golden_entry *x = golden_find(g, name);

    return x && wanted(g, x);
}

bool golden_wants_any(const golden *g, const char *prefix)
{
    for (size_t i = 0; i < g->n; i++)
        if (str_starts(g->entry[i].name, prefix) && wanted(g, &g->entry[i]))
            return true;
    return false;
}

const char **golden_wanted(const golden *g, const char *prefix, size_t *n)
{
    const char **list = NEW_N(const char *, g->n + 1);

    *n = 0;
    for (size_t i = 0; i < g->n; i++)
        if (str_starts(g->entry[i].name, prefix) && wanted(g, &g->entry[i]))
            list[(*n)++] = g->entry[i].name;
    return list;
}

bool golden_has(const golden *g, const char *name)
{
    return golden_find(g, name) != NULL;
}

int golden_tensor(const golden *g, const char *name, const st_tensor **out, err *e)
{
    const golden_entry *x = golden_find(g, name);

    *out = x ? &x->want : NULL;
    return x ? 0 : err_set(e, ERR_INPUT, "no entry %s", name);
}

int golden_f32(const golden *g, const char *name, float **out, st_tensor *shape, err *e)
{
    const st_tensor *t;

    TRY(golden_tensor(g, name, &t, e));
    if (t->type != F32)
        return err_set(e, ERR_INPUT, "%s is of type %s where F32 is wanted", name, dtype_name(t->type));
    *out = mem_copy(t->data, t->count * sizeof **out);
    if (shape)
        *shape = *t;
    return 0;
}

int golden_i32(const golden *g, const char *name, int32_t **out, st_tensor *shape, err *e)
{
    const st_tensor *t;

    TRY(golden_tensor(g, name, &t, e));
    if (t->type != I64)
        return err_set(e, ERR_INPUT, "%s is of type %s where I64 is wanted", name, dtype_name(t->type));
    *out = NEW_N(int32_t, t->count);
    for (uint64_t i = 0; i < t->count; i++) {
        int64_t v;
        memcpy(&v, (const char *)t->data + i * sizeof v, sizeof v); /* a mapping may be unaligned */
        (*out)[i] = (int32_t)v;
    }
    if (shape)
        *shape = *t;
    return 0;
}

/* [n,a,b] -> [n,b,a] */
static void turn(float *to, const float *from, int64_t n, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < a; j++)
            for (int64_t k = 0; k < b; k++)
                to[(i * b + k) * a + j] = from[(i * a + j) * b + k];
}

int golden_f32_nhwc(const golden *g, const char *name, float **out, st_tensor *shape, err *e)
{
    st_tensor t;
    float *raw;

    TRY(golden_f32(g, name, &raw, &t, e));
    if (t.n != 4) {
        free(raw);
        return err_set(e, ERR_SHAPE, "%s has %d dimensions where a map has 4", name, t.n);
    }
    *out = NEW_N(float, t.count);
    turn(*out, raw, t.d[0], t.d[1], t.d[2] * t.d[3]);
    free(raw);
    if (shape)
        *shape = t;
    return 0;
}

/* ---- putting ---- */

static golden_entry *taker(golden *g, const char *name, size_t count)
{
    golden_entry *x = golden_find(g, name);

    if (!x || !wanted(g, x))
        return NULL;
    x->got_count = count;
    x->got = mem_new(count + 1, x->want.type == I64 ? sizeof(int64_t) : sizeof(float)); /* + 1: never NULL */
    return x;
}

void golden_put(golden *g, const char *name, const float *data, size_t count)
{
    golden_entry *x = taker(g, name, count);

    if (!x)
        return;
    CHECK(x->want.type == F32);
    memcpy(x->got, data, count * sizeof *data);
}

void golden_put_nhwc(golden *g, const char *name, const float *data, int64_t n, int64_t h, int64_t w, int64_t c)
{
    golden_entry *x = taker(g, name, (size_t)(n * h * w * c));

    if (!x)
        return;
    CHECK(x->want.type == F32);
    turn(x->got, data, n, h * w, c);
}

void golden_put_i32(golden *g, const char *name, const int32_t *data, size_t count)
{
    golden_entry *x = taker(g, name, count);

    if (!x)
        return;
    CHECK(x->want.type == I64);
    for (size_t i = 0; i < count; i++)
        ((int64_t *)x->got)[i] = data[i];
}

/* ---- what else a part needs ---- */

const json_t *golden_json(const golden *g, golden_file which)
{
    return g->json[which];
}

const char *golden_dir(const golden *g)
{
    return g->dir;
}

const char *golden_model_dir(const golden *g)
{
    return g->model_dir;
}

const char *golden_tokenizer_dir(const golden *g)
{
    return g->tokenizer_dir;
}

/* A list from its first kernel in bf16 on, where there is one: small products would go to others. */
static const nn_kernel *const *(*whole_list)(nn_op_id op);

static const nn_kernel *const *bf16_first(nn_op_id op)
{
    const nn_kernel *const *list = whole_list(op);

    for (int i = 0; list[i]; i++)
        if (strstr(list[i]->name, ".bf16"))
            return list + i;
    return list;
}

static int compute_in_bf16(nn_backend *on, err *e)
{
    if (!on->compute)
        return err_set(e, ERR_INPUT, "%s has no choice of what it computes in", on->name);
    TRY(on->compute(on, NN_BF16, e));
    whole_list = on->kernels;
    on->kernels = bf16_first;
    return 0;
}

static int open_backend(golden *g, err *e)
{
    TRY(nn_open(&g->backend, g->opts.backend, 0, e));
    return g->opts.bf16 ? compute_in_bf16(g->backend, e) : 0;
}

int golden_sd(golden *g, sd **out, err *e)
{
    if (!g->backend)
        TRY(open_backend(g, e));
    if (!g->model)
        TRY(sd_open(&g->model, g->model_dir, g->backend, e));
    sd_restore(g->model);
    *out = g->model;
    return 0;
}
