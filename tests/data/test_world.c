/* The laws of the captioned world: a number is a picture, the same everywhere; what is said of it is true and made of whole
 * words; everything occurs; its subjects are unlike anything in it, by marks that no other thing of their class has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "data/tokenizer.h"
#include "data/toyworld/world.h"

enum { MANY = 2000 };

static void test_a_number_is_a_picture_on_every_machine(void **state)
{
    uint8_t *rgb = NEW_N(uint8_t, WORLD_SIDE * WORLD_SIDE * 3);
    hash *h = hash_new();
    char hex[HASH_HEX];

    (void)state;
    for (uint32_t i = 0; i < 64; i++) {
        const world_scene s = i < 48 ? world_pick(1, i) : world_subject((int)(i - 48) % WORLD_SUBJECTS, (int)i % 6);
        canvas c = canvas_new(WORLD_SIDE, WORLD_SIDE);

        world_draw(&c, &s);
        canvas_to_bytes(&c, rgb);
        hash_add(h, rgb, WORLD_SIDE * WORLD_SIDE * 3);
        canvas_free(&c);
    }
    hash_end(h, hex);
    assert_string_equal(hex, "9dae6c8776793fd43ad3a9fc8c4917685cbd03e4703ba73ea116a89a5333fc0b");
    free(rgb);
}

/* Whether one of the things has the word-th of these words. */
static bool someone_is(const world_scene *s, int word, bool colour)
{
    for (int k = 0; k < s->n; k++)
        if ((colour ? s->thing[k].colour : s->thing[k].pattern) == word)
            return true;
    return false;
}

static void check_words(char *text, const world_scene *s)
{
    for (int i = 0; i < SCENES; i++)
        if (strstr(text, SCENE_WORDS[i]) && (scene)i != s->where)
            fail_msg("\"%s\" is somewhere else", text);
    char *place = strstr(text, SCENE_WORDS[s->where]);
    if (place)
        *place = '\0'; /* a meadow is green, whatever stands on it */
    for (int i = 0; i < WORLD_COLOURS; i++)
        if (strstr(text, WORLD_COLOUR_WORDS[i]) && !someone_is(s, i, true))
            fail_msg("\"%s\" names a colour that nothing has", text);
    for (int i = 1; i < WORLD_PATTERNS; i++)
        if (strstr(text, WORLD_PATTERN_WORDS[i]) && !someone_is(s, i, false))
            fail_msg("\"%s\" names a pattern that nothing has", text);
}

static void check_order(const char *text, const world_scene *s)
{
    const char *first = strstr(text, world_class_word(s->thing[0].class));
    const char *second = strstr(text, world_class_word(s->thing[s->n - 1].class));

    assert_non_null(first);
    assert_non_null(second);
    if (s->n == 2 && s->thing[0].class != s->thing[1].class && (strstr(text, " left of ") || strstr(text, " right of ")))
        assert_true((first < second) == (strstr(text, " left of ") != NULL));
}

static void test_what_is_said_is_true(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        const world_scene s = world_pick(1, i);
        str text = {0};

        world_say(&text, &s, 5, i);
        check_words(text.at, &s);
        check_order(text.at, &s);
        str_free(&text);
    }
}

/* Spelt in pieces: their marks came into the world when its vocabulary was learnt from. */
static const char *const IN_PIECES[] = {" scarf", " crown"};

static int tokens_of(const tokenizer *t, const char *text)
{
    int32_t id[TOKENS];
    int n = 1;

    for (const char *c = text; *c; c++)
        n += *c == ' ';
    for (size_t k = 0; k < sizeof IN_PIECES / sizeof *IN_PIECES; k++)
        for (const char *c = text; (c = strstr(c, IN_PIECES[k])) != NULL; c++)
            n += tokenizer_encode(t, IN_PIECES[k], id) - 1;
    return n;
}

static void test_every_word_is_one_token(void **state)
{
    char dir[] = "/tmp/cf_world_XXXXXX", folder[FS_PATH];
    tokenizer *t;
    int32_t id[TOKENS];
    int entries;
    err e = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    if (toy_tokenizer(&entries, dir, WORLD_WORDS, &e) != 0 || fs_join(folder, dir, "tokenizer", &e) != 0 ||
        tokenizer_open(&t, folder, &e) != 0)
        fail_msg("%s", e.text);
    for (uint32_t i = 0; i < MANY; i++) {
        const world_scene s = world_pick(1, i);
        str text = {0};

        world_say(&text, &s, 5, i);
        if (tokenizer_encode(t, text.at, id) != tokens_of(t, text.at))
            fail_msg("\"%s\" is not %d tokens", text.at, tokens_of(t, text.at));
        str_free(&text);
    }
    tokenizer_close(t);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

static void test_everything_occurs(void **state)
{
    int class[WORLD_CLASSES] = {0}, colour[WORLD_COLOURS] = {0}, pattern_of[WORLD_PATTERNS] = {0}, place[SCENES] = {0};
    int mark[MARKS] = {0}, two = 0;

    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        const world_scene s = world_pick(1, i);

        place[s.where]++;
        two += s.n == 2;
        for (int k = 0; k < s.n; k++) {
            class[s.thing[k].class]++;
            colour[s.thing[k].colour]++;
            pattern_of[s.thing[k].pattern]++;
            assert_int_equal(s.thing[k].marks & world_kept_marks(s.thing[k].class), 0);
            for (int m = 0; m < MARKS; m++)
                mark[m] += (s.thing[k].marks & 1 << m) != 0;
        }
    }
    assert_in_range(two, MANY / 2, 2 * MANY / 3);
    for (int i = 0; i < MARKS; i++)
        assert_true(mark[i] > MANY / 20);
    for (int i = 0; i < WORLD_CLASSES; i++)
        assert_true(class[i] > MANY / WORLD_CLASSES);
    for (int i = 0; i < WORLD_COLOURS; i++)
        assert_true(colour[i] > MANY / WORLD_COLOURS);
    for (int i = 0; i < WORLD_PATTERNS; i++)
        assert_true(pattern_of[i] > MANY / 10);
    for (int i = 0; i < SCENES; i++)
        assert_true(place[i] > MANY / SCENES / 2);
}

static void test_subjects_are_one_of_their_kind(void **state)
{
    (void)state;
    for (int k = 0; k < WORLD_SUBJECTS; k++) {
        unsigned places = 0;
        const int kept = world_kept_marks(world_subject_class(k));

        for (int i = 0; i < WORLD_SUBJECT_PICTURES; i++) {
            const world_scene s = world_subject(k, i), first = world_subject(k, 0);

            places |= 1U << s.where;
            assert_int_equal(s.n, 1);
            assert_int_not_equal(s.thing[0].marks & kept, 0);
            assert_int_equal(s.thing[0].marks, first.thing[0].marks);
            assert_int_equal(s.thing[0].class, world_subject_class(k));
        }
        assert_true(__builtin_popcount(places) >= 4);
        for (int i = 0; i < 4; i++) {
            const world_scene s = world_other(k, i);

            assert_true(s.n == 1 && s.thing[0].class == world_subject_class(k) && (s.thing[0].marks & kept) == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_number_is_a_picture_on_every_machine), cmocka_unit_test(test_what_is_said_is_true),
        cmocka_unit_test(test_every_word_is_one_token),                cmocka_unit_test(test_everything_occurs),
        cmocka_unit_test(test_subjects_are_one_of_their_kind),
    };
    return cmocka_run_group_tests_name("world", tests, NULL, NULL);
}
