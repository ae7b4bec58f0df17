/* From settings to pictures with captions: lists, orders, captions, regularisation from its three places, words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/caption.h"
#include "data/subject.h"
#include "tests/data/data_kit.h"

static subjects opened(const char *yaml, const regset_embed *embed)
{
    subjects s;
    err e = {0};

    if (subjects_open(&s, kit_cfg(yaml), embed, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

static void names_are_ordered_as_people_count(void **state)
{
    static const char *const ordered[] = {"1.jpg", "2.jpg", "10.jpg", "a1b2", "a1b10", "a01b10", "a2", "b"};

    (void)state;
    for (size_t i = 0; i < sizeof ordered / sizeof *ordered; i++)
        for (size_t k = 0; k < sizeof ordered / sizeof *ordered; k++) {
            int c = image_list_order(ordered[i], ordered[k]);
            if (strcmp(ordered[i], "a1b10") == 0 && strcmp(ordered[k], "a01b10") == 0)
                assert_true(c != 0); /* one value, two names: some order, always the same */
            else if (strcmp(ordered[k], "a1b10") == 0 && strcmp(ordered[i], "a01b10") == 0)
                assert_true(c != 0);
            else
                assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
        }
    assert_int_equal(image_list_order("a1b10", "a01b10"), -image_list_order("a01b10", "a1b10"));
}

static void a_folder_gives_its_pictures_and_nothing_else(void **state)
{
    (void)state;
    kit_pictures("folder", 12, 8, 8, 1);
    kit_text("folder/notes.txt", "not a picture");
    kit_text("folder/inside/x.png", "not looked at");
    subjects s = opened("{class: dog, images: folder}", NULL);
    assert_int_equal(s.at[0].targets, 12);
    assert_string_equal(fs_base(s.at[0].target[2].path), "2.png");
    assert_string_equal(fs_base(s.at[0].target[11].path), "11.png");
    assert_string_equal(s.at[0].target[0].caption, "photo of a <new1> dog");
    assert_int_equal(s.at[0].target[0].h, 8);
    assert_int_equal(s.at[0].priors, 0);
    subjects_close(&s);
}

static void a_list_names_pictures_from_its_folder_or_the_root(void **state)
{
    (void)state;
    kit_pictures("lists/far", 2, 8, 8, 1);
    kit_text("lists/near.txt", "\xef\xbb\xbf" "far/1.png\r\n  far/0.png  \n\n");
    kit_text("lists/rooted.txt", "lists/far/1.png\tphoto of a <new1> dog at noon\nlists/far/0.png\ta <new1>");
    subjects s = opened("{class: dog, images: lists/near.txt}", NULL);
    assert_int_equal(s.at[0].targets, 2);
    assert_string_equal(fs_base(s.at[0].target[0].path), "1.png");
    subjects_close(&s);
    s = opened("{class: dog, images: lists/rooted.txt}", NULL);
    assert_string_equal(s.at[0].target[0].caption, "photo of a <new1> dog at noon");
    subjects_close(&s);
    s = opened("{class: dog, images: [lists/far/1.png, lists/far/0.png]}", NULL);
    assert_string_equal(fs_base(s.at[0].target[0].path), "1.png");
    subjects_close(&s);
}

static void captions_come_from_a_file_beside_the_pictures_or_the_template(void **state)
{
    static const struct { const char *yaml, *first, *third; } rows[] = {
        {"{class: dog, images: c}", "photo of a <new1> dog", "photo of a <new1> dog"},
        {"{class: dog, images: c, token: none}", "photo of a dog", "photo of a dog"},
        {"{class: dog, images: c, token: [<a>, <b>]}", "photo of a <a> <b> dog", "photo of a <a> <b> dog"},
        {"{class: art, images: c, style: true}", "painting in the style of <new1> art",
         "painting in the style of <new1> art"},
        {"{class: sunglasses, images: c, template: 'photo of {}'}", "photo of <new1> sunglasses",
         "photo of <new1> sunglasses"},
        {"{class: dog, images: c, captions: lines.txt}", "one <new1>", "one <new1>"}, /* line i mod 2 */
        {"{class: dog, images: beside}", "told <new1> 0", "told <new1> 2"},
        {"{class: lines.txt, images: c}", "photo of a <new1> lines.txt", "photo of a <new1> lines.txt"},
    };
    (void)state;
    kit_pictures("c", 3, 8, 8, 1);
    kit_pictures("beside", 3, 8, 8, 2);
    kit_text("lines.txt", "one <new1>\ntwo <new1>\n");
    kit_text("beside/0.txt", "told <new1> 0\n");
    kit_text("beside/1.txt", "told <new1> 1");
    kit_text("beside/2.txt", " told <new1> 2 ");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        subjects s = opened(rows[i].yaml, NULL);
        assert_string_equal(s.at[0].target[0].caption, rows[i].first);
        assert_string_equal(s.at[0].target[2].caption, rows[i].third);
        subjects_close(&s);
    }
}

