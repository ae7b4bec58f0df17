/* Text as it is cleaned before it becomes words: what ftfy 6.3.1 and Python 3.11 make of it, we make of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"
#include "data/tokenizer_words.h"
#include "data/unicode/ftfy.h"

static char *utf8_of(const utext *text)
{
    str out = {0};

    utext_to_utf8(text->at, text->n, &out);
    str_put(&out, "", 0);
    return out.at;
}

/* Expected pairs were written by tests/reference/ftfy_cases.py. */
static void test_text_is_repaired_as_ftfy_does(void **state)
{
    const char *source = getenv("CFARM_SOURCE");
    char path[FS_PATH];
    json_t *rows, *row;
    size_t i;
    err e = {0};

    (void)state;
    snprintf(path, sizeof path, "%s/tests/data/ftfy.json", source ? source : ".");
    assert_int_equal(json_read(&rows, path, &e), 0);
    assert_true(json_array_size(rows) > 200);
    json_array_foreach(rows, i, row) {
        const json_t *in = json_array_get(row, 0);
        uint64_t work = FTFY_WORK;
        utext text = {0};
        char *fixed, *lower;

        utext_add_utf8(&text, json_string_value(in), json_string_length(in));
        ftfy_fix(&text, &work);
        fixed = utf8_of(&text);
        words_lower(&text);
        lower = utf8_of(&text);
        assert_string_equal(fixed, json_string_value(json_array_get(row, 1)));
        assert_string_equal(lower, json_string_value(json_array_get(row, 2)));
        free(lower);
        free(fixed);
        utext_free(&text);
    }
    json_decref(rows);
}

static void test_broken_utf8_becomes_replacement_characters(void **state)
{
    static const struct { const char *bytes; size_t n; const uint32_t *said; } ROWS[] = {
        {"a\xFF" "b", 3, U"a\uFFFDb"},
        {"\xC3", 1, U"\uFFFD"},
        {"\xE2\x82" "a", 3, U"\uFFFDa"},                  /* one for a sequence that breaks off */
        {"\xE2\x82\xAC", 3, U"\u20AC"},
        {"\xC0\x80", 2, U"\uFFFD\uFFFD"},                  /* longer than needed */
        {"\xED\xA0\x80", 3, U"\uFFFD\uFFFD\uFFFD"},        /* half of a surrogate pair */
        {"\xF0\x9F\x98\x80", 4, U"\U0001F600"},
        {"\xF0\x9F\x98", 3, U"\uFFFD"},
        {"\xF4\x90\x80\x80", 4, U"\uFFFD\uFFFD\uFFFD\uFFFD"}, /* beyond U+10FFFF */
        {"\x80\xF8", 2, U"\uFFFD\uFFFD"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        utext text = {0};

        utext_add_utf8(&text, ROWS[i].bytes, ROWS[i].n);
        utext_put(&text, 0);
        for (size_t k = 0; k < text.n; k++)
            assert_int_equal(text.at[k], ROWS[i].said[k]);
        utext_free(&text);
    }
}

static void test_every_character_survives_utf8(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
        str out = {0};
        uint32_t back = 0;

        if (c >= 0xD800 && c < 0xE000)
            continue;
        utext_to_utf8(&c, 1, &out);
        assert_int_equal(utf8_step((const unsigned char *)out.at, out.n, &back, NULL), out.n);
        assert_int_equal(back, c);
        str_free(&out);
    }
}

