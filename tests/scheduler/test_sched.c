/* The laws of the farm's mind, on chosen farms: who starts when and where, and what follows from how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/scheduler/sched_kit.h"

static void a_concept_gets_its_share_of_the_slots(void **unused)
{
    static const struct { int concepts, slots, gang[4]; } row[] = {
        {1, 1, {1}}, {1, 4, {4}}, {2, 4, {2, 2}}, {3, 4, {1, 1, 2}}, {4, 4, {1, 1, 1, 1}}, {9, 2, {1, 1}},
        {1, 3, {2}}, {2, 16, {8, 8}}, {1, 64, {8}},
    };
    (void)unused;
    for (size_t r = 0; r < sizeof row / sizeof row[0]; r++) {
        farm f = farm_of(row[r].concepts, row[r].slots);
        for (int j = 0; j < row[r].concepts && j < 4; j++)
            assert_int_equal(f.s->job[j].gang, row[r].gang[j]);
        farm_free(&f);
    }
}

static void a_gang_is_no_wider_than_its_leaves(void **unused)
{
    farm f = farm_new();
    (void)unused;
    submit(&f, "small", PRIORITY_NORMAL, 10, 2);
    node(&f, "n0", 8);
    for (int i = 0; i < 8; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    assert_int_equal(f.s->job[0].gang, 2);
    farm_free(&f);
}

static void a_gang_waits_for_workers_that_are_warming_up(void **unused)
{
    farm f = farm_new();
    (void)unused;
    submit(&f, "a", PRIORITY_NORMAL, 10, 8);
    node(&f, "n0", 2);
    step(&f, (sched_event){.type = EV_OPEN});
    warm(&f, 0, 1);
    assert_int_equal(state(&f, 0), JOB_QUEUED);
    step(&f, (sched_event){.type = EV_SLOT, .node = 0, .slot = 0, .becomes = SLOT_DOWN});
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_int_equal(f.s->job[0].gang, 1);
    farm_free(&f);
}

static void a_gang_stays_on_one_node(void **unused)
{
    farm f = farm_new();
    (void)unused;
    submit(&f, "a", PRIORITY_NORMAL, 10, 8);
    for (int n = 0; n < 4; n++) {
        node(&f, "n", 1);
        warm(&f, n, 0);
    }
    step(&f, (sched_event){.type = EV_OPEN});
    assert_int_equal(f.s->job[0].gang, 1);
    farm_free(&f);
}

static void urgent_first_then_the_shortest(void **unused)
{
    farm f = farm_new();
    static const int order[] = {3, 1, 0, 2};
    (void)unused;
    submit(&f, "long", PRIORITY_NORMAL, 50, 1);
    submit(&f, "short", PRIORITY_NORMAL, 5, 1);
    submit(&f, "background", PRIORITY_BACKGROUND, 1, 1);
    submit(&f, "urgent", PRIORITY_URGENT, 500, 1);
    node(&f, "n0", 1);
    warm(&f, 0, 0);
    step(&f, (sched_event){.type = EV_OPEN});
    for (int i = 0; i < 4; i++) {
        assert_int_equal(state(&f, order[i]), JOB_ASSIGNED);
        assert_int_equal(done(&f, order[i]), 0);
    }
    assert_true(sched_over(f.s));
    farm_free(&f);
}

static void poison_is_quarantined_after_exactly_its_retries(void **unused)
{
    farm f = farm_of(1, 2);
    (void)unused;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
        assert_int_equal(f.s->job[0].attempt, i);
        failed(&f, 0, BLAME_JOB, true);
        if (i < 3)
            assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
        step(&f, (sched_event){.type = EV_TICK, .now_ms = 100000 * i});
    }
    assert_int_equal(state(&f, 0), JOB_QUARANTINED);
    assert_true(sched_over(f.s));
    farm_free(&f);
}

static void what_can_never_work_is_not_tried_again(void **unused)
{
    farm f = farm_of(2, 2);
    (void)unused;
    failed(&f, 0, BLAME_JOB, false);
    failed(&f, 1, BLAME_SETTINGS, true);
    assert_int_equal(state(&f, 0), JOB_QUARANTINED);
    assert_int_equal(state(&f, 1), JOB_REJECTED);
    farm_free(&f);
}

/* As if its worker were killed from outside. */
static void struck(farm *f, int64_t now_ms, int64_t step_no)
{
    assert_int_equal(step(f, (sched_event){.type = EV_FAILED, .now_ms = now_ms, .job = 0, .attempt = f->s->job[0].attempt,
                                           .blame = BLAME_NODE, .retry = true, .code = "signal", .text = "killed", .step = step_no}), 0);
}

