/* Writing into a store: datasets in chunks with checksums, as they come; attributes and groups in memory until all is known. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/mem.h"
#include "data/h5_write.h"
#include "data/store_impl.h"

enum {
    CHUNK = 1 << 20, /* bytes; larger ones waste space at the tail, smaller ones cost time */
    ASIDE = 1 << 19,
    DISK = 2 << 20,
    SMALL = 1 << 16
};

/* ---- the tree ---- */

store_node *store_node_new(const char *name)
{
    store_node *n = NEW(store_node);
    n->name = mem_text(name);
    n->o.layout.address = H5_NOWHERE;
    return n;
}

void store_node_free(store_node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n; i++)
        store_node_free(n->child[i]);
    for (size_t i = 0; i < n->o.n_attrs && !n->kept; i++)
        free((void *)(uintptr_t)n->o.attr[i].value);
    h5_object_free(&n->o);
    free(n->child);
    free(n->chunk);
    free(n->name);
    free(n);
}

void store_node_attr(store_node *n, const char *name, h5_kind kind, const void *value, size_t bytes)
{
    h5_object *o = &n->o;
    size_t at = o->n_attrs++;
    o->attr = mem_grow(o->attr, o->n_attrs, sizeof *o->attr);
    for (; at > 0 && strcmp(o->attr[at - 1].name, name) > 0; at--)
        o->attr[at] = o->attr[at - 1];
    o->attr[at] = (h5_attr){mem_text(name), kind, mem_copy(value, bytes), bytes};
}

