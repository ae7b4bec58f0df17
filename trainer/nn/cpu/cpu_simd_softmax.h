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

static inline vec larger(vec a, vec b)
{
    const ivec more = a > b;

    return (vec)(((ivec)a & more) | ((ivec)b & ~more));
}

/* Column v .. v + LANES - 1 of a panel. Lane i sees keys 0..first+v+i; what it does not see becomes -inf, then 0. */
static inline void softmax_lanes(float *s, int64_t v, int64_t keys, int64_t first, float scale, float *inverse)
{
    vec most = lanes(-INFINITY), sum = {0}, sees;
    int64_t j = 0;

    for (int i = 0; i < LANES; i++)
        sees[i] = (float)(first + v + i);
    for (; j < keys && j <= first + v; j++)
        most = larger(*(const vec *)(s + j * SIMD_LANES + v), most);
    for (; j < keys; j++) {
        const ivec hidden = sees < (float)j;
        vec *x = (vec *)(s + j * SIMD_LANES + v);
        *x = (vec)(((ivec)*x & ~hidden) | ((ivec)lanes(-INFINITY) & hidden));
        most = larger(*x, most);
    }
    for (j = 0; j < keys; j++) {
        vec *x = (vec *)(s + j * SIMD_LANES + v);
        *x = exp_negative((*x - most) * scale);
        sum += *x;
    }
    *(vec *)(inverse + v) = 1.0f / sum;
}

static void softmax(float *s, int64_t keys, int64_t first, float scale, float *inverse)
{
    for (int64_t v = 0; v < SIMD_LANES; v += LANES)
        softmax_lanes(s, v, keys, first, scale, inverse);
}

static void softmax_grad(float *p, float *dp, int64_t keys, const float *inverse, const float *less, float scale)
{
    for (int64_t v = 0; v < SIMD_LANES; v += LANES) {
        const vec by = *(const vec *)(inverse + v), minus = *(const vec *)(less + v);
        for (int64_t j = 0; j < keys; j++) {
            float *at_p = p + j * SIMD_LANES + v, *at_dp = dp + j * SIMD_LANES + v;
            const vec w = *(const vec *)at_p * by;
            *(vec *)at_p = w;
            *(vec *)at_dp = w * (*(const vec *)at_dp - minus) * scale;
        }
    }
}
