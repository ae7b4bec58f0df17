#!/usr/bin/python3
"""Writes journal/{valid,warn,invalid}: segments of format 1 made by hand from scheduler/README.md, not by the program.

Files of a version stay as they are when a later version comes; the later one gets folders of its own."""
import os, struct, sys, zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "journal")


def head(epoch, prev=0, length=0, crc=0, flags=0, version=1):
    b = b"cfarmjnl" + struct.pack("<IIqqQI", version, flags, epoch, prev, length, crc)
    return b + struct.pack("<I", zlib.crc32(b))


def record(kind, seq, durable, body):
    b = struct.pack("<IHHIQ", len(body), kind, 0, seq, durable) + body
    return struct.pack("<I", zlib.crc32(b)) + b


def segment(first, *bodies, seq=0):
    """One commit a record."""
    out = first
    for i, (kind, body) in enumerate(bodies):
        out += record(kind, seq + i, len(out), body)
    return out


def save(kind, name, expected, **files):
    folder = os.path.join(ROOT, kind, "v1-" + name)
    os.makedirs(folder, exist_ok=True)
    for epoch, data in files.items():
        with open(os.path.join(folder, "%06d.log" % int(epoch[1:])), "wb") as f:
            f.write(data)
    with open(os.path.join(folder, "expected"), "w") as f:
        f.write(expected + "\n")


def save_farm(name, expected, **files):
    """A farm whose records mean something: what its jobs are when they are replayed."""
    folder = os.path.join(ROOT, "farms", "v1-" + name)
    os.makedirs(os.path.join(folder, "journal"), exist_ok=True)
    for epoch, data in files.items():
        with open(os.path.join(folder, "journal", "%06d.log" % int(epoch[1:])), "wb") as f:
            f.write(data)
    with open(os.path.join(folder, "expected"), "w") as f:
        f.write(expected + "\n")


one = segment(head(1), (1, b'{"epoch":1,"by":"a"}'), (2, b'{"name":"rex"}'))
two = segment(head(2, 1, len(one), zlib.crc32(one)), (1, b'{"epoch":2,"by":"b"}'), (7, b""))
text_one = '1:{"epoch":1,"by":"a"} 2:{"name":"rex"} '
text_two = '1:{"epoch":2,"by":"b"} 7: '

save("valid", "one", text_one, s1=one)
save("valid", "two", text_one + text_two, s1=one, s2=two)
save("valid", "zombie-behind-the-seal", text_one + text_two, s1=one + b"late words", s2=two)
save("valid", "gap-in-epochs", text_one + '5:x ', s1=one, s9=segment(head(9, 1, len(one), zlib.crc32(one)), (5, b"x")))
save("valid", "restated", "8:{} 5:x ", s4=segment(head(4, 3, 999, 7, 1), (8, b"{}"), (5, b"x")))
save("warn", "cut-in-a-body", text_one, s1=one + record(3, 2, len(one), b"half of it is missing")[:30])
save("warn", "cut-in-a-record-head", text_one, s1=one + b"\x01\x02\x03")
save("warn", "zeros-at-the-end", text_one, s1=one + bytes(4096))
group = record(3, 2, len(one), b"never"), record(4, 3, len(one), b"committed")
save("warn", "hole-in-the-last-commit", text_one, s1=one + bytes(len(group[0])) + group[1])
hurt = bytearray(one)
hurt[48 + 24 + 3] ^= 1
save("invalid", "flipped-in-the-middle", "000001.log: offset 48: the journal is damaged", s1=bytes(hurt))
save("invalid", "flipped-in-a-sealed-segment", "000001.log: offset 48: the journal is damaged", s1=bytes(hurt), s2=two)
last = bytearray(one)
last[-1] ^= 1
save("invalid", "last-record-of-a-sealed-segment", "000001.log: offset 92: the journal is damaged", s1=bytes(last), s2=two)
save("invalid", "sealed-segment-cut", "000001.log: offset %d: cut short" % (len(one) - 1), s1=one[:-1], s2=two)
other = segment(head(1), (1, b'{"epoch":1,"by":"z"}'), (2, b'{"name":"rex"}'))
save("invalid", "other-bytes-than-were-sealed", "000001.log: not the bytes", s1=other, s2=two)
save("invalid", "no-journal", "000001.log: offset 0: not a journal", s1=b"x" * 200)
save("invalid", "later-version", "a journal of format 2", s1=head(1, version=2))
save("invalid", "epoch-of-another-file", "000003.log: offset 16", s3=one)
swapped = head(1) + record(1, 1, 48, b"second") + record(2, 0, 78, b"first")
save("invalid", "records-out-of-order", "000001.log: offset 48: the journal is damaged", s1=swapped)


