/* The laws of packs, on the embedded model: a concept gets the bytes of its solo training, whoever stands beside it, in lanes
 * and in passes of several; one that is no number, cancelled or unreadable harms nobody; what cannot share a pass is refused. */
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
#include "configs/cfg_yaml.h"
#include "tests/trainer/train_kit.h"
#include "trainer/checkpoint.h"
#include "trainer/pack_run.h"

enum { MOST = 8 };

/* What is put, and what became of it. */
typedef struct {
    concept_cfg cfg;
    char out[FS_PATH], settings[32];
    int stop_after;
    void *from;
    size_t from_bytes;
    int rc, ended, step;
    train_summary sum;
    err why;
} entrant;

typedef struct {
    nn_backend *b;
    sd *model;
    comm *self;
    cfg_doc *doc;
    entrant at[MOST];
    int n;
} hall;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static void hall_open(hall *h)
{
    err e = {0};

    *h = (hall){.doc = cfg_doc_new()};
    ok(nn_cpu_open(&h->b, 2, false, &e), &e);
    ok(sd_open(&h->model, kit_model(), h->b, &e), &e);
    ok(comm_self(&h->self, &e), &e);
}

static void hall_close(hall *h)
{
    for (int i = 0; i < h->n; i++)
        free(h->at[i].from);
    comm_free(h->self);
    sd_close(h->model);
    h->b->close(h->b);
    cfg_doc_free(h->doc);
}

static const cfg_node *parsed(hall *h, const char *fmt, const char *text)
{
    const cfg_node *tree;
    str all = {0};
    err e = {0};

    str_add(&all, fmt, text);
    ok(cfg_yaml_parse(&tree, h->doc, all.at, all.n, "settings", &e), &e);
    str_free(&all);
    return tree;
}

static entrant *enter(hall *h, const char *more)
{
    const char *world = getenv("CFARM_SOURCE");
    entrant *x = &h->at[h->n];
    err e = {0};

    const cfg_node *all = parsed(h, "{root: %s/data/toyworld, class: mug, token: <mug>, images: subjects/mug, batch: 2}",
                                 world ? world : ".");
    ok(concept_cfg_fill(&x->cfg, NULL, h->doc, cfg_join(h->doc, all, parsed(h, "{%s}", more)), &e), &e);
    snprintf(x->settings, sizeof x->settings, "{\"number\": %d}", h->n);
    h->n++;
    return x;
}

static bool told(void *arg, const train_progress *p)
{
    entrant *x = arg;

    x->step = p->step > x->step ? p->step : x->step;
    return x->stop_after > 0 && p->step >= x->stop_after;
}

static void over(void *arg, int rc, const train_summary *sum, const err *why)
{
    entrant *x = arg;

    x->rc = rc;
    x->sum = *sum;
    x->why = *why;
    x->ended++;
}

static train_job job_of(const hall *h, entrant *x, const char *stem)
{
    snprintf(x->out, sizeof x->out, "%s", kit_path(stem));
    snprintf(x->out + strlen(x->out), sizeof x->out - strlen(x->out), "-%d.h5", (int)(x - h->at));
    return (train_job){.name = "one", .cfg = &x->cfg, .settings = x->settings, .gang = h->self, .out = x->out, .progress = told,
                       .arg = x, .from = x->from, .from_bytes = x->from_bytes};
}

static void alone(hall *h)
{
    for (int i = 0; i < h->n; i++) {
        err e = {0};
        train_job job = job_of(h, &h->at[i], "alone");
        h->at[i].rc = train_concept(h->model, &job, &h->at[i].sum, &e);
    }
}

static void together(hall *h, int lanes, int width, const char *stem)
{
    pack *p;
    err e = {0};
    train_job like = job_of(h, &h->at[0], stem);

    like.progress = NULL;
    ok(pack_open(&p, h->model, &like, &(pack_opts){lanes, width}, &e), &e);
    for (int i = 0; i < h->n; i++) {
        train_job job = job_of(h, &h->at[i], stem);
        h->at[i].ended = h->at[i].step = 0;
        pack_put(p, &job, over, &h->at[i]);
    }
    pack_close(p);
    for (int i = 0; i < h->n; i++)
        assert_int_equal(h->at[i].ended, 1);
}

