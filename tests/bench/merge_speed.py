#!/usr/bin/python3
"""Whole merges timed from the start of the process to the synced file, beside the published arithmetic.

Usage: merge_speed.py BUILD [--model MODEL | --files DIR] [--ridge] [CONCEPTS ...]      prints CSV; BUILD: a build folder of this project
Cards and features are those of bench_merge --files (the sizes of Stable Diffusion 1.5), in the page cache. The rows "full" (and
the fingerprint that goes with them) need MODEL, a folder made by `bench_model sd15 MODEL TOKENIZER f16`. From 128 concepts
on there is no exact merge: "relaxed" is by a ridge (asked for by --ridge), "cold" with the cards out of the page cache. DIR: cards that
`bench_merge --files DIR N` made before, for as many concepts. "add one" and its like change a merged file in place, "elsewhere" write another
beside it; the file is copied and synced anew before each, untimed. "disk" is what writing and syncing the last merged file's bytes takes alone.
The published program's arithmetic is re-made where NumPy, SciPy and h5py are, on the same captions' features and cards: per matrix
R'R anew in f32, LU, one solve a target row, an explicit inverse (facts of the algorithm: merge/README.md); without its model's
loading, which takes longer. What it finds must be what ours finds with the first token free, to a hundredth.
Times are medians of 9 runs, of 3 from 1,000 concepts on; `times` is the published arithmetic's over ours: of "factors", the whole
process from its start to the synced file; of "arithmetic", the solve with all figures of the certificate within a process.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

build = os.path.abspath(sys.argv[1])
model = os.path.abspath(sys.argv[3]) if sys.argv[2:3] == ["--model"] else None
files = os.path.abspath(sys.argv[3]) if sys.argv[2:3] == ["--files"] else None
rest = sys.argv[4 if model or files else 2:]
ridge = "--ridge" in rest
counts = [int(n) for n in rest if n != "--ridge"] or [2]
LIMIT = 127  # of concepts of 6 rows in 768 dimensions
LAYERS = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320]
work = files or tempfile.mkdtemp(prefix="cf-speed-")


def run(*args):
    start = time.perf_counter()
    done = subprocess.run([f"{build}/bin/cfarm-merge", "merge", *args], cwd=work, capture_output=True, text=True)
    spent = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(done.stderr)
    return spent


def chill(cards):
    """Their bytes, which lie on the disk, out of the page cache."""
    for card in cards:
        fd = os.open(f"{work}/{card}", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def timed(*args, cold=()):
    run(*args)
    times = []
    for _ in range(3 if n >= 1000 else 9):
        chill(cold)
        times.append(run(*args))
    return statistics.median(times)


def changed(start, to, *args):
    """Of a merged file that lies there synced, as `m.h5`."""
    times = []
    for _ in range(10):
        shutil.copy(f"{work}/{start}", f"{work}/m.h5")
        with open(f"{work}/m.h5", "rb") as f:
            os.fsync(f.fileno())
        times.append(run("m.h5", *args, "-o", to))
    return statistics.median(times[1:])


def disk():
    """Seconds to write and sync as many bytes as m.h5 has."""
    with open(f"{work}/m.h5", "rb") as f:
        text = f.read()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        with open(f"{work}/again", "wb", buffering=0) as f:
            f.write(text)
            os.fsync(f.fileno())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def published(n):
    """Seconds of the authors' arithmetic for the first n concepts; None without its libraries."""
    try:
        import h5py
        import numpy
        import scipy.linalg
    except ImportError:
        return None
    reg = numpy.fromfile(f"{work}/rows.f32", numpy.float32).reshape(-1, 768)
    cards = [h5py.File(f"{work}/{i}.h5")["card"] for i in range(n)]
    target = numpy.concatenate([c["k"][:] for c in cards])
    image = numpy.concatenate([c["image"][:] for c in cards])
    random = numpy.random.default_rng(1)
    widths = [out for out in LAYERS for _ in range(2)]
    base = [0.03 * random.standard_normal((out, 768), dtype=numpy.float32) for out in widths]
    ends = numpy.cumsum(widths)
    value = [target @ w0.T + image[:, end - len(w0):end] for w0, end in zip(base, ends)]
    found = []
    start = time.perf_counter()
    for w0, wanted in zip(base, value):
        lu = scipy.linalg.lu_factor(reg.T @ reg)
        d = numpy.stack([scipy.linalg.lu_solve(lu, row) for row in target])
        right = wanted.T - w0 @ target.T
        found.append(right @ numpy.linalg.inv(d @ target.T) @ d + w0)
    spent = time.perf_counter() - start
    run(*[f"{i}.h5" for i in range(n)], "-o", "free.h5", "--features", "features.h5", "--accept-drift", "--factors-only", "--bos",
        "free")
    with h5py.File(f"{work}/free.h5") as f:
        left = numpy.concatenate([f["factors/left"][i][:] for i in sorted(f["factors/left"])])
        ours = left.T.astype(float) @ f["factors/right"][:]
    theirs = numpy.concatenate([w - w0 for w, w0 in zip(found, base)])
    off = numpy.linalg.norm(theirs - ours) / numpy.linalg.norm(ours)
    if not off < 0.01:
        sys.exit(f"the published arithmetic finds another update: {off:.2g} of it differs")
    return spent


