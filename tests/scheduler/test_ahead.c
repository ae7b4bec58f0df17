/* The next order is there before its slot is free, and can be taken back (scheduler/ahead.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

static int told(const farm *f, sched_effect_type type, int job)
{
    int n = 0;

    for (size_t i = 0; i < f->todo.n; i++)
        n += f->todo.at[i].type == type && (job < 0 || f->todo.at[i].job == job);
    return n;
}

static void trains(farm *f, int job, int step_number, double step_seconds)
{
    assert_int_equal(step(f, (sched_event){.type = EV_PROGRESS, .job = job, .attempt = f->s->job[job].attempt,
                                           .phase = JOB_TRAINING, .step = step_number, .step_seconds = step_seconds}), 0);
}

static void stopped(farm *f, int job)
{
    assert_int_equal(step(f, (sched_event){.type = EV_STOPPED, .job = job, .attempt = f->s->job[job].attempt}), 0);
}

static int next_on(const farm *f, int slot) { return f->s->node[0].slot[slot].ahead; }

/* Trainings of ten steps; those that run are told to be at the ninth, a tenth of a second each. */
static farm soon_free(int n, int slots)
{
    farm f = farm_new();

    f.s->how.ahead_ms = 500;
    f.s->how.moves = true;
    node(&f, "n0", slots);
    for (int i = 0; i < slots; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    for (int i = 0; i < n; i++) {
        char name[16] = {'c', (char)('0' + i)};
        submit(&f, name, PRIORITY_NORMAL, 10, 1);
    }
    for (int i = 0; i < slots; i++)
        trains(&f, i, 1, 10);
    return f;
}

static void a_slot_that_is_soon_free_has_its_next_order_and_one_only(void **unused)
{
    farm f = soon_free(4, 2);
    (void)unused;
    assert_int_equal(next_on(&f, 0), -1); /* 90 s are left */
    trains(&f, 0, 9, 0.1);
    assert_int_equal(told(&f, DO_START, 2), 1);
    assert_true(f.todo.at[0].ahead);
    assert_int_equal(next_on(&f, 0), 2);
    assert_int_equal(state(&f, 2), JOB_ASSIGNED);
    trains(&f, 0, 10, 0.1);
    assert_int_equal(told(&f, DO_START, -1), 0);
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(told(&f, DO_START, -1), 0); /* it has its order */
    assert_int_equal(f.s->node[0].slot[0].job, 2);
    assert_int_equal(next_on(&f, 0), -1);
    assert_int_equal(done(&f, 2), 0);
    assert_int_equal(f.s->node[0].slot[0].job, 3);
    farm_free(&f);
}

static void another_slot_that_is_free_gets_it_when_nobody_else_waits(void **unused)
{
    farm f = soon_free(3, 2);
    (void)unused;
    trains(&f, 0, 9, 0.1);
    assert_int_equal(next_on(&f, 0), 2);
    assert_int_equal(done(&f, 1), 0);
    assert_int_equal(told(&f, DO_RECALL, 2), 1);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 1000});
    assert_int_equal(told(&f, DO_RECALL, -1), 0); /* once */
    stopped(&f, 2);
    assert_int_equal(f.s->node[0].slot[1].job, 2);
    assert_int_equal(f.s->job[2].failures + f.s->job[2].mishaps, 0);
    farm_free(&f);
}

static void what_has_begun_before_it_was_called_back_goes_on(void **unused)
{
    farm f = soon_free(3, 2);
    (void)unused;
    trains(&f, 0, 9, 0.1);
    assert_int_equal(done(&f, 1), 0);
    assert_int_equal(told(&f, DO_RECALL, 2), 1);
    assert_int_equal(done(&f, 0), 0);
    trains(&f, 2, 1, 10);
    assert_int_equal(state(&f, 2), JOB_TRAINING);
    assert_int_equal(f.s->node[0].slot[0].job, 2);
    assert_int_equal(f.s->recalls, 0);
    farm_free(&f);
}

