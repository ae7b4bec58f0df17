#ifndef H5_H
#define H5_H
/* An HDF5 file read without HDF5, whose library falls over files that are meant ill: the part of the format that the
 * store writes and has written (superblock 2 and 3, object headers 2, links and attributes in them or in a fractal heap,
 * chunks by themselves or in a fixed array), over a mapping. Every offset and length is checked before it is used, work and memory are bounded by the
 * file's size, and whatever else the format allows is refused. Checksums are not looked at: the store's sha256 covers
 * all that leaves here. Source: "HDF5 File Format Specification Version 3.0". */
#include "cluster/base/fs.h"
#include "data/store.h"

typedef struct {
    fs_map map;
    uint64_t root, end; /* the root's header; where the file ends, whatever lies behind that */
} h5_file;

typedef enum { H5_TEXT, H5_INT, H5_REAL } h5_kind;
typedef struct {
    char *name;
    h5_kind kind;
    const unsigned char *value; /* in the mapping */
    size_t bytes;
} h5_attr;

typedef struct {
    char *name;
    uint64_t address;
} h5_link;

enum { H5_CONTIGUOUS = 1, H5_CHUNKED = 2 };
typedef struct {
    int kind;         /* 0: not said */
    uint64_t address; /* of the values, the one chunk or the index; H5_NOWHERE: nothing was written */
    uint64_t bytes;   /* contiguous */
    int n;            /* chunked: dimensions, and their sizes in a chunk */
    uint64_t chunk[STORE_DIMS];
    bool single;           /* one chunk, of `stored` bytes where filtered */
    uint64_t stored;
    const unsigned char *inside; /* values within the header (compact) */
} h5_layout;
#define H5_NOWHERE UINT64_MAX

typedef struct {
    bool is_dataset;
    h5_attr *attr; /* sorted by name, as links are */
    h5_link *link;
    size_t n_attrs, n_links;
    store_shape shape;
    size_t size, text; /* bytes of an element; text: the same where it is a text, else 0 */
    size_t bytes;      /* of all values: at most the file's */
    bool has_type, has_space, checked; /* checked: a checksum stands behind each chunk */
    h5_layout layout;
} h5_object;

int h5_open(h5_file *out, const char *path, err *e);
void h5_close(h5_file *f);

/* All three: 0, or what is wrong with it as a text; nothing to free then. */
const char *h5_read_object(h5_object *out, const h5_file *f, uint64_t address);
void h5_object_free(h5_object *o);
/* Values into to [o->bytes]; each piece, as it stands there, goes to h when that is not NULL and pieces come in order. */
const char *h5_read_values(void *to, hash *h, const h5_object *o, const h5_file *f);

const h5_attr *h5_find_attr(const h5_object *o, const char *name); /* NULL: none */
const h5_link *h5_find_link(const h5_object *o, const char *name);
#endif
