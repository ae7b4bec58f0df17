/* What `cfarm simulate` promises: the same farm for the same seed, times that add up, and a farm near the least possible. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/sim.h"

static sim_times h200(void)
{
    sim_times t;

    assert_int_equal(sim_times_assume(&t, "h200", NULL), 0);
    return t;
}

static sim_options options(const sim_times *t, int gpus, int concepts)
{
    return (sim_options){.times = t, .seed = 1, .gpus = gpus, .per_node = 8, .concepts = concepts, .batch = 8, .gang_max = 8,
                         .pack_max = 4, .owners = 1, .slow_by = 2, .mix = "custom-diffusion"};
}

static sim_result run(const sim_options *o)
{
    sim_concept *work = sim_concepts(o, NULL);
    sim_result r;
    err e = {0};

    assert_non_null(work);
    if (sim_run(&r, o, work, &e) != 0)
        fail_msg("%s", e.text);
    free(work);
    return r;
}

static void adds_up(const sim_result *r, const sim_options *o)
{
    double sum = waste_total(&r->where);

    for (int k = 0; k < WASTES; k++)
        assert_true(r->where.seconds[k] >= -1e-6 * sum);
    assert_true(o->preempt_minutes > 0 || o->late > 0 || fabs(sum - r->makespan * o->gpus) < 1e-6 * sum);
    assert_true(sum <= r->makespan * o->gpus * (1 + 1e-9));
    assert_int_equal(r->done + r->quarantined, o->concepts);
}

static void a_farm_ends_near_the_bound(void **unused)
{
    static const struct { int gpus, concepts; double most; } row[] = {
        {1, 10, 1.10}, {8, 10, 1.10}, {8, 100, 1.10}, {64, 20, 1.05}, {64, 60, 1.10}, {64, 100, 1.10}, {64, 1000, 1.05}, {256, 2500, 1.05},
    };
    sim_times t = h200();
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        sim_options o = options(&t, row[i].gpus, row[i].concepts);
        sim_result r = run(&o);
        adds_up(&r, &o);
        assert_true(r.makespan >= r.bound);
        assert_true(fabs(r.bound_there - r.bound) < 1e-5 * r.bound);
        if (r.makespan > row[i].most * r.bound)
            fail_msg("%d GPUs, %d concepts: %.3f times the bound", o.gpus, o.concepts, r.makespan / r.bound);
    }
}

/* About as many concepts as GPUs: where a slot for each, shortest first, is 1.13 to 1.25 times the bound. */
static void one_wave_ends_near_the_bound(void **unused)
{
    static const struct { int gpus, concepts; double slow, urgent, most; } row[] = {
        {8, 8, 0, 0, 1.12}, {8, 10, 0, 0, 1.11}, {8, 12, 0, 0, 1.13}, {16, 20, 0, 0, 1.13}, {64, 40, 0, 0, 1.13}, {64, 64, 0, 0, 1.12},
        {64, 80, 0, 0, 1.12}, {64, 100, 0, 0, 1.14}, {64, 100, 0, 0.1, 1.15}, {64, 64, 0.05, 0, 1.16}, {64, 100, 0.05, 0, 1.16},
    };
    sim_times t = h200();
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        sim_options o = options(&t, row[i].gpus, row[i].concepts);
        double sum = 0;
        o.slow = row[i].slow;
        o.urgent = row[i].urgent;
        for (o.seed = 1; o.seed <= 20; o.seed++) {
            sim_result r = run(&o);
            adds_up(&r, &o);
            sum += r.makespan / r.bound;
        }
        if (sum / 20 > row[i].most)
            fail_msg("%d GPUs, %d concepts: %.3f times the bound, as a mean of 20", o.gpus, o.concepts, sum / 20);
    }
}

/* It begins with fewer slots than it will have, and some of them are slow: held to what there was. */
static void one_wave_on_what_comes_late_ends_near_the_bound(void **unused)
{
    static const struct { double urgent, slow; } row[] = {{0, 0}, {0.1, 0}, {0, 0.05}, {0.1, 0.05}};
    sim_times t = h200();
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        sim_options o = options(&t, 64, 100);
        double sum = 0;
        o.late = 0.2;
        o.urgent = row[i].urgent;
        o.slow = row[i].slow;
        for (o.seed = 1; o.seed <= 20; o.seed++) {
            sim_result r = run(&o);
            adds_up(&r, &o);
            assert_true(r.bound_there >= r.bound * (1 - 1e-5));
            sum += r.makespan / r.bound_there;
        }
        if (sum / 20 > 1.14)
            fail_msg("a fifth of the nodes late, %g urgent, %g slow: %.3f times the bound, as a mean of 20", o.urgent, o.slow, sum / 20);
    }
}

