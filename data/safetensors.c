/* The safetensors format: 8 bytes little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
 * the data. Promise: a file that opens can be read without leaving its mapping, whatever bytes it came with; each
 * byte of its data belongs to exactly one tensor. */
#include "data/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"

#define ST_META "__metadata__"
enum {
    ST_LENGTH = 8,                    /* bytes of the header's length */
    ST_HEADER_MOST = 100 * 1000 * 1000, /* the reference reader's limit */
    ST_NAME_SHOWN = 120
};

struct safetensors {
    char *path;
    fs_map map;
    json_t *header;        /* owns the names and the metadata; NULL: a view, */
    char **names;          /* [n] which owns its own */
    st_tensor *t;          /* in the order of their data */
    const st_tensor **by_name;
    size_t n;
};

static uint64_t length_of(const unsigned char *b)
{
    uint64_t v = 0;

    for (int i = ST_LENGTH - 1; i >= 0; i--)
        v = v << 8 | b[i];
    return v;
}

/* The JSON between the length and the data; *data, *n: what follows it. */
static int read_header(safetensors *f, const unsigned char **data, uint64_t *n, err *e)
{
    json_error_t where;
    uint64_t length;

    if (f->map.n < ST_LENGTH)
        return err_set(e, ERR_INPUT, "not a safetensors file: %zu bytes, the header's length alone takes 8", f->map.n);
    length = length_of(f->map.at);
    if (length > ST_HEADER_MOST)
        return err_set(e, ERR_INPUT, "not a safetensors file: its first 8 bytes tell a header of %" PRIu64
                       " bytes, at most %d are allowed", length, ST_HEADER_MOST);
    if (length > f->map.n - ST_LENGTH)
        return err_set(e, ERR_INPUT, "cut short: a header of %" PRIu64 " bytes in a file of %zu", length, f->map.n);
    f->header = json_loadb((const char *)f->map.at + ST_LENGTH, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!f->header)
        return err_set(e, ERR_INPUT, "header is not JSON: line %d, column %d: %s", where.line, where.column, where.text);
    if (!json_is_object(f->header))
        return err_set(e, ERR_INPUT, "header is JSON but no object of tensors");
    *data = f->map.at + ST_LENGTH + length;
    *n = f->map.n - ST_LENGTH - length;
    return 0;
}

int st_check_name(const char *name, err *e)
{
    if (!*name)
        return err_set(e, ERR_INPUT, "a tensor without a name");
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ')
            return err_set(e, ERR_INPUT, "a tensor's name has control character 0x%02x at byte %zu",
                           (unsigned char)*c, (size_t)(c - name));
    return 0;
}

static int check_metadata(json_t *meta, err *e)
{
    const char *key;
    json_t *value;

    if (!json_is_object(meta))
        return err_set(e, ERR_INPUT, ST_META ": not an object of texts");
    json_object_foreach(meta, key, value)
        if (!json_is_string(value))
            return err_set(e, ERR_INPUT, ST_META ": \"%.*s\" is not a text", ST_NAME_SHOWN, key);
    return 0;
}

/* A whole number >= 0 from an array; -1: something else stands there. */
static int64_t number_at(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);

    return json_is_integer(v) && json_integer_value(v) >= 0 ? (int64_t)json_integer_value(v) : -1;
}

static int read_shape(st_tensor *t, const json_t *shape, err *e)
{
    uint64_t bytes;

    if (!json_is_array(shape))
        return err_set(e, ERR_INPUT, "no list \"shape\"");
    if (json_array_size(shape) > ST_MAX_DIM)
        return err_set(e, ERR_INPUT, "%zu dimensions, at most %d are read", json_array_size(shape), ST_MAX_DIM);
    t->n = (int)json_array_size(shape);
    t->count = 1;
    for (int i = 0; i < t->n; i++) {
        t->d[i] = number_at(shape, (size_t)i);
        if (t->d[i] < 0)
            return err_set(e, ERR_INPUT, "dimension %d of its shape is not a whole number from 0", i);
        if (__builtin_mul_overflow(t->count, (uint64_t)t->d[i], &t->count))
            return err_set(e, ERR_INPUT, "its shape has more than 2^64 elements");
    }
    if (__builtin_mul_overflow(t->count, (uint64_t)dtype_bytes(t->type), &bytes))
        return err_set(e, ERR_INPUT, "its shape has more than 2^64 bytes");
    return 0;
}

/* data: n bytes. Only tensors that lie inside it come through. */
static int read_range(st_tensor *t, const json_t *range, const unsigned char *data, uint64_t n, err *e)
{
    const int64_t from = number_at(range, 0), to = number_at(range, 1);
    const uint64_t want = t->count * dtype_bytes(t->type);

    if (json_array_size(range) != 2 || from < 0 || to < from)
        return err_set(e, ERR_INPUT, "\"data_offsets\" is not [first, end]");
    if ((uint64_t)to > n)
        return err_set(e, ERR_INPUT, "bytes %" PRId64 " to %" PRId64 " of %" PRIu64 " bytes of data: the file is cut short",
                       from, to, n);
    if ((uint64_t)(to - from) != want)
        return err_set(e, ERR_INPUT, "%" PRId64 " bytes, its shape in %s takes %" PRIu64, to - from,
                       dtype_name(t->type), want);
    t->data = data + from;
    return 0;
}

static int read_tensor(st_tensor *t, const json_t *entry, const unsigned char *data, uint64_t n, err *e)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));

    if (!json_is_object(entry))
        return err_set(e, ERR_INPUT, "its entry is not an object");
    if (!type)
        return err_set(e, ERR_INPUT, "no text \"dtype\"");
    if (dtype_find(type, &t->type) != 0)
        return err_set(e, ERR_INPUT, "dtype \"%.*s\" is not known", ST_NAME_SHOWN, type);
    TRY(read_shape(t, json_object_get(entry, "shape"), e));
    return read_range(t, json_object_get(entry, "data_offsets"), data, n, e);
}

