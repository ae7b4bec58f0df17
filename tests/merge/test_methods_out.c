/* What a method leaves behind, in other programs' forms: a whole model folder must say of fixed draws what the training said
 * at its end, so its weights are those that were trained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "merge/export.h"
#include "merge/sums.h"
#include "tests/trainer/train_kit.h"
#include "trainer/method/method.h"

typedef struct {
    const char *name, *settings, *lr;
} row;

static const row rows[] = {
    {"dreambooth", "method: dreambooth, token: rare, train_text_encoder: yes", "1e-4"},
    {"svdiff", "method: svdiff, token: rare, train_text_encoder: yes", "5e-2"},
    {"svdiff_scalar", "method: svdiff, token: rare, svdiff: {norms: scalar}", "5e-2"},
    {"lora", "method: lora, token: rare, lora: {rank: 2, alpha: 3}, train_text_encoder: yes", "5e-3"},
};
enum { ROWS = sizeof rows / sizeof *rows };

static concept read_one(const char *name)
{
    concept c;
    err e = {0};

    if (concept_read(&c, kit_path(name), CONCEPT_TENSORS, &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static void export_to(const char *file, const char *format, const char *out)
{
    const export_format *f = export_formats;
    concept c = read_one(file);
    err e = {0};
    nn_backend *b;
    sd *m;

    while (strcmp(f->name, format) != 0)
        f++;
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    assert_int_equal(sd_open(&m, kit_model(), b, &e), 0);
    int rc = export_needs_base(&c) && !(f->as_is && f->as_is(&c)) ? export_full(&c, m, &e) : 0;
    if (rc == 0)
        rc = f->write(&(export_job){.c = &c, .base = m, .rank = 4, .out = kit_path(out)}, &e);
    if (rc != 0)
        fail_msg("%s", e.text);
    concept_free(&c);
    sd_close(m);
    b->close(b);
}

/* In f32: factors beside a matrix and the matrix they make are rounded otherwise in bf16. */
static void a_model_folder_says_what_the_training_said(void **state)
{
    const row *r = *state;
    char more[256], file[64];

    snprintf(file, sizeof file, "%s.h5", r->name);
    snprintf(more, sizeof more, "%s, lr: %s, steps: 4, batch: 2, probe: 4, compute: f32", r->settings, r->lr);
    train_summary taught = kit_train((kit_run){.more = more, .out = file});
    export_to(file, "model", r->name);
    snprintf(more, sizeof more, "method: dreambooth, token: rare, lr: 0, steps: 1, batch: 2, probe: 4, compute: f32");
    train_summary exported = kit_train((kit_run){.more = more, .model = kit_path(r->name)});
    assert_true(fabs(taught.probe_after - taught.probe_before) > 1e-3);
    assert_true(fabs(exported.probe_before - taught.probe_after) < 1e-5);
}

static float *tensor(const char *path, const char *name, uint64_t count)
{
    safetensors *f;
    err e = {0};

    assert_int_equal(st_open(&f, path, &e), 0);
    const st_tensor *t = st_find(f, name);
    assert_non_null(t);
    assert_int_equal(t->count, count);
    float *x = NEW_N(float, count);
    assert_int_equal(st_read_f32(f, name, x, count, &e), 0);
    st_close(f);
    return x;
}

/* The factors as they were taught, alpha beside them in one form and inside lora_B in the other. */
static void both_forms_of_a_lora_have_its_factors(void **state)
{
    concept c = read_one("lora.h5");
    const concept_tensor *up = NULL;
    char name[512], path[FS_PATH + 64];

    (void)state;
    for (int i = 0; i < c.n_tensors && !up; i++)
        if (strstr(c.tensors[i].name, "mid_block") && strstr(c.tensors[i].name, "attn2.to_k.lora_B"))
            up = &c.tensors[i];
    assert_non_null(up);
    uint64_t count = (uint64_t)(up->rows * up->cols);
    export_to("lora.h5", "lora", "as-kohya");
    export_to("lora.h5", "peft", "as-peft");
    snprintf(path, sizeof path, "%s/lora.safetensors", kit_path("as-kohya"));
    float *kohya = tensor(path, "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight", count);
    float *alpha = tensor(path, "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha", 1);
    snprintf(path, sizeof path, "%s/pytorch_lora_weights.safetensors", kit_path("as-peft"));
    snprintf(name, sizeof name, "unet.%s", up->name);
    float *peft = tensor(path, name, count);
    assert_memory_equal(kohya, up->data, count * sizeof(float));
    assert_true(alpha[0] == 3);
    for (uint64_t i = 0; i < count; i++)
        assert_true(peft[i] == up->data[i] * 1.5f);
    free(kohya);
    free(alpha);
    free(peft);
    concept_free(&c);
}

