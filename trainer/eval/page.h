#ifndef PAGE_H
#define PAGE_H
/* A self-contained HTML page: text escaped, pictures as data inside it, nothing fetched from anywhere. */
#include "cluster/base/str.h"
#include "data/image.h"

void page_begin(str *to, const char *title);
void page_end(str *to);
void page_text(str *to, const char *text);      /* escaped */
/* The picture of a file as a thumbnail of at most `side` pixels, with a line under it; either may be "". */
int page_picture(str *to, const char *path, int side, const char *under, err *e);
/* "data:image/png;base64,..." of it, at most `side` pixels; *h, *w: its size there. */
int page_data(str *to, int *h, int *w, const image *m, int side, err *e);
int page_image(str *to, const image *m, int side, const char *under, err *e);
#endif
