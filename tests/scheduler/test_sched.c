/* The laws of the farm's mind, on chosen farms and on random ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "scheduler/sched_impl.h"

static const sched_options HOW = {.gang_max = 8, .backoff_ms = 1000, .hold_ms = 2000};
static const char SHA[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/* ---- a farm by hand ------------------------------------------------------------------------------------------- */

typedef struct {
    sched *s;
    sched_effects todo;
    json_t *log; /* [type, body] of every record so far */
} farm;

static void keep_records(farm *f)
{
    for (size_t i = 0; i < f->todo.records; i++) {
        const sched_event *ev = &f->todo.record[i];
        json_array_append_new(f->log, json_pack("[i, o]", (int)ev->type, sched_write_record(ev)));
    }
}

static int step(farm *f, sched_event ev)
{
    err e = {0};
    int rc = sched_step(f->s, &ev, &f->todo, &e);

    if (rc == 0)
        keep_records(f);
    return rc;
}

static farm farm_new(void)
{
    farm f = {.s = sched_new(HOW), .log = json_array()};

    step(&f, (sched_event){.type = EV_EPOCH, .epoch = 1});
    return f;
}

static void farm_free(farm *f)
{
    sched_free(f->s);
    sched_effects_free(&f->todo);
    json_decref(f->log);
}

static int submit(farm *f, const char *name, job_priority p, int steps, int leaves)
{
    job_spec spec = {.priority = p, .name = name, .settings = "{}", .steps = steps, .batch = leaves, .leaves = leaves,
                     .retries = 3};

    return step(f, (sched_event){.type = EV_SUBMIT, .spec = spec});
}

static void node(farm *f, const char *name, int slots)
{
    assert_int_equal(step(f, (sched_event){.type = EV_NODE_UP, .name = name, .slots = slots}), 0);
}

static void warm(farm *f, int n, int slot)
{
    assert_int_equal(step(f, (sched_event){.type = EV_SLOT, .node = n, .slot = slot, .becomes = SLOT_READY}), 0);
}

static int done(farm *f, int job)
{
    return step(f, (sched_event){.type = EV_DONE, .job = job, .attempt = f->s->job[job].attempt, .sha256 = SHA});
}

static int failed(farm *f, int job, job_blame blame, bool retry)
{
    return step(f, (sched_event){.type = EV_FAILED, .job = job, .attempt = f->s->job[job].attempt, .blame = blame,
                                 .retry = retry, .text = "it broke"});
}

static void replay(sched *s, const json_t *log);

static job_state state(const farm *f, int job) { return f->s->job[job].state; }

/* n trainings of 8 leaves on one node of `slots` warm slots, open. */
static farm farm_of(int n, int slots)
{
    farm f = farm_new();

    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        submit(&f, name, PRIORITY_NORMAL, 10, 8);
    }
    node(&f, "n0", slots);
    for (int i = 0; i < slots; i++)
        warm(&f, 0, i);
    step(&f, (sched_event){.type = EV_OPEN});
    return f;
}

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

/* ---- a gang over several nodes --------------------------------------------------------------------------------- */

/* One training of 8 leaves; nodes with so many warm slots each. */
static farm spread_of(int gang_nodes, const int slots[], int n)
{
    farm f = farm_new();

    f.s->how.gang_nodes = gang_nodes;
    submit(&f, "a", PRIORITY_NORMAL, 10, 8);
    for (int i = 0; i < n; i++) {
        node(&f, "n", slots[i]);
        for (int k = 0; k < slots[i]; k++)
            warm(&f, i, k);
    }
    step(&f, (sched_event){.type = EV_OPEN});
    return f;
}

static int part(farm *f, int n, bool has_failed, job_blame blame, const char *code)
{
    return step(f, (sched_event){.type = EV_PART, .job = 0, .attempt = 1, .node = n, .failed = has_failed, .blame = blame, .retry = true,
                                 .code = code, .text = code});
}

static int lead_failed(farm *f, job_blame blame, const char *code)
{
    return step(f, (sched_event){.type = EV_FAILED, .job = 0, .attempt = 1, .blame = blame, .retry = true, .code = code, .text = code});
}

