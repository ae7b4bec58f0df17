#ifndef STORE_IMPL_H
#define STORE_IMPL_H
/* Between the files of the store; nobody else includes it. */
#include <hdf5.h>

#include "cluster/base/fs.h"
#include "data/h5.h"
#include "data/store.h"

enum { STORE_DEPTH = 8 };     /* of groups within groups: a file that goes deeper is not ours */
#define STORE_DIGEST "sha256" /* the attribute that carries a node's digest */

typedef struct {
    char *path;
    h5_object o;
} store_group;

struct store {
    bool writing;
    char path[FS_PATH];
    hid_t file; /* writing */
    char aside[FS_PATH];
    h5_file h5; /* reading */
    char root[HASH_HEX];
    store_group **entered; /* groups read and checked */
    size_t n_entered;
};

/* ERR_IO or ERR_INPUT with HDF5's innermost message: "FILE: PATH: <what>: <what HDF5 said>". Call it before any other
 * HDF5 call clears the stack. */
int store_fail(const store *s, const char *path, const char *what, err *e);
int store_damage(const store *s, const char *path, const char *what, err *e); /* ERR_INPUT, HDF5 has no part in it */

/* Our element types as HDF5 has them; < 0 when HDF5 refuses. Close with H5Tclose. */
hid_t store_h5_type(dtype t);
hid_t store_h5_text(size_t bytes); /* fixed length, zero-terminated, UTF-8 */
hid_t store_access(void); /* file access properties */

/* The digest tree (store_digest.c). A dataset's attribute sha256 covers type, shape and values; a group's covers its
 * attributes and, child by child in order of name, either the child group's sha256 or all the child dataset's
 * attributes. */
void store_values_digest(char hex[HASH_HEX], store_shape shape, size_t text_bytes, const void *data, size_t bytes);
/* The same in two steps, for values that come piece by piece: what is hashed before them; hash_add them, hash_end. */
hash *store_digest_of(store_shape shape, size_t text_bytes, size_t bytes);
bool store_same_digest(const char *a, const char *b);
int store_seal(store *s, err *e);         /* writes every group's digest, leaves first */
int store_check_groups(store *s, err *e); /* every group, entered or not */
int store_check_group(store *s, const h5_object *o, const char *path, err *e);
/* Checks every group on the way to the one at path and itself, each only once. out may be NULL. */
int store_enter(store *s, const char *path, const h5_object **out, err *e);
void store_forget_groups(store *s);
int store_attr_of(const store *s, const h5_object *o, const char *path, const char *name, char **out, err *e);

/* Writing chunks of `rows` whole rows of elements of `size` bytes (store_chunks.c). */
bool store_in_rows(const hsize_t chunk[STORE_DIMS], store_shape shape);
int store_write_chunks(const store *s, const char *path, hid_t set, hsize_t rows, store_shape shape, size_t size,
                       const void *data, err *e);
int store_write_attr_text(const store *s, hid_t object, const char *path, const char *name, const char *v, err *e);
#endif
