/* The journal read by an outsider. The rules of records are written here a second time and by other means than in
 * job.c, so that a mistake there shows: both readings must come to the same farm.
 *
 * An attempt is open from its START or ADOPT to its answer (DONE, FAILED); one that was stopped without blame has no
 * answer in the journal. A slot is surely held while an attempt is open that has an answer of this epoch: who else was
 * given the slot meanwhile shared it, and may only as one of a pack. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/audit.h"
#include "scheduler/journal.h"
#include "scheduler/look.h"

int audit_find(const audit_past *p, const char *name)
{
    const json_t *at = json_object_get(p->by_name, name);

    return at ? (int)json_integer_value(at) : -1;
}

static void forget_job(audit_job *j)
{
    free(j->name);
    free(j->alike);
    free(j->settings);
    free(j->why);
    json_decref(j->needs);
}

void audit_past_free(audit_past *p)
{
    for (int i = 0; i < p->jobs; i++)
        forget_job(&p->job[i]);
    for (int i = 0; i < p->places; i++)
        free(p->place[i].hold);
    for (int i = 0; i < p->nodes; i++)
        free(p->node[i]);
    json_decref(p->by_name);
    free(p->job);
    free(p->hold);
    free(p->place);
    free(p->node);
    *p = (audit_past){0};
}

/* ---- slots ---------------------------------------------------------------------------------------------------- */

static audit_place *place_of(audit_past *p, int node, int slot)
{
    int at = node * SLOTS_MOST + slot, want = (node + 1) * SLOTS_MOST;

    if (want > p->places) {
        p->place = mem_grow(p->place, (size_t)want, sizeof *p->place);
        memset(p->place + p->places, 0, (size_t)(want - p->places) * sizeof *p->place);
        p->places = want;
    }
    return &p->place[at];
}

static const char *node_name(const audit_past *p, int node)
{
    return node >= 0 && node < p->nodes && p->node[node] ? p->node[node] : "?";
}

static void name_node(audit_past *p, int node, const char *name)
{
    while (p->nodes <= node) {
        p->node = mem_grow(p->node, (size_t)p->nodes + 1, sizeof *p->node);
        p->node[p->nodes++] = NULL;
    }
    free(p->node[node]);
    p->node[node] = mem_text(name);
}

static bool share(const audit_past *p, const audit_hold *a, const audit_hold *b)
{
    const char *x = p->job[a->job].alike, *y = p->job[b->job].alike;

    return a->pack && b->pack && x[0] && strcmp(x, y) == 0;
}

/* Whoever is there yet, and is none of its pack, has either ended without a word or shares it: his answer will tell. */
static void move_in(audit_past *p, int hold)
{
    audit_hold *h = &p->hold[hold];
    audit_place *at = place_of(p, h->node, h->slot);
    int kept = 0;

    for (int i = 0; i < at->n; i++) {
        audit_hold *other = &p->hold[at->hold[i]];
        if (!other->over && !h->ahead && !share(p, other, h))
            other->by = hold;
        if (!other->over && other->by < 0)
            at->hold[kept++] = at->hold[i];
    }
    at->hold = mem_grow(at->hold, (size_t)kept + 1, sizeof *at->hold);
    at->hold[kept] = hold;
    at->n = kept + 1;
}

/* slots: [[node, slot]] of each rank. Of a gang over several nodes only the first one's are surely held to the end. */
static void take_slots(audit *a, const sched_event *ev, const json_t *slots, int64_t now)
{
    audit_past *p = &a->past;
    audit_job *j = &p->job[ev->job];
    int first = -1;

    j->last_hold = -1;
    for (size_t r = json_array_size(slots); r-- > 0;) {
        const json_t *pair = json_array_get(slots, r);
        int node = (int)json_integer_value(json_array_get(pair, 0)),
            slot = (int)json_integer_value(json_array_get(pair, 1));
        if (node < 0 || slot < 0 || slot >= SLOTS_MOST || node > 1 << 20) {
            audit_breach(a, LAW_SLOTS, "%s attempt %d: slot %d of node %d is none", j->name, ev->attempt, slot, node);
            continue;
        }
        p->hold = mem_grow(p->hold, (size_t)p->holds + 1, sizeof *p->hold);
        p->hold[p->holds] = (audit_hold){.job = ev->job,
                                         .attempt = ev->attempt,
                                         .node = node,
                                         .slot = slot,
                                         .next = j->last_hold,
                                         .pack = ev->pack,
                                         .ahead = ev->ahead,
                                         .by = -1,
                                         .from = now};
        j->last_hold = p->holds++;
        first = node;
    }
    if (first >= 0)
        name_node(p, first, ev->name);
    for (int i = j->last_hold; i >= 0; i = p->hold[i].next) {
        p->hold[i].sure = p->hold[i].node == first;
        move_in(p, i);
    }
}

