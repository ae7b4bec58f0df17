"""The numbers of test_rng.c, from the paper's definition in plain integers: python3 tests/reference/philox.py"""
import math
import struct

SEED, PURPOSE, STEP, SAMPLE = 0x123456789ABCDEF0, b"noise", 250, 5


def philox4x32(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def fnv1a(text):
    h = 0xCBF29CE484222325
    for byte in text:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def main():
    key = fnv1a(PURPOSE) ^ SEED
    key = [key & 0xFFFFFFFF, key >> 32]
    words = [w for block in range(2) for w in philox4x32([block, 0, STEP, SAMPLE], key)]
    normals = []
    for i in range(0, 8, 2):
        r = math.sqrt(-2 * math.log((words[i] + 1) / 2**32))
        a = words[i + 1] * (6.283185307179586 / 2**32)
        normals += [f32(r * math.cos(a)), f32(r * math.sin(a))]
    print("key", *(f"0x{k:08x}" for k in key))
    print("words", *(f"0x{w:08x}," for w in words[:6]))
    print("normals", *(f"{z.hex()}f," for z in normals[:6]))


if __name__ == "__main__":
    main()
