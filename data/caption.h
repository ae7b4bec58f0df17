#ifndef CAPTION_H
#define CAPTION_H
/* Captions from templates and from files. */
#include <stddef.h>

#include "cluster/base/err.h"

extern const char caption_object[]; /* "photo of a {}" */
extern const char caption_style[];  /* "painting in the style of {}" */

/* What Textual Inversion draws from, as its authors and every script since: 27 of an object; 19 of a style, among them
 * "cropped" and "close-up" twice, so that these count double. */
enum { CAPTION_OBJECTS = 27, CAPTION_STYLES = 19 };
extern const char *const caption_object_forms[CAPTION_OBJECTS], *const caption_style_forms[CAPTION_STYLES];

/* `form` with its one {} replaced; free() it. ERR_INPUT if it has none, or two. */
int caption_fill(char **out, const char *form, const char *words, err *e);

typedef struct {
    char **at;
    size_t n;
} caption_lines;

/* Lines of a text file without blanks around them; empty ones at the end are dropped, one between others is an error
 * (every caption after it would shift), and so is a file without lines or with bytes that are not UTF-8. */
int caption_read(caption_lines *out, const char *path, err *e);
void caption_free(caption_lines *l);
#endif
