/* Moves: what runs is given more room when nothing waits (scheduler/moves.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

static void trains(farm *f, int job, int step_number, double step_seconds, int64_t now)
{
    assert_int_equal(step(f, (sched_event){.type = EV_PROGRESS, .job = job, .attempt = f->s->job[job].attempt, .phase = JOB_TRAINING,
                                           .step = step_number, .step_seconds = step_seconds, .now_ms = now}), 0);
}

static int stops(const farm *f)
{
    int n = 0;

    for (size_t i = 0; i < f->todo.n; i++)
        n += f->todo.at[i].type == DO_STOP;
    return n;
}

/* Two trainings of 10 steps of 10 s on four slots, two of which are free. */
static farm half_free(bool moves)
{
    farm f = farm_of(4, 4);

    for (int j = 0; j < 4; j++)
        trains(&f, j, 1, 10, 1000);
    for (int j = 2; j < 4; j++)
        assert_int_equal(done(&f, j), 0);
    f.s->how.moves = moves;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 2000});
    return f;
}

static void what_runs_is_given_more_room_when_nothing_waits(void **unused)
{
    farm f = half_free(true);
    (void)unused;
    assert_int_equal(stops(&f), 2);
    for (int j = 0; j < 2; j++)
        assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = j, .attempt = 1, .now_ms = 3000}), 0);
    for (int j = 0; j < 2; j++) {
        assert_int_equal(state(&f, j), JOB_ASSIGNED);
        assert_int_equal(f.s->job[j].gang, 2);
        assert_int_equal(f.s->job[j].attempt, 2);
        assert_int_equal(f.s->job[j].failures + f.s->job[j].mishaps, 0);
    }
    assert_int_equal(f.s->moving, 0);
    farm_free(&f);
    f = half_free(false);
    assert_int_equal(stops(&f), 0);
    farm_free(&f);
}

static void what_ends_soon_is_not_moved(void **unused)
{
    farm f = farm_of(2, 2);
    (void)unused;
    f.s->how.moves = true;
    trains(&f, 0, 1, 0.4, 1000); /* 3.6 s are left; a move costs two at least */
    trains(&f, 1, 1, 0.4, 1000);
    assert_int_equal(done(&f, 1), 0);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 1200});
    assert_int_equal(stops(&f), 0);
    farm_free(&f);
}

static void a_gang_that_would_be_no_quicker_is_not_widened(void **unused)
{
    farm f = half_free(false);
    (void)unused;
    f.s->how.moves = true;
    f.s->pace[1].ms = 2 * f.s->pace[0].ms; /* seen, and often enough: two slots take as long as one */
    f.s->pace[0].seen = f.s->pace[1].seen = 1000;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 3000});
    assert_int_equal(stops(&f), 0);
    farm_free(&f);
}

static void a_pack_is_taken_apart_when_slots_are_free(void **unused)
{
    farm f = packs_of(4, 1, 4, 4);
    (void)unused;
    f.s->how.gang_max = 1;
    for (int j = 0; j < 4; j++)
        trains(&f, j, 1, 10, 1000);
    node(&f, "n1", 2);
    warm_pack(&f, 1, 0, 4);
    warm_pack(&f, 1, 1, 4);
    f.s->how.moves = true;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 2000});
    assert_int_equal(f.s->moving, 2);
    for (int j = 0; j < 4; j++)
        if (f.s->job[j].moving)
            assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = j, .attempt = 1, .now_ms = 4000}), 0);
    assert_int_equal(on_slot(&f, 0, 0), 2);
    assert_int_equal(on_slot(&f, 1, 0) + on_slot(&f, 1, 1), 2);
    farm_free(&f);
}

static void what_is_cancelled_while_it_moves_is_not_waited_for(void **unused)
{
    farm f = half_free(true);
    (void)unused;
    assert_int_equal(f.s->moving, 2);
    assert_int_equal(step(&f, (sched_event){.type = EV_CANCEL, .job = 0, .now_ms = 2500}), 0);
    assert_int_equal(done(&f, 1), 0); /* it has ended before it heard of the stop */
    assert_int_equal(f.s->moving, 0);
    farm_free(&f);
}

/* ---- slow slots ------------------------------------------------------------------------------------------------ */

/* Three nodes of four slots; on each of the first two, two gangs of two of one class have told of ten of 200 steps; those of
 * node 0 take `slow` seconds for each, those of node 1 one. The third node is free. */
