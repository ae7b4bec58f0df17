#ifndef STORE_IMPL_H
#define STORE_IMPL_H
/* Between the files of the store; nobody else includes it. */
#include <hdf5.h>

#include "cluster/base/fs.h"
#include "data/store.h"

enum { STORE_DEPTH = 8 };     /* of groups within groups: a file that goes deeper is not ours */
#define STORE_DIGEST "sha256" /* the attribute that carries a node's digest */

struct store {
    hid_t file;
    bool writing;
    uint64_t file_bytes; /* reading: no dataset is larger than its file */
    char path[FS_PATH], aside[FS_PATH];
    char root[HASH_HEX];
    char **entered; /* groups already checked */
    size_t n_entered;
};

/* ERR_IO or ERR_INPUT with HDF5's innermost message: "FILE: PATH: <what>: <what HDF5 said>". Call it before any other
 * HDF5 call clears the stack. */
int store_fail(const store *s, const char *path, const char *what, err *e);
int store_damage(const store *s, const char *path, const char *what, err *e); /* ERR_INPUT, HDF5 has no part in it */

/* Our element types as HDF5 has them; < 0 when HDF5 refuses. Close with H5Tclose. */
hid_t store_h5_type(dtype t);
hid_t store_h5_text(size_t bytes); /* fixed length, zero-terminated, UTF-8 */
/* Which of ours a file's type is; false: none. */
bool store_our_type(hid_t type, dtype *out);
hid_t store_access(void); /* file access properties of readers and writers */

/* The digest tree (store_digest.c). A dataset's attribute sha256 covers type, shape and values; a group's covers its
 * attributes and, child by child in order of name, either the child group's sha256 or all the child dataset's
 * attributes. */
void store_values_digest(char hex[HASH_HEX], store_shape shape, size_t text_bytes, const void *data, size_t bytes);
/* The same in two steps, for values that come piece by piece: what is hashed before them; hash_add them, hash_end. */
hash *store_digest_of(store_shape shape, size_t text_bytes, size_t bytes);
bool store_same_digest(const char *a, const char *b);
int store_group_digest(const store *s, hid_t group, const char *path, char hex[HASH_HEX], err *e);
int store_check_groups(store *s, err *e); /* every group, entered or not */
int store_seal(store *s, err *e);         /* writes every group's digest, leaves first */
/* Checks every group on the way to the object at path, itself if it is one, each only once. */
int store_enter(store *s, const char *path, err *e);

/* Chunks of `rows` whole rows of elements of `size` bytes (store_chunks.c). Reading adds the values to h as they come. */
bool store_in_rows(const hsize_t chunk[STORE_DIMS], store_shape shape);
int store_write_chunks(const store *s, const char *path, hid_t set, hsize_t rows, store_shape shape, size_t size,
                       const void *data, err *e);
int store_read_chunks(const store *s, const char *path, hid_t set, hsize_t rows, store_shape shape, size_t size,
                      void *to, hash *h, err *e);

int store_read_attr_text(const store *s, hid_t object, const char *path, const char *name, char **out, err *e);
int store_write_attr_text(const store *s, hid_t object, const char *path, const char *name, const char *v, err *e);
#endif
