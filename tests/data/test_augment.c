/* How pictures are shown: the two recipes as facts state them, in distribution; masks against the rule spelled out
 * cell by cell; pixels against the plain steps (crop, mirror, resize, paste) done one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/augment.h"
#include "data/resize.h"

enum { DRAWS = 40000 };
static const augment_recipe paper = {AUGMENT_PAPER, 512, 8, true, true, true, false};
static const augment_recipe port = {AUGMENT_DIFFUSERS, 512, 8, true, true, false, false};

/* Within four standard deviations of a share of DRAWS. */
static void assert_share(int count, double share)
{
    double off = fabs(count - share * DRAWS), sigma = sqrt(share * (1 - share) * DRAWS);

    if (off > 4 * sigma)
        fail_msg("%d of %d draws where %.0f were to be expected", count, DRAWS, share * DRAWS);
}

typedef struct {
    int flipped, small, whole, pasted, large, far_words, zoomed_words, odd, smallest, largest;
    double top; /* mean of top / room where there is room */
    int placed;
} tally;

static tally count(const augment_recipe *r)
{
    tally t = {.smallest = 1 << 20};

    for (uint32_t i = 0; i < DRAWS; i++) {
        augment_look k = augment_draw(r, 600, 400, 5, i / 8, i % 8);
        bool pasted = k.high < r->side;
        t.flipped += k.flip;
        t.small += strcmp(k.prefix, "a far away ") == 0 || strcmp(k.prefix, "very small ") == 0;
        t.large += k.high > r->side;
        t.whole += k.high == r->side;
        t.pasted += pasted && !k.prefix[0];
        t.far_words += strcmp(k.prefix, "a far away ") == 0;
        t.zoomed_words += strcmp(k.prefix, "zoomed in ") == 0;
        t.odd += k.high & 1;
        t.smallest = k.high < t.smallest ? k.high : t.smallest;
        t.largest = k.high > t.largest ? k.high : t.largest;
        if (k.high != r->side) {
            t.top += (double)k.top / (r->side - k.high);
            t.placed++;
        }
        assert_int_equal(k.high, k.wide);
        assert_true(pasted ? k.top >= 0 && k.top + k.high <= r->side : k.top <= 0 && k.top + k.high >= r->side);
        assert_true(pasted ? k.left >= 0 && k.left + k.wide <= r->side : k.left <= 0 && k.left + k.wide >= r->side);
    }
    return t;
}

/* custom-diffusion.md 2.1: 137 of the 343 sizes 170..512 stay below 0.6 S when made even; the rest are shown whole. */
static void the_papers_mixture_is_as_stated(void **state)
{
    (void)state;
    tally t = count(&paper);
    assert_share(t.flipped, 0.5);
    assert_share(t.small, 2.0 / 3 * 137 / 343);
    assert_share(t.whole, 2.0 / 3 * 206 / 343);
    assert_share(t.large, 1.0 / 3);
    assert_share(t.far_words, 1.0 / 3 * 137 / 343);
    assert_share(t.zoomed_words, 1.0 / 6);
    assert_int_equal(t.odd, 0);
    assert_int_equal(t.pasted, 0);
    assert_int_equal(t.smallest, 170);
    assert_int_equal(t.largest, 716);
    assert_true(fabs(t.top / t.placed - 0.5) < 0.01);
}

/* custom-diffusion.md 2.2: 0.66, sizes as drawn, from 0.6 S on pasted without words. */
static void the_ports_mixture_is_as_stated(void **state)
{
    (void)state;
    tally t = count(&port);
    assert_int_equal(t.flipped, 0);
    assert_share(t.small, 0.66 * 138 / 343);
    assert_share(t.pasted, 0.66 * 204 / 343);
    assert_share(t.whole, 0.66 / 343);
    assert_share(t.large, 0.34);
    assert_true(t.odd > DRAWS / 3);
    assert_int_equal(t.smallest, 170);
    assert_int_equal(t.largest, 715);
}

/* One cell: inside when it and the cell before and after it lie in [from, from + size) counted in whole cells from
 * the cell that holds `from`. */
static bool counted(int cell, int from, int size, int factor)
{
    return cell > from / factor && cell < (from + size) / factor - 1;
}

static void masks_follow_the_rule_cell_by_cell(void **state)
{
    static const int sides[][2] = {{512, 8}, {768, 8}, {256, 4}, {64, 8}, {32, 8}};
    float mask[96 * 96];

    (void)state;
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++)
        for (uint32_t i = 0; i < 600; i++) {
            augment_recipe r = i % 2 ? paper : port;
            r.side = sides[s][0];
            r.factor = sides[s][1];
            int cells = r.side / r.factor, ones = 0;
            augment_look k = augment_draw(&r, 100, 100, 9, i, 0);
            bool pasted = k.high < r.side || (r.style == AUGMENT_DIFFUSERS && k.high == r.side);
            int rows = (k.top + k.high) / r.factor - 1 - (k.top / r.factor + 1);
            int columns = (k.left + k.wide) / r.factor - 1 - (k.left / r.factor + 1);
            augment_mask(mask, &r, &k);
            for (int y = 0; y < cells; y++)
                for (int x = 0; x < cells; x++) {
                    int middle_row = (k.top + k.high / 2) / r.factor, middle_column = (k.left + k.wide / 2) / r.factor;
                    bool row = rows > 0 ? counted(y, k.top, k.high, r.factor) : y == middle_row;
                    bool column = columns > 0 ? counted(x, k.left, k.wide, r.factor) : x == middle_column;
                    assert_true(mask[y * cells + x] == (!pasted || (row && column) ? 1.0f : 0.0f));
                    ones += mask[y * cells + x] == 1.0f;
                }
            assert_true(ones > 0);
            assert_int_equal(ones, augment_cells(&k));
        }
}

