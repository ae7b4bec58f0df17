/* The laws of a training, on the embedded model: repeated, it gives the same bytes; a gang of any width gives the bytes of
 * one worker; what was learned lowers the loss on fixed draws; a stop leaves no file; nothing but what shall move moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "data/concept.h"
#include "tests/trainer/train_kit.h"

static void a_training_repeated_gives_the_same_bytes(void **state)
{
    (void)state;
    kit_train((kit_run){.out = "first.h5"});
    kit_train((kit_run){.out = "again.h5"});
    kit_assert_same("first.h5", "again.h5");
}

static void a_gang_of_any_width_gives_the_bytes_of_one(void **state)
{
    (void)state;
    kit_train_gang(2, (kit_run){.out = "two.h5"});
    kit_assert_same("first.h5", "two.h5");
    kit_train_gang(4, (kit_run){.out = "four.h5"});
    kit_assert_same("first.h5", "four.h5");
}

static void another_seed_gives_other_bytes(void **state)
{
    char x[HASH_HEX], y[HASH_HEX];

    (void)state;
    kit_train((kit_run){.more = "seed: 2", .out = "seed.h5"});
    kit_digest("first.h5", x);
    kit_digest("seed.h5", y);
    assert_string_not_equal(x, y);
}

static void the_loss_on_fixed_draws_falls(void **state)
{
    (void)state;
    train_summary s = kit_train((kit_run){.more = "steps: 40, lr: 2e-3, probe: 16"});
    assert_true(isfinite(s.probe_before) && s.probe_after < s.probe_before);
    assert_int_equal(s.steps, 40);
}

static void a_stopped_training_leaves_no_file(void **state)
{
    (void)state;
    train_summary s = kit_train((kit_run){.stop_after = 2, .out = "stopped.h5"});
    assert_true(s.stopped);
    assert_int_equal(s.steps, 2);
    assert_false(fs_exists(kit_path("stopped.h5")));
}

/* kv: two matrices a cross-attention; crossattn: five tensors of each. */
static void only_what_shall_move_is_kept(void **state)
{
    concept kv, all;
    err e = {0};

    (void)state;
    kit_train((kit_run){.more = "freeze: crossattn, steps: 1", .out = "crossattn.h5"});
    assert_int_equal(concept_read(&kv, kit_path("first.h5"), CONCEPT_ALL, &e), 0);
    assert_int_equal(concept_read(&all, kit_path("crossattn.h5"), CONCEPT_ALL, &e), 0);
    assert_int_equal(all.n_tensors * 2, kv.n_tensors * 5);
    for (int i = 0; i < kv.n_tensors; i++)
        assert_true(concept_is_kv(kv.tensors[i].name));
    assert_int_equal(kv.n_tokens, 1);
    assert_string_equal(kv.tokens[0].word, "<mug>");
    assert_int_equal(kv.history.n, 6);
    assert_true(kv.card.n > 0);
    assert_int_equal(all.card.n, 0); /* more than K and V moved: no merge is defined */
    concept_free(&kv);
    concept_free(&all);
}

static void several_subjects_are_trained_into_one(void **state)
{
    concept c;
    err e = {0};

    (void)state;
    kit_train((kit_run){.more = "steps: 2, class: null, token: null, images: null, subjects: ["
                             "{class: mug, token: <mug>, images: subjects/mug}, {class: creature, token: <pet>, images: subjects/creature}]",
                     .out = "joint.h5"});
    assert_int_equal(concept_read(&c, kit_path("joint.h5"), 0, &e), 0);
    assert_int_equal(c.n_tokens, 2);
    assert_string_equal(c.tokens[1].word, "<pet>");
    concept_free(&c);
}

/* The settings kept in the files may differ. */
static void check_same_weights(const char *a, const char *b)
{
    concept x, y;
    err e = {0};

    assert_int_equal(concept_read(&x, kit_path(a), CONCEPT_TENSORS, &e), 0);
    assert_int_equal(concept_read(&y, kit_path(b), CONCEPT_TENSORS, &e), 0);
    assert_int_equal(x.n_tensors, y.n_tensors);
    for (int i = 0; i < x.n_tensors; i++) {
        size_t count = (size_t)(x.tensors[i].rows * (x.tensors[i].cols ? x.tensors[i].cols : 1));
        assert_memory_equal(x.tensors[i].data, y.tensors[i].data, count * sizeof(float));
    }
    concept_free(&x);
    concept_free(&y);
}

