/* resize_once FILTER H W HIGH WIDE < [H, W, 3] > [HIGH, WIDE, 3]: lets tests/reference/resize.py compare. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/resize.h"

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: resize_once bilinear|bicubic H W HIGH WIDE\n");
        return 2;
    }
    resize_filter filter = strcmp(argv[1], "bicubic") == 0 ? RESIZE_BICUBIC : RESIZE_BILINEAR;
    int h = atoi(argv[2]), w = atoi(argv[3]), high = atoi(argv[4]), wide = atoi(argv[5]);
    size_t in = (size_t)h * (size_t)w * 3, out = (size_t)high * (size_t)wide * 3;
    uint8_t *from = mem_new(in, 1), *to = mem_new(out, 1);
    err e;

    int rc = fread(from, 1, in, stdin) != in;
    if (!rc && (rc = resize(to, (resize_to){high, wide, 0, 0, high, wide}, (resize_from){from, h, w, (size_t)w * 3},
                            filter, &e)) != 0)
        fprintf(stderr, "%s\n", e.text);
    if (!rc)
        rc = fwrite(to, 1, out, stdout) != out;
    free(from);
    free(to);
    return rc;
}
