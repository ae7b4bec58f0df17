/* The laws of sampling: a picture is a function of words, options, seed and index; a concept lies over its own base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "tests/trainer/small_model.h"
#include "trainer/apply.h"
#include "trainer/sample.h"

#define OK(call) do { if ((call) != 0) fail_msg("%s", e.text); } while (0)

enum { SIDE = 16, PIXELS = SIDE * SIDE * 3, WIDTH = 16 };
static const sample_opts PLAIN = {.sampler = "ddim", .steps = 3, .width = SIDE, .height = SIDE, .guidance = 4, .seed = 5};

typedef struct { sd *m; tokenizer *t; } opened;

static opened open_both(void)
{
    return (opened){small_model_open(), small_model_words()};
}

static void close_both(opened o)
{
    tokenizer_close(o.t);
    small_model_close(o.m);
}

static void picture(opened o, const sample_opts *opts, const char *prompt, const char *negative, uint32_t index, float *out)
{
    err e = {0};

    OK(sample_picture(o.m, o.t, opts, prompt, negative, index, out, &e));
}

static void a_picture_follows_from_words_seed_and_index(void **state)
{
    opened o = open_both();
    const sampler_kind *k;
    float a[PIXELS], b[PIXELS];

    (void)state;
    for (size_t i = 0; (k = sampler_kind_at(i)) != NULL; i++) {
        sample_opts opts = PLAIN;
        opts.sampler = k->name;
        picture(o, &opts, "cat", "", 0, a);
        picture(o, &opts, "cat", "", 1, b);
        assert_memory_not_equal(a, b, sizeof a);
        picture(o, &opts, "dog", "", 0, b);
        assert_memory_not_equal(a, b, sizeof a);
        opts.seed++;
        picture(o, &opts, "cat", "", 0, b);
        assert_memory_not_equal(a, b, sizeof a);
        opts.seed--;
        picture(o, &opts, "cat", "", 0, b);
        assert_memory_equal(a, b, sizeof a);
        for (int p = 0; p < PIXELS; p++)
            assert_true(a[p] >= 0 && a[p] <= 1);
    }
    close_both(o);
}

static void the_negative_prompt_counts_with_guidance_only(void **state)
{
    opened o = open_both();
    sample_opts opts = PLAIN;
    float a[PIXELS], b[PIXELS];

    (void)state;
    picture(o, &opts, "cat", "", 0, a);
    picture(o, &opts, "cat", "bad", 0, b);
    assert_memory_not_equal(a, b, sizeof a);
    opts.guidance = 1;
    picture(o, &opts, "cat", "", 0, a);
    picture(o, &opts, "cat", "bad", 0, b);
    assert_memory_equal(a, b, sizeof a);
    close_both(o);
}

static void sizes_that_no_latents_have_are_refused(void **state)
{
    static const struct { int w, h; const char *says; } ROWS[] = {
        {15, 16, "15 x 16 where both must be multiples of 2"}, {16, 0, "16 x 0"}, {-2, 16, "-2 x 16"},
    };
    opened o = open_both();
    float out[PIXELS];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        sample_opts opts = PLAIN;
        err e = {0};
        opts.width = ROWS[i].w;
        opts.height = ROWS[i].h;
        assert_int_equal(sample_picture(o.m, o.t, &opts, "cat", "", 0, out, &e), ERR_INPUT);
        assert_non_null(strstr(e.text, ROWS[i].says));
    }
    close_both(o);
}

static void bytes_are_rounded(void **state)
{
    const float x[5] = {0, 0.4F / 255, 0.6F / 255, 254.6F / 255, 1};
    uint8_t out[5];

    (void)state;
    sample_bytes(x, out, 5);
    assert_memory_equal(out, ((uint8_t[]){0, 0, 1, 255, 255}), 5);
}

/* ---- concepts ---- */

static concept small_concept(sd *m)
{
    concept c = {.width = WIDTH};
    char hex[HASH_HEX];
    nn_shape s;
    err e = {0};

    OK(sd_fingerprint(m, hex, &e));
    OK(sd_file_shape(m, sd_kv_name(m, 0), &s, &e));
    float *w = small_model_noise("concept", (size_t)nn_count(s));
    c.base = mem_text(hex);
    concept_add_tensor(&c, sd_kv_name(m, 0) + strlen("unet."), s.d[0], s.d[1], w);
    concept_add_token(&c, "<new1>", "cat", 0, w);
    free(w);
    return c;
}

static void a_concept_lies_over_its_base(void **state)
{
    opened o = open_both();
    concept c = small_concept(o.m);
    float base[PIXELS], word[PIXELS], plain[PIXELS];
    int32_t ids[TOKENS];
    err e = {0};

    (void)state;
    picture(o, &PLAIN, "cat", "", 0, base);
    OK(apply_concept(o.m, o.t, &c, &e));
    tokenizer_encode(o.t, "a <new1> cat", ids);
    assert_int_equal(ids[2], sd_text_shape(o.m)->vocab);
    picture(o, &PLAIN, "cat", "", 0, plain);
    picture(o, &PLAIN, "<new1> cat", "", 0, word);
    assert_memory_not_equal(base, plain, sizeof base);
    assert_memory_not_equal(word, plain, sizeof word);
    concept_free(&c);
    close_both(o);
}

static void a_concept_of_another_base_changes_nothing(void **state)
{
    opened o = open_both();
    concept c = small_concept(o.m);
    float before[PIXELS], after[PIXELS];
    err e = {0};

    (void)state;
    picture(o, &PLAIN, "cat", "", 0, before);
    c.base[0] = c.base[0] == 'a' ? 'b' : 'a';
    assert_int_equal(apply_concept(o.m, o.t, &c, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "another base model"));
    picture(o, &PLAIN, "cat", "", 0, after);
    assert_memory_equal(before, after, sizeof before);
    concept_free(&c);
    close_both(o);
}

static void a_word_that_is_taken_is_refused(void **state)
{
    opened o = open_both();
    concept c = small_concept(o.m);
    int32_t id;
    err e = {0};

    (void)state;
    OK(tokenizer_add(o.t, "<new1>", &id, &e));
    assert_int_not_equal(apply_concept(o.m, o.t, &c, &e), 0);
    assert_non_null(strstr(e.text, "<new1>"));
    assert_int_equal(sd_text_rows(o.m), 0);
    concept_free(&c);
    close_both(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_follows_from_words_seed_and_index),
        cmocka_unit_test(the_negative_prompt_counts_with_guidance_only),
        cmocka_unit_test(sizes_that_no_latents_have_are_refused),
        cmocka_unit_test(bytes_are_rounded),
        cmocka_unit_test(a_concept_lies_over_its_base),
        cmocka_unit_test(a_concept_of_another_base_changes_nothing),
        cmocka_unit_test(a_word_that_is_taken_is_refused),
    };

    return cmocka_run_group_tests(tests, small_model_make, small_model_clear);
}
