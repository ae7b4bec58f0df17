#include "trainer/eval/page.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/resize.h"

static const char STYLE[] =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222;background:#fff}"
    "h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #eee}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}tr.first{font-weight:600}"
    "figure{display:inline-block;margin:.3em;vertical-align:top}figcaption{font-size:.75em;color:#666;max-width:12em}"
    "img{display:block;border-radius:3px}pre{background:#f6f6f6;padding:1em;overflow:auto;white-space:pre-wrap}"
    "svg{background:#fafafa;border:1px solid #eee}";

void page_begin(str *to, const char *title)
{
    str_add(to, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                "content=\"width=device-width\"><title>");
    page_text(to, title);
    str_add(to, "</title><style>%s</style></head><body>\n<h1>", STYLE);
    page_text(to, title);
    str_add(to, "</h1>\n");
}

void page_end(str *to)
{
    str_add(to, "</body></html>\n");
}

void page_text(str *to, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': str_add(to, "&amp;"); break;
        case '<': str_add(to, "&lt;"); break;
        case '>': str_add(to, "&gt;"); break;
        case '"': str_add(to, "&quot;"); break;
        default: str_put(to, text, 1);
        }
}

static void base64(str *to, const unsigned char *at, size_t n)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)at[i] << 16 | (i + 1 < n ? (unsigned)at[i + 1] << 8 : 0) | (i + 2 < n ? at[i + 2] : 0);
        char four[4] = {DIGITS[v >> 18], DIGITS[v >> 12 & 63], i + 1 < n ? DIGITS[v >> 6 & 63] : '=',
                        i + 2 < n ? DIGITS[v & 63] : '='};
        str_put(to, four, 4);
    }
}

/* Never larger than it is. */
static resize_to thumbnail(const image *m, int side)
{
    int longer = m->h > m->w ? m->h : m->w, most = longer < side ? longer : side;
    int h = (int)((int64_t)m->h * most / longer), w = (int)((int64_t)m->w * most / longer);

    h = h > 0 ? h : 1;
    w = w > 0 ? w : 1;
    return (resize_to){.high = h, .wide = w, .h = h, .w = w};
}

int page_data(str *to, int *h, int *w, const image *m, int side, err *e)
{
    resize_to size = thumbnail(m, side);
    uint8_t *rgb = NEW_N(uint8_t, size.h * size.w * 3);
    str png = {0};
    int rc = resize(rgb, size, (resize_from){m->rgb, m->h, m->w, (size_t)m->w * 3}, RESIZE_BICUBIC, e);

    if (rc == 0)
        rc = image_encode_png(&png, rgb, size.h, size.w, e);
    if (rc == 0) {
        str_add(to, "data:image/png;base64,");
        base64(to, (const unsigned char *)png.at, png.n);
    }
    *h = size.h;
    *w = size.w;
    str_free(&png);
    free(rgb);
    return rc;
}

int page_image(str *to, const image *m, int side, const char *under, err *e)
{
    str data = {0};
    int h, w, rc = page_data(&data, &h, &w, m, side, e);

    if (rc == 0) {
        str_add(to, "<figure><img width=\"%d\" height=\"%d\" alt=\"\" src=\"", w, h);
        str_put(to, data.at, data.n);
        str_add(to, "\"><figcaption>");
        page_text(to, under);
        str_add(to, "</figcaption></figure>\n");
    }
    str_free(&data);
    return rc;
}

int page_picture(str *to, const char *path, int side, const char *under, err *e)
{
    image m;

    TRY(image_load(&m, path, e));
    int rc = page_image(to, &m, side, under, e);
    image_free(&m);
    return rc;
}
