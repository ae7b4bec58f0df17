/* Batches: a value of (settings, seed, step); exactly half and half; even use; weights that make the published losses;
 * keys that are equal where pixels are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/batch.h"
#include "tests/data/data_kit.h"

enum { SIDE = 64, CELLS = 8, MOST = 16 };

static tokenizer *words;
static subject_word added[SUBJECT_WORDS_MOST];

static int start(void **state)
{
    if (kit_open(state) != 0)
        return -1;
    kit_pictures("rex", 5, 40, 60, 1);
    kit_pictures("tabby", 3, 50, 50, 2);
    kit_pictures("dogs", 7, 48, 64, 3);
    kit_pictures("cats", 4, 64, 48, 4);
    return 0;
}

static batch_source *opened_as(data_manner manner, const char *yaml, uint64_t seed)
{
    static data_cfg kept[64];
    static int used;
    data_cfg *c = &kept[used++ % 64];
    batch_opts o = {.side = SIDE, .factor = SIDE / CELLS, .channels = 4, .seed = seed};
    batch_source *s = NULL;
    int n;
    err e = {0};

    *c = *kit_cfg(yaml);
    c->manner = manner;
    tokenizer_close(words);
    words = kit_tokenizer(true);
    if (subject_words(added, &n, c, words, &e) != 0 || batch_open(&s, c, words, &o, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

static batch_source *opened(const char *yaml, uint64_t seed)
{
    return opened_as((data_manner){0}, yaml, seed);
}

static const char one[] = "{class: dog, images: rex, token: <rex>, regularisation: {images: dogs}}";
static const char two[] =
    "subjects:\n"
    "- {class: dog, images: rex, token: <rex>, regularisation: {images: dogs}}\n"
    "- {class: cat, images: tabby, token: <tabby>, regularisation: {images: cats}}\n";

static void assert_same(const batch_sample *a, const batch_sample *b)
{
    assert_int_equal(a->subject, b->subject);
    assert_int_equal(a->picture, b->picture);
    assert_int_equal(a->prior, b->prior);
    assert_true(a->key == b->key && a->weight == b->weight);
    assert_memory_equal(&a->look, &b->look, sizeof a->look);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
    assert_string_equal(a->caption, b->caption);
}

static void any_step_in_any_order_is_the_same(void **state)
{
    batch_sample forward[40][MOST], again[MOST];
    batch_source *s = opened(two, 11), *t;

    (void)state;
    for (uint32_t k = 0; k < 40; k++)
        batch_plan(s, k, forward[k]);
    t = opened(two, 11);
    for (uint32_t k = 40; k-- > 0;) {
        batch_plan(t, k * 7 % 40, again);
        for (int i = 0; i < batch_size(t); i++)
            assert_same(&again[i], &forward[k * 7 % 40][i]);
    }
    batch_plan(t, UINT32_MAX, again); /* the last step there is */
    batch_close(t);
    batch_close(s);

    t = opened(two, 12);
    int same = 0;
    for (uint32_t k = 0; k < 40; k++) {
        batch_plan(t, k, again);
        same += again[0].key == forward[k][0].key;
    }
    assert_true(same < 30);
    batch_close(t);
}

static void half_is_the_subject_and_half_its_class(void **state)
{
    static const struct { const char *more; int n, targets; } rows[] = {
        {"", 8, 4}, {", batch: 2", 2, 1}, {", batch: 5", 5, 3}, {", batch: 1", 1, 1}, {", compat: diffusers", 4, 2}};
    batch_sample b[MOST];
    char yaml[512];

    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        snprintf(yaml, sizeof yaml, "%.*s%s}", (int)strlen(one) - 1, one, rows[r].more);
        batch_source *s = opened(yaml, 1);
        assert_int_equal(batch_size(s), rows[r].n);
        assert_int_equal(batch_targets(s), rows[r].targets);
        for (uint32_t k = 0; k < 20; k++) {
            batch_plan(s, k, b);
            for (int i = 0; i < rows[r].n; i++)
                assert_int_equal(b[i].prior, i >= rows[r].targets);
        }
        batch_close(s);
    }
}

static void without_class_pictures_all_are_targets(void **state)
{
    batch_sample b[MOST];
    batch_source *s = opened("{class: dog, images: rex}", 1);

    (void)state;
    assert_int_equal(batch_targets(s), 8);
    batch_plan(s, 3, b);
    for (int i = 0; i < 8; i++)
        assert_false(b[i].prior);
    batch_close(s);
}