static void test_lower_case_is_pythons(void **state)
{
    static const struct { const char *text, *said; } ROWS[] = {
        {"ABC xyz", "abc xyz"},
        {"ΟΔΥΣΣΕΥΣ", "οδυσσευς"},
        {"ΑΣ. Σ", "ας. σ"},               /* final behind a letter; not alone */
        {"ΑΣ\u0301", "ας\u0301"},         /* marks are looked through */
        {"Α\u0301Σ\u0301Β", "α\u0301σ\u0301β"},
        {"İI", "i\u0307i"},
        {"ẞ Ǆ Ω", "ß ǆ ω"},
        {"𐐀Ა", "𐐨ა"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        utext text = {0};
        char *lower;

        utext_add_utf8(&text, ROWS[i].text, strlen(ROWS[i].text));
        words_lower(&text);
        lower = utf8_of(&text);
        assert_string_equal(lower, ROWS[i].said);
        free(lower);
        utext_free(&text);
    }
}

static void test_text_is_cut_into_words_by_the_pattern(void **state)
{
    static const struct { const char *text, *said; } ROWS[] = {
        {"a photo of a cat", "a|photo|of|a|cat"},
        {"don't we'll i've 'd", "don|'t|we|'ll|i|'ve|'d"},
        {"'ſ x'y", "'ſ|x|'|y"},
        {"2023 x2 ½²", "2|0|2|3|x|2|½|²"},
        {"!!!'s ...", "!!!'|s|..."},
        {"<|endoftext|><|endoftext|", "<|endoftext|>|<||endoftext||"},
        {"日本語ñ人 ภาษาไทย", "日本語ñ人|ภาษาไทย"},
        {"नमस्ते", "नमस|्|त|े"}, /* marks are no letters */
        {"a\u00a0b", "a|b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        utext text = {0};
        str said = {0};

        utext_add_utf8(&text, ROWS[i].text, strlen(ROWS[i].text));
        for (size_t k = 0, n; k < text.n; k += n ? n : 1) {
            n = words_next(text.at + k, text.n - k);
            if (n > 0 && said.n > 0)
                str_put(&said, "|", 1);
            utext_to_utf8(text.at + k, n, &said);
        }
        str_put(&said, "", 1);
        assert_string_equal(said.at, ROWS[i].said);
        str_free(&said);
        utext_free(&text);
    }
}

static void test_white_space_becomes_one_blank(void **state)
{
    static const char TEXT[] = " \t A\u00a0\u2003b\r\n\n\u3000C\x1f \v";
    uint64_t work = FTFY_WORK;
    utext text = {0};
    char *clean;

    (void)state;
    utext_add_utf8(&text, TEXT, sizeof TEXT - 1);
    words_clean(&text, &work);
    clean = utf8_of(&text);
    assert_string_equal(clean, "a b c");
    free(clean);
    utext_free(&text);
}

/* Each takes as many passes as it is long. */
static void test_a_repair_without_end_is_ended(void **state)
{
    static const struct { const char *head, *rest; } ROWS[] = {{"&", "amp;"}, {"Ã", "\xC2\x83"}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t work = 400 * 1000;
        utext text = {0};

        utext_add_utf8(&text, ROWS[i].head, strlen(ROWS[i].head));
        for (int k = 0; k < 20000; k++)
            utext_add_utf8(&text, ROWS[i].rest, strlen(ROWS[i].rest));
        ftfy_fix(&text, &work);
        assert_true(text.n > 1);
        utext_free(&text);
    }
}

static void test_a_text_of_a_few_hundred_passes_is_repaired_whole(void **state)
{
    uint64_t work = FTFY_WORK;
    utext text = {0};

    (void)state;
    utext_put(&text, '&');
    for (int k = 0; k < 500; k++)
        utext_add_utf8(&text, "amp;", 4);
    ftfy_fix(&text, &work);
    assert_int_equal(text.n, 1);
    utext_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_repaired_as_ftfy_does),
        cmocka_unit_test(test_broken_utf8_becomes_replacement_characters),
        cmocka_unit_test(test_every_character_survives_utf8),
        cmocka_unit_test(test_lower_case_is_pythons),
        cmocka_unit_test(test_text_is_cut_into_words_by_the_pattern),
        cmocka_unit_test(test_white_space_becomes_one_blank),
        cmocka_unit_test(test_a_repair_without_end_is_ended),
        cmocka_unit_test(test_a_text_of_a_few_hundred_passes_is_repaired_whole),
    };
    return cmocka_run_group_tests_name("ftfy", tests, NULL, NULL);
}
