/* The toy world the repository carries, and the quickstart's subjects, are what their program makes, and small; the toy world's
 * words are what its pictures need. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/caption.h"
#include "data/image.h"
#include "data/tokenizer.h"
#include "data/toyworld/toy_world.h"
#include "data/toyworld/world.h"

static char folder[] = "/tmp/cf_toyworld_XXXXXX";
static char carried[FS_PATH];
static size_t files, bytes;

/* The quickstart's. */
static int write_subjects(err *e)
{
    char dir[FS_PATH];

    TRY(fs_join(dir, folder, "world", e));
    for (int i = 0; i < WORLD_SUBJECTS; i++)
        if (strcmp(world_subject_name(i), "king-cat") == 0 || strcmp(world_subject_name(i), "love-boat") == 0)
            TRY(world_pictures(dir, i, WORLD_OTHERS, e));
    return 0;
}

static int start(void **state)
{
    const char *source = getenv("CFARM_SOURCE");
    err e = {0};

    (void)state;
    snprintf(carried, sizeof carried, "%s/data/toyworld", source ? source : ".");
    if (!mkdtemp(folder) || toy_world(folder, &e) != 0 || write_subjects(&e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

/* Another zlib may pack pixels otherwise: pictures are compared by pixels. */
static void same_picture(const char *made, const char *kept)
{
    image a, b;

    assert_int_equal(image_load(&a, made, NULL), 0);
    if (image_load(&b, kept, NULL) != 0)
        fail_msg("%s is not there or no picture", kept);
    assert_true(a.h == b.h && a.w == b.w);
    if (memcmp(a.rgb, b.rgb, (size_t)a.h * (size_t)a.w * 3) != 0)
        fail_msg("%s shows something else than the program draws", kept);
    image_free(&a);
    image_free(&b);
}

static void same_bytes(const char *made, const char *kept)
{
    fs_map a, b;

    assert_int_equal(fs_map_open(&a, made, NULL), 0);
    if (fs_map_open(&b, kept, NULL) != 0)
        fail_msg("%s is not there", kept);
    if (a.n != b.n || memcmp(a.at, b.at, a.n) != 0)
        fail_msg("%s is not what the program writes", kept);
    fs_map_close(&a);
    fs_map_close(&b);
}

static int compare_one(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    char kept[FS_PATH];

    (void)ftw;
    if (kind != FTW_F)
        return 0;
    snprintf(kept, sizeof kept, "%s%s", carried, path + strlen(folder));
    (str_ends(path, ".png") ? same_picture : same_bytes)(path, kept);
    files++;
    bytes += (size_t)s->st_size;
    return 0;
}

static void test_what_is_carried_is_what_the_program_makes(void **state)
{
    (void)state;
    assert_int_equal(nftw(folder, compare_one, 8, FTW_PHYS), 0);
    const size_t toy = 2 * 5 + 2 * (12 + 1) + 4 + 2 * 3 + 2; /* pictures, captions; tokenizer, weights, configs */
    const size_t world = 2 * (WORLD_SUBJECT_PICTURES + 1) + 2 * (WORLD_OTHERS + 1);
    assert_int_equal(files, toy + world);
    assert_true(bytes < 3 * 1000 * 1000);
}

static int count_one(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    (void)path, (void)s, (void)ftw;
    files += kind == FTW_F;
    return 0;
}

static void test_nothing_else_is_carried(void **state)
{
    static const char *const PARTS[] = {"model", "subjects", "regularisation", "world/subjects", "world/regularisation"};
    const size_t made = files;

    (void)state;
    files = 0;
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
        char part[FS_PATH];

        assert_int_equal(fs_join(part, carried, PARTS[i], NULL), 0);
        assert_int_equal(nftw(part, count_one, 8, FTW_PHYS), 0);
    }
    assert_int_equal(files, made);
}

static tokenizer *open_tokenizer(void)
{
    char dir[FS_PATH];
    tokenizer *t;
    err e = {0};

    assert_int_equal(fs_join(dir, carried, "model/tokenizer", NULL), 0);
    if (tokenizer_open(&t, dir, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

static void test_class_words_are_one_token(void **state)
{
    static const char *const WORDS[] = {"mug", "creature", "photo", "forest", "painting", "zoomed"};
    tokenizer *t = open_tokenizer();
    err e = {0};
    int32_t id;

    (void)state;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (tokenizer_word(t, WORDS[i], &id, &e) != 0)
            fail_msg("%s", e.text);
    assert_true(tokenizer_vocab(t) >= 514);
    assert_int_equal(tokenizer_eos(t), tokenizer_vocab(t) - 1); /* special words last, as in CLIP */
    tokenizer_close(t);
}

static void test_every_word_of_a_caption_is_one_token(void **state)
{
    static const char *const CLASSES[] = {"mug", "creature"};
    tokenizer *t = open_tokenizer();
    int32_t id[TOKENS];

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        char path[FS_PATH + 64];
        caption_lines lines;

        snprintf(path, sizeof path, "%s/regularisation/%s/captions.txt", carried, CLASSES[k]);
        assert_int_equal(caption_read(&lines, path, NULL), 0);
        assert_int_equal(lines.n, 12);
        for (size_t i = 0; i < lines.n; i++) {
            int words = 1;

            for (const char *c = lines.at[i]; *c; c++)
                words += *c == ' ';
            assert_int_equal(tokenizer_encode(t, lines.at[i], id), words);
            assert_non_null(strstr(lines.at[i], CLASSES[k]));
        }
        caption_free(&lines);
    }
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_carried_is_what_the_program_makes),
        cmocka_unit_test(test_nothing_else_is_carried),
        cmocka_unit_test(test_class_words_are_one_token),
        cmocka_unit_test(test_every_word_of_a_caption_is_one_token),
    };
    return cmocka_run_group_tests_name("toyworld", tests, start, end);
}
