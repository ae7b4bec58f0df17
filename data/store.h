#ifndef STORE_H
#define STORE_H
/* Named tensors, texts and attributes in one HDF5 file, readable by any HDF5 1.10 program; made and read without HDF5.
 *
 * What it promises: nothing is seen under its name before store_commit (written aside, flushed, closed, synced,
 * renamed; store_renew has another way); the same calls give the same bytes; what is damaged gives an error that names the place, never a crash
 * and never other numbers. For the last, data lie in 1 MiB chunks with fletcher32, metadata carry HDF5's own
 * checksums, and above both stands a tree of sha256: each dataset has the digest of its values, each
 * group that of its attributes and children. Opening checks the root, entering a group checks it, reading a dataset
 * checks its values: a file is verified as far as it is read.
 *
 * Not deflated: that saves 13 % of trained weights at a fortieth of the speed. Not for two threads at once. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/dtype.h"
#include "cluster/base/err.h"
#include "cluster/base/hash.h"

enum { STORE_DIMS = 4 };
typedef struct store store;
typedef struct {
    dtype type; /* F32, F64, F16, BF16 (read back as stored), I32, I64, U8 */
    int n;      /* dimensions; 0: a scalar */
    int64_t d[STORE_DIMS];
} store_shape;

/* Writing. A path is "/kv/layer/to_k"; groups on the way are made. Errors name file and path. */
int store_create(store **out, const char *path, err *e);
int store_put(store *s, const char *path, store_shape shape, const void *data, err *e);
int store_put_text(store *s, const char *path, const char *text, err *e);
int store_put_texts(store *s, const char *path, const char *const text[], int64_t n, err *e);
/* Attributes of a group or dataset already there ("/" for the file). */
int store_attr_text(store *s, const char *path, const char *name, const char *value, err *e);
int store_attr_int(store *s, const char *path, const char *name, int64_t value, err *e);
int store_attr_real(store *s, const char *path, const char *name, double value, err *e);
/* What was opened as `from`, with this digest, in another generation: whatever is kept (datasets, below groups that need not be
 * named) stays where it lies, unread, and the rest is put as into a new file. Where path is the file `from` itself, under no other
 * name, new bytes go behind its end and the superblock turns over last: readers have the old file or the new one, never a
 * part. Elsewhere the old bytes are shared where the file system can, or copied, and the whole appears at commit. */
int store_renew(store **out, const char *from, const char *digest, const char *path, err *e);
int store_keep(store *s, const char *path, err *e);
int store_commit(store *s, err *e); /* frees s, whatever happens */
void store_drop(store *s);          /* instead of commit: nothing is left; NULL is fine */

/* Reading. */
int store_open(store **out, const char *path, err *e);
void store_close(store *s);
const char *store_digest(const store *s); /* the root's sha256: names the whole contents */
uint64_t store_bytes(const store *s);     /* of the file: no dataset is larger */
bool store_has(store *s, const char *path);
int store_shape_of(store *s, const char *path, store_shape *out, err *e);
/* ERR_SHAPE unless type and dimensions are these; a dimension of -1 takes any. */
int store_get(store *s, const char *path, store_shape want, void *to, err *e);
/* Allocates: free(*to). *shape is what was found; `want` restricts as above (type too). */
int store_load(store *s, const char *path, store_shape want, void **to, store_shape *shape, err *e);
int store_load_text(store *s, const char *path, char **text, err *e);
int store_load_texts(store *s, const char *path, char ***text, int64_t *n, err *e);    /* free with store_names_free */
int store_get_text(store *s, const char *path, const char *name, char **text, err *e); /* attributes */
int store_get_int(store *s, const char *path, const char *name, int64_t *value, err *e);
int store_get_real(store *s, const char *path, const char *name, double *value, err *e);
bool store_has_attr(store *s, const char *path, const char *name);
/* Children of a group, sorted by bytes; store_names_free them, after an error as well. A missing group has
 * none. */
int store_names(store *s, const char *group, char ***names, size_t *n, err *e);
void store_names_free(char **names);
/* Reads and checks everything. */
int store_check(store *s, err *e);

size_t store_count(store_shape shape); /* elements */
#endif
