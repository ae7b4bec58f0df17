#ifndef IMAGE_CACHE_H
#define IMAGE_CACHE_H
/* Decoded pictures, kept up to a number of bytes; the ones used longest ago leave first. Safe from several threads;
 * two that want the same picture at once may both decode it. */
#include <stddef.h>

#include "data/image.h"

typedef struct image_cache image_cache;
image_cache *image_cache_new(size_t most_bytes);
void image_cache_free(image_cache *c);           /* nothing may be borrowed any more */
/* Borrowed until image_cache_return: what is borrowed never leaves, even past the limit. id tells paths apart. */
int image_cache_borrow(const image **out, image_cache *c, uint64_t id, const char *path, err *e);
void image_cache_return(image_cache *c, const image *m);
size_t image_cache_bytes(image_cache *c);
#endif
