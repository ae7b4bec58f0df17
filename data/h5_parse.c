/* Objects of an HDF5 file: the header with its messages, and what they say of links, attributes and a dataset. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/h5_impl.h"

enum { SUPERBLOCK = 48, SUPERBLOCK_VERSION = 3, HEADER_VERSION = 2, FLETCHER32 = 3, NAME_MOST = 512 };
enum { MSG_SPACE = 1, MSG_LINK_INFO = 2, MSG_TYPE = 3, MSG_LINK = 6, MSG_EXTERNAL = 7, MSG_LAYOUT = 8, MSG_FILTERS = 11 };
enum { MSG_ATTR = 12, MSG_MORE = 16, MSG_SYMBOLS = 17, MSG_ATTR_INFO = 21 };

/* ---- bytes ---- */

h5_bytes h5_span(const h5_file *f, uint64_t address, uint64_t n)
{
    if (address > f->map.n || n > f->map.n - address)
        return (h5_bytes){.bad = true};
    return (h5_bytes){f->map.at + address, f->map.at + address + n, false};
}

const unsigned char *h5_skip(h5_bytes *b, uint64_t n)
{
    const unsigned char *from = b->at;
    if (b->bad || n > (uint64_t)(b->end - b->at)) {
        b->bad = true;
        return NULL;
    }
    b->at += n;
    return from;
}

uint64_t h5_get(h5_bytes *b, int bytes)
{
    const unsigned char *from = h5_skip(b, (uint64_t)bytes);
    uint64_t v = 0;
    for (int i = bytes; from && i-- > 0;)
        v = v << 8 | from[i];
    return v;
}

bool h5_starts(h5_bytes *b, const char *mark, int version)
{
    const unsigned char *from = h5_skip(b, 4);
    return from && memcmp(from, mark, 4) == 0 && h5_get(b, 1) == (uint64_t)version && !b->bad;
}

int h5_bytes_of(uint64_t most)
{
    int bits = 0;
    while (bits < 63 && most >> (bits + 1) != 0)
        bits++;
    return bits / 8 + 1;
}

/* ---- the file ---- */

static const char *read_superblock(h5_file *f)
{
    h5_bytes b = h5_span(f, 0, SUPERBLOCK);
    const unsigned char *mark = h5_skip(&b, 8);
    uint64_t version = h5_get(&b, 1);
    if (!mark || memcmp(mark, "\x89HDF\r\n\x1a\n", 8) != 0)
        return "not an HDF5 file";
    if (version < 2 || version > SUPERBLOCK_VERSION)
        return "an HDF5 file, but of a version this program never writes";
    if (h5_get(&b, 1) != 8 || h5_get(&b, 1) != 8)
        return "an HDF5 file whose offsets are not of 8 bytes";
    h5_skip(&b, 1);
    if (h5_get(&b, 8) != 0)
        return "an HDF5 file that does not begin at its beginning";
    h5_skip(&b, 8);
    f->end = h5_get(&b, 8);
    if (f->end > f->map.n)
        return "cut short";
    f->root = h5_get(&b, 8);
    return NULL;
}

int h5_open(h5_file *out, const char *path, err *e)
{
    const char *wrong;
    *out = (h5_file){0};
    TRY(fs_map_open(&out->map, path, e));
    wrong = read_superblock(out);
    if (!wrong)
        return 0;
    h5_close(out);
    return err_set(e, ERR_INPUT, "%s: %s", path, wrong);
}

void h5_close(h5_file *f)
{
    fs_map_close(&f->map);
}

/* ---- types and shapes ---- */

/* A float is known by where its exponent and mantissa lie. */
static const struct {
    dtype type;
    unsigned char size, exponent_at, exponent, mantissa;
    uint32_t bias;
} floats[] = {{F32, 4, 23, 8, 23, 127}, {F64, 8, 52, 11, 52, 1023}, {F16, 2, 10, 5, 10, 15}, {BF16, 2, 7, 8, 7, 127}};