/* Where among the children a name of n bytes stands, or would. */
static size_t place(const store_node *group, const char *name, size_t n, bool *there)
{
    size_t low = 0, high = group->n;
    *there = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const char *at = group->child[mid]->name;
        int order = strncmp(at, name, n);
        order = order == 0 ? at[n] != '\0' : order;
        *there = order == 0;
        if (*there)
            return mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static store_node *push(store_node *group, size_t at, const char *name, size_t n)
{
    char *text = mem_new(n + 1, 1);
    store_node *child;
    memcpy(text, name, n);
    child = store_node_new(text);
    free(text);
    group->child = mem_grow(group->child, group->n + 1, sizeof(store_node *));
    memmove(group->child + at + 1, group->child + at, (group->n++ - at) * sizeof(store_node *));
    return group->child[at] = child;
}

/* The node at path; with `make` groups on the way are made, and itself. NULL: not there; with make: in the way of another. */
static store_node *walk(const store *s, const char *path, bool make)
{
    store_node *at = s->tree;
    const char *name = path + 1;
    while (at && *name) {
        size_t n = strcspn(name, "/");
        bool there, last = name[n] == '\0';
        size_t i = place(at, name, n, &there);
        if (at->o.is_dataset || (make && last && there))
            return NULL;
        at = there ? at->child[i] : make ? push(at, i, name, n) : NULL;
        name += last ? n : n + 1;
    }
    return at;
}

/* ---- bytes ---- */

static int write_at(store *s, const char *path, const void *data, size_t n, uint64_t at, err *e)
{
    const char *from = data;
    while (n > 0) {
        ssize_t done = fault_here("store.write") ? (errno = EIO, -1) : pwrite(s->fd, from, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return err_set(e, ERR_IO, "%s: %s: cannot be written: %s", s->path, path, fs_reason(errno));
        from += done;
        n -= (size_t)done;
        at += (uint64_t)done;
    }
    return 0;
}

int store_flush(store *s, const char *path, err *e)
{
    size_t n = s->n_small;
    s->n_small = 0;
    return write_at(s, path, s->small, n, s->end - n, e);
}

/* A merged file has hundreds of short datasets: they go out together. */
int store_append(store *s, const char *path, const void *data, size_t n, err *e)
{
    if (s->n_small + n > SMALL)
        TRY(store_flush(s, path, e));
    s->end += n;
    if (n > SMALL)
        return write_at(s, path, data, n, s->end - n, e);
    if (!s->small)
        s->small = mem_new(SMALL, 1);
    if (n > 0)
        memcpy(s->small + s->n_small, data, n);
    s->n_small += n;
    return 0;
}

/* The disk begins while the next dataset is made; what is left at commit is little. A hint: it cannot fail anybody. */
static void start_disk(store *s)
{
    uint64_t there = s->end - s->n_small;
    if (there - s->begun < DISK)
        return;
    sync_file_range(s->fd, (off_t)s->begun, (off_t)(there - s->begun), SYNC_FILE_RANGE_WRITE);
    s->begun = there;
}

/* ---- values ---- */

/* Rows are kept whole: the last dimension is filled first. A dimension that is cut is cut evenly, for every chunk is
 * stored at full size. */
static void lay_chunks(h5_object *o)
{
    size_t room = CHUNK / o->size;
    o->layout.kind = H5_CHUNKED;
    o->layout.n = o->shape.n;
    for (int i = o->shape.n - 1; i >= 0; i--) {
        size_t d = (size_t)o->shape.d[i], most = room > 0 ? room : 1, pieces = (d + most - 1) / most;
        o->layout.chunk[i] = (d + pieces - 1) / pieces;
        room = room / o->layout.chunk[i];
    }
}

/* One chunk that begins at `first`, out of values to block, run after run along the last dimension; beyond the edge zeroes. */
static void gather(unsigned char *block, const h5_object *o, const uint64_t first[STORE_DIMS], const unsigned char *values)
{
    const uint64_t *chunk = o->layout.chunk;
    int n = o->shape.n;
    uint64_t count[STORE_DIMS], at[STORE_DIMS] = {0};
    for (int i = 0; i < n; i++) {
        uint64_t left = (uint64_t)o->shape.d[i] - first[i];
        count[i] = left < chunk[i] ? left : chunk[i];
    }
    for (int i = 0; i >= 0;) {
        uint64_t from = 0, to = 0;
        for (int d = 0; d < n; d++) {
            from = from * (uint64_t)o->shape.d[d] + first[d] + at[d];
            to = to * chunk[d] + at[d];
        }
        memcpy(block + to * o->size, values + from * o->size, count[n - 1] * o->size);
        for (i = n - 2; i >= 0 && ++at[i] == count[i]; i--)
            at[i] = 0;
    }
}

/* A chunk that is a run of whole rows, all of them there, goes out as it lies. */
static int put_chunk(store *s, const char *path, store_node *n, const uint64_t first[STORE_DIMS], size_t bytes, unsigned char *block,
                     const unsigned char *values, err *e)
{
    const h5_object *o = &n->o;
    uint64_t row = o->bytes / (uint64_t)o->shape.d[0];
    bool whole = first[0] + o->layout.chunk[0] <= (uint64_t)o->shape.d[0] && o->layout.chunk[0] * row == bytes;
    const unsigned char *from = block;
    unsigned char check[H5_CHECK_BYTES];
    if (whole) {
        from = values + first[0] * row;
    } else {
        memset(block, 0, bytes);
        gather(block, o, first, values);
    }
    h5_put_chunk_check(check, from, bytes);
    n->chunk[n->chunks++] = s->end;
    TRY(store_append(s, path, from, bytes, e));
    return store_append(s, path, check, sizeof check, e);
}

static int put_chunks(store *s, const char *path, store_node *n, const unsigned char *values, err *e)
{
    h5_object *o = &n->o;
    uint64_t first[STORE_DIMS] = {0}, count = 1;
    size_t bytes = o->size;
    unsigned char *block;
    int rc = 0;
    lay_chunks(o);
    for (int i = 0; i < o->shape.n; i++) {
        count *= ((uint64_t)o->shape.d[i] + o->layout.chunk[i] - 1) / o->layout.chunk[i];
        bytes *= o->layout.chunk[i];
    }
    n->chunk = NEW_N(uint64_t, count);
    block = mem_new(bytes, 1);
    while (rc == 0 && n->chunks < count) {
        rc = put_chunk(s, path, n, first, bytes, block, values, e);
        for (int i = o->shape.n - 1; i >= 0 && (first[i] += o->layout.chunk[i]) >= (uint64_t)o->shape.d[i]; i--)
            first[i] = 0;
    }
    free(block);
    return rc;
}

/* A scalar or an empty dataset cannot be chunked: the first stands by itself, under our own digest alone. */
static int put_values(store *s, const char *path, store_node *n, const void *data, err *e)
{
    h5_object *o = &n->o;
    if (o->shape.n > 0 && o->bytes > 0)
        return put_chunks(s, path, n, data, e);
    o->layout = (h5_layout){.kind = H5_CONTIGUOUS, .address = o->bytes > 0 ? s->end : H5_NOWHERE, .bytes = o->bytes};
    return store_append(s, path, data, o->bytes, e);
}

/* Values worth a thread: their digest is made while they are written. */
typedef struct {
    pthread_t thread;
    bool aside;
    char hex[HASH_HEX];
    const h5_object *o;
    const void *data;
} digester;

static void *digest(void *arg)
{
    digester *d = arg;
    store_values_digest(d->hex, d->o->shape, d->o->text, d->data, d->o->bytes);
    return NULL;
}

static void start_digest(digester *d)
{
    d->aside = d->o->bytes >= ASIDE && pthread_create(&d->thread, NULL, digest, d) == 0;
    if (!d->aside)
        digest(d);
}

static void end_digest(digester *d)
{
    if (d->aside)
        pthread_join(d->thread, NULL);
}

static int write_values(store *s, const char *path, store_shape shape, size_t size, size_t text, const void *data, err *e)
{
    store_node *n = walk(s, path, true);
    h5_object of = {.is_dataset = true, .shape = shape, .size = size, .text = text, .bytes = store_count(shape) * size};
    digester d = {.o = &of, .data = data};
    int rc;
    if (!n)
        return store_damage(s, path, "is in the file already, or below a dataset", e);
    n->o = of;
    start_digest(&d);
    rc = put_values(s, path, n, data, e);
    end_digest(&d);
    store_node_attr(n, STORE_DIGEST, H5_TEXT, d.hex, sizeof d.hex);
    start_disk(s);
    return rc;
}

static size_t size_of(dtype t)
{
    switch (t) {
    case F32:
    case I32: return 4;
    case F64:
    case I64: return 8;
    case F16:
    case BF16: return 2;
    case U8: return 1;
    default: return 0;
    }
}

int store_put(store *s, const char *path, store_shape shape, const void *data, err *e)
{
    size_t size = size_of(shape.type);
    CHECK(s->writing && shape.n >= 0 && shape.n <= STORE_DIMS);
    if (size == 0)
        return err_set(e, ERR_INPUT, "%s: %s: %s values cannot be kept", s->path, path, dtype_name(shape.type));
    return write_values(s, path, shape, size, 0, data, e);
}

static int put_texts(store *s, const char *path, store_shape shape, const char *const text[], err *e)
{
    size_t n = store_count(shape), room = 1;
    char *all;
    int rc;
    CHECK(s->writing);
    for (size_t i = 0; i < n; i++)
        if (strlen(text[i]) + 1 > room)
            room = strlen(text[i]) + 1;
    all = mem_new(n ? n : 1, room);
    for (size_t i = 0; i < n; i++)
        memcpy(all + i * room, text[i], strlen(text[i]));
    shape.type = U8;
    rc = write_values(s, path, shape, room, room, all, e);
    free(all);
    return rc;
}

int store_put_text(store *s, const char *path, const char *text, err *e)
{
    return put_texts(s, path, (store_shape){.n = 0}, &text, e);
}

int store_put_texts(store *s, const char *path, const char *const text[], int64_t n, err *e)
{
    return put_texts(s, path, (store_shape){.n = 1, .d = {n}}, text, e);
}

int store_keep(store *s, const char *path, err *e)
{
    h5_object o;
    uint64_t at;
    store_node *n;
    CHECK(s->writing && s->h5.map.n > 0);
    TRY(store_object(s, path, &o, &at, e));
    n = o.is_dataset ? walk(s, path, true) : NULL;
    if (!n) {
        h5_object_free(&o);
        return store_damage(s, path, "is no dataset that can be kept", e);
    }
    n->o = o;
    n->at = at;
    n->kept = true;
    return 0;
}

/* ---- attributes ---- */

static int attr_at(store *s, const char *path, const char *name, h5_kind kind, const void *value, size_t bytes, err *e)
{
    store_node *n = walk(s, path, false);
    CHECK(s->writing);
    if (!n || n->kept)
        return store_damage(s, path, "is not there to be given an attribute", e);
    if (h5_find_attr(&n->o, name))
        return store_damage(s, path, "has that attribute already", e);
    store_node_attr(n, name, kind, value, bytes);
    return 0;
}

int store_attr_text(store *s, const char *path, const char *name, const char *value, err *e)
{
    return attr_at(s, path, name, H5_TEXT, value, strlen(value) + 1, e);
}

int store_attr_int(store *s, const char *path, const char *name, int64_t value, err *e)
{
    return attr_at(s, path, name, H5_INT, &value, sizeof value, e);
}

int store_attr_real(store *s, const char *path, const char *name, double value, err *e)
{
    return attr_at(s, path, name, H5_REAL, &value, sizeof value, e);
}

/* ---- headers ---- */

/* Children first, so that a group knows their digests and places. */
static void put_headers(h5_out *out, store_node *n)
{
    char hex[HASH_HEX];
    if (n->kept)
        return;
    for (size_t i = 0; i < n->n; i++)
        put_headers(out, n->child[i]);
    if (!n->o.is_dataset) {
        n->o.link = NEW_N(h5_link, n->n + 1);
        for (; n->o.n_links < n->n; n->o.n_links++) {
            const store_node *child = n->child[n->o.n_links];
            n->o.link[n->o.n_links] = (h5_link){mem_text(child->name), child->at};
        }
        store_node_digest(n, hex);
        store_node_attr(n, STORE_DIGEST, H5_TEXT, hex, sizeof hex);
    }
    n->at = h5_put_object(out, &n->o, n->chunk, n->chunks);
}

int store_write_headers(store *s, err *e)
{
    h5_out out = {.base = s->end};
    int rc;
    put_headers(&out, s->tree);
    rc = store_append(s, "/", out.at, out.n, e);
    free(out.at);
    return rc == 0 ? store_flush(s, "/", e) : rc;
}
