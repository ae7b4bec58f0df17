/* One wave: who gets how many slots is planned for all that wait, where nothing runs and there is a turn for each
 * (scheduler/wave.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

/* Nine trainings, the first of which is `times` times as long as the others, and eight slots of one node, not yet warm. */
static farm nine(int times)
{
    farm f = farm_new();
    char name[16];

    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "j%d", i);
        assert_int_equal(submit(&f, name, PRIORITY_NORMAL, i == 0 ? 100 * times : 100, 8), 0);
    }
    node(&f, "n", 8);
    step(&f, (sched_event){.type = EV_OPEN, .now_ms = 1000});
    return f;
}

static void warm_all(farm *f)
{
    for (int i = 0; i < 8; i++)
        warm(f, 0, i);
}

static int running(const farm *f)
{
    int n = 0;

    for (int i = 0; i < f->s->jobs; i++)
        n += sched_running(&f->s->job[i]);
    return n;
}

static void the_longest_is_a_gang_from_the_start(void **unused)
{
    farm f = nine(8);
    (void)unused;
    warm_all(&f);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_true(f.s->job[0].gang >= 4);
    for (int i = 1; i < 9; i++)
        assert_int_equal(f.s->job[i].gang, state(&f, i) == JOB_ASSIGNED ? 1 : 0);
    assert_int_equal(running(&f), 9 - f.s->job[0].gang);
    farm_free(&f);
}

static void all_that_was_planned_starts_in_its_turn(void **unused)
{
    farm f = nine(8);
    int left = 9;
    (void)unused;
    warm_all(&f);
    while (running(&f) > 0)
        for (int i = f.s->jobs - 1; i >= 0; i--)
            if (sched_running(&f.s->job[i])) {
                assert_int_equal(done(&f, i), 0);
                left--;
                break;
            }
    assert_int_equal(left, 0);
    assert_int_equal(f.s->count[JOB_DONE], 9);
    farm_free(&f);
}

/* Ten times as many: then each has a slot of its own, the shortest first. */
static void a_longer_line_is_not_planned(void **unused)
{
    farm f = nine(8);
    char name[16];
    (void)unused;
    for (int i = 9; i < 80; i++) {
        snprintf(name, sizeof name, "j%d", i);
        assert_int_equal(submit(&f, name, PRIORITY_NORMAL, 100, 8), 0);
    }
    warm_all(&f);
    assert_int_equal(state(&f, 0), JOB_QUEUED);
    assert_int_equal(running(&f), 8);
    farm_free(&f);
}

/* It has no turn in the plan: the line is as it always is, and the short newcomer goes before what waits. */
static void who_comes_later_ends_the_plan(void **unused)
{
    farm f = nine(8);
    int waits = -1;
    (void)unused;
    warm_all(&f);
    assert_true(f.s->wave_slots > 0);
    assert_int_equal(submit(&f, "late", PRIORITY_NORMAL, 1, 8), 0);
    assert_int_equal(f.s->wave_slots, 0);
    for (int i = 1; i < 9; i++)
        waits = state(&f, i) == JOB_QUEUED ? i : waits;
    assert_true(waits > 0);
    for (int i = 1; i < 9; i++)
        if (sched_running(&f.s->job[i])) {
            assert_int_equal(done(&f, i), 0);
            break;
        }
    assert_int_equal(state(&f, 9), JOB_ASSIGNED);
    assert_int_equal(state(&f, waits), JOB_QUEUED);
    farm_free(&f);
}

/* A try that failed keeps its turn; the plan stands. */
static void what_is_tried_again_keeps_its_turn(void **unused)
{
    farm f = nine(8);
    (void)unused;
    warm_all(&f);
    int gang = f.s->job[0].gang;
    assert_int_equal(failed(&f, 0, BLAME_NODE, true), 0);
    assert_int_equal(f.s->job[0].attempt, 2);
    assert_int_equal(f.s->job[0].gang, gang);
    farm_free(&f);
}

/* No node has room for eight: none is planned. */
static void no_gang_is_planned_that_no_node_can_hold(void **unused)
{
    farm f = farm_new();
    char name[16];
    (void)unused;
    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "j%d", i);
        assert_int_equal(submit(&f, name, PRIORITY_NORMAL, i == 0 ? 2000 : 100, 8), 0);
    }
    for (int n = 0; n < 4; n++) {
        snprintf(name, sizeof name, "n%d", n);
        node(&f, name, 2);
    }
    step(&f, (sched_event){.type = EV_OPEN, .now_ms = 1000});
    for (int i = 0; i < 8; i++)
        warm(&f, i / 2, i % 2);
    assert_int_equal(f.s->job[0].gang, 2);
    farm_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_is_a_gang_from_the_start),
        cmocka_unit_test(all_that_was_planned_starts_in_its_turn),
        cmocka_unit_test(a_longer_line_is_not_planned),
        cmocka_unit_test(who_comes_later_ends_the_plan),
        cmocka_unit_test(what_is_tried_again_keeps_its_turn),
        cmocka_unit_test(no_gang_is_planned_that_no_node_can_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
