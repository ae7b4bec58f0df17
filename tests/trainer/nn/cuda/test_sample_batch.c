/* Laws of pictures made at once on a device (trainer/sample_batch.h), over the stand-in: each is the CPU's own picture of its
 * words, seed and index to rounding, by every sampler that can, with fresh noise and without, with guidance and without, whoever
 * is made beside it; a batch mixes concepts that stand in a bank, and plain ones; class pictures and those of an evaluation are
 * made so, and one that was lost is made again as it was; a batch after the first allocates nothing, is one launch a call, and is
 * waited for at its end. */
#include <cuda_runtime_api.h> /* the stand-in's */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "data/image.h"
#include "tests/data/data_kit.h"
#include "tests/trainer/small_model.h"
#include "trainer/eval/eval.h"
#include "trainer/regset_make.h"
#include "trainer/sample_batch.h"

/* Small, since the stand-in takes its time. */
enum { SIDE = 8, PIXELS = SIDE * SIDE * 3, ASKS = 3, RANK = 2, SHARES = 2 };
static const sample_ask ASK[ASKS] = {{"a <a> cat", "", 0}, {"a <b> dog", "dog", 4}, {"a cat", "", 1}};

typedef enum { NOTHING, SHARES_OF_A_BANK, PLAIN_FILES } beside;
typedef struct { nn_backend *on; sd *m; tokenizer *t; bank *b; concept c; } opened;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

/* Two concepts beside the base, of random numbers. */
static void open_shares(opened *o)
{
    concept_bank *k = &o->c.bank;
    const char *name;
    err e = {0};

    for (size_t i = 0; (name = sd_kv_name(o->m, i)) != NULL; i++) {
        nn_shape s;
        ok(sd_file_shape(o->m, name, &s, &e), &e);
        k->matrix = mem_grow(k->matrix, i + 1, sizeof *k->matrix);
        k->matrix[k->matrices++] = (concept_matrix){mem_text(name + strlen("unet.")), s.d[0]};
        k->outs += s.d[0];
        k->width = (int)s.d[1];
    }
    o->c.width = k->width;
    float *noise = small_model_noise("bank", (size_t)(SHARES * RANK * (k->outs + k->width) + SHARES * k->width));
    concept_add_token(&o->c, "<a>", "cat", 0, noise);
    concept_add_token(&o->c, "<b>", "dog", 0, noise + k->width);
    ok(sd_text_rows_set(o->m, noise, SHARES, &e), &e);
    k->n = SHARES;
    k->share = NEW_N(concept_share, SHARES);
    for (int i = 0; i < SHARES; i++) {
        int32_t id;
        ok(tokenizer_add(o->t, o->c.tokens[i].word, &id, &e), &e);
        k->share[i] = (concept_share){.first = i, .words = 1, .rank = RANK};
        k->share[i].left = mem_copy(noise + i * RANK * k->outs, (size_t)(RANK * k->outs) * sizeof(float));
        k->share[i].right = NEW_N(double, RANK *k->width);
        for (int j = 0; j < RANK * k->width; j++)
            k->share[i].right[j] = 0.1 * (double)noise[j + i];
    }
    free(noise);
    ok(bank_open(&o->b, o->m, &o->c, &e), &e);
}

/* A file of one word whose keys and values have moved. */
static concept plain_file(sd *m, const char *word)
{
    concept c = {.width = sd_text_shape(m)->width, .base = mem_text(""), .method = mem_text("custom-diffusion")};
    const char *name;
    err e = {0};

    for (size_t i = 0; (name = sd_kv_name(m, i)) != NULL; i++) {
        nn_shape s;
        ok(sd_file_shape(m, name, &s, &e), &e);
        float *w = small_model_noise(word, (size_t)nn_count(s));
        concept_add_tensor(&c, name + strlen("unet."), s.d[0], s.d[1], w);
        free(w);
    }
    float *row = small_model_noise(word, (size_t)c.width);
    concept_add_token(&c, word, "cat", 0, row);
    free(row);
    return c;
}

