/* PNG by libpng, every colour type and depth to 8-bit RGB. Gamma, colour profiles and alpha are ignored, as in
 * Pillow's convert("RGB"). */
#include <png.h>
#include <string.h>

#include "data/image_codec.h"

typedef struct {
    image_bytes file;
    size_t at;
    err *e;
    png_structp png;
    png_infop info;
} decoder;

static void on_error(png_structp png, png_const_charp text)
{
    decoder *d = png_get_error_ptr(png);

    image_damaged(d->e, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void take(png_structp png, png_bytep to, size_t n)
{
    decoder *d = png_get_io_ptr(png);

    if (d->file.n - d->at < n) {
        image_cut_short(d->e);
        png_longjmp(png, 1);
    }
    memcpy(to, d->file.at + d->at, n);
    d->at += n;
}

static int open_decoder(decoder *d, image_bytes file, err *e)
{
    *d = (decoder){.file = file, .e = e};
    d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_warning);
    d->info = d->png ? png_create_info_struct(d->png) : NULL;
    if (d->info)
        return 0;
    png_destroy_read_struct(&d->png, NULL, NULL);
    return err_set(e, ERR_MEMORY, "libpng has no memory");
}

static void close_decoder(decoder *d)
{
    png_destroy_read_struct(&d->png, &d->info, NULL);
}

static void begin(decoder *d)
{
    png_set_user_limits(d->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image.c has the limit that counts */
    png_set_read_fn(d->png, d, take);
    png_read_info(d->png, d->info);
}

static int orientation_of(decoder *d)
{
    png_uint_32 n = 0;
    png_bytep block = NULL;

    png_get_eXIf_1(d->png, d->info, &n, &block);
    return block ? exif_orientation((image_bytes){block, n}) : 1;
}

static int head(image_info *out, image_bytes file, err *e)
{
    decoder d;

    TRY(open_decoder(&d, file, e));
    if (setjmp(png_jmpbuf(d.png))) {
        close_decoder(&d);
        return ERR_INPUT;
    }
    begin(&d);
    *out = (image_info){(int)png_get_image_height(d.png, d.info), (int)png_get_image_width(d.png, d.info), IMAGE_PNG,
                        orientation_of(&d)};
    close_decoder(&d);
    return 0;
}

static void as_rgb8(decoder *d)
{
    png_set_palette_to_rgb(d->png);
    png_set_expand_gray_1_2_4_to_8(d->png);
    png_set_strip_16(d->png); /* the high byte */
    png_set_gray_to_rgb(d->png);
    png_set_strip_alpha(d->png);
}

static int pixels(uint8_t *rgb, image_info as, image_bytes file, err *e)
{
    decoder d;

    TRY(open_decoder(&d, file, e));
    if (setjmp(png_jmpbuf(d.png))) {
        close_decoder(&d);
        return ERR_INPUT;
    }
    begin(&d);
    as_rgb8(&d);
    int passes = png_set_interlace_handling(d.png);
    png_read_update_info(d.png, d.info);
    size_t row = (size_t)as.w * 3;
    if (png_get_rowbytes(d.png, d.info) != row)
        png_error(d.png, "rows of another width than the header says");
    for (int p = 0; p < passes; p++)
        for (int y = 0; y < as.h; y++)
            png_read_row(d.png, rgb + (size_t)y * row, NULL);
    close_decoder(&d);
    return 0;
}

const image_codec image_png = {head, pixels};
