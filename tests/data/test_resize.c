/* Resampling equals Pillow's to the byte (tests/data/resize.tsv, made by tests/reference/resize.py), and a window of
 * it is a window of the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "data/resize.h"

/* Noise and hard black-white edges in turns. */
static uint8_t *picture(int h, int w)
{
    uint32_t n = (uint32_t)(h * w * 3);
    uint8_t *p = mem_new(n, 1);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)((uint64_t)i * 2654435761u + (uint64_t)(i >> 4) * 40503u) >> 13;
        p[i] = (uint8_t)(i / 48 % 2 == 0 ? v : (v & 1) * 255);
    }
    return p;
}

static uint8_t *resized(const uint8_t *from, int h, int w, resize_to to, resize_filter f)
{
    uint8_t *out = mem_new((size_t)to.h * (size_t)to.w, 3);
    err e;

    assert_int_equal(resize(out, to, (resize_from){from, h, w, (size_t)w * 3}, f, &e), 0);
    return out;
}

static void resampling_equals_pillow_to_the_byte(void **state)
{
    char path[4096], name[16];
    int h, w, high, wide, n = 0;
    unsigned crc;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/data/resize.tsv", getenv("CFARM_SOURCE") ? getenv("CFARM_SOURCE") : ".");
    FILE *table = fopen(path, "r");
    assert_non_null(table);
    for (; fscanf(table, "%15s %d %d %d %d %x", name, &h, &w, &high, &wide, &crc) == 6; n++) {
        uint8_t *from = picture(h, w);
        uint8_t *to = resized(from, h, w, (resize_to){high, wide, 0, 0, high, wide},
                              strcmp(name, "bicubic") == 0 ? RESIZE_BICUBIC : RESIZE_BILINEAR);
        if (hash_crc32(0, to, (size_t)high * (size_t)wide * 3) != crc)
            fail_msg("%s %d x %d to %d x %d differs from Pillow", name, h, w, high, wide);
        free(from);
        free(to);
    }
    fclose(table);
    assert_true(n > 30);
}

static void a_window_is_a_part_of_the_whole(void **state)
{
    uint8_t *from = picture(70, 50);

    (void)state;
    for (int f = RESIZE_BILINEAR; f <= RESIZE_BICUBIC; f++)
        for (int k = 0; k < 40; k++) {
            int high = 5 + k * 3, wide = 130 - k * 3, h = 1 + k % high, w = 1 + (k * 5) % wide;
            int top = (high - h) * k / 40, left = (wide - w) * (39 - k) / 40;
            uint8_t *all = resized(from, 70, 50, (resize_to){high, wide, 0, 0, high, wide}, (resize_filter)f);
            uint8_t *part = resized(from, 70, 50, (resize_to){high, wide, top, left, h, w}, (resize_filter)f);
            for (int y = 0; y < h; y++)
                assert_memory_equal(part + (size_t)(y * w) * 3, all + (size_t)((top + y) * wide + left) * 3,
                                    (size_t)w * 3);
            free(all);
            free(part);
        }
    free(from);
}

static void one_size_is_a_copy(void **state)
{
    uint8_t *from = picture(33, 21);

    (void)state;
    for (int f = RESIZE_BILINEAR; f <= RESIZE_BICUBIC; f++) {
        uint8_t *to = resized(from, 33, 21, (resize_to){33, 21, 0, 0, 33, 21}, (resize_filter)f);
        assert_memory_equal(to, from, 33 * 21 * 3);
        free(to);
    }
    free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resampling_equals_pillow_to_the_byte),
        cmocka_unit_test(a_window_is_a_part_of_the_whole),
        cmocka_unit_test(one_size_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
