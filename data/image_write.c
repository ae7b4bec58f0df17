/* PNG out, made in memory and then written as a whole. */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"

static void put(png_structp png, png_bytep from, size_t n)
{
    str_put(png_get_io_ptr(png), from, n);
}

static void flush(png_structp png)
{
    (void)png;
}

static void on_error(png_structp png, png_const_charp text)
{
    err_set(png_get_error_ptr(png), ERR_INPUT, "libpng: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

int image_encode_png(str *to, const uint8_t *rgb, int h, int w, err *e)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, e, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;

    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return err_set(e, ERR_MEMORY, "libpng has no memory");
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        return ERR_INPUT;
    }
    png_set_write_fn(png, to, put, flush);
    png_set_IHDR(png, info, (png_uint_32)w, (png_uint_32)h, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < h; y++)
        png_write_row(png, rgb + (size_t)y * (size_t)w * 3);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    return 0;
}

int image_write_png(const char *path, const uint8_t *rgb, int h, int w, err *e)
{
    str bytes = {0};
    int rc = image_encode_png(&bytes, rgb, h, w, e);

    if (rc != 0)
        err_wrap(e, "%s", path);
    else
        rc = fs_write(path, bytes.at, bytes.n, e);
    str_free(&bytes);
    return rc;
}

int image_write_grid(const char *path, const uint8_t *const rgb[], int n, int across, int h, int w, err *e)
{
    CHECK(n > 0 && across > 0);
    int margin = w / 32 > 2 ? w / 32 : 2;
    int rows = (n + across - 1) / across, high = margin + rows * (h + margin), wide = margin + across * (w + margin);
    size_t line = (size_t)wide * 3, bytes = (size_t)high * line;
    void *sheet;

    TRY(mem_big(&sheet, bytes, "a sheet of pictures", e));
    memset(sheet, 255, bytes);
    for (int i = 0; i < n; i++) {
        int top = margin + i / across * (h + margin), left = margin + i % across * (w + margin);
        for (int y = 0; y < h; y++)
            memcpy((uint8_t *)sheet + (size_t)(top + y) * line + (size_t)left * 3,
                   rgb[i] + (size_t)y * (size_t)w * 3, (size_t)w * 3);
    }
    int rc = image_write_png(path, sheet, high, wide, e);
    free(sheet);
    return rc;
}
