/* The laws of checkpoints, on the embedded model: stopped anywhere and gone on from a checkpoint, every method's training ends
 * with the bytes of one that was never stopped, in a gang of whatever width before and after; a checkpoint that is damaged
 * anywhere, cut anywhere, or of another training is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "tests/trainer/train_kit.h"
#include "trainer/checkpoint.h"

static const char *const ways[] = {
    "steps: 4",
    "steps: 4, freeze: crossattn, accumulate: 2",
    "steps: 4, compat: diffusers, batch: 2",
    "steps: 4, batch: 2, method: dreambooth, token: rare, train_text_encoder: yes",
    "steps: 4, batch: 2, method: fine-tune-all, initializer: a",
    "steps: 4, batch: 2, method: dreambooth, token: rare, moments: 8bit, recompute: yes",
    "steps: 4, batch: 2, method: dreambooth, token: rare, master: bf16, moments: 8bit, recompute: yes",
    "steps: 4, method: lora, token: rare, lora: {rank: 2, alpha: 3}, train_text_encoder: yes",
    "steps: 4, method: svdiff, token: rare, train_text_encoder: yes",
    "steps: 4, method: textual-inversion, initializer: a, vectors: 2",
};

static void every_method_goes_on_to_the_bytes_of_an_undisturbed_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        kit_train((kit_run){.more = ways[i], .out = "calm.h5"});
        train_summary s = kit_train((kit_run){.more = ways[i], .stop_after = 2, .keep = "two", .out = "stopped.h5"});
        assert_true(s.stopped);
        s = kit_train((kit_run){.more = ways[i], .from = "two", .out = "resumed.h5"});
        assert_int_equal(s.began, 2);
        kit_assert_same("calm.h5", "resumed.h5");
    }
}

/* 1 step alone, 2 more as four, the rest as two; rank 0's weights are everyone's, so its checkpoint is a single worker's. */
static void the_width_may_change_at_every_stop(void **state)
{
    const char *more = "steps: 6";

    (void)state;
    kit_train((kit_run){.more = more, .out = "calm6.h5"});
    kit_train((kit_run){.more = more, .stop_after = 3, .keep = "alone"});
    kit_train((kit_run){.more = more, .stop_after = 1, .keep = "a"});
    kit_train_gang(4, (kit_run){.more = more, .from = "a", .stop_after = 2, .who_stops = 3, .keep = "b"});
    kit_assert_same("alone", "b"); /* asked for behind step 2, done by all behind step 3 */
    kit_train_gang(2, (kit_run){.more = more, .from = "b", .out = "wide.h5"});
    kit_assert_same("calm6.h5", "wide.h5");
}

static void what_the_probe_said_before_is_kept(void **state)
{
    const char *more = "steps: 3, probe: 4";

    (void)state;
    train_summary calm = kit_train((kit_run){.more = more});
    kit_train((kit_run){.more = more, .stop_after = 1, .keep = "probed"});
    train_summary s = kit_train((kit_run){.more = more, .from = "probed"});
    assert_memory_equal(&s.probe_before, &calm.probe_before, sizeof s.probe_before);
    assert_memory_equal(&s.probe_after, &calm.probe_after, sizeof s.probe_after);
    assert_memory_equal(&s.first_loss, &calm.first_loss, sizeof s.first_loss);
}

static void another_training_s_checkpoint_is_refused(void **state)
{
    train_summary s;
    err e = {0};

    (void)state;
    kit_train((kit_run){.more = "steps: 3", .stop_after = 1, .keep = "mine"});
    assert_int_equal(kit_try((kit_run){.more = "steps: 3, seed: 2", .from = "mine"}, &s, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "other settings"));
}

/* ---- the bytes ---- */

enum { WEIGHTS = 5, STEP = 3 };
static const char KEY[HASH_HEX] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void *sealed(size_t *n)
{
    checkpoint c;

    *n = checkpoint_bytes(WEIGHTS, STEP);
    float *bytes = mem_new(*n, 1);
    checkpoint_lay(&c, bytes, WEIGHTS, STEP);
    for (int i = 0; i < 3 * (WEIGHTS + STEP); i++)
        c.w[i] = (float)i;
    c.table = 0.5;
    checkpoint_seal(&c, bytes, KEY);
    return bytes;
}

static void what_was_sealed_is_read(void **state)
{
    checkpoint c;
    err e = {0};
    size_t n;
    void *bytes = sealed(&n);

    (void)state;
    assert_int_equal(checkpoint_open(&c, bytes, n, KEY, &e), 0);
    assert_int_equal(c.step, STEP);
    assert_int_equal(c.weights, WEIGHTS);
    assert_true(c.table == 0.5 && c.m[0] == 5 && c.loss[0] == 15 && c.grad_norm[2] == 23);
    free(bytes);
}

static void a_flip_or_a_cut_anywhere_is_seen(void **state)
{
    checkpoint c;
    size_t n;
    unsigned char *bytes = sealed(&n), *cut;

    (void)state;
    for (size_t i = 0; i < n * 8; i++) {
        bytes[i / 8] ^= (unsigned char)(1U << (i % 8));
        assert_int_not_equal(checkpoint_open(&c, bytes, n, KEY, NULL), 0);
        bytes[i / 8] ^= (unsigned char)(1U << (i % 8));
    }
    for (size_t i = 0; i < n; i++) {
        cut = mem_copy(bytes, i + 1); /* a byte of its own, for tools that watch its end */
        assert_int_equal(checkpoint_open(&c, cut, i, KEY, NULL), ERR_IO);
        free(cut);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_goes_on_to_the_bytes_of_an_undisturbed_run),
        cmocka_unit_test(the_width_may_change_at_every_stop),
        cmocka_unit_test(what_the_probe_said_before_is_kept),
        cmocka_unit_test(another_training_s_checkpoint_is_refused),
        cmocka_unit_test(what_was_sealed_is_read),
        cmocka_unit_test(a_flip_or_a_cut_anywhere_is_seen),
    };

    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
