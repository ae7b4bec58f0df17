#!/usr/bin/env python3
"""What Pillow's resize gives for made-up pictures: the table tests/data/resize.tsv, and a comparison at random sizes.

    resize.py table > tests/data/resize.tsv
    resize.py compare BUILD/bin/resize_once [COUNT]      every byte, at random sizes; needs Pillow and numpy
"""
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def picture(h, w):
    """The same bytes as picture() of tests/data/test_resize.c."""
    i = np.arange(h * w * 3, dtype=np.uint64)
    mixed = (i * np.uint64(2654435761) + (i >> np.uint64(4)) * np.uint64(40503)) & np.uint64(0xFFFFFFFF)
    v = mixed >> np.uint64(13)
    return np.where(i // np.uint64(48) % np.uint64(2) == 0, v & np.uint64(255),
                    (v & np.uint64(1)) * np.uint64(255)).astype(np.uint8).reshape(h, w, 3)


def resized(a, h, w, name):
    return np.asarray(Image.fromarray(a).resize((w, h), FILTERS[name]))


def table():
    sizes = [(1, 1, 1, 1), (1, 1, 5, 3), (2, 3, 7, 5), (7, 5, 2, 3), (16, 16, 16, 16), (16, 16, 16, 9), (16, 16, 9, 16),
             (31, 17, 64, 64), (64, 64, 22, 22), (64, 64, 37, 37), (97, 61, 64, 64), (100, 300, 64, 192),
             (300, 100, 64, 64), (257, 259, 90, 90), (64, 64, 77, 89), (199, 200, 199, 170), (500, 3, 3, 500)]
    for h, w, h2, w2 in sizes:
        for name in FILTERS:
            out = resized(picture(h, w), h2, w2, name)
            print("%s\t%d\t%d\t%d\t%d\t%08x" % (name, h, w, h2, w2, zlib.crc32(out.tobytes())))


def compare(program, count):
    r = np.random.default_rng()
    for k in range(count):
        h, w, h2, w2 = (int(2 ** r.uniform(0, 9.5)) for _ in range(4))
        name = "bicubic" if r.random() < .5 else "bilinear"
        kind = int(r.integers(3))
        a = r.integers(0, 256, (h, w, 3), dtype=np.uint8)
        a = [a, (a > 127).astype(np.uint8) * 255, picture(h, w)][kind]
        got = subprocess.run([program, name, *map(str, (h, w, h2, w2))], input=a.tobytes(), capture_output=True,
                             check=True).stdout
        if got != resized(a, h2, w2, name).tobytes():
            sys.exit("%s %dx%d -> %dx%d differs (kind %d)" % (name, h, w, h2, w2, kind))
    print("%d pictures, every byte equal" % count)


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        table()
    elif len(sys.argv) > 2 and sys.argv[1] == "compare":
        compare(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 200)
    else:
        sys.exit(__doc__)
