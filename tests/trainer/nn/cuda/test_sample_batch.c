/* Laws of pictures made at once on a device (trainer/sample_batch.h), over the stand-in: each is the CPU's own picture of its
 * words, seed and index to rounding, by DDIM and DPM-Solver++, with guidance and without, whoever is made beside it; a batch
 * mixes concepts that stand in a bank; samplers that want noise decline. */
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
#include "trainer/sample_batch.h"

enum { SIDE = 16, PIXELS = SIDE * SIDE * 3, ASKS = 3, RANK = 2, SHARES = 2 };
static const sample_ask ASK[ASKS] = {{"a <a> cat", "", 0}, {"a <b> dog", "dog", 4}, {"a cat", "", 1}};

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

/* In its place: a bank borrows its concept. */
static void open_on(opened *o, const char *device, bool shares)
{
    err e = {0};

    *o = (opened){.t = small_model_words()};
    ok(nn_open(&o->on, device, 1, &e), &e);
    ok(sd_open(&o->m, small_model_dir(), o->on, &e), &e);
    if (shares)
        open_shares(o);
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

static void try_batch(const char *by, double guidance, bool shares)
{
    opened cpu, gpu;
    sample_opts o = {.sampler = by, .steps = 3, .width = SIDE, .height = SIDE, .guidance = guidance, .seed = 5};
    float *got = NEW_N(float, ASKS *PIXELS), want[PIXELS];
    sample_batch *b;
    err e = {0};

    open_on(&cpu, "cpu", shares);
    open_on(&gpu, "cuda", shares);
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
    try_batch("ddim", 4, false);
    try_batch("dpmpp2m", 1, false);
}

static void a_batch_mixes_concepts_of_a_bank(void **unused)
{
    (void)unused;
    try_batch("dpmpp2m", 4, true);
}

static void what_wants_noise_is_made_one_by_one(void **unused)
{
    opened o, cpu;
    const sample_opts plain = {.sampler = "ddpm", .steps = 3, .width = SIDE, .height = SIDE, .guidance = 4};
    sample_opts ddim = plain;

    (void)unused;
    open_on(&o, "cuda", false);
    open_on(&cpu, "cpu", false);
    assert_non_null(strstr(sample_batch_declines(o.m, &plain), "fresh noise"));
    ddim.sampler = "ddim";
    assert_null(sample_batch_declines(o.m, &ddim));
    assert_non_null(sample_batch_declines(cpu.m, &ddim));
    ddim.eta = 0.5;
    assert_non_null(sample_batch_declines(o.m, &ddim));
    close_all(&o);
    close_all(&cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_picture_of_a_batch_is_the_cpus),
        cmocka_unit_test(a_batch_mixes_concepts_of_a_bank),
        cmocka_unit_test(what_wants_noise_is_made_one_by_one),
    };

    return cmocka_run_group_tests(tests, small_model_make, small_model_clear);
}
