/* The laws of the farm's mind where one training has several slots, on several nodes, and where several share one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

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

/* Its nodes have come back as 2 and 3, with their slots at work. */
static farm outlived(void)
{
    farm f = spread_of(2, PAIR, 2);

    assert_int_equal(step(&f, (sched_event){.type = EV_DRAIN}), 0);
    assert_int_equal(step(&f, (sched_event){.type = EV_EPOCH, .epoch = 2}), 0);
    for (int n = 0; n < 2; n++) {
        assert_int_equal(step(&f, (sched_event){.type = EV_NODE_LOST, .node = n}), 0);
        node(&f, "n", 1);
    }
    assert_int_equal(step(&f, (sched_event){.type = EV_AWAIT, .job = 0, .attempt = 1, .now_ms = 1000}), 0);
    assert_int_equal(step(&f, (sched_event){.type = EV_OPEN}), 0);
    node(&f, "other", 1);
    warm(&f, 4, 0);
    assert_int_equal(state(&f, 0), JOB_RETRY_WAIT); /* a slot is free, and it does not take it */
    return f;
}

static void a_gang_over_two_nodes_is_taken_over_when_both_have_come_back(void **unused)
{
    static const int on[] = {0, 0}, at[] = {2, 3}, one[] = {2, 2};
    sched_event ev = {.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 2, .node = 2, .on = on, .on_n = 2, .at = at, .now_ms = 2000};
    farm f = outlived();
    (void)unused;
    ev.at = one;
    assert_int_equal(step(&f, ev), ERR_PEER);
    ev.at = at;
    assert_int_equal(step(&f, ev), 0);
    assert_int_equal(f.s->job[0].gang, 2);
    assert_int_equal(f.s->node[2].slot[0].job, 0);
    assert_int_equal(f.s->node[3].slot[0].job, 0);
    assert_int_equal(part(&f, 3, false, BLAME_NODE, NULL), 0);
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(state(&f, 0), JOB_DONE);
    farm_free(&f);
}

/* -1: that node's part has ended, and has given its slot back. */
static farm taken_over(int first, int second)
{
    const int on[] = {first, second}, at[] = {2, 3};
    farm f = outlived();

    assert_int_equal(step(&f, (sched_event){.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 2, .node = 2, .on = on, .on_n = 2, .at = at,
                                            .now_ms = 2000}), 0);
    for (int n = 0; n < 2; n++)
        assert_int_equal(f.s->node[2 + n].slot[0].job, on[n] < 0 ? -1 : 0);
    assert_true(node_busy(f.s, 2) && node_busy(f.s, 3));
    assert_true(f.s->next_wake_ms == INT64_MAX); /* nobody waits for the clock any more */
    return f;
}

static void a_part_that_has_ended_is_taken_over_without_its_slots(void **unused)
{
    static const int on[] = {-1};
    farm f = taken_over(0, -1);
    (void)unused;
    assert_int_equal(part(&f, 3, false, BLAME_NODE, NULL), 0);
    assert_false(node_busy(f.s, 3));
    assert_int_equal(done(&f, 0), 0);
    assert_int_equal(state(&f, 0), JOB_DONE);
    farm_free(&f);
    f = taken_over(-1, -1);
    assert_int_equal(done(&f, 0), 0); /* the result needs nobody's leave */
    assert_int_equal(part(&f, 3, false, BLAME_NODE, NULL), 0);
    assert_int_equal(state(&f, 0), JOB_DONE);
    farm_free(&f);
    f = outlived(); /* alone it is no part */
    assert_int_equal(step(&f, (sched_event){.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 1, .node = 2, .on = on, .on_n = 1}), ERR_PEER);
    farm_free(&f);
}

