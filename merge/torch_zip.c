#include "merge/torch_zip.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum {
    END_BYTES = 22,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MOST = 65535,
    ALIGN = 64,
    ENTRIES_MOST = 65535,
    END_MARK = 0x06054b50,
    CENTRAL_MARK = 0x02014b50,
    LOCAL_MARK = 0x04034b50
};

static uint32_t get16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const unsigned char *p)
{
    return get16(p) | get16(p + 2) << 16;
}

/* ---- reading ---- */

static const unsigned char *find_end(const fs_map *m)
{
    size_t least = m->n > END_BYTES + COMMENT_MOST ? m->n - END_BYTES - COMMENT_MOST : 0;
    if (m->n < END_BYTES)
        return NULL;
    for (size_t at = m->n - END_BYTES + 1; at-- > least;)
        if (get32(m->at + at) == END_MARK)
            return m->at + at;
    return NULL;
}

/* One entry of the central directory at `at`; *at moves on. */
static int read_entry(zip_file *z, size_t *at, err *e)
{
    const unsigned char *c = z->map.at + *at, *local;
    size_t name, extra, comment, offset, bytes, start;
    zip_entry *x = &z->entry[z->n];
    if (z->map.n - *at < CENTRAL_BYTES || get32(c) != CENTRAL_MARK)
        return err_set(e, ERR_INPUT, "its list of contents is damaged");
    name = get16(c + 28);
    extra = get16(c + 30);
    comment = get16(c + 32);
    bytes = get32(c + 24);
    offset = get32(c + 42);
    if (z->map.n - *at - CENTRAL_BYTES < name + extra + comment || offset > z->map.n - LOCAL_BYTES)
        return err_set(e, ERR_INPUT, "its list of contents is damaged");
    x->name = mem_new(name + 1, 1);
    memcpy(x->name, c + CENTRAL_BYTES, name);
    z->n++;
    *at += CENTRAL_BYTES + name + extra + comment;
    if (get16(c + 10) != 0 || (get16(c + 8) & 1))
        return err_set(e, ERR_INPUT, "%s in it is compressed or encrypted; torch writes neither", x->name);
    local = z->map.at + offset;
    start = offset + LOCAL_BYTES + get16(local + 26) + get16(local + 28);
    if (get32(local) != LOCAL_MARK || start > z->map.n || bytes > z->map.n - start)
        return err_set(e, ERR_INPUT, "%s in it lies outside the file", x->name);
    x->at = z->map.at + start;
    x->bytes = bytes;
    return 0;
}