/* Who was to come next on this slot has it now. */
static void follow(audit_past *p, const audit_hold *h, int64_t now)
{
    const audit_place *at = place_of(p, h->node, h->slot);

    for (int i = 0; i < at->n; i++)
        if (p->hold[at->hold[i]].ahead && !p->hold[at->hold[i]].over) {
            p->hold[at->hold[i]].ahead = false;
            p->hold[at->hold[i]].from = now;
        }
}

static void give_slots(audit *a, audit_job *j, int64_t now)
{
    audit_past *p = &a->past;

    for (int i = j->last_hold; i >= 0; i = p->hold[i].next) {
        audit_hold *h = &p->hold[i];
        h->over = true;
        follow(p, h, now);
        if (h->sure && !h->pack && now > h->from)
            p->worked += (double)(now - h->from) * 1e-3;
        if (h->by < 0 || !h->sure)
            continue;
        const audit_hold *other = &p->hold[h->by];
        audit_breach(a, LAW_SLOTS,
                     "slot %d of node %s was given to %s attempt %d while %s attempt %d had it: that one answered "
                     "later",
                     h->slot, node_name(p, h->node), p->job[other->job].name, other->attempt, j->name, h->attempt);
    }
    j->last_hold = -1;
}

/* ---- jobs ----------------------------------------------------------------------------------------------------- */

/* What a command has decided about holding it stands against other settings. */
static void describe(audit_job *j, const job_spec *spec)
{
    free(j->alike);
    free(j->settings);
    json_decref(j->needs);
    j->merge = spec->kind == JOB_MERGE;
    j->alike = mem_text(spec->alike ? spec->alike : "");
    j->settings = mem_text(spec->settings);
    j->needs = json_deep_copy(spec->needs);
    j->hold = j->hold_ordered ? j->hold : spec->hold;
    j->state = j->hold ? JOB_HOLD : JOB_QUEUED;
    j->open = j->wanted = false;
}

static int new_job(audit_past *p, const char *name)
{
    p->job = mem_grow(p->job, (size_t)p->jobs + 1, sizeof *p->job);
    p->job[p->jobs] = (audit_job){.name = mem_text(name), .last_hold = -1};
    json_object_set_new(p->by_name, name, json_integer(p->jobs));
    return p->jobs++;
}

static void submitted(audit *a, const sched_event *ev)
{
    int at = audit_find(&a->past, ev->spec.name);

    if (at < 0)
        at = new_job(&a->past, ev->spec.name);
    else if (a->past.job[at].state == JOB_DONE)
        audit_breach(a, LAW_ONCE, "%s was done, and its settings changed afterwards (record %lld)", ev->spec.name,
                     (long long)a->past.records);
    describe(&a->past.job[at], &ev->spec);
}

static void check_needs(audit *a, const audit_job *j)
{
    for (size_t i = 0; i < json_array_size(j->needs); i++) {
        const char *name = json_string_value(json_array_get(j->needs, i));
        int at = name ? audit_find(&a->past, name) : -1;
        if (at < 0 || a->past.job[at].state != JOB_DONE)
            audit_breach(a, LAW_ONCE, "%s was started before %s, which it needs, was done", j->name,
                         name ? name : "a nameless one");
    }
}

static void started(audit *a, const sched_event *ev, const json_t *slots, int64_t now)
{
    audit_job *j = &a->past.job[ev->job];

    if (ev->type == EV_START && ev->attempt != j->attempt + 1)
        audit_breach(a, LAW_ONCE, "%s: attempt %d was started after attempt %d", j->name, ev->attempt, j->attempt);
    if (ev->type == EV_ADOPT && ev->attempt != j->attempt)
        audit_breach(a, LAW_ONCE, "%s: attempt %d was taken over; attempt %d was the last", j->name, ev->attempt,
                     j->attempt);
    if (j->state == JOB_DONE)
        audit_breach(a, LAW_ONCE, "%s was done, and was started again as attempt %d", j->name, ev->attempt);
    check_needs(a, j);
    j->attempt = ev->attempt;
    j->open = j->wanted = true;
    a->past.starts += !j->merge;
    a->past.told += json_array_size(slots) > 0;
    take_slots(a, ev, slots, now);
}