static void disturbed(sim_options *o)
{
    o->mtbf_hours = 2;
    o->slow = 0.1;
    o->preempt_minutes = 20;
    o->late = 0.3;
    o->owners = 3;
    o->urgent = 0.1;
    o->mix = "custom-diffusion:7,lora:2,textual-inversion:1";
}

static void a_disturbed_farm_ends_and_its_time_adds_up(void **unused)
{
    sim_times t = h200();
    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sim_options o = options(&t, 32, 300);
        sim_result r;
        disturbed(&o);
        o.seed = seed;
        r = run(&o);
        adds_up(&r, &o);
        assert_true(r.failures + r.preemptions > 0);
        assert_true(r.where.seconds[WASTE_LOST] > 0);
        assert_true(r.bound_there <= r.makespan);
    }
}

/* What is not there cannot be used: it is no fault of the schedule. */
static void a_bound_knows_what_was_not_there(void **unused)
{
    const sim_supply half[] = {{9, 8}}, later[] = {{9, 8}, {109, 16}};
    sim_times t = h200();
    sim_options o = options(&t, 16, 200);
    sim_concept *work = sim_concepts(&o, NULL);
    double whole = sim_bound(&o, work, NULL, 0, 0), slow, late;
    (void)unused;
    assert_true(t.start == 9);
    slow = sim_bound(&o, work, half, 1, 1e6);
    assert_true(fabs((slow - 9) / (whole - 9) - 2) < 0.01);
    late = sim_bound(&o, work, later, 2, 1e6);
    assert_true(fabs(late - whole - 50) < 0.01 * whole);
    free(work);
}

static void the_same_seed_is_the_same_run(void **unused)
{
    sim_times t = h200();
    sim_options o = options(&t, 32, 300);
    sim_result a, b;
    (void)unused;
    disturbed(&o);
    a = run(&o);
    b = run(&o);
    a.mind_seconds = b.mind_seconds = a.mind_worst = b.mind_worst = 0;
    assert_memory_equal(&a, &b, sizeof a);
    o.seed = 2;
    b = run(&o);
    assert_true(a.makespan != b.makespan);
}

static void owners_get_what_their_weights_say(void **unused)
{
    sim_times t = h200();
    sim_options o = options(&t, 8, 400);
    (void)unused;
    o.owners = 4;
    assert_true(run(&o).owner_least > 0.8);
}

static void farms_that_break_too_often_are_refused(void **unused)
{
    sim_times t = h200();
    sim_options o = options(&t, 8, 10);
    sim_concept *work = sim_concepts(&o, NULL);
    sim_result r;
    err e = {0};
    (void)unused;
    o.mtbf_hours = 0.0005;
    if (sim_run(&r, &o, work, &e) == 0)
        assert_true(r.quarantined > 0);
    else
        assert_int_equal(e.code, ERR_INPUT);
    free(work);
}

static void times_are_read_as_they_were_written(void **unused)
{
    sim_times t = h200(), again;
    char path[] = "/tmp/test_simulate-XXXXXX";
    json_t *o = sim_times_json(&t);
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    err e = {0};
    (void)unused;
    json_dumpf(o, f, JSON_REAL_PRECISION(17));
    fclose(f);
    if (sim_times_read(&again, path, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(again.methods, t.methods);
    for (int i = 0; i < t.methods; i++)
        assert_true(sim_step(&t.method[i], 8, 4) == sim_step(sim_find(&again, t.method[i].name), 8, 4));
    f = fopen(path, "w");
    json_object_del(json_object_get(json_object_get(o, "methods"), "lora"), "sample");
    json_dumpf(o, f, 0);
    fclose(f);
    assert_int_equal(sim_times_read(&again, path, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "lora"));
    json_decref(o);
    remove(path);
}

static void unknown_methods_and_machines_are_named(void **unused)
{
    sim_times t = h200(), other;
    sim_options o = options(&t, 8, 10);
    err e = {0};
    (void)unused;
    o.mix = "custom-diffusion:1,hypernetwork:2";
    assert_null(sim_concepts(&o, &e));
    assert_non_null(strstr(e.text, "hypernetwork"));
    assert_int_equal(sim_times_assume(&other, "abacus", &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "h200"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_farm_ends_near_the_bound),
        cmocka_unit_test(one_wave_ends_near_the_bound),
        cmocka_unit_test(one_wave_on_what_comes_late_ends_near_the_bound),
        cmocka_unit_test(a_disturbed_farm_ends_and_its_time_adds_up),
        cmocka_unit_test(a_bound_knows_what_was_not_there),
        cmocka_unit_test(the_same_seed_is_the_same_run),
        cmocka_unit_test(owners_get_what_their_weights_say),
        cmocka_unit_test(farms_that_break_too_often_are_refused),
        cmocka_unit_test(times_are_read_as_they_were_written),
        cmocka_unit_test(unknown_methods_and_machines_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