static bool read_float(h5_bytes b, uint64_t bits, size_t size, dtype *out)
{
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        h5_bytes c = b;
        if (size == floats[i].size && (bits & 0xff) == 0x20 && (bits >> 8 & 0xff) == 8 * size - 1 && h5_get(&c, 2) == 0 &&
            h5_get(&c, 2) == 8 * size && h5_get(&c, 1) == floats[i].exponent_at && h5_get(&c, 1) == floats[i].exponent &&
            h5_get(&c, 1) == 0 && h5_get(&c, 1) == floats[i].mantissa && h5_get(&c, 4) == floats[i].bias && !c.bad) {
            *out = floats[i].type;
            return true;
        }
    }
    return false;
}

static bool read_int(h5_bytes b, uint64_t bits, size_t size, dtype *out)
{
    bool is_signed = (bits & 8) != 0;
    *out = size == 1 ? U8 : size == 4 ? I32 : I64;
    return (bits & ~8ULL) == 0 && is_signed == (size != 1) && (size == 1 || size == 4 || size == 8) &&
           h5_get(&b, 2) == 0 && h5_get(&b, 2) == 8 * size && !b.bad;
}

/* *text: bytes of a text of fixed length, 0 for numbers. */
static const char *read_type(h5_bytes b, dtype *type, size_t *size, size_t *text)
{
    enum { CLASS_INT = 0, CLASS_FLOAT = 1, CLASS_TEXT = 3 };
    uint64_t kind = h5_get(&b, 1) & 15, bits = h5_get(&b, 3);
    *size = h5_get(&b, 4);
    *text = 0;
    *type = U8;
    if (b.bad || *size == 0)
        return "has no readable type";
    if (kind == CLASS_TEXT)
        *text = *size;
    if (kind == CLASS_TEXT || (kind == CLASS_FLOAT && read_float(b, bits, *size, type)) ||
        (kind == CLASS_INT && read_int(b, bits, *size, type)))
        return NULL;
    return "has an element type this program never writes";
}

static const char *read_space(h5_bytes b, store_shape *shape)
{
    enum { SPACE_VERSION = 2, SPACE_NULL = 2 };
    uint64_t version = h5_get(&b, 1), n = h5_get(&b, 1), kind;
    h5_get(&b, 1);
    kind = h5_get(&b, 1);
    if (b.bad || version != SPACE_VERSION || n > STORE_DIMS || kind >= SPACE_NULL || (kind == 0) != (n == 0))
        return "has dimensions this program never writes";
    shape->n = (int)n;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t d = h5_get(&b, 8);
        if (d > INT64_MAX)
            return "claims to be larger than its file";
        shape->d[i] = (int64_t)d;
    }
    return b.bad ? "has dimensions this program never writes" : NULL;
}

/* ---- links and attributes ---- */

/* A name of n bytes; NULL: too long, or with a zero in it. */
static char *name_of(h5_bytes *b, uint64_t n)
{
    const unsigned char *from = h5_skip(b, n);
    char *name;
    if (!from || n == 0 || n >= NAME_MOST || memchr(from, 0, n))
        return NULL;
    name = mem_new(n + 1, 1);
    memcpy(name, from, n);
    return name;
}

static const char *add_link(void *arg, const h5_file *f, h5_bytes b)
{
    h5_object *o = arg;
    uint64_t version = h5_get(&b, 1), flags = h5_get(&b, 1), kind = flags & 8 ? h5_get(&b, 1) : 0;
    h5_link link;
    (void)f;
    h5_skip(&b, (flags & 4 ? 8 : 0) + (flags & 16 ? 1 : 0));
    if (version != 1)
        return "holds a link of a version this program never writes";
    if (kind != 0)
        return "holds a link to elsewhere; this program writes none";
    link.name = name_of(&b, h5_get(&b, 1 << (flags & 3)));
    link.address = h5_get(&b, 8);
    if (!link.name || b.bad || strchr(link.name, '/')) {
        free(link.name);
        return "a child's name is too long, or damaged";
    }
    o->link = mem_grow(o->link, o->n_links + 1, sizeof *o->link);
    o->link[o->n_links++] = link;
    return NULL;
}

