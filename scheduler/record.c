/* Durable events as JSON bodies of journal records, and the whole farm as one such body. The keys are part of the
 * journal's format (README.md): readers accept every version ever written, and ignore keys they do not know. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/sched_impl.h"

static const char *const state_names[JOB_STATES] = {
    "queued", "assigned", "loading", "training", "publishing", "retry-wait", "hold",
    "done", "quarantined", "rejected", "cancelled"};
static const char *const kind_names[JOB_KINDS] = {"train", "merge"};
static const char *const priority_names[PRIORITIES] = {"urgent", "normal", "background"};
static const char *const blame_names[BLAMES] = {"job", "gpu", "node", "store", "settings"};
static const char *const verdict_names[VERDICTS] = {"none", "retry", "hold", "quarantine", "reject"};

const char *job_state_name(job_state s) { return state_names[s]; }
const char *job_kind_name(job_kind k) { return kind_names[k]; }
const char *job_priority_name(job_priority p) { return priority_names[p]; }
const char *job_blame_name(job_blame b) { return blame_names[b]; }

static int find(const char *const names[], int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], word) == 0)
            return i;
    return -1;
}

int job_blame_find(const char *word) { return find(blame_names, BLAMES, word); }
int job_state_find(const char *word) { return find(state_names, JOB_STATES, word); }
int job_priority_find(const char *word) { return find(priority_names, PRIORITIES, word); }

/* ---- writing -------------------------------------------------------------------------------------------------- */

json_t *sched_write_spec(const job_spec *p)
{
    json_t *settings = json_loads(p->settings, 0, NULL);
    json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:i, s:i}", "kind", kind_names[p->kind], "name", p->name,
                          "priority", priority_names[p->priority], "settings", settings, "steps", (json_int_t)p->steps,
                          "batch", (json_int_t)p->batch, "leaves", p->leaves, "retries", p->retries);

    if (json_array_size(p->needs) > 0)
        json_object_set_new(o, "needs", json_deep_copy(p->needs));
    if (p->hold)
        json_object_set_new(o, "hold", json_true());
    if (p->owner && *p->owner)
        json_object_set_new(o, "owner", json_string(p->owner));
    if (p->added)
        json_object_set_new(o, "added", json_true());
    if (p->alike && *p->alike)
        json_object_set_new(o, "alike", json_string(p->alike));
    return o;
}

json_t *sched_write_record(const sched_event *ev)
{
    switch (ev->type) {
    case EV_EPOCH:
        return json_pack("{s:I, s:s}", "epoch", (json_int_t)ev->epoch, "by", ev->name ? ev->name : "");
    case EV_SUBMIT:
        return sched_write_spec(&ev->spec);
    case EV_START:
    case EV_ADOPT:
        return json_pack("{s:i, s:i, s:i, s:s}", "job", ev->job, "attempt", ev->attempt, "gang", ev->gang, "node",
                         ev->name ? ev->name : "");
    case EV_DONE:
        return json_pack("{s:i, s:i, s:s, s:I, s:f}", "job", ev->job, "attempt", ev->attempt, "sha256", ev->sha256,
                         "bytes", (json_int_t)ev->bytes, "seconds", ev->seconds);
    case EV_FAILED:
        return json_pack("{s:i, s:i, s:s, s:b, s:s, s:s, s:s, s:I, s:I, s:i}", "job", ev->job, "attempt", ev->attempt, "blame",
                         blame_names[ev->blame], "retry", ev->retry, "verdict", verdict_names[ev->verdict], "code",
                         ev->code ? ev->code : "", "text", ev->text ? ev->text : "", "step", (json_int_t)ev->step, "wait",
                         (json_int_t)ev->wait_ms, "mishaps", ev->mishaps);
    case EV_CANCEL:
    case EV_RELEASE:
        return ev->ordered ? json_pack("{s:i, s:b}", "job", ev->job, "ordered", 1) : json_pack("{s:i}", "job", ev->job);
    case EV_HOLD:
        return json_pack("{s:i}", "job", ev->job);
    case EV_PRIORITY:
        return json_pack("{s:i, s:s}", "job", ev->job, "priority", priority_names[ev->priority]);
    case EV_SNAPSHOT:
        return json_deep_copy(ev->snapshot);
    default:
        err_bug(__FILE__, __LINE__, "a record of a kind the journal does not keep");
    }
}

static json_t *job_json(const sched_job *j)
{
    json_t *o = sched_write_spec(&j->spec);

    json_object_set_new(o, "state", json_string(state_names[j->state]));
    json_object_set_new(o, "attempt", json_integer(j->attempt));
    json_object_set_new(o, "failures", json_integer(j->failures));
    json_object_set_new(o, "mishaps", json_integer(j->mishaps));
    if (j->far)
        json_object_set_new(o, "far", json_integer(j->far));
    if (j->why)
        json_object_set_new(o, "why", json_string(j->why));
    if (j->alone)
        json_object_set_new(o, "alone", json_true());
    if (j->ordered)
        json_object_set_new(o, "ordered", json_integer(j->ordered));
    if (j->state == JOB_DONE) {
        json_object_set_new(o, "sha256", json_string(j->sha256));
        json_object_set_new(o, "bytes", json_integer(j->bytes));
        json_object_set_new(o, "seconds", json_real(j->seconds));
    }
    return o;
}