/* uses[subject][prior][picture] over the first `steps` steps. */
static void tally(int uses[2][2][MOST], const batch_source *s, uint32_t steps)
{
    batch_sample b[MOST];

    memset(uses, 0, 2 * sizeof *uses);
    for (uint32_t k = 0; k < steps; k++) {
        batch_plan(s, k, b);
        for (int i = 0; i < batch_size(s); i++)
            uses[b[i].subject][b[i].prior][b[i].picture]++;
    }
}

static void every_picture_is_used_as_often_as_every_other(void **state)
{
    int uses[2][2][MOST];
    batch_source *s = opened(one, 2);

    (void)state;
    tally(uses, s, 35); /* 140 draws of each kind: 28 epochs of 5, 20 of 7 */
    for (int p = 0; p < 5; p++)
        assert_int_equal(uses[0][0][p], 28);
    for (int p = 0; p < 7; p++)
        assert_int_equal(uses[0][1][p], 20);
    tally(uses, s, 9); /* in the midst of an epoch: at most one apart */
    for (int p = 0; p < 5; p++)
        assert_in_range(uses[0][0][p], 36 / 5, 36 / 5 + 1);
    batch_close(s);
}

static void subjects_are_balanced_in_every_step(void **state)
{
    batch_sample b[MOST];
    int uses[2][2][MOST];
    batch_source *s = opened(two, 3);

    (void)state;
    for (uint32_t k = 0; k < 30; k++) {
        int targets[2] = {0}, priors[2] = {0};
        batch_plan(s, k, b);
        for (int i = 0; i < 8; i++)
            (b[i].prior ? priors : targets)[b[i].subject]++;
        assert_true(targets[0] == 2 && targets[1] == 2 && priors[0] == 2 && priors[1] == 2);
    }
    tally(uses, s, 15); /* 30 target draws of each: 6 epochs of 5, 10 of 3 */
    for (int p = 0; p < 5; p++)
        assert_int_equal(uses[0][0][p], 6);
    for (int p = 0; p < 3; p++)
        assert_int_equal(uses[1][0][p], 10);
    batch_close(s);
}

static void epochs_are_shuffled_differently(void **state)
{
    batch_sample b[MOST];
    int first[5] = {0};
    batch_source *s = opened("{class: dog, images: rex, batch: 5}", 4);

    (void)state;
    for (uint32_t k = 0; k < 1000; k++) {
        batch_plan(s, k, b);
        first[b[0].picture]++;
    }
    for (int p = 0; p < 5; p++)
        assert_in_range(first[p], 150, 250); /* 200 expected, 12.6 a standard deviation */
    batch_close(s);
}

/* ---- the loss the weights make, against the formulas as published ---- */

typedef struct {
    float *error, *mask; /* [B, cells, cells, C], [B, cells, cells] */
    int n, targets;
} squares;

static squares made_up(const batch_source *s, const batch_sample *b)
{
    int cells = CELLS * CELLS;
    squares q = {NEW_N(float, batch_size(s) * cells * 4), NEW_N(float, batch_size(s) * cells), batch_size(s),
                 batch_targets(s)};

    for (int i = 0; i < q.n * cells * 4; i++)
        q.error[i] = rng_uniform(rng_open(1, "error", 0, 0), (uint64_t)i);
    for (int i = 0; i < q.n; i++)
        batch_mask(s, &b[i], q.mask + i * cells);
    return q;
}

static double masked(const squares *q, int i, double *ones)
{
    double sum = 0;

    *ones = 0;
    for (int p = 0; p < CELLS * CELLS; p++) {
        *ones += q->mask[i * CELLS * CELLS + p];
        for (int c = 0; c < 4; c++)
            sum += q->mask[i * CELLS * CELLS + p] * q->error[(i * CELLS * CELLS + p) * 4 + c];
    }
    return sum;
}

/* custom-diffusion.md 1.1: paper: mean over samples of (sum m e / (4 sum m)); the port: mean over targets of
 * sum m e / sum m, plus prior_weight times the mean over every element of the class pictures. */
static double published(const squares *q, bool paper, double prior_weight)
{
    double loss = 0, prior = 0, ones;

    for (int i = 0; i < q->n; i++) {
        double sum = masked(q, i, &ones);
        if (paper)
            loss += (i < q->targets ? 1 : prior_weight) * sum / (4 * ones) / q->n;
        else if (i < q->targets)
            loss += sum / ones / q->targets;
        else
            prior += sum;
    }
    return paper || q->n == q->targets ? loss : loss + prior_weight * prior / ((q->n - q->targets) * CELLS * CELLS * 4);
}

