#ifndef IMAGE_LIST_H
#define IMAGE_LIST_H
/* Which pictures a setting means. Given is a folder (all .jpg .jpeg .png .webp in it, not below it), a list (a text
 * file, one path a line, optionally a tab and the caption; paths are relative to the list's folder, else to root), or
 * a picture. Folders are ordered as people count: 2.jpg before 10.jpg, so line k of a caption file meets picture k. */
#include <stddef.h>

#include "cluster/base/err.h"

typedef struct {
    char *path;     /* absolute where root is */
    char *caption;  /* NULL: none told */
} image_entry;

typedef struct {
    image_entry *at;
    size_t n;
} image_list;

/* Appends what `given` means; errors name the path and what is there instead. */
int image_list_add(image_list *l, const char *root, const char *given, err *e);
/* Captions for the entries without one, from X.txt beside X.jpg: all have one or none. */
int image_list_beside(image_list *l, err *e);
void image_list_free(image_list *l);
/* <0, 0, >0; runs of digits compare as numbers. */
int image_list_order(const char *a, const char *b);
#endif
