#ifndef CF_FS_H
#define CF_FS_H
/* Files appear whole or not at all: written aside (path.tmp-PID-N), synced, renamed, folder synced.
 * Every error names the path and what the system said. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { FS_PATH = 4096 };

/* What the system said for an errno, in our spelling: "no such file or directory". Good until this thread asks again. */
const char *fs_reason(int number);

bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
int fs_join(char out[FS_PATH], const char *dir, const char *name, err *e); /* an absolute name stays as it is */
const char *fs_base(const char *path);                                     /* after the last '/' */
int fs_mkdirs(const char *path, err *e);
/* Where what can be made again is kept between runs: $XDG_CACHE_HOME/conceptfarm, else ~/.cache/conceptfarm. Not made here. */
int fs_cache_dir(char out[FS_PATH], err *e);
int fs_free_bytes(const char *path, uint64_t *out, err *e);

/* Whole file into memory, terminated by a 0 beyond n; refuses what is not a regular file or larger than most. */
int fs_read(const char *path, char **out, size_t *n, size_t most, err *e);
int fs_write(const char *path, const void *bytes, size_t n, err *e);       /* atomic, durable */
int fs_write_private(const char *path, const void *bytes, size_t n, err *e); /* and nobody else may read it at any moment */

/* For writers that need a path of their own (HDF5): aside -> write it -> fs_commit or fs_discard. */
int fs_aside(char out[FS_PATH], const char *path, err *e);
int fs_commit(const char *aside, const char *path, err *e);                /* fsync, rename, fsync the folder; failed: aside is gone */
void fs_discard(const char *aside);
int fs_sync_dir(const char *dir, err *e);

typedef struct { const unsigned char *at; size_t n; } fs_map;              /* a read-only mapping */
int fs_map_open(fs_map *out, const char *path, err *e);
void fs_map_close(fs_map *m);

/* Names in a folder (no "." files), sorted by bytes; ended by NULL. */
int fs_list(char ***out, size_t *n, const char *dir, err *e);
void fs_list_free(char **names);
int fs_remove_tree(const char *dir, err *e);
#endif