def submit(name, more=b"", kind=b"train"):
    return 2, b'{"kind":"%s","name":"%s","priority":"normal","settings":{"steps":3},"steps":3,"batch":8,"leaves":8,"retries":3%s}' % (
        kind, name, more)


def mishap(attempt, more=b""):
    return 5, (b'{"job":0,"attempt":%d,"blame":"node","retry":true,"verdict":"retry","code":"signal","text":"killed","step":0%s}'
               % (attempt, more))


SHA = b"a" * 64
first = segment(
    head(1), (1, b'{"epoch":1,"by":"a"}'), submit(b"rex"), submit(b"bo", b',"hold":true'), submit(b"kiki"), submit(b"moe"),
    submit(b"both", b',"needs":["rex","kiki"]', b"merge"),
    (3, b'{"job":0,"attempt":1,"gang":2,"node":"n"}'),
    (5, b'{"job":0,"attempt":1,"blame":"job","retry":true,"verdict":"retry","code":"nan","text":"not a number","step":2}'),
    (3, b'{"job":0,"attempt":2,"gang":1,"node":"n"}'),
    (4, b'{"job":0,"attempt":2,"sha256":"%s","bytes":7,"seconds":1.5}' % SHA),
    (6, b'{"job":2}'), (7, b'{"job":1}'))
save_farm("first-words", "rex done 2, bo queued 0, kiki cancelled 0, moe queued 0, both queued 0", s1=first)
orders = segment(
    head(2, 1, len(first), zlib.crc32(first)), (1, b'{"epoch":2,"by":"b"}'),
    submit(b"pip", b',"owner":"ana","added":true'), (10, b'{"job":5,"priority":"urgent"}'), (9, b'{"job":3}'),
    (6, b'{"job":1,"ordered":true}'), (7, b'{"job":2,"ordered":true}'))
save_farm("orders", "rex done 2, bo cancelled 0, kiki queued 0, moe hold 0, both queued 0, pip queued 0", s1=first, s2=orders)
restated = segment(
    head(3, 2, 999, 7, 1),
    (8, b'{"epoch":2,"jobs":[{"kind":"train","name":"rex","priority":"urgent","settings":{"steps":3},"steps":3,"batch":8,"leaves":8,'
        b'"retries":3,"owner":"bo","state":"quarantined","attempt":3,"failures":3,"mishaps":0,"why":"it broke","ordered":2}]}'),
    (1, b'{"epoch":3,"by":"c"}'))
save_farm("restated", "rex quarantined 3", s3=restated)
starts = [(3, b'{"job":0,"attempt":%d,"gang":1,"node":"n"}' % i) for i in range(1, 4)]
untold = segment(head(1), (1, b'{"epoch":1,"by":"a"}'), submit(b"rex"), starts[0], mishap(1), starts[1], mishap(2))
save_farm("mishaps-before-waits-were-told", "rex queued 2", s1=untold)
told = segment(
    head(1), (1, b'{"epoch":1,"by":"a"}'), submit(b"rex"), starts[0], mishap(1, b',"wait":0,"mishaps":1'), starts[1],
    mishap(2, b',"wait":4000,"mishaps":2'), (7, b'{"job":0,"ordered":true}'), starts[2])
save_farm("released-while-it-waited", "rex assigned 3", s1=told)