json_t *sched_snapshot(const sched *s)
{
    json_t *jobs = json_array();

    for (int i = 0; i < s->jobs; i++)
        json_array_append_new(jobs, job_json(&s->job[i]));
    return json_pack("{s:I, s:o}", "epoch", (json_int_t)s->epoch, "jobs", jobs);
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static int get_word(const json_t *o, const char *key, const char *const names[], int n, int *out, err *e)
{
    const char *word;

    TRY(json_get_text(o, key, &word, e));
    *out = find(names, n, word);
    return *out >= 0 ? 0 : err_set(e, ERR_INPUT, "%s: %s is none of the known words", key, word);
}

static int get_number(const json_t *o, const char *key, int64_t most, int *out, err *e)
{
    int64_t v;

    TRY(json_get_int(o, key, 0, most, &v, e));
    *out = (int)v;
    return 0;
}

/* The canonical text of the settings is kept in the object itself, so that it lives as long as the rest. */
static int read_settings(json_t *o, const char **out, err *e)
{
    const json_t *settings = json_object_get(o, "settings");
    char *text;

    if (!json_is_object(settings))
        return err_set(e, ERR_INPUT, "settings: missing, or no object");
    text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    json_object_set_new(o, "settings text", json_string(text));
    free(text);
    *out = json_string_value(json_object_get(o, "settings text"));
    return 0;
}

int sched_read_spec(job_spec *p, json_t *o, err *e)
{
    int kind, priority;

    TRY(get_word(o, "kind", kind_names, JOB_KINDS, &kind, e));
    TRY(get_word(o, "priority", priority_names, PRIORITIES, &priority, e));
    p->kind = (job_kind)kind;
    p->priority = (job_priority)priority;
    TRY(json_get_text(o, "name", &p->name, e));
    TRY(read_settings(o, &p->settings, e));
    TRY(json_get_int(o, "steps", 0, INT32_MAX, &p->steps, e));
    TRY(json_get_int(o, "batch", 0, INT32_MAX, &p->batch, e));
    TRY(get_number(o, "leaves", 1 << 20, &p->leaves, e));
    TRY(get_number(o, "retries", INT32_MAX, &p->retries, e));
    TRY(json_opt_bool(o, "hold", false, &p->hold, e));
    TRY(json_opt_text(o, "owner", "", &p->owner, e));
    TRY(json_opt_bool(o, "added", false, &p->added, e));
    TRY(json_opt_text(o, "alike", "", &p->alike, e));
    p->needs = json_object_get(o, "needs");
    if (p->needs && !json_is_array(p->needs))
        return err_set(e, ERR_INPUT, "needs: no list");
    return 0;
}

static int read_attempt(const json_t *o, sched_event *ev, err *e)
{
    TRY(get_number(o, "job", INT32_MAX, &ev->job, e));
    return get_number(o, "attempt", INT32_MAX, &ev->attempt, e);
}

/* Of an earlier version, without wait and mishaps: who failed by no fault of his own was back in the line at once. */
static int read_failed(const json_t *o, sched_event *ev, err *e)
{
    int64_t mishaps;
    int blame, verdict;

    TRY(read_attempt(o, ev, e));
    TRY(get_word(o, "blame", blame_names, BLAMES, &blame, e));
    TRY(get_word(o, "verdict", verdict_names, VERDICTS, &verdict, e));
    ev->blame = (job_blame)blame;
    ev->verdict = (job_verdict)verdict;
    TRY(json_opt_bool(o, "retry", true, &ev->retry, e));
    TRY(json_opt_text(o, "code", "", &ev->code, e));
    TRY(json_opt_text(o, "text", "", &ev->text, e));
    TRY(json_opt_int(o, "step", 0, INT64_MAX, 0, &ev->step, e));
    TRY(json_opt_int(o, "wait", 0, INT64_MAX, 0, &ev->wait_ms, e));
    TRY(json_opt_int(o, "mishaps", 0, INT32_MAX, 0, &mishaps, e));
    ev->mishaps = (int)mishaps;
    return 0;
}

static int read_done(const json_t *o, sched_event *ev, err *e)
{
    TRY(read_attempt(o, ev, e));
    TRY(json_get_text(o, "sha256", &ev->sha256, e));
    TRY(json_get_int(o, "bytes", 0, INT64_MAX, &ev->bytes, e));
    return json_opt_real(o, "seconds", 0, &ev->seconds, e);
}

static int read_start(const json_t *o, sched_event *ev, err *e)
{
    ev->node = -1;
    TRY(read_attempt(o, ev, e));
    TRY(get_number(o, "gang", GANG_MOST, &ev->gang, e));
    return json_opt_text(o, "node", "", &ev->name, e);
}

static int read_priority(const json_t *o, sched_event *ev, err *e)
{
    int priority;

    TRY(get_word(o, "priority", priority_names, PRIORITIES, &priority, e));
    ev->priority = (job_priority)priority;
    return get_number(o, "job", INT32_MAX, &ev->job, e);
}

static int read_body(json_t *o, sched_event *ev, err *e)
{
    switch (ev->type) {
    case EV_EPOCH:
        TRY(json_opt_text(o, "by", "", &ev->name, e));
        return json_get_int(o, "epoch", 1, INT64_MAX, &ev->epoch, e);
    case EV_SUBMIT:  return sched_read_spec(&ev->spec, o, e);
    case EV_START:
    case EV_ADOPT:   return read_start(o, ev, e);
    case EV_DONE:    return read_done(o, ev, e);
    case EV_FAILED:  return read_failed(o, ev, e);
    case EV_CANCEL:
    case EV_RELEASE:
        TRY(json_opt_bool(o, "ordered", false, &ev->ordered, e));
        return get_number(o, "job", INT32_MAX, &ev->job, e);
    case EV_HOLD:     return get_number(o, "job", INT32_MAX, &ev->job, e);
    case EV_PRIORITY: return read_priority(o, ev, e);
    case EV_SNAPSHOT:
        ev->snapshot = o;
        return 0;
    default: return err_set(e, ERR_INPUT, "a record of kind %d, which this program does not know", (int)ev->type);
    }
}

int sched_read_record(sched_event *out, json_t **owner, int type, const char *body, size_t n, err *e)
{
    int rc;

    *out = (sched_event){.type = (sched_event_type)type};
    TRY(json_parse(owner, body, n, "record", e));
    rc = json_is_object(*owner) ? read_body(*owner, out, e) : err_set(e, ERR_INPUT, "a record that is no object");
    if (rc != 0) {
        json_decref(*owner);
        *owner = NULL;
    }
    return rc;
}

/* ---- a whole farm --------------------------------------------------------------------------------------------- */

static int restore_fields(sched *s, int at, const json_t *o, err *e)
{
    sched_job *j = &s->job[at];
    const char *why, *sha;
    int64_t ordered;
    int state;

    TRY(get_word(o, "state", state_names, JOB_STATES, &state, e));
    TRY(json_opt_text(o, "why", NULL, &why, e));
    TRY(json_opt_text(o, "sha256", "", &sha, e));
    TRY(get_number(o, "attempt", INT32_MAX, &j->attempt, e));
    TRY(get_number(o, "failures", INT32_MAX, &j->failures, e));
    TRY(get_number(o, "mishaps", INT32_MAX, &j->mishaps, e));
    TRY(json_opt_int(o, "far", 0, INT64_MAX, 0, &j->far, e));
    TRY(json_opt_int(o, "bytes", 0, INT64_MAX, 0, &j->bytes, e));
    TRY(json_opt_real(o, "seconds", 0, &j->seconds, e));
    TRY(json_opt_int(o, "ordered", 0, INT32_MAX, 0, &ordered, e));
    TRY(json_opt_bool(o, "alone", false, &j->alone, e));
    j->ordered = (int)ordered;
    if (state == JOB_DONE && !str_copy(j->sha256, sizeof j->sha256, sha))
        return err_set(e, ERR_INPUT, "sha256: %s", sha);
    j->why = mem_text(why);
    job_set(s, at, (job_state)state);
    return 0;
}

static int restore_spec(sched *s, json_t *o, bool needs, err *e)
{
    sched_event ev = {.type = EV_SUBMIT};

    TRY(sched_read_spec(&ev.spec, o, e));
    if (needs && !ev.spec.needs)
        return 0;
    if (!needs)
        ev.spec.needs = NULL;
    return job_submit(s, &ev, e);
}

/* First every name, then who needs whom (which may be a later one), then how far each had come. */
int sched_restore(sched *s, const json_t *snapshot, err *e)
{
    json_t *jobs = json_object_get(snapshot, "jobs");
    size_t n = json_array_size(jobs);
    int64_t epoch;

    if (s->jobs > 0)
        return err_set(e, ERR_INPUT, "a snapshot in the middle of a farm");
    TRY(json_get_int(snapshot, "epoch", 0, INT64_MAX, &epoch, e));
    if (!json_is_array(jobs))
        return err_set(e, ERR_INPUT, "a snapshot without jobs");
    for (size_t i = 0; i < 2 * n; i++)
        TRY(restore_spec(s, json_array_get(jobs, i % n), i >= n, e));
    for (size_t i = 0; i < n; i++)
        TRY(restore_fields(s, (int)i, json_array_get(jobs, i), e));
    s->epoch = epoch;
    return 0;
}
