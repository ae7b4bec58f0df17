/* Moves: what runs is given more room when nothing waits, a gang less when work does (scheduler/moves.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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
    char name[16];

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
        char name[16];
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

static void one_slow_step_moves_nobody(void **unused)
{
    farm f = three_nodes(1, "one");
    (void)unused;
    trains(&f, 0, 11, 2, 12000);
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

/* ---- narrower -------------------------------------------------------------------------------------------------- */

/* A training of 1000 steps of 10 s on eight slots is at step `at`, at `now`; then another one comes, of so many. */
static farm wide(int at, int64_t now, int steps)
{
    farm f = farm_new();

    f.s->how.moves = true;
    node(&f, "n0", 8);
    for (int i = 0; i < 8; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    submit(&f, "long", PRIORITY_NORMAL, 1000, 8);
    assert_int_equal(f.s->job[0].gang, 8);
    trains(&f, 0, 1, 10, 1000);
    trains(&f, 0, at, 10, now);
    submit(&f, "other", PRIORITY_NORMAL, steps, 8);
    return f;
}

static void a_gang_is_narrowed_when_work_waits(void **unused)
{
    farm f = wide(2, 100000, 10);
    (void)unused;
    assert_int_equal(stops(&f), 1);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 101000});
    assert_int_equal(stops(&f), 0); /* once */
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1, .now_ms = 102000}), 0);
    assert_int_equal(f.s->job[0].gang, 4);
    assert_int_equal(f.s->job[1].gang, 4);
    assert_int_equal(f.s->job[0].failures + f.s->job[0].mishaps, 0);
    farm_free(&f);
}

static void a_gang_that_has_begun_lately_is_not_narrowed(void **unused)
{
    farm f = wide(2, 30000, 10);
    (void)unused;
    assert_int_equal(f.s->moving, 0);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 41000}); /* twenty times what a move costs */
    assert_int_equal(f.s->moving, 1);
    farm_free(&f);
}

static void a_gang_that_soon_ends_is_waited_for(void **unused)
{
    farm f = wide(999, 100000, 10);
    (void)unused;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 101000});
    assert_int_equal(f.s->moving, 0);
    farm_free(&f);
}

static void a_gang_is_not_narrowed_for_what_is_no_shorter_than_itself(void **unused)
{
    farm f = wide(2, 100000, 4000);
    (void)unused;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 101000});
    assert_int_equal(f.s->moving, 0);
    farm_free(&f);
}

/* A farm of eight slots in virtual time: a long training is always there, a short one comes every now and then. A start costs
 * LOAD; g slots are g/1.1^log2(g) times as quick as one. */
enum { TURN = 500, LOAD = 2000, HOUR = 3600000 };
typedef struct { double done; int64_t loads_until; bool stopping; } life;
typedef struct { double used, lost, waited; int shorts, moves; } course;

static double pace_of(int gang)
{
    double p = 1;

    for (; gang > 1; gang /= 2)
        p *= 2 / 1.1;
    return p;
}

static void carry_out(const farm *f, life lives[], int64_t now, course *c)
{
    for (size_t i = 0; i < f->todo.n; i++) {
        life *l = &lives[f->todo.at[i].job];
        if (f->todo.at[i].type == DO_STOP) {
            l->stopping = true;
            c->moves++;
        } else if (f->todo.at[i].type == DO_START) {
            l->loads_until = now + LOAD;
        }
    }
}

static void tell(farm *f, sched_event ev, life lives[], course *c)
{
    assert_int_equal(step(f, ev), 0);
    carry_out(f, lives, ev.now_ms, c);
}

