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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_is_given_more_room_when_nothing_waits),
        cmocka_unit_test(what_ends_soon_is_not_moved),
        cmocka_unit_test(a_gang_that_would_be_no_quicker_is_not_widened),
        cmocka_unit_test(a_pack_is_taken_apart_when_slots_are_free),
        cmocka_unit_test(what_is_cancelled_while_it_moves_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
