/* Random numbers: the published vectors, the promised layout, and that the distributions are what they claim. */
#include "tests/cluster/scratch.h"

#include <math.h>

#include "cluster/base/rng.h"

/* Random123's kat_vectors, philox4x32 with 10 rounds. */
static const struct {
    uint32_t counter[4], key[2], out[4];
} KAT[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void philox_gives_the_published_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof KAT / sizeof *KAT; i++) {
        uint32_t out[4];
        rng_philox(out, KAT[i].counter, KAT[i].key);
        assert_memory_equal(out, KAT[i].out, sizeof out);
    }
}

static void a_number_is_an_address(void **state)
{
    (void)state;
    rng_stream s = rng_open(1234567890123456789, "noise", 7, 3);
    static const uint64_t far[] = {0, 1, 2, 3, 4, 5, 0x3ffffffff, 0x400000000, 0x400000001, UINT64_MAX};
    for (size_t k = 0; k < sizeof far / sizeof *far; k++) {
        uint64_t block = far[k] / 4;
        uint32_t out[4];
        rng_philox(out, (const uint32_t[4]){(uint32_t)block, (uint32_t)(block >> 32), 7, 3}, s.key);
        assert_int_equal(rng_u32(s, far[k]), out[far[k] % 4]);
    }
}

/* From tests/reference/philox.py, which shares no code with this: what every machine and the GPU must give. */
static void the_layout_is_a_promise(void **state)
{
    (void)state;
    rng_stream s = rng_open(0x123456789abcdef0, "noise", 250, 5);
    static const uint32_t words[6] = {0xcc4fe3b8, 0x644f906b, 0xcca29f59, 0x87c3530f, 0x1f474967, 0x8af44f0a};
    static const float normals[6] = {-0x1.0b7762p-1f, 0x1.b038b0p-2f,  -0x1.5074a0p-1f,
                                     -0x1.039244p-3f, -0x1.fa10fcp+0f, -0x1.16dfb4p-1f};
    assert_int_equal(s.key[0], 0x48bbb621);
    assert_int_equal(s.key[1], 0x7e3d7109);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(rng_u32(s, i), words[i]);
        assert_int_equal(rng_below(s, i, 1000), (uint32_t)(((uint64_t)words[i] * 1000) >> 32));
        assert_true(rng_uniform(s, i) == (float)(words[i] >> 8) / 16777216.0f);
        assert_true(rng_normal(s, i) == normals[i]);
    }
}

static void filling_gives_the_same_numbers_as_looking_up(void **state)
{
    (void)state;
    rng_stream s = rng_open(1, "noise", 2, 3);
    for (uint64_t n = 0; n < 12; n++) {
        float z[12];
        for (int i = 0; i < 12; i++)
            z[i] = 99;
        rng_normal_fill(s, z, n);
        for (uint64_t i = 0; i < 12; i++)
            assert_true(z[i] == (i < n ? rng_normal(s, i) : 99.0f));
        uint32_t w[12] = {0};
        rng_u32_fill(s, w, n);
        for (uint64_t i = 0; i < 12; i++)
            assert_int_equal(w[i], i < n ? rng_u32(s, i) : 0);
    }
}

static void streams_differ_in_every_part_of_their_address(void **state)
{
    (void)state;
    const rng_stream all[] = {rng_open(1, "noise", 1, 1), rng_open(2, "noise", 1, 1), rng_open(1, "crop", 1, 1),
                              rng_open(1, "noise", 2, 1), rng_open(1, "noise", 1, 2)};
    enum { N = 20000 };
    for (size_t a = 0; a < 5; a++) {
        for (size_t b = 0; b < a; b++) {
            double product = 0; /* of two independent normals: mean 0, variance 1 */
            for (uint64_t i = 0; i < N; i++)
                product += (double)rng_normal(all[a], i) * (double)rng_normal(all[b], i);
            assert_true(fabs(product / sqrt(N)) < 5);
        }
    }
}

/* Means of powers against those of the normal distribution, in standard errors: var(z^k) = m(2k) - m(k)^2. */
static void normals_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    static const double moment[9] = {1, 0, 1, 0, 3, 0, 15, 0, 105};
    rng_stream s = rng_open(42, "moments", 0, 0);
    double sum[5] = {0}, most = 0;
    for (uint64_t i = 0; i < N; i++) {
        double z = (double)rng_normal(s, i), power = 1;
        most = fmax(most, fabs(z));
        for (int k = 1; k <= 4; k++)
            sum[k] += power *= z;
    }
    for (int k = 1; k <= 4; k++) {
        double error = sqrt((moment[2 * k] - moment[k] * moment[k]) / N);
        assert_true(fabs(sum[k] / N - moment[k]) < 4 * error);
    }
    assert_true(most > 4 && most < 6.67);
}

/* Pearson's statistic over n equal boxes has mean n - 1 and variance 2 (n - 1). */
static double surprise(const int *box, int n, int draws)
{
    double x = 0, expected = (double)draws / n;
    for (int i = 0; i < n; i++)
        x += (box[i] - expected) * (box[i] - expected) / expected;
    return fabs(x - (n - 1)) / sqrt(2.0 * (n - 1));
}

static void choices_are_even_and_in_range(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    static const uint32_t sizes[] = {1, 2, 3, 7, 100, 1000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        rng_stream s = rng_open(9, "pick", (uint32_t)k, 0);
        int box[1000] = {0};
        for (uint64_t i = 0; i < DRAWS; i++) {
            uint32_t v = rng_below(s, i, sizes[k]);
            assert_true(v < sizes[k]);
            box[v]++;
        }
        if (sizes[k] > 1)
            assert_true(surprise(box, (int)sizes[k], DRAWS) < 5);
    }
    rng_stream s = rng_open(9, "pick", 0, 0);
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(rng_below(s, i, UINT32_MAX) < UINT32_MAX);
}

static void uniforms_are_even_and_below_one(void **state)
{
    (void)state;
    enum { DRAWS = 100000, BOXES = 64 };
    rng_stream s = rng_open(5, "flip", 0, 0);
    int box[BOXES] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        float u = rng_uniform(s, i);
        assert_true(u >= 0 && u < 1);
        box[(int)(u * BOXES)]++;
    }
    assert_true(surprise(box, BOXES, DRAWS) < 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(a_number_is_an_address),
        cmocka_unit_test(the_layout_is_a_promise),
        cmocka_unit_test(filling_gives_the_same_numbers_as_looking_up),
        cmocka_unit_test(streams_differ_in_every_part_of_their_address),
        cmocka_unit_test(normals_have_their_moments),
        cmocka_unit_test(choices_are_even_and_in_range),
        cmocka_unit_test(uniforms_are_even_and_below_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