static farm three_nodes(double slow, const char *alike)
{
    farm f = farm_new();
    char name[8];

    f.s->how.moves = true;
    for (int i = 0; i < 4; i++) {
        job_spec spec = {.priority = PRIORITY_NORMAL, .settings = "{}", .steps = 200, .batch = 8, .leaves = 2, .retries = 3,
                         .alike = alike, .name = name};
        snprintf(name, sizeof name, "j%d", i);
        assert_int_equal(step(&f, (sched_event){.type = EV_SUBMIT, .spec = spec}), 0);
    }
    for (int n = 0; n < 2; n++) {
        snprintf(name, sizeof name, "n%d", n);
        node(&f, name, 4);
    }
    step(&f, (sched_event){.type = EV_OPEN, .now_ms = 1000});
    for (int i = 0; i < 8; i++)
        warm(&f, i / 4, i % 4);
    for (int k = 1; k <= 10; k++)
        for (int i = 0; i < 4; i++) {
            assert_int_equal(f.s->job[i].gang, 2);
            trains(&f, i, k, f.s->job[i].node == 0 ? slow : 1, 1000 + 1000 * k);
        }
    node(&f, "n2", 4);
    for (int i = 0; i < 4; i++)
        warm(&f, 2, i);
    return f;
}

static void a_gang_is_moved_off_a_slow_node(void **unused)
{
    farm f = three_nodes(2, "one");
    (void)unused;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 20000});
    for (int i = 0; i < 4; i++)
        assert_int_equal(f.s->job[i].moving, f.s->job[i].node == 0);
    for (int i = 0; i < 4; i++)
        if (f.s->job[i].moving)
            assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = i, .attempt = 1, .now_ms = 21000}), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(f.s->job[i].gang, 2);
        assert_true(f.s->job[i].node > 0);
        assert_int_equal(f.s->job[i].failures + f.s->job[i].mishaps, 0);
    }
    farm_free(&f);
}

static void what_comes_next_is_not_given_slow_slots_while_there_are_others(void **unused)
{
    farm f = three_nodes(2, "one");
    (void)unused;
    for (int i = 0; i < 4; i++)
        if (f.s->job[i].node == 0)
            assert_int_equal(done(&f, i), 0);
    for (int i = 4; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof name, "j%d", i);
        assert_int_equal(submit(&f, name, PRIORITY_NORMAL, 200, 1), 0);
        assert_int_equal(f.s->job[i].node, 2);
    }
    assert_int_equal(submit(&f, "last", PRIORITY_NORMAL, 200, 1), 0);
    assert_int_equal(f.s->job[8].node, 0);
    farm_free(&f);
}

static void no_gang_is_moved_that_is_as_quick_as_the_others(void **unused)
{
    farm f = three_nodes(1.2, "one");
    (void)unused;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 20000});
    assert_int_equal(stops(&f), 0);
    farm_free(&f);
}

/* Of no class: nobody knows whether they should take as long. */
static void what_cannot_be_compared_is_not_moved(void **unused)
{
    farm f = three_nodes(2, "");
    (void)unused;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 20000});
    assert_int_equal(stops(&f), 0);
    farm_free(&f);
}

/* With all others as slow there is nowhere to go; and after a while it is forgotten. */
static void a_slow_slot_is_forgotten(void **unused)
{
    farm f = three_nodes(2, "one");
    (void)unused;
    assert_int_equal(f.s->slows, 4);
    f.s->how.moves = false;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 800000});
    f.s->how.moves = true;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 801000});
    assert_int_equal(f.s->slows, 0);
    farm_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_is_given_more_room_when_nothing_waits),
        cmocka_unit_test(what_ends_soon_is_not_moved),
        cmocka_unit_test(a_gang_is_moved_off_a_slow_node),
        cmocka_unit_test(what_comes_next_is_not_given_slow_slots_while_there_are_others),
        cmocka_unit_test(no_gang_is_moved_that_is_as_quick_as_the_others),
        cmocka_unit_test(what_cannot_be_compared_is_not_moved),
        cmocka_unit_test(a_slow_slot_is_forgotten),
        cmocka_unit_test(a_gang_that_would_be_no_quicker_is_not_widened),
        cmocka_unit_test(a_pack_is_taken_apart_when_slots_are_free),
        cmocka_unit_test(what_is_cancelled_while_it_moves_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