static void vectors_of_a_word_are_one_tensor(void **state)
{
    char path[FS_PATH + 64];

    (void)state;
    kit_train((kit_run){.more = "method: textual-inversion, initializer: a, vectors: 3, steps: 2, batch: 1", .out = "ti.h5"});
    export_to("ti.h5", "embeds", "ti");
    concept c = read_one("ti.h5");
    size_t width = (size_t)c.width;
    snprintf(path, sizeof path, "%s/learned_embeds.safetensors", kit_path("ti"));
    float *rows_of = tensor(path, "<mug>", 3 * width);
    for (size_t k = 0; k < 3; k++)
        assert_memory_equal(rows_of + k * width, c.tokens[k].row, width * sizeof(float));
    free(rows_of);
    concept_free(&c);
}

static concept import_one(const char *path)
{
    concept c = {0};
    nn_backend *b;
    sd *m;
    err e = {0};

    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    assert_int_equal(sd_open(&m, kit_model(), b, &e), 0);
    if (import_read(&c, kit_path(path), 2, m, NULL, &e) != 0)
        fail_msg("%s", e.text);
    sd_close(m);
    b->close(b);
    return c;
}

/* How far the same tensors of both lie apart at most, as a share of the largest number of a's; all of a's must be in b. */
static double apart(const concept *a, const concept *b, const char *tail)
{
    double worst = 0, most = 0;

    for (int i = 0; i < a->n_tensors; i++) {
        const concept_tensor *x = &a->tensors[i], *y = concept_find(b, x->name);
        if (!str_ends(x->name, tail))
            continue;
        assert_non_null(y);
        assert_int_equal(x->rows * (x->cols ? x->cols : 1), y->rows * (y->cols ? y->cols : 1));
        for (int64_t k = 0; k < x->rows * (x->cols ? x->cols : 1); k++) {
            worst = fmax(worst, fabs((double)x->data[k] - (double)y->data[k]));
            most = fmax(most, fabs((double)x->data[k]));
        }
    }
    assert_true(most > 0);
    return worst / most;
}

static void a_lora_comes_back_from_both_forms(void **state)
{
    concept c = read_one("lora.h5"), kohya = import_one("as-kohya"), peft = import_one("as-peft");

    (void)state;
    assert_true(apart(&c, &kohya, "") == 0);
    assert_int_equal(c.n_tensors, kohya.n_tensors);
    assert_true(apart(&c, &peft, "lora_A.weight") == 0); /* alpha/rank went into B, and alpha is the rank */
    for (int i = 0; i < peft.n_tensors; i++)
        if (str_ends(peft.tensors[i].name, ".alpha"))
            assert_true(peft.tensors[i].data[0] == 2);
    assert_string_equal(method_that_keeps(&peft)->name, c.method);
    concept_free(&c);
    concept_free(&kohya);
    concept_free(&peft);
}

static void shifts_come_back_from_the_public_programs_form(void **state)
{
    concept c = read_one("svdiff.h5");

    (void)state;
    export_to("svdiff.h5", "svdiff", "as-shifts");
    concept back = import_one("as-shifts");
    assert_int_equal(c.n_tensors, back.n_tensors);
    assert_true(apart(&c, &back, "") < 1e-6);
    assert_string_equal(method_that_keeps(&back)->name, c.method);
    concept_free(&c);
    concept_free(&back);
}

static void an_embedding_comes_back_from_a1111s_form(void **state)
{
    concept c = read_one("ti.h5");

    (void)state;
    export_to("ti.h5", "a1111", "as-a1111");
    concept back = import_one("as-a1111/mug.pt"); /* the file's name is the word there */
    assert_int_equal(back.n_tokens, 3);
    assert_string_equal(back.tokens[2].word, "mug_2");
    for (int k = 0; k < 3; k++)
        assert_memory_equal(back.tokens[k].row, c.tokens[k].row, (size_t)c.width * sizeof(float));
    concept_free(&c);
    concept_free(&back);
}