static void the_nodes_fault_is_not_the_concepts(void **unused)
{
    farm f = farm_of(1, 2);
    int64_t now = 0;
    (void)unused;
    for (int i = 0; i < MISHAPS_MOST - 1; i++) {
        struck(&f, now, 0);
        step(&f, (sched_event){.type = EV_TICK, .now_ms = now += 1000000});
    }
    assert_int_equal(f.s->job[0].failures, 0);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    struck(&f, now, 0);
    assert_int_equal(state(&f, 0), JOB_QUARANTINED);
    farm_free(&f);
}

/* The first one is tried again at once, the next ones wait, each time longer: all told in the journal. */
static void mishap_upon_mishap_waits_and_whoever_came_further_does_not(void **unused)
{
    farm f = farm_of(1, 1);
    int64_t now = 0, wait, last = 0;
    (void)unused;
    struck(&f, now, 4);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    for (int i = 2; i < 6; i++) {
        struck(&f, now, 4); /* again there: it came no further */
        assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
        assert_int_equal(f.s->job[0].mishaps, i);
        wait = json_integer_value(json_object_get(json_array_get(json_array_get(f.log, json_array_size(f.log) - 1), 1), "wait"));
        assert_true(wait > last && wait <= HOW.backoff_ms << (i - 2));
        last = wait;
        step(&f, (sched_event){.type = EV_TICK, .now_ms = now + wait - 1});
        assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
        step(&f, (sched_event){.type = EV_TICK, .now_ms = now += wait});
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    }
    struck(&f, now, 5);
    assert_int_equal(f.s->job[0].mishaps, 1);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    farm_free(&f);
}

/* Its node was lost twice, and comes back while it waits, or when it has: the attempt is at work there yet. */
static void who_waits_goes_on_where_a_lost_node_has_it_still(void **unused)
{
    static const int on[] = {0};
    (void)unused;
    for (int ticked = 0; ticked < 2; ticked++) {
        farm f = farm_of(1, 1);
        sched *again = sched_new(HOW);
        sched_event ev = {.type = EV_ADOPT, .now_ms = 100000, .job = 0, .attempt = 2, .gang = 1, .node = 2, .on = on, .on_n = 1, .name = "n2"};
        for (int n = 0; n < 2; n++) {
            assert_int_equal(step(&f, (sched_event){.type = EV_NODE_LOST, .node = n}), 0);
            node(&f, "n", 1);
            if (n == 0)
                warm(&f, 1, 0);
        }
        assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
        if (ticked)
            step(&f, (sched_event){.type = EV_TICK, .now_ms = 100000});
        assert_int_equal(step(&f, ev), 0);
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
        assert_true(f.s->next_wake_ms == INT64_MAX);
        replay(again, f.log);
        assert_int_equal(again->job[0].state, JOB_ASSIGNED);
        sched_free(again);
        farm_free(&f);
    }
}

/* Of a pack nobody knows who did it: each is tried again alone, and at once. */
static void who_failed_among_others_does_not_wait(void **unused)
{
    farm f = farm_of(1, 1);
    (void)unused;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(step(&f, (sched_event){.type = EV_FAILED, .job = 0, .attempt = f.s->job[0].attempt, .blame = BLAME_NODE,
                                                .retry = true, .code = FAILED_PACK, .text = "a pack"}), 0);
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    }
    farm_free(&f);
}