static void given_class_pictures_come_with_their_captions(void **state)
{
    (void)state;
    kit_pictures("mine", 2, 8, 8, 1);
    kit_pictures("class", 11, 8, 8, 2);
    kit_text("eleven.txt", "c0\nc1\nc2\nc3\nc4\nc5\nc6\nc7\nc8\nc9\nc10\n");
    subjects s = opened("{class: dog, images: mine, regularisation: {images: class, captions: eleven.txt}}", NULL);
    assert_int_equal(s.at[0].priors, 11);
    assert_string_equal(s.at[0].prior[10].caption, "c10");
    assert_string_equal(fs_base(s.at[0].prior[10].path), "10.png");
    subjects_close(&s);
    s = opened("{class: dog, images: mine, regularisation: {images: class, count: 4}}", NULL);
    assert_int_equal(s.at[0].priors, 4);
    assert_string_equal(s.at[0].prior[0].caption, "photo of a dog");
    subjects_close(&s);
    s = opened("{class: dog, images: mine, compat: diffusers, regularisation: {images: class}}", NULL);
    assert_string_equal(s.at[0].prior[0].caption, "dog");
    subjects_close(&s);
}

static void what_is_to_be_generated_is_told_and_never_made(void **state)
{
    data_cfg c;
    regset_need *need;
    subjects s;
    err e = {0};
    int n;

    (void)state;
    kit_pictures("mine", 2, 8, 8, 1);
    c = *kit_cfg("{class: big dog, images: mine, regularisation: {generate: 3}}");
    image_checks *seen = image_checks_new();
    assert_int_equal(subjects_look(&s, &c, seen, &e), 0); /* a plan knows no model, and for it that is no mistake */
    assert_true(s.at[0].priors == 0 && s.at[0].later == 3);
    subjects_close(&s);
    image_checks_free(seen);
    c.model = "one model 8x8";
    assert_int_equal(data_missing(&need, &n, &c, &e), 0);
    assert_int_equal(n, 1);
    assert_true(need[0].want == 3 && need[0].have == 0);
    assert_string_equal(need[0].prompt, "photo of a big dog");
    assert_true(str_starts(need[0].folder, kit_path("regularisation/photo_of_a_big_dog-")));
    assert_false(fs_exists(need[0].folder));
    char folder[FS_PATH];
    snprintf(folder, sizeof folder, "%s", fs_base(need[0].folder));
    free(need);
    assert_int_equal(subjects_open(&s, &c, NULL, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "0 of 3 generated regularisation pictures; the others are still to be made"));

    char name[32], path[FS_PATH + 64];
    for (int k = 0; k < 3; k++) {
        regset_name(name, k);
        snprintf(path, sizeof path, "regularisation/%s/%s", folder, name);
        kit_picture(path, 8, 8, (unsigned)k);
        assert_int_equal(data_missing(&need, &n, &c, &e), 0);
        assert_int_equal(need[0].have, k + 1);
        free(need);
    }
    assert_int_equal(subjects_open(&s, &c, NULL, &e), 0);
    assert_int_equal(s.at[0].priors, 3);
    assert_string_equal(s.at[0].prior[2].caption, "photo of a big dog");
    subjects_close(&s);
}

