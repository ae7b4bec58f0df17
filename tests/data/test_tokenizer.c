/* The tokenizer over a small vocabulary made here: all bytes, some merges, the two special words; and over the goldens
 * where they lie beside the repository. */
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
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/tokenizer.h"
#include "data/tokenizer_bpe.h"
#include "data/unicode/utext.h"

static const char *const MERGES[] = {"c a", "ca t</w>", "t h", "th e</w>", "o f</w>", "! !", "!! !</w>", "a a", "aa a</w>"};
enum { MERGES_N = sizeof MERGES / sizeof *MERGES, BOS = 512 + MERGES_N, EOS, VOCAB };

static char folder[] = "/tmp/cf_tokenizer_XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[FS_PATH];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    assert_int_equal(fs_write(in_folder(name), text, strlen(text), NULL), 0);
}

/* The byte alphabet in the order CLIP numbers it: what prints, then the rest. */
static void add_letters(str *vocab, const char *tail, int *id)
{
    uint32_t next = 256;

    for (int pass = 0; pass < 2; pass++)
        for (uint32_t b = 0; b < 256; b++) {
            const bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            const uint32_t c = prints ? b : next;

            if (prints != (pass == 0))
                continue;
            next += !prints;
            str_add(vocab, "%s\"%s", *id ? ", " : "{", c == '"' || c == '\\' ? "\\" : "");
            utext_to_utf8(&c, 1, vocab);
            str_add(vocab, "%s\": %d", tail, (*id)++);
        }
}

static void write_vocabulary(void)
{
    str vocab = {0}, merges = {0};
    int id = 0;

    add_letters(&vocab, "", &id);
    add_letters(&vocab, "</w>", &id);
    str_add(&merges, "#version: 0.2\n");
    for (size_t i = 0; i < MERGES_N; i++) {
        const char *blank = strchr(MERGES[i], ' ');

        str_add(&vocab, ", \"%.*s%s\": %d", (int)(blank - MERGES[i]), MERGES[i], blank + 1, id++);
        str_add(&merges, "%s\n", MERGES[i]);
    }
    str_add(&vocab, ", \"<|startoftext|>\": %d, \"<|endoftext|>\": %d}", BOS, EOS);
    write_text("vocab.json", vocab.at);
    write_text("merges.txt", merges.at);
    str_free(&vocab);
    str_free(&merges);
}

static int start(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    write_vocabulary();
    return 0;
}