static void a_full_disk_holds(void **unused)
{
    farm f = farm_of(1, 1);
    (void)unused;
    failed(&f, 0, BLAME_STORE, true);
    assert_int_equal(state(&f, 0), JOB_HOLD);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = HOW.hold_ms - 1});
    assert_int_equal(state(&f, 0), JOB_HOLD);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = HOW.hold_ms});
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    farm_free(&f);
}

static void a_retry_takes_another_slot(void **unused)
{
    farm f = farm_of(2, 3); /* gangs of 1 and 2; the second one's slots are the first one's others */
    int slot;
    (void)unused;
    done(&f, 1);
    failed(&f, 0, BLAME_JOB, true);
    slot = f.s->job[0].last_slot;
    f.s->how.gang_max = 1;
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 100000});
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_int_equal(f.s->node[0].slot[slot].job, -1);
    farm_free(&f);
}

static void a_late_message_is_refused(void **unused)
{
    farm f = farm_of(1, 1);
    (void)unused;
    failed(&f, 0, BLAME_NODE, true);
    assert_int_equal(f.s->job[0].attempt, 2);
    assert_int_equal(step(&f, (sched_event){.type = EV_DONE, .job = 0, .attempt = 1, .sha256 = SHA}), ERR_PEER);
    assert_int_equal(step(&f, (sched_event){.type = EV_FAILED, .job = 0, .attempt = 1}), ERR_PEER);
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(done(&f, 0), ERR_PEER);
    farm_free(&f);
}

static void a_lost_node_gives_its_concepts_back(void **unused)
{
    farm f = farm_of(2, 4);
    (void)unused;
    step(&f, (sched_event){.type = EV_NODE_LOST, .node = 0});
    assert_int_equal(state(&f, 0), JOB_QUEUED);
    assert_int_equal(state(&f, 1), JOB_QUEUED);
    assert_int_equal(f.s->ready + f.s->warming, 0);
    node(&f, "n1", 1);
    warm(&f, 1, 0);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    farm_free(&f);
}

static void a_merge_waits_for_its_concepts(void **unused)
{
    farm f = farm_of(2, 2);
    json_t *needs = json_pack("[s, s]", "c0", "c1");
    job_spec merge = {.kind = JOB_MERGE, .name = "m", .settings = "{}", .leaves = 1, .retries = 1, .needs = needs};
    (void)unused;
    assert_int_equal(step(&f, (sched_event){.type = EV_SUBMIT, .spec = merge}), 0);
    done(&f, 0);
    assert_int_equal(state(&f, 2), JOB_QUEUED);
    done(&f, 1);
    assert_int_equal(state(&f, 2), JOB_ASSIGNED);
    assert_int_equal(f.todo.at[0].type, DO_MERGE);
    assert_false(sched_over(f.s));
    assert_int_equal(done(&f, 2), 0);
    assert_true(sched_over(f.s));
    json_decref(needs);
    farm_free(&f);
}

static void a_merge_of_a_quarantined_concept_does_not_keep_the_farm_open(void **unused)
{
    farm f = farm_of(1, 1);
    json_t *needs = json_pack("[s]", "c0");
    job_spec merge = {.kind = JOB_MERGE, .name = "m", .settings = "{}", .leaves = 1, .retries = 1, .needs = needs};
    (void)unused;
    step(&f, (sched_event){.type = EV_SUBMIT, .spec = merge});
    failed(&f, 0, BLAME_JOB, false);
    assert_true(sched_over(f.s));
    json_decref(needs);
    farm_free(&f);
}

static void a_concept_waits_for_what_it_depends_on(void **unused)
{
    farm f = farm_of(1, 2);
    json_t *needs = json_pack("[s]", "c0");
    job_spec after = {.name = "after", .settings = "{}", .leaves = 1, .retries = 1, .needs = needs};
    (void)unused;
    step(&f, (sched_event){.type = EV_SUBMIT, .spec = after});
    assert_int_equal(state(&f, 1), JOB_QUEUED);
    done(&f, 0);
    assert_int_equal(state(&f, 1), JOB_ASSIGNED);
    json_decref(needs);
    farm_free(&f);
}