/* Whatever decides a picture decides the folder, and nothing else does. */
static void generated_pictures_are_found_by_what_decides_them(void **state)
{
    static const struct { const char *more, *model; bool same; } row[] = {
        {"generate: 3", "m", true}, {"generate: 50", "m", true}, {"generate: 3, sampler: ddim, steps: 50", "m", true},
        {"generate: 3, prompt: photo of a dog", "m", true}, {"generate: 3", "another", false}, {"generate: 3, seed: 1", "m", false},
        {"generate: 3, sampler: pndm", "m", false}, {"generate: 3, steps: 49", "m", false}, {"generate: 3, guidance: 7.5", "m", false},
        {"generate: 3, eta: 0", "m", false}, {"generate: 3, prompt: a dog", "m", false},
    };
    char first[FS_PATH] = "", yaml[256];

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        regset_need *need;
        err e = {0};
        int n;
        snprintf(yaml, sizeof yaml, "{class: dog, images: mine, regularisation: {%s}}", row[i].more);
        data_cfg c = *kit_cfg(yaml);
        c.model = row[i].model;
        assert_int_equal(data_missing(&need, &n, &c, &e), 0);
        if (i == 0)
            snprintf(first, sizeof first, "%s", need[0].folder);
        assert_int_equal(strcmp(first, need[0].folder) == 0, row[i].same);
        free(need);
    }
}

/* In a folder of one's own choice the file beside the pictures tells how they were made. */
static void a_folder_of_others_pictures_is_refused(void **state)
{
    data_cfg c = *kit_cfg("{class: dog, images: mine, regularisation: {generate: 1, images: kept, seed: 2}}");
    regset_need *need;
    err e = {0};
    int n;

    (void)state;
    c.model = "m";
    assert_int_equal(data_missing(&need, &n, &c, &e), 0);
    kit_text("kept/" REGSET_MADE, need[0].recipe);
    free(need);
    assert_int_equal(data_missing(&need, &n, &c, &e), 0);
    free(need);
    c.model = "another";
    assert_int_equal(data_missing(&need, &n, &c, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "were made otherwise"));
}

/* How many of the letters of "dog" a caption has, against the rest of its length: enough to rank captions. */
static int likeness(void *arg, const char *const captions[], int n, float *out, err *e)
{
    (void)e;
    (*(int *)arg) += n;
    assert_true(n <= REGSET_CHUNK);
    for (int i = 0; i < n; i++) {
        const char *s = captions[i];
        out[2 * i] = out[2 * i + 1] = 0;
        for (; *s; s++)
            out[2 * i + (strchr("dog", *s) ? 0 : 1)] += 1;
    }
    return 0;
}

static void an_index_gives_the_captions_most_like_the_class(void **state)
{
    int asked = 0;
    const regset_embed embed = {2, likeness, &asked};
    static const char yaml[] = "{class: dog, images: mine, template: '{}', regularisation: {index: pool/list.txt, "
                               "similarity: 0.9, count: %d}}";
    char text[256];
    subjects s;
    err e = {0};

    (void)state;
    kit_pictures("mine", 2, 8, 8, 1);
    kit_pictures("pool", 5, 8, 8, 3);
    kit_text("pool/list.txt", "0.png\tx xx xx\n1.png\tdog\n2.png\tdogdogdog x\n3.png\tdogdogdog\n4.png\tdog x\n");
    snprintf(text, sizeof text, yaml, 3);
    s = opened(text, &embed);
    assert_int_equal(asked, 1 + 5);
    assert_int_equal(s.at[0].priors, 3);
    assert_string_equal(s.at[0].prior[0].caption, "dog");       /* 1, the first of two alike */
    assert_string_equal(s.at[0].prior[1].caption, "dogdogdog");
    assert_string_equal(s.at[0].prior[2].caption, "dogdogdog x");
    subjects_close(&s);

    snprintf(text, sizeof text, yaml, 4); /* the fourth is 0.83 alike */
    assert_int_equal(subjects_open(&s, kit_cfg(text), &embed, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "pool/list.txt: 3 of 5 captions are as near as 0.9 to \"dog\", 4 are wanted; lower "
                                   "similarity, set count: 3, add pictures, or use generate: 4"));
    image_checks *seen = image_checks_new();
    assert_int_equal(subjects_look(&s, kit_cfg(text), seen, &e), 0);
    assert_true(s.at[0].priors == 0 && s.at[0].later == 4);
    subjects_close(&s);
    image_checks_free(seen);
}