/* Every attempt answers once. */
static bool answers(audit *a, const sched_event *ev, const char *word)
{
    audit_job *j = &a->past.job[ev->job];
    bool due = j->open && ev->attempt == j->attempt;

    if (!due)
        audit_breach(a, LAW_ONCE, "%s: attempt %d is said to have %s, and it was not under way (record %lld)", j->name,
                     ev->attempt, word, (long long)a->past.records);
    return due;
}

static void ended_well(audit *a, const sched_event *ev, int64_t now)
{
    audit_job *j = &a->past.job[ev->job];

    if (++j->dones > 1)
        audit_breach(a, LAW_ONCE, "%s was done %d times (record %lld)", j->name, j->dones, (long long)a->past.records);
    answers(a, ev, "ended well");
    give_slots(a, j, now);
    str_copy(j->sha256, sizeof j->sha256, ev->sha256);
    j->bytes = ev->bytes;
    j->state = JOB_DONE;
    j->open = j->wanted = false;
}

static void failed(audit *a, const sched_event *ev, int64_t now)
{
    audit_job *j = &a->past.job[ev->job];

    if (!answers(a, ev, "failed"))
        return;
    give_slots(a, j, now);
    j->open = false;
    if (!j->wanted)
        return;
    j->wanted = false;
    free(j->why);
    j->why = mem_text(ev->text);
    j->state = ev->verdict == VERDICT_QUARANTINE ? JOB_QUARANTINED
               : ev->verdict == VERDICT_REJECT   ? JOB_REJECTED
                                                 : JOB_QUEUED;
}

static void decided(audit *a, const sched_event *ev)
{
    audit_job *j = &a->past.job[ev->job];

    j->ordered[ev->type] += ev->type == EV_HOLD || ev->type == EV_PRIORITY || ev->ordered;
    if (ev->type == EV_PRIORITY)
        return;
    if (j->state == JOB_DONE)
        audit_breach(a, LAW_ONCE, "%s was done, and was cancelled, held or released afterwards (record %lld)", j->name,
                     (long long)a->past.records);
    j->hold_ordered |= ev->type == EV_HOLD || (ev->type == EV_RELEASE && ev->ordered && j->hold);
    j->hold = ev->type == EV_HOLD || (ev->type == EV_CANCEL && j->hold);
    j->state = ev->type == EV_CANCEL ? JOB_CANCELLED : ev->type == EV_HOLD ? JOB_HOLD : JOB_QUEUED;
    j->wanted = false;
    j->open &= ev->type != EV_RELEASE;
}

/* What was under way is queued again, unless it is taken over. Its slots are gone with its nodes. */
static void begin_epoch(audit *a, const sched_event *ev, int64_t now)
{
    audit_past *p = &a->past;

    for (int i = 0; i < p->jobs; i++) {
        p->job[i].open = p->job[i].wanted = false;
        p->job[i].last_hold = -1;
    }
    for (int i = 0; i < p->places; i++)
        p->place[i].n = 0;
    for (int i = 0; i < p->nodes; i++) {
        free(p->node[i]);
        p->node[i] = NULL;
    }
    if (ev->epoch <= p->epoch)
        audit_breach(a, LAW_JOURNAL, "epoch %lld begins after epoch %lld", (long long)ev->epoch, (long long)p->epoch);
    p->epoch = ev->epoch;
    p->epoch_ms = now;
    p->worked = 0;
}