static const char pair[] = "steps: 3, class: null, token: null, images: null, cut_mix: 100%, subjects: ["
                           "{class: mug, token: <mug>, images: subjects/mug}, {class: creature, token: <pet>, images: subjects/creature}]";

/* A further part of the loss, the same bits however it is computed; and it is told what it cannot look at. */
static void unmix_counts_where_two_subjects_are_shown(void **state)
{
    char more[512];
    train_summary plain, apart, sum;
    err e = {0};

    (void)state;
    plain = kit_train((kit_run){.more = pair, .out = "mixed.h5"});
    snprintf(more, sizeof more, "%s, unmix: 10", pair);
    apart = kit_train((kit_run){.more = more, .out = "unmixed.h5"});
    assert_true(apart.first_loss > plain.first_loss);
    snprintf(more, sizeof more, "%s, unmix: 10, recompute: yes, leaves: 4", pair);
    kit_train((kit_run){.more = more, .out = "again.h5"});
    check_same_weights("unmixed.h5", "again.h5");
    assert_int_equal(kit_try((kit_run){.more = "unmix: 1"}, &sum, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "cut_mix"));
}

/* Made once, found the second time; a picture is a function of the model, the prompt and its number. */
static void missing_class_pictures_are_made_once(void **state)
{
    char more[FS_PATH + 128], made[FS_PATH + 16], x[HASH_HEX], y[HASH_HEX];
    err e = {0};

    (void)state;
    snprintf(made, sizeof made, "%s/00001.png", kit_path("made"));
    snprintf(more, sizeof more, "steps: 1, batch: 2, regularisation: {generate: 2, images: %s}", kit_path("made"));
    kit_train((kit_run){.more = more});
    assert_int_equal(hash_file(made, x, &e), 0);
    assert_int_equal(unlink(made), 0);
    kit_train((kit_run){.more = more});
    assert_int_equal(hash_file(made, y, &e), 0);
    assert_string_equal(x, y);
}

/* Each picture is made by one of them, and none but by these settings. */
static void several_workers_make_one_set_together(void **state)
{
    enum { WORKERS = 3, PICTURES = 5 };
    char more[FS_PATH + 128], name[32];
    train_summary sum;
    err e = {0};

    (void)state;
    snprintf(more, sizeof more, "steps: 1, batch: 2, regularisation: {generate: %d, steps: 3, images: %s}", PICTURES, kit_path("together"));
    for (int i = 0; i < WORKERS; i++)
        if (fork() == 0)
            _exit(kit_try((kit_run){.more = more}, &sum, &e) != 0);
    for (int i = 0; i < WORKERS; i++) {
        int status = 1;
        wait(&status);
        assert_int_equal(status, 0);
    }
    snprintf(more, sizeof more, "steps: 1, batch: 2, regularisation: {generate: %d, steps: 3, images: %s}", PICTURES, kit_path("alone"));
    kit_train((kit_run){.more = more});
    for (int k = 0; k < PICTURES; k++) {
        char together[64], alone[64];
        regset_name(name, k);
        snprintf(together, sizeof together, "together/%s", name);
        snprintf(alone, sizeof alone, "alone/%s", name);
        kit_assert_same(together, alone);
    }
    snprintf(more, sizeof more, "steps: 1, regularisation: {generate: 2, steps: 4, images: %s}", kit_path("alone"));
    assert_int_equal(kit_try((kit_run){.more = more}, &sum, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "were made otherwise"));
}

/* A merge works the features of words out in f32, on any machine, and holds them against those that a training kept. */
static void words_have_the_same_features_in_bf16(void **state)
{
    static const char *const WAYS[] = {"steps: 1, compute: f32", "steps: 1, compute: bf16"};
    concept c[2];
    nn_backend *b;
    err e = {0};

    (void)state;
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    bool there = b->compute(b, NN_BF16, &e) == 0;
    b->close(b);
    if (!there) {
        print_message("%s\n", e.text);
        skip();
    }
    for (int k = 0; k < 2; k++) {
        kit_train((kit_run){.more = WAYS[k], .out = k ? "words_bf16.h5" : "words_f32.h5"});
        if (concept_read(&c[k], kit_path(k ? "words_bf16.h5" : "words_f32.h5"), CONCEPT_CARD, &e) != 0)
            fail_msg("%s", e.text);
    }
    assert_memory_equal(c[0].card.bos, c[1].card.bos, (size_t)c[0].card.width * sizeof(float));
    assert_non_null(strstr(c[1].recipe, "\"compute\":\"bf16\""));
    concept_free(&c[0]);
    concept_free(&c[1]);
}

