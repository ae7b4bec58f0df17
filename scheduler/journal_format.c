/* The bytes of a segment. */
#include "scheduler/journal_format.h"

#include <string.h>

#include "cluster/base/hash.h"

static const char MAGIC[8] = {'c', 'f', 'a', 'r', 'm', 'j', 'n', 'l'};
enum { RESTATED = 1, TYPE_MOST = 0xffff };

static void put(unsigned char *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get(const unsigned char *at, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)at[i] << 8 * i;
    return v;
}

void segment_put_head(str *to, const segment_head *h)
{
    unsigned char b[JOURNAL_HEAD];

    memcpy(b, MAGIC, 8);
    put(b + 8, JOURNAL_VERSION, 4);
    put(b + 12, h->restated ? RESTATED : 0, 4);
    put(b + 16, (uint64_t)h->epoch, 8);
    put(b + 24, (uint64_t)h->prev, 8);
    put(b + 32, h->prev_length, 8);
    put(b + 40, h->prev_crc, 4);
    put(b + 44, hash_crc32(0, b, 44), 4);
    str_put(to, b, sizeof b);
}

int segment_get_head(segment_head *out, const unsigned char *at, size_t n, err *e)
{
    if (n < JOURNAL_HEAD)
        return err_set(e, ERR_IO, "offset 0: %zu bytes are too few for a journal's head", n);
    if (memcmp(at, MAGIC, 8) != 0)
        return err_set(e, ERR_IO, "offset 0: not a journal");
    if (hash_crc32(0, at, 44) != get(at + 44, 4))
        return err_set(e, ERR_IO, "offset 0: the head is damaged");
    if (get(at + 8, 4) != JOURNAL_VERSION)
        return err_set(e, ERR_IO, "a journal of format %u; this program reads format %d: update it",
                       (unsigned)get(at + 8, 4), JOURNAL_VERSION);
    *out = (segment_head){.restated = get(at + 12, 4) & RESTATED, .epoch = (int64_t)get(at + 16, 8),
                          .prev = (int64_t)get(at + 24, 8), .prev_length = get(at + 32, 8),
                          .prev_crc = (uint32_t)get(at + 40, 4)};
    return 0;
}

void segment_put_record(str *to, int type, uint32_t seq, uint64_t durable, const char *body, size_t n)
{
    unsigned char b[JOURNAL_RECORD] = {0};
    size_t start = to->n;

    CHECK(type > 0 && type <= TYPE_MOST && n <= JOURNAL_MOST);
    put(b + 4, n, 4);
    put(b + 8, (uint64_t)type, 2);
    put(b + 12, seq, 4);
    put(b + 16, durable, 8);
    str_put(to, b, sizeof b);
    if (n > 0)
        str_put(to, body, n);
    put((unsigned char *)to->at + start, hash_crc32(0, to->at + start + 4, JOURNAL_RECORD - 4 + n), 4);
}

bool segment_get_record(segment_record *out, const unsigned char *at, size_t n)
{
    uint64_t length;

    if (n < JOURNAL_RECORD)
        return false;
    length = get(at + 4, 4);
    if (length > JOURNAL_MOST || length > n - JOURNAL_RECORD || get(at + 8, 2) == 0 || get(at + 10, 2) != 0)
        return false;
    if (hash_crc32(0, at + 4, JOURNAL_RECORD - 4 + length) != get(at, 4))
        return false;
    *out = (segment_record){.type = (int)get(at + 8, 2), .seq = (uint32_t)get(at + 12, 4), .durable = get(at + 16, 8),
                            .body = (const char *)at + JOURNAL_RECORD, .n = length};
    return true;
}

bool segment_was_durable(const unsigned char *bytes, size_t n, size_t from)
{
    segment_record r;

    for (size_t at = from + 1; at < n; at++)
        if (segment_get_record(&r, bytes + at, n - at) && r.durable > from && r.durable <= at)
            return true;
    return false;
}
