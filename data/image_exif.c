/* The one EXIF tag that moves pixels: orientation. The block is untrusted; every read is checked. Source: TIFF 6.0,
 * "Image File Directory"; EXIF 2.32, 4.6.4 A. */
#include <string.h>

#include "data/image_codec.h"

typedef struct {
    image_bytes block;
    bool big; /* "MM": most significant byte first */
} tiff;

static unsigned read_bytes(tiff t, size_t at, int n)
{
    unsigned v = 0;

    if (at > t.block.n || t.block.n - at < (size_t)n)
        return 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | t.block.at[at + (size_t)(t.big ? i : n - 1 - i)];
    return v;
}

int exif_orientation(image_bytes block)
{
    enum { TAG = 0x0112, SHORT = 3, ENTRY = 12 };

    if (block.n >= 6 && memcmp(block.at, "Exif\0\0", 6) == 0)
        block = (image_bytes){block.at + 6, block.n - 6};
    if (block.n < 8 || (memcmp(block.at, "II*\0", 4) != 0 && memcmp(block.at, "MM\0*", 4) != 0))
        return 1;

    tiff t = {block, block.at[0] == 'M'};
    size_t dir = read_bytes(t, 4, 4);
    unsigned count = read_bytes(t, dir, 2);
    for (unsigned i = 0; i < count; i++) {
        size_t entry = dir + 2 + (size_t)i * ENTRY;
        if (read_bytes(t, entry, 2) != TAG || read_bytes(t, entry + 2, 2) != SHORT)
            continue;
        unsigned v = read_bytes(t, entry + 8, 2);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}
