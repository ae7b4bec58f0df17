/* A register of LANES numbers, and what the compiler's vectors lack. */
#if defined __AVX512F__ || defined __AVX2__
#include <immintrin.h>
#endif

enum { LANES = SIMD_BYTES / 4 };
typedef float vec __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));

/* Half a panel's numbers: a narrower register where that is one. */
#if SIMD_BYTES > 32
typedef float half_vec __attribute__((vector_size(32), aligned(4), may_alias));
enum { HALF_LANES = 8 };
#else
typedef vec half_vec;
enum { HALF_LANES = LANES };
#endif

static inline vec lanes(float x)
{
    return (vec){0} + x;
}

static inline ivec first_lanes(int64_t n)
{
    ivec count;

    for (int i = 0; i < LANES; i++)
        count[i] = i;
    return count < (int32_t)n;
}

/* The first n lanes, 0 <= n < LANES, the others 0: by mask where the processor has one. (A narrow copy that a wide load
 * follows would wait until the copy is in the cache.) */
static inline vec load_lanes(const float *x, int64_t n)
{
#if defined __AVX512F__
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
#elif defined __AVX2__
    return (vec)_mm256_maskload_ps(x, (__m256i)first_lanes(n));
#else
    vec v = {0};
    for (int64_t i = 0; i < n; i++)
        v[i] = x[i];
    return v;
#endif
}

static inline void store_lanes(float *to, vec v, int64_t n)
{
#if defined __AVX512F__
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined __AVX2__
    _mm256_maskstore_ps(to, (__m256i)first_lanes(n), (__m256)v);
#else
    for (int64_t i = 0; i < n; i++)
        to[i] = v[i];
#endif
}

/* The same of a half_vec. */
static inline half_vec load_half(const float *x, int64_t n)
{
#if SIMD_BYTES > 32
    return (half_vec)_mm512_castps512_ps256((__m512)load_lanes(x, n));
#else
    return load_lanes(x, n);
#endif
}

static inline void store_half(float *to, half_vec v, int64_t n)
{
#if SIMD_BYTES > 32
    store_lanes(to, (vec)_mm512_castps256_ps512((__m256)v), n);
#else
    store_lanes(to, v, n);
#endif
}

static inline float lanes_sum(vec v)
{
    float s = 0.0f;

    for (int i = 0; i < LANES; i++)
        s += v[i];
    return s;
}
