#include "tests/scheduler/sched_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/rng.h"

const sched_options HOW = {.gang_max = 8, .backoff_ms = 1000, .hold_ms = 2000};
const char SHA[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

static void keep_records(farm *f)
{
    for (size_t i = 0; i < f->todo.records; i++) {
        const sched_event *ev = &f->todo.record[i];
        json_array_append_new(f->log, json_pack("[i, o]", (int)ev->type, sched_write_record(ev)));
    }
}

int step(farm *f, sched_event ev)
{
    err e = {0};
    int rc = sched_step(f->s, &ev, &f->todo, &e);

    if (rc == 0)
        keep_records(f);
    return rc;
}

farm farm_new(void)
{
    farm f = {.s = sched_new(HOW), .log = json_array()};

    step(&f, (sched_event){.type = EV_EPOCH, .epoch = 1});
    return f;
}

void farm_free(farm *f)
{
    sched_free(f->s);
    sched_effects_free(&f->todo);
    json_decref(f->log);
}

int submit(farm *f, const char *name, job_priority p, int steps, int leaves)
{
    job_spec spec = {.priority = p, .name = name, .settings = "{}", .steps = steps, .batch = leaves, .leaves = leaves,
                     .retries = 3};

    return step(f, (sched_event){.type = EV_SUBMIT, .spec = spec});
}

void node(farm *f, const char *name, int slots)
{
    assert_int_equal(step(f, (sched_event){.type = EV_NODE_UP, .name = name, .slots = slots}), 0);
}

void warm(farm *f, int n, int slot)
{
    assert_int_equal(step(f, (sched_event){.type = EV_SLOT, .node = n, .slot = slot, .becomes = SLOT_READY}), 0);
}

int done(farm *f, int job)
{
    return step(f, (sched_event){.type = EV_DONE, .job = job, .attempt = f->s->job[job].attempt, .sha256 = SHA});
}

int failed(farm *f, int job, job_blame blame, bool retry)
{
    return step(f, (sched_event){.type = EV_FAILED, .job = job, .attempt = f->s->job[job].attempt, .blame = blame,
                                 .retry = retry, .text = "it broke"});
}

job_state state(const farm *f, int job) { return f->s->job[job].state; }

farm farm_of(int n, int slots)
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

void replay(sched *s, const json_t *log)
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

uint32_t lot(uint64_t farm_no, uint32_t step_no, uint64_t i, uint32_t n)
{
    return rng_below(rng_open(farm_no, "farm", step_no, 0), i, n);
}

/* ---- packs ---- */

int submit_alike(farm *f, const char *name, job_priority p, const char *alike)
{
    job_spec spec = {.priority = p, .name = name, .settings = "{}", .steps = 10, .batch = 8, .leaves = 8, .retries = 3,
                     .alike = alike};

    return step(f, (sched_event){.type = EV_SUBMIT, .spec = spec});
}

void warm_pack(farm *f, int n, int slot, int room)
{
    assert_int_equal(step(f, (sched_event){.type = EV_SLOT, .node = n, .slot = slot, .becomes = SLOT_READY, .room = room}), 0);
}

farm packs_of(int n, int slots, int pack_max, int room)
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

int on_slot(const farm *f, int n, int i) { return f->s->node[n].slot[i].job < 0 ? 0 : 1 + f->s->node[n].slot[i].mates; }
