#ifndef MOMENTS_H
#define MOMENTS_H
/* VAE moments of class pictures, and encodings of their captions, on disk, one small file each under a name of all that decides
 * its numbers, so that the second concept that learns beside the same pictures encodes none of them. Several processes may use a folder at once:
 * a file appears whole, and two that make the same one write the same bytes. A damaged file counts as none. */
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"

/* Where the entry of this key lies: dir/ab/abcdef….moments */
int moments_path(char out[FS_PATH], const char *dir, const char key[HASH_HEX], err *e);
/* Whether it was there, whole and of count numbers. */
bool moments_read(const char *path, float *out, size_t count);
int moments_write(const char *path, const float *from, size_t count, err *e);
#endif
