/* Exponentials of several numbers at a time. */

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

/* 2^r to 1.6e-7 of it, |r| <= 1/2: the polynomial of degree 5 whose largest relative error is least (9.1e-8). */
static inline vec exp2_near(vec r)
{
    vec e = lanes(1.326472731307149e-3f);

    e = e * r + 9.671512991189957e-3f;
    e = e * r + 5.550733581185341e-2f;
    e = e * r + 0.24022242426872253f;
    e = e * r + 0.6931470036506653f;
    return e * r + 1.0f;
}

/* 2^x; 0 below -126, where f32 would lose its digits, and 2^127 or infinity beyond 127. Not-a-number lives on. */
static inline vec exp2_any(vec x)
{
#if defined __AVX512F__
    const __m512 at = (__m512)x, n = _mm512_roundscale_ps(at, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 live = _mm512_cmp_ps_mask(at, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);

    return (vec)_mm512_maskz_scalef_ps(live, (__m512)exp2_near(x - (vec)n), n);
#else
    const float shift = 12582912.0f;
    const ivec live = ~(x < -126.0f);
    const vec below = (vec)((ivec)x & live), safe = -larger(lanes(-127.0f), -below);
    const vec t = safe + shift, n = t - shift;

    return (vec)(((ivec)exp2_near(safe - n) + ((ivec)t << 23)) & live);
#endif
}
