/* Superblock 3, object headers 2 with everything in them, chunks by themselves or in a fixed array; attributes too long for a
 * header in a fractal heap that holds nothing but large objects. Fields are in the order of the specification. */
#include "data/h5_write.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

enum { MSG_SPACE = 1, MSG_LINK_INFO = 2, MSG_TYPE = 3, MSG_FILL = 5, MSG_LINK = 6, MSG_LAYOUT = 8, MSG_GROUP_INFO = 10 };
enum { MSG_FILTERS = 11, MSG_ATTR = 12, MSG_ATTR_INFO = 21, MSG_MOST = 65535 };

/* ---- bytes ---- */

static unsigned char *room_for(h5_out *o, size_t n)
{
    if (o->n + n > o->room) {
        o->room = 2 * (o->n + n);
        o->at = mem_grow(o->at, o->room, 1);
    }
    o->n += n;
    return o->at + o->n - n;
}

static void put(h5_out *o, uint64_t v, int bytes)
{
    unsigned char *to = room_for(o, (size_t)bytes);
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(i < 8 ? v >> 8 * i : 0);
}

static void put_bytes(h5_out *o, const void *from, size_t n)
{
    if (n > 0)
        memcpy(room_for(o, n), from, n);
}

static void put_zeroes(h5_out *o, size_t n)
{
    memset(room_for(o, n), 0, n);
}

static uint64_t here(const h5_out *o)
{
    return o->base + o->n;
}

/* floor(log2(v)), v > 0 */
static int log2_of(uint64_t v)
{
    return 63 - __builtin_clzll(v);
}

/* ---- checksums ---- */

