/* An agent, spoken to by hand: this test is its coordinator. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/wire/wire.h"
#include "scheduler/coordinator.h"
#include "scheduler/door.h"
#include "scheduler/link.h"
#include "tests/scheduler/farm_kit.h"

static const char TOKEN[] = "secret";

typedef struct { farm f; pid_t pid; wire *w; } guest;

static void say(wire *w, int type, json_t *body) { assert_int_equal(wire_tell(w, (uint16_t)type, body, 5, NULL), 0); }

/* The next message but beats and progress, which come when they like. */
static json_t *hear(wire *w, int *type)
{
    wire_frame f;
    json_t *o;
    err e = {0};

    do {
        if (wire_take(w, &f, 20, &e) != 0 || f.type == 0)
            fail_msg("nothing is said (%s)", e.text);
    } while (f.type == LINK_BEAT || f.type == LINK_PROGRESS);
    *type = f.type;
    assert_int_equal(wire_parse(&f, &o, NULL), 0);
    return o;
}

static void expect(wire *w, int type)
{
    int got;

    json_decref(hear(w, &got));
    assert_int_equal(got, type);
}

static void expect_slot(wire *w, const char *state)
{
    json_t *o;
    int got;

    do {
        o = hear(w, &got);
        assert_int_equal(got, LINK_SLOT);
        got = strcmp(json_string_value(json_object_get(o, "state")), state);
        json_decref(o);
    } while (got != 0);
}

/* An agent that has joined and whose worker is ready. */
static guest invite(void)
{
    guest g = {.f = farm_new("", "")};
    const char *argv[] = {cfarm, "agent", "--join", g.f.dir, "--workers", "1", NULL};
    door d = {.addresses = 1, .address = {"127.0.0.1"}, .workers = 1, .threads = 1, .memory = 0.5};
    char nonce[WIRE_NONCE], logs[100];
    int listen, type;
    json_t *theirs;

    snprintf(d.token, sizeof d.token, "%s", TOKEN);
    snprintf(logs, sizeof logs, "%s/logs", g.f.dir);
    assert_int_equal(fs_mkdirs(logs, NULL), 0);
    assert_int_equal(coordinator_listen(&listen, &d.port, false, NULL), 0);
    assert_int_equal(door_write(&d, g.f.dir, NULL), 0);
    g.pid = launch(&g.f, argv);
    do
        type = accept(listen, NULL, NULL);
    while (type < 0 && usleep(5000) == 0);
    close(listen);
    g.w = wire_new(type);
    assert_int_equal(wire_nonce(nonce, NULL), 0);
    say(g.w, LINK_NONCE, json_pack("{s:s}", "nonce", nonce));
    theirs = hear(g.w, &type);
    assert_int_equal(wire_seal(g.w, TOKEN, nonce, json_string_value(json_object_get(theirs, "nonce")), NULL), 0);
    json_decref(theirs);
    expect(g.w, LINK_HELLO);
    say(g.w, LINK_WELCOME, json_pack("{s:s, s:s, s:i}", "farm", g.f.dir, "base", "/base", "epoch", 1));
    expect_slot(g.w, "ready");
    return g;
}

static json_t *run(int job)
{
    char name[16];

    snprintf(name, sizeof name, "c%d", job);
    return json_pack("{s:i, s:i, s:s, s:{s:i, s:{s:i, s:i}}, s:i, s:[i]}", "job", job, "attempt", 1, "name", name, "settings", "steps",
                     100000, "fake", "step_ms", 5, "says", 5, "leaves", 1, "slots", 0);
}

/* It reached the fifth step, as the fake worker tells the log. */
static void expect_at_work(wire *w)
{
    int type;

    do
        json_decref(hear(w, &type));
    while (type != LINK_LOG);
}

