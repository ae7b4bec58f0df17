/* The loops of pointwise operations, of long sums and of AdamW. What is left at the end of a range goes through the
 * same vector arithmetic as the rest, so that no element's bits depend on where it stands. */
#include "trainer/nn/nn.h"

/* The first n < LANES numbers at x, then zeros. */
static inline vec some(const float *x, int64_t n)
{
    vec v = {0};

    memcpy(&v, x, (size_t)n * sizeof(float));
    return v;
}

static inline void store(float *to, vec v)
{
    *(vec *)to = v;
}

static inline void store_some(float *to, vec v, int64_t n)
{
    memcpy(to, &v, (size_t)n * sizeof(float));
}

static inline vec either(ivec mask, vec yes, vec no)
{
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

static inline vec magnitude(vec x)
{
    return (vec)((ivec)x & 0x7fffffff);
}

/* ---- two sources ---- */

#define PAIR(NAME, SIGN)                                                                                     \
    static void NAME(float *out, const float *a, const float *b, bool one, int64_t n)                        \
    {                                                                                                        \
        const vec same = lanes(b[0]);                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        if (one)                                                                                             \
            for (; i + LANES <= n; i += LANES)                                                               \
                store(out + i, at(a + i) SIGN same);                                                           \
        else                                                                                                 \
            for (; i + LANES <= n; i += LANES)                                                               \
                store(out + i, at(a + i) SIGN at(b + i));                                                      \
        for (; i < n; i++)                                                                                   \
            out[i] = a[i] SIGN b[one ? 0 : i];                                                               \
    }

PAIR(add, +)
PAIR(sub, -)
PAIR(mul, *)

static void scale(float *out, const float *x, float by, int64_t n)
{
    mul(out, x, &by, true, n);
}

/* ---- activations ---- */

/* sigmoid(x) and 1 - sigmoid(x), neither by subtraction: e = exp(-|x|) gives 1/(1+e) and e/(1+e). */
static inline vec sigmoid(vec x, vec *rest)
{
    const vec e = exp_negative(-magnitude(x)), large = 1.0f / (1.0f + e), small = e * large;
    const ivec up = x >= 0.0f;

    *rest = either(up, small, large);
    return either(up, large, small);
}

static inline vec silu_of(vec x)
{
    vec rest;

    return x * sigmoid(x, &rest);
}

static inline vec silu_slope(vec x)
{
    vec rest, s = sigmoid(x, &rest);

    return s + x * s * rest;
}

static inline vec quick_gelu_of(vec x)
{
    vec rest;

    return x * sigmoid(1.702f * x, &rest);
}

static inline vec quick_gelu_slope(vec x)
{
    vec rest, s = sigmoid(1.702f * x, &rest);

    return s + 1.702f * x * s * rest;
}

/* The normal distribution's upper tail at |x|, and its density: with t = 1 / (1 + 0.3 |x|) the tail is density times
 * t P(t), P of degree 7. The coefficients are our own least-squares fit over 0..14, largest relative error 1.5e-7. */
static inline vec normal_tail(vec x, vec *density)
{
    const vec a = magnitude(x), t = 1.0f / (1.0f + 0.3f * a), e = exp_negative(-0.5f * a * a);
    vec p = lanes(0.0356751233f);

    p = p * t - 0.157204464f;
    p = p * t + 0.206355765f;
    p = p * t - 0.0536855794f;
    p = p * t + 0.12856257f;
    p = p * t + 0.099913232f;
    p = p * t + 0.120753996f;
    p = p * t + 0.119629294f;
    *density = e * 0.398942280f;
    return e * (p * t);
}

/* x Phi(x) = max(x, 0) - |x| tail: nothing cancels, on neither side. */
static inline vec gelu_of(vec x)
{
    vec density, tail = normal_tail(x, &density);

    return either(x > 0.0f, x, lanes(0.0f)) - magnitude(x) * tail;
}

static inline vec gelu_slope(vec x)
{
    vec density, tail = normal_tail(x, &density);

    return either(x > 0.0f, 1.0f - tail, tail) + x * density;
}

#define ACTIVATION(NAME)                                                                                     \
    static void NAME(float *out, const float *x, int64_t n)                                                  \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i + LANES <= n; i += LANES)                                                                   \
            store(out + i, NAME##_of(at(x + i)));                                                              \
        if (i < n)                                                                                           \
            store_some(out + i, NAME##_of(some(x + i, n - i)), n - i);                                         \
    }                                                                                                        \
    static void NAME##_grad(float *out, const float *x, const float *dy, int64_t n)                          \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
                                                                                                             \
        for (; i + LANES <= n; i += LANES)                                                                   \
            store(out + i, at(dy + i) * NAME##_slope(at(x + i)));                                              \
        if (i < n)                                                                                           \
            store_some(out + i, some(dy + i, n - i) * NAME##_slope(some(x + i, n - i)), n - i);                \
    }

ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(quick_gelu)

static void geglu(float *out, const float *a, const float *b, int64_t n)
{
    int64_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(out + i, at(a + i) * gelu_of(at(b + i)));
    if (i < n)
        store_some(out + i, some(a + i, n - i) * gelu_of(some(b + i, n - i)), n - i);
}

/* da = dy gelu(b), db = dy a gelu'(b), from one tail. */
static inline void geglu_slopes(vec a, vec b, vec dy, vec *da, vec *db)
{
    const ivec up = b > 0.0f;
    vec density, tail = normal_tail(b, &density);

    *da = dy * (either(up, b, lanes(0.0f)) - magnitude(b) * tail);
    *db = dy * a * (either(up, 1.0f - tail, tail) + b * density);
}

static void geglu_grad(float *da, float *db, const float *a, const float *b, const float *dy, int64_t n)
{
    int64_t i = 0;
    vec u, v;

    for (; i + LANES <= n; i += LANES) {
        geglu_slopes(at(a + i), at(b + i), at(dy + i), &u, &v);
        store(da + i, u);
        store(db + i, v);
    }
    if (i < n) {
        geglu_slopes(some(a + i, n - i), some(b + i, n - i), some(dy + i, n - i), &u, &v);
        store_some(da + i, u, n - i);
        store_some(db + i, v, n - i);
    }
}

/* ---- sums ---- */

static float sum(const float *x, int64_t n)
{
    vec s = {0}, t = {0};
    int64_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s += at(x + i);
        t += at(x + i + LANES);
    }
    for (; i < n; i += LANES)
        s += some(x + i, n - i < LANES ? n - i : LANES);
    return lanes_sum(s + t);
}

static float sum_squares(const float *x, int64_t n)
{
    vec s = {0}, t = {0};
    int64_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s += at(x + i) * at(x + i);
        t += at(x + i + LANES) * at(x + i + LANES);
    }
    for (; i < n; i += LANES) {
        vec v = some(x + i, n - i < LANES ? n - i : LANES);
        s += v * v;
    }
    return lanes_sum(s + t);
}