/* torch's number, pickled: what its files began with before they were zips. */
static bool is_old(const fs_map *m)
{
    static const unsigned char mark[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    return m->n >= sizeof mark && memcmp(m->at, mark, sizeof mark) == 0;
}

static int read_entries(zip_file *z, err *e)
{
    const unsigned char *end = find_end(&z->map);
    size_t n, at;
    if (!end && is_old(&z->map))
        return err_set(e, ERR_INPUT, "written as torch did before 1.6; load it with torch and save it again with torch.save");
    if (!end)
        return err_set(e, ERR_INPUT, "not a torch file of the zip kind (torch.save since version 1.6)");
    n = get16(end + 10);
    at = get32(end + 16);
    if (at >= z->map.n)
        return err_set(e, ERR_INPUT, "its list of contents lies outside the file; files beyond 4 GiB are not read");
    z->entry = NEW_N(zip_entry, n + 1);
    for (size_t i = 0; i < n; i++)
        TRY(read_entry(z, &at, e));
    return 0;
}

int zip_open(zip_file *out, const char *path, err *e)
{
    int rc;
    *out = (zip_file){0};
    TRY(fs_map_open(&out->map, path, e));
    rc = read_entries(out, e);
    if (rc != 0)
        zip_close(out);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

void zip_close(zip_file *z)
{
    for (size_t i = 0; i < z->n; i++)
        free(z->entry[i].name);
    free(z->entry);
    if (z->map.at)
        fs_map_close(&z->map);
    *z = (zip_file){0};
}

const zip_entry *zip_find(const zip_file *z, const char *name)
{
    for (size_t i = 0; i < z->n; i++)
        if (strcmp(z->entry[i].name, name) == 0)
            return &z->entry[i];
    return NULL;
}

const zip_entry *zip_find_tail(const zip_file *z, const char *tail)
{
    for (size_t i = 0; i < z->n; i++)
        if (str_ends(z->entry[i].name, tail))
            return &z->entry[i];
    return NULL;
}

/* ---- writing ---- */

static void put16(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

static void put32(unsigned char *p, uint32_t v)
{
    put16(p, v & 0xffff);
    put16(p + 2, v >> 16);
}

/* The fields that local and central header share, from the version on: 26 bytes. */
static void put_common(unsigned char *p, const zip_entry *x, uint32_t crc, size_t extra)
{
    memset(p, 0, 26);
    p[0] = 20;          /* version 2.0 */
    put16(p + 8, 0x21); /* 1 January 1980: no clock in the bytes */
    put32(p + 10, crc);
    put32(p + 14, (uint32_t)x->bytes);
    put32(p + 18, (uint32_t)x->bytes);
    put16(p + 22, (uint32_t)strlen(x->name));
    put16(p + 24, (uint32_t)extra);
}

/* How many bytes of extra field make the data start at a multiple of 64: a field of its own, at least 4 bytes. */
static size_t padding(size_t at, const zip_entry *x)
{
    size_t start = at + LOCAL_BYTES + strlen(x->name);
    size_t pad = (ALIGN - start % ALIGN) % ALIGN;
    return pad && pad < 4 ? pad + ALIGN : pad;
}

static void put_local(FILE *f, const zip_entry *x, uint32_t crc, size_t pad)
{
    unsigned char h[LOCAL_BYTES], extra[2 * ALIGN] = {'F', 'B'};
    put32(h, LOCAL_MARK);
    put_common(h + 4, x, crc, pad);
    if (pad)
        put16(extra + 2, (uint32_t)pad - 4);
    fwrite(h, 1, sizeof h, f);
    fwrite(x->name, 1, strlen(x->name), f);
    fwrite(extra, 1, pad, f);
    fwrite(x->at, 1, x->bytes, f);
}

static void put_central(FILE *f, const zip_entry *x, uint32_t crc, size_t offset)
{
    unsigned char h[CENTRAL_BYTES] = {0};
    put32(h, CENTRAL_MARK);
    h[4] = 20;
    put_common(h + 6, x, crc, 0);
    put32(h + 42, (uint32_t)offset);
    fwrite(h, 1, sizeof h, f);
    fwrite(x->name, 1, strlen(x->name), f);
}

static void put_end(FILE *f, size_t n, size_t start, size_t bytes)
{
    unsigned char h[END_BYTES] = {0};
    put32(h, END_MARK);
    put16(h + 8, (uint32_t)n);
    put16(h + 10, (uint32_t)n);
    put32(h + 12, (uint32_t)bytes);
    put32(h + 16, (uint32_t)start);
    fwrite(h, 1, sizeof h, f);
}

static void put_all(FILE *f, const zip_entry *entry, size_t n)
{
    uint32_t *crc = NEW_N(uint32_t, n + 1);
    size_t *offset = NEW_N(size_t, n + 1), at = 0, central = 0;
    for (size_t i = 0; i < n; i++) {
        size_t pad = padding(at, &entry[i]);
        crc[i] = hash_crc32(0, entry[i].at, entry[i].bytes);
        offset[i] = at;
        put_local(f, &entry[i], crc[i], pad);
        at += LOCAL_BYTES + strlen(entry[i].name) + pad + entry[i].bytes;
    }
    for (size_t i = 0; i < n; i++) {
        put_central(f, &entry[i], crc[i], offset[i]);
        central += CENTRAL_BYTES + strlen(entry[i].name);
    }
    put_end(f, n, at, central);
    free(crc);
    free(offset);
}

int zip_write(const char *path, const zip_entry *entry, size_t n, err *e)
{
    char aside[FS_PATH];
    uint64_t total = 0;
    FILE *f;
    bool good;
    for (size_t i = 0; i < n; i++)
        total += entry[i].bytes + 1024;
    if (total >= UINT32_MAX || n > ENTRIES_MOST)
        return err_set(e, ERR_INPUT, "%s: more than 4 GiB or 65,535 tensors do not fit into a torch file of ours",
                       path);
    TRY(fs_aside(aside, path, e));
    f = fopen(aside, "wbx");
    if (!f)
        return err_set(e, ERR_IO, "%s: cannot be created: %s", path, strerror(errno));
    put_all(f, entry, n);
    good = !ferror(f);
    if (fclose(f) != 0 || !good) {
        fs_discard(aside);
        return err_set(e, ERR_IO, "%s: cannot be written; the disk may be full", path);
    }
    return fs_commit(aside, path, e);
}