static void what_is_held_waits_for_its_release(void **unused)
{
    farm f = farm_of(0, 1);
    job_spec held = {.name = "held", .settings = "{}", .leaves = 1, .retries = 1, .hold = true};
    (void)unused;
    step(&f, (sched_event){.type = EV_SUBMIT, .spec = held});
    step(&f, (sched_event){.type = EV_TICK, .now_ms = INT64_MAX - 1});
    assert_int_equal(state(&f, 0), JOB_HOLD);
    assert_true(sched_over(f.s));
    step(&f, (sched_event){.type = EV_RELEASE, .job = 0});
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    farm_free(&f);
}

static void a_draining_farm_starts_nothing_more(void **unused)
{
    farm f = farm_of(3, 1);
    (void)unused;
    step(&f, (sched_event){.type = EV_DRAIN});
    assert_false(sched_over(f.s));
    done(&f, 0);
    assert_int_equal(state(&f, 1), JOB_QUEUED);
    assert_true(sched_over(f.s));
    farm_free(&f);
}

static void what_is_done_is_not_asked_for_again(void **unused)
{
    farm f = farm_of(2, 1);
    (void)unused;
    assert_int_equal(submit(&f, "c0", PRIORITY_NORMAL, 99, 8), ERR_INPUT); /* it runs */
    done(&f, 0);
    assert_int_equal(submit(&f, "c0", PRIORITY_NORMAL, 99, 8), ERR_INPUT); /* it is done */
    failed(&f, 1, BLAME_JOB, false);
    assert_int_equal(submit(&f, "c1", PRIORITY_NORMAL, 99, 8), 0); /* other settings may cure it */
    assert_int_equal(f.s->job[1].spec.steps, 99);
    assert_int_equal(state(&f, 1), JOB_ASSIGNED);
    farm_free(&f);
}

static void what_is_put_on_hold_stops_and_waits_for_its_release(void **unused)
{
    farm f = farm_of(2, 1);
    (void)unused;
    assert_int_equal(step(&f, (sched_event){.type = EV_HOLD, .job = 0}), 0); /* it runs */
    assert_int_equal(f.todo.at[0].type, DO_STOP);
    assert_int_equal(state(&f, 0), JOB_HOLD);
    assert_int_equal(step(&f, (sched_event){.type = EV_RELEASE, .job = 0}), ERR_INPUT); /* it is still being stopped */
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(state(&f, 1), JOB_ASSIGNED);
    assert_int_equal(step(&f, (sched_event){.type = EV_HOLD, .job = 0}), ERR_INPUT);
    assert_int_equal(step(&f, (sched_event){.type = EV_RELEASE, .job = 0, .ordered = true}), 0);
    done(&f, 1);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    farm_free(&f);
}

static void a_priority_may_change_while_it_waits(void **unused)
{
    farm f = farm_of(3, 1);
    (void)unused;
    assert_int_equal(step(&f, (sched_event){.type = EV_PRIORITY, .job = 2, .priority = PRIORITY_URGENT}), 0);
    assert_int_equal(f.s->waiting[PRIORITY_URGENT], 1);
    done(&f, 0);
    assert_int_equal(state(&f, 2), JOB_ASSIGNED);
    assert_int_equal(step(&f, (sched_event){.type = EV_PRIORITY, .job = 0}), ERR_INPUT); /* it is done */
    farm_free(&f);
}

/* What a command has said is not taken back by the farm file: a changed submit keeps it. */
static void an_order_outlives_other_settings(void **unused)
{
    farm f = farm_of(2, 1);
    (void)unused;
    step(&f, (sched_event){.type = EV_PRIORITY, .job = 1, .priority = PRIORITY_BACKGROUND});
    step(&f, (sched_event){.type = EV_HOLD, .job = 1});
    assert_int_equal(submit(&f, "c1", PRIORITY_URGENT, 7, 8), 0);
    assert_int_equal(f.s->job[1].spec.steps, 7);
    assert_int_equal(f.s->job[1].spec.priority, PRIORITY_BACKGROUND);
    assert_int_equal(state(&f, 1), JOB_HOLD);
    farm_free(&f);
}