static void weights_make_the_published_loss(void **state)
{
    static const struct { const char *more; bool paper; double prior; } rows[] = {
        {"", true, 1}, {", prior_weight: 0.5, batch: 5", true, 0.5}, {", compat: diffusers", false, 1},
        {", compat: diffusers, prior_weight: 2, batch: 7", false, 2},
        {", augment: false, compat: diffusers", false, 1}};
    batch_sample b[MOST];
    char yaml[512];

    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        snprintf(yaml, sizeof yaml, "%.*s%s}", (int)strlen(one) - 1, one, rows[r].more);
        batch_source *s = opened(yaml, 5);
        for (uint32_t k = 0; k < 12; k++) {
            batch_plan(s, k, b);
            squares q = made_up(s, b);
            double ones, loss = 0;
            for (int i = 0; i < q.n; i++)
                loss += b[i].weight * masked(&q, i, &ones);
            double want = published(&q, rows[r].paper, rows[r].prior);
            assert_true(fabs(loss - want) < 1e-6 * want);
            free(q.error);
            free(q.mask);
        }
        batch_close(s);
    }
}

/* ---- words ---- */

static void captions_carry_the_prefix_and_the_token(void **state)
{
    batch_sample b[MOST];
    int32_t want[TOKENS];
    char text[256];
    int prefixed = 0;
    batch_source *s = opened(one, 6);

    (void)state;
    for (uint32_t k = 0; k < 20; k++) {
        batch_plan(s, k, b);
        for (int i = 0; i < 8; i++) {
            assert_string_equal(b[i].caption, b[i].prior ? "photo of a dog" : "photo of a <rex> dog");
            assert_true(!b[i].prior || !b[i].look.prefix[0]);
            snprintf(text, sizeof text, "%s%s", b[i].look.prefix, b[i].caption);
            tokenizer_encode(words, text, want);
            assert_memory_equal(b[i].tokens, want, sizeof want);
            prefixed += b[i].look.prefix[0] != 0;
            int new_words = 0;
            for (int p = 0; p < TOKENS; p++)
                new_words += b[i].tokens[p] == added[0].id;
            assert_int_equal(new_words, !b[i].prior);
        }
    }
    assert_in_range(prefixed, 20, 75); /* 0.6 of 80 */
    batch_close(s);
}

/* ---- pixels ---- */

typedef struct { batch_source *s; const batch_sample *b; float *out; int rc; } job;

static void *decode(void *arg)
{
    job *j = arg;
    err e;

    j->rc = batch_pixels(j->s, j->b, j->out, &e);
    return NULL;
}

static void equal_keys_are_equal_pixels_and_threads_do_not_matter(void **state)
{
    enum { STEPS = 12, N = STEPS * 8, PIXELS = SIDE * SIDE * 3 };
    batch_sample *b = NEW_N(batch_sample, N);
    float *at = NEW_N(float, N *PIXELS), *alone = NEW_N(float, PIXELS);
    pthread_t thread[8];
    job jobs[8];
    batch_source *s = opened(one, 7);
    err e;
    int equal = 0;

    (void)state;
    for (uint32_t k = 0; k < STEPS; k++) {
        batch_plan(s, k, b + k * 8);
        for (int i = 0; i < 8; i++) {
            size_t x = k * 8 + (size_t)i;
            jobs[i] = (job){s, &b[x], at + x * PIXELS, -1};
            assert_int_equal(pthread_create(&thread[i], NULL, decode, &jobs[i]), 0);
        }
        for (int i = 0; i < 8; i++) {
            pthread_join(thread[i], NULL);
            assert_int_equal(jobs[i].rc, 0);
        }
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) {
            bool same = memcmp(at + i * PIXELS, at + j * PIXELS, PIXELS * sizeof *at) == 0;
            assert_int_equal(same, b[i].key == b[j].key);
            equal += same;
        }
    assert_true(equal > 10);
    for (int i = 0; i < N; i++) {
        assert_int_equal(batch_pixels(s, &b[i], alone, &e), 0);
        assert_memory_equal(alone, at + i * PIXELS, PIXELS * sizeof *at);
    }
    batch_close(s);
    free(b);
    free(at);
    free(alone);
}

