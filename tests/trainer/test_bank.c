/* The laws of a bank: concepts beside a base that stays as it is, addressed by their words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/small_model.h"
#include "trainer/apply.h"
#include "trainer/bank.h"
#include "trainer/sample.h"

#define OK(call) do { if ((call) != 0) fail_msg("%s", e.text); } while (0)

enum { SIDE = 16, PIXELS = SIDE * SIDE * 3, RANK = 2, SHARES = 3 };
static const sample_opts PLAIN = {.sampler = "ddim", .steps = 3, .width = SIDE, .height = SIDE, .guidance = 4, .seed = 5};

typedef struct { sd *m; tokenizer *t; concept *c; bank *b; } opened;

static void add_matrices(concept_bank *k, const sd *m)
{
    const char *name;
    err e = {0};

    for (size_t i = 0; (name = sd_kv_name(m, i)) != NULL; i++) {
        nn_shape s;
        OK(sd_file_shape(m, name, &s, &e));
        k->matrix = mem_grow(k->matrix, i + 1, sizeof *k->matrix);
        k->matrix[k->matrices++] = (concept_matrix){mem_text(name + strlen("unet.")), s.d[0]};
        k->outs += s.d[0];
        k->width = (int)s.d[1];
    }
}

/* Shares of random numbers; the second has two words. Not loaded: those from `loaded` on. */
static opened open_all(int loaded)
{
    static const char *const words[] = {"<a>", "<b>", "<b2>", "<c>"};
    opened o = {.m = small_model_open(), .t = small_model_words(), .c = NEW(concept)};
    concept_bank *k = &o.c->bank;
    char hex[HASH_HEX];
    err e = {0};

    OK(sd_fingerprint(o.m, hex, &e));
    o.c->kind = CONCEPT_MERGED;
    o.c->base = mem_text(hex);
    add_matrices(k, o.m);
    o.c->width = k->width;
    float *noise = small_model_noise("bank", (size_t)(SHARES * RANK * (k->outs + k->width) + 4 * k->width));
    for (int i = 0; i < 4; i++)
        concept_add_token(o.c, words[i], "cat", 0, noise + i * k->width);
    k->n = SHARES;
    k->share = NEW_N(concept_share, SHARES);
    for (int i = 0; i < SHARES; i++) {
        k->share[i] = (concept_share){.first = i == 0 ? 0 : i == 1 ? 1 : 3, .words = i == 1 ? 2 : 1, .rank = RANK};
        if (i >= loaded)
            continue;
        k->share[i].left = mem_copy(noise + i * RANK * k->outs, (size_t)(RANK * k->outs) * sizeof(float));
        k->share[i].right = NEW_N(double, RANK *k->width);
        for (int j = 0; j < RANK * k->width; j++)
            k->share[i].right[j] = 0.1 * (double)noise[j + i];
    }
    free(noise);
    OK(apply_concept(o.m, o.t, o.c, &e));
    OK(bank_open(&o.b, o.m, o.c, &e));
    return o;
}

static void close_all(opened o)
{
    bank_close(o.b);
    concept_free(o.c);
    free(o.c);
    tokenizer_close(o.t);
    small_model_close(o.m);
}

static void picture(opened o, const char *prompt, float *out)
{
    sample_opts opts = PLAIN;
    err e = {0};

    opts.beside = o.b;
    OK(sample_picture(o.m, o.t, &opts, prompt, "", 0, out, &e));
}

static void a_prompt_without_words_is_the_bases_own(void **state)
{
    sd *m = small_model_open();
    tokenizer *t = small_model_words();
    float base[PIXELS], got[PIXELS], word[PIXELS];
    err e = {0};

    (void)state;
    OK(sample_picture(m, t, &PLAIN, "a cat", "", 0, base, &e));
    tokenizer_close(t);
    small_model_close(m);
    opened o = open_all(SHARES);
    picture(o, "a cat", got);
    picture(o, "a <a> cat", word);
    for (int i = 0; i < PIXELS; i++) /* zeroes are added: to rounding of nothing */
        assert_true(got[i] == base[i]);
    assert_memory_not_equal(word, base, sizeof base);
    close_all(o);
}