static int stops(const farm *f, int n)
{
    int k = 0;

    for (size_t i = 0; i < f->todo.n; i++)
        k += f->todo.at[i].type == DO_STOP && f->todo.at[i].node == n;
    return k;
}

static const int PAIR[] = {1, 1};

static void a_gang_is_spread_only_where_it_may_and_must(void **unused)
{
    static const struct { int gang_nodes, n, slots[4], gang, on[8]; } row[] = {
        {1, 2, {2, 2}, 2, {0, 0}},                {2, 2, {1, 1}, 2, {0, 1}},
        {2, 3, {1, 2, 1}, 4, {-1}},               {2, 2, {2, 2}, 4, {0, 0, 1, 1}},
        {4, 4, {1, 1, 1, 1}, 4, {0, 1, 2, 3}},    {2, 4, {1, 1, 1, 1}, 2, {0, 1}},
        {2, 3, {4, 4, 8}, 8, {2, 2, 2, 2, 2, 2, 2, 2}}, {2, 2, {4, 4}, 8, {0, 0, 0, 0, 1, 1, 1, 1}},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        farm f = spread_of(row[i].gang_nodes, row[i].slots, row[i].n);
        if (row[i].on[0] >= 0) { /* else: 4 have no room with as many on each node; 2 have, on one */
            assert_int_equal(f.todo.at[0].gang, row[i].gang);
            assert_memory_equal(f.todo.at[0].on, row[i].on, (size_t)row[i].gang * sizeof(int));
        } else {
            assert_int_equal(f.todo.at[0].gang, 2);
            assert_true(f.todo.at[0].on[0] == 1 && f.todo.at[0].on[1] == 1);
        }
        farm_free(&f);
    }
}

/* The others' "somebody fell" comes first and is not believed. */
static void nothing_is_judged_before_all_parts_have_spoken(void **unused)
{
    farm f = spread_of(2, PAIR, 2);
    (void)unused;
    assert_int_equal(lead_failed(&f, BLAME_NODE, FAILED_GANG), 0);
    assert_int_equal(f.todo.records, 0);
    assert_int_equal(stops(&f, 1), 1);
    assert_int_equal(stops(&f, 0), 0);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_int_equal(lead_failed(&f, BLAME_NODE, FAILED_GANG), ERR_PEER); /* it has spoken */
    assert_int_equal(part(&f, 1, true, BLAME_JOB, "signal"), 0);
    assert_int_equal(f.s->job[0].failures, 1);
    assert_int_equal(f.s->job[0].mishaps, 0);
    assert_string_equal(f.s->job[0].why, "signal");
    assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
    assert_int_equal(part(&f, 1, true, BLAME_JOB, "signal"), ERR_PEER);
    assert_int_equal(f.s->ready, 2);
    farm_free(&f);
}

static void a_part_that_fails_stops_the_others_and_says_why(void **unused)
{
    farm f = spread_of(2, PAIR, 2);
    (void)unused;
    assert_int_equal(part(&f, 1, true, BLAME_JOB, "signal"), 0);
    assert_int_equal(stops(&f, 0), 1);
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(f.s->job[0].failures, 1);
    assert_int_equal(f.s->ready, 2);
    farm_free(&f);
}

static void a_part_that_leaves_blames_nobody(void **unused)
{
    farm f = spread_of(2, PAIR, 2);
    (void)unused;
    assert_int_equal(step(&f, (sched_event){.type = EV_PART, .job = 0, .attempt = 1, .node = 1, .stopped = true}), 0);
    assert_int_equal(stops(&f, 0), 1);
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(f.s->job[0].failures + f.s->job[0].mishaps, 0);
    assert_int_equal(f.s->job[0].attempt, 2);
    farm_free(&f);
}