static void an_order_that_crosses_the_farewell_is_answered_before_the_agent_goes(void **unused)
{
    guest g = invite();
    int type, status, stopped = 0, leaves = 0;
    (void)unused;
    kill(g.pid, SIGTERM);
    expect_slot(g.w, "down");
    say(g.w, LINK_RUN, run(0));
    while (stopped + leaves < 2) {
        json_decref(hear(g.w, &type));
        stopped += type == LINK_STOPPED;
        leaves += type == LINK_LEAVE;
        assert_true(type == LINK_STOPPED || type == LINK_LEAVE);
    }
    assert_int_equal(waitpid(g.pid, &status, WNOHANG), 0); /* it waits for the answer */
    say(g.w, LINK_LEAVE, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

static void what_runs_is_stopped_and_kept_before_the_farewell(void **unused)
{
    guest g = invite();
    json_t *o;
    int type;
    (void)unused;
    say(g.w, LINK_RUN, run(0));
    expect_at_work(g.w);
    kill(g.pid, SIGTERM);
    expect_slot(g.w, "down");
    o = hear(g.w, &type);
    assert_int_equal(type, LINK_STOPPED);
    assert_true(json_integer_value(json_object_get(o, "step")) >= 5);
    json_decref(o);
    expect(g.w, LINK_LEAVE);
    say(g.w, LINK_LEAVE, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

static void say_halt(wire *w, int job)
{
    say(w, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b}", "job", job, "attempt", 1, "why", "the test", "keep", 1));
}

static void expect_stopped(wire *w, int job, bool begun)
{
    json_t *o;
    int type;

    o = hear(w, &type);
    assert_int_equal(type, LINK_STOPPED);
    assert_int_equal(json_integer_value(json_object_get(o, "job")), job);
    assert_int_equal(json_object_get(o, "why") == NULL, begun);
    json_decref(o);
}

/* The next one begins at once; the answer waits for a checkpoint on the disk, which may take longer than the next one's steps. */
static void expect_stopped_and_the_next_at_work(wire *w, int job)
{
    for (int seen = 0; seen != 3;) {
        int type;
        json_t *o = hear(w, &type);
        assert_true(type == LINK_STOPPED || type == LINK_LOG);
        if (type == LINK_STOPPED)
            assert_int_equal(json_integer_value(json_object_get(o, "job")), job);
        seen |= type == LINK_STOPPED ? 1 : 2;
        json_decref(o);
    }
}

static void an_order_for_a_slot_that_is_not_free_is_handed_back_and_the_slot_told(void **unused)
{
    guest g = invite();
    (void)unused;
    say(g.w, LINK_RUN, run(0));
    expect_at_work(g.w);
    say(g.w, LINK_RUN, run(1));
    expect_slot(g.w, "warming");
    expect_stopped(g.w, 1, false);
    say_halt(g.w, 0);
    expect_slot(g.w, "ready");
    expect_stopped(g.w, 0, true);
    say(g.w, LINK_RUN, run(2));
    expect_at_work(g.w);
    say_halt(g.w, 2);
    expect_stopped(g.w, 2, true);
    say(g.w, LINK_END, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

static void run_next(wire *w, int job)
{
    json_t *o = run(job);

    json_object_set_new(o, "ahead", json_true());
    say(w, LINK_RUN, o);
}

static void call_back(wire *w, int job)
{
    say(w, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b, s:b}", "job", job, "attempt", 1, "why", "the test", "keep", 1, "unbegun",
                                1));
}

static void who_comes_next_begins_when_the_one_before_has_ended(void **unused)
{
    guest g = invite();
    (void)unused;
    say(g.w, LINK_RUN, run(0));
    expect_at_work(g.w);
    run_next(g.w, 1);
    call_back(g.w, 0); /* has begun: not heard */
    say_halt(g.w, 0);
    expect_stopped_and_the_next_at_work(g.w, 0);
    say_halt(g.w, 1);
    expect_stopped(g.w, 1, true);
    run_next(g.w, 2); /* the one before has ended meanwhile */
    expect_at_work(g.w);
    say_halt(g.w, 2);
    expect_stopped(g.w, 2, true);
    say(g.w, LINK_END, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

static void who_comes_next_is_called_back_at_once_and_the_slot_works_on(void **unused)
{
    guest g = invite();
    (void)unused;
    say(g.w, LINK_RUN, run(0));
    expect_at_work(g.w);
    run_next(g.w, 1);
    call_back(g.w, 1);
    expect_stopped(g.w, 1, true);
    run_next(g.w, 2);
    run_next(g.w, 3); /* one is enough */
    expect_slot(g.w, "warming");
    expect_stopped(g.w, 3, false);
    say_halt(g.w, 2); /* cancelled */
    expect_stopped(g.w, 2, true);
    say_halt(g.w, 0);
    expect_slot(g.w, "ready");
    expect_stopped(g.w, 0, true);
    say(g.w, LINK_END, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

static void who_comes_next_is_handed_back_when_the_worker_dies_or_the_node_leaves(void **unused)
{
    guest g = invite();
    int type;
    (void)unused;
    say(g.w, LINK_RUN, run(0));
    expect_at_work(g.w);
    run_next(g.w, 1);
    run_next(g.w, 9);
    expect_slot(g.w, "warming");
    expect_stopped(g.w, 9, false); /* so the agent has heard of 1 */
    children(g.pid, SIGKILL);
    for (int seen = 0; seen != 7;) { /* in whatever order: the failure waits for its checkpoint */
        json_t *o = hear(g.w, &type);
        const char *slot = json_string_value(json_object_get(o, "state"));
        seen |= slot ? strcmp(slot, "ready") == 0 : type == LINK_STOPPED ? 2 : type == LINK_FAILED ? 4 : 8;
        json_decref(o);
    }
    say(g.w, LINK_RUN, run(2));
    expect_at_work(g.w);
    run_next(g.w, 3);
    kill(g.pid, SIGTERM);
    expect_slot(g.w, "down");
    for (int i = 0; i < 2; i++) {
        json_decref(hear(g.w, &type));
        assert_int_equal(type, LINK_STOPPED);
    }
    expect(g.w, LINK_LEAVE);
    say(g.w, LINK_LEAVE, json_object());
    expect_end(&g.f, g.pid, 0);
    wire_free(g.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_that_crosses_the_farewell_is_answered_before_the_agent_goes),
        cmocka_unit_test(what_runs_is_stopped_and_kept_before_the_farewell),
        cmocka_unit_test(an_order_for_a_slot_that_is_not_free_is_handed_back_and_the_slot_told),
        cmocka_unit_test(who_comes_next_begins_when_the_one_before_has_ended),
        cmocka_unit_test(who_comes_next_is_called_back_at_once_and_the_slot_works_on),
        cmocka_unit_test(who_comes_next_is_handed_back_when_the_worker_dies_or_the_node_leaves),
    };

    return cmocka_run_group_tests(tests, farms_open, farms_close);
}