/* Where a concept stands, its z is right c; elsewhere 0; behind the end a share of everyone in the prompt. */
static void words_address_the_positions_they_stand_before(void **state)
{
    opened o = open_all(SHARES);
    int32_t ids[TOKENS];
    size_t width = (size_t)o.c->width, beside = (size_t)sd_beside(o.m);
    float *text = NEW_N(float, TOKENS *width), *out = NEW_N(float, TOKENS *(width + beside));
    err e = {0};

    (void)state;
    assert_int_equal(beside, SHARES * RANK);
    tokenizer_encode(o.t, "a <a> a <b2> a", ids);
    OK(sd_text_encode(o.m, ids, 1, TOKENS, text, &e));
    bank_features(o.b, ids, ids, TOKENS, tokenizer_eos(o.t), text, out);
    static const double weight[][SHARES] = {{0, 0, 0}, {0, 0, 0}, {1, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 1, 0}, {.5, .5, 0}, {.5, .5, 0}};
    for (size_t p = 0; p < 8; p++) {
        assert_memory_equal(out + p * (width + beside), text + p * width, width * sizeof *out);
        for (size_t i = 0; i < SHARES; i++)
            for (size_t r = 0; r < RANK; r++) {
                double want = 0, got = (double)out[p * (width + beside) + width + i * RANK + r];
                for (size_t j = 0; j < width; j++)
                    want += o.c->bank.share[i].right[r * width + j] * (double)text[p * width + j];
                assert_true(fabs(got - weight[p][i] * want) <= 1e-6 * (1 + fabs(want)));
            }
    }
    free(text);
    free(out);
    close_all(o);
}

