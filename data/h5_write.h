#ifndef H5_WRITE_H
#define H5_WRITE_H
/* HDF5 files written without HDF5: what h5.h reads, as bytes for a place in the file that is known before they are there.
 * Every checksum of the format is made, so any HDF5 1.10 program reads (and checks) what is written. */
#include "data/h5.h"

typedef struct {
    unsigned char *at;
    size_t n, room;
    uint64_t base; /* where in the file the first byte will stand */
} h5_out;

enum { H5_SUPERBLOCK = 48 };
void h5_put_superblock(unsigned char to[H5_SUPERBLOCK], uint64_t root, uint64_t end);

/* The header of a dataset or a group, with lists and indexes that do not fit it in front; returns its address. Attributes are
 * sorted by name. Of a chunked dataset chunk [n] are the addresses of its chunks, in order, each with a checksum behind it. */
uint64_t h5_put_object(h5_out *out, const h5_object *o, const uint64_t *chunk, uint64_t n);

/* Fletcher's checksum of a chunk, as HDF5 has it. */
enum { H5_CHECK_BYTES = 4 };
void h5_put_chunk_check(unsigned char to[H5_CHECK_BYTES], const unsigned char *at, size_t bytes);
#endif
