/* The laws every method keeps, on the embedded model: repeated or in a gang of two it gives the same bytes; what was
 * learned lowers the loss on fixed draws; what moves is what the method says, and a concept lies over its base as it was
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

#include "cluster/base/mem.h"
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
    sd *m;

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

typedef struct {
    const char *name;
    void (*test)(void **state);
} law;

static const law laws[] = {
    {"one worker twice or two give the same bytes", one_worker_twice_or_two_give_the_same_bytes},
    {"the loss on fixed draws falls", the_loss_on_fixed_draws_falls},
    {"what moves is what the method says", what_moves_is_what_the_method_says},
    {"a concept lies over its base as it was left", a_concept_lies_over_its_base_as_it_was_left},
};
enum { LAWS = sizeof laws / sizeof *laws };

int main(void)
{
    struct CMUnitTest tests[ROWS * LAWS];
    char names[ROWS * LAWS][128];

    for (int i = 0; i < ROWS * LAWS; i++) {
        snprintf(names[i], sizeof names[i], "%s: %s", rows[i / LAWS].name, laws[i % LAWS].name);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = laws[i % LAWS].test,
                                       .initial_state = (void *)(uintptr_t)&rows[i / LAWS]};
    }
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
