/* The tiles for processors with AVX512_BF16 and AVX512VL, over words that are pairs of bf16 (cpu_simd.h). */
#include <math.h>
#include <string.h>

#include "trainer/nn/cpu/cpu_simd.h"

#if defined __AVX512BF16__ && defined __AVX512VL__
#define SIMD_BYTES 64
#define SIMD_WIDE 2
#define SIMD_MOST 8
#include "trainer/nn/cpu/cpu_simd_lanes.h"

#define ADD_PRODUCT(sum, a, w)                                                                                       \
    ((sum) = (vec)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(w), (__m512bh)_mm512_set1_ps(a)))
#define ADD_HALF_PRODUCT(sum, a, w)                                                                                  \
    ((sum) = (half_vec)_mm256_dpbf16_ps((__m256)(sum), (__m256bh)(w), (__m256bh)_mm256_set1_ps(a)))
#include "trainer/nn/cpu/cpu_simd_tile.h"
#include "trainer/nn/cpu/cpu_simd_sizes.h"

static void narrow(uint16_t *out, const float *x, int64_t n)
{
    int64_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        const __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
        memcpy(out + i, &half, sizeof half);
    }
    if (i < n) {
        const __m256bh half = _mm512_cvtneps_pbh((__m512)load_lanes(x + i, n - i));
        memcpy(out + i, &half, (size_t)(n - i) * sizeof *out);
    }
}

static __m512i widened(vec x)
{
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
}

static inline vec paired(vec low, vec high)
{
    return (vec)_mm512_or_si512(widened(low), _mm512_slli_epi32(widened(high), 16));
}

static void pair(float *to, const float *low, const float *high, int64_t n)
{
    for (; n >= LANES; n -= LANES, to += LANES, low += LANES, high += LANES)
        *(vec *)to = paired(*(const vec *)low, *(const vec *)high);
    if (n > 0)
        store_lanes(to, paired(load_lanes(low, n), load_lanes(high, n)), n);
}

#define SCORES_IN_PAIRS
#include "trainer/nn/cpu/cpu_simd_exp.h"
#include "trainer/nn/cpu/cpu_simd_scores.h"

const cpu_simd cpu_simd_avx512_bf16 = {
    .name = "avx512_bf16", .sizes = TILE_SIZES, .panels = SIMD_WIDE, .tile = TILE_TABLE, .narrow = narrow, .pair = pair,
    .score_weights = score_weights, .score_most = score_most, .score_slopes = score_slopes,
    .score_sums = score_sums};
#else
/* A compiler or processor without them: cpu_simd_pairs never answers with this. */
const cpu_simd cpu_simd_avx512_bf16 = {.name = "none"};
#endif
