#ifndef JOURNAL_FORMAT_H
#define JOURNAL_FORMAT_H
/* The bytes of a segment, as values: no files here. All numbers little endian (README.md). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"

typedef struct {
    bool restated;        /* the first record holds all that was before */
    int64_t epoch, prev;  /* prev 0: the first segment */
    uint64_t prev_length; /* of the previous segment, where it is sealed */
    uint32_t prev_crc;    /* of those bytes */
} segment_head;

typedef struct {
    int type;
    uint32_t seq;         /* 0, 1, 2, ... within the segment */
    uint64_t durable;     /* bytes of the segment that were on the disk when this was written */
    const char *body;
    size_t n;
} segment_record;

void segment_put_head(str *to, const segment_head *h);
int segment_get_head(segment_head *out, const unsigned char *at, size_t n, err *e);
void segment_put_record(str *to, int type, uint32_t seq, uint64_t durable, const char *body, size_t n);
/* The record at `at`; 0 when what stands there is none. Its whole length is JOURNAL_RECORD + out->n. */
bool segment_get_record(segment_record *out, const unsigned char *at, size_t n);
/* Is there, behind a broken place at `from`, a record written when that place was on the disk already? Then it was no
 * crash that broke it. */
bool segment_was_durable(const unsigned char *bytes, size_t n, size_t from);
#endif