/* ---- words ---- */

static void each_token_gets_a_row_and_a_start(void **state)
{
    static const struct { bool rare; const char *yaml; int n; const char *word[3], *start[3]; } rows[] = {
        {true, "{class: dog, images: x}", 1, {"<new1>"}, {"ktn"}},
        {true, "{class: dog, images: x, token: [<a>, <b>, <c>]}", 3, {"<a>", "<b>", "<c>"}, {"ktn", "pll", "ucd</w>"}},
        {true, "subjects: [{class: dog, images: x}, {class: cat, images: y}]", 2, {"<new1>", "<new2>"}, {"ktn", "pll"}},
        {true, "{class: dog, images: x, initializer: cat}", 1, {"<new1>"}, {"cat</w>"}},
        {true, "{class: dog, images: x, initializer: ca}", 1, {"<new1>"}, {"ca"}},
        {true, "{class: dog, images: x, initializer: 7}", 1, {"<new1>"}, {"("}},
        {true, "{class: dog, images: x, token: none}", 0, {0}, {0}},
        {false, "{class: dog, images: x}", 1, {"<new1>"}, {"dog</w>"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tokenizer *t = kit_tokenizer(rows[i].rare);
        subject_word w[SUBJECT_WORDS_MOST];
        err e = {0};
        int n;
        if (subject_words(w, &n, kit_cfg(rows[i].yaml), t, &e) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(n, rows[i].n);
        for (int k = 0; k < n; k++) {
            assert_string_equal(w[k].word, rows[i].word[k]);
            assert_int_equal(w[k].id, tokenizer_vocab(t) + k);
            assert_int_equal(w[k].start, tokenizer_lookup(t, rows[i].start[k]));
            assert_true(w[k].start >= 0);
        }
        tokenizer_close(t);
    }
}

/* The rare entries are the published rows where the real vocabulary is at hand. */
static void the_rare_rows_are_the_published_ones(void **state)
{
    char dir[FS_PATH];
    subject_word w[SUBJECT_WORDS_MOST];
    tokenizer *t;
    err e = {0};
    int n;

    (void)state;
    snprintf(dir, sizeof dir, "%s/../shared/golden/tokenizer_full/tokenizer", kit_source());
    if (!fs_is_dir(dir))
        skip();
    assert_int_equal(tokenizer_open(&t, dir, &e), 0);
    assert_int_equal(subject_words(w, &n, kit_cfg("{class: cat, images: x, token: [<a>, <b>, <c>]}"), t, &e), 0);
    assert_true(w[0].start == 42170 && w[1].start == 47629 && w[2].start == 43514 && w[0].id == 49408);
    tokenizer_close(t);
}

/* ---- identifiers that nobody gave ---- */

static void add_entry(str *vocab, int *id, const char *text)
{
    str_add(vocab, "%s\"%s\": %d", *id ? ", " : "{", text, *id);
    (*id)++;
}

/* Beyond 10000 entries: qx, zvk and wqy will do; jzq is part of jzqo, sks is a rifle, vvw ends no word, bvn comes too early. */
static tokenizer *large_vocabulary(void)
{
    static const char *const early[] = {"bv", "bvn</w>"};
    static const char *const late[] = {"qx</w>", "zv", "zvk</w>", "wq", "wqy</w>", "jz", "jzq</w>", "jzq", "jzqo</w>", "sk", "sks</w>",
                                       "vv", "vvw", "<|startoftext|>", "<|endoftext|>"};
    str vocab = {0};
    char filler[32];
    int id = 0;
    tokenizer *t = NULL;
    err e = {0};

    for (int tail = 0; tail < 2; tail++)
        for (char c = 'a'; c <= 'z'; c++) {
            snprintf(filler, sizeof filler, "%c%s", c, tail ? "</w>" : "");
            add_entry(&vocab, &id, filler);
        }
    for (size_t i = 0; i < sizeof early / sizeof *early; i++)
        add_entry(&vocab, &id, early[i]);
    while (id < 12000) {
        snprintf(filler, sizeof filler, "#%d", id);
        add_entry(&vocab, &id, filler);
    }
    for (size_t i = 0; i < sizeof late / sizeof *late; i++)
        add_entry(&vocab, &id, late[i]);
    str_add(&vocab, "}");
    kit_text("tokenizer/vocab.json", vocab.at);
    str_free(&vocab);
    kit_text("tokenizer/merges.txt", "#version: 0.2\nb v\nbv n</w>\nq x</w>\nz v\nzv k</w>\nw q\nwq y</w>\nj z\njz q</w>\njz q\njzq o</w>\n"
                                     "s k\nsk s</w>\nv v\nvv w\n");
    if (tokenizer_open(&t, kit_path("tokenizer"), &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

static data_cfg rare_cfg(const char *yaml)
{
    data_cfg c = *kit_cfg(yaml);

    c.manner.rare_words = true;
    return c;
}

static void an_identifier_is_a_rare_word_of_the_vocabulary(void **state)
{
    static const char *const good[] = {"qx", "zvk", "wqy"};
    tokenizer *t = large_vocabulary();
    int seen[3] = {0};
    err e = {0};

    (void)state;
    for (int i = 0; i < 40; i++) {
        char yaml[128];
        int which = 0;
        snprintf(yaml, sizeof yaml, "{class: dog, images: pictures%d}", i);
        data_cfg c = rare_cfg(yaml), again = c;
        assert_int_equal(subject_choose(&c, t, &e), 0);
        assert_int_equal(subject_choose(&again, t, &e), 0);
        assert_string_equal(data_chosen(&c, 0), data_chosen(&again, 0));
        while (which < 3 && strcmp(good[which], data_chosen(&c, 0)) != 0)
            which++;
        assert_true(which < 3);
        seen[which]++;
    }
    assert_true(seen[0] && seen[1] && seen[2]); /* other pictures, another word */
    tokenizer_close(t);
}

static void no_identifier_is_chosen_twice_or_beside_a_given_one(void **state)
{
    tokenizer *t = large_vocabulary();
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    err e = {0};

    (void)state;
    data_cfg c = rare_cfg("subjects: [{class: dog, images: a}, {class: cat, images: b, token: zvk}, {class: mug, images: c}]");
    assert_int_equal(subject_choose(&c, t, &e), 0);
    assert_string_not_equal(data_chosen(&c, 0), data_chosen(&c, 2));
    assert_string_equal(data_chosen(&c, 1), "");
    assert_true(strcmp(data_chosen(&c, 0), "zvk") != 0 && strcmp(data_chosen(&c, 2), "zvk") != 0);
    assert_int_equal(subject_tokens(words, &c, 2), 1);
    assert_string_equal(words[0], data_chosen(&c, 2));
    c = rare_cfg("subjects: [{class: a, images: a}, {class: b, images: b}, {class: c, images: c}, {class: d, images: d}]");
    assert_int_equal(subject_choose(&c, t, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "no rare word to choose"));
    tokenizer_close(t);
}

static void a_vocabulary_of_frequent_words_has_no_identifier(void **state)
{
    tokenizer *t = kit_tokenizer(true);
    data_cfg c = rare_cfg("{class: dog, images: a}"), given = rare_cfg("{class: dog, images: a, token: cat}");
    err e = {0};

    (void)state;
    assert_int_equal(subject_choose(&c, t, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "give token, a rare word that it has"));
    assert_int_equal(subject_choose(&given, t, &e), 0);
    tokenizer_close(t);
}

/* CLIP's own, where it is at hand: the words that results of today bear. */
static void identifiers_of_clip_are_these(void **state)
{
    static const struct { const char *yaml, *word; int32_t id; } rows[] = {
        {"{class: dog, images: data/rex}", "xj", 42453},
        {"{class: cat, images: data/tabby}", "taa", 43874},
    };
    char dir[FS_PATH];
    tokenizer *t;
    err e = {0};

    (void)state;
    snprintf(dir, sizeof dir, "%s/../shared/golden/tokenizer_full/tokenizer", kit_source());
    if (!fs_is_dir(dir))
        skip();
    assert_int_equal(tokenizer_open(&t, dir, &e), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        data_cfg c = rare_cfg(rows[i].yaml);
        int32_t id = -1;
        assert_int_equal(subject_choose(&c, t, &e), 0);
        assert_string_equal(data_chosen(&c, 0), rows[i].word);
        assert_int_equal(tokenizer_word(t, rows[i].word, &id, &e), 0);
        assert_int_equal(id, rows[i].id);
    }
    tokenizer_close(t);
}

static void templates_have_one_hole(void **state)
{
    char *s;
    err e;

    (void)state;
    assert_int_equal(caption_fill(&s, "a {} in", "dog", &e), 0);
    assert_string_equal(s, "a dog in");
    free(s);
    assert_int_equal(caption_fill(&s, "a dog", "dog", &e), ERR_INPUT);
    assert_int_equal(caption_fill(&s, "{} {}", "dog", &e), ERR_INPUT);
}

/* Looked at for the first row: does it serve the second? */
static void a_look_serves_what_differs_in_its_tokens(void **state)
{
    static const struct { const char *of, *c; bool serves; } rows[] = {
        {"{class: dog, images: plain, token: <a>}", "{class: dog, images: plain, token: <b>}", true},
        {"{class: dog, images: plain, token: <a>}", "{class: dog, images: plain, token: [<a>, <b>]}", true},
        {"{class: dog, images: plain}", "{class: cat, images: plain}", false},
        {"{class: dog, images: plain}", "{class: dog, images: words}", false},
        {"{class: dog, images: plain}", "{class: dog, images: [plain, words]}", false},
        {"{class: dog, images: plain}", "{class: dog, images: plain, style: true}", false},
        {"{class: dog, images: plain}", "{class: dog, images: plain, regularisation: {images: others}}", false},
        {"{class: dog, images: words, token: <a>}", "{class: dog, images: words, token: <b>}", false},
        {"{class: dog, images: words, token: <a>}", "{class: dog, images: words, token: dog}", true},
        {"{class: dog, images: plain, regularisation: {images: others}}",
         "{class: dog, images: plain, token: photo, regularisation: {images: others}}", false},
        {"{subjects: [{class: dog, images: plain}, {class: cat, images: others}]}",
         "{subjects: [{class: dog, images: plain}, {class: cat, images: others, token: <x>}]}", true},
        {"{subjects: [{class: dog, images: plain}, {class: cat, images: others}]}", "{class: dog, images: plain}", false},
    };

    (void)state;
    kit_pictures("plain", 2, 8, 8, 1);
    kit_pictures("others", 1, 8, 8, 2);
    kit_pictures("words", 1, 8, 8, 3);
    kit_text("words/0.txt", "an <a> dog\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const data_cfg of = *kit_cfg(rows[i].of), c = *kit_cfg(rows[i].c);
        image_checks *seen = image_checks_new();
        subjects s;
        err e = {0};
        if (subjects_look(&s, &of, seen, &e) != 0)
            fail_msg("%s: %s", rows[i].of, e.text);
        if (subjects_serve(&s, &of, &c) != rows[i].serves)
            fail_msg("%s for %s", rows[i].of, rows[i].c);
        subjects_close(&s);
        image_checks_free(seen);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_ordered_as_people_count),
        cmocka_unit_test(a_folder_gives_its_pictures_and_nothing_else),
        cmocka_unit_test(a_list_names_pictures_from_its_folder_or_the_root),
        cmocka_unit_test(captions_come_from_a_file_beside_the_pictures_or_the_template),
        cmocka_unit_test(given_class_pictures_come_with_their_captions),
        cmocka_unit_test(what_is_to_be_generated_is_told_and_never_made),
        cmocka_unit_test(generated_pictures_are_found_by_what_decides_them),
        cmocka_unit_test(a_folder_of_others_pictures_is_refused),
        cmocka_unit_test(an_index_gives_the_captions_most_like_the_class),
        cmocka_unit_test(each_token_gets_a_row_and_a_start),
        cmocka_unit_test(the_rare_rows_are_the_published_ones),
        cmocka_unit_test(an_identifier_is_a_rare_word_of_the_vocabulary),
        cmocka_unit_test(no_identifier_is_chosen_twice_or_beside_a_given_one),
        cmocka_unit_test(a_vocabulary_of_frequent_words_has_no_identifier),
        cmocka_unit_test(identifiers_of_clip_are_these),
        cmocka_unit_test(templates_have_one_hole),
        cmocka_unit_test(a_look_serves_what_differs_in_its_tokens),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
