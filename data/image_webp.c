/* WebP by libwebp: still pictures, lossy or lossless. */
#include <string.h>
#include <webp/decode.h>

#include "data/image_codec.h"

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* RIFF: 12 bytes of header, then chunks of a name, a length and, to an even number, bytes. */
static int orientation_of(image_bytes file)
{
    for (size_t at = 12; at + 8 <= file.n;) {
        size_t n = le32(file.at + at + 4), left = file.n - at - 8;
        if (n > left)
            return 1;
        if (memcmp(file.at + at, "EXIF", 4) == 0)
            return exif_orientation((image_bytes){file.at + at + 8, n});
        at += 8 + n + (n & 1);
    }
    return 1;
}

static int refuse(VP8StatusCode why, err *e)
{
    switch (why) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return image_cut_short(e);
    case VP8_STATUS_OUT_OF_MEMORY:
        return err_set(e, ERR_MEMORY, "libwebp has no memory for it");
    default:
        return image_damaged(e, "libwebp cannot read it");
    }
}

static int head(image_info *out, image_bytes file, err *e)
{
    WebPBitstreamFeatures f;
    VP8StatusCode rc = WebPGetFeatures(file.at, file.n, &f);

    if (rc != VP8_STATUS_OK)
        return refuse(rc, e);
    if (f.has_animation)
        return err_set(e, ERR_INPUT, "an animated WebP; save one of its pictures as a still");
    *out = (image_info){f.height, f.width, IMAGE_WEBP, orientation_of(file)};
    return 0;
}

static int pixels(uint8_t *rgb, image_info as, image_bytes file, err *e)
{
    WebPDecoderConfig c;

    if (!WebPInitDecoderConfig(&c))
        return err_set(e, ERR_DEVICE, "libwebp is of another version than its header");
    c.output.colorspace = MODE_RGB;
    c.output.is_external_memory = 1;
    c.output.u.RGBA.rgba = rgb;
    c.output.u.RGBA.stride = as.w * 3;
    c.output.u.RGBA.size = (size_t)as.h * (size_t)as.w * 3;
    VP8StatusCode rc = WebPDecode(file.at, file.n, &c);
    return rc == VP8_STATUS_OK ? 0 : refuse(rc, e);
}

const image_codec image_webp = {head, pixels};