/* Only what this program writes: one text of fixed length, i64 or f64. */
static const char *read_attr(h5_attr *a, h5_bytes type, h5_bytes space, h5_bytes *values)
{
    size_t size, text;
    dtype t;
    store_shape shape;
    const char *wrong = read_type(type, &t, &size, &text);
    if (!wrong)
        wrong = read_space(space, &shape);
    if (wrong || shape.n != 0 || (!text && t != I64 && t != F64))
        return "an attribute is of a kind this program never writes";
    a->kind = text ? H5_TEXT : t == I64 ? H5_INT : H5_REAL;
    a->bytes = size;
    a->value = h5_skip(values, size);
    return a->value ? NULL : "an attribute is cut short";
}

static h5_bytes part(h5_bytes *b, uint64_t n)
{
    const unsigned char *from = h5_skip(b, n);
    return from ? (h5_bytes){from, from + n, false} : (h5_bytes){.bad = true};
}

static const char *add_attr(void *arg, const h5_file *f, h5_bytes b)
{
    h5_object *o = arg;
    uint64_t version = h5_get(&b, 1), flags = h5_get(&b, 1), name = h5_get(&b, 2), type = h5_get(&b, 2),
             space = h5_get(&b, 2);
    h5_bytes type_at, space_at;
    h5_attr a = {0};
    const char *wrong;
    (void)f;
    h5_get(&b, 1);
    if (b.bad || version != 3 || flags != 0 || name < 2)
        return "an attribute is of a kind this program never writes";
    a.name = name_of(&b, name - 1);
    h5_skip(&b, 1);
    type_at = part(&b, type);
    space_at = part(&b, space);
    wrong = a.name ? read_attr(&a, type_at, space_at, &b) : "an attribute's name is damaged";
    if (wrong) {
        free(a.name);
        return wrong;
    }
    o->attr = mem_grow(o->attr, o->n_attrs + 1, sizeof *o->attr);
    o->attr[o->n_attrs++] = a;
    return NULL;
}

/* Where links or attributes stand that are too many for the header. orders: bytes of the largest creation index. */
static const char *read_dense(h5_object *o, const h5_file *f, h5_bytes b, int orders, h5_each *each)
{
    uint64_t version = h5_get(&b, 1), flags = h5_get(&b, 1), heap, index;
    h5_skip(&b, flags & 1 ? (uint64_t)orders : 0);
    heap = h5_get(&b, 8);
    index = h5_get(&b, 8);
    if (b.bad || version != 0)
        return "its list of contents is damaged";
    return heap == H5_NOWHERE ? NULL : h5_each_dense(f, heap, index, each, o);
}

/* ---- how values lie ---- */

static const char *read_chunked(h5_layout *l, h5_bytes *b)
{
    enum { BY_ITSELF = 1, FIXED_ARRAY = 3, FILTERED = 2 };
    uint64_t flags = h5_get(b, 1), n = h5_get(b, 1), bytes = h5_get(b, 1), index;
    if (b->bad || n < 2 || n > STORE_DIMS + 1 || bytes < 1 || bytes > 8)
        return "is stored in a way this program never uses";
    l->n = (int)n - 1;
    for (int i = 0; i < l->n; i++)
        l->chunk[i] = h5_get(b, (int)bytes);
    h5_skip(b, bytes); /* of an element */
    index = h5_get(b, 1);
    l->single = index == BY_ITSELF;
    if (flags & ~(uint64_t)FILTERED || (index != BY_ITSELF && index != FIXED_ARRAY))
        return "is stored in a way this program never uses";
    if (l->single && flags & FILTERED) {
        l->stored = h5_get(b, 8);
        if (h5_get(b, 4) != 0)
            return "is stored in a way this program never uses";
    }
    if (!l->single)
        h5_skip(b, 1);
    return NULL;
}

