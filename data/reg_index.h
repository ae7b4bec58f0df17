#ifndef REG_INDEX_H
#define REG_INDEX_H
/* A collection of captioned pictures as one file that is searched by captions: of each picture where it lies, its
 * caption, and the caption as a vector of length 1, written once. The file is mapped, and a search is one matrix
 * product over it.
 *
 *   header     256 bytes: magic, version, sizes, the checksums of what follows and of itself
 *   probe      the vector of REG_INDEX_PROBE: which text encoder made the vectors, to be compared and not believed
 *   table      a record each: where its path and caption stand in the texts, and where in the file of that path its
 *              picture lies (a member of a tar; size 0: the file is the picture)
 *   texts      paths and captions, each ended by a 0
 *   vectors    f16 [count, dim], from a multiple of 4096 on; less than 2^-14 is 0. Cosines are off by 1e-5 for it
 *   sums       a checksum for each block of REG_INDEX_BLOCK bytes or less of whole rows
 *
 * What is damaged gives an error and never other pictures: header, table and texts are checked at opening, vectors as
 * they are searched. Files of every past version stay readable. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { REG_INDEX_BLOCK = 1 << 20, REG_INDEX_DIM_MOST = 1 << 16 };
#define REG_INDEX_PROBE "photo of a wooden chair beside a window"

typedef struct {
    const char *path;      /* of the picture, or of the archive it is in */
    const char *caption;
    uint64_t at, size;     /* size 0: the file itself */
} reg_entry;

/* ---- reading ---- */

typedef struct reg_index reg_index;
bool reg_index_is(const char *path);           /* by its first bytes */
int reg_index_open(reg_index **out, const char *path, err *e);
void reg_index_close(reg_index *x);
int64_t reg_index_count(const reg_index *x);
int reg_index_dim(const reg_index *x);
const float *reg_index_probe(const reg_index *x);
reg_entry reg_index_at(const reg_index *x, int64_t row);
/* The vector of a row, its block checked. */
int reg_index_row(const reg_index *x, int64_t row, float *out, err *e);
int reg_index_check(const reg_index *x, err *e); /* all vectors */

typedef struct {
    int64_t row;
    double near;           /* cosine */
} reg_hit;
/* The most like query [dim] (of any length), at most `want` of those with a cosine of at least `least`, the nearest
 * first, equals in the order of rows. *found: how many there are of these. Their order does not depend on threads. */
int reg_index_search(const reg_index *x, const float *query, double least, size_t want, reg_hit **hits, size_t *n,
                     size_t *found, err *e);

/* ---- writing: the entries first, then a vector for each, in order ---- */

typedef struct reg_writer reg_writer;
int reg_writer_open(reg_writer **out, const char *path, const reg_entry *entries, int64_t count, int dim,
                    const float *probe, err *e);
/* Brought to length 1, or, where they come out of an index, kept to the bit. */
int reg_writer_add(reg_writer *w, const float *vectors, int64_t n, bool kept, err *e);
int reg_writer_read(reg_writer *w, int64_t row, float *out, err *e);        /* one that was added */
int reg_writer_commit(reg_writer *w, err *e); /* frees w, whatever happens; the file appears whole or not at all */
void reg_writer_drop(reg_writer *w);
#endif
