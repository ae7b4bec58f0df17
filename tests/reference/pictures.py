#!/usr/bin/env python3
"""Makes the small pictures of tests/data/pictures and pictures.tsv: what Pillow reads from each of them.

Run with a Python that has Pillow and numpy; the files are committed, so nobody needs to. Expectation: upright by
EXIF, then convert("RGB"); a row is name, height, width, CRC-32 of the bytes. One deviation, stated in data/image.h: of 16-bit grey PNGs the high byte is expected.
"""
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "pictures")
H, W = 19, 26
table = []


def scene(channels, depth=8):
    """Edges, ramps and noise: [H, W, channels] of `depth` bits."""
    r = np.random.default_rng(7)
    y, x = np.mgrid[0:H, 0:W]
    a = np.stack([x / W, y / H, (x + 2 * y) % 17 / 17, (x // 5 + y // 3) % 2, r.random((H, W))], -1)
    mix = np.array([[.7, .1, .1, .0, .1], [.1, .6, .1, .1, .1], [.0, .1, .5, .3, .1], [.2, .2, .2, .2, .2]])
    v = a @ mix[:channels].T
    return np.clip(v * (1 << depth), 0, (1 << depth) - 1).astype(np.uint32)


def expected(data):
    m = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(m.convert("RGB"))


def put(name, data, want=None):
    want = expected(data) if want is None else want
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)
    table.append("%s\t%d\t%d\t%08x\n" % (name, want.shape[0], want.shape[1], zlib.crc32(want.tobytes())))


def saved(m, kind, **how):
    b = io.BytesIO()
    m.save(b, kind, **how)
    return b.getvalue()


def exif(orientation):
    e = Image.Exif()
    e[0x010F] = "maker"          # an entry before the one that counts
    e[0x0112] = orientation
    return e.tobytes()


def exif_big(orientation):
    """As cameras with the other byte order write it."""
    return b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def jpegs():
    rgb = Image.fromarray(scene(3).astype(np.uint8))
    for name, how in {"jpeg_420": {}, "jpeg_444": {"subsampling": 0}, "jpeg_422": {"subsampling": 1},
                      "jpeg_progressive": {"progressive": True}, "jpeg_low": {"quality": 20}}.items():
        put(name + ".jpg", saved(rgb, "JPEG", **({"quality": 90} | how)))
    put("jpeg_grey.jpg", saved(rgb.convert("L"), "JPEG", quality=90))
    cmyk = saved(Image.fromarray(scene(4).astype(np.uint8), "CMYK"), "JPEG", quality=90)
    put("jpeg_cmyk.jpg", cmyk)
    at = cmyk.index(b"Adobe") + 11   # the transform byte: 2 tells a reader that the inks are YCCK
    put("jpeg_ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1:])
    for o in range(1, 9):
        put("exif_%d.jpg" % o, saved(rgb, "JPEG", quality=90, exif=exif(o)))
    put("exif_big_endian.jpg", saved(rgb, "JPEG", quality=90, exif=exif_big(6)))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows(v, depth):
    """[h, w, c] as PNG scan lines, unfiltered."""
    out = b""
    for line in v:
        bits = "".join(format(int(s), "0%db" % depth) for s in line.ravel())
        bits += "0" * (-len(bits) % 8)
        out += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return out


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(v, kind, depth, extra=b"", interlaced=False):
    parts = [v[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [v]
    body = b"".join(rows(p, depth) for p in parts if p.size)
    head = struct.pack(">IIBBBBB", v.shape[1], v.shape[0], depth, kind, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def pngs():
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for kind, c in channels.items():
        for depth in depths[kind]:
            v = scene(c, depth)
            extra = b""
            if kind == 3:
                palette = np.random.default_rng(3).integers(0, 256, (1 << depth, 3)).astype(np.uint8)
                extra = chunk(b"PLTE", palette.tobytes())
            for interlaced in (False, True):
                data = png(v, kind, depth, extra, interlaced)
                want = None
                if kind == 0 and depth == 16:
                    want = np.repeat((v >> 8).astype(np.uint8), 3, -1)
                put("png_%d_%d%s.png" % (kind, depth, "i" if interlaced else ""), data, want)
    palette = chunk(b"PLTE", bytes(range(48)))
    put("png_trns_palette.png", png(scene(1, 4), 3, 4, palette + chunk(b"tRNS", bytes([0, 128, 255]))))
    put("png_trns_grey.png", png(scene(1, 8), 0, 8, chunk(b"tRNS", b"\0\x40")))
    put("png_trns_rgb.png", png(scene(3, 8), 2, 8, chunk(b"tRNS", b"\0\x40\0\x41\0\x42")))
    put("png_gamma.png", png(scene(3, 8), 2, 8, chunk(b"gAMA", struct.pack(">I", 100000))))
    put("png_exif.png", png(scene(3, 8), 2, 8, chunk(b"eXIf", exif(8)[6:])))


def webps():
    rgb = Image.fromarray(scene(3).astype(np.uint8))
    rgba = Image.fromarray(scene(4).astype(np.uint8), "RGBA")
    put("webp_lossy.webp", saved(rgb, "WEBP", quality=80))
    put("webp_lossless.webp", saved(rgb, "WEBP", lossless=True))
    put("webp_alpha.webp", saved(rgba, "WEBP", quality=80))
    put("webp_alpha_lossless.webp", saved(rgba, "WEBP", lossless=True, exact=True))
    put("webp_exif.webp", saved(rgb, "WEBP", lossless=True, exif=exif(5)))


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    jpegs()
    pngs()
    webps()
    with open(os.path.join(OUT, "pictures.tsv"), "w") as f:
        f.writelines(table)
