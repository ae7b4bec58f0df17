#include "data/tar.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum { BLOCK = 512, EXTRA_MOST = 1 << 20 }; /* a header; a long name or a pax record */

/* Where a header has what. */
enum { NAME = 0, SIZE = 124, CHECKSUM = 148, KIND = 156, MAGIC = 257, PREFIX = 345 };
enum { NAME_BYTES = 100, SIZE_BYTES = 12, CHECKSUM_BYTES = 8, PREFIX_BYTES = 155 };

struct tar {
    char *path;
    fs_map map;
    size_t next;             /* of the next header */
    char long_name[TAR_NAME]; /* for the member that follows; "": none */
    bool has_size;
    uint64_t size;           /* by pax, for the member that follows */
};

/* ---- opening ---- */

static int refuse_compressed(const tar *t, err *e)
{
    static const struct { const char *magic; size_t n; const char *what; } KINDS[] = {
        {"\x1f\x8b", 2, "gzip"}, {"\x28\xb5\x2f\xfd", 4, "zstd"}, {"BZh", 3, "bzip2"}, {"\xfd" "7zXZ", 5, "xz"}};

    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (t->map.n >= KINDS[i].n && memcmp(t->map.at, KINDS[i].magic, KINDS[i].n) == 0)
            return err_set(e, ERR_INPUT,
                           "%s: compressed (%s); pictures are compressed already: unpack it to a plain .tar", t->path,
                           KINDS[i].what);
    return 0;
}

int tar_open(tar **out, const char *path, err *e)
{
    tar *t = NEW(tar);

    t->path = mem_text(path);
    int rc = fs_map_open(&t->map, path, e);
    if (rc == 0)
        rc = refuse_compressed(t, e);
    if (rc != 0)
        tar_close(t);
    else
        *out = t;
    return rc;
}

void tar_close(tar *t)
{
    if (!t)
        return;
    fs_map_close(&t->map);
    free(t->path);
    free(t);
}

const void *tar_at(const tar *t, uint64_t at, uint64_t n)
{
    return n <= t->map.n && at <= t->map.n - n ? t->map.at + at : NULL;
}

/* ---- headers ---- */

static int damaged(const tar *t, const char *what, err *e)
{
    return err_set(e, ERR_INPUT, "%s: offset %zu: %s; the archive is damaged or cut short", t->path, t->next, what);
}