static void assert_as_alone(hall *h, int i, const char *stem)
{
    char a[64], b[64];

    snprintf(a, sizeof a, "alone-%d.h5", i);
    snprintf(b, sizeof b, "%s-%d.h5", stem, i);
    if (h->at[i].rc != 0)
        fail_msg("concept %d: %s", i, h->at[i].why.text);
    kit_assert_same(a, b);
}

/* Different pictures, lengths, rates, seeds, clipping; more concepts than places. */
static void give_five(hall *h, const char *more)
{
    static const char *const each[] = {
        "steps: 4, seed: 1, lr: 1e-3",
        "steps: 2, seed: 2, lr: 1e-4, class: creature, images: subjects/creature",
        "steps: 5, seed: 3, lr: 1e-3, clip: 1, lr_schedule: cosine, warmup: 2",
        "steps: 3, seed: 1, lr: 2e-3, weight_decay: 0.1, beta1: 0.8, probe: 2",
        "steps: 1, seed: 9, lr: 5e-4, flip: yes"};

    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        str s = {0};
        str_add(&s, "%s, %s", each[i], more);
        enter(h, s.at);
        str_free(&s);
    }
}

static void check_method(const char *more)
{
    static const pack_opts shapes[] = {{1, 1}, {2, 1}, {4, 1}, {1, 3}, {2, 2}};
    hall h;

    hall_open(&h);
    give_five(&h, more);
    alone(&h);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        together(&h, shapes[s].lanes, shapes[s].width, "packed");
        for (int i = 0; i < h.n; i++)
            assert_as_alone(&h, i, "packed");
    }
    hall_close(&h);
}

static void a_packed_concept_has_the_bytes_of_its_solo(void **state)
{
    (void)state;
    check_method("method: custom-diffusion, "
                 "regularisation: {images: regularisation/mug, captions: regularisation/mug/captions.txt}");
}

static void so_has_one_of_textual_inversion_and_of_the_ports_decay(void **state)
{
    (void)state;
    check_method("method: textual-inversion, leaves: 1");
    check_method("method: custom-diffusion, compat: diffusers, accumulate: 2");
}

static void so_has_one_of_low_rank_factors(void **state)
{
    (void)state;
    check_method("method: lora, lora: {rank: 2, layers: cross}, token: red");
}

static void so_has_one_with_small_moments_in_either_type(void **state)
{
    nn_backend *b;
    err e = {0};

    (void)state;
    check_method("method: custom-diffusion, moments: 8bit, recompute: yes, compute: f32");
    ok(nn_cpu_open(&b, 1, false, &e), &e);
    if (b->compute(b, NN_BF16, &e) == 0)
        check_method("method: custom-diffusion, compute: bf16");
    else
        print_message("bf16 not tried: %s\n", e.text);
    b->close(b);
}

/* A checkpoint whose first weight is no number. */
static void poison(hall *h, entrant *x)
{
    char key[HASH_HEX];
    checkpoint c;
    err e = {0};
    train_job job = job_of(h, x, "key");
    pack *p;

    /* how many weights there are, from one of its kind */
    ok(pack_open(&p, h->model, &job, &(pack_opts){1, 1}, &e), &e);
    size_t weights = nn_params_trained_count(sd_params(h->model));
    pack_close(p);
    x->from_bytes = checkpoint_bytes(weights, 1);
    x->from = mem_new(x->from_bytes, 1);
    checkpoint_lay(&c, x->from, weights, 1);
    c.w[0] = NAN;
    ok(train_key(h->model, &job, key, &e), &e);
    checkpoint_seal(&c, x->from, key);
}

static void what_goes_wrong_harms_nobody(void **state)
{
    static const pack_opts shapes[] = {{2, 1}, {1, 3}, {1, 5}};
    hall h;

    (void)state;
    hall_open(&h);
    give_five(&h, "method: custom-diffusion");
    alone(&h);
    poison(&h, &h.at[1]);
    h.at[2].stop_after = 2;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        together(&h, shapes[s].lanes, shapes[s].width, "beside");
        assert_int_equal(h.at[1].rc, ERR_INPUT);
        assert_non_null(strstr(h.at[1].why.text, "step 2: the loss or its gradient is not a finite number"));
        assert_true(h.at[2].rc == 0 && h.at[2].sum.stopped && h.at[2].sum.steps == 2);
        assert_false(fs_exists(h.at[1].out) || fs_exists(h.at[2].out));
        for (int i = 0; i < h.n; i++)
            if (i != 1 && i != 2)
                assert_as_alone(&h, i, "beside");
    }
    hall_close(&h);
}