static void live_on(farm *f, life lives[], int64_t now, course *c)
{
    for (int j = 0; j < f->s->jobs; j++) {
        const sched_job *x = &f->s->job[j];
        sched_event ev = {.job = j, .attempt = x->attempt, .now_ms = now};
        int gang = x->gang;
        if (!sched_running(x))
            continue;
        c->used += gang * TURN;
        c->lost += now <= lives[j].loads_until && x->attempt > 1 ? gang * TURN : 0;
        ev.type = EV_STOPPED;
        if (lives[j].stopping) {
            lives[j].stopping = false;
            tell(f, ev, lives, c);
            continue;
        }
        if (now <= lives[j].loads_until)
            continue;
        lives[j].done += pace_of(gang) * TURN / 1000; /* a step is a second of one slot */
        ev = (sched_event){.type = EV_PROGRESS, .job = j, .attempt = x->attempt, .now_ms = now, .phase = JOB_TRAINING,
                           .step = (int64_t)lives[j].done < x->spec.steps ? (int64_t)lives[j].done : x->spec.steps,
                           .step_seconds = 1 / pace_of(gang)};
        tell(f, ev, lives, c);
        if (lives[j].done < (double)x->spec.steps)
            continue;
        c->shorts += x->spec.steps == 60;
        c->waited += x->spec.steps == 60 ? (double)(now - x->since_ms) * 1e-3 : 0;
        tell(f, (sched_event){.type = EV_DONE, .job = j, .attempt = x->attempt, .now_ms = now, .sha256 = SHA}, lives, c);
    }
}

static course hours(bool moves, int every_ms)
{
    static life lives[2000];
    farm f = farm_new();
    course c = {0};

    memset(lives, 0, sizeof lives);
    f.s->how.moves = moves;
    node(&f, "n0", 8);
    for (int i = 0; i < 8; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    for (int64_t now = TURN; now <= 4 * HOUR; now += TURN) {
        char name[16];
        snprintf(name, sizeof name, "c%d", f.s->jobs);
        if (f.s->jobs == 0 || now % every_ms == 0) {
            job_spec spec = {.priority = PRIORITY_NORMAL, .name = name, .settings = "{}", .steps = f.s->jobs == 0 ? 40000 : 60,
                             .batch = 8, .leaves = 8, .retries = 3};
            tell(&f, (sched_event){.type = EV_SUBMIT, .spec = spec, .now_ms = now}, lives, &c);
        }
        live_on(&f, lives, now, &c);
        tell(&f, (sched_event){.type = EV_TICK, .now_ms = now}, lives, &c);
    }
    farm_free(&f);
    return c;
}

static void moving_to_and_fro_costs_a_twentieth_at_most_and_spares_the_waiting(void **unused)
{
    static const int every[] = {10 * 60000, 3 * 60000, 60000, 20000};
    (void)unused;
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        course with = hours(true, every[i]), without = hours(false, every[i]);
        assert_true(with.moves > 0 && without.moves == 0);
        assert_true(with.lost <= 0.05 * with.used);
        assert_true(with.shorts >= without.shorts && without.shorts > 0);
        assert_true(10 * with.waited / with.shorts < without.waited / without.shorts);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_is_given_more_room_when_nothing_waits),
        cmocka_unit_test(what_ends_soon_is_not_moved),
        cmocka_unit_test(a_gang_is_moved_off_a_slow_node),
        cmocka_unit_test(what_comes_next_is_not_given_slow_slots_while_there_are_others),
        cmocka_unit_test(no_gang_is_moved_that_is_as_quick_as_the_others),
        cmocka_unit_test(one_slow_step_moves_nobody),
        cmocka_unit_test(what_cannot_be_compared_is_not_moved),
        cmocka_unit_test(a_slow_slot_is_forgotten),
        cmocka_unit_test(a_gang_that_would_be_no_quicker_is_not_widened),
        cmocka_unit_test(a_pack_is_taken_apart_when_slots_are_free),
        cmocka_unit_test(what_is_cancelled_while_it_moves_is_not_waited_for),
        cmocka_unit_test(a_gang_is_narrowed_when_work_waits),
        cmocka_unit_test(a_gang_that_has_begun_lately_is_not_narrowed),
        cmocka_unit_test(a_gang_that_soon_ends_is_waited_for),
        cmocka_unit_test(a_gang_is_not_narrowed_for_what_is_no_shorter_than_itself),
        cmocka_unit_test(moving_to_and_fro_costs_a_twentieth_at_most_and_spares_the_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
