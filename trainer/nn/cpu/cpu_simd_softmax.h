/* Exponentials of several numbers at a time, and the two loops of attention that need them. */

static inline vec lanes(float x)
{
    return (vec){0} + x;
}

/* exp(x) for x <= 0 to 2 ulp; 0 below -87, where f32 would lose its digits. x = n ln 2 + r, |r| <= ln 2 / 2; the series
 * of exp r ends after r^7 / 7!, which leaves 5e-9. */
static inline vec exp_negative(vec x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest integer, held in the low bits */
    const ivec live = x > -87.0f;
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

static inline float lanes_sum(vec v)
{
    float s = 0.0f;

    for (int i = 0; i < LANES; i++)
        s += v[i];
    return s;
}

static inline float lanes_max(vec v)
{
    float m = v[0];

    for (int i = 1; i < LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

static float softmax(float *x, int64_t n, int64_t padded, float scale)
{
    vec most = lanes(-INFINITY), sum = {0};

    for (int64_t i = n; i < padded; i++)
        x[i] = -INFINITY;
    for (int64_t i = 0; i < padded; i += LANES) {
        vec v = *(const vec *)(x + i);
        ivec more = v > most;
        most = (vec)(((ivec)v & more) | ((ivec)most & ~more));
    }
    const float top = lanes_max(most);
    for (int64_t i = 0; i < padded; i += LANES) {
        vec e = exp_negative((*(const vec *)(x + i) - top) * scale);
        *(vec *)(x + i) = e;
        sum += e;
    }
    return 1.0f / lanes_sum(sum);
}

static void softmax_grad(float *p, float *dp, int64_t n, float inverse, float less, float scale)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vec v = *(const vec *)(p + i) * inverse;
        *(vec *)(p + i) = v;
        *(vec *)(dp + i) = v * (*(const vec *)(dp + i) - less) * scale;
    }
}