static void open_plain(opened *o)
{
    static const char *const path[] = {"a.h5", "b.h5"};
    concept file[] = {plain_file(o->m, "<a>"), plain_file(o->m, "<b>")};
    float *rows = NEW_N(float, 2 * file[0].width);
    err e = {0};

    ok(bank_of_plain(&o->c, o->m, file, path, 2, &e), &e);
    for (int i = 0; i < 2; i++) {
        int32_t id;
        ok(tokenizer_add(o->t, o->c.tokens[i].word, &id, &e), &e);
        memcpy(rows + i * o->c.width, o->c.tokens[i].row, (size_t)o->c.width * sizeof *rows);
        concept_free(&file[i]);
    }
    ok(sd_text_rows_set(o->m, rows, 2, &e), &e);
    free(rows);
    ok(bank_open(&o->b, o->m, &o->c, &e), &e);
}

/* In its place: a bank borrows its concept. */
static void open_on(opened *o, const char *device, beside what)
{
    err e = {0};

    *o = (opened){.t = small_model_words()};
    ok(nn_open(&o->on, device, 1, &e), &e);
    ok(sd_open(&o->m, small_model_dir(), o->on, &e), &e);
    if (what == SHARES_OF_A_BANK)
        open_shares(o);
    if (what == PLAIN_FILES)
        open_plain(o);
}

static void close_all(opened *o)
{
    bank_close(o->b);
    concept_free(&o->c);
    tokenizer_close(o->t);
    sd_close(o->m);
    o->on->close(o->on);
}

/* To a thousandth of a pixel's range: f32 in another order, through all calls. */
static void are_near(const float *got, const float *want, const char *what)
{
    for (int i = 0; i < PIXELS; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-3F))
            fail_msg("%s: number %d is %g and not %g", what, i, (double)got[i], (double)want[i]);
}

static void try_batch(const char *by, double eta, double guidance, beside what)
{
    opened cpu, gpu;
    sample_opts o = {.sampler = by, .steps = 3, .width = SIDE, .height = SIDE, .guidance = guidance, .seed = 5, .eta = eta};
    float *got = NEW_N(float, ASKS *PIXELS), want[PIXELS];
    sample_batch *b;
    err e = {0};

    open_on(&cpu, "cpu", what);
    open_on(&gpu, "cuda", what);
    o.beside = gpu.b;
    assert_null(sample_batch_declines(gpu.m, &o));
    ok(sample_batch_open(&b, gpu.m, &o, ASKS, &e), &e);
    for (int from = 0; from < ASKS; from += 2) /* the second batch is not full */
        ok(sample_batch_run(b, gpu.t, ASK + from, ASKS - from < 2 ? ASKS - from : 2, got + from * PIXELS, &e), &e);
    sample_batch_close(b);
    o.beside = cpu.b;
    for (int i = 0; i < ASKS; i++) {
        ok(sample_picture(cpu.m, cpu.t, &o, ASK[i].prompt, ASK[i].negative, ASK[i].index, want, &e), &e);
        are_near(got + i * PIXELS, want, ASK[i].prompt);
    }
    free(got);
    close_all(&cpu);
    close_all(&gpu);
}

static void each_picture_of_a_batch_is_the_cpus(void **unused)
{
    (void)unused;
    try_batch("ddim", 0, 4, NOTHING);
    try_batch("dpmpp2m", 0, 1, NOTHING);
}

static void fresh_noise_is_each_pictures_own(void **unused)
{
    (void)unused;
    try_batch("ddim", 1, 4, NOTHING);
    try_batch("ddpm", 0, 1, NOTHING);
}

static void a_batch_mixes_concepts_of_a_bank(void **unused)
{
    (void)unused;
    try_batch("dpmpp2m", 0, 4, SHARES_OF_A_BANK);
}

static void a_batch_mixes_plain_concepts(void **unused)
{
    (void)unused;
    try_batch("dpmpp2m", 0, 4, PLAIN_FILES);
}

/* Two texts and the decoder are a launch each, waited for and read; between calls only loads are waited for that crossed two calls
 * before, while the device has the calls between. */
