/* The laws every method keeps, on the embedded model: repeated or in a gang of two it gives the same bytes; what was
 * learned lowers the loss on fixed draws; gradients are slopes; what moves is what the method says, and a concept lies over its base as it was
 * left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/concept.h"
#include "tests/trainer/train_kit.h"
#include "trainer/apply.h"

typedef struct {
    const char *name, *settings;
    const char *lr;              /* at which 30 steps are enough to see something */
    int tokens;                  /* in the file */
    bool (*keeps)(const char *tensor); /* of a weight of the model: whether the file has it; NULL: none */
    const char *const *beside;   /* tails of what the file has beside these; NULL: nothing */
} row;

static bool of_unet(const char *name) { return !str_starts(name, "text_encoder."); }
static bool anything(const char *name) { return name != NULL; }

static const char *const factors[] = {".lora_A.weight", ".lora_B.weight", ".alpha", NULL};

static const char *const shifts[] = {".shift", NULL};

static const row rows[] = {
    {"dreambooth", "method: dreambooth, token: rare", "1e-4", 0, of_unet, NULL},
    {"dreambooth_text", "method: dreambooth, token: rare, train_text_encoder: yes", "1e-4", 0, anything, NULL},
    {"dreambooth_8bit", "method: dreambooth, token: rare, moments: 8bit", "1e-4", 0, of_unet, NULL},
    {"dreambooth_bf16", "method: dreambooth, token: rare, master: bf16, moments: 8bit", "1e-4", 0, of_unet, NULL},
    {"fine-tune-all", "method: fine-tune-all, initializer: a", "1e-4", 1, of_unet, NULL},
    {"lora", "method: lora, token: rare, lora: {rank: 2, alpha: 3}, train_text_encoder: yes", "1e-3", 0, NULL, factors},
    {"lora_cross", "method: lora, token: rare, lora: {layers: cross}", "1e-3", 0, NULL, factors},
    {"svdiff", "method: svdiff, token: rare", "1e-2", 0, NULL, shifts},
    {"svdiff_scalar", "method: svdiff, token: rare, svdiff: {norms: scalar}, train_text_encoder: yes", "1e-2", 0, NULL, shifts},
    {"textual-inversion", "method: textual-inversion, initializer: a, vectors: 2", "5e-2", 2, NULL, NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

static const row *row_of(void **state)
{
    return *state;
}

static const char *with(const row *r, const char *more)
{
    static char text[512];

    snprintf(text, sizeof text, "%s%s", r->settings, more);
    return text;
}

static const char *file_of(const row *r, const char *what)
{
    static char text[2][128];
    static int turn;

    turn = !turn;
    snprintf(text[turn], sizeof text[turn], "%s-%s.h5", r->name, what);
    return text[turn];
}

static concept file_read(const char *name)
{
    concept c;
    err e = {0};

    if (concept_read(&c, kit_path(name), CONCEPT_ALL, &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static void one_worker_twice_or_two_give_the_same_bytes(void **state)
{
    const row *r = row_of(state);

    kit_train((kit_run){.more = with(r, ", steps: 2, batch: 2"), .out = file_of(r, "one")});
    kit_train((kit_run){.more = with(r, ", steps: 2, batch: 2"), .out = file_of(r, "again")});
    kit_assert_same(file_of(r, "one"), file_of(r, "again"));
    kit_train_gang(2, (kit_run){.more = with(r, ", steps: 2, batch: 2"), .out = file_of(r, "two")});
    kit_assert_same(file_of(r, "one"), file_of(r, "two"));
}

static void the_loss_on_fixed_draws_falls(void **state)
{
    const row *r = row_of(state);
    char more[64];

    snprintf(more, sizeof more, ", steps: 20, batch: 2, probe: 4, lr: %s", r->lr);
    train_summary s = kit_train((kit_run){.more = with(r, more)});
    assert_true(isfinite(s.probe_before) && s.probe_after < s.probe_before);
}

/* The settings in the files differ, the weights do not. */
static void recomputing_blocks_changes_no_bit_and_takes_less_memory(void **state)
{
    const row *r = row_of(state);
    train_summary kept = kit_train((kit_run){.more = with(r, ", steps: 2, batch: 8, leaves: 1"), .out = file_of(r, "kept")});
    train_summary again = kit_train((kit_run){.more = with(r, ", steps: 2, batch: 8, leaves: 1, recompute: yes"), .out = file_of(r, "twice")});
    concept a = file_read(file_of(r, "kept")), b = file_read(file_of(r, "twice"));

    assert_int_equal(a.n_tensors, b.n_tensors);
    assert_true(a.n_tensors + a.n_tokens > 0);
    for (int i = 0; i < a.n_tensors; i++)
        assert_memory_equal(a.tensors[i].data, b.tensors[i].data,
                            (size_t)(a.tensors[i].rows * (a.tensors[i].cols ? a.tensors[i].cols : 1)) * sizeof(float));
    for (int i = 0; i < a.n_tokens; i++)
        assert_memory_equal(a.tokens[i].row, b.tokens[i].row, (size_t)a.width * sizeof(float));
    assert_memory_equal(a.history.grad_norm, b.history.grad_norm, 2 * sizeof(float));
    assert_true(again.bytes < kept.bytes);
    concept_free(&a);
    concept_free(&b);
}

/* What 16 bits save is not taken back by copies in 32: those that a pass makes come and go with their layer. */
static void narrow_masters_take_half_the_room(void **state)
{
    const char *const way[] = {"method: dreambooth, token: rare, steps: 1, batch: 2, leaves: 1",
                               "method: dreambooth, token: rare, steps: 1, batch: 2, leaves: 1, master: bf16"};
    train_summary wide = kit_train((kit_run){.more = way[0]}), narrow = kit_train((kit_run){.more = way[1], .out = "narrow.h5"});
    concept c = file_read("narrow.h5");
    size_t weights = 0;
    err e = {0};

    (void)state;
    for (int i = 0; i < c.n_tensors; i++)
        weights += (size_t)(c.tensors[i].rows * (c.tensors[i].cols ? c.tensors[i].cols : 1));
    assert_true(narrow.bytes < wide.bytes + weights * sizeof(float) / 4);
    concept_free(&c);
    assert_int_equal(kit_try((kit_run){.more = "method: lora, token: rare, steps: 1, master: bf16"}, &wide, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "lora"));
}

/* Among the weights that text and noise pass through. */
static bool is_of_the_loss(const char *name)
{
    return str_starts(name, "unet.") || (str_starts(name, "text_encoder.text_model.") && !str_ends(name, ".position_ids"));
}

static const char *in_file(const char *name)
{
    return str_starts(name, "unet.") ? name + strlen("unet.") : name;
}

static sd *model_open(nn_backend **b)
{
    err e = {0};
    sd *m = NULL;

    if (nn_cpu_open(b, 1, false, &e) != 0 || sd_open(&m, kit_model(), *b, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

static int is_beside(const concept *c, const char *const *tails)
{
    int n = 0;

    for (; tails && *tails; tails++)
        for (int i = 0; i < c->n_tensors; i++)
            n += str_ends(c->tensors[i].name, *tails);
    return n;
}

static void what_moves_is_what_the_method_says(void **state)
{
    const row *r = row_of(state);
    concept c = file_read(file_of(r, "one"));
    nn_backend *b;
    sd *m = model_open(&b);
    int expected = 0;
    const char *name;

    for (size_t i = 0; (name = nn_params_name(sd_params(m), i)) != NULL; i++) {
        bool kept = is_of_the_loss(name) && r->keeps && r->keeps(in_file(name));
        expected += kept;
        assert_int_equal(concept_find(&c, in_file(name)) != NULL, kept);
    }
    int beside = is_beside(&c, r->beside);
    assert_int_equal(c.n_tensors, expected + beside);
    assert_int_equal(beside > 0, r->beside != NULL);
    assert_int_equal(c.n_tokens, r->tokens);
    assert_int_equal(c.card.n, 0);
    concept_free(&c);
    sd_close(m);
    b->close(b);
}

static void assert_laid_over(sd *m, const concept_tensor *t)
{
    size_t n = (size_t)(t->rows * (t->cols ? t->cols : 1));
    float *now = NEW_N(float, n);
    char full[512];
    err e = {0};

    snprintf(full, sizeof full, "%s%s", str_starts(t->name, "text_encoder.") ? "" : "unet.", t->name);
    assert_int_equal(nn_params_get(sd_params(m), full, now, n, &e), 0);
    assert_memory_equal(now, t->data, n * sizeof *now);
    free(now);
}

static void a_concept_lies_over_its_base_as_it_was_left(void **state)
{
    concept c = file_read(file_of(row_of(state), "one"));
    nn_backend *b;
    sd *m = model_open(&b);
    tokenizer *t;
    str dir = {0};
    err e = {0};

    str_add(&dir, "%s/tokenizer", kit_model());
    assert_int_equal(tokenizer_open(&t, dir.at, &e), 0);
    if (apply_concept(m, t, &c, &e) != 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < c.n_tensors && row_of(state)->keeps; i++) /* others: tests/merge/test_methods_out.c */
        assert_laid_over(m, &c.tensors[i]);
    assert_int_equal(sd_text_rows(m), c.n_tokens);
    tokenizer_close(t);
    str_free(&dir);
    concept_free(&c);
    sd_close(m);
    b->close(b);
}

/* ---- gradients, against differences ---- */

static int fill_fixed(void *arg, int i, step_sample *x, err *e)
{
    enum { CELLS = 8 * 8 };
    (void)arg, (void)e;
    rng_normal_fill(rng_open(7, "latents", 0, (uint32_t)i), x->latents, CELLS * 4);
    x->noise = rng_open(7, "noise", 0, (uint32_t)i);
    for (int p = 0; p < CELLS; p++)
        x->mask[p] = 1;
    for (int p = 0; p < TOKENS; p++)
        x->ids[p] = 300 + 5 * p + i;
    if (x->words)
        x->words[2 * 4] = x->words[2 * 9 + 1] = 0.5f;
    x->timestep = 400 + 100 * i;
    x->weight = 1.0f / (2 * CELLS * 4);
    return 0;
}

/* Away from where the factors begin: with B = 0 no gradient would reach A. */
static void stir(nn_params *p, const char *const names[], int n)
{
    for (int i = 0; i < n; i++) {
        nn_shape s;
        err e = {0};
        assert_int_equal(nn_params_shape(p, names[i], &s, &e), 0);
        size_t count = (size_t)nn_count(s);
        float *x = NEW_N(float, count), *more = NEW_N(float, count);
        assert_int_equal(nn_params_get(p, names[i], x, count, &e), 0);
        rng_normal_fill(rng_open(8, "stir", 0, (uint32_t)i), more, count);
        for (size_t k = 0; k < count; k++)
            x[k] += 0.02f * more[k];
        assert_int_equal(nn_params_set(p, names[i], s, x, &e), 0);
        free(x);
        free(more);
    }
}

/* The loss at w + by d, d of length 1. */
static double loss_at(stepper *s, nn_params *p, const float *w, const float *d, size_t n, double by)
{
    float losses[2], *x = NEW_N(float, n);
    err e = {0};

    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)w[i] + by * (double)d[i]);
    assert_int_equal(nn_params_state_write(p, "train.w", x, n, &e), 0);
    assert_int_equal(step_judge(s, 0, 2, &(step_turn){.fill = fill_fixed}, losses, &e), 0);
    free(x);
    return (double)losses[0] + (double)losses[1];
}

/* ---- texts that are said ---- */

/* The first sample names the word that is learned, the second does not. */
static int fill_word(void *arg, int i, step_sample *x, err *e)
{
    const sd *m = arg;
    int rc = fill_fixed(NULL, i, x, e);

    if (i == 0)
        x->ids[4] = sd_text_shape(m)->vocab;
    return rc;
}

static int asked; /* texts */

static int say_counted(void *arg, int i, float *text, err *e)
{
    sd *m = arg;
    int32_t ids[TOKENS];

    assert_int_equal(i, 1);
    asked++;
    for (int p = 0; p < TOKENS; p++)
        ids[p] = 300 + 5 * p + i;
    return sd_text_states(m, ids, 1, TOKENS, text, e);
}

/* What two steps make of K, V and a word; NULL: this machine does not compute so. */
static float *moved_by_steps(nn_compute in, step_say *say, size_t *n)
{
    nn_backend *b;
    sd *m = model_open(&b);
    const method *by = method_find("custom-diffusion");
    const train_cfg how = {.freeze = FREEZE_KV};
    float *start = NEW_N(float, sd_text_shape(m)->width), *w = NULL;
    const char **moves;
    stepper *s = NULL;
    comm *self;
    err e = {0};
    int count;

    if (b->compute(b, in, &e) == 0) {
        assert_int_equal(sd_text_row(m, 7, start, &e) || sd_text_rows_set(m, start, 1, &e) || comm_self(&self, &e), 0);
        assert_int_equal(train_moves(m, by, &how, &moves, &count, &e), 0);
        const step_opts o = {.moves = moves, .n_moves = count, .batch = 2, .micro = 1, .h = 8, .w = 8, .detach_first = true,
                             .text = train_texts(m, moves, count, false)};
        assert_int_equal(o.text, TEXT_EITHER);
        if (step_new(&s, m, self, &o, &e) != 0)
            fail_msg("%s", e.text);
        free(moves);
        for (uint64_t t = 1; t <= 2; t++) {
            step_turn turn = {.fill = fill_word, .say = say, .arg = m, .t = t,
                              .how = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}};
            if (step_run_all(s, &turn, &e) != 0 || turn.why.code)
                fail_msg("%s%s", e.text, turn.why.text);
        }
        *n = step_weights(s);
        w = NEW_N(float, *n);
        assert_int_equal(nn_params_weights_read(sd_params(m), 0, w, *n, &e), 0);
        step_free(s);
        comm_free(self);
    }
    free(start);
    sd_close(m);
    b->close(b);
    return w;
}

static void a_text_that_is_said_gives_the_bytes_of_one_encoded(void **unused)
{
    (void)unused;
    for (int in = NN_F32; in <= NN_BF16; in++) {
        size_t n, k;
        float *encoded = moved_by_steps((nn_compute)in, NULL, &n);
        asked = 0;
        float *said = moved_by_steps((nn_compute)in, say_counted, &k);
        if (encoded) {
            assert_int_equal(asked, 2); /* once a step */
            assert_int_equal(n, k);
            assert_memory_equal(encoded, said, n * sizeof *said);
        }
        free(encoded);
        free(said);
    }
}

/* What moves by a method's adapter, in a stepper of its own. */
static void check_slope(const char *name, train_cfg how)
{
    const method *by = method_find(name);
    nn_backend *b;
    sd *m = model_open(&b);
    nn_params *p = sd_params(m);
    nn_adapter adapter = by->adapter;
    step_adamw still = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    step_result r;
    const char **moves;
    stepper *s;
    comm *self;
    err e = {0};
    int n;

    adapter.arg = &how;
    assert_int_equal(by->prepare(m, &how, &e), 0);
    assert_int_equal(train_moves(m, by, &how, &moves, &n, &e), 0);
    stir(p, moves, n);
    assert_int_equal(comm_self(&self, &e), 0);
    step_opts o = {.moves = moves, .n_moves = n, .batch = 2, .micro = 2, .h = 8, .w = 8, .adapter = &adapter, .unmix = how.unmix > 0};
    assert_int_equal(step_new(&s, m, self, &o, &e), 0);
    assert_int_equal(step_run(s, 1, &still, fill_fixed, NULL, &r, &e), 0);
    size_t count = nn_params_trained_count(p);
    float *w = NEW_N(float, count), *d = NEW_N(float, count);
    assert_int_equal(nn_params_state_read(p, "train.w", w, count, &e), 0);
    assert_int_equal(nn_params_state_read(p, "train.g", d, count, &e), 0);
    for (size_t i = 0; i < count; i++)
        d[i] /= (float)r.grad_norm;
    double h = 1e-2, slope = (loss_at(s, p, w, d, count, h) - loss_at(s, p, w, d, count, -h)) / (2 * h);
    assert_true(r.grad_norm > 1e-3 && fabs(slope - r.grad_norm) < 0.01 * r.grad_norm);
    free(w);
    free(d);
    free(moves);
    step_free(s);
    comm_free(self);
    sd_close(m);
    b->close(b);
}

static void the_gradient_is_the_slope_along_itself(void **state)
{
    (void)state;
    check_slope("lora", (train_cfg){.train_text_encoder = true, .lora_rank = 3, .lora_alpha = 2, .seed = 1});
    check_slope("svdiff", (train_cfg){.train_text_encoder = true, .svdiff_norms = SVDIFF_ELEMENTWISE});
    check_slope("svdiff", (train_cfg){.svdiff_norms = SVDIFF_SCALAR});
    check_slope("svdiff", (train_cfg){.svdiff_norms = SVDIFF_OFF, .unmix = 1});
}

/* ---- singular values ---- */

/* The first file of the cache, cut short. */
static void damage_one(const char *dir)
{
    char **name, path[FS_PATH];
    size_t n;
    err e = {0};

    if (!fs_is_dir(dir)) {
        assert_int_equal(truncate(dir, 100), 0);
        return;
    }
    assert_int_equal(fs_list(&name, &n, dir, &e), 0);
    assert_true(n > 0);
    assert_int_equal(fs_join(path, dir, name[0], &e), 0);
    fs_list_free(name);
    damage_one(path);
}

static void singular_values_are_kept_apart_from_the_model(void **state)
{
    char cache[FS_PATH], beside[FS_PATH];
    const char *more = "method: svdiff, token: rare, steps: 2, lr: 1e-2";
    train_summary sum;
    err e = {0};

    (void)state;
    snprintf(cache, sizeof cache, "%s", kit_path("svd-cache"));
    assert_int_equal(setenv("XDG_CACHE_HOME", cache, 1), 0);
    kit_train((kit_run){.more = more, .out = "svd-made.h5"});
    kit_train((kit_run){.more = more, .out = "svd-found.h5"});
    damage_one(cache);
    kit_train((kit_run){.more = more, .out = "svd-mended.h5"});
    kit_assert_same("svd-made.h5", "svd-found.h5");
    kit_assert_same("svd-made.h5", "svd-mended.h5");
    snprintf(beside, sizeof beside, "%s.svd", kit_path("model"));
    assert_false(fs_exists(beside));
    assert_int_equal(setenv("XDG_CACHE_HOME", "/proc/nowhere", 1), 0); /* as no folder that can be written */
    assert_int_equal(kit_try((kit_run){.more = more}, &sum, &e), ERR_IO);
    assert_non_null(strstr(e.text, "XDG_CACHE_HOME"));
    assert_int_equal(setenv("XDG_CACHE_HOME", kit_path("cache"), 1), 0);
}

typedef struct {
    const char *name;
    void (*test)(void **state);
} law;

static const law laws[] = {
    {"one worker twice or two give the same bytes", one_worker_twice_or_two_give_the_same_bytes},
    {"recomputing blocks changes no bit and takes less memory", recomputing_blocks_changes_no_bit_and_takes_less_memory},
    {"the loss on fixed draws falls", the_loss_on_fixed_draws_falls},
    {"what moves is what the method says", what_moves_is_what_the_method_says},
    {"a concept lies over its base as it was left", a_concept_lies_over_its_base_as_it_was_left},
};
enum { LAWS = sizeof laws / sizeof *laws };

int main(void)
{
    struct CMUnitTest tests[ROWS * LAWS + 4];
    char names[ROWS * LAWS][128];

    for (int i = 0; i < ROWS * LAWS; i++) {
        snprintf(names[i], sizeof names[i], "%s: %s", rows[i / LAWS].name, laws[i % LAWS].name);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = laws[i % LAWS].test,
                                       .initial_state = (void *)(uintptr_t)&rows[i / LAWS]};
    }
    tests[ROWS * LAWS] = (struct CMUnitTest)cmocka_unit_test(the_gradient_is_the_slope_along_itself);
    tests[ROWS * LAWS + 1] = (struct CMUnitTest)cmocka_unit_test(singular_values_are_kept_apart_from_the_model);
    tests[ROWS * LAWS + 2] = (struct CMUnitTest)cmocka_unit_test(narrow_masters_take_half_the_room);
    tests[ROWS * LAWS + 3] = (struct CMUnitTest)cmocka_unit_test(a_text_that_is_said_gives_the_bytes_of_one_encoded);
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
