/* Exponentials of several numbers at a time, and the two loops of attention that need them. */

/* exp(x) for x <= 0 to 2 ulp; 0 below -87, where f32 would lose its digits. x = n ln 2 + r, |r| <= ln 2 / 2; the series
 * of exp r ends after r^7 / 7!, which leaves 5e-9. */
static inline vec exp_negative(vec x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest integer, held in the low bits */
    const ivec live = ~(x <= -87.0f); /* not-a-number lives on */
    const vec safe = (vec)((ivec)x & live);
    const vec t = safe * 1.44269504f + shift, n = t - shift;
    const vec r = safe - n * 0.693359375f - n * -2.12194440e-4f; /* ln 2 in two parts: the first is exact times n */
    vec e = lanes(1.0f / 5040.0f);

    e = e * r + 1.0f / 720.0f;
    e = e * r + 1.0f / 120.0f;
    e = e * r + 1.0f / 24.0f;
    e = e * r + 1.0f / 6.0f;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    return (vec)(((ivec)e + ((ivec)t << 23)) & live); /* times 2^n: n added to the exponent */
}

/* b where they cannot be compared. */
static inline vec larger(vec a, vec b)
{
#if defined __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined __AVX2__
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    const ivec more = a > b;

    return (vec)(((ivec)a & more) | ((ivec)b & ~more));
#endif
}

/* What lane i of columns v .. v + LANES - 1 sees: keys 0..first+v+i. */
static inline vec seen_until(int64_t first, int64_t v)
{
    vec sees;

    for (int i = 0; i < LANES; i++)
        sees[i] = (float)(first + v + i);
    return sees;
}

/* Row j of a panel's columns, -inf where hidden. */
static inline vec seen(const float *s, int64_t j, int64_t v, vec sees)
{
    const ivec hidden = sees < (float)j;

    return (vec)((*(const ivec *)(s + j * SIMD_LANES + v) & ~hidden) | ((ivec)lanes(-INFINITY) & hidden));
}

static inline vec score(const float *s, int64_t j, int64_t v)
{
    return *(const vec *)(s + j * SIMD_LANES + v);
}

/* Over rows 0..to-1, which all lanes see. Four at a time: one greatest would wait for the other. */
static inline vec largest(const float *s, int64_t v, int64_t to, vec most)
{
    vec a = most, b = most, c = most, d = most;
    int64_t j = 0;

    for (; j + 4 <= to; j += 4) {
        a = larger(score(s, j, v), a);
        b = larger(score(s, j + 1, v), b);
        c = larger(score(s, j + 2, v), c);
        d = larger(score(s, j + 3, v), d);
    }
    for (; j < to; j++)
        a = larger(score(s, j, v), a);
    return larger(larger(a, b), larger(c, d));
}

/* Rows before this one are seen by all lanes of the column. */
static inline int64_t seen_by_all(int64_t keys, int64_t first, int64_t v)
{
    const int64_t all = first + v + 1;

    return all < 0 ? 0 : all < keys ? all : keys;
}

static inline void more_keys(float *s, int64_t keys, int64_t first, int64_t v, vec *most, float scale, vec *sum, vec *shrink,
                             const bool keep)
{
    const int64_t all = seen_by_all(keys, first, v);
    const vec sees = seen_until(first, v);
    vec now = largest(s, v, all, *most), some = {0}, more = {0};
    int64_t j;

    for (j = all; j < keys; j++)
        now = larger(seen(s, j, v, sees), now);
    for (j = 0; j + 2 <= all; j += 2) {
        const vec e = exp_negative((score(s, j, v) - now) * scale), f = exp_negative((score(s, j + 1, v) - now) * scale);
        if (keep) {
            *(vec *)(s + j * SIMD_LANES + v) = e;
            *(vec *)(s + (j + 1) * SIMD_LANES + v) = f;
        }
        some += e;
        more += f;
    }
    for (; j < keys; j++) {
        const vec e = exp_negative((seen(s, j, v, sees) - now) * scale);
        if (keep)
            *(vec *)(s + j * SIMD_LANES + v) = e;
        more += e;
    }
    *shrink = exp_negative((*most - now) * scale);
    *sum = *sum * *shrink + (some + more);
    *most = now;
}

static void softmax_more(float *s, int64_t keys, int64_t first, float scale, float *most, float *sum, float *shrink, bool keep)
{
    for (int64_t v = 0; v < SIMD_LANES; v += LANES)
        if (keep)
            more_keys(s, keys, first, v, (vec *)(most + v), scale, (vec *)(sum + v), (vec *)(shrink + v), true);
        else
            more_keys(s, keys, first, v, (vec *)(most + v), scale, (vec *)(sum + v), (vec *)(shrink + v), false);
}

static void softmax_again(float *s, int64_t keys, int64_t first, float scale, const float *most)
{
    for (int64_t v = 0; v < SIMD_LANES; v += LANES) {
        const vec sees = seen_until(first, v), top = *(const vec *)(most + v);
        const int64_t all = seen_by_all(keys, first, v);
        for (int64_t j = 0; j < all; j++)
            *(vec *)(s + j * SIMD_LANES + v) = exp_negative((score(s, j, v) - top) * scale);
        for (int64_t j = all; j < keys; j++)
            *(vec *)(s + j * SIMD_LANES + v) = exp_negative((seen(s, j, v, sees) - top) * scale);
    }
}

static void softmax_grad(float *p, float *dp, int64_t keys, const float *by, const float *less, float scale)
{
    for (int64_t v = 0; v < SIMD_LANES; v += LANES) {
        const vec minus = *(const vec *)(less + v), times = *(const vec *)(by + v);
        for (int64_t j = 0; j < keys; j++) {
            vec *from = (vec *)(p + j * SIMD_LANES + v), *to = (vec *)(dp + j * SIMD_LANES + v);
            *from *= times;
            *to = *from * (*to - minus) * scale;
        }
    }
}
