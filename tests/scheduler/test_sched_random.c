/* The laws of the farm's mind, on random farms: whatever comes, in whatever order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

enum { FARMS = 60, STEPS = 300, JOBS = 24, NODES = 6 };

static const char *broken_law(const sched *s)
{
    int ready = 0, warming = 0, usable = 0, moving = 0, held[JOBS] = {0}, next_n[PRIORITIES] = {0}, recalls = 0;

    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; i < s->node[n].n; i++) {
            int j = s->node[n].slot[i].job;
            if (j >= 0 && !s->node[n].name)
                return "a lost node has work";
            if (j >= 0 && s->job[j].node != n && !sched_part(s, j, s->job[j].attempt, n))
                return "a slot has a master that does not know it";
            if (j >= 0)
                held[j]++;
            int next = s->node[n].slot[i].ahead;
            if (next >= 0) {
                const sched_job *x = &s->job[next];
                held[next]++;
                if (j < 0 || x->node != n || !x->ahead || x->gang != 1 || x->packed || s->job[j].packed)
                    return "somebody comes next where it cannot be";
                next_n[x->spec.priority] += !x->recalled;
                recalls += x->recalled;
            }
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
    if (memcmp(next_n, s->aheads, sizeof next_n) != 0 || recalls != s->recalls)
        return "those who come next are miscounted";
    if (ready != s->ready || warming != s->warming)
        return "free slots are miscounted";
    for (int n = 0; n < s->nodes; n++) {
        int here = 0, places = 0;
        for (int i = 0; i < s->node[n].n; i++) {
            int j = s->node[n].slot[i].job, room = s->node[n].slot[i].room;
            here += j < 0 && s->node[n].slot[i].state == SLOT_READY;
            places += j >= 0 && s->node[n].slot[i].state == SLOT_READY && s->job[j].packed &&
                      s->node[n].slot[i].mates + 1 < (s->how.pack_max < room ? s->how.pack_max : room);
        }
        if (here != s->node[n].ready || places != s->node[n].places)
            return "a node's free slots are miscounted";
    }
    for (int j = 0; j < s->jobs; j++)
        moving += s->job[j].moving;
    if (moving != s->moving)
        return "what moves is miscounted";
    for (int j = 0; j < s->jobs; j++) {
        const sched_job *x = &s->job[j];
        int here = x->node >= 0 && !x->slotless && (x->spec.kind == JOB_MERGE || s->node[x->node].name);
        if (held[j] != here * (x->part.each > 0 ? x->part.each : x->gang) + (x->part.n - x->part.bare) * x->part.each)
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
                                            EV_HALT, EV_ADOPT, EV_PART, EV_PART, EV_AWAIT};
    static int on[2], nodes[2];
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
    ev.ahead = lot(seed, at, 35, 3) == 0;
    nodes[0] = ev.node;
    nodes[1] = (int)lot(seed, at, 37, NODES + 1) - 1;
    ev.at = lot(seed, at, 38, 3) == 0 ? nodes : NULL;
    ev.step_seconds = lot(seed, at, 36, 3) ? 0.1 : 10;
    ev.code = lot(seed, at, 33, 4) ? "fake" : FAILED_PACK;
    on[0] = ev.slot;
    on[1] = (int)lot(seed, at, 26, 6) - 1;
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
        snprintf(extra, sizeof extra, "%d %d %d %d %lld %lld %d %d %d %d %d %d %s", j->node, j->gang, j->last_node, j->last_slot,
                 (long long)j->wake_ms, (long long)j->step, j->part.each, j->part.n, j->part.bare, j->part.stopping, j->part.answered, j->part.failed,
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
        f.s->how.moves = seed % 3 != 0;
        f.s->how.ahead_ms = seed % 4 ? 1000 : 0;
        f.s->how.gang_max = seed % 5 ? 8 : 1;
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
        cmocka_unit_test(random_events_break_no_law_and_replay_to_the_same_farm),
        cmocka_unit_test(every_accepted_job_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