def arithmetic(n):
    """Milliseconds of our solve within a process."""
    rows = subprocess.run([f"{build}/bin/bench_merge", str(n)], check=True, capture_output=True, text=True).stdout.split()
    return float(rows[1].split(",")[3])


try:
    print("concepts,file,ms,published_ms,times")
    if not files:
        subprocess.run([f"{build}/bin/bench_merge", "--files", work, str(max(counts)), *([model] if model else [])], check=True,
                       stderr=subprocess.DEVNULL)
    for n in counts:
        cards = [f"{i}.h5" for i in range(n)]
        common = ["-o", "m.h5", "--features", "features.h5", "--accept-drift"]
        only = [*common, "--factors-only"]
        exact = n <= LIMIT
        theirs = published(n) if n <= 100 else None
        kinds = [("bank", [*common, "--relax", "bank"])]
        if model and exact:
            kinds.insert(0, ("full", [*common, "--base", model]))
        if exact:
            kinds.insert(0, ("factors", only))
        elif ridge:
            kinds.insert(0, ("relaxed", [*only, "--relax", "ridge"]))
        for name, flags in kinds:
            spent = timed(*cards, *flags)
            beside = f"{1e3 * theirs:.0f},{theirs / spent:.1f}" if theirs and name == "factors" else ","
            print(f"{n},{name},{1e3 * spent:.1f},{beside}", flush=True)
            if theirs and name == "factors":
                ours = arithmetic(n)
                print(f"{n},arithmetic,{ours:.1f},{1e3 * theirs:.0f},{1e3 * theirs / ours:.1f}", flush=True)
            if n >= 100 and name != "full":
                print(f"{n},{name} cold,{1e3 * timed(*cards, *flags, cold=cards):.1f},,", flush=True)
        if 2 < n <= LIMIT:
            run(*cards[:-1], *only)
            shutil.copy(f"{work}/m.h5", f"{work}/fewer.h5")
            run(*cards, *only)
            shutil.copy(f"{work}/m.h5", f"{work}/many.h5")
            bare = only[2:]
            for name, to in ("", "m.h5"), (" elsewhere", "other.h5"):
                print(f"{n},add one{name},{1e3 * changed('fewer.h5', to, cards[-1], *bare):.1f},,", flush=True)
                print(f"{n},remove one{name},{1e3 * changed('many.h5', to, '--remove', '5', *bare):.1f},,", flush=True)
            print(f"{n},weigh one,{1e3 * changed('many.h5', 'm.h5', '--weight', '5=0.5', *bare):.1f},,", flush=True)
            print(f"{n},disk,{1e3 * disk():.1f},,", flush=True)
finally:
    if not files:
        shutil.rmtree(work)
