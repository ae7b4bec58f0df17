#include "merge/torch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/torch_pickle.h"
#include "merge/torch_zip.h"

enum { DEPTH_MOST = 6, KEYS_MOST = 1 << 16, NAME_MOST = 1024 };

/* ---- reading ---- */

typedef struct {
    const zip_file *zip;
    char folder[NAME_MOST]; /* of the archive: "archive/" */
    torch_file *out;
    size_t room; /* floats that may still be copied: strided views of one storage could multiply it */
    size_t seen, others;
} reader;

static void note_other(reader *r, const char *name)
{
    r->out->other = mem_grow(r->out->other, r->others + 2, sizeof *r->out->other);
    r->out->other[r->others++] = mem_text(name);
    r->out->other[r->others] = NULL;
}

/* Shape, and the last element it reaches, all checked; 0 when the tensor fits its storage. */
static int measure(st_tensor *t, int64_t stride[ST_MAX_DIM], const pickle_value *v, err *e)
{
    const pickle_value *storage = v->item[0], *shape = v->item[1], *strides = v->item[2];
    int64_t last = v->number;
    if (shape->n > ST_MAX_DIM || v->number < 0 || storage->number < 0)
        return err_set(e, ERR_SHAPE, "a tensor of %zu dimensions", shape->n);
    t->n = (int)shape->n;
    t->count = 1;
    for (size_t i = 0; i < shape->n; i++) {
        int64_t d = shape->item[i]->number, s = strides->item[i]->number;
        if (shape->item[i]->kind != PV_NUMBER || strides->item[i]->kind != PV_NUMBER || d < 1 || s < 0 ||
            d > storage->number || s > storage->number || t->count * (uint64_t)d > (uint64_t)storage->number)
            return err_set(e, ERR_SHAPE, "a shape that does not fit its storage of %" PRId64, storage->number);
        t->d[i] = d;
        stride[i] = s;
        t->count *= (uint64_t)d;
        last += (d - 1) * s; /* below 2^63: both are at most the storage's count, which is checked next */
        if (last >= storage->number)
            return err_set(e, ERR_SHAPE, "a shape that does not fit its storage of %" PRId64, storage->number);
    }
    return last < storage->number ? 0 : err_set(e, ERR_SHAPE, "a tensor outside its storage");
}

static void gather(float *to, const st_tensor *t, const int64_t stride[ST_MAX_DIM], int64_t first,
                   const unsigned char *from, dtype type)
{
    int64_t at[ST_MAX_DIM] = {0};
    for (uint64_t i = 0; i < t->count; i++) {
        int64_t offset = first;
        for (int d = 0; d < t->n; d++)
            offset += at[d] * stride[d];
        f32_from(to + i, from + (size_t)offset * dtype_bytes(type), type, 1);
        for (int d = t->n - 1; d >= 0 && ++at[d] == t->d[d]; d--)
            at[d] = 0;
    }
}

static bool is_plain(const st_tensor *t, const int64_t stride[ST_MAX_DIM])
{
    int64_t want = 1;
    for (int d = t->n - 1; d >= 0; want *= t->d[d--])
        if (stride[d] != want && t->d[d] > 1)
            return false;
    return true;
}

static bool is_float(dtype t)
{
    return t == F32 || t == F16 || t == BF16 || t == F64;
}

static int find_storage(const reader *r, const pickle_value *storage, const zip_entry **x, err *e)
{
    char name[2 * NAME_MOST];
    snprintf(name, sizeof name, "%sdata/%.1000s", r->folder, storage->text);
    *x = zip_find(r->zip, name);
    if (!*x || storage->number < 0 || (uint64_t)storage->number > (*x)->bytes / dtype_bytes(storage->type))
        return err_set(e, ERR_INPUT, "its storage %.60s is not there, or too short", storage->text);
    return 0;
}

