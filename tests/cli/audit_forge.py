#!/usr/bin/python3
"""Falsifies a farm's journal so that nothing but its meaning tells: every checksum, length and seal fits again (scheduler/README.md).

  audit_forge.py FARM EDIT     EDIT: Python that changes `r`, the list of records [segment, type, body] of all segments

Types by name: EPOCH SUBMIT START DONE FAILED CANCEL RELEASE SNAPSHOT HOLD PRIORITY ADOPT; at(TYPE, JOB=None, k=0) is the index in `r` of
the k-th record of that type, of that job where one is named."""
import glob, json, os, struct, sys, zlib

NAMES = dict(EPOCH=1, SUBMIT=2, START=3, DONE=4, FAILED=5, CANCEL=6, RELEASE=7, SNAPSHOT=8, HOLD=9, PRIORITY=10, ADOPT=11)


def read(path):
    b = open(path, "rb").read()
    out, at = [], 48
    while at < len(b):
        n, kind = struct.unpack_from("<IH", b, at + 4)
        out.append([kind, json.loads(b[at + 24:at + 24 + n])])
        at += 24 + n
    return b[:48], out


def write(path, head, records, before):
    """before: the bytes of the segment that this one seals."""
    version, flags, epoch, prev, _, _ = struct.unpack_from("<IIqqQI", head, 8)
    b = b"cfarmjnl" + struct.pack("<IIqqQI", version, flags, epoch, prev, len(before), zlib.crc32(before) if before else 0)
    b += struct.pack("<I", zlib.crc32(b))
    for i, (kind, body) in enumerate(records):
        text = json.dumps(body, separators=(",", ":")).encode()
        rest = struct.pack("<IHHIQ", len(text), kind, 0, i, len(b)) + text
        b += struct.pack("<I", zlib.crc32(rest)) + rest
    open(path, "wb").write(b)
    return b


def main():
    paths = sorted(glob.glob(os.path.join(sys.argv[1], "journal", "*.log")))
    heads, r = [], []
    for i, path in enumerate(paths):
        head, records = read(path)
        heads.append(head)
        r += [[i, kind, body] for kind, body in records]

    def at(kind, job=None, k=0):
        return [i for i, (_, t, o) in enumerate(r) if t == kind and (job is None or o.get("job") == job)][k]

    exec(sys.argv[2], dict(NAMES, r=r, at=at, json=json))
    before = b""
    for i, path in enumerate(paths):
        before = write(path, heads[i], [(t, o) for s, t, o in r if s == i], before)


main()
