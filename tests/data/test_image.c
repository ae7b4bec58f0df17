/* Pictures: what Pillow reads is what we read; a file cut anywhere is an error or whole; no byte of a file can make
 * the reader crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "data/image.h"

static char folder[] = "/tmp/cf_image_XXXXXX";

static const char *pictures(const char *name)
{
    static char path[FS_PATH];
    snprintf(path, sizeof path, "%s/tests/data/pictures/%s", getenv("CFARM_SOURCE") ? getenv("CFARM_SOURCE") : ".",
             name);
    return path;
}

static const char *scratch(const char *name)
{
    static char path[FS_PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int start(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

static unsigned crc_of(const image *m)
{
    return hash_crc32(0, m->rgb, (size_t)m->h * (size_t)m->w * 3);
}

static int each_row(void (*use)(const char *name, int h, int w, unsigned crc))
{
    FILE *table = fopen(pictures("pictures.tsv"), "r");
    char name[64];
    int h, w, n = 0;
    unsigned crc;

    assert_non_null(table);
    while (fscanf(table, "%63s %d %d %x", name, &h, &w, &crc) == 4) {
        use(name, h, w, crc);
        n++;
    }
    fclose(table);
    return n;
}

static void reads_like_pillow(const char *name, int h, int w, unsigned crc)
{
    image m;
    image_info info;
    err e;

    if (image_load(&m, pictures(name), &e) != 0 || image_probe(&info, pictures(name), &e) != 0)
        fail_msg("%s", e.text);
    if (m.h != h || m.w != w || info.h != h || info.w != w || crc_of(&m) != crc)
        fail_msg("%s: %d x %d, crc %08x; Pillow has %d x %d, %08x", name, m.h, m.w, crc_of(&m), h, w, crc);
    image_free(&m);
}

static void pictures_are_what_pillow_reads(void **state)
{
    (void)state;
    assert_true(each_row(reads_like_pillow) > 50);
}

/* Every prefix of the file, and every byte of it changed: an error with a text, or a picture. */
static void cut_and_bent(const char *name, int h, int w, unsigned crc)
{
    char *at;
    size_t n;
    err e;
    image m;

    assert_int_equal(fs_read(pictures(name), &at, &n, 1 << 20, &e), 0);
    for (size_t cut = 0; cut < n; cut += 1 + n / 97) {
        if (image_decode(&m, at, cut, &e) == 0) {
            assert_int_equal(m.h, h);
            assert_int_equal(m.w, w);
            if (crc_of(&m) != crc)
                fail_msg("%s cut at %zu of %zu is read as another picture", name, cut, n);
            image_free(&m);
        } else {
            assert_true(e.code == ERR_INPUT && e.text[0]);
        }
    }
    for (size_t i = 0; i < n; i += 1 + n / 61) {
        at[i] ^= (char)(1 + i % 255);
        if (image_decode(&m, at, n, &e) == 0)
            image_free(&m);
        at[i] ^= (char)(1 + i % 255);
    }
    free(at);
}

static void a_picture_cut_short_is_an_error_or_whole(void **state)
{
    (void)state;
    each_row(cut_and_bent);
}

static void what_is_written_is_read_back(void **state)
{
    uint8_t rgb[2][5 * 7 * 3];
    const uint8_t *both[] = {rgb[0], rgb[1], rgb[0]};
    image m;
    err e;

    (void)state;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i / sizeof rgb[0]][i % sizeof rgb[0]] = (uint8_t)(i * 37);
    assert_int_equal(image_write_png(scratch("a.png"), rgb[0], 5, 7, &e), 0);
    assert_int_equal(image_load(&m, scratch("a.png"), &e), 0);
    assert_int_equal(m.h, 5);
    assert_int_equal(m.w, 7);
    assert_memory_equal(m.rgb, rgb[0], sizeof rgb[0]);
    image_free(&m);

    assert_int_equal(image_write_grid(scratch("grid.png"), both, 3, 2, 5, 7, &e), 0);
    assert_int_equal(image_load(&m, scratch("grid.png"), &e), 0);
    assert_int_equal(m.h, 2 + 2 * (5 + 2));
    assert_int_equal(m.w, 2 + 2 * (7 + 2));
    assert_memory_equal(m.rgb + (2 * m.w + 2) * 3, rgb[0], 7 * 3);
    assert_memory_equal(m.rgb + (2 * m.w + 11) * 3, rgb[1], 7 * 3);
    assert_memory_equal(m.rgb + ((9 + 4) * m.w + 2) * 3, rgb[0] + 4 * 7 * 3, 7 * 3);
    assert_int_equal(m.rgb[0], 255);
    image_free(&m);

    assert_int_equal(image_write_png(scratch("no/such/folder.png"), rgb[0], 5, 7, &e), ERR_IO);
}

static void names_of_pictures_end_as_one(void **state)
{
    (void)state;
    assert_true(image_named("a.jpg") && image_named("b/A.JPEG") && image_named("x.png") && image_named("y.WebP"));
    assert_false(image_named("a.txt") || image_named("jpg") || image_named(".png") || image_named("a.jpg.part"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_what_pillow_reads),
        cmocka_unit_test(a_picture_cut_short_is_an_error_or_whole),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(names_of_pictures_end_as_one),
    };
    return cmocka_run_group_tests(tests, start, end);
}
