#!/usr/bin/env python3
"""Writes tests/merge/exact.tsv: merges solved with 400 bits (mpmath), for test_exact.c to stand against.

Usage: merge_exact.py > exact.tsv        needs mpmath
A problem is a line "problem NAME d n s condition", then n rows of R (f32, exactly), s of K (f64, exactly) and s of P, where
P = (K C^-1 K')^-1 K C^-1 and C = R'R are computed in 400 bits and rounded to f64 once. condition: of C, in the 2-norm.
"""
import random
import struct

import mpmath

mpmath.mp.prec = 400
random.seed(7)


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def orthogonal(n):
    return mpmath.qr(mpmath.matrix([[mpmath.mpf(random.gauss(0, 1)) for _ in range(n)] for _ in range(n)]))[0]


def solve(r, k):
    c = r.T * r
    kc = k * mpmath.inverse(c)
    return mpmath.inverse(kc * k.T) * kc, c


def show(kind, m):
    for i in range(m.rows):
        print(kind, *(repr(float(m[i, j])) for j in range(m.cols)), sep="\t")


def problem(name, d, n, s, decades):
    """Features whose directions, turned at random, are spread over `decades` decades."""
    turn = orthogonal(d)
    r = mpmath.matrix(n, d)
    for i in range(n):
        row = mpmath.matrix(1, d)
        for j in range(d):
            row[j] = mpmath.mpf(random.gauss(0, 1)) * mpmath.mpf(10) ** (-mpmath.mpf(decades) * j / (d - 1))
        row = row * turn
        for j in range(d):
            r[i, j] = mpmath.mpf(f32(float(row[j])))
    k = mpmath.matrix([[mpmath.mpf(f32(random.gauss(0, 1))) for _ in range(d)] for _ in range(s)])
    p, c = solve(r, k)
    values = mpmath.eigsy(c, eigvals_only=True)
    print("problem", name, d, n, s, mpmath.nstr(max(values) / min(values), 3), sep="\t")
    show("R", r)
    show("K", k)
    show("P", p)


print("# written by tests/reference/merge_exact.py")
for decades in (0, 2, 4, 5, 6):
    problem(f"spread over {decades} decades", 12, 40, 5, decades)
problem("as many targets as dimensions", 8, 30, 8, 3)
problem("one target", 16, 40, 1, 5.5)