static void a_part_that_has_failed_meanwhile_ends_its_gang(void **unused)
{
    farm f = taken_over(0, -1);
    (void)unused;
    assert_int_equal(part(&f, 3, true, BLAME_JOB, "signal"), 0);
    assert_int_equal(stops(&f, 2), 1);
    assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
    assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
    assert_int_equal(f.s->job[0].failures, 1);
    farm_free(&f);
    f = taken_over(-1, 0); /* the first one, which held nothing any more */
    assert_int_equal(lead_failed(&f, BLAME_NODE, FAILED_GANG), 0);
    assert_int_equal(stops(&f, 3), 1);
    assert_int_equal(part(&f, 3, true, BLAME_JOB, "signal"), 0);
    assert_int_equal(f.s->job[0].failures, 1);
    assert_int_equal(f.s->node[3].slot[0].job, -1);
    farm_free(&f);
}

static void an_answer_that_will_not_come_is_a_lost_part(void **unused)
{
    (void)unused;
    for (int lost = 2; lost <= 3; lost++) {
        farm f = taken_over(lost == 2 ? -1 : 0, lost == 3 ? -1 : 0);
        assert_int_equal(step(&f, (sched_event){.type = EV_NODE_LOST, .node = lost}), 0);
        assert_int_equal(stops(&f, 5 - lost), 1);
        if (lost == 3)
            assert_int_equal(step(&f, (sched_event){.type = EV_STOPPED, .job = 0, .attempt = 1}), 0);
        else
            assert_int_equal(step(&f, (sched_event){.type = EV_PART, .job = 0, .attempt = 1, .node = 3, .stopped = true}), 0);
        assert_int_equal(f.s->job[0].mishaps, 1);
        assert_int_equal(state(&f, 0), JOB_ASSIGNED);
        assert_int_equal(f.s->job[0].attempt, 2);
        farm_free(&f);
    }
}

static void a_gang_that_is_waited_for_in_vain_begins_again(void **unused)
{
    static const int on[] = {0, 0}, at[] = {2, 3};
    farm f = outlived();
    (void)unused;
    warm(&f, 2, 0); /* the part there was given up */
    assert_int_equal(state(&f, 0), JOB_RETRY_WAIT);
    warm(&f, 3, 0);
    step(&f, (sched_event){.type = EV_TICK, .now_ms = 7000});
    assert_int_equal(state(&f, 0), JOB_ASSIGNED);
    assert_int_equal(f.s->job[0].attempt, 2);
    assert_int_equal(f.s->job[0].failures + f.s->job[0].mishaps, 0);
    assert_int_equal(step(&f, (sched_event){.type = EV_ADOPT, .job = 0, .attempt = 1, .gang = 2, .node = 2, .on = on, .on_n = 2, .at = at,
                                            .now_ms = 8000}), ERR_PEER);
    farm_free(&f);
}

/* ---- packs ---------------------------------------------------------------------------------------------------- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gang_is_spread_only_where_it_may_and_must),
        cmocka_unit_test(nothing_is_judged_before_all_parts_have_spoken),
        cmocka_unit_test(a_part_that_fails_stops_the_others_and_says_why),
        cmocka_unit_test(a_part_that_leaves_blames_nobody),
        cmocka_unit_test(a_lost_node_ends_its_gang_on_the_others),
        cmocka_unit_test(a_gang_over_two_nodes_is_taken_over_when_both_have_come_back),
        cmocka_unit_test(a_part_that_has_ended_is_taken_over_without_its_slots),
        cmocka_unit_test(a_part_that_has_failed_meanwhile_ends_its_gang),
        cmocka_unit_test(an_answer_that_will_not_come_is_a_lost_part),
        cmocka_unit_test(a_gang_that_is_waited_for_in_vain_begins_again),
        cmocka_unit_test(a_result_of_several_nodes_needs_nobodys_leave),
        cmocka_unit_test(what_is_cancelled_stops_on_all_its_nodes),
        cmocka_unit_test(a_pack_is_as_large_as_the_share_and_the_limit),
        cmocka_unit_test(who_leaves_a_pack_makes_place_for_the_next),
        cmocka_unit_test(urgent_ones_other_classes_and_gangs_are_not_packed),
        cmocka_unit_test(a_pack_is_not_refilled_past_the_line),
        cmocka_unit_test(the_death_of_a_pack_is_nobodys_and_its_members_are_tried_alone),
        cmocka_unit_test(a_lost_node_gives_all_of_a_pack_back),
        cmocka_unit_test(a_pack_that_outlives_its_coordinator_is_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