static void shifts_add_up_and_ambiguous_subjects_do_not(void **state)
{
    static const char *const file[] = {"svdiff.h5", "other.h5"};
    concept in[2], sum, none;
    err e = {0};

    (void)state;
    kit_train((kit_run){.more = "method: svdiff, token: small, svdiff: {norms: elementwise}, steps: 2, batch: 1, lr: 5e-2", .out = "other.h5"});
    in[0] = read_one("svdiff.h5");
    in[1] = read_one("other.h5");
    assert_int_equal(sums(&sum, in, file, 2, &(compose_opts){0}, &e), 0);
    assert_int_equal(sum.n_tensors, in[0].n_tensors); /* the other has none of the text encoder */
    for (int i = 0; i < sum.n_tensors; i++) {
        const concept_tensor *s = &sum.tensors[i], *a = concept_find(&in[0], s->name), *b = concept_find(&in[1], s->name);
        for (int64_t k = 0; k < s->rows; k++)
            assert_true(s->data[k] == a->data[k] + (b ? b->data[k] : 0));
    }
    free(in[0].settings);
    free(in[1].settings);
    in[0].settings = mem_text("{\"class\":\"mug\",\"token\":[\"rare\"]}");
    in[1].settings = mem_text("{\"class\":\"mug\",\"token\":[\"rare\"]}");
    assert_int_equal(sums(&none, in, file, 2, &(compose_opts){0}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "\"rare mug\""));
    for (int i = 0; i < 2; i++) { /* a word that was chosen counts as one that was given */
        free(in[i].settings);
        free(in[i].recipe);
        in[i].settings = mem_text("{\"class\":\"mug\"}");
        in[i].recipe = mem_text("{\"identifiers\":[\"csm\"]}");
    }
    assert_int_equal(sums(&none, in, file, 2, &(compose_opts){0}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "\"csm mug\""));
    free(in[1].recipe);
    in[1].recipe = mem_text("{\"identifiers\":[\"wdw\"]}");
    assert_int_equal(sums(&none, in, file, 2, &(compose_opts){0}, &e), 0);
    concept_free(&none);
    concept_free(&sum);
    concept_free(&in[0]);
    concept_free(&in[1]);
}

static void scalar_and_elementwise_shifts_do_not_add_up(void **state)
{
    static const char *const file[] = {"svdiff.h5", "svdiff_scalar.h5"};
    concept in[2] = {read_one("svdiff.h5"), read_one("svdiff_scalar.h5")}, sum;
    err e = {0};

    (void)state;
    free(in[0].settings);
    in[0].settings = mem_text("");
    assert_int_equal(sums(&sum, in, file, 2, &(compose_opts){0}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "svdiff.norms"));
    concept_free(&in[0]);
    concept_free(&in[1]);
}

/* Each pair of methods: one way for both, or a sentence that names them. */
static void what_does_not_add_up_is_refused_by_name(void **state)
{
    static const char *const names[] = {"a", "b"};

    (void)state;
    for (int i = 0; method_names[i]; i++)
        for (int k = 0; method_names[k]; k++) {
            const method *by[] = {method_find(method_names[i]), method_find(method_names[k])};
            bool defined = i == k ? by[0]->merges != MERGE_NEVER : by[0]->merges == MERGE_CARDS && by[1]->merges == MERGE_CARDS;
            err e = {0};
            assert_int_equal(method_check_merge(by, names, 2, &e), defined ? 0 : ERR_INPUT);
            if (!defined)
                assert_true(strstr(e.text, by[0]->name) || strstr(e.text, by[1]->name));
        }
}

int main(void)
{
    struct CMUnitTest tests[ROWS + 8];
    char names[ROWS][128];

    for (int i = 0; i < ROWS; i++) {
        snprintf(names[i], sizeof names[i], "%s: a model folder says what the training said", rows[i].name);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = a_model_folder_says_what_the_training_said,
                                       .initial_state = (void *)(uintptr_t)&rows[i]};
    }
    tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(both_forms_of_a_lora_have_its_factors);
    tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(vectors_of_a_word_are_one_tensor);
    tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(a_lora_comes_back_from_both_forms);
    tests[ROWS + 3] = (struct CMUnitTest)cmocka_unit_test(shifts_come_back_from_the_public_programs_form);
    tests[ROWS + 4] = (struct CMUnitTest)cmocka_unit_test(an_embedding_comes_back_from_a1111s_form);
    tests[ROWS + 5] = (struct CMUnitTest)cmocka_unit_test(shifts_add_up_and_ambiguous_subjects_do_not);
    tests[ROWS + 6] = (struct CMUnitTest)cmocka_unit_test(scalar_and_elementwise_shifts_do_not_add_up);
    tests[ROWS + 7] = (struct CMUnitTest)cmocka_unit_test(what_does_not_add_up_is_refused_by_name);
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
