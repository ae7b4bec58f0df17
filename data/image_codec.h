#ifndef IMAGE_CODEC_H
#define IMAGE_CODEC_H
/* The three decoders behind image.h. Each is given the whole bytes of a file that starts with its signature. */
#include "data/image.h"

typedef struct {
    const unsigned char *at;
    size_t n;
} image_bytes;

typedef struct {
    /* Size as stored, format and orientation. Reads no pixels and takes no memory that grows with the picture. */
    int (*head)(image_info *out, image_bytes file, err *e);
    /* Fills [h, w, 3] of the size head told, as stored. */
    int (*pixels)(uint8_t *rgb, image_info as, image_bytes file, err *e);
} image_codec;

extern const image_codec image_jpeg, image_png, image_webp;

/* What every decoder says of a file that ends too early or contradicts itself. */
int image_cut_short(err *e);
int image_damaged(err *e, const char *what);

/* Orientation (tag 0x0112) of a TIFF block as EXIF has it, with or without "Exif\0\0" in front; 1 where nothing
 * readable is said. Never reads outside the block. */
int exif_orientation(image_bytes block);
#endif
