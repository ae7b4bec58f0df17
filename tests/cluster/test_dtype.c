/* The two 16-bit floats against arithmetic in double, for every half and every float at which rounding turns. */
#include "tests/cluster/scratch.h"

#include <fenv.h>
#include <math.h>

#include "cluster/base/dtype.h"

static float float_of(uint32_t b)
{
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}

static uint32_t bits_of(float v)
{
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    return b;
}

/* A 16-bit pattern of 1 sign, `e` exponent and `f` fraction bits, by its definition. */
static double meaning(uint16_t v, int e, int f)
{
    int exponent = (v >> f) & ((1 << e) - 1), bias = (1 << (e - 1)) - 1;
    double fraction = v & ((1 << f) - 1), sign = v >> 15 ? -1 : 1;
    if (exponent == (1 << e) - 1)
        return fraction > 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - f);
    return sign * ldexp(fraction + (1 << f), exponent - bias - f);
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static void every_half_is_read_exactly(void **state)
{
    (void)state;
    for (uint32_t v = 0; v <= 0xffff; v++) {
        assert_true(same((double)f32_of_f16((uint16_t)v), meaning((uint16_t)v, 5, 10)));
        assert_true(same((double)f32_of_bf16((uint16_t)v), meaning((uint16_t)v, 8, 7)));
    }
}

/* The nearest value with f fraction bits, ties to even, overflowing where the format does. */
static double rounded(double v, int e, int f)
{
    if (!isfinite(v) || v == 0)
        return v;
    int bias = (1 << (e - 1)) - 1, exponent;
    frexp(v, &exponent);
    int unit = exponent - 1 < 1 - bias ? 1 - bias - f : exponent - 1 - f;
    double r = ldexp(nearbyint(ldexp(v, -unit)), unit);
    double largest = ldexp(2 - ldexp(1, -f), bias);
    return fabs(r) > largest ? copysign(INFINITY, v) : r;
}

static void check_rounding(float v)
{
    if (!same(meaning(f16_of_f32(v), 5, 10), rounded((double)v, 5, 10)) ||
        !same(meaning(bf16_of_f32(v), 8, 7), rounded((double)v, 8, 7)))
        fail_msg("%a becomes %04x and %04x", (double)v, f16_of_f32(v), bf16_of_f32(v));
#ifdef __FLT16_MAX__
    _Float16 h = (_Float16)v; /* the compiler's own opinion; NaN payloads apart */
    uint16_t bits;
    memcpy(&bits, &h, sizeof bits);
    if (v == v)
        assert_int_equal(f16_of_f32(v), bits);
#endif
}

static void floats_round_to_the_nearest_and_ties_to_even(void **state)
{
    (void)state;
    assert_int_equal(fegetround(), FE_TONEAREST);
    for (uint32_t v = 0; v < 0x7f80; v++) { /* bfloat16: each value, half way to the next, and beside both */
        for (int d = -1; d <= 1; d++) {
            check_rounding(float_of((v << 16) + (uint32_t)d));
            check_rounding(float_of((v << 16) + 0x8000 + (uint32_t)d));
            check_rounding(float_of(0x80000000 | ((v << 16) + 0x8000 + (uint32_t)d)));
        }
    }
    for (uint16_t v = 0; v < 0x7c00; v++) { /* half: the same */
        double low = meaning(v, 5, 10), high = v == 0x7bff ? 65536 : meaning((uint16_t)(v + 1), 5, 10);
        uint32_t middle = bits_of((float)((low + high) / 2));
        for (int d = -1; d <= 1; d++) {
            check_rounding(float_of(middle + (uint32_t)d));
            check_rounding(-float_of(middle + (uint32_t)d));
            check_rounding(float_of(bits_of((float)low) + (uint32_t)d));
        }
    }
    for (uint64_t b = 0; b <= UINT32_MAX; b += 65521) /* and all over, NaNs as well */
        check_rounding(float_of((uint32_t)b));
}

static void going_there_and_back_changes_nothing(void **state)
{
    (void)state;
    for (uint32_t v = 0; v <= 0xffff; v++) {
        float h = f32_of_f16((uint16_t)v), b = f32_of_bf16((uint16_t)v);
        assert_true(isnan(h) ? isnan(f32_of_f16(f16_of_f32(h))) : f16_of_f32(h) == v);
        assert_true(isnan(b) ? isnan(f32_of_bf16(bf16_of_f32(b))) : bf16_of_f32(b) == v);
    }
}

static void arrays_convert_wherever_they_lie(void **state)
{
    (void)state;
    static const float x[5] = {0, -1.5f, 65504, 0.09997559f, -3e-5f};
    static const dtype types[] = {F32, BF16, F16, F64};
    for (size_t k = 0; k < 4; k++) {
        for (size_t shift = 0; shift < 3; shift++) {
            unsigned char room[5 * 8 + 8];
            float back[5];
            f32_into(room + shift, types[k], x, 5);
            f32_from(back, room + shift, types[k], 5);
            for (int i = 0; i < 5; i++) {
                float want = types[k] == BF16  ? f32_of_bf16(bf16_of_f32(x[i]))
                             : types[k] == F16 ? f32_of_f16(f16_of_f32(x[i]))
                                               : x[i];
                assert_true(back[i] == want);
            }
        }
        f32_into(NULL, types[k], NULL, 0);
        f32_from(NULL, NULL, types[k], 0);
    }
}

static void an_array_of_every_half_converts_as_one_by_one(void **state)
{
    (void)state;
    static uint16_t half[65536];
    static float got[65536];

    for (uint32_t v = 0; v < 65536; v++)
        half[v] = (uint16_t)v;
    for (size_t from = 0; from < 4; from++) { /* wherever vectors begin */
        f32_from(got + from, half + from, F16, 65536 - from);
        for (uint32_t v = (uint32_t)from; v < 65536; v++) {
            float one = f32_of_f16((uint16_t)v);
            assert_memory_equal(&got[v], &one, sizeof one);
        }
    }
}

static void every_type_is_found_by_its_name(void **state)
{
    (void)state;
    static const size_t bytes[DTYPE_COUNT] = {4, 2, 2, 8, 1, 1, 2, 4, 8, 1};
    for (int t = 0; t < DTYPE_COUNT; t++) {
        dtype found;
        assert_int_equal(dtype_find(dtype_name((dtype)t), &found), 0);
        assert_int_equal(found, t);
        assert_int_equal(dtype_bytes((dtype)t), bytes[t]);
    }
    dtype untouched = I64;
    assert_int_not_equal(dtype_find("F8_E4M3", &untouched), 0);
    assert_int_equal(untouched, I64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_read_exactly),
        cmocka_unit_test(floats_round_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(going_there_and_back_changes_nothing),
        cmocka_unit_test(arrays_convert_wherever_they_lie),
        cmocka_unit_test(an_array_of_every_half_converts_as_one_by_one),
        cmocka_unit_test(every_type_is_found_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