static void without_resizing_only_the_ports_border_is_left_out(void **state)
{
    augment_recipe r = paper;

    (void)state;
    r.resize = false;
    augment_look k = augment_draw(&r, 100, 100, 1, 2, 3);
    assert_int_equal(k.high, 512);
    assert_string_equal(k.prefix, "");
    assert_int_equal(augment_cells(&k), 64 * 64);
    r.style = AUGMENT_DIFFUSERS;
    k = augment_draw(&r, 100, 100, 1, 2, 3);
    assert_int_equal(k.high, 512);
    assert_int_equal(augment_cells(&k), 62 * 62);
}

static void class_pictures_are_shown_whole_or_cut_as_torchvision_does(void **state)
{
    augment_recipe r = paper;

    (void)state;
    r.target = false;
    for (uint32_t i = 0; i < 50; i++) {
        augment_look k = augment_draw(&r, 640, 427, 1, i, 0);
        assert_true(k.high == 512 && k.wide == 512 && k.top == 0 && k.left == 0 && augment_cells(&k) == 64 * 64);
    }
    r.style = AUGMENT_DIFFUSERS;
    int least = 0, most = -1000;
    for (uint32_t i = 0; i < 4000; i++) {
        augment_look k = augment_draw(&r, 640, 427, 1, i, 0);
        assert_true(k.high == 767 && k.wide == 512 && k.left == 0); /* int(512 * 640 / 427) */
        assert_int_equal(augment_cells(&k), 64 * 64);
        least = k.top < least ? k.top : least;
        most = k.top > most ? k.top : most;
    }
    assert_int_equal(least, -255);
    assert_int_equal(most, 0);
    r.middle = true;
    assert_int_equal(augment_draw(&r, 640, 427, 1, 0, 0).top, -128); /* round(127.5), halves to even */
    assert_int_equal(augment_draw(&r, 427, 640, 1, 0, 0).left, -128);
}

static void a_draw_is_a_function_of_its_address(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        augment_look a = augment_draw(&paper, 50, 70, 3, i, 1), b = augment_draw(&paper, 50, 70, 3, i, 1);
        assert_memory_equal(&a, &b, sizeof a);
    }
    int same = 0;
    for (uint32_t i = 0; i < 100; i++) {
        augment_look a = augment_draw(&paper, 50, 70, 3, i, 1), b = augment_draw(&paper, 50, 70, 3, i, 2);
        same += memcmp(&a, &b, sizeof a) == 0;
    }
    assert_true(same < 30);
}

/* ---- pixels ---- */

static image noise(int h, int w)
{
    image m = {h, w, mem_new((size_t)h * (size_t)w, 3)};
    rng_stream r = rng_open(1, "pixels", 0, 0);

    for (int i = 0; i < h * w * 3; i++)
        m.rgb[i] = (uint8_t)rng_u32(r, (uint64_t)i);
    return m;
}

/* The square or the whole, mirrored or not, as a picture of its own. */
static image prepared(const image *m, bool square, bool flip)
{
    int side = m->h < m->w ? m->h : m->w;
    image p = {square ? side : m->h, square ? side : m->w, NULL};
    int top = (m->h - p.h) / 2, left = (m->w - p.w) / 2;

    p.rgb = mem_new((size_t)p.h * (size_t)p.w, 3);
    for (int y = 0; y < p.h; y++)
        for (int x = 0; x < p.w; x++)
            memcpy(p.rgb + (y * p.w + (flip ? p.w - 1 - x : x)) * 3, m->rgb + ((top + y) * m->w + left + x) * 3, 3);
    return p;
}

static void check_pixels(const augment_recipe *r, const augment_look *k, const image *m)
{
    int side = r->side;
    float *got = NEW_N(float, side * side * 3);
    uint8_t *shown = NEW_N(uint8_t, k->high * k->wide * 3);
    image p = prepared(m, r->style == AUGMENT_PAPER, k->flip);
    err e = {0};

    assert_int_equal(augment_render(got, r, k, m, &e), 0);
    assert_int_equal(resize(shown, (resize_to){k->high, k->wide, 0, 0, k->high, k->wide},
                            (resize_from){p.rgb, p.h, p.w, (size_t)p.w * 3},
                            r->style == AUGMENT_PAPER ? RESIZE_BICUBIC : RESIZE_BILINEAR, &e), 0);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++) {
                int v = y - k->top, u = x - k->left;
                bool inside = v >= 0 && v < k->high && u >= 0 && u < k->wide;
                float want = inside ? (float)(shown[(v * k->wide + u) * 3 + c] / 127.5 - 1.0) : 0.0f;
                assert_true(got[(y * side + x) * 3 + c] == want);
            }
    free(got);
    free(shown);
    free(p.rgb);
}

static void pixels_are_the_plain_steps_one_after_the_other(void **state)
{
    image m = noise(71, 100);

    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        augment_recipe r = i % 2 ? paper : port;
        r.side = 64;
        r.flip = true;
        r.target = i % 3 != 0;
        augment_look k = augment_draw(&r, m.h, m.w, 4, i, 0);
        check_pixels(&r, &k, &m);
    }
    image_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_mixture_is_as_stated),
        cmocka_unit_test(the_ports_mixture_is_as_stated),
        cmocka_unit_test(masks_follow_the_rule_cell_by_cell),
        cmocka_unit_test(without_resizing_only_the_ports_border_is_left_out),
        cmocka_unit_test(class_pictures_are_shown_whole_or_cut_as_torchvision_does),
        cmocka_unit_test(a_draw_is_a_function_of_its_address),
        cmocka_unit_test(pixels_are_the_plain_steps_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