/* A base that computes in bf16 paints other pictures than in f32: neither's are taken for the other's. */
static void made_pictures_are_of_one_type_of_numbers(void **state)
{
    char more[FS_PATH + 256];
    train_summary sum;
    nn_backend *b;
    err e = {0};

    (void)state;
    snprintf(more, sizeof more, "steps: 1, batch: 2, compute: f32, regularisation: {generate: 1, steps: 2, images: %s}", kit_path("typed"));
    kit_train((kit_run){.more = more});
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    int rc = b->compute(b, NN_BF16, &e);
    b->close(b);
    if (rc != 0) {
        print_message("%s\n", e.text);
        skip();
    }
    snprintf(more, sizeof more, "steps: 1, batch: 2, compute: bf16, regularisation: {generate: 1, steps: 2, images: %s}", kit_path("typed"));
    assert_int_equal(kit_try((kit_run){.more = more}, &sum, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "were made otherwise"));
}

static int count_files(const char *dir)
{
    char **name, path[FS_PATH];
    size_t n;
    err e = {0};
    int files = 0;

    assert_int_equal(fs_list(&name, &n, dir, &e), 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(fs_join(path, dir, name[i], &e), 0);
        files += fs_is_dir(path) ? count_files(path) : 1;
    }
    fs_list_free(name);
    return files;
}

