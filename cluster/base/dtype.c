/* Element types and the 16-bit floats. The conversions work on bits and on normal numbers only, so that a thread
 * which flushes subnormals (as some math libraries set it) reads the same values. */
#include "cluster/base/dtype.h"

#include <string.h>

#include "cluster/base/err.h"

static const struct {
    const char *name;
    size_t bytes;
} TYPES[DTYPE_COUNT] = {
    [F32] = {"F32", 4}, [BF16] = {"BF16", 2}, [F16] = {"F16", 2}, [F64] = {"F64", 8}, [U8] = {"U8", 1},
    [I8] = {"I8", 1},   [I16] = {"I16", 2},   [I32] = {"I32", 4}, [I64] = {"I64", 8}, [BOOL8] = {"BOOL", 1},
};

size_t dtype_bytes(dtype t)
{
    CHECK((unsigned)t < DTYPE_COUNT);
    return TYPES[t].bytes;
}

const char *dtype_name(dtype t)
{
    CHECK((unsigned)t < DTYPE_COUNT);
    return TYPES[t].name;
}

int dtype_find(const char *name, dtype *out)
{
    for (int t = 0; t < DTYPE_COUNT; t++) {
        if (strcmp(TYPES[t].name, name) == 0) {
            *out = (dtype)t;
            return 0;
        }
    }
    return -1;
}

static uint32_t bits_of(float v)
{
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    return b;
}

static float float_of(uint32_t b)
{
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}

float f32_of_bf16(uint16_t v)
{
    return float_of((uint32_t)v << 16);
}

uint16_t bf16_of_f32(float v)
{
    uint32_t b = bits_of(v);
    if ((b & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((b >> 16) | 0x40); /* quiet, and never an infinity */
    return (uint16_t)((b + 0x7fff + ((b >> 16) & 1)) >> 16);
}

/* All ones where it holds. */
static inline uint32_t mask_of(int holds) { return 0u - (uint32_t)holds; }

/* By masks, not branches, and with comparisons every processor's vectors have: a model's file may hold a billion of them. */
static inline float of_f16(uint16_t v)
{
    const int32_t least = 1 << 23, infinite = 31 << 23; /* exponents of 1 and 31 */
    int32_t m = (v & 0x7fff) << 13;
    uint32_t sign = (uint32_t)(v & 0x8000) << 16, special = mask_of(m >= infinite), tiny = mask_of(m < least);
    uint32_t small = bits_of((float)(v & 0x3ff) * 0x1p-24f); /* zero and subnormals: multiples of 2^-24 */
    uint32_t usual = (uint32_t)m + (112u << 23) + (special & 112u << 23);

    return float_of(sign | (tiny & small) | (~tiny & usual) | (mask_of(m > infinite) & 0x400000u));
}

float f32_of_f16(uint16_t v)
{
    return of_f16(v);
}

uint16_t f16_of_f32(float v)
{
    uint32_t b = bits_of(v), sign = (b >> 16) & 0x8000, m = b & 0x7fffffff;
    if (m > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | ((m >> 13) & 0x3ff));
    if (m >= 0x47800000) /* 65536 and beyond */
        return (uint16_t)(sign | 0x7c00);
    if (m < 0x38800000) /* below 2^-14: adding 0.5 makes the unit in the last place 2^-24, and rounds to even */
        return (uint16_t)(sign | (bits_of(float_of(m) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((m + 0xfff + ((m >> 13) & 1) - (112u << 23)) >> 13));
}

#ifdef __x86_64__
#include <immintrin.h>

/* Eight at once: a model's weights are converted before its first step. Returns how many. */
__attribute__((target("avx2,f16c"))) static size_t by_eight(float *to, const unsigned char *at, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(at + 2 * i))));
    return i;
}

static size_t f16_at_once(float *to, const unsigned char *at, size_t n)
{
    return __builtin_cpu_supports("avx2") ? by_eight(to, at, n) : 0; /* every processor with AVX2 has F16C */
}
#else
static size_t f16_at_once(float *to, const unsigned char *at, size_t n)
{
    (void)to, (void)at, (void)n;
    return 0;
}
#endif

void f32_from(float *to, const void *from, dtype t, size_t n)
{
    CHECK(t == F32 || t == BF16 || t == F16 || t == F64);
    const unsigned char *at = from; /* perhaps unaligned: it may lie anywhere in a mapped file */
    uint16_t half;
    double wide;
    if (t == F32) {
        if (n > 0)
            memcpy(to, from, n * sizeof *to);
    } else if (t == BF16) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, at + 2 * i, 2);
            to[i] = f32_of_bf16(half);
        }
    } else if (t == F16) {
        for (size_t i = f16_at_once(to, at, n); i < n; i++) {
            memcpy(&half, at + 2 * i, 2);
            to[i] = of_f16(half);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            memcpy(&wide, at + 8 * i, 8);
            to[i] = (float)wide;
        }
    }
}

void f32_into(void *to, dtype t, const float *from, size_t n)
{
    CHECK(t == F32 || t == BF16 || t == F16 || t == F64);
    unsigned char *at = to;
    if (t == F32) {
        if (n > 0)
            memcpy(to, from, n * sizeof *from);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half = t == BF16 ? bf16_of_f32(from[i]) : t == F16 ? f16_of_f32(from[i]) : 0;
        double wide = from[i];
        if (t == F64)
            memcpy(at + 8 * i, &wide, 8);
        else
            memcpy(at + 2 * i, &half, 2);
    }
}