static void calls_of_a_batch_are_a_launch_each_and_waited_for_at_the_end(void **unused)
{
    enum { STEPS = 5, OTHERS = 3 };
    const sample_opts o = {.sampler = "ddim", .steps = STEPS, .width = SIDE, .height = SIDE, .guidance = 4, .eta = 1};
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW);
    const int *counts = dlsym(plugin, "standin_counts");
    int before[STANDIN_COUNTS] = {0}, came[STANDIN_COUNTS];
    float got[PIXELS];
    sample_batch *b;
    opened gpu;
    err e = {0};

    (void)unused;
    assert_non_null(counts);
    open_on(&gpu, "cuda", NOTHING);
    ok(sample_batch_open(&b, gpu.m, &o, 1, &e), &e);
    for (int i = 0; i < 3; i++) { /* laid out and put down, recorded, as it stays */
        memcpy(before, counts, sizeof before);
        ok(sample_batch_run(b, gpu.t, ASK, 1, got, &e), &e);
    }
    for (int i = 0; i < STANDIN_COUNTS; i++)
        came[i] = counts[i] - before[i];
    assert_int_equal(came[STANDIN_LAUNCHES], STEPS + OTHERS);
    assert_int_equal(came[STANDIN_ALLOCATIONS] + came[STANDIN_RELEASES] + came[STANDIN_MADE], 0);
    assert_int_equal(came[STANDIN_DRY], 2 * OTHERS);
    assert_int_equal(came[STANDIN_WAITS] - came[STANDIN_DRY], STEPS - 2);
    sample_batch_close(b);
    close_all(&gpu);
    dlclose(plugin);
}

static void what_looks_further_back_is_made_one_by_one(void **unused)
{
    opened o, cpu;
    const sample_opts plain = {.sampler = "pndm", .steps = 3, .width = SIDE, .height = SIDE, .guidance = 4};
    sample_opts ddim = plain;

    (void)unused;
    open_on(&o, "cuda", NOTHING);
    open_on(&cpu, "cpu", NOTHING);
    assert_non_null(strstr(sample_batch_declines(o.m, &plain), "more than one call"));
    ddim.sampler = "ddim";
    assert_null(sample_batch_declines(o.m, &ddim));
    assert_non_null(sample_batch_declines(cpu.m, &ddim));
    close_all(&o);
    close_all(&cpu);
}

/* What is left of the device's memory becomes that much. */
static void leave(nn_backend *on, size_t room)
{
    const double all = 4.0 * 1024 * 1024 * 1024; /* the stand-in's */
    size_t left;
    err e = {0};

    ok(on->left(on, &left, &e), &e);
    ok(on->limit(on, (all - (double)left + (double)room) / all, &e), &e);
}

static void where_memory_is_short_fewer_are_made_at_once(void **unused)
{
    const sample_opts o = {.sampler = "ddim", .steps = 3, .width = 2 * SIDE, .height = 2 * SIDE, .guidance = 4};
    opened gpu;
    sample_batch *b;
    size_t with, without;
    int most;
    err e = {0};

    (void)unused;
    open_on(&gpu, "cuda", NOTHING);
    ok(sample_batch_some(&b, gpu.m, &o, 100, &most, &e), &e);
    assert_int_equal(most, SAMPLE_BATCH_USUAL);
    ok(gpu.on->left(gpu.on, &with, &e), &e);
    sample_batch_close(b);
    ok(gpu.on->left(gpu.on, &without, &e), &e);
    assert_true(without > with);
    leave(gpu.on, without - with - 4096);
    ok(sample_batch_some(&b, gpu.m, &o, 100, &most, &e), &e);
    assert_in_range(most, 1, SAMPLE_BATCH_USUAL - 1);
    sample_batch_close(b);
    close_all(&gpu);
}

/* ---- who makes many ---- */

/* To one of 255 steps: what rounds one way on the device may round the other way on the CPU. */
static void are_alike(const char *got, const char *want)
{
    image a, b;
    err e = {0};

    ok(image_load(&a, got, &e), &e);
    ok(image_load(&b, want, &e), &e);
    assert_int_equal(a.h * a.w, b.h * b.w);
    for (int i = 0; i < a.h * a.w * 3; i++)
        assert_in_range(a.rgb[i] - b.rgb[i] + 1, 0, 2);
    image_free(&a);
    image_free(&b);
}

