#ifndef H5_IMPL_H
#define H5_IMPL_H
/* Between the files of the HDF5 reader. */
#include "data/h5.h"

/* Bytes that are eaten from the front; a read beyond the end gives 0 and sets bad. */
typedef struct {
    const unsigned char *at, *end;
    bool bad;
} h5_bytes;

/* n bytes of the file at an address; bad where they do not lie in it. */
h5_bytes h5_span(const h5_file *f, uint64_t address, uint64_t n);
uint64_t h5_get(h5_bytes *b, int bytes); /* little-endian, at most 8 */
const unsigned char *h5_skip(h5_bytes *b, uint64_t n);
bool h5_starts(h5_bytes *b, const char *mark, int version); /* four letters and a version byte are eaten */
int h5_bytes_of(uint64_t most);                             /* that hold numbers up to most, as HDF5 counts them */

/* Each object of a fractal heap that an index (a B-tree, version 2) lists, as the bytes of a message. */
typedef const char *h5_each(void *arg, const h5_file *f, h5_bytes message);
const char *h5_each_dense(const h5_file *f, uint64_t heap, uint64_t index, h5_each *each, void *arg);
#endif