static void a_lost_node_ends_its_gang_on_the_others(void **unused)
{
    (void)unused;
    for (int lost = 0; lost < 2; lost++) {
        farm f = spread_of(2, PAIR, 2);
        assert_int_equal(step(&f, (sched_event){.type = EV_NODE_LOST, .node = lost}), 0);
        assert_int_equal(stops(&f, 1 - lost), 1);
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
        if (lost == 1)
            assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
        else
            assert_int_equal(part(&f, 1, false, BLAME_NODE, ""), 0);
        assert_int_equal(f.s->job[0].mishaps, 1);
        assert_int_equal(f.s->job[0].attempt, 2); /* on the node that is left */
        assert_int_equal(f.s->job[0].gang, 1);
        farm_free(&f);
    }
}

static void a_result_of_several_nodes_needs_nobodys_leave(void **unused)
{
    farm f = spread_of(2, PAIR, 2);
    (void)unused;
    submit(&f, "b", PRIORITY_NORMAL, 10, 8);
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(state(&f, 0), JOB_DONE);
    assert_int_equal(f.s->job[1].gang, 1); /* the second node's slot is not free yet */
    assert_int_equal(part(&f, 1, false, BLAME_NODE, ""), 0);
    assert_int_equal(f.s->ready, 1);
    farm_free(&f);
}