static void one_that_cannot_be_loaded_is_told_and_passed_over(void **state)
{
    hall h;

    (void)state;
    hall_open(&h);
    enter(&h, "steps: 3, seed: 1");
    enter(&h, "steps: 3, seed: 2, images: subjects/nobody");
    enter(&h, "steps: 2, seed: 3");
    alone(&h);
    together(&h, 1, 2, "loaded");
    assert_true(h.at[1].rc != 0 && strstr(h.at[1].why.text, "nobody"));
    assert_as_alone(&h, 0, "loaded");
    assert_as_alone(&h, 2, "loaded");
    hall_close(&h);
}

static void another_class_is_refused_with_what_differs(void **state)
{
    static const char *const others[][2] = {
        {"steps: 1, batch: 4", "batch is 2 in it and 4 here"},
        {"steps: 1, method: lora, token: null", "a pack of custom-diffusion takes no lora"},
        {"steps: 1, leaves: 1", "passes a step is 2 in it and 1 here"},
        {"steps: 1, resolution: 32", "resolution"},
    };
    hall h;
    pack *p;
    err e = {0};

    (void)state;
    hall_open(&h);
    enter(&h, "steps: 1");
    train_job like = job_of(&h, &h.at[0], "like");
    ok(pack_open(&p, h.model, &like, &(pack_opts){1, 1}, &e), &e);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        entrant *x = enter(&h, others[i][0]);
        train_job job = job_of(&h, x, "other");
        assert_int_equal(pack_takes(p, &job, &e), ERR_INPUT);
        assert_non_null(strstr(e.text, others[i][1]));
    }
    pack_close(p);
    entrant *whole = enter(&h, "steps: 1, method: dreambooth, token: null");
    train_job job = job_of(&h, whole, "whole");
    assert_int_equal(pack_open(&p, h.model, &job, &(pack_opts){1, 1}, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "dreambooth moves too much for a pack"));
    hall_close(&h);
}

/* Two of one class, one of another, one that moves too much for a pack, one without pictures. */
static void a_farm_file_is_trained_class_by_class(void **state)
{
    static const pack_opts shapes[] = {{1, 1}, {2, 2}};
    static const char *const good[] = {"a", "b", "words", "whole"};
    const char *world = getenv("CFARM_SOURCE");
    cfg_doc *d = cfg_doc_new();
    farmfile *farm;
    str yaml = {0};
    err e = {0};
    int failed;

    (void)state;
    str_add(&yaml, "farm: f\nbase: %s\n"
                   "defaults: {class: mug, token: <mug>, images: %s/data/toyworld/subjects/mug, batch: 2, steps: 2}\n"
                   "concepts: [{name: a}, {name: words, method: textual-inversion}, {name: b, seed: 2},\n"
                   "           {name: nothing, images: nowhere}, {name: whole, method: fine-tune-all, steps: 1}]\n",
            kit_model(), world ? world : ".");
    ok(fs_write(kit_path("farm.yaml"), yaml.at, yaml.n, &e), &e);
    ok(farm_read(&farm, d, kit_path("farm.yaml"), NULL, &e), &e);
    for (int s = 0; s < 2; s++) {
        ok(pack_run(farm, kit_path(s ? "wide" : "narrow"), &shapes[s], &failed, &e), &e);
        assert_int_equal(failed, 1);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char x[64], y[64];
        snprintf(x, sizeof x, "narrow/%s.h5", good[i]);
        snprintf(y, sizeof y, "wide/%s.h5", good[i]);
        kit_assert_same(x, y);
    }
    assert_false(fs_exists(kit_path("narrow/nothing.h5")));
    str_free(&yaml);
    cfg_doc_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_concept_has_the_bytes_of_its_solo),
        cmocka_unit_test(so_has_one_of_textual_inversion_and_of_the_ports_decay),
        cmocka_unit_test(so_has_one_of_low_rank_factors),
        cmocka_unit_test(so_has_one_with_small_moments_in_either_type),
        cmocka_unit_test(what_goes_wrong_harms_nobody),
        cmocka_unit_test(one_that_cannot_be_loaded_is_told_and_passed_over),
        cmocka_unit_test(another_class_is_refused_with_what_differs),
        cmocka_unit_test(a_farm_file_is_trained_class_by_class),
    };

    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