static void a_halt_stops_all_and_blames_nobody(void **unused)
{
    farm f = farm_of(3, 2);
    (void)unused;
    step(&f, (sched_event){.type = EV_HALT});
    assert_int_equal(f.todo.n, 2);
    assert_int_equal(f.todo.at[0].type, DO_STOP);
    assert_false(sched_over(f.s));
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(done(&f, 1), 0); /* it was just about to end */
    assert_int_equal(state(&f, 0), JOB_QUEUED);
    assert_int_equal(f.s->job[0].failures + f.s->job[0].mishaps, 0);
    assert_true(sched_over(f.s));
    farm_free(&f);
}

/* n1 fails whatever it gets, n0 works. The queue is not emptied into n1. */
static void a_node_that_fails_everything_gets_nothing_more(void **unused)
{
    farm f = farm_new();
    int lost = 0;
    (void)unused;
    for (int i = 0; i < 30; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        submit(&f, name, PRIORITY_NORMAL, 10, 1);
    }
    node(&f, "n0", 2);
    node(&f, "n1", 4);
    for (int i = 0; i < 6; i++)
        warm(&f, i / 2 > 0, i < 2 ? i : i - 2);
    step(&f, (sched_event){.type = EV_OPEN});
    for (int turn = 0; turn < 200 && f.s->count[JOB_DONE] < 30; turn++) {
        for (int j = 0; j < 30; j++) {
            if (!sched_running(&f.s->job[j]))
                continue;
            if (f.s->job[j].node == 0) {
                done(&f, j);
            } else {
                failed(&f, j, BLAME_JOB, true);
                lost++;
            }
        }
        step(&f, (sched_event){.type = EV_TICK, .now_ms = 100000 * (turn + 1)});
    }
    assert_int_equal(f.s->node[1].trouble, NODE_DRAINED);
    assert_int_equal(f.s->node[0].trouble, NODE_WELL);
    assert_int_equal(f.s->count[JOB_DONE], 30);
    assert_true(lost <= 6);
    step(&f, (sched_event){.type = EV_SLOT, .node = 1, .slot = 0, .becomes = SLOT_READY}); /* it says it is well */
    assert_int_equal(f.s->ready, 2);
    step(&f, (sched_event){.type = EV_NODE_LOST, .node = 0}); /* better a suspect than nobody */
    assert_int_equal(f.s->node[1].trouble, NODE_CANARY);
    assert_int_equal(f.s->ready, 4);
    farm_free(&f);
}

static void concepts_that_fail_everywhere_shut_no_node(void **unused)
{
    farm f = farm_new();
    (void)unused;
    for (int i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        submit(&f, name, PRIORITY_NORMAL, 10, 1);
    }
    for (int n = 0; n < 3; n++) {
        node(&f, n == 0 ? "n0" : n == 1 ? "n1" : "n2", 1);
        warm(&f, n, 0);
    }
    step(&f, (sched_event){.type = EV_OPEN});
    for (int turn = 0; turn < 200 && !sched_over(f.s); turn++) { /* every second one is poison */
        for (int j = 0; j < 12; j++)
            if (sched_running(&f.s->job[j]))
                (void)(j % 2 ? failed(&f, j, BLAME_JOB, true) : done(&f, j));
        step(&f, (sched_event){.type = EV_TICK, .now_ms = 1000000 * (turn + 1)});
    }
    assert_int_equal(f.s->count[JOB_DONE], 6);
    assert_int_equal(f.s->count[JOB_QUARANTINED], 6);
    for (int n = 0; n < 3; n++)
        assert_int_not_equal(f.s->node[n].trouble, NODE_DRAINED);
    farm_free(&f);
}

static void the_last_node_is_never_shut(void **unused)
{
    farm f = farm_of(9, 3);
    (void)unused;
    for (int j = 0; j < 9; j++)
        failed(&f, j, BLAME_JOB, false);
    assert_int_equal(f.s->node[0].trouble, NODE_WELL);
    assert_int_equal(f.s->count[JOB_QUARANTINED], 9);
    farm_free(&f);
}