static void what_is_cancelled_stops_on_all_its_nodes(void **unused)
{
    farm f = spread_of(2, PAIR, 2);
    (void)unused;
    assert_int_equal(step(&f, (sched_event){.type = EV_CANCEL, .job = 0}), 0);
    assert_true(stops(&f, 0) == 1 && stops(&f, 1) == 1);
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(f.s->ready, 0);
    assert_int_equal(part(&f, 1, false, BLAME_NODE, ""), 0);
    assert_int_equal(f.s->ready, 2);
    assert_int_equal(state(&f, 0), JOB_CANCELLED);
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

static void the_nodes_fault_is_not_the_concepts(void **unused)
{
    farm f = farm_of(1, 2);
    (void)unused;
    for (int i = 0; i < MISHAPS_MOST - 1; i++)
        failed(&f, 0, BLAME_NODE, true);
    assert_int_equal(f.s->job[0].failures, 0);
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    failed(&f, 0, BLAME_NODE, true);
    assert_int_equal(state(&f, 0), JOB_QUARANTINED);
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

static uint32_t lot(uint64_t farm_no, uint32_t step_no, uint64_t i, uint32_t n)
{
    return rng_below(rng_open(farm_no, "farm", step_no, 0), i, n);
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

/* ---- packs ---------------------------------------------------------------------------------------------------- */

static int submit_alike(farm *f, const char *name, job_priority p, const char *alike)
{
    job_spec spec = {.priority = p, .name = name, .settings = "{}", .steps = 10, .batch = 8, .leaves = 8, .retries = 3,
                     .alike = alike};

    return step(f, (sched_event){.type = EV_SUBMIT, .spec = spec});
}

static void warm_pack(farm *f, int n, int slot, int room)
{
    assert_int_equal(step(f, (sched_event){.type = EV_SLOT, .node = n, .slot = slot, .becomes = SLOT_READY, .room = room}), 0);
}

/* n trainings of one class on one node of `slots` warm slots, whose workers have room for `room`, open. */
static farm packs_of(int n, int slots, int pack_max, int room)
{
    farm f = farm_new();

    f.s->how.pack_max = pack_max;
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        submit_alike(&f, name, PRIORITY_NORMAL, "one");
    }
    node(&f, "n0", slots);
    for (int i = 0; i < slots; i++)
        warm_pack(&f, 0, i, room);
    step(&f, (sched_event){.type = EV_OPEN});
    return f;
}

static int on_slot(const farm *f, int n, int i) { return f->s->node[n].slot[i].job < 0 ? 0 : 1 + f->s->node[n].slot[i].mates; }

static void a_pack_is_as_large_as_the_share_and_the_limit(void **unused)
{
    static const struct { int concepts, slots, most, room, on[3]; } row[] = {
        {1, 1, 4, 4, {1}}, {2, 1, 4, 4, {2}}, {9, 1, 4, 4, {4}}, {4, 2, 4, 4, {2, 2}}, {9, 2, 4, 4, {4, 4}}, {5, 2, 4, 4, {3, 2}},
        {9, 2, 4, 3, {3, 3}}, {9, 2, 1, 4, {1, 1}}, {9, 2, 0, 4, {1, 1}}, {3, 3, 4, 4, {1, 1, 1}}, {9, 1, 8, 1, {1}},
    };
    (void)unused;
    for (size_t r = 0; r < sizeof row / sizeof row[0]; r++) {
        farm f = packs_of(row[r].concepts, row[r].slots, row[r].most, row[r].room);
        int most = 0, all = 0, want = 0;
        for (int i = 0; i < row[r].slots; i++) {
            most = on_slot(&f, 0, i) > most ? on_slot(&f, 0, i) : most;
            all += on_slot(&f, 0, i);
            want += row[r].on[i];
        }
        assert_int_equal(most, row[r].on[0]);
        assert_int_equal(all, want);
        farm_free(&f);
    }
}

static void who_leaves_a_pack_makes_place_for_the_next(void **unused)
{
    farm f = packs_of(5, 1, 3, 3);
    (void)unused;
    assert_int_equal(state(&f, 3), JOB_QUEUED);
    assert_int_equal(done(&f, 0), 0); /* the first one's place, and a mate's */
    assert_int_equal(state(&f, 3), JOB_ASSIGNED);
    assert_int_equal(done(&f, 2), 0);
    assert_int_equal(state(&f, 4), JOB_ASSIGNED);
    assert_int_equal(on_slot(&f, 0, 0), 3);
    for (int j = 1; j < 5; j++)
        if (j != 2)
            assert_int_equal(done(&f, j), 0);
    assert_int_equal(f.s->ready, 1);
    assert_true(sched_over(f.s));
    farm_free(&f);
}

static void urgent_ones_other_classes_and_gangs_are_not_packed(void **unused)
{
    farm f = packs_of(0, 2, 4, 4);
    (void)unused;
    submit_alike(&f, "alone", PRIORITY_NORMAL, "one");
    assert_int_equal(f.s->job[0].gang, 2);
    assert_false(f.s->job[0].packed);
    done(&f, 0);
    submit_alike(&f, "u0", PRIORITY_URGENT, "one");
    submit_alike(&f, "u1", PRIORITY_URGENT, "one");
    submit_alike(&f, "u2", PRIORITY_URGENT, "one");
    assert_int_equal(state(&f, 2), JOB_QUEUED); /* the first is a gang of both slots */
    farm_free(&f);

    f = packs_of(3, 1, 4, 4);
    submit_alike(&f, "other", PRIORITY_NORMAL, "two");
    submit_alike(&f, "none", PRIORITY_NORMAL, "");
    submit_alike(&f, "urgent", PRIORITY_URGENT, "one");
    for (int j = 3; j < 6; j++)
        assert_int_equal(state(&f, j), JOB_QUEUED);
    farm_free(&f);
}

/* What comes first in the line is not overtaken by what would fit into a pack. */
static void a_pack_is_not_refilled_past_the_line(void **unused)
{
    farm f = packs_of(2, 1, 4, 4);
    (void)unused;
    submit_alike(&f, "other", PRIORITY_NORMAL, "two");
    submit_alike(&f, "same", PRIORITY_NORMAL, "one");
    assert_int_equal(state(&f, 3), JOB_QUEUED);
    done(&f, 0);
    done(&f, 1);
    assert_int_equal(state(&f, 2), JOB_ASSIGNED);
    farm_free(&f);
}

static void the_death_of_a_pack_is_nobodys_and_its_members_are_tried_alone(void **unused)
{
    farm f = packs_of(3, 1, 4, 4), again = {.s = sched_new(HOW), .log = json_array()};
    (void)unused;
    node(&f, "n1", 1);
    step(&f, (sched_event){.type = EV_SLOT, .node = 0, .slot = 0, .becomes = SLOT_WARMING, .room = 4});
    for (int j = 0; j < 3; j++)
        assert_int_equal(step(&f, (sched_event){.type = EV_FAILED, .job = j, .attempt = 1, .blame = BLAME_NODE, .retry = true,
                                                .code = FAILED_PACK, .text = "it died"}), 0);
    assert_int_equal(f.s->node[0].strikes, 0);
    warm_pack(&f, 0, 0, 4);
    assert_int_equal(on_slot(&f, 0, 0), 1);
    assert_false(f.s->job[0].packed);
    for (int j = 0; j < 3; j++) {
        assert_int_equal(f.s->job[j].failures, 0);
        assert_true(f.s->job[j].alone);
    }
    replay(again.s, f.log); /* the next coordinator knows it, too */
    for (int j = 0; j < 3; j++)
        assert_true(again.s->job[j].alone);
    farm_free(&again);
    farm_free(&f);
}

static void a_lost_node_gives_all_of_a_pack_back(void **unused)
{
    farm f = packs_of(3, 1, 4, 4);
    (void)unused;
    step(&f, (sched_event){.type = EV_NODE_LOST, .node = 0});
    for (int j = 0; j < 3; j++) {
        assert_int_equal(state(&f, j), JOB_QUEUED);
        assert_false(f.s->job[j].alone);
    }
    farm_free(&f);
}

static void a_pack_that_outlives_its_coordinator_is_taken_over(void **unused)
{
    farm f = packs_of(3, 1, 4, 4);
    int on[1] = {0};
    (void)unused;
    step(&f, (sched_event){.type = EV_NODE_LOST, .node = 0, .more = true});
    step(&f, (sched_event){.type = EV_EPOCH, .epoch = 2, .more = true});
    node(&f, "n0", 1);
    for (int j = 0; j < 3; j++)
        assert_int_equal(step(&f, (sched_event){.type = EV_ADOPT, .job = j, .attempt = 1, .gang = 1, .pack = j < 2, .on = on,
                                                .on_n = 1, .node = 1}), j < 2 ? 0 : ERR_PEER);
    assert_int_equal(on_slot(&f, 1, 0), 2);
    farm_free(&f);
}

/* ---- random farms --------------------------------------------------------------------------------------------- */

enum { FARMS = 60, STEPS = 300, JOBS = 24, NODES = 6 };

static const char *broken_law(const sched *s)
{
    int ready = 0, warming = 0, usable = 0, held[JOBS] = {0};

    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; i < s->node[n].n; i++) {
            int j = s->node[n].slot[i].job;
            if (j >= 0 && !s->node[n].name)
                return "a lost node has work";
            if (j >= 0 && s->job[j].node != n && !sched_part(s, j, s->job[j].attempt, n))
                return "a slot has a master that does not know it";
            if (j >= 0)
                held[j]++;
            for (int k = 0; k < s->node[n].slot[i].mates; k++) {
                const sched_job *mate = &s->job[s->node[n].slot[i].mate[k]];
                held[s->node[n].slot[i].mate[k]]++;
                if (j < 0 || mate->node != n || !mate->packed || !s->job[j].packed || mate->gang != 1)
                    return "a pack holds who does not belong to it";
                if (strcmp(mate->spec.alike, s->job[j].spec.alike) != 0)
                    return "a pack of two classes";
            }
            if (s->node[n].trouble == NODE_DRAINED)
                continue;
            ready += j < 0 && s->node[n].slot[i].state == SLOT_READY;
            usable += j < 0 && s->node[n].slot[i].state == SLOT_READY && node_takes(&s->node[n]);
            warming += j < 0 && s->node[n].slot[i].state == SLOT_WARMING;
        }
    if (ready != s->ready || warming != s->warming)
        return "free slots are miscounted";
    for (int j = 0; j < s->jobs; j++) {
        const sched_job *x = &s->job[j];
        int here = x->node >= 0 && !x->slotless && (x->spec.kind == JOB_MERGE || s->node[x->node].name);
        if (held[j] != here * (x->part.each > 0 ? x->part.each : x->gang) + x->part.n * x->part.each)
            return "a gang is not whole";
        if (sched_running(x) && x->spec.kind == JOB_TRAIN && x->node < 0)
            return "a training runs nowhere";
        if (x->gang & (x->gang - 1) || x->gang > x->spec.leaves)
            return "a gang of the wrong size";
        if (x->state == JOB_QUEUED && s->open && usable > 0 && s->warming == 0 && job_in_line(x))
            return "a slot is free and a training waits";
        if (sched_running(x))
            for (size_t i = 0; i < json_array_size(x->spec.needs); i++)
                if (s->job[x->needs[i]].state != JOB_DONE)
                    return "it runs before what it needs is done";
        if (x->state == JOB_HOLD && x->in_queue && job_in_line(x))
            return "what is on hold is in the line";
        if (x->failures > x->spec.retries || (x->failures == x->spec.retries && x->state == JOB_QUEUED))
            return "a poisoned concept goes on";
    }
    return NULL;
}

static sched_event any_event(const sched *s, uint64_t seed, uint32_t at, char name[8], json_t *needs, int64_t *now)
{
    static const sched_event_type type[] = {EV_SUBMIT, EV_SUBMIT, EV_DONE, EV_DONE, EV_FAILED, EV_FAILED, EV_CANCEL,
                                            EV_RELEASE, EV_EPOCH, EV_OPEN, EV_DRAIN, EV_NODE_UP, EV_NODE_LOST, EV_SLOT,
                                            EV_SLOT, EV_SLOT, EV_SLOT, EV_PROGRESS, EV_PROGRESS, EV_STOPPED, EV_TICK,
                                            EV_OPEN, EV_START, EV_SNAPSHOT, EV_END, EV_HOLD, EV_PRIORITY,
                                            EV_HALT, EV_ADOPT, EV_PART, EV_PART};
    static int on[2];
    sched_event ev = {.type = type[lot(seed, at, 0, sizeof type / sizeof type[0])]};

    *now += lot(seed, at, 1, 3000);
    ev.now_ms = *now;
    ev.job = (int)lot(seed, at, 2, JOBS + 1) - 1;
    ev.attempt = ev.job >= 0 && ev.job < s->jobs ? s->job[ev.job].attempt + (lot(seed, at, 3, 8) == 0) : 1;
    ev.node = (int)lot(seed, at, 4, NODES + 1) - 1;
    ev.slot = (int)lot(seed, at, 5, 5) - 1;
    ev.becomes = (slot_state)(lot(seed, at, 6, 6) > 2 ? SLOT_READY : lot(seed, at, 6, 6));
    ev.slots = s->nodes < NODES ? (int)lot(seed, at, 7, 5) : -1;
    snprintf(name, 8, "c%u", lot(seed, at, 8, JOBS));
    ev.name = name;
    ev.epoch = s->epoch + (lot(seed, at, 9, 40) == 0);
    ev.spec = (job_spec){.name = name, .settings = "{\"b\": 1, \"a\": 2}", .steps = lot(seed, at, 11, 9), .batch = 8};
    ev.spec.priority = (job_priority)lot(seed, at, 10, 3);
    ev.spec.leaves = 1 << lot(seed, at, 12, 4);
    ev.spec.retries = (int)lot(seed, at, 13, 4);
    for (uint32_t i = lot(seed, at, 20, 5); i > 3; i--)
        json_array_append_new(needs, json_sprintf("c%u", lot(seed, at, 21, JOBS)));
    ev.spec.needs = needs;
    ev.spec.hold = lot(seed, at, 18, 8) == 0;
    ev.spec.kind = lot(seed, at, 19, 6) == 0 ? JOB_MERGE : JOB_TRAIN;
    ev.sha256 = SHA;
    ev.blame = (job_blame)lot(seed, at, 14, BLAMES);
    ev.retry = lot(seed, at, 15, 4) > 0;
    ev.ordered = lot(seed, at, 22, 2) == 0;
    ev.priority = (job_priority)lot(seed, at, 23, 4);
    ev.spec.added = lot(seed, at, 24, 2) == 0;
    ev.spec.owner = lot(seed, at, 25, 2) ? "ana" : NULL;
    ev.spec.alike = lot(seed, at, 29, 3) ? (lot(seed, at, 30, 4) ? "one" : "two") : NULL;
    ev.room = (int)lot(seed, at, 31, 5);
    ev.pack = lot(seed, at, 32, 3) == 0;
    ev.code = lot(seed, at, 33, 4) ? "fake" : FAILED_PACK;
    on[0] = ev.slot;
    on[1] = (int)lot(seed, at, 26, 5);
    ev.on = on;
    ev.gang = 1 + (int)lot(seed, at, 27, 3);
    ev.on_n = (int)lot(seed, at, 28, 3);
    ev.text = "a random failure";
    ev.failed = lot(seed, at, 34, 3) == 0;
    ev.stopped = lot(seed, at, 34, 3) == 1;
    ev.phase = (job_state)lot(seed, at, 16, JOB_STATES);
    ev.step = lot(seed, at, 17, 5);
    return ev;
}

/* Everything, also what is not in the journal. */
static char *whole(const sched *s)
{
    json_t *o = sched_snapshot(s);
    char *text, extra[512];

    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        snprintf(extra, sizeof extra, "%d %d %d %d %lld %lld %d %d %d %d %d %s", j->node, j->gang, j->last_node, j->last_slot,
                 (long long)j->wake_ms, (long long)j->step, j->part.each, j->part.n, j->part.stopping, j->part.answered, j->part.failed,
                 j->part.code);
        json_object_set_new(json_array_get(json_object_get(o, "jobs"), (size_t)i), "moment", json_string(extra));
    }
    snprintf(extra, sizeof extra, "%d %d %d %d %d %d %d", s->nodes, s->ready, s->warming, s->open, s->merging,
             s->waiting[0], s->waiting[1]);
    json_object_set_new(o, "moment", json_string(extra));
    text = json_dumps(o, JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

static void replay(sched *s, const json_t *log)
{
    for (size_t i = 0; i < json_array_size(log); i++) {
        json_t *row = json_array_get(log, i), *owner = NULL;
        char *body = json_dumps(json_array_get(row, 1), 0);
        sched_event ev;
        err e = {0};
        int type = (int)json_integer_value(json_array_get(row, 0));
        if (sched_read_record(&ev, &owner, type, body, strlen(body), &e) != 0 || sched_replay(s, &ev, &e) != 0)
            fail_msg("record %zu (%s) does not replay: %s", i, body, e.text);
        json_decref(owner);
        free(body);
    }
}

/* The durable half, as a new coordinator would find it. */
static char *durable(farm *f, sched *s)
{
    sched_event ev = {.type = EV_EPOCH, .epoch = f->s->epoch + 1000};
    json_t *o;
    char *text;

    assert_int_equal(sched_replay(s, &ev, NULL), 0);
    o = sched_snapshot(s);
    text = json_dumps(o, JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

static void live(farm *f, uint64_t seed, int *accepted)
{
    int64_t now = 0;

    for (uint32_t at = 0; at < STEPS; at++) {
        char name[8], *before = at % 8 == 0 ? whole(f->s) : NULL, *after;
        json_t *needs = json_array();
        sched_event ev = any_event(f->s, seed, at, name, needs, &now);
        const char *law;
        int rc = step(f, ev);
        *accepted += rc == 0;
        if (rc != 0 && before) {
            after = whole(f->s);
            assert_string_equal(before, after);
            free(after);
        }
        free(before);
        json_decref(needs);
        law = broken_law(f->s);
        if (law)
            fail_msg("farm %llu, event %u (%d): %s", (unsigned long long)seed, at, (int)ev.type, law);
    }
}

static void random_events_break_no_law_and_replay_to_the_same_farm(void **unused)
{
    int accepted = 0;
    (void)unused;
    for (uint64_t seed = 1; seed <= FARMS; seed++) {
        farm f = farm_new();
        sched *again = sched_new(HOW), *from_snapshot = sched_new(HOW);
        sched_event ev = {.type = EV_SNAPSHOT};
        json_t *snapshot;
        char *a, *b, *c;
        f.s->how.pack_max = seed % 2 ? 4 : 0;
        f.s->how.gang_nodes = (int)(seed % 3);
        live(&f, seed, &accepted);
        replay(again, f.log);
        ev.snapshot = snapshot = sched_snapshot(f.s);
        assert_int_equal(sched_replay(from_snapshot, &ev, NULL), 0);
        json_decref(snapshot);
        b = durable(&f, again);
        c = durable(&f, from_snapshot);
        a = durable(&f, f.s);
        assert_string_equal(a, b);
        assert_string_equal(a, c);
        free(a);
        free(b);
        free(c);
        sched_free(again);
        sched_free(from_snapshot);
        farm_free(&f);
    }
    assert_true(accepted > FARMS * STEPS / 6);
}

/* All but what waits to be released, or for what never comes. */
static bool ended(const sched *s)
{
    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        if (j->state < JOB_DONE && !(j->state == JOB_HOLD && j->spec.hold) && !(j->state == JOB_QUEUED && j->blocked))
            return false;
    }
    return true;
}

/* From wherever random events left it, a farm with one working slot ends every job. */
static void every_accepted_job_ends(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= FARMS / 3; seed++) {
        farm f = farm_new();
        int accepted = 0, turns = 0;
        live(&f, seed, &accepted);
        for (int n = 0; n < f.s->nodes; n++)
            step(&f, (sched_event){.type = EV_NODE_LOST, .node = n});
        for (int j = 0; j < f.s->jobs; j++)
            step(&f, (sched_event){.type = EV_STOPPED, .job = j, .attempt = f.s->job[j].attempt});
        node(&f, "last", 1);
        warm(&f, f.s->nodes - 1, 0);
        step(&f, (sched_event){.type = EV_OPEN});
        for (; !sched_over(f.s) && turns < 5000; turns++) {
            int j = (int)lot(seed, STEPS + (uint32_t)turns, 0, (uint32_t)f.s->jobs);
            if (lot(seed, STEPS + (uint32_t)turns, 1, 2))
                done(&f, j);
            else
                failed(&f, j, (job_blame)lot(seed, STEPS + (uint32_t)turns, 2, BLAMES), true);
            step(&f, (sched_event){.type = EV_TICK, .now_ms = INT64_MAX / 2 + turns * INT64_C(1000000)});
        }
        assert_true(ended(f.s));
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
        cmocka_unit_test(a_gang_is_spread_only_where_it_may_and_must),
        cmocka_unit_test(nothing_is_judged_before_all_parts_have_spoken),
        cmocka_unit_test(a_part_that_fails_stops_the_others_and_says_why),
        cmocka_unit_test(a_part_that_leaves_blames_nobody),
        cmocka_unit_test(a_lost_node_ends_its_gang_on_the_others),
        cmocka_unit_test(a_result_of_several_nodes_needs_nobodys_leave),
        cmocka_unit_test(what_is_cancelled_stops_on_all_its_nodes),
        cmocka_unit_test(urgent_first_then_the_shortest),
        cmocka_unit_test(poison_is_quarantined_after_exactly_its_retries),
        cmocka_unit_test(what_can_never_work_is_not_tried_again),
        cmocka_unit_test(the_nodes_fault_is_not_the_concepts),
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
        cmocka_unit_test(a_pack_is_as_large_as_the_share_and_the_limit),
        cmocka_unit_test(who_leaves_a_pack_makes_place_for_the_next),
        cmocka_unit_test(urgent_ones_other_classes_and_gangs_are_not_packed),
        cmocka_unit_test(a_pack_is_not_refilled_past_the_line),
        cmocka_unit_test(the_death_of_a_pack_is_nobodys_and_its_members_are_tried_alone),
        cmocka_unit_test(a_lost_node_gives_all_of_a_pack_back),
        cmocka_unit_test(a_pack_that_outlives_its_coordinator_is_taken_over),
        cmocka_unit_test(random_events_break_no_law_and_replay_to_the_same_farm),
        cmocka_unit_test(every_accepted_job_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