/* Octal with blanks around it, or, with the first bit set, big-endian. */
static bool number(uint64_t *out, const unsigned char *at, int n)
{
    uint64_t v = 0;
    int i = 0;

    if (at[0] & 0x80) {
        for (i = 1; i < n; i++) {
            if (v >> 56)
                return false;
            v = v << 8 | at[i];
        }
        *out = v;
        return (at[0] & 0x7f) == 0;
    }
    while (i < n && at[i] == ' ')
        i++;
    for (; i < n && at[i] >= '0' && at[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(at[i] - '0');
    *out = v;
    return i == n || at[i] == ' ' || at[i] == '\0';
}

/* The sum of all bytes, those of the sum itself counted as blanks. */
static bool checked(const unsigned char *h)
{
    uint64_t want, sum = 0;

    for (int i = 0; i < BLOCK; i++)
        sum += i >= CHECKSUM && i < CHECKSUM + CHECKSUM_BYTES ? ' ' : h[i];
    return number(&want, h + CHECKSUM, CHECKSUM_BYTES) && want == sum;
}

static bool is_zero(const unsigned char *h)
{
    for (int i = 0; i < BLOCK; i++)
        if (h[i] != 0)
            return false;
    return true;
}

static void header_name(char out[TAR_NAME], const unsigned char *h)
{
    size_t n = strnlen((const char *)h + NAME, NAME_BYTES), p = strnlen((const char *)h + PREFIX, PREFIX_BYTES), at = 0;

    if (memcmp(h + MAGIC, "ustar", 5) == 0 && h[MAGIC + 5] == '\0' && p > 0) { /* GNU's own has other things there */
        memcpy(out, h + PREFIX, p);
        out[p] = '/';
        at = p + 1;
    }
    memcpy(out + at, h + NAME, n);
    out[at + n] = '\0';
}

/* ---- what stands before a member and is about it ---- */

static int keep_name(tar *t, const unsigned char *at, size_t n, err *e)
{
    n = strnlen((const char *)at, n);
    if (n >= TAR_NAME)
        return damaged(t, "a name of more than 4095 bytes", e);
    memcpy(t->long_name, at, n);
    t->long_name[n] = '\0';
    return 0;
}

/* "27 path=a/long/name.jpg\n", one after another; the number counts all of it. */
static int read_pax(tar *t, const char *at, size_t n, err *e)
{
    while (n > 0 && *at != '\0') {
        size_t length = 0, head = 0;
        for (; head < n && head < 8 && at[head] >= '0' && at[head] <= '9'; head++)
            length = length * 10 + (size_t)(at[head] - '0');
        if (head == 0 || length <= head + 1 || length > n || at[head] != ' ' || at[length - 1] != '\n')
            return damaged(t, "a pax record that is none", e);
        const char *key = at + head + 1;
        size_t rest = length - head - 2; /* "path=a" */
        if (rest >= 5 && memcmp(key, "path=", 5) == 0)
            TRY(keep_name(t, (const unsigned char *)key + 5, rest - 5, e));
        if (rest >= 5 && memcmp(key, "size=", 5) == 0) {
            t->has_size = true;
            t->size = 0;
            for (size_t i = 5; i < rest && key[i] >= '0' && key[i] <= '9' && t->size < UINT64_MAX / 16; i++)
                t->size = t->size * 10 + (uint64_t)(key[i] - '0');
        }
        at += length;
        n -= length;
    }
    return 0;
}

static int read_extra(tar *t, char kind, const unsigned char *at, size_t n, err *e)
{
    if (n > EXTRA_MOST)
        return damaged(t, "a name or a record of more than 1 MiB", e);
    return kind == 'L' ? keep_name(t, at, n, e) : read_pax(t, (const char *)at, n, e);
}

/* ---- members ---- */

static void take(tar *t, tar_member *m, const unsigned char *h, size_t at, size_t n)
{
    char name[TAR_NAME];

    if (t->long_name[0])
        memcpy(name, t->long_name, sizeof name);
    else
        header_name(name, h);
    str_copy(m->name, sizeof m->name, name + (str_starts(name, "./") ? 2 : 0));
    m->at = at;
    m->n = n;
    m->bytes = t->map.at + at;
    t->long_name[0] = '\0';
    t->has_size = false;
}

int tar_next(tar *t, tar_member *m, bool *more, err *e)
{
    *more = false;
    while (t->next < t->map.n) {
        const unsigned char *h = tar_at(t, t->next, BLOCK);
        uint64_t size;
        if (!h)
            return damaged(t, "half a header", e);
        if (is_zero(h))
            return 0;
        if (!checked(h) || !number(&size, h + SIZE, SIZE_BYTES))
            return damaged(t, "a header whose checksum is wrong", e);
        char kind = (char)h[KIND];
        bool extra = kind == 'L' || kind == 'x', regular = kind == '0' || kind == '\0' || kind == '7';
        if (!extra && t->has_size)
            size = t->size;
        size_t at = t->next + BLOCK;
        if (!tar_at(t, at, size))
            return damaged(t, "a member that is longer than the file", e);
        if (extra)
            TRY(read_extra(t, kind, t->map.at + at, (size_t)size, e));
        size_t padded = ((size_t)size + BLOCK - 1) / BLOCK * BLOCK, left = t->map.n - at;
        t->next = padded < left ? at + padded : t->map.n;
        if (regular) {
            take(t, m, h, at, (size_t)size);
            *more = true;
            return 0;
        }
        if (!extra && kind != 'g' && kind != 'K') { /* a folder, a link: what was told about it goes with it */
            t->long_name[0] = '\0';
            t->has_size = false;
        }
    }
    return 0;
}