static void the_better_class_goes_first_all_the_same(void **unused)
{
    farm f = soon_free(4, 2);
    (void)unused;
    trains(&f, 0, 9, 0.1);
    assert_int_equal(next_on(&f, 0), 2);
    submit(&f, "now", PRIORITY_URGENT, 10, 1);
    assert_int_equal(told(&f, DO_RECALL, 2), 1);
    stopped(&f, 2);
    assert_int_equal(next_on(&f, 0), 4);
    assert_int_equal(told(&f, DO_RECALL, -1), 0);
    assert_int_equal(state(&f, 2), JOB_QUEUED);
    farm_free(&f);
}

/* What an owner has had is not counted twice for that. */
static void who_comes_back_has_cost_its_owner_nothing(void **unused)
{
    farm f = soon_free(4, 2);
    double before = f.s->owner[0].spent;
    (void)unused;
    trains(&f, 0, 9, 0.1);
    assert_true(f.s->owner[0].spent > before);
    assert_int_equal(step(&f, (sched_event){.type = EV_DRAIN}), 0);
    stopped(&f, 2);
    assert_true(f.s->owner[0].spent == before);
    farm_free(&f);
}

static void a_drain_and_a_lost_node_leave_nobody_behind(void **unused)
{
    farm f = soon_free(4, 2);
    (void)unused;
    trains(&f, 0, 9, 0.1);
    trains(&f, 1, 9, 0.1);
    assert_int_equal(step(&f, (sched_event){.type = EV_DRAIN}), 0);
    assert_int_equal(told(&f, DO_RECALL, -1), 2);
    stopped(&f, 2);
    assert_int_equal(state(&f, 2), JOB_QUEUED);
    assert_int_equal(step(&f, (sched_event){.type = EV_NODE_LOST}), 0);
    assert_int_equal(f.s->job[3].mishaps, 0); /* it had not begun */
    assert_int_equal(f.s->job[0].mishaps, 1);
    assert_int_equal(f.s->count[JOB_QUEUED], 4);
    farm_free(&f);
}

static void a_gang_a_pack_and_one_that_has_failed_are_not_placed_so(void **unused)
{
    farm f = soon_free(2, 1);
    (void)unused;
    assert_int_equal(failed(&f, 0, BLAME_NODE, true), 0);
    trains(&f, 1, 9, 0.1);
    assert_int_equal(next_on(&f, 0), -1);
    farm_free(&f);
    f = packs_of(3, 1, 4, 2);
    f.s->how.ahead_ms = 500;
    trains(&f, 0, 9, 0.1);
    assert_int_equal(next_on(&f, 0), -1);
    farm_free(&f);
}

static void the_next_coordinator_takes_over_who_comes_next(void **unused)
{
    static const int on[] = {0};
    farm f = soon_free(3, 1);
    (void)unused;
    trains(&f, 0, 9, 0.1);
    assert_int_equal(next_on(&f, 0), 1);
    assert_int_equal(step(&f, (sched_event){.type = EV_EPOCH, .epoch = 2}), 0);
    node(&f, "n0", 1);
    for (int j = 0; j < 2; j++)
        assert_int_equal(step(&f, (sched_event){.type = EV_ADOPT, .node = 1, .job = j, .attempt = 1, .gang = 1, .on = on,
                                                .on_n = 1, .ahead = j == 1}), 0);
    assert_int_equal(f.s->node[1].slot[0].job, 0);
    assert_int_equal(f.s->node[1].slot[0].ahead, 1);
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(f.s->node[1].slot[0].job, 1);
    assert_int_equal(done(&f, 1), 0);
    farm_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_that_is_soon_free_has_its_next_order_and_one_only),
        cmocka_unit_test(another_slot_that_is_free_gets_it_when_nobody_else_waits),
        cmocka_unit_test(what_has_begun_before_it_was_called_back_goes_on),
        cmocka_unit_test(the_better_class_goes_first_all_the_same),
        cmocka_unit_test(who_comes_back_has_cost_its_owner_nothing),
        cmocka_unit_test(a_drain_and_a_lost_node_leave_nobody_behind),
        cmocka_unit_test(a_gang_a_pack_and_one_that_has_failed_are_not_placed_so),
        cmocka_unit_test(the_next_coordinator_takes_over_who_comes_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