static void a_picture_that_vanishes_is_named(void **state)
{
    batch_sample b[MOST];
    float pixels[SIDE * SIDE * 3];
    err e = {0};

    (void)state;
    kit_pictures("brief", 1, 20, 20, 9);
    batch_source *s = opened("{class: dog, images: brief}", 1);
    assert_int_equal(fs_remove_tree(kit_path("brief"), NULL), 0);
    batch_plan(s, 0, b);
    assert_int_equal(batch_pixels(s, &b[0], pixels, &e), ERR_IO);
    assert_non_null(strstr(e.text, "brief/0.png: cannot open: no such file"));
    batch_close(s);
}

/* ---- other methods' manners ---- */

static void drawn_captions_name_the_word_and_no_class(void **state)
{
    data_manner inversion = {.show = DATA_SQUASHED, .drawn_captions = true, .start_as_class = true};
    batch_source *s = opened_as(inversion, "{class: dog, images: rex, token: <rex>, vectors: 2, batch: 4}", 3);
    batch_sample b[MOST];
    int seen = 0;

    (void)state;
    for (uint32_t k = 0; k < 40; k++) {
        batch_plan(s, k, b);
        for (int i = 0; i < 4; i++) {
            assert_non_null(strstr(b[i].caption, "<rex> <rex>_1"));
            assert_null(strstr(b[i].caption, "dog"));
            seen += strcmp(b[i].caption, "a close-up photo of the <rex> <rex>_1") == 0;
            assert_int_equal(augment_cells(&b[i].look), CELLS * CELLS);
            assert_true(b[i].look.high == SIDE && b[i].look.wide == SIDE);
            assert_true(fabs((double)b[i].weight * 4 * 4 * CELLS * CELLS - 1) < 1e-6);
        }
    }
    assert_in_range(seen, 1, 20); /* 160 / 27 expected */
    assert_int_equal(added[1].start, added[0].start);
    batch_close(s);
}

static void a_template_of_ones_own_is_not_drawn_over(void **state)
{
    data_manner inversion = {.drawn_captions = true};
    batch_source *s = opened_as(inversion, "{class: dog, images: rex, token: <rex>, template: 'my {} here'}", 3);
    batch_sample b[MOST];

    (void)state;
    batch_plan(s, 0, b);
    assert_string_equal(b[0].caption, "my <rex> here");
    batch_close(s);
}

static void a_rare_word_is_said_and_gets_no_row(void **state)
{
    data_manner booth = {.show = DATA_CUT, .rare_words = true, .halves = true};
    batch_source *s = opened_as(booth, "{class: dog, images: rex, token: dog, regularisation: {images: dogs}, batch: 3, "
                                       "prior_weight: 0.5}", 3);
    batch_sample b[MOST];

    (void)state;
    batch_plan(s, 0, b);
    assert_string_equal(b[0].caption, "photo of a dog dog");
    for (int p = 0; p < TOKENS; p++)
        assert_true(b[0].tokens[p] < tokenizer_vocab(words));
    for (int i = 0; i < 3; i++) {
        double mean = (double)b[i].weight * 4 * CELLS * CELLS;
        assert_true(fabs(mean - 0.5) < 1e-6); /* 1 / 2 targets, and 0.5 of 1 class picture */
        assert_false(b[i].look.flip);
        assert_int_equal(augment_cells(&b[i].look), CELLS * CELLS);
        assert_true(b[i].look.high == SIDE || b[i].look.wide == SIDE);
        assert_true(b[i].look.top <= 0 && b[i].look.left <= 0);
    }
    batch_close(s);
}

static void a_resolution_must_fit_the_latents(void **state)
{
    const data_cfg *c = kit_cfg(one);
    batch_opts o = {.side = 100, .factor = 8, .channels = 4};
    batch_source *s;
    err e = {0};

    (void)state;
    assert_int_equal(batch_open(&s, c, words, &o, &e), ERR_INPUT);
    assert_string_equal(e.text, "resolution 100 is no multiple of 8; 96 and 104 are");
}

static int end(void **state)
{
    tokenizer_close(words);
    return kit_close(state);
}

static const char three[] =
    "cut_mix: 60%\n"
    "batch: 6\n"
    "subjects:\n"
    "- {class: dog, images: rex, token: <rex>, regularisation: {images: dogs}}\n"
    "- {class: cat, images: tabby, token: <tabby>, regularisation: {images: cats}}\n"
    "- {class: toy, images: dogs, token: <toy>}\n";

