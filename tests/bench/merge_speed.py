#!/usr/bin/python3
"""Whole merges timed from the start of the process to the synced file, beside the published arithmetic.

Usage: merge_speed.py BUILD [CONCEPTS ...]      prints CSV; BUILD: a build folder of this project
Cards and features are those of bench_merge --files (the sizes of Stable Diffusion 1.5), in the page cache. For the rows
"full" a base model is made of holes (16-bit zeroes that take no disk) with random K and V matrices in it.
The published program's arithmetic is re-made where NumPy and SciPy are: per matrix R'R anew in f32, LU, one solve a target
row, an explicit inverse (facts of the algorithm: merge/README.md); without its model's loading, which takes longer.
Times are medians of 9 runs; `times` is the published arithmetic's over the factors file's.
"""
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

build = os.path.abspath(sys.argv[1])
counts = [int(n) for n in sys.argv[2:]] or [2]
RUNS = 9
LAYERS = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320]
work = tempfile.mkdtemp(prefix="cf-speed-")


def run(*args):
    start = time.perf_counter()
    done = subprocess.run([f"{build}/bin/cfarm-merge", "merge", *args], cwd=work, capture_output=True, text=True)
    spent = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(done.stderr)
    return spent


def timed(*args):
    run(*args)
    return statistics.median(run(*args) for _ in range(RUNS))


def published(n):
    """Seconds of the authors' arithmetic for n concepts of 6 rows; None without SciPy."""
    try:
        import numpy
        import scipy.linalg
    except ImportError:
        return None
    random = numpy.random.default_rng(1)
    reg = random.standard_normal((2300, 768), dtype=numpy.float32)
    target = random.standard_normal((6 * n, 768), dtype=numpy.float32)
    start = time.perf_counter()
    for out in LAYERS:
        for _ in range(2):
            w0 = numpy.full((out, 768), 0.03, numpy.float32)
            value = numpy.ones((6 * n, out), numpy.float32)
            loss = reg.T @ reg
            lu = scipy.linalg.lu_factor(loss)
            d = numpy.stack([scipy.linalg.lu_solve(lu, row) for row in target])
            right = value.T - w0 @ target.T
            right @ numpy.linalg.inv(d @ target.T) @ d + w0
    return time.perf_counter() - start


def with_holes(path, shapes, values):
    """A safetensors file of F16 zeroes, with F32 values for some."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 1
        for d in shape:
            size *= d
        kind, width = ("F32", 4) if name in values else ("F16", 2)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size * width]}
        at += size * width
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, data in values.items():
            f.seek(8 + len(text) + header[name]["data_offsets"][0])
            f.write(data)
        f.truncate(8 + len(text) + at)


try:
    print("concepts,file,ms,published_ms,times")
    subprocess.run([f"{build}/bin/bench_merge", "--files", work, str(max(counts))], check=True, stderr=subprocess.DEVNULL)
    for n in counts:
        cards = [f"{i}.h5" for i in range(n)]
        common = [*cards, "-o", "m.h5", "--features", "features.h5", "--accept-drift"]
        theirs = published(n) if n <= 100 else None
        for name, flags in (("factors", ["--factors-only", *(["--relax", "ridge"] if n > 100 else [])]), ("bank", ["--relax", "bank"])):
            if name == "factors" and n > 200:
                continue
            spent = timed(*common, *flags)
            print(f"{n},{name},{1e3 * spent:.1f},{1e3 * theirs:.0f},{theirs / spent:.1f}" if theirs and name == "factors"
                  else f"{n},{name},{1e3 * spent:.1f},,", flush=True)
        if 2 < n <= 200:
            run(*common, "--factors-only")
            shutil.copy(f"{work}/m.h5", f"{work}/many.h5")
            again = ["--features", "features.h5", "--accept-drift", "--factors-only", "-o", "m.h5"]
            run(*cards[:-1], *again)
            shutil.copy(f"{work}/m.h5", f"{work}/fewer.h5")
            print(f"{n},add one,{1e3 * timed('fewer.h5', cards[-1], *again):.1f},,", flush=True)
            print(f"{n},remove one,{1e3 * timed('many.h5', '--remove', '5', *again):.1f},,", flush=True)
finally:
    shutil.rmtree(work)