static int add_tensor(reader *r, const char *name, const pickle_value *v, err *e)
{
    const pickle_value *storage = v->item[0];
    const zip_entry *x;
    int64_t stride[ST_MAX_DIM];
    st_tensor t = {.type = F32};
    float *to;
    if (!is_float(storage->type)) {
        note_other(r, name);
        return 0;
    }
    TRY(find_storage(r, storage, &x, e));
    TRY(measure(&t, stride, v, e));
    if (t.count > r->room)
        return err_set(e, ERR_INPUT, "its tensors overlap so that they would take many times the file's size");
    r->room -= t.count;
    TRY(mem_big((void **)&to, t.count * sizeof *to, name, e));
    if (is_plain(&t, stride))
        f32_from(to, x->at + (size_t)v->number * dtype_bytes(storage->type), storage->type, t.count);
    else
        gather(to, &t, stride, v->number, x->at, storage->type);
    t.name = mem_text(name);
    t.data = to;
    r->out->tensor = mem_grow(r->out->tensor, r->out->n + 1, sizeof t);
    r->out->tensor[r->out->n++] = t;
    return 0;
}

static int flatten(reader *r, const char *prefix, const pickle_value *v, int depth, err *e);

static int flatten_item(reader *r, const char *prefix, const pickle_value *key, const pickle_value *v, int depth,
                        err *e)
{
    char name[NAME_MOST];
    if (++r->seen > KEYS_MOST)
        return err_set(e, ERR_INPUT, "more than %d keys", KEYS_MOST);
    if (key->kind != PV_TEXT ||
        snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] ? "/" : "", key->text) >= NAME_MOST)
        return err_set(e, ERR_INPUT, "a key below %.60s is no text, or too long", prefix[0] ? prefix : "its top");
    if (v->kind == PV_TENSOR) {
        int rc = add_tensor(r, name, v, e);
        return rc == 0 ? 0 : err_wrap(e, "%s", name);
    }
    if (v->kind == PV_DICT && v->n > 0)
        return flatten(r, name, v, depth + 1, e);
    if (v->kind != PV_DICT)
        note_other(r, name);
    return 0;
}

static int flatten(reader *r, const char *prefix, const pickle_value *v, int depth, err *e)
{
    if (depth > DEPTH_MOST)
        return err_set(e, ERR_INPUT, "dictionaries nested deeper than %d", DEPTH_MOST);
    for (size_t i = 0; i + 1 < v->n; i += 2)
        TRY(flatten_item(r, prefix, v->item[i], v->item[i + 1], depth, e));
    return 0;
}

static int read_zip(torch_file *out, const zip_file *z, err *e)
{
    const zip_entry *x = zip_find_tail(z, "/data.pkl");
    reader r = {.zip = z, .out = out, .room = z->map.n};
    pickle *p;
    const pickle_value *root;
    int rc;
    if (!x || strlen(x->name) >= NAME_MOST)
        return err_set(e, ERR_INPUT, "a zip file, but not one of torch (no data.pkl)");
    snprintf(r.folder, sizeof r.folder, "%.*s", (int)(strlen(x->name) - strlen("data.pkl")), x->name);
    TRY(pickle_read(&p, &root, x->at, x->bytes, e));
    rc = root->kind == PV_DICT ? flatten(&r, "", root, 0, e) : err_set(e, ERR_INPUT, "holds no dictionary of tensors");
    pickle_free(p);
    return rc;
}

int torch_read(torch_file *out, const char *path, err *e)
{
    zip_file z;
    int rc;
    *out = (torch_file){0};
    TRY(zip_open(&z, path, e));
    rc = read_zip(out, &z, e);
    zip_close(&z);
    if (rc == 0)
        return 0;
    torch_free(out);
    return err_wrap(e, "%s", path);
}

void torch_free(torch_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free((void *)(uintptr_t)f->tensor[i].name);
        free((void *)(uintptr_t)f->tensor[i].data);
    }
    for (char **at = f->other; at && *at; at++)
        free(*at);
    free(f->other);
    free(f->tensor);
    *f = (torch_file){0};
}

/* ---- writing: protocol 2, no memo, which no reader needs ---- */

static void put_op(str *s, int op)
{
    str_put(s, &(char){(char)op}, 1);
}

static void put_u32(str *s, int op, uint32_t v)
{
    char bytes[5] = {(char)op, (char)(v & 255), (char)(v >> 8 & 255), (char)(v >> 16 & 255), (char)(v >> 24)};
    str_put(s, bytes, sizeof bytes);
}

static void put_text(str *s, const char *text, size_t n)
{
    put_u32(s, 'X', (uint32_t)n);
    str_put(s, text, n);
}