static int end(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

static tokenizer *open_tokenizer(void)
{
    tokenizer *t;
    err e = {0};

    if (tokenizer_open(&t, folder, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

/* "cat</w> <1>": the ids between BOS and EOS by their spelling; added and special words as numbers. */
static void assert_pieces(const tokenizer *t, const char *text, const char *said)
{
    static const char *const PARTS[] = {"cat</w>", "ca", "the</w>", "th", "of</w>", "!!!</w>", "!!", "aaa</w>", "aa"};
    int32_t id[TOKENS];
    str got = {0};

    tokenizer_encode(t, text, id);
    assert_int_equal(id[0], BOS);
    for (int i = 1; id[i] != EOS; i++) {
        str_add(&got, "%s", i > 1 ? " " : "");
        size_t k = 0;
        while (k < sizeof PARTS / sizeof *PARTS && tokenizer_lookup(t, PARTS[k]) != id[i])
            k++;
        if (k < sizeof PARTS / sizeof *PARTS)
            str_add(&got, "%s", PARTS[k]);
        else if (id[i] < 94)
            str_add(&got, "%c", (char)(id[i] + 33));
        else if (id[i] >= 256 && id[i] < 350)
            str_add(&got, "%c</w>", (char)(id[i] - 256 + 33));
        else
            str_add(&got, "%d", (int)id[i]);
    }
    assert_string_equal(got.at ? got.at : "", said);
    str_free(&got);
}

static void test_words_become_the_pieces_merges_allow(void **state)
{
    static const struct { const char *text, *said; } ROWS[] = {
        {"", ""},
        {"cat", "cat</w>"},
        {"The CAT  of\tthe cats", "the</w> cat</w> of</w> the</w> ca t s</w>"},
        {"caf", "ca f</w>"},
        {"!!!", "!!!</w>"},
        {"!!", "! !</w>"},
        {"!!!!", "!! ! !</w>"},
        {"aaa", "aaa</w>"},
        {"aaaa", "aa a a</w>"},
        {"é", "127 358"}, /* two bytes: C3, and A9 that ends the word */
        {"<|ENDOFTEXT|> x", ""}, /* lower case makes it special */
    };
    tokenizer *t = open_tokenizer();

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        assert_pieces(t, ROWS[i].text, ROWS[i].said);
    assert_int_equal(tokenizer_vocab(t), VOCAB);
    assert_int_equal(tokenizer_bos(t), BOS);
    assert_int_equal(tokenizer_eos(t), EOS);
    assert_int_equal(tokenizer_pad(t), EOS);
    tokenizer_close(t);
    tokenizer_close(NULL);
}

static void test_a_body_is_cut_at_75_and_padded_to_77(void **state)
{
    static const int COUNTS[] = {0, 1, 74, 75, 76, 200};
    tokenizer *t = open_tokenizer();

    (void)state;
    for (size_t k = 0; k < sizeof COUNTS / sizeof *COUNTS; k++) {
        const int body = COUNTS[k] < TOKENS - 2 ? COUNTS[k] : TOKENS - 2;
        int32_t id[TOKENS];
        str text = {0};

        str_add(&text, "%s", "");
        for (int i = 0; i < COUNTS[k]; i++)
            str_add(&text, "cat ");
        assert_int_equal(tokenizer_encode(t, text.at, id), COUNTS[k]);
        for (int i = 0; i < TOKENS; i++)
            assert_int_equal(id[i], i == 0 ? BOS : i <= body ? tokenizer_lookup(t, "cat</w>") : EOS);
        str_free(&text);
    }
    tokenizer_close(t);
}

static void test_added_words_are_found_anywhere_and_as_written(void **state)
{
    tokenizer *t = open_tokenizer();
    int32_t id;

    (void)state;
    assert_int_equal(tokenizer_add(t, "<new1>", &id, NULL), 0);
    assert_int_equal(id, VOCAB);
    assert_int_equal(tokenizer_add(t, "<new12>", &id, NULL), 0);
    assert_int_equal(id, VOCAB + 1);
    assert_int_equal(tokenizer_vocab(t), VOCAB);
    assert_pieces(t, "the<new1>cat", "the</w> 523 cat</w>");
    assert_pieces(t, "<new1><new12>", "523 524"); /* the longest that fits */
    assert_pieces(t, "<NEW1>", "<</w> n e w</w> 1</w> ></w>");
    assert_pieces(t, "<new1 >", "<</w> n e w</w> 1</w> ></w>");
    tokenizer_close(t);
}

static void test_a_word_is_added_once(void **state)
{
    static const struct { const char *word, *said; } ROWS[] = {
        {"<new1>", "knows \"<new1>\" already"}, {"cat</w>", "knows \"cat</w>\" already"},
        {"<|endoftext|>", "already"},           {"", "an empty word"},
        {"a b", "blank or control character"},  {"\x7F", "blank or control character"},
        {"\xFF", "not UTF-8"},
    };
    tokenizer *t = open_tokenizer();
    int32_t id = 0;

    (void)state;
    assert_int_equal(tokenizer_add(t, "<new1>", &id, NULL), 0);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        err e = {0};

        assert_int_equal(tokenizer_add(t, ROWS[i].word, &id, &e), ERR_INPUT);
        if (!strstr(e.text, ROWS[i].said))
            fail_msg("%s said: %s", ROWS[i].word, e.text);
    }
    assert_int_equal(tokenizer_add(t, "<new2>", &id, NULL), 0);
    assert_int_equal(id, VOCAB + 1);
    tokenizer_close(t);
}

static void test_forgotten_words_are_as_if_never_added(void **state)
{
    tokenizer *t = open_tokenizer();
    int32_t id;

    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(tokenizer_add(t, "<new1>", &id, NULL), 0);
        assert_int_equal(id, VOCAB);
        assert_int_equal(tokenizer_add(t, "<new2>", &id, NULL), 0);
        tokenizer_forget(t);
        assert_pieces(t, "<new1>", "<</w> n e w</w> 1</w> ></w>");
    }
    tokenizer_close(t);
}

static void test_one_like_another_is_its_own_and_outlives_it(void **state)
{
    tokenizer *first = open_tokenizer(), *other;
    int32_t id[2];

    (void)state;
    other = tokenizer_like(first);
    assert_int_equal(tokenizer_add(first, "<a>", &id[0], NULL), 0);
    assert_int_equal(tokenizer_add(other, "<b>", &id[1], NULL), 0);
    assert_int_equal(id[0], id[1]); /* neither knows the other's word */
    assert_int_equal(tokenizer_vocab(other), tokenizer_vocab(first));
    tokenizer_close(first);
    assert_pieces(other, "the cat of", "the</w> cat</w> of</w>");
    first = tokenizer_like(other);
    tokenizer_close(other);
    assert_int_equal(tokenizer_add(first, "<b>", &id[0], NULL), ERR_INPUT); /* it knows the words of the one it is like */
    assert_pieces(first, "the cat of", "the</w> cat</w> of</w>");
    tokenizer_close(first);
}

static void test_a_class_word_of_several_pieces_is_told_with_them(void **state)
{
    tokenizer *t = open_tokenizer();
    err e = {0};
    int32_t id;

    (void)state;
    assert_int_equal(tokenizer_word(t, "Cat", &id, &e), 0);
    assert_int_equal(id, tokenizer_lookup(t, "cat</w>"));
    assert_int_equal(tokenizer_lookup(t, "no such"), -1);
    assert_int_equal(tokenizer_word(t, "cats", &id, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "\"cats\" is 3 tokens (\"ca\", \"t\", \"s</w>\")"));
    assert_int_equal(tokenizer_word(t, " ", &id, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "no token"));
    tokenizer_close(t);
}

static void test_the_folder_says_what_pads(void **state)
{
    static const struct { const char *config, *map; int pad; } ROWS[] = {
        {"{}", "{\"pad_token\": \"!\"}", 0},
        {"{\"pad_token\": \"!\"}", "{}", 0},
        {"{\"pad_token\": \"!\"}", "{\"pad_token\": {\"content\": \"<|startoftext|>\", \"lstrip\": false}}", BOS},
        {"{\"pad_token\": null}", "{}", EOS},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        tokenizer *t;
        int32_t id[TOKENS];

        write_text("tokenizer_config.json", ROWS[i].config);
        write_text("special_tokens_map.json", ROWS[i].map);
        t = open_tokenizer();
        tokenizer_encode(t, "cat", id);
        assert_int_equal(tokenizer_pad(t), ROWS[i].pad);
        assert_int_equal(id[2], EOS);
        assert_int_equal(id[TOKENS - 1], ROWS[i].pad);
        tokenizer_close(t);
    }
    fs_remove_tree(in_folder("tokenizer_config.json"), NULL);
    fs_remove_tree(in_folder("special_tokens_map.json"), NULL);
}

static void test_words_added_before_are_read(void **state)
{
    tokenizer *t;
    int32_t id;

    (void)state;
    write_text("added_tokens.json", "{\"<b>\": 524, \"<a>\": 523}");
    t = open_tokenizer();
    assert_pieces(t, "<a><b>", "523 524");
    assert_int_equal(tokenizer_add(t, "<c>", &id, NULL), 0);
    assert_int_equal(id, VOCAB + 2);
    tokenizer_close(t);
    fs_remove_tree(in_folder("added_tokens.json"), NULL);
}

static void test_a_damaged_folder_is_refused_with_file_and_place(void **state)
{
    static const struct { const char *name, *text, *said; } ROWS[] = {
        {"vocab.json", "{\"a\": 0,", "vocab.json:1:"},
        {"vocab.json", "{}", "vocab.json: no entries"},
        {"vocab.json", "[]", "vocab.json: no entries"},
        {"vocab.json", "{\"a\": 0, \"b\": 0}", "vocab.json: \"b\" has id 0, as \"a\" has"},
        {"vocab.json", "{\"a\": 2, \"b\": 0}", "vocab.json: \"a\" has no id from 0 to 1"},
        {"vocab.json", "{\"a\": \"0\"}", "vocab.json: \"a\" has no id from 0 to 0"},
        {"vocab.json", "{\"a\": 0}", "the bos_token \"<|startoftext|>\" is not in vocab.json"},
        {"merges.txt", "", "merges.txt: no merges"},
        {"merges.txt", "#version: 0.2\n\n\n", "merges.txt: no merges"},
        {"merges.txt", "#version: 0.2\nc a\n\nca t</w>\n", "merges.txt: line 3: \"\" is not two symbols"},
        {"merges.txt", "#version: 0.2\nc a\nthe\n", "merges.txt: line 3: \"the\" is not two symbols"},
        {"merges.txt", "#version: 0.2\nc a t\n", "merges.txt: line 2: \"c a t\" is not two symbols"},
        {"special_tokens_map.json", "{\"bos_token\": 3}", "special_tokens_map.json: key 'bos_token'"},
        {"special_tokens_map.json", "{\"eos_token\": \"no\"}", "the eos_token \"no\" is not in vocab.json"},
        {"tokenizer_config.json", "{", "tokenizer_config.json:1:"},
        {"added_tokens.json", "{\"<a>\": 9999}", "added_tokens.json: no word has id 523"},
        {"added_tokens.json", "{\"cat</w>\": 523}", "added_tokens.json: the tokenizer knows"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        tokenizer *t;
        err e = {0};

        write_text(ROWS[i].name, ROWS[i].text);
        assert_int_equal(tokenizer_open(&t, folder, &e), ERR_INPUT);
        assert_null(t);
        if (!strstr(e.text, ROWS[i].said) || !strstr(e.text, folder))
            fail_msg("row %zu said: %s", i, e.text);
        fs_remove_tree(in_folder(ROWS[i].name), NULL);
        write_vocabulary();
    }
}

static void test_a_missing_file_is_named(void **state)
{
    tokenizer *t;
    err e = {0};

    (void)state;
    assert_int_equal(tokenizer_open(&t, "/nowhere", &e), ERR_IO);
    assert_non_null(strstr(e.text, "/nowhere/vocab.json"));
}

/* ---- the heap against the plain loop ---- */

enum { RULES = 40, LETTERS = 3, LONGEST = 24 };
typedef struct { char left[LONGEST + 8], right[LONGEST + 8]; } rule;

/* Sennrich's loop: the first rule any neighbours match is applied wherever they do, from left to right. */
static size_t plain_loop(char word[][LONGEST + 8], size_t n, const rule *rules)
{
    for (size_t r = 0; r < RULES; r++) {
        bool joined = false;

        for (size_t i = 0; i + 1 < n; i++) {
            if (strcmp(word[i], rules[r].left) != 0 || strcmp(word[i + 1], rules[r].right) != 0)
                continue;
            strcat(word[i], word[i + 1]);
            memmove(word[i + 1], word[i + 2], (n - i - 2) * sizeof *word);
            n--;
            joined = true;
        }
        if (joined)
            r = (size_t)-1; /* from the first rule again */
    }
    return n;
}

/* Rules join letters and what earlier rules made, so that one symbol comes about in several ways. */
static void make_rules(rule *rules, bpe *b, rng_stream s)
{
    uint64_t i = 0;

    for (size_t r = 0; r < RULES; r++) {
        char side[2][LONGEST + 8];

        for (int k = 0; k < 2; k++) {
            const uint32_t from = rng_below(s, i++, (uint32_t)r + LETTERS);

            snprintf(side[k], sizeof side[k], "%c", 'a' + (char)(from % LETTERS));
            if (from >= LETTERS && !strstr(rules[from - LETTERS].right, "</w>") &&
                strlen(rules[from - LETTERS].left) + strlen(rules[from - LETTERS].right) <= 6)
                snprintf(side[k], sizeof side[k], "%.6s%.6s", rules[from - LETTERS].left, rules[from - LETTERS].right);
        }
        if (rng_below(s, i++, 4) == 0)
            strcat(side[1], "</w>");
        for (size_t q = 0; q < r; q++)
            if (strcmp(rules[q].left, side[0]) == 0 && strcmp(rules[q].right, side[1]) == 0)
                side[0][0] = '#'; /* each pair has one rank */
        memcpy(rules[r].left, side[0], sizeof side[0]);
        memcpy(rules[r].right, side[1], sizeof side[1]);
        bpe_merge(b, side[0], strlen(side[0]), side[1], strlen(side[1]), (uint32_t)r);
    }
}

static void check_word(bpe *b, const rule *rules, rng_stream s)
{
    char word[LONGEST][LONGEST + 8] = {{0}};
    unsigned char bytes[LONGEST];
    const size_t n = 1 + rng_below(s, 0, LONGEST);
    id_list got = {0};
    size_t pieces;

    for (size_t i = 0; i < n; i++) {
        bytes[i] = (unsigned char)('a' + rng_below(s, i + 1, LETTERS));
        snprintf(word[i], sizeof word[i], "%c%s", bytes[i], i + 1 == n ? "</w>" : "");
    }
    pieces = plain_loop(word, n, rules);
    for (size_t i = 0; i < pieces; i++)
        if (bpe_id(b, word[i], strlen(word[i])) < 0) {
            static int32_t next;
            bpe_set_id(b, word[i], strlen(word[i]), next++);
        }
    bpe_word(b, bytes, n, -7, &got);
    assert_int_equal(got.n, pieces);
    for (size_t i = 0; i < pieces; i++)
        assert_int_equal(got.at[i], bpe_id(b, word[i], strlen(word[i])));
    free(got.at);
}

static void test_the_heap_joins_what_the_plain_loop_joins(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 60; k++) {
        rule *rules = NEW_N(rule, RULES);
        bpe *b = bpe_new();

        make_rules(rules, b, rng_open(1, "rules", k, 0));
        for (uint32_t w = 0; w < 60; w++)
            check_word(b, rules, rng_open(1, "word", k, w));
        bpe_free(b);
        free(rules);
    }
}

static void test_long_words_take_no_long_time(void **state)
{
    static const char *const PARTS[] = {"a", "!", "cat", "<", "<new1>", "\xC3\x83\xC2\x83", "&amp;", "\xFF", "\xCE\xA3"};
    tokenizer *t = open_tokenizer();
    int32_t id[TOKENS];

    (void)state;
    assert_int_equal(tokenizer_add(t, "<new1>", id, NULL), 0);
    for (size_t k = 0; k < sizeof PARTS / sizeof *PARTS; k++) {
        str text = {0};

        while (text.n < 50 * 1000)
            str_add(&text, "%s", PARTS[k]);
        assert_true(tokenizer_encode(t, text.at, id) > 0);
        assert_int_equal(id[TOKENS - 1], EOS);
        str_free(&text);
    }
    tokenizer_close(t);
}

/* ---- goldens ---- */

static void check_golden(const char *dir, const char *model)
{
    char path[2 * FS_PATH];
    tokenizer *t;
    json_t *root, *row;
    json_error_t where;
    int32_t id[TOKENS];
    err e = {0};
    size_t i;

    snprintf(path, sizeof path, "%s/tokenizer_golden.json", dir);
    root = json_load_file(path, JSON_ALLOW_NUL, &where);
    assert_non_null(root);
    snprintf(path, sizeof path, "%s%s/tokenizer", dir, model);
    if (tokenizer_open(&t, path, &e) != 0 || tokenizer_add(t, "<new1>", id, &e) != 0 || tokenizer_add(t, "<new2>", id, &e) != 0)
        fail_msg("%s", e.text);
    json_array_foreach(json_object_get(root, "prompts"), i, row) {
        const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
        const int n = tokenizer_encode_bytes(t, json_string_value(text), json_string_length(text), id);

        assert_int_equal(n, json_integer_value(json_object_get(row, "n")));
        for (size_t k = 0; k < TOKENS; k++)
            assert_int_equal(id[k], json_integer_value(json_array_get(ids, k)));
    }
    assert_true(i > 0);
    json_decref(root);
    tokenizer_close(t);
}

static void test_goldens_where_they_are(void **state)
{
    static const char *const ROWS[][2] = {{"tiny", "/model"}, {"odd", "/model"}, {"tokenizer_full", ""}};
    const char *source = getenv("CFARM_SOURCE");

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char dir[FS_PATH];

        snprintf(dir, sizeof dir, "%s/../shared/golden/%s", source ? source : ".", ROWS[i][0]);
        if (!fs_is_dir(dir))
            skip();
        check_golden(dir, ROWS[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_become_the_pieces_merges_allow),
        cmocka_unit_test(test_a_body_is_cut_at_75_and_padded_to_77),
        cmocka_unit_test(test_added_words_are_found_anywhere_and_as_written),
        cmocka_unit_test(test_a_word_is_added_once),
        cmocka_unit_test(test_forgotten_words_are_as_if_never_added),
        cmocka_unit_test(test_one_like_another_is_its_own_and_outlives_it),
        cmocka_unit_test(test_a_class_word_of_several_pieces_is_told_with_them),
        cmocka_unit_test(test_the_folder_says_what_pads),
        cmocka_unit_test(test_words_added_before_are_read),
        cmocka_unit_test(test_a_damaged_folder_is_refused_with_file_and_place),
        cmocka_unit_test(test_a_missing_file_is_named),
        cmocka_unit_test(test_the_heap_joins_what_the_plain_loop_joins),
        cmocka_unit_test(test_long_words_take_no_long_time),
        cmocka_unit_test(test_goldens_where_they_are),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, start, end);
}
