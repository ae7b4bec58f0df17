#ifndef REG_INDEX_IMPL_H
#define REG_INDEX_IMPL_H
/* What the reader and the writer of an index share: the bytes of the file. */
#include "data/reg_index.h"

#define REG_INDEX_MAGIC "cfregidx"
enum { REG_INDEX_VERSION = 1, REG_INDEX_PAGE = 4096 };

typedef struct {
    char magic[8];
    uint32_t version, dim;
    uint64_t count, text_bytes;
    uint64_t table_at, text_at, vectors_at, sums_at, file_bytes;
    uint64_t front_sum;    /* of probe, table and texts */
    uint64_t sums_sum;     /* of the block sums */
    char rest[160];        /* zeros */
    uint64_t sum;          /* of all before it */
} reg_header;

typedef struct {
    uint64_t path, caption; /* in the texts */
    uint64_t at, size;
} reg_record;

/* Rows of one block. */
static inline int64_t reg_block_rows(int dim)
{
    int64_t n = REG_INDEX_BLOCK / ((int64_t)dim * (int64_t)sizeof(uint16_t));

    return n > 0 ? n : 1;
}

/* Eight sums beside each other, so that it costs less than reading memory does. Every single changed word changes it;
 * against damage, not against forgers. */
uint64_t reg_sum(const void *bytes, size_t n);
/* Fills in where everything lies; ERR_INPUT where that is more than a file can be. */
int reg_layout(reg_header *h, err *e);
#endif
