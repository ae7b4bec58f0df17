#ifndef STORE_IMPL_H
#define STORE_IMPL_H
/* Between the files of the store; nobody else includes it. */
#include "cluster/base/fs.h"
#include "data/h5.h"
#include "data/store.h"

enum { STORE_DEPTH = 8 };     /* of groups within groups: a file that goes deeper is not ours */
#define STORE_DIGEST "sha256" /* the attribute that carries a node's digest */

typedef struct {
    char *path;
    h5_object o;
} store_group;

/* What will be in the file. Values are written as they come, headers at commit. */
typedef struct store_node {
    char *name;
    h5_object o;     /* attributes are the node's own, but for a kept one's */
    uint64_t *chunk; /* of a chunked dataset: where each begins */
    uint64_t chunks;
    bool kept;   /* its header and all it says are of the file that is renewed */
    uint64_t at; /* of its header, once it stands */
    struct store_node **child;
    size_t n;
} store_node;

struct store {
    bool writing;
    char path[FS_PATH];
    char aside[FS_PATH]; /* writing: "" where path itself gets a new generation */
    int fd;
    uint64_t end;   /* where the next byte goes */
    unsigned char *small; /* what is short, before it is written together */
    size_t n_small;
    uint64_t begun; /* up to where the disk was told to begin */
    store_node *tree;
    h5_file h5; /* reading; in an update, what was there */
    char root[HASH_HEX];
    store_group **entered; /* groups read and checked */
    size_t n_entered;
};

int store_damage(const store *s, const char *path, const char *what, err *e);

/* The digest tree (store_digest.c). A dataset's attribute sha256 covers type, shape and values; a group's covers its
 * attributes and, child by child in order of name, either the child group's sha256 or all the child dataset's
 * attributes. */
void store_values_digest(char hex[HASH_HEX], store_shape shape, size_t text_bytes, const void *data, size_t bytes);
/* The same in two steps, for values that come piece by piece: what is hashed before them; hash_add them, hash_end. */
hash *store_digest_of(store_shape shape, size_t text_bytes, size_t bytes);
bool store_same_digest(const char *a, const char *b);
void store_node_digest(const store_node *group, char hex[HASH_HEX]); /* its children have theirs */
int store_check_groups(store *s, err *e); /* every group, entered or not */
int store_check_group(store *s, const h5_object *o, const char *path, err *e);
/* Checks every group on the way to the one at path and itself, each only once. out may be NULL. */
int store_enter(store *s, const char *path, const h5_object **out, err *e);
/* What stands at path, its group checked; h5_object_free it, also after an error. *address: of its header; may be NULL. */
int store_object(store *s, const char *path, h5_object *out, uint64_t *address, err *e);
void store_forget_groups(store *s);
int store_attr_of(const store *s, const h5_object *o, const char *path, const char *name, char **out, err *e);

/* The tree of what is written (store_write.c). */
store_node *store_node_new(const char *name);
void store_node_free(store_node *n);
void store_node_attr(store_node *n, const char *name, h5_kind kind, const void *value, size_t bytes);
int store_append(store *s, const char *path, const void *data, size_t n, err *e); /* path: for people */
int store_flush(store *s, const char *path, err *e); /* what was appended is in the file */
int store_write_headers(store *s, err *e); /* all of them, with every group's digest */
#endif