/* ---- owners and ageing, in virtual time ------------------------------------------------------------------------ */

enum { SIM_JOBS = 400, SIM_OWNERS = 3 };
typedef struct { const char *owner; int work, at_ms; job_priority class; } sim_job;
typedef struct { int64_t start, end; } sim_time;

/* A sample takes a millisecond; each training has one slot. NULL owner: whoever. Times in the order of `jobs`. */
static void simulate(const sim_job *jobs, int n, const char *only, int slots, const sched_share *share, int shares,
                     sim_time out[])
{
    sched_options how = {.gang_max = 1, .backoff_ms = 1, .hold_ms = 1, .share = share, .shares = shares};
    farm f = {.s = sched_new(how), .log = json_array()};
    int which[SIM_JOBS], known = 0, over = 0, wanted = 0;

    f.s->ms_per_sample = 1;
    step(&f, (sched_event){.type = EV_EPOCH, .epoch = 1});
    node(&f, "n", slots);
    for (int i = 0; i < slots; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    for (int i = 0; i < n; i++) {
        out[i] = (sim_time){-1, -1};
        wanted += !only || strcmp(only, jobs[i].owner) == 0;
    }
    for (int64_t now = 1; over < wanted; now++) {
        for (int i = 0; i < n; i++) {
            char name[16];
            job_spec p = {.name = name, .settings = "{}", .steps = jobs[i].work, .batch = 1, .leaves = 1, .retries = 1,
                          .priority = jobs[i].class, .owner = jobs[i].owner};
            if (jobs[i].at_ms != now - 1 || (only && strcmp(only, jobs[i].owner) != 0))
                continue;
            snprintf(name, sizeof name, "j%d", i);
            which[known++] = i;
            assert_int_equal(step(&f, (sched_event){.type = EV_SUBMIT, .now_ms = now, .spec = p, .more = true}), 0);
        }
        step(&f, (sched_event){.type = EV_TICK, .now_ms = now});
        for (int k = 0; k < known; k++) {
            sim_time *t = &out[which[k]];
            if (state(&f, k) == JOB_ASSIGNED && t->start < 0)
                t->start = now;
            if (state(&f, k) == JOB_ASSIGNED && now - t->start >= jobs[which[k]].work) {
                t->end = now;
                over++;
                step(&f, (sched_event){.type = EV_DONE, .now_ms = now, .job = k, .attempt = 1, .sha256 = SHA});
                for (int m = 0; m < known; m++)
                    if (state(&f, m) == JOB_ASSIGNED && out[which[m]].start < 0)
                        out[which[m]].start = now;
            }
        }
    }
    farm_free(&f);
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Of the owner's k-th result: when it is there, against when it would be on a machine that is his share alone. */
static double worst_ratio(const sim_job *jobs, int n, const char *owner, const sim_time real[], const sim_time alone[],
                          int longest)
{
    int64_t a[SIM_JOBS], b[SIM_JOBS];
    double worst = 0;
    int m = 0;

    for (int i = 0; i < n; i++)
        if (strcmp(jobs[i].owner, owner) == 0) {
            a[m] = real[i].end;
            b[m++] = alone[i].end;
        }
    qsort(a, (size_t)m, sizeof *a, by_time);
    qsort(b, (size_t)m, sizeof *b, by_time);
    for (int k = 0; k < m; k++)
        if ((double)(a[k] - longest) / (double)b[k] > worst) /* one that runs is not interrupted */
            worst = (double)(a[k] - longest) / (double)b[k];
    return worst;
}

/* Ana brings everything at once, some of it urgent; bo and cy bring theirs bit by bit. Shares 2, 1, 1 of four slots. */
static void nobody_waits_three_times_as_long_as_his_share_would_make_him(void **unused)
{
    static const sched_share share[] = {{"ana", 2}, {"bo", 1}, {"cy", 1}};
    static const int slots[] = {2, 1, 1};
    (void)unused;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        sim_job jobs[SIM_JOBS];
        sim_time real[SIM_JOBS], alone[SIM_JOBS];
        int n = 0, longest = 0;
        for (uint32_t i = 0; i < 160; i++) {
            int owner = i < 100 ? 0 : i < 140 ? 1 : 2;
            jobs[n] = (sim_job){share[owner].owner, 5 + (int)lot(seed, i, 0, 60), owner == 0 ? 0 : (int)lot(seed, i, 1, 900),
                                owner == 0 && lot(seed, i, 2, 2) ? PRIORITY_URGENT : PRIORITY_NORMAL};
            if (jobs[n].work > longest)
                longest = jobs[n].work;
            n++;
        }
        simulate(jobs, n, NULL, 4, share, 3, real);
        for (int o = 0; o < SIM_OWNERS; o++) {
            double worst;
            simulate(jobs, n, share[o].owner, slots[o], share, 3, alone);
            worst = worst_ratio(jobs, n, share[o].owner, real, alone, longest);
            if (worst > 3)
                fail_msg("seed %d: %s waits %.2f times as long as his share would make him", (int)seed, share[o].owner, worst);
        }
    }
}

static void who_has_twice_the_weight_gets_twice_as_much(void **unused)
{
    static const sched_share share[] = {{"ana", 2}};
    sim_job jobs[200];
    sim_time t[200];
    int ana = 0, bo = 0;
    (void)unused;
    for (int i = 0; i < 200; i++)
        jobs[i] = (sim_job){i % 2 ? "ana" : "bo", 10, 0, PRIORITY_NORMAL};
    simulate(jobs, 200, NULL, 3, share, 1, t);
    for (int i = 0; i < 200; i++)
        if (t[i].end <= 300) { /* some 90 in all, of 3 slots; both still have some waiting */
            ana += i % 2;
            bo += i % 2 == 0;
        }
    assert_in_range(ana, 2 * bo - 4, 2 * bo + 4);
}

static void a_long_one_is_not_overtaken_for_ever(void **unused)
{
    sim_job jobs[300];
    sim_time t[300];
    (void)unused;
    jobs[0] = (sim_job){"", 300, 1, PRIORITY_NORMAL};
    for (int i = 1; i < 300; i++)
        jobs[i] = (sim_job){"", 10, 9 * (i - 1), PRIORITY_NORMAL}; /* more than one slot can do */
    simulate(jobs, 300, NULL, 1, NULL, 0, t);
    assert_true(t[0].start > 100); /* shortest first, but only those that came within four times its length */
    assert_true(t[0].start <= 4 * 300 * 10 / 9 + 20);
}

static void what_was_not_used_is_not_saved_up(void **unused)
{
    sim_job jobs[120];
    sim_time t[120];
    int early = 0;
    (void)unused;
    for (int i = 0; i < 80; i++)
        jobs[i] = (sim_job){"ana", 10, 0, PRIORITY_NORMAL};
    for (int i = 80; i < 120; i++)
        jobs[i] = (sim_job){"bo", 10, 400, PRIORITY_NORMAL}; /* after ana has had 400 ms alone */
    simulate(jobs, 120, NULL, 1, NULL, 0, t);
    for (int i = 0; i < 80; i++)
        early += t[i].start >= 400 && t[i].start < 600;
    assert_in_range(early, 8, 12); /* half of the time, and not none of it */
}

static void what_outlives_its_coordinator_goes_on_under_the_next(void **unused)
{
    static const int on[] = {1, 0}, twice[] = {0, 0};
    sched_event adopt = {.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 2, .on = on, .on_n = 2, .node = 1};
    farm f = farm_of(1, 2);
    (void)unused;
    step(&f, (sched_event){.type = EV_NODE_LOST, .node = 0}); /* as a restart finds it, with the same attempt */
    step(&f, (sched_event){.type = EV_DRAIN});
    step(&f, (sched_event){.type = EV_EPOCH, .epoch = 2});
    adopt.attempt = f.s->job[0].attempt;
    assert_int_equal(step(&f, adopt), ERR_INPUT); /* no such node yet */
    node(&f, "n0", 2);
    adopt.on = twice;
    assert_int_equal(step(&f, adopt), ERR_PEER);
    adopt.on = on;
    assert_int_equal(step(&f, adopt), 0);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_int_equal(f.s->node[1].slot[0].job, 0);
    assert_int_equal(step(&f, adopt), ERR_PEER); /* once */
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(f.s->ready, 2);
    farm_free(&f);
}

/* Only its answer was still to be said; and if that is never said, it is begun again. */
static void an_answer_that_outlives_its_coordinator_is_taken_or_waited_for_no_longer(void **unused)
{
    (void)unused;
    for (int lost = 0; lost < 2; lost++) {
        farm f = farm_of(1, 1);
        sched_event adopt = {.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 1, .node = 1};
        step(&f, (sched_event){.type = EV_DRAIN});
        step(&f, (sched_event){.type = EV_EPOCH, .epoch = 2});
        node(&f, "n0", 1);
        assert_int_equal(step(&f, adopt), 0);
        if (lost)
            step(&f, (sched_event){.type = EV_NODE_LOST, .node = 1});
        else
            assert_int_equal(done(&f, 0), 0);
        assert_int_equal(state(&f, 0), lost ? JOB_QUEUED : JOB_DONE);
        farm_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_concept_gets_its_share_of_the_slots),
        cmocka_unit_test(a_gang_is_no_wider_than_its_leaves),
        cmocka_unit_test(a_gang_waits_for_workers_that_are_warming_up),
        cmocka_unit_test(a_gang_stays_on_one_node),
        cmocka_unit_test(urgent_first_then_the_shortest),
        cmocka_unit_test(poison_is_quarantined_after_exactly_its_retries),
        cmocka_unit_test(what_can_never_work_is_not_tried_again),
        cmocka_unit_test(the_nodes_fault_is_not_the_concepts),
        cmocka_unit_test(mishap_upon_mishap_waits_and_whoever_came_further_does_not),
        cmocka_unit_test(who_waits_goes_on_where_a_lost_node_has_it_still),
        cmocka_unit_test(who_failed_among_others_does_not_wait),
        cmocka_unit_test(a_full_disk_holds),
        cmocka_unit_test(a_retry_takes_another_slot),
        cmocka_unit_test(a_late_message_is_refused),
        cmocka_unit_test(a_lost_node_gives_its_concepts_back),
        cmocka_unit_test(a_merge_waits_for_its_concepts),
        cmocka_unit_test(a_merge_of_a_quarantined_concept_does_not_keep_the_farm_open),
        cmocka_unit_test(a_concept_waits_for_what_it_depends_on),
        cmocka_unit_test(what_is_held_waits_for_its_release),
        cmocka_unit_test(a_draining_farm_starts_nothing_more),
        cmocka_unit_test(what_is_done_is_not_asked_for_again),
        cmocka_unit_test(what_is_put_on_hold_stops_and_waits_for_its_release),
        cmocka_unit_test(a_priority_may_change_while_it_waits),
        cmocka_unit_test(an_order_outlives_other_settings),
        cmocka_unit_test(a_halt_stops_all_and_blames_nobody),
        cmocka_unit_test(a_node_that_fails_everything_gets_nothing_more),
        cmocka_unit_test(concepts_that_fail_everywhere_shut_no_node),
        cmocka_unit_test(the_last_node_is_never_shut),
        cmocka_unit_test(nobody_waits_three_times_as_long_as_his_share_would_make_him),
        cmocka_unit_test(who_has_twice_the_weight_gets_twice_as_much),
        cmocka_unit_test(a_long_one_is_not_overtaken_for_ever),
        cmocka_unit_test(what_was_not_used_is_not_saved_up),
        cmocka_unit_test(what_outlives_its_coordinator_goes_on_under_the_next),
        cmocka_unit_test(an_answer_that_outlives_its_coordinator_is_taken_or_waited_for_no_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