/* ---- AdamW: cpu_ref_update.c has the meaning ---- */

static void adamw(float *w, float *m, float *v, const float *d, const float *h, const float *base, int64_t n)
{
    const float shrink = h[ADAMW_LR] * h[ADAMW_DECAY], step = h[ADAMW_LR] / h[ADAMW_CORRECT1];
    const float b1 = h[ADAMW_BETA1], b2 = h[ADAMW_BETA2], root = sqrtf(h[ADAMW_CORRECT2]);

    if (base)
        for (int64_t i = 0; i < n; i++)
            w[i] -= shrink * (w[i] - base[i]);
    else
        scale(w, w, 1.0f - shrink, n);
    for (int64_t i = 0; i < n; i++) {
        float g = d[i] * h[ADAMW_GRAD_SCALE];
        m[i] = b1 * m[i] + (1.0f - b1) * g;
        v[i] = b2 * v[i] + (1.0f - b2) * g * g;
        w[i] -= step * (m[i] / (sqrtf(v[i]) / root + h[ADAMW_EPS]));
    }
}

/* ---- bf16 ---- */

static inline uint16_t narrowed(uint32_t x)
{
    uint32_t nan = (x & 0x7fffffff) > 0x7f800000;

    return (uint16_t)(((x + 0x7fff + (x >> 16 & 1)) >> 16 & ~(0u - nan)) | ((x >> 16 | 0x40) & (0u - nan)));
}

/* Integers throughout, so that any processor's vectors give the same bits. */
static void narrow(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        out[i] = narrowed(u);
    }
}

/* ---- bf16 by chance: cpu_ref_update.c has the meaning ---- */

enum { PHILOX_AT_ONCE = 16 }; /* counters: 8 halves of words each */

/* rng_philox of neighbouring counters from `block` on; word w of counter j in out[4 j + w]. */
static void philox(uint32_t out[4 * PHILOX_AT_ONCE], const uint32_t s[4], uint64_t block)
{
    uint32_t c[4][PHILOX_AT_ONCE], k0 = s[0], k1 = s[1];

    for (int j = 0; j < PHILOX_AT_ONCE; j++) {
        c[0][j] = (uint32_t)(block + (uint64_t)j);
        c[1][j] = (uint32_t)((block + (uint64_t)j) >> 32);
        c[2][j] = s[2];
        c[3][j] = s[3];
    }
    for (int round = 0; round < 10; round++) {
        for (int j = 0; j < PHILOX_AT_ONCE; j++) {
            uint64_t p0 = (uint64_t)0xD2511F53 * c[0][j], p1 = (uint64_t)0xCD9E8D57 * c[2][j];
            c[0][j] = (uint32_t)(p1 >> 32) ^ c[1][j] ^ k0;
            c[1][j] = (uint32_t)p1;
            c[2][j] = (uint32_t)(p0 >> 32) ^ c[3][j] ^ k1;
            c[3][j] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    for (int j = 0; j < PHILOX_AT_ONCE; j++)
        for (int w = 0; w < 4; w++)
            out[4 * j + w] = c[w][j];
}

static void round_up_or_down(uint16_t *out, const float *x, const float stream[4], uint64_t first, int64_t n)
{
    enum { PART = 8 * PHILOX_AT_ONCE };
    uint32_t s[4], words[PART / 2];

    memcpy(s, stream, sizeof s);
    for (int64_t at = 0; at < n; at += PART) {
        int64_t most = n - at < PART ? n - at : PART;
        philox(words, s, (first + (uint64_t)at) / 8);
        for (int64_t i = 0; i < most; i++) {
            uint32_t u;
            memcpy(&u, x + at + i, sizeof u);
            uint32_t by_chance = (u + (words[i / 2] >> 16 * (i % 2) & 0xffff)) >> 16;
            out[at + i] = (u & 0x7f800000) == 0x7f800000 ? narrowed(u) : (uint16_t)by_chance;
        }
    }
}