static int by_data(const void *a, const void *b)
{
    const st_tensor *x = a, *y = b;

    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    if (!x->count != !y->count) /* an empty tensor goes before the one that begins where it lies */
        return x->count ? 1 : -1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const st_tensor *const *)a)->name, (*(const st_tensor *const *)b)->name);
}

/* Sorted by place, each tensor begins where the one before ended, and the last ends with the file. */
static int check_cover(const safetensors *f, const unsigned char *data, uint64_t n, err *e)
{
    const unsigned char *end = data;

    for (size_t i = 0; i < f->n; i++) {
        const st_tensor *t = &f->t[i];
        const unsigned char *at = t->data;

        if (at < end)
            return err_set(e, ERR_INPUT, "tensors \"%.*s\" and \"%.*s\" overlap", ST_NAME_SHOWN, f->t[i - 1].name,
                           ST_NAME_SHOWN, t->name);
        if (at > end)
            return err_set(e, ERR_INPUT, "%td bytes before tensor \"%.*s\" belong to no tensor", at - end,
                           ST_NAME_SHOWN, t->name);
        end = at + t->count * dtype_bytes(t->type);
    }
    if (end != data + n)
        return err_set(e, ERR_INPUT, "%td bytes at its end belong to no tensor", data + n - end);
    return 0;
}

static int read_tensors(safetensors *f, const unsigned char *data, uint64_t n, err *e)
{
    const char *name;
    json_t *entry;

    f->t = NEW_N(st_tensor, json_object_size(f->header) + 1);
    json_object_foreach(f->header, name, entry) {
        st_tensor *t = &f->t[f->n];

        TRY(st_check_name(name, e));
        if (strcmp(name, ST_META) == 0) {
            TRY(check_metadata(entry, e));
            continue;
        }
        t->name = name;
        if (read_tensor(t, entry, data, n, e) != 0)
            return err_wrap(e, "tensor \"%.*s\"", ST_NAME_SHOWN, name);
        f->n++;
    }
    qsort(f->t, f->n, sizeof *f->t, by_data);
    return check_cover(f, data, n, e);
}

static void sort_names(safetensors *f)
{
    f->by_name = NEW_N(const st_tensor *, f->n + 1);
    for (size_t i = 0; i < f->n; i++)
        f->by_name[i] = &f->t[i];
    qsort(f->by_name, f->n, sizeof *f->by_name, by_name);
}

static int open_file(safetensors *f, err *e)
{
    const unsigned char *data;
    uint64_t n;

    TRY(read_header(f, &data, &n, e));
    TRY(read_tensors(f, data, n, e));
    sort_names(f);
    return 0;
}

int st_open(safetensors **out, const char *path, err *e)
{
    safetensors *f = NEW(safetensors);
    int rc;

    *out = NULL;
    f->path = mem_text(path);
    rc = fs_map_open(&f->map, path, e); /* names the path itself */
    if (rc == 0 && (rc = open_file(f, e)) != 0)
        err_wrap(e, "%s", path);
    if (rc == 0)
        *out = f;
    else
        st_close(f);
    return rc;
}

void st_view(safetensors **out, const char *path, const st_tensor *tensors, size_t n)
{
    safetensors *f = NEW(safetensors);

    f->path = mem_text(path);
    f->t = NEW_N(st_tensor, n + 1);
    f->names = NEW_N(char *, n + 1);
    for (; f->n < n; f->n++) {
        f->t[f->n] = tensors[f->n];
        f->t[f->n].name = f->names[f->n] = mem_text(tensors[f->n].name);
    }
    sort_names(f);
    *out = f;
}

void st_close(safetensors *f)
{
    if (!f)
        return;
    fs_map_close(&f->map);
    json_decref(f->header);
    for (size_t i = 0; f->names && i < f->n; i++)
        free(f->names[i]);
    free(f->names);
    free(f->by_name);
    free(f->t);
    free(f->path);
    free(f);
}

const char *st_path(const safetensors *f)
{
    return f->path;
}

size_t st_count(const safetensors *f)
{
    return f->n;
}

const st_tensor *st_at(const safetensors *f, size_t i)
{
    CHECK(i < f->n);
    return &f->t[i];
}

const st_tensor *st_find(const safetensors *f, const char *name)
{
    const st_tensor wanted = {.name = name}, *key = &wanted;
    const st_tensor **hit = bsearch(&key, f->by_name, f->n, sizeof *f->by_name, by_name);

    return hit ? *hit : NULL;
}

const char *st_metadata(const safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, ST_META), key));
}

static bool is_float(dtype t)
{
    return t == F32 || t == BF16 || t == F16 || t == F64;
}

int st_read_f32(const safetensors *f, const char *name, float *out, uint64_t count, err *e)
{
    const st_tensor *t = st_find(f, name);

    if (!t)
        return err_set(e, ERR_INPUT, "%s: no tensor \"%s\"", f->path, name);
    if (!is_float(t->type))
        return err_set(e, ERR_INPUT, "%s: tensor \"%s\": holds %s, a float type is needed", f->path, name,
                       dtype_name(t->type));
    if (t->count != count)
        return err_set(e, ERR_SHAPE, "%s: tensor \"%s\": %" PRIu64 " elements, %" PRIu64 " are needed", f->path, name,
                       t->count, count);
    f32_from(out, t->data, t->type, t->count);
    return 0;
}
