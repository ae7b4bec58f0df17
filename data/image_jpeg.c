/* JPEG by libjpeg with its default transforms (accurate integer DCT, smooth chroma upsampling), which are also what
 * Pillow uses. libjpeg goes on through damage with a warning and grey pixels; here those warnings are errors.
 * A file that lacks nothing but its end mark is whole. */
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

#include "data/image_codec.h"

enum { SCANS_MOST = 500 }; /* a progressive file has about ten; one with thousands is made to burn time */

typedef struct {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr say;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    err *e;
} decoder;

static decoder *of(j_common_ptr cinfo)
{
    return cinfo->client_data;
}

static void on_error(j_common_ptr cinfo)
{
    char text[JMSG_LENGTH_MAX];

    cinfo->err->format_message(cinfo, text);
    image_damaged(of(cinfo)->e, text);
    longjmp(of(cinfo)->out, 1);
}

static void on_message(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return;
    switch (cinfo->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
        image_cut_short(of(cinfo)->e);
        longjmp(of(cinfo)->out, 1);
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        on_error(cinfo);
    }
}

static void on_progress(j_common_ptr cinfo)
{
    if (((j_decompress_ptr)cinfo)->input_scan_number <= SCANS_MOST)
        return;
    image_damaged(of(cinfo)->e, "too many scans");
    longjmp(of(cinfo)->out, 1);
}

/* Up to the first scan. The caller has set d->out. */
static void begin(decoder *j, image_bytes file)
{
    jpeg_create_decompress(&j->d);
    j->d.progress = &j->progress;
    jpeg_save_markers(&j->d, JPEG_APP0 + 1, 0xFFFF); /* EXIF */
    jpeg_mem_src(&j->d, file.at, file.n);
    jpeg_read_header(&j->d, TRUE);
}

static void prepare(decoder *j, err *e)
{
    *j = (decoder){.e = e};
    j->d.err = jpeg_std_error(&j->say);
    j->d.client_data = j;
    j->say.error_exit = on_error;
    j->say.emit_message = on_message;
    j->progress.progress_monitor = on_progress;
}

static int orientation_of(const struct jpeg_decompress_struct *d)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next) {
        int o = exif_orientation((image_bytes){m->data, m->data_length});
        if (o != 1)
            return o;
    }
    return 1;
}

static int head(image_info *out, image_bytes file, err *e)
{
    decoder j;

    prepare(&j, e);
    if (setjmp(j.out)) {
        jpeg_destroy_decompress(&j.d);
        return ERR_INPUT;
    }
    begin(&j, file);
    *out = (image_info){(int)j.d.image_height, (int)j.d.image_width, IMAGE_JPEG, orientation_of(&j.d)};
    jpeg_destroy_decompress(&j.d);
    return 0;
}

/* Inks as Adobe stores them (255: none) to light: each colour times the black, in 255ths, rounded. */
static void rgb_of_inks(uint8_t *rgb, const uint8_t *cmyk, unsigned n)
{
    for (; n > 0; n--, rgb += 3, cmyk += 4)
        for (int c = 0; c < 3; c++) {
            unsigned ink = 255u - cmyk[c], white = cmyk[3], t = ink * white + 128;
            rgb[c] = (uint8_t)(white - ((t + (t >> 8)) >> 8));
        }
}

static void read_rows(decoder *j, uint8_t *rgb, image_info as)
{
    bool inks = j->d.jpeg_color_space == JCS_CMYK || j->d.jpeg_color_space == JCS_YCCK;
    JSAMPARRAY line = NULL;

    j->d.out_color_space = inks ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&j->d);
    if (inks) /* the decoder's own pool: gone with it, by whichever way */
        line = j->d.mem->alloc_sarray((j_common_ptr)&j->d, JPOOL_IMAGE, (JDIMENSION)as.w * 4, 1);
    for (int y = 0; y < as.h; y++, rgb += (size_t)as.w * 3) {
        JSAMPROW row = inks ? line[0] : rgb;
        jpeg_read_scanlines(&j->d, &row, 1);
        if (inks)
            rgb_of_inks(rgb, row, (unsigned)as.w);
    }
}

static int pixels(uint8_t *rgb, image_info as, image_bytes file, err *e)
{
    decoder j;

    prepare(&j, e);
    if (setjmp(j.out)) {
        jpeg_destroy_decompress(&j.d);
        return ERR_INPUT;
    }
    begin(&j, file);
    read_rows(&j, rgb, as);
    jpeg_destroy_decompress(&j.d); /* without jpeg_finish_decompress, which would ask for the end mark */
    return 0;
}

const image_codec image_jpeg = {head, pixels};