static const char *read_layout(h5_layout *l, h5_bytes b)
{
    uint64_t version = h5_get(&b, 1), kind = h5_get(&b, 1);
    const char *wrong = NULL;
    if (b.bad || version < 3 || version > 4 || (kind == H5_CHUNKED && version != 4) || kind > H5_CHUNKED || l->kind)
        return "is stored in a way this program never uses";
    l->kind = kind == H5_CHUNKED ? H5_CHUNKED : H5_CONTIGUOUS;
    if (kind == H5_CHUNKED)
        wrong = read_chunked(l, &b);
    if (kind == 0) { /* compact: in the header itself */
        l->bytes = h5_get(&b, 2);
        l->inside = h5_skip(&b, l->bytes);
    } else {
        l->address = h5_get(&b, 8);
    }
    if (kind == H5_CONTIGUOUS)
        l->bytes = h5_get(&b, 8);
    return wrong ? wrong : b.bad ? "is stored in a way this program never uses" : NULL;
}

static const char *read_filters(h5_object *o, h5_bytes b)
{
    uint64_t version = h5_get(&b, 1), n = h5_get(&b, 1), id = h5_get(&b, 2);
    o->checked = true;
    return !b.bad && version == 2 && n == 1 && id == FLETCHER32 ? NULL : "is stored in a way this program never uses";
}

/* ---- messages ---- */

static const char *read_message(h5_object *o, const h5_file *f, uint64_t kind, uint64_t flags, h5_bytes b)
{
    enum { SHARED = 2 };
    bool known = kind == MSG_SPACE || kind == MSG_TYPE || kind == MSG_LINK || kind == MSG_ATTR || kind == MSG_FILTERS;
    if (known && flags & SHARED)
        return "is made in a way this program never uses";
    switch (kind) {
    case MSG_SPACE: o->has_space = true; return read_space(b, &o->shape);
    case MSG_TYPE: o->has_type = true; return read_type(b, &o->shape.type, &o->size, &o->text);
    case MSG_LAYOUT: o->is_dataset = true; return read_layout(&o->layout, b);
    case MSG_FILTERS: return read_filters(o, b);
    case MSG_LINK: return add_link(o, f, b);
    case MSG_ATTR: return add_attr(o, f, b);
    case MSG_LINK_INFO: return read_dense(o, f, b, 8, add_link);
    case MSG_ATTR_INFO: return read_dense(o, f, b, 2, add_attr);
    case MSG_EXTERNAL:
    case MSG_SYMBOLS: return "is made in a way this program never uses";
    default: return NULL; /* times, fill values, hints */
    }
}

/* Pieces of a header that are still to be read. Together they are no larger than the file. */
typedef struct {
    h5_bytes *at;
    size_t n;
    uint64_t room;
} pieces;

static const char *add_piece(pieces *p, const h5_file *f, h5_bytes b)
{
    uint64_t address = h5_get(&b, 8), n = h5_get(&b, 8);
    h5_bytes piece = h5_span(f, address, n);
    const unsigned char *mark = h5_skip(&piece, 4);
    if (b.bad || !mark || memcmp(mark, "OCHK", 4) != 0 || n < 8 || n > p->room)
        return "its header is damaged";
    p->room -= n;
    piece.end -= 4;
    p->at = mem_grow(p->at, p->n + 1, sizeof *p->at);
    p->at[p->n++] = piece;
    return NULL;
}

static const char *read_piece(h5_object *o, pieces *p, const h5_file *f, h5_bytes b, bool ordered)
{
    const char *wrong = NULL;
    while (!wrong && b.end - b.at >= (ordered ? 6 : 4)) {
        uint64_t kind = h5_get(&b, 1), n = h5_get(&b, 2), flags = h5_get(&b, 1);
        h5_bytes message;
        h5_skip(&b, ordered ? 2 : 0);
        message = part(&b, n);
        if (message.bad)
            return "its header is damaged";
        wrong = kind == MSG_MORE ? add_piece(p, f, message) : read_message(o, f, kind, flags, message);
    }
    return wrong;
}