/* A share of the samples shows two subjects, each as often as every other on both sides; its caption names both. */
static void collages_name_both_subjects_and_none_is_left_out(void **state)
{
    enum { STEPS = 600 };
    batch_source *s = opened_as((data_manner){.show = DATA_CUT, .halves = true}, three, 5);
    static const char *const token[] = {"<rex> dog", "<tabby> cat", "<toy> toy"};
    static const char *const class_word[] = {"dog", "cat", "toy"};
    int left[3] = {0}, right[3] = {0}, collages = 0, priors = 0;
    batch_sample b[MOST];

    (void)state;
    for (uint32_t step = 0; step < STEPS; step++) {
        batch_plan(s, step, b);
        for (int i = 0; i < batch_size(s); i++) {
            const char *const *said = b[i].prior ? class_word : token;
            left[b[i].subject] += !b[i].prior;
            if (b[i].other < 0) {
                assert_null(strstr(b[i].caption, " and a "));
                continue;
            }
            assert_int_not_equal(b[i].other, b[i].subject);
            assert_non_null(strstr(b[i].caption, said[b[i].subject]));
            assert_non_null(strstr(b[i].caption, said[b[i].other]));
            assert_true(b[i].prior ? b[i].other < 2 && !strchr(b[i].caption, '<') : true);
            right[b[i].other] += !b[i].prior;
            collages += !b[i].prior;
            priors += b[i].prior;
        }
    }
    for (int k = 0; k < 3; k++) {
        assert_int_equal(left[k], STEPS); /* three targets a step: every subject leads one */
        assert_true(abs(right[k] - collages / 3) < collages / 15);
    }
    assert_true(abs(collages - 3 * STEPS * 6 / 10) < 3 * STEPS / 20 && abs(priors - 3 * STEPS * 6 / 10) < 3 * STEPS / 20);
    batch_close(s);
}

static void a_collage_is_the_middles_of_both_pictures(void **state)
{
    batch_source *s = opened_as((data_manner){.show = DATA_CUT, .halves = true}, three, 5);
    static float joined[SIDE * SIDE * 3], a[SIDE * SIDE * 3], c[SIDE * SIDE * 3], mask[CELLS * CELLS];
    batch_sample b[MOST], one_of;
    uint32_t step = 0;
    int seen = 0;
    err e = {0};

    (void)state;
    for (; seen < 5; step++) {
        batch_plan(s, step, b);
        if (b[0].other < 0)
            continue;
        seen++;
        assert_int_equal(batch_pixels(s, &b[0], joined, &e), 0);
        one_of = b[0];
        one_of.other = -1;
        assert_int_equal(batch_pixels(s, &one_of, a, &e), 0);
        one_of.subject = b[0].other;
        one_of.picture = b[0].other_picture;
        one_of.look = b[0].other_look;
        assert_int_equal(batch_pixels(s, &one_of, c, &e), 0);
        for (int y = 0; y < SIDE; y++) {
            size_t row = (size_t)(y * SIDE * 3), half = SIDE / 2 * 3, quarter = SIDE / 4 * 3;
            assert_memory_equal(joined + row, a + row + quarter, half * sizeof(float));
            assert_memory_equal(joined + row + half, c + row + quarter, half * sizeof(float));
        }
        batch_mask(s, &b[0], mask);
        for (int k = 0; k < CELLS * CELLS; k++)
            assert_true(mask[k] == 1);
    }
    batch_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_step_in_any_order_is_the_same),
        cmocka_unit_test(half_is_the_subject_and_half_its_class),
        cmocka_unit_test(without_class_pictures_all_are_targets),
        cmocka_unit_test(every_picture_is_used_as_often_as_every_other),
        cmocka_unit_test(subjects_are_balanced_in_every_step),
        cmocka_unit_test(collages_name_both_subjects_and_none_is_left_out),
        cmocka_unit_test(a_collage_is_the_middles_of_both_pictures),
        cmocka_unit_test(epochs_are_shuffled_differently),
        cmocka_unit_test(weights_make_the_published_loss),
        cmocka_unit_test(captions_carry_the_prefix_and_the_token),
        cmocka_unit_test(equal_keys_are_equal_pixels_and_threads_do_not_matter),
        cmocka_unit_test(a_picture_that_vanishes_is_named),
        cmocka_unit_test(drawn_captions_name_the_word_and_no_class),
        cmocka_unit_test(a_template_of_ones_own_is_not_drawn_over),
        cmocka_unit_test(a_rare_word_is_said_and_gets_no_row),
        cmocka_unit_test(a_resolution_must_fit_the_latents),
    };
    return cmocka_run_group_tests(tests, start, end);
}
