/* Loading: the bytes, the codec by signature, the limits, the pixels, and upright. */
#include "data/image.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/image_codec.h"

static const image_codec *const codecs[] = {
    [IMAGE_JPEG] = &image_jpeg, [IMAGE_PNG] = &image_png, [IMAGE_WEBP] = &image_webp};

/* What a file is, by its first bytes. Rows without a codec are what people hand in by mistake. */
static const struct {
    size_t at;
    const char *bytes;
    size_t n;
    int format; /* -1: not one of ours */
    const char *what, *remedy;
} signatures[] = {
    {0, "\xff\xd8\xff", 3, IMAGE_JPEG, NULL, NULL},
    {0, "\x89PNG\r\n\x1a\n", 8, IMAGE_PNG, NULL, NULL},
    {8, "WEBP", 4, IMAGE_WEBP, NULL, NULL},
    {4, "ftyp", 4, -1, "a HEIC, AVIF or video file", "convert it"},
    {0, "GIF8", 4, -1, "a GIF", "convert it"},
    {0, "BM", 2, -1, "a BMP", "convert it"},
    {0, "II*\0", 4, -1, "a TIFF or camera raw file", "convert it"},
    {0, "MM\0*", 4, -1, "a TIFF or camera raw file", "convert it"},
    {0, "%PDF", 4, -1, "a PDF", "take the pictures out of it"},
    {0, "<", 1, -1, "a web page, SVG or other XML text", "download the picture itself"},
    {0, "version https://git-lfs", 23, -1, "a Git LFS pointer", "fetch the file itself: git lfs pull"},
};

static int find_codec(const image_codec **out, image_bytes file, err *e)
{
    if (file.n == 0)
        return err_set(e, ERR_INPUT, "empty file (0 bytes); copy it again");
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        if (file.n < signatures[i].at + signatures[i].n ||
            memcmp(file.at + signatures[i].at, signatures[i].bytes, signatures[i].n) != 0)
            continue;
        if (signatures[i].format < 0)
            return err_set(e, ERR_INPUT, "%s, not a JPEG, PNG or WebP; %s", signatures[i].what, signatures[i].remedy);
        *out = codecs[signatures[i].format];
        return 0;
    }
    return err_set(e, ERR_INPUT, "not a JPEG, PNG or WebP; convert it or take it out");
}

int image_cut_short(err *e)
{
    return err_set(e, ERR_INPUT, "cut short: the file ends before the picture does; copy or export it again");
}

int image_damaged(err *e, const char *what)
{
    return err_set(e, ERR_INPUT, "damaged (%s); export it again or take it out", what);
}

static int check_size(const image_info *m, err *e)
{
    int64_t n = (int64_t)m->h * m->w;

    if (m->h < 1 || m->w < 1)
        return image_damaged(e, "no pixels");
    if (m->h > IMAGE_SIDE_MOST || m->w > IMAGE_SIDE_MOST)
        return err_set(e, ERR_INPUT, "%d x %d: a side is longer than the %d pixels allowed; cut it", m->w, m->h,
                       IMAGE_SIDE_MOST);
    if (n > IMAGE_MOST)
        return err_set(e, ERR_INPUT, "%d x %d is %lld million pixels, more than the %d million allowed; scale it down",
                       m->w, m->h, (long long)(n / 1000000), IMAGE_MOST / 1000000);
    return 0;
}

static int read_head(image_info *out, const image_codec **codec, image_bytes file, err *e)
{
    *out = (image_info){.orientation = 1};
    TRY(find_codec(codec, file, e));
    TRY((*codec)->head(out, file, e));
    return check_size(out, e);
}

static image_info upright(image_info m)
{
    if (m.orientation >= 5) {
        int h = m.h;
        m.h = m.w;
        m.w = h;
    }
    return m;
}

/* stored [m.h, m.w, 3] into upright order. EXIF names where the stored first row and column lie in the picture:
 * from 5 on the two change places, and each may run backwards. */
static void turn(uint8_t *to, const uint8_t *stored, image_info m)
{
    static const bool row_back[9] = {[3] = true, [4] = true, [6] = true, [7] = true};
    static const bool col_back[9] = {[2] = true, [3] = true, [7] = true, [8] = true};
    bool swap = m.orientation >= 5, rb = row_back[m.orientation], cb = col_back[m.orientation];
    ptrdiff_t row = rb ? -(ptrdiff_t)m.w : m.w, col = cb ? -1 : 1;
    const uint8_t *first = stored + 3 * ((rb ? (ptrdiff_t)(m.h - 1) * m.w : 0) + (cb ? m.w - 1 : 0));
    ptrdiff_t dy = 3 * (swap ? col : row), dx = 3 * (swap ? row : col);
    image_info up = upright(m);

    for (int y = 0; y < up.h; y++)
        for (int x = 0; x < up.w; x++, to += 3)
            memcpy(to, first + y * dy + x * dx, 3);
}

int image_decode(image *out, const void *from, size_t n, err *e)
{
    image_bytes file = {from, n};
    const image_codec *codec;
    image_info m;
    void *stored, *turned;

    *out = (image){0};
    TRY(read_head(&m, &codec, file, e));
    size_t bytes = (size_t)m.h * (size_t)m.w * 3;
    TRY(mem_big(&stored, bytes, "a picture", e));
    int rc = codec->pixels(stored, m, file, e);
    if (rc == 0 && m.orientation != 1 && (rc = mem_big(&turned, bytes, "a picture", e)) == 0) {
        turn(turned, stored, m);
        free(stored);
        stored = turned;
    }
    if (rc != 0) {
        free(stored);
        return rc;
    }
    m = upright(m);
    *out = (image){m.h, m.w, stored};
    return 0;
}

int image_load(image *out, const char *path, err *e)
{
    char *at;
    size_t n;

    *out = (image){0};
    TRY(fs_read(path, &at, &n, IMAGE_FILE_MOST, e));
    int rc = image_decode(out, at, n, e);
    free(at);
    return rc ? err_wrap(e, "%s", path) : 0;
}

int image_probe(image_info *out, const char *path, err *e)
{
    const image_codec *codec;
    fs_map file;

    TRY(fs_map_open(&file, path, e));
    int rc = read_head(out, &codec, (image_bytes){file.at, file.n}, e);
    fs_map_close(&file);
    if (rc != 0)
        return err_wrap(e, "%s", path);
    *out = upright(*out);
    return 0;
}

void image_free(image *m)
{
    free(m->rgb);
    *m = (image){0};
}

bool image_named(const char *path)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".png", ".webp"};
    size_t n = strlen(path);

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcasecmp(path + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}