static const char *read_header(h5_object *o, const h5_file *f, uint64_t address)
{
    h5_bytes b = h5_span(f, address, 0);
    pieces p = {.room = f->map.n};
    uint64_t flags, n;
    const char *wrong;
    b.end = f->map.at + f->map.n;
    if (b.bad || !h5_starts(&b, "OHDR", HEADER_VERSION))
        return "is not in the file, or its header is damaged";
    flags = h5_get(&b, 1);
    h5_skip(&b, (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0));
    n = h5_get(&b, 1 << (flags & 3));
    b = part(&b, n);
    if (b.bad)
        return "its header is damaged";
    wrong = read_piece(o, &p, f, b, flags & 4);
    for (size_t i = 0; !wrong && i < p.n; i++)
        wrong = read_piece(o, &p, f, p.at[i], flags & 4);
    free(p.at);
    return wrong;
}

/* ---- the whole object ---- */

static const char *measure(h5_object *o, const h5_file *f)
{
    if (!o->has_type || !o->has_space)
        return "is neither a group nor a dataset";
    o->bytes = o->size;
    for (int i = 0; i < o->shape.n; i++) {
        uint64_t d = (uint64_t)o->shape.d[i];
        if (d > f->map.n || (d > 0 && o->bytes > f->map.n / d)) /* nothing is compressed */
            return "claims to be larger than its file";
        o->bytes *= d;
    }
    if (o->bytes > f->map.n)
        return "claims to be larger than its file";
    return NULL;
}

static int by_attr(const void *a, const void *b)
{
    return strcmp(((const h5_attr *)a)->name, ((const h5_attr *)b)->name);
}

static int by_link(const void *a, const void *b)
{
    return strcmp(((const h5_link *)a)->name, ((const h5_link *)b)->name);
}

static const char *sort(h5_object *o)
{
    if (o->n_attrs)
        qsort(o->attr, o->n_attrs, sizeof *o->attr, by_attr);
    if (o->n_links)
        qsort(o->link, o->n_links, sizeof *o->link, by_link);
    for (size_t i = 1; i < o->n_attrs; i++)
        if (by_attr(&o->attr[i - 1], &o->attr[i]) == 0)
            return "has an attribute twice";
    for (size_t i = 1; i < o->n_links; i++)
        if (by_link(&o->link[i - 1], &o->link[i]) == 0)
            return "has a child twice";
    return NULL;
}

const char *h5_read_object(h5_object *out, const h5_file *f, uint64_t address)
{
    const char *wrong;
    *out = (h5_object){.layout.address = H5_NOWHERE};
    wrong = read_header(out, f, address);
    if (!wrong)
        wrong = sort(out);
    if (!wrong && out->is_dataset)
        wrong = measure(out, f);
    if (wrong)
        h5_object_free(out);
    return wrong;
}

void h5_object_free(h5_object *o)
{
    for (size_t i = 0; i < o->n_attrs; i++)
        free(o->attr[i].name);
    for (size_t i = 0; i < o->n_links; i++)
        free(o->link[i].name);
    free(o->attr);
    free(o->link);
    *o = (h5_object){0};
}

const h5_attr *h5_find_attr(const h5_object *o, const char *name)
{
    h5_attr key = {.name = (char *)(uintptr_t)name};
    return o->n_attrs ? bsearch(&key, o->attr, o->n_attrs, sizeof key, by_attr) : NULL;
}

const h5_link *h5_find_link(const h5_object *o, const char *name)
{
    h5_link key = {.name = (char *)(uintptr_t)name};
    return o->n_links ? bsearch(&key, o->link, o->n_links, sizeof key, by_link) : NULL;
}
