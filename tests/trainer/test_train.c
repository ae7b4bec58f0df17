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
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "data/concept.h"
#include "trainer/train.h"

static char scratch[64], world[FS_PATH];

typedef struct {
    const char *more;        /* YAML beside the common settings */
    int stop_after;          /* steps; 0: never */
    const char *out;         /* in the scratch folder */
} run_opts;

static bool stop_at(void *arg, const train_progress *p)
{
    const run_opts *o = arg;

    return o->stop_after > 0 && strcmp(p->phase, "training") == 0 && p->step >= o->stop_after;
}

static const char *in_scratch(const char *name)
{
    static char path[4][FS_PATH];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], FS_PATH, "%s/%s", scratch, name);
    return path[turn];
}

static int run(const run_opts *o, comm *gang, train_summary *sum, err *e)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *tree, *more;
    concept_cfg c;
    nn_backend *b;
    sd *m;
    str yaml = {0};

    str_add(&yaml, "{root: %s/data/toyworld, class: mug, token: <mug>, images: subjects/mug, batch: 4, steps: 6}", world);
    TRY(cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "settings", e));
    if (o->more) {
        str_free(&yaml);
        str_add(&yaml, "{%s}", o->more);
        TRY(cfg_yaml_parse(&more, d, yaml.at, yaml.n, "more settings", e));
        tree = cfg_join(d, tree, more);
    }
    TRY(concept_cfg_fill(&c, NULL, d, tree, e));
    str model = {0};
    str_add(&model, "%s/data/toyworld/model", world);
    TRY(nn_cpu_open(&b, 1, false, e));
    TRY(sd_open(&m, model.at, b, e));
    train_job job = {.name = "mug", .cfg = &c, .settings = "{}", .gang = gang, .progress = stop_at, .arg = (void *)(uintptr_t)o,
                     .out = comm_rank(gang) == 0 && o->out ? in_scratch(o->out) : NULL};
    int rc = train_concept(m, &job, sum, e);
    sd_close(m);
    b->close(b);
    cfg_doc_free(d);
    str_free(&yaml);
    str_free(&model);
    return rc;
}

static train_summary alone(run_opts o)
{
    train_summary sum;
    err e = {0};
    comm *self;

    assert_int_equal(comm_self(&self, &e), 0);
    if (run(&o, self, &sum, &e) != 0)
        fail_msg("%s", e.text);
    comm_free(self);
    return sum;
}

static void gang_of(int size, run_opts o)
{
    char path[64];
    int bad = 0;

    snprintf(path, sizeof path, "/dev/shm/cfarm-train-%d-%d", (int)getpid(), size);
    for (int r = 0; r < size; r++) {
        if (fork() != 0)
            continue;
        train_summary sum;
        err e = {0};
        comm *c;
        int rc = comm_shm(&c, path, r, size, 1 << 20, 60, &e);
        if (rc == 0)
            rc = run(&o, c, &sum, &e);
        if (rc != 0)
            fprintf(stderr, "rank %d: %s\n", r, e.text);
        _exit(rc != 0);
    }
    for (int r = 0; r < size; r++) {
        int status = 0;
        waitpid(-1, &status, 0);
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    assert_int_equal(bad, 0);
}

static void digest(const char *name, char hex[HASH_HEX])
{
    err e = {0};

    if (hash_file(in_scratch(name), hex, &e) != 0)
        fail_msg("%s", e.text);
}

static void assert_same_file(const char *a, const char *b)
{
    char x[HASH_HEX], y[HASH_HEX];

    digest(a, x);
    digest(b, y);
    assert_string_equal(x, y);
}

static void a_training_repeated_gives_the_same_bytes(void **state)
{
    (void)state;
    alone((run_opts){.out = "first.h5"});
    alone((run_opts){.out = "again.h5"});
    assert_same_file("first.h5", "again.h5");
}

static void a_gang_of_any_width_gives_the_bytes_of_one(void **state)
{
    (void)state;
    gang_of(2, (run_opts){.out = "two.h5"});
    assert_same_file("first.h5", "two.h5");
    gang_of(4, (run_opts){.out = "four.h5"});
    assert_same_file("first.h5", "four.h5");
}

static void another_seed_gives_other_bytes(void **state)
{
    char x[HASH_HEX], y[HASH_HEX];

    (void)state;
    alone((run_opts){.more = "seed: 2", .out = "seed.h5"});
    digest("first.h5", x);
    digest("seed.h5", y);
    assert_string_not_equal(x, y);
}

static void the_loss_on_fixed_draws_falls(void **state)
{
    (void)state;
    train_summary s = alone((run_opts){.more = "steps: 40, lr: 2e-3, probe: 16"});
    assert_true(isfinite(s.probe_before) && s.probe_after < s.probe_before);
    assert_int_equal(s.steps, 40);
}

static void a_stopped_training_leaves_no_file(void **state)
{
    (void)state;
    train_summary s = alone((run_opts){.stop_after = 2, .out = "stopped.h5"});
    assert_true(s.stopped);
    assert_int_equal(s.steps, 2);
    assert_false(fs_exists(in_scratch("stopped.h5")));
}

/* kv: two matrices a cross-attention; crossattn: five tensors of each. */
static void only_what_shall_move_is_kept(void **state)
{
    concept kv, all;
    err e = {0};

    (void)state;
    alone((run_opts){.more = "freeze: crossattn, steps: 1", .out = "crossattn.h5"});
    assert_int_equal(concept_read(&kv, in_scratch("first.h5"), CONCEPT_ALL, &e), 0);
    assert_int_equal(concept_read(&all, in_scratch("crossattn.h5"), CONCEPT_ALL, &e), 0);
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
    alone((run_opts){.more = "steps: 2, class: null, token: null, images: null, subjects: ["
                             "{class: mug, token: <mug>, images: subjects/mug}, {class: creature, token: <pet>, images: subjects/creature}]",
                     .out = "joint.h5"});
    assert_int_equal(concept_read(&c, in_scratch("joint.h5"), 0, &e), 0);
    assert_int_equal(c.n_tokens, 2);
    assert_string_equal(c.tokens[1].word, "<pet>");
    concept_free(&c);
}

static void accumulation_is_a_larger_batch(void **state)
{
    (void)state;
    train_summary s = alone((run_opts){.more = "accumulate: 2, steps: 2, clip: 1"});
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
    str dir = {0};
    err e = {0};
    nn_backend *b;
    sd *m;
    comm *self;
    stepper *s;
    step_result r;
    const char **moves;
    int n;

    (void)state;
    str_add(&dir, "%s/data/toyworld/model", world);
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    assert_int_equal(sd_open(&m, dir.at, b, &e), 0);
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
    str_free(&dir);
}

static int make_scratch(void **state)
{
    (void)state;
    const char *source = getenv("CFARM_SOURCE");
    snprintf(world, sizeof world, "%s", source ? source : ".");
    snprintf(scratch, sizeof scratch, "/tmp/cfarm-test-train-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
    err e = {0};

    (void)state;
    return fs_remove_tree(scratch, &e);
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
        cmocka_unit_test(accumulation_is_a_larger_batch),
        cmocka_unit_test(a_loss_that_is_no_number_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