static uint32_t word(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t turn(uint32_t x, int k)
{
    return x << k | x >> (32 - k);
}

/* Bob Jenkins' lookup3 of bytes, from zero: the checksum of HDF5's metadata and the hash of its names. */
static uint32_t lookup3(const unsigned char *at, size_t n)
{
    static const int mix[6] = {4, 6, 8, 16, 19, 4}, last[7] = {14, 11, 25, 16, 4, 14, 24};
    uint32_t v[3];
    unsigned char tail[12] = {0};
    v[0] = v[1] = v[2] = 0xdeadbeefU + (uint32_t)n;
    for (; n > 12; n -= 12, at += 12) {
        for (int i = 0; i < 3; i++)
            v[i] += word(at + 4 * i);
        for (int i = 0; i < 6; i++) {
            uint32_t *a = &v[i % 3], *b = &v[(i + 1) % 3], *c = &v[(i + 2) % 3];
            *a = (*a - *c) ^ turn(*c, mix[i]);
            *c += *b;
        }
    }
    if (n == 0)
        return v[2];
    memcpy(tail, at, n);
    for (int i = 0; i < 3; i++)
        v[i] += word(tail + 4 * i);
    for (int i = 0; i < 7; i++) {
        uint32_t *c = &v[(i + 2) % 3], *b = &v[(i + 1) % 3];
        *c = (*c ^ *b) - turn(*b, last[i]);
    }
    return v[2];
}

/* Over everything from `from` on. */
static void put_checksum(h5_out *o, size_t from)
{
    put(o, lookup3(o->at + from, o->n - from), 4);
}

/* Over big-endian 16-bit words, sums modulo 65535 where only 0 itself is 0. A word with its bytes turned is 256 times the word
 * modulo 65535, so the words are taken as this machine reads them. Both sums of a chunk fit 64 bits. */
static uint32_t folded(uint64_t sum)
{
    return sum == 0 ? 0 : (uint32_t)((sum % 65535 * 256 + 65534) % 65535 + 1);
}

static uint32_t fletcher32(const unsigned char *at, size_t bytes)
{
    enum { BLOCK = 256 };
    uint64_t one = 0, two = 0;
    size_t words = bytes / 2, i = 0;
    uint16_t w[BLOCK];
    for (; i + BLOCK <= words; i += BLOCK) {
        uint32_t plain = 0, weighed = 0; /* at most 256 * 257 / 2 * 65535 < 2^32 */
        memcpy(w, at + 2 * i, sizeof w);
        for (uint32_t k = 0; k < BLOCK; k++) {
            plain += w[k];
            weighed += (BLOCK - k) * w[k];
        }
        two += BLOCK * one + weighed;
        one += plain;
    }
    for (; i < words; i++) {
        memcpy(w, at + 2 * i, 2);
        one += w[0];
        two += one;
    }
    if (bytes % 2 != 0) { /* the last byte is the high one of its word; turned, the low one */
        one += at[bytes - 1];
        two += one;
    }
    return folded(two) << 16 | folded(one);
}

void h5_put_chunk_check(unsigned char to[H5_CHECK_BYTES], const unsigned char *at, size_t bytes)
{
    uint32_t v = fletcher32(at, bytes);
    for (int i = 0; i < H5_CHECK_BYTES; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

/* ---- the file ---- */

void h5_put_superblock(unsigned char to[H5_SUPERBLOCK], uint64_t root, uint64_t end)
{
    h5_out o = {0};
    put_bytes(&o, "\x89HDF\r\n\x1a\n\x03\x08\x08\x00", 12); /* version 3, offsets and lengths of 8 bytes */
    put(&o, 0, 8);
    put(&o, H5_NOWHERE, 8);
    put(&o, end, 8);
    put(&o, root, 8);
    put_checksum(&o, 0);
    memcpy(to, o.at, H5_SUPERBLOCK);
    free(o.at);
}

/* ---- messages: each is made by itself, for its length stands before it ---- */

typedef struct {
    dtype type;
    unsigned char sign_at, exponent_at, exponent, mantissa;
    uint32_t bias;
} float_bits;
static const float_bits floats[] = {{F32, 31, 23, 8, 23, 127}, {F64, 63, 52, 11, 52, 1023}, {F16, 15, 10, 5, 10, 15},
                                    {BF16, 15, 7, 8, 7, 127}};

static void put_float(h5_out *o, const float_bits *f, size_t size)
{
    put(o, 0x11 | 0x20 << 8 | (uint64_t)f->sign_at << 16, 4); /* little-endian; the leading one goes without saying */
    put(o, size, 4);
    put(o, 0, 2);
    put(o, 8 * size, 2);
    put(o, f->exponent_at, 1);
    put(o, f->exponent, 1);
    put(o, 0, 1);
    put(o, f->mantissa, 1);
    put(o, f->bias, 4);
}

static void put_type(h5_out *o, dtype type, size_t size, size_t text)
{
    enum { INT = 0x10, TEXT = 0x13, UTF8 = 0x10, SIGNED = 8 };
    if (text > 0) { /* ended by a zero */
        put(o, TEXT | UTF8 << 8, 4);
        put(o, text, 4);
        return;
    }
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (floats[i].type == type) {
            put_float(o, &floats[i], size);
            return;
        }
    put(o, (uint64_t)(INT | (type == U8 ? 0 : SIGNED) << 8), 4);
    put(o, size, 4);
    put(o, 0, 2);
    put(o, 8 * size, 2);
}

static void put_space(h5_out *o, const store_shape *s)
{
    put(o, 2, 1);
    put(o, (uint64_t)s->n, 1);
    put(o, 0, 1);
    put(o, s->n > 0, 1);
    for (int i = 0; i < s->n; i++)
        put(o, (uint64_t)s->d[i], 8);
}

static void put_attr(h5_out *o, const h5_attr *a)
{
    static const store_shape scalar = {0};
    h5_out type = {0}, space = {0};
    size_t name = strlen(a->name) + 1;
    put_type(&type, a->kind == H5_INT ? I64 : F64, a->bytes, a->kind == H5_TEXT ? a->bytes : 0);
    put_space(&space, &scalar);
    put(o, 3, 2); /* version, no flags */
    put(o, name, 2);
    put(o, type.n, 2);
    put(o, space.n, 2);
    put(o, 1, 1); /* the name in UTF-8 */
    put_bytes(o, a->name, name);
    put_bytes(o, type.at, type.n);
    put_bytes(o, space.at, space.n);
    put_bytes(o, a->value, a->bytes);
    free(type.at);
    free(space.at);
}

static void put_link(h5_out *o, const h5_link *l)
{
    size_t n = strlen(l->name);
    put(o, 1, 1);
    put(o, 0x11, 1); /* the length in 2 bytes, UTF-8 */
    put(o, 1, 1);
    put(o, n, 2);
    put_bytes(o, l->name, n);
    put(o, l->address, 8);
}

static void put_message(h5_out *o, int kind, h5_out *m)
{
    put(o, (uint64_t)kind, 1);
    put(o, m->n, 2);
    put(o, 0, 1);
    put_bytes(o, m->at, m->n);
    m->n = 0;
}

/* ---- attributes that do not fit a header ---- */

/* A B-tree (version 2) of one leaf: records [n] of `size` bytes. */
static uint64_t put_tree(h5_out *o, int kind, const unsigned char *records, size_t size, size_t n)
{
    enum { LEAST = 512 };
    size_t bytes = 10 + n * size, node = bytes > LEAST ? bytes : LEAST, from = o->n;
    uint64_t leaf = here(o), head;
    put_bytes(o, "BTLF", 4);
    put(o, (uint64_t)kind << 8, 2);
    put_bytes(o, records, n * size);
    put_checksum(o, from);
    put_zeroes(o, node - bytes);
    from = o->n;
    head = here(o);
    put_bytes(o, "BTHD", 4);
    put(o, (uint64_t)kind << 8, 2);
    put(o, node, 4);
    put(o, size, 2);
    put(o, 0, 2);
    put(o, 100 | 40 << 8, 2); /* when nodes would be split and joined */
    put(o, leaf, 8);
    put(o, n, 2);
    put(o, n, 8);
    put_checksum(o, from);
    return head;
}

/* A heap without blocks, whose objects stand by themselves and are listed in a tree. */
static uint64_t put_heap(h5_out *o, uint64_t huge, size_t n, uint64_t bytes)
{
    size_t from = o->n;
    uint64_t head = here(o);
    put_bytes(o, "FRHP", 4);
    put(o, 0, 1);
    put(o, 8, 2); /* of an id */
    put(o, 0, 3);
    put(o, 4096, 4);
    put(o, n + 1, 8);
    put(o, huge, 8);
    put(o, 0, 8);
    put(o, H5_NOWHERE, 8);
    put(o, 0, 32); /* managed bytes: all, allocated, where the next would go; managed objects */
    put(o, bytes, 8);
    put(o, n, 8);
    put(o, 0, 16);
    put(o, 4, 2);
    put(o, 1024, 8);
    put(o, 65536, 8);
    put(o, 40, 2);
    put(o, 1, 2);
    put(o, H5_NOWHERE, 8);
    put(o, 0, 2);
    put_checksum(o, from);
    return head;
}

typedef struct {
    uint32_t hash;
    uint64_t id;
} by_hash;

static int compare_hash(const void *a, const void *b)
{
    const by_hash *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static void put_dense(h5_out *o, h5_out *message, const h5_object *of)
{
    enum { HUGE_INDEX = 1, NAME_INDEX = 8, HUGE_RECORD = 24, NAME_RECORD = 17, HUGE_ID = 0x10 };
    h5_out huge = {0}, names = {0};
    by_hash *order = NEW_N(by_hash, of->n_attrs);
    uint64_t bytes = 0, heap, index;
    for (size_t i = 0; i < of->n_attrs; i++) {
        uint64_t at = here(o), n;
        put_attr(o, &of->attr[i]);
        n = here(o) - at;
        put(&huge, at, 8);
        put(&huge, n, 8);
        put(&huge, i + 1, 8);
        bytes += n;
        order[i] = (by_hash){lookup3((const unsigned char *)of->attr[i].name, strlen(of->attr[i].name)), i + 1};
    }
    qsort(order, of->n_attrs, sizeof *order, compare_hash);
    for (size_t i = 0; i < of->n_attrs; i++) {
        put(&names, HUGE_ID | order[i].id << 8, 8);
        put(&names, 0, 1);
        put(&names, order[i].id - 1, 4);
        put(&names, order[i].hash, 4);
    }
    heap = put_heap(o, put_tree(o, HUGE_INDEX, huge.at, HUGE_RECORD, of->n_attrs), of->n_attrs, bytes);
    index = put_tree(o, NAME_INDEX, names.at, NAME_RECORD, of->n_attrs);
    put(message, 0, 2);
    put(message, heap, 8);
    put(message, index, 8);
    free(huge.at);
    free(names.at);
    free(order);
}

static void put_attrs(h5_out *o, h5_out *messages, const h5_object *of)
{
    h5_out m = {0};
    bool fit = true;
    for (size_t i = 0; i < of->n_attrs; i++)
        fit = fit && of->attr[i].bytes + strlen(of->attr[i].name) + 64 <= MSG_MOST;
    if (!fit) {
        put_dense(o, &m, of);
        put_message(messages, MSG_ATTR_INFO, &m);
    }
    for (size_t i = 0; fit && i < of->n_attrs; i++) {
        put_attr(&m, &of->attr[i]);
        put_message(messages, MSG_ATTR, &m);
    }
    free(m.at);
}

/* ---- where values stand ---- */

/* Of a fixed array: the list of chunks, and the header that leads to it. */
static uint64_t put_array(h5_out *o, const uint64_t *chunk, uint64_t n, uint64_t bytes, int page_bits)
{
    enum { HEAD = 28 };
    int size = 1 + (log2_of(bytes) + 8) / 8, entry = 8 + size + 4;
    uint64_t head = here(o);
    size_t from = o->n;
    put_bytes(o, "FAHD", 4);
    put(o, 0, 1);
    put(o, 1, 1); /* with a filter */
    put(o, (uint64_t)entry, 1);
    put(o, (uint64_t)page_bits, 1);
    put(o, n, 8);
    put(o, head + HEAD, 8);
    put_checksum(o, from);
    from = o->n;
    put_bytes(o, "FADB", 4);
    put(o, 1 << 8, 2);
    put(o, head, 8);
    for (uint64_t i = 0; i < n; i++) {
        put(o, chunk[i], 8);
        put(o, bytes + H5_CHECK_BYTES, size);
        put(o, 0, 4);
    }
    put_checksum(o, from);
    return head;
}

static void put_chunked(h5_out *o, h5_out *m, const h5_object *of, const uint64_t *chunk, uint64_t n)
{
    enum { CHUNKED = 2, DIM = 4, ALONE = 1, ARRAY = 3, CHECKED_ALONE = 2, PAGE_LEAST = 10 };
    const h5_layout *l = &of->layout;
    uint64_t bytes = of->size;
    int page_bits = n > 1U << PAGE_LEAST ? log2_of(n) + 1 : PAGE_LEAST; /* never more than one page */
    put(m, 4, 1);
    put(m, CHUNKED, 1);
    put(m, n == 1 ? CHECKED_ALONE : 0, 1);
    put(m, (uint64_t)l->n + 1, 1);
    put(m, DIM, 1);
    for (int i = 0; i < l->n; i++) {
        put(m, l->chunk[i], DIM);
        bytes *= l->chunk[i];
    }
    put(m, of->size, DIM);
    put(m, n == 1 ? ALONE : ARRAY, 1);
    if (n == 1) {
        put(m, bytes + H5_CHECK_BYTES, 8);
        put(m, 0, 4);
        put(m, chunk[0], 8);
    } else {
        put(m, (uint64_t)page_bits, 1);
        put(m, put_array(o, chunk, n, bytes, page_bits), 8);
    }
}

static void put_values(h5_out *o, h5_out *messages, const h5_object *of, const uint64_t *chunk, uint64_t n)
{
    enum { FILL_VERSION = 3, LATE = 0x0a, BY_AND_BY = 0x0b, FLETCHER32 = 3 };
    bool chunked = of->layout.kind == H5_CHUNKED;
    h5_out m = {0};
    put_space(&m, &of->shape);
    put_message(messages, MSG_SPACE, &m);
    put_type(&m, of->shape.type, of->size, of->text);
    put_message(messages, MSG_TYPE, &m);
    put(&m, FILL_VERSION, 1);
    put(&m, chunked ? BY_AND_BY : LATE, 1);
    put_message(messages, MSG_FILL, &m);
    if (chunked) {
        put_chunked(o, &m, of, chunk, n);
        put_message(messages, MSG_LAYOUT, &m);
        put(&m, 2 | 1 << 8, 2); /* version; one filter */
        put(&m, FLETCHER32, 6); /* mandatory, without numbers of its own */
        put_message(messages, MSG_FILTERS, &m);
    } else {
        put(&m, 4 | H5_CONTIGUOUS << 8, 2);
        put(&m, of->layout.address, 8);
        put(&m, of->layout.bytes, 8);
        put_message(messages, MSG_LAYOUT, &m);
    }
    free(m.at);
}

/* ---- objects ---- */

static void put_links(h5_out *messages, const h5_object *of)
{
    h5_out m = {0};
    put(&m, 0, 2);
    put(&m, H5_NOWHERE, 8);
    put(&m, H5_NOWHERE, 8);
    put_message(messages, MSG_LINK_INFO, &m);
    put(&m, 0, 2);
    put_message(messages, MSG_GROUP_INFO, &m);
    for (size_t i = 0; i < of->n_links; i++) {
        put_link(&m, &of->link[i]);
        put_message(messages, MSG_LINK, &m);
    }
    free(m.at);
}

uint64_t h5_put_object(h5_out *out, const h5_object *o, const uint64_t *chunk, uint64_t n)
{
    h5_out messages = {0};
    uint64_t at;
    size_t from;
    if (o->is_dataset)
        put_values(out, &messages, o, chunk, n);
    else
        put_links(&messages, o);
    put_attrs(out, &messages, o);
    at = here(out);
    from = out->n;
    put_bytes(out, "OHDR", 4);
    put(out, 2 | 2 << 8, 2); /* version; the length that follows has 4 bytes */
    put(out, messages.n, 4);
    put_bytes(out, messages.at, messages.n);
    put_checksum(out, from);
    free(messages.at);
    return at;
}
