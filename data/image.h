#ifndef IMAGE_H
#define IMAGE_H
/* Pictures from files: JPEG, PNG and WebP as 8-bit RGB, upright (the EXIF orientation is applied), with the values
 * Pillow's convert("RGB") gives: alpha is dropped, palettes and grey are expanded, CMYK and YCCK (Adobe's inverted
 * inks) are converted. One deviation: of a 16-bit grey PNG the high byte is taken; Pillow clips such values to white.
 *
 * A picture is whole or an error: a file cut short or damaged is refused, and so is one of more than IMAGE_MOST
 * pixels, before any memory is taken for it. Errors name the file and the remedy. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/str.h"

enum {
    IMAGE_MOST = 178956970,      /* pixels; Pillow's limit against decompression bombs */
    IMAGE_SIDE_MOST = 65535,     /* what JPEG can say */
    IMAGE_FILE_MOST = 1 << 30    /* bytes of a file */
};

typedef enum { IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP } image_format;

typedef struct {
    int h, w;
    uint8_t *rgb; /* [h, w, 3] */
} image;

typedef struct {
    int h, w; /* as loaded: after the orientation */
    image_format format;
    int orientation; /* EXIF 1..8; 1: as stored */
} image_info;

/* Reads the header only. */
int image_probe(image_info *out, const char *path, err *e);
int image_load(image *out, const char *path, err *e);
/* The same of a file's bytes; an error names no file. */
int image_decode(image *out, const void *bytes, size_t n, err *e);
void image_free(image *m);              /* and {0} again */
/* True for a name that ends as one of the formats does, in any case: .jpg .jpeg .png .webp */
bool image_named(const char *path);

/* [h, w, 3] as PNG; the file appears whole or not at all. */
int image_write_png(const char *path, const uint8_t *rgb, int h, int w, err *e);
/* The same bytes appended to `to`. */
int image_encode_png(str *to, const uint8_t *rgb, int h, int w, err *e);
/* n pictures [h, w, 3] in rows of `across`, with a white margin around each, as one PNG. */
int image_write_grid(const char *path, const uint8_t *const rgb[], int n, int across, int h, int w, err *e);
#endif