/* All that was before in one record; how often a concept was done before is not in it. */
static int restate(audit *a, json_t *snapshot, err *e)
{
    json_t *list = json_object_get(snapshot, "jobs"), *o;
    int64_t attempt, ordered;
    size_t i;

    a->past.restated = true;
    TRY(json_get_int(snapshot, "epoch", 0, INT64_MAX, &a->past.epoch, e));
    json_array_foreach(list, i, o)
    {
        job_spec spec = {0};
        const char *state, *why, *sha;
        TRY(sched_read_spec(&spec, o, e));
        audit_job *j = &a->past.job[new_job(&a->past, spec.name)];
        describe(j, &spec);
        TRY(json_get_text(o, "state", &state, e));
        TRY(json_opt_text(o, "why", NULL, &why, e));
        TRY(json_opt_text(o, "sha256", "", &sha, e));
        TRY(json_opt_int(o, "bytes", 0, INT64_MAX, 0, &j->bytes, e));
        TRY(json_opt_int(o, "ordered", 0, INT32_MAX, 0, &ordered, e));
        TRY(json_get_int(o, "attempt", 0, INT32_MAX, &attempt, e));
        int found = job_state_find(state);
        j->state = found >= JOB_DONE || (found == JOB_HOLD && spec.hold) ? (job_state)found : JOB_QUEUED;
        j->attempt = (int)attempt;
        j->hold_ordered = (ordered & ORDERED_HOLD) != 0;
        j->why = mem_text(why);
        j->dones = j->state == JOB_DONE;
        j->open = j->wanted = found >= JOB_ASSIGNED && found <= JOB_PUBLISHING;
        str_copy(j->sha256, sizeof j->sha256, sha);
    }
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static bool known(audit *a, const sched_event *ev)
{
    if (ev->type == EV_EPOCH || ev->type == EV_SUBMIT || ev->type == EV_SNAPSHOT ||
        (ev->job >= 0 && ev->job < a->past.jobs))
        return true;
    audit_breach(a, LAW_JOURNAL, "record %lld is about job %d, which was never submitted", (long long)a->past.records,
                 ev->job);
    return false;
}

static int witness(audit *a, sched_event *ev, json_t *o, err *e)
{
    int64_t now = look_wall_ms(json_string_value(json_object_get(o, "at")));

    a->past.records++;
    a->past.first_ms = a->past.first_ms ? a->past.first_ms : now;
    if (!known(a, ev))
        return 0;
    ev->pack = json_is_true(json_object_get(o, "pack"));
    ev->ahead = json_is_true(json_object_get(o, "ahead"));
    switch ((int)ev->type) {
    case EV_EPOCH: begin_epoch(a, ev, now); break;
    case EV_SUBMIT: submitted(a, ev); break;
    case EV_START:
    case EV_ADOPT: started(a, ev, json_object_get(o, "slots"), now); break;
    case EV_DONE: ended_well(a, ev, now); break;
    case EV_FAILED: failed(a, ev, now); break;
    case EV_SNAPSHOT: return restate(a, o, e);
    default: decided(a, ev); break;
    }
    return 0;
}

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    audit *a = arg;
    json_t *o = NULL;
    sched_event ev;
    err why = {0};

    TRY(sched_read_record(&ev, &o, type, body, n, e));
    if (a->mind && sched_replay(a->mind, &ev, &why) != 0) {
        audit_breach(a, LAW_JOURNAL, "record %lld: no farm can have written it: %s", (long long)a->past.records + 1,
                     why.text);
        sched_free(a->mind);
        a->mind = NULL;
    }
    int rc = witness(a, &ev, o, e);
    json_decref(o);
    return rc;
}

/* ---- the two readings ----------------------------------------------------------------------------------------- */

static job_state plain(const sched_job *j)
{
    return j->state >= JOB_DONE || (j->state == JOB_HOLD && j->spec.hold) ? j->state : JOB_QUEUED;
}

static void compare(audit *a)
{
    if (a->mind->jobs != a->past.jobs)
        audit_breach(a, LAW_JOURNAL, "the farm reads %d jobs in it; there are %d", a->mind->jobs, a->past.jobs);
    for (int i = 0; i < a->mind->jobs && i < a->past.jobs; i++) {
        const sched_job *own = &a->mind->job[i];
        const audit_job *j = &a->past.job[i];
        if (plain(own) != j->state || own->attempt != j->attempt)
            audit_breach(a, LAW_JOURNAL,
                         "%s: the farm takes it to be %s after attempt %d; its records say %s after attempt %d",
                         j->name, job_state_name(own->state), own->attempt, job_state_name(j->state), j->attempt);
    }
}

bool audit_journal(audit *a)
{
    char path[FS_PATH];
    journal *j = NULL;
    err e = {0};

    a->past.by_name = json_object();
    a->mind = sched_new((sched_options){.gang_max = 1});
    int rc = fs_join(path, a->dir, "journal", &e);
    if (rc == 0)
        rc = journal_open(&j, path, on_record, a, &e);
    if (rc != 0)
        audit_breach(a, LAW_JOURNAL, "%s", e.text);
    else if (journal_warning(j))
        audit_remark(a, "%s", journal_warning(j));
    journal_close(j);
    if (rc == 0 && a->mind)
        compare(a);
    a->law[LAW_JOURNAL].asked = true;
    a->law[LAW_ONCE].asked = a->law[LAW_SLOTS].asked = rc == 0;
    a->law[LAW_JOURNAL].looked = a->past.records;
    a->law[LAW_SLOTS].looked = a->past.told;
    if (rc == 0 && a->past.told < a->past.starts)
        audit_remark(a, "%lld of %lld starts do not say on which slots: an earlier version wrote them",
                     (long long)(a->past.starts - a->past.told), (long long)a->past.starts);
    return rc == 0;
}