static const char *number(const char *folder, int k)
{
    char name[64];

    snprintf(name, sizeof name, "%s/%05d.png", folder, k);
    return kit_path(name);
}

/* Pictures 0 .. n - 1 of a folder are another one's; picture `lost` is made again, with its bytes, and no other is. */
typedef void make_fn(const char *device, const char *folder);

static void are_made_at_once(make_fn *make, const char *const folder[2], int n, int lost)
{
    image before, after;
    err e = {0};

    make("cpu", folder[0]);
    make("cuda", folder[1]);
    for (int k = 0; k < n; k++)
        are_alike(number(folder[1], k), number(folder[0], k));
    ok(image_load(&before, number(folder[1], lost), &e), &e);
    assert_int_equal(remove(number(folder[1], lost)), 0);
    assert_int_equal(fs_write(number(folder[1], 0), "kept", 4, &e), 0);
    make("cuda", folder[1]);
    ok(image_load(&after, number(folder[1], lost), &e), &e);
    assert_memory_equal(after.rgb, before.rgb, (size_t)(before.h * before.w * 3));
    assert_int_not_equal(image_load(&after, number(folder[1], 0), &e), 0);
    image_free(&before);
    image_free(&after);
}

static void make_class_pictures(const char *device, const char *folder)
{
    const regset_watch nobody = {0};
    opened o;
    comm *self;
    bool left;
    char yaml[400];
    err e = {0};

    open_on(&o, device, NOTHING);
    ok(comm_self(&self, &e), &e);
    snprintf(yaml, sizeof yaml, "{class: cat, images: subject, regularisation: {generate: 3, steps: 2, images: %s}}", folder);
    data_cfg c = *kit_cfg(yaml);
    c.model = "one";
    c.resolution = SIDE;
    ok(regset_make(&left, o.m, o.t, &c, self, &nobody, &e), &e);
    assert_false(left);
    comm_free(self);
    close_all(&o);
}

static void class_pictures_are_made_at_once(void **unused)
{
    (void)unused;
    are_made_at_once(make_class_pictures, (const char *const[]){"reg_cpu", "reg_cuda"}, 3, 2);
}

static void make_evaluation(const char *device, const char *folder)
{
    static const char *const prompt[] = {"a cat", "a dog"};
    evaluation ev = {0};
    err e = {0};
    char out[64];

    snprintf(out, sizeof out, "%.*s", (int)(strlen(folder) - strlen("/pictures")), folder);
    const eval_cfg set = {.model = small_model_dir(), .from = "", .negative = "", .class_word = "", .prompts = "",
                          .prompt = {prompt, 2}, .backend = device, .steps = 2, .count = 2, .side = SIDE, .guidance = 4,
                          .seed = 3, .batch = CFG_WORD, .out = kit_path(out)};
    ok(eval_make(&ev, &set, NULL, &e), &e);
    assert_int_equal(ev.n, 4);
    evaluation_free(&ev);
}

static void an_evaluations_pictures_are_made_at_once(void **unused)
{
    (void)unused;
    are_made_at_once(make_evaluation, (const char *const[]){"eval_cpu/pictures", "eval_cuda/pictures"}, 4, 3);
}

static int make_both(void **state)
{
    return kit_open(state) != 0 ? -1 : small_model_make(state);
}

static int clear_both(void **state)
{
    return small_model_clear(state) != 0 ? -1 : kit_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_picture_of_a_batch_is_the_cpus),
        cmocka_unit_test(fresh_noise_is_each_pictures_own),
        cmocka_unit_test(a_batch_mixes_concepts_of_a_bank),
        cmocka_unit_test(a_batch_mixes_plain_concepts),
        cmocka_unit_test(calls_of_a_batch_are_a_launch_each_and_waited_for_at_the_end),
        cmocka_unit_test(what_looks_further_back_is_made_one_by_one),
        cmocka_unit_test(where_memory_is_short_fewer_are_made_at_once),
        cmocka_unit_test(class_pictures_are_made_at_once),
        cmocka_unit_test(an_evaluations_pictures_are_made_at_once),
    };

    return cmocka_run_group_tests(tests, make_both, clear_both);
}