/* z = right c at every position is the update left' right laid over the matrices. */
static void numbers_beside_the_text_are_the_update_of_the_matrices(void **state)
{
    enum { H = 8, W = 8, CHANNELS = 4, TEXT = 5 };
    opened o = open_all(1);
    size_t width = (size_t)o.c->width, beside = (size_t)sd_beside(o.m), count = H * W * CHANNELS;
    float *text = small_model_noise("text", TEXT * width), *x = small_model_noise("x", count), t = 3;
    float *wide = NEW_N(float, TEXT *(width + beside)), *got = NEW_N(float, count), *want = NEW_N(float, count);
    const concept_share *s = &o.c->bank.share[0];
    int64_t first = 0;
    double diff = 0, norm = 0;
    err e = {0};

    (void)state;
    for (size_t p = 0; p < TEXT; p++) {
        memcpy(wide + p * (width + beside), text + p * width, width * sizeof *wide);
        for (size_t r = 0; r < RANK; r++)
            for (size_t j = 0; j < width; j++)
                wide[p * (width + beside) + width + r] += (float)(s->right[r * width + j] * (double)text[p * width + j]);
    }
    OK(sd_unet(o.m, x, &t, wide, 1, H, W, TEXT, got, &e));
    sd_beside_set(o.m, 0);
    for (int i = 0; i < o.c->bank.matrices; first += o.c->bank.matrix[i++].rows) {
        size_t rows = (size_t)o.c->bank.matrix[i].rows;
        float *w = NEW_N(float, rows *width);
        OK(sd_file_read(o.m, sd_kv_name(o.m, (size_t)i), w, rows * width, &e));
        for (size_t k = 0; k < rows * width; k++)
            for (size_t r = 0; r < RANK; r++)
                w[k] += s->left[r * (size_t)o.c->bank.outs + (size_t)first + k / width] * (float)s->right[r * width + k % width];
        OK(sd_override(o.m, sd_kv_name(o.m, (size_t)i), w, rows * width, &e));
        free(w);
    }
    OK(sd_unet(o.m, x, &t, text, 1, H, W, TEXT, want, &e));
    for (size_t i = 0; i < count; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    assert_true(sqrt(diff) <= 1e-5 * sqrt(norm));
    free(text);
    free(x);
    free(wide);
    free(got);
    free(want);
    close_all(o);
}

/* A concept says the same alone in a prompt, however many lie beside it. */
static void others_in_the_bank_change_nothing(void **state)
{
    opened one = open_all(1), all;
    float a[PIXELS], b[PIXELS];
    bool wanted[SHARES] = {false};

    (void)state;
    picture(one, "a <a> cat", a);
    close_all(one);
    all = open_all(SHARES);
    picture(all, "a <a> cat", b);
    for (int i = 0; i < PIXELS; i++)
        assert_true(fabsf(a[i] - b[i]) < 1e-5F);
    bank_wanted(wanted, all.c, all.t, "a <b2> and <c>");
    assert_true(!wanted[0] && wanted[1] && wanted[2]);
    close_all(all);
}

static void a_bank_of_another_model_is_refused(void **state)
{
    opened o = open_all(SHARES);
    bank *b;
    err e = {0};

    (void)state;
    o.c->bank.matrix[1].rows++;
    assert_int_equal(bank_open(&b, o.m, o.c, &e), ERR_SHAPE);
    assert_non_null(strstr(e.text, o.c->bank.matrix[1].name));
    close_all(o);
}

/* ---- plain concepts side by side ---- */

static const char *const PATH[] = {"a.h5", "b.h5", "c.h5"};

/* As a training leaves it: each key and value off by a tenth of its size, and a word; the third one learned its word only. */
static void plain_files(concept file[3], const sd *m)
{
    static const char *const word[] = {"<a>", "<b>", "<c>"};
    char hex[HASH_HEX];
    const char *name;
    err e = {0};

    OK(sd_fingerprint(m, hex, &e));
    for (int i = 0; i < 3; i++) {
        concept *c = &file[i];
        *c = (concept){.width = sd_text_shape(m)->width, .base = mem_text(hex), .method = mem_text("custom-diffusion")};
        for (size_t k = 0; i < 2 && (name = sd_kv_name(m, k)) != NULL; k++) {
            nn_shape s;
            OK(sd_file_shape(m, name, &s, &e));
            size_t count = (size_t)nn_count(s);
            float *w = NEW_N(float, count), *noise = small_model_noise(word[i], count);
            OK(sd_file_read(m, name, w, count, &e));
            for (size_t j = 0; j < count; j++)
                w[j] += 0.1F * noise[j];
            concept_add_tensor(c, name + strlen("unet."), s.d[0], s.d[1], w);
            free(w);
            free(noise);
        }
        float *row = small_model_noise(word[i], (size_t)c->width);
        concept_add_token(c, word[i], "cat", 0, row);
        free(row);
    }
}

static void free_files(concept file[3])
{
    for (int i = 0; i < 3; i++)
        concept_free(&file[i]);
}

static void each_plain_concept_is_what_it_is_alone(void **state)
{
    static const char *const prompt[] = {"a <a> cat", "dog <b> a", "a <c> cat"};
    opened o = {.m = small_model_open(), .t = small_model_words(), .c = NEW(concept)};
    concept file[3];
    float base[PIXELS], alone[3][PIXELS], got[PIXELS];
    err e = {0};

    (void)state;
    plain_files(file, o.m);
    OK(sample_picture(o.m, o.t, &PLAIN, "a cat", "", 0, base, &e));
    for (int i = 0; i < 3; i++) {
        tokenizer *t = small_model_words();
        OK(apply_concept(o.m, t, &file[i], &e));
        OK(sample_picture(o.m, t, &PLAIN, prompt[i], "a dog", 0, alone[i], &e));
        assert_memory_not_equal(alone[i], base, sizeof base);
        tokenizer_close(t);
    }
    sd_restore(o.m);
    OK(bank_of_plain(o.c, o.m, file, PATH, 3, &e));
    free_files(file);
    OK(apply_concept(o.m, o.t, o.c, &e));
    OK(bank_open(&o.b, o.m, o.c, &e));
    sample_opts opts = PLAIN;
    opts.beside = o.b;
    for (int i = 0; i < 3; i++) {
        OK(sample_picture(o.m, o.t, &opts, prompt[i], "a dog", 0, got, &e));
        for (int k = 0; k < PIXELS; k++)
            assert_true(fabsf(got[k] - alone[i][k]) <= 1e-4F);
    }
    picture(o, "a cat", got);
    for (int k = 0; k < PIXELS; k++) /* zeroes are added */
        assert_true(got[k] == base[k]);
    OK(bank_check_prompt(o.c, o.t, "a <a> cat", &e));
    assert_int_equal(bank_check_prompt(o.c, o.t, "a <a> and <b>", &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "words of two files"));
    close_all(o);
}

static void must_refuse(sd *m, const concept *file, int n, const char *why)
{
    concept none;
    err e = {0};

    assert_int_equal(bank_of_plain(&none, m, file, PATH, n, &e), ERR_INPUT);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say: %s", e.text, why);
}

static void what_cannot_lie_side_by_side_is_refused(void **state)
{
    sd *m = small_model_open();
    concept file[3];

    (void)state;
    plain_files(file, m);
    free(file[1].tokens[0].word);
    file[1].tokens[0].word = mem_text("<a>");
    must_refuse(m, file, 2, "b.h5 teaches <a>, as another");
    file[1].base[0] ^= 1;
    must_refuse(m, file, 2, "b.h5 was made from another base model");
    concept_add_tensor(&file[0], "conv_in.weight", 1, 1, NULL);
    must_refuse(m, file, 1, "a.h5 moves conv_in.weight");
    file[2].bank.n = 1;
    must_refuse(m, file + 2, 1, "a.h5 is a bank");
    file[2].bank.n = 0;
    free_files(file);
    small_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_without_words_is_the_bases_own),
        cmocka_unit_test(words_address_the_positions_they_stand_before),
        cmocka_unit_test(numbers_beside_the_text_are_the_update_of_the_matrices),
        cmocka_unit_test(others_in_the_bank_change_nothing),
        cmocka_unit_test(a_bank_of_another_model_is_refused),
        cmocka_unit_test(each_plain_concept_is_what_it_is_alone),
        cmocka_unit_test(what_cannot_lie_side_by_side_is_refused),
    };
    return cmocka_run_group_tests(tests, small_model_make, small_model_clear);
}