static void put_ints(str *s, const int64_t *v, int n)
{
    put_op(s, '(');
    for (int i = 0; i < n; i++)
        put_u32(s, 'J', (uint32_t)v[i]);
    put_op(s, 't');
}

static void put_tensor(str *s, const st_tensor *t, size_t key)
{
    char number[24];
    int64_t stride[ST_MAX_DIM], step = 1;
    for (int d = t->n - 1; d >= 0; step *= t->d[d--])
        stride[d] = step;
    snprintf(number, sizeof number, "%zu", key);
    str_add(s, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(s, "storage", strlen("storage"));
    str_add(s, "ctorch\nFloatStorage\n");
    put_text(s, number, strlen(number));
    put_text(s, "cpu", strlen("cpu"));
    put_u32(s, 'J', (uint32_t)t->count);
    str_add(s, "tQK");
    put_op(s, 0);
    put_ints(s, t->d, t->n);
    put_ints(s, stride, t->n);
    put_op(s, 0x89);
    str_add(s, "ccollections\nOrderedDict\n)RtR");
}

/* Tensors from..to share `skip` bytes of prefix; those with a further '/' make a dictionary of their own. */
static void put_dict(str *s, const st_tensor *t, size_t from, size_t to, size_t skip)
{
    str_add(s, "}(");
    while (from < to) {
        const char *key = t[from].name + skip, *slash = strchr(key, '/');
        size_t end = from + 1, n = slash ? (size_t)(slash - key) : strlen(key);
        put_text(s, key, n);
        while (slash && end < to && strncmp(t[end].name + skip, key, n + 1) == 0)
            end++;
        if (slash)
            put_dict(s, t, from, end, skip + n + 1);
        else
            put_tensor(s, &t[from], from);
        from = end;
    }
    put_op(s, 'u');
}

static void put_value(str *s, const torch_plain *p)
{
    if (p->empty)
        put_op(s, '}');
    else if (p->text)
        put_text(s, p->text, strlen(p->text));
    else
        put_u32(s, 'J', (uint32_t)p->number);
}

/* Its own key and value, or a dictionary of one pair. */
static void put_plain(str *s, const torch_plain *p)
{
    const char *slash = strchr(p->name, '/');
    put_text(s, p->name, slash ? (size_t)(slash - p->name) : strlen(p->name));
    if (!slash) {
        put_value(s, p);
        return;
    }
    put_op(s, '}');
    put_text(s, slash + 1, strlen(slash + 1));
    put_value(s, p);
    put_op(s, 's');
}

int torch_write(const char *path, const st_tensor tensor[], size_t n, err *e)
{
    return torch_write_with(path, tensor, n, NULL, 0, NULL, e);
}

int torch_write_with(const char *path, const st_tensor tensor[], size_t n, const torch_plain plain[], size_t plains,
                     const char *note, err *e)
{
    zip_entry *x = NEW_N(zip_entry, n + 3);
    size_t all = n + 2;
    str s = {0};
    int rc = 0;
    put_op(&s, 0x80);
    put_op(&s, 2);
    put_dict(&s, tensor, 0, n, 0);
    if (plains > 0)
        put_op(&s, '(');
    for (size_t i = 0; i < plains; i++)
        put_plain(&s, &plain[i]);
    if (plains > 0)
        put_op(&s, 'u');
    put_op(&s, '.');
    x[0] = (zip_entry){mem_text("archive/data.pkl"), (const unsigned char *)s.at, s.n};
    for (size_t i = 0; i < n; i++) {
        char name[64];
        CHECK(tensor[i].type == F32);
        snprintf(name, sizeof name, "archive/data/%zu", i);
        x[i + 1] = (zip_entry){mem_text(name), tensor[i].data, tensor[i].count * sizeof(float)};
        if (tensor[i].count > INT32_MAX)
            rc = err_set(e, ERR_INPUT, "%s: %s is too large for a torch file of ours", path, tensor[i].name);
    }
    x[n + 1] = (zip_entry){mem_text("archive/version"), (const unsigned char *)"3\n", 2};
    if (note)
        x[all++] = (zip_entry){mem_text("archive/provenance.json"), (const unsigned char *)note, strlen(note)};
    if (rc == 0)
        rc = zip_write(path, x, all, e);
    for (size_t i = 0; i < all; i++)
        free(x[i].name);
    free(x);
    str_free(&s);
    return rc;
}