/* What one type of numbers had encoded is not found by the other, or a result would hang on who came first. */
static void check_type_keeps_its_own(const char *common)
{
    char more[FS_PATH + 256], dir[FS_PATH];
    nn_backend *b;
    err e = {0};

    snprintf(dir, sizeof dir, "%s", kit_path("by-type"));
    snprintf(more, sizeof more, "%s, compute: f32, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = more, .out = "f32.h5"});
    int kept = count_files(dir);
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    int rc = b->compute(b, NN_BF16, &e);
    b->close(b);
    if (rc != 0) {
        print_message("bf16 not tried: %s\n", e.text);
        return;
    }
    snprintf(more, sizeof more, "%s, compute: bf16", common);
    kit_train((kit_run){.more = more, .out = "bf16.h5"});
    snprintf(more, sizeof more, "%s, compute: bf16, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = more, .out = "bf16-kept.h5"});
    assert_int_equal(count_files(dir), 2 * kept);
    check_same_weights("bf16.h5", "bf16-kept.h5");
}

/* Encoded by the first concept, found by the second, made again where damaged: the same bytes in all cases. */
static void class_pictures_are_encoded_once_for_all_concepts(void **state)
{
    static const char common[] = "steps: 4, batch: 4, regularisation: {images: regularisation/mug}";
    char more[FS_PATH + 256], dir[FS_PATH], path[FS_PATH], **name, **inner;
    size_t n, k;
    err e = {0};

    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_path("moments"));
    snprintf(more, sizeof more, "%s, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = common, .out = "without.h5"});
    kit_train((kit_run){.more = more, .out = "encoded.h5"});
    int kept = count_files(dir);
    assert_int_equal(kept, 9); /* two class pictures a step, none twice before all twelve were seen, and their one caption */
    kit_train((kit_run){.more = more, .out = "found.h5"});
    assert_int_equal(count_files(dir), kept);
    assert_int_equal(fs_list(&name, &n, dir, &e), 0);
    assert_int_equal(fs_join(path, dir, name[0], &e), 0);
    assert_int_equal(fs_list(&inner, &k, path, &e), 0);
    snprintf(dir, sizeof dir, "%s", path);
    assert_int_equal(fs_join(path, dir, inner[0], &e), 0);
    snprintf(dir, sizeof dir, "%s", kit_path("moments"));
    assert_int_equal(truncate(path, 100), 0);
    fs_list_free(name);
    fs_list_free(inner);
    kit_train((kit_run){.more = more, .out = "mended.h5"});
    assert_int_equal(count_files(dir), kept);
    snprintf(more, sizeof more, "%s, seed: 3, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = more});
    assert_true(count_files(dir) > kept && count_files(dir) <= 2 * 12 + 1); /* other ones, and other mirrorings */
    check_type_keeps_its_own(common);
    check_same_weights("without.h5", "encoded.h5");
    check_same_weights("without.h5", "found.h5");
    check_same_weights("without.h5", "mended.h5");
}

/* Where nothing that a text depends on moves, the captions of class pictures are kept beside them: found by the second concept. */
static void so_are_their_captions_where_words_stand_still(void **state)
{
    static const char common[] = "method: dreambooth, token: rare, steps: 3, batch: 4, "
                                 "regularisation: {images: regularisation/mug, captions: regularisation/mug/captions.txt}";
    char more[FS_PATH + 256], dir[FS_PATH];

    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_path("texts"));
    snprintf(more, sizeof more, "%s, train_text_encoder: yes, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = more});
    assert_false(fs_exists(dir)); /* squares cut at random never come again, and these texts move */
    snprintf(more, sizeof more, "%s, regularisation_cache: %s", common, dir);
    kit_train((kit_run){.more = common, .out = "unkept.h5"});
    kit_train((kit_run){.more = more, .out = "kept.h5"});
    int kept = count_files(dir);
    assert_int_equal(kept, 6);    /* two class pictures a step, each with a caption of its own */
    kit_train((kit_run){.more = more, .out = "found-texts.h5"});
    assert_int_equal(count_files(dir), kept);
    check_same_weights("unkept.h5", "kept.h5");
    check_same_weights("unkept.h5", "found-texts.h5");
}

/* From a captioned collection those most like the class's own caption; too few is an error with the choices. */
static void an_index_too_small_is_refused_with_the_choices(void **state)
{
    train_summary sum;
    err e = {0};
    kit_run o = {.more = "steps: 1, regularisation: {index: regularisation/mug, captions: regularisation/mug/captions.txt, "
                          "count: 4, similarity: 0.9999}"};

    (void)state;
    kit_train((kit_run){.more = "steps: 1, regularisation: {index: regularisation/mug, captions: regularisation/mug/captions.txt, "
                             "count: 4, similarity: 0}"});
    assert_int_equal(kit_try(o, &sum, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "similarity"));
}

static void accumulation_is_a_larger_batch(void **state)
{
    (void)state;
    train_summary s = kit_train((kit_run){.more = "accumulate: 2, steps: 2, clip: 1"});
    assert_int_equal(s.steps, 2);
    assert_true(isfinite(s.last_loss));
}

static int fill_with_nan(void *arg, int sample, step_sample *x, err *e)
{
    (void)arg, (void)sample, (void)e;
    x->latents[0] = NAN;
    x->mask[0] = x->weight = 1;
    return 0;
}

static void a_loss_that_is_no_number_is_an_error(void **state)
{
    step_adamw adam = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    train_cfg how = {.freeze = FREEZE_KV};
    err e = {0};
    nn_backend *b;
    sd *m;
    comm *self;
    stepper *s;
    step_result r;
    const char **moves;
    int n;

    (void)state;
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    assert_int_equal(sd_open(&m, kit_model(), b, &e), 0);
    assert_int_equal(comm_self(&self, &e), 0);
    assert_int_equal(train_moves(m, &method_custom_diffusion, &how, &moves, &n, &e), 0);
    step_opts o = {.moves = moves, .n_moves = n, .batch = 1, .micro = 1, .h = 8, .w = 8, .detach_first = true};
    assert_int_equal(step_new(&s, m, self, &o, &e), 0);
    assert_int_equal(step_run(s, 1, &adam, fill_with_nan, NULL, &r, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "not a finite number"));
    step_free(s);
    comm_free(self);
    sd_close(m);
    b->close(b);
    free(moves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_training_repeated_gives_the_same_bytes),
        cmocka_unit_test(a_gang_of_any_width_gives_the_bytes_of_one),
        cmocka_unit_test(another_seed_gives_other_bytes),
        cmocka_unit_test(the_loss_on_fixed_draws_falls),
        cmocka_unit_test(a_stopped_training_leaves_no_file),
        cmocka_unit_test(only_what_shall_move_is_kept),
        cmocka_unit_test(several_subjects_are_trained_into_one),
        cmocka_unit_test(unmix_counts_where_two_subjects_are_shown),
        cmocka_unit_test(missing_class_pictures_are_made_once),
        cmocka_unit_test(several_workers_make_one_set_together),
        cmocka_unit_test(made_pictures_are_of_one_type_of_numbers),
        cmocka_unit_test(words_have_the_same_features_in_bf16),
        cmocka_unit_test(class_pictures_are_encoded_once_for_all_concepts),
        cmocka_unit_test(so_are_their_captions_where_words_stand_still),
        cmocka_unit_test(an_index_too_small_is_refused_with_the_choices),
        cmocka_unit_test(accumulation_is_a_larger_batch),
        cmocka_unit_test(a_loss_that_is_no_number_is_an_error),
    };

    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
