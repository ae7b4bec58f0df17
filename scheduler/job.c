/* What happens to one job: it comes, starts, fails, ends. Every handler checks first and changes after, so that a
 * refusal leaves no trace. The same handlers replay the journal; there a job holds no slots and waits for no clock. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "scheduler/sched_impl.h"

enum { BACKOFF_MOST_MS = 300000, AWAIT_MS = 5000 };
static const double PACE_KEEPS = 0.98; /* of what was known, at each step that is told: some 50 of them count */

bool sched_running(const sched_job *j) { return j->state >= JOB_ASSIGNED && j->state <= JOB_PUBLISHING; }

bool job_in_line(const sched_job *j)
{
    return j->state == JOB_QUEUED && j->spec.kind == JOB_TRAIN && !j->blocked;
}

/* Something it needs is done: perhaps it was the last. */
static void look_again(sched *s, int job)
{
    sched_job *j = &s->job[job];
    bool blocked = false;

    for (size_t i = 0; i < json_array_size(j->spec.needs); i++)
        blocked |= s->job[j->needs[i]].state != JOB_DONE;
    if (blocked || !j->blocked)
        return;
    j->blocked = false;
    if (job_in_line(j)) {
        s->waiting[j->spec.priority]++;
        j->since_ms = s->now_ms;
        queue_push(s, job);
    }
}

/* It was to be moved: it has begun again, or went another way. */
static void job_settled(sched *s, int job)
{
    s->moving -= s->job[job].moving;
    s->job[job].moving = false;
    s->job[job].want = 0;
}

void job_set(sched *s, int job, job_state next)
{
    sched_job *j = &s->job[job];

    if (next >= JOB_RETRY_WAIT)
        job_settled(s, job);
    j->awaited = false;
    s->waiting[j->spec.priority] -= job_in_line(j);
    s->count[j->state]--;
    j->state = next;
    s->count[next]++;
    s->waiting[j->spec.priority] += job_in_line(j);
    if (job_in_line(j)) {
        if (j->since_ms < 0)
            j->since_ms = s->now_ms;
        queue_push(s, job);
    }
    for (int i = 0; next == JOB_DONE && i < j->wanted_n; i++)
        look_again(s, j->wanted_by[i]);
}

static void wait_until(sched *s, int job, job_state state, int64_t when_ms)
{
    s->job[job].wake_ms = when_ms;
    if (when_ms < s->next_wake_ms)
        s->next_wake_ms = when_ms;
    job_set(s, job, state);
}

/* Gives back what the job holds; a merge holds the one place for merges. */
void job_let_go(sched *s, int job)
{
    sched_job *j = &s->job[job];

    for (int i = 0; j->node >= 0 && i < s->node[j->node].n; i++)
        slot_leave(s, j->node, i, job);
    if (j->spec.kind == JOB_MERGE && j->gang)
        s->merging = false;
    j->node = -1;
    j->gang = 0;
    j->slotless = j->packed = false;
}

void job_spec_free(sched_job *j)
{
    free((char *)(uintptr_t)j->spec.name);
    free((char *)(uintptr_t)j->spec.settings);
    free((char *)(uintptr_t)j->spec.owner);
    free((char *)(uintptr_t)j->spec.alike);
    json_decref((json_t *)(uintptr_t)j->spec.needs);
    free(j->needs);
    j->needs = NULL;
}

/* The one text of a JSON object, however it was written; NULL when it is none. */
static char *canonical(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);
    char *same = json_is_object(o) ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

    json_decref(o);
    return same;
}

/* settings: canonical; taken. */
static void spec_own(sched *s, sched_job *j, const job_spec *from, char *settings)
{
    size_t n = json_array_size(from->needs);

    j->spec = *from;
    j->spec.name = mem_text(from->name);
    j->spec.settings = settings;
    j->spec.owner = mem_text(from->owner ? from->owner : "");
    j->spec.alike = mem_text(from->alike ? from->alike : "");
    j->owner = queue_owner(s, j->spec.owner);
    j->class = slow_class(s, j->spec.alike);
    j->since_ms = -1;
    j->spec.needs = json_deep_copy(from->needs);
    j->needs = NEW_N(int, n + 1);
    j->blocked = false;
    for (size_t i = 0; i < n; i++) {
        sched_job *need = &s->job[j->needs[i] = sched_find(s, json_string_value(json_array_get(from->needs, i)))];
        need->wanted_by = mem_grow(need->wanted_by, (size_t)need->wanted_n + 1, sizeof *need->wanted_by);
        need->wanted_by[need->wanted_n++] = (int)(j - s->job);
        j->blocked |= need->state != JOB_DONE;
    }
    hash_bytes(j->spec.settings, strlen(j->spec.settings), j->hash);
}

static int new_job(sched *s)
{
    if (s->jobs == s->job_room) {
        s->job_room = s->job_room ? 2 * s->job_room : 64;
        s->job = mem_grow(s->job, (size_t)s->job_room, sizeof *s->job);
        s->merge = mem_grow(s->merge, (size_t)s->job_room, sizeof *s->merge);
    }
    s->job[s->jobs] = (sched_job){.state = JOB_CANCELLED, .node = -1, .last_node = -1, .last_slot = -1};
    s->count[JOB_CANCELLED]++;
    return s->jobs++;
}

static int check_spec(const sched *s, const job_spec *p, const char *settings, err *e)
{
    if (!p->name || !*p->name || !settings)
        return err_set(e, ERR_INPUT, "a job without a name or settings");
    if (p->kind < 0 || p->kind >= JOB_KINDS || p->priority < 0 || p->priority >= PRIORITIES)
        return err_set(e, ERR_INPUT, "%s: no such kind or priority", p->name);
    if (p->steps < 0 || p->batch < 0 || p->retries < 1 || p->leaves < 1 || (p->leaves & (p->leaves - 1)) != 0)
        return err_set(e, ERR_INPUT, "%s: steps, batch, retries or leaves out of range", p->name);
    for (size_t i = 0; i < json_array_size(p->needs); i++) {
        const char *name = json_string_value(json_array_get(p->needs, i));
        if (!name || sched_find(s, name) < 0)
            return err_set(e, ERR_INPUT, "%s: needs %s, which is not there", p->name, name ? name : "a nameless job");
    }
    return 0;
}

/* job: that of the name; -1: none yet. */
static int check_submit(const sched *s, const sched_event *ev, const char *settings, int *job, err *e)
{
    int at;

    TRY(check_spec(s, &ev->spec, settings, e));
    at = *job = sched_find(s, ev->spec.name);
    if (at >= 0 && (sched_running(&s->job[at]) || s->job[at].node >= 0))
        return err_set(e, ERR_INPUT, "%s is being made", ev->spec.name);
    if (at >= 0 && s->job[at].state == JOB_DONE)
        return err_set(e, ERR_INPUT, "%s is done", ev->spec.name);
    if (at >= 0 && s->job[at].spec.kind != ev->spec.kind)
        return err_set(e, ERR_INPUT, "%s is a %s", ev->spec.name, job_kind_name(s->job[at].spec.kind));
    return 0;
}

/* A name that is there already may come again with other settings while nothing depends on the old ones. */
int job_submit(sched *s, const sched_event *ev, err *e)
{
    char *settings = ev->spec.settings ? canonical(ev->spec.settings) : NULL;
    job_spec spec = ev->spec;
    bool changed;
    int at, rc = check_submit(s, ev, settings, &at, e);

    if (rc != 0) {
        free(settings);
        return rc;
    }
    changed = at >= 0;
    if (!changed) {
        at = new_job(s);
        json_object_set_new(s->by_name, ev->spec.name, json_integer(at));
        if (ev->spec.kind == JOB_MERGE)
            s->merge[s->merges++] = at;
    } else {
        if (s->job[at].ordered & ORDERED_PRIORITY)
            spec.priority = s->job[at].spec.priority;
        if (s->job[at].ordered & ORDERED_HOLD)
            spec.hold = s->job[at].spec.hold;
        job_let_go(s, at);
        job_set(s, at, JOB_CANCELLED);
        job_spec_free(&s->job[at]);
    }
    spec_own(s, &s->job[at], &spec, settings);
    s->job[at].failures = s->job[at].mishaps = 0;
    s->job[at].far = 0;
    s->job[at].alone = false;
    s->job[at].ordered &= ~ORDERED_CANCEL;
    if (changed)
        queue_rebuild(s);
    if (spec.hold)
        wait_until(s, at, JOB_HOLD, INT64_MAX);
    else
        job_set(s, at, JOB_QUEUED);
    return 0;
}

static int check_job(const sched *s, const sched_event *ev, err *e)
{
    if (ev->job < 0 || ev->job >= s->jobs)
        return err_set(e, ERR_INPUT, "job %d: no such one", ev->job);
    return 0;
}

/* The attempt under way, or one whose slots are still to be given back. */
int job_check(const sched *s, const sched_event *ev, err *e)
{
    const sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (ev->attempt != j->attempt || (!sched_running(j) && j->gang == 0) || j->part.answered)
        return err_set(e, ERR_PEER, "%s attempt %d: late, it is %s", j->spec.name, ev->attempt,
                       job_state_name(j->state));
    return 0;
}

/* What the attempt before had done, and what of a slot's time that took. */
static void remember_work(sched_job *j)
{
    j->had_step = j->step;
    j->had_seconds = j->began_step >= 0 ? (double)(j->step - j->began_step) * j->step_seconds * j->last_gang : 0;
}

/* In the journal a next attempt may follow one that was stopped without blame: that has no record of its own. */
int job_start(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->state >= JOB_DONE || j->node >= 0 || ev->attempt != j->attempt + 1)
        return err_set(e, ERR_INPUT, "%s attempt %d cannot start: it is %s", j->spec.name, ev->attempt,
                       job_state_name(j->state));
    j->attempt = ev->attempt;
    remember_work(j);
    j->gang = ev->gang;
    j->step = 0;
    j->sample_ms = 0;
    j->moved = j->moving;
    j->narrowed = j->moving && ev->gang < j->last_gang;
    j->soon = j->recalled = false;
    s->merging |= j->spec.kind == JOB_MERGE;
    job_settled(s, ev->job);
    job_set(s, ev->job, JOB_ASSIGNED);
    return 0;
}

static int node_at(const sched_event *ev, int r) { return ev->at ? ev->at[r] : ev->node; }

/* Of a gang over several nodes: a part that has ended, and has given its slots back. */
static bool given_back(const sched_event *ev, int r) { return ev->at && ev->on[r] < 0; }

/* Slots that are there, free or of its pack, and each named once. */
static bool own_slots(const sched *s, const sched_event *ev)
{
    for (int r = 0; r < ev->on_n; r++) {
        int node = node_at(ev, r);
        const sched_node *n = node >= 0 && node < s->nodes && s->node[node].name ? &s->node[node] : NULL;
        if (n && given_back(ev, r))
            continue;
        if (!n || ev->on[r] < 0 || ev->on[r] >= n->n)
            return false;
        if (n->slot[ev->on[r]].job >= 0 && !(ev->pack && slot_takes(s, node, ev->on[r], &s->job[ev->job])))
            return false;
        for (int k = 0; k < r; k++)
            if (ev->on[k] == ev->on[r] && node_at(ev, k) == node)
                return false;
    }
    return true;
}

/* As parts.c has them: as many ranks on each of 2, 4 or 8 nodes, one node's behind the other's. */
static bool even_parts(const sched_event *ev)
{
    int each = 1, nodes;

    while (each < ev->on_n && ev->at[each] == ev->at[0])
        each++;
    nodes = ev->on_n / each;
    if (ev->on_n == 0 || ev->node != ev->at[0] || ev->pack || ev->ahead || nodes * each != ev->on_n || nodes < 2 || nodes > GANG_NODES_MOST)
        return false;
    for (int r = 0; r < ev->on_n; r++)
        for (int k = 0; k < r; k++)
            if ((ev->at[k] == ev->at[r]) != (k / each == r / each) || (k / each == r / each && (ev->on[k] < 0) != (ev->on[r] < 0)))
                return false;
    return true;
}

/* Behind another one that is there alone. Who was to come next where nobody is any more begins there. */
static bool next_there(const sched *s, const sched_event *ev)
{
    const sched_node *n = ev->node >= 0 ? &s->node[ev->node] : NULL;
    int i = ev->on_n == 1 ? ev->on[0] : -1;

    return n && i >= 0 && i < n->n && !ev->pack && n->slot[i].ahead < 0 && (n->slot[i].job < 0 || !s->job[n->slot[i].job].packed);
}

/* Of a lost node that comes back an attempt may be at work yet, and its job waits to be tried again, or did: the journal does not
 * say when that was over. In it (node -1) an attempt that was given back without a record runs still, too. */
static int check_adoption(const sched *s, const sched_event *ev, err *e)
{
    const sched_job *j;
    bool free;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    free = (j->state == JOB_QUEUED || j->state == JOB_RETRY_WAIT) && !j->blocked && j->gang == 0;
    if (j->spec.kind != JOB_TRAIN || !(free || (ev->node < 0 && sched_running(j))) || ev->attempt != j->attempt || ev->attempt == 0)
        return err_set(e, ERR_PEER, "%s attempt %d: late, it is %s in attempt %d", j->spec.name, ev->attempt,
                       job_state_name(j->state), j->attempt);
    if (ev->gang < 1 || ev->gang > j->spec.leaves || (ev->gang & (ev->gang - 1)) != 0 ||
        (ev->pack && (ev->gang > 1 || !j->spec.alike[0])) || (ev->on_n != 0 && ev->on_n != ev->gang) ||
        (ev->at && !even_parts(ev)) || (ev->ahead ? !next_there(s, ev) : !own_slots(s, ev)))
        return err_set(e, ERR_PEER, "%s attempt %d: its gang of %d is none", j->spec.name, ev->attempt, ev->gang);
    return 0;
}

/* One that waited has gone another way: the farm need not wait for the clock on its account. */
static void find_next_wake(sched *s)
{
    s->next_wake_ms = INT64_MAX;
    for (int i = 0; i < s->jobs; i++)
        if ((s->job[i].state == JOB_RETRY_WAIT || s->job[i].state == JOB_HOLD) && s->job[i].wake_ms < s->next_wake_ms)
            s->next_wake_ms = s->job[i].wake_ms;
}

/* An attempt that outlived its coordinator, or its connection, goes on under the same number. */
int job_adopt(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;
    bool waited;

    TRY(check_adoption(s, ev, e));
    j = &s->job[ev->job];
    waited = j->state == JOB_RETRY_WAIT;
    j->gang = ev->gang;
    j->step = 0;
    j->sample_ms = 0;
    j->node = ev->node;
    j->slotless = ev->on_n == 0 || ev->on[0] < 0;
    j->packed = ev->pack;
    if (ev->at)
        parts_begin(j, ev->gang, ev->at);
    job_set(s, ev->job, JOB_ASSIGNED);
    if (waited)
        find_next_wake(s);
    for (int r = 0; r < ev->on_n; r++)
        if (given_back(ev, r))
            j->part.bare += r > 0 && ev->at[r] != ev->node && ev->at[r] != ev->at[r - 1];
        else if (ev->ahead && s->node[ev->node].slot[ev->on[r]].job >= 0)
            slot_next(s, ev->node, ev->on[r], ev->job);
        else
            slot_take(s, node_at(ev, r), ev->on[r], ev->job);
    return 0;
}

/* A part of its gang has outlived the coordinator: it is not begun anew before the others had time to come back, too. */
int job_await(sched *s, const sched_event *ev, err *e)
{
    const sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->spec.kind != JOB_TRAIN || j->state != JOB_QUEUED || j->blocked || j->gang > 0 || ev->attempt != j->attempt || ev->attempt == 0)
        return err_set(e, ERR_PEER, "%s attempt %d: late, it is %s in attempt %d", j->spec.name, ev->attempt,
                       job_state_name(j->state), j->attempt);
    wait_until(s, ev->job, JOB_RETRY_WAIT, ev->now_ms + AWAIT_MS);
    s->job[ev->job].awaited = true;
    return 0;
}

void sched_begin(sched *s, int job, int gang, const int on[], const int slot[], bool pack, sched_effects *todo)
{
    sched_job *j = &s->job[job];
    sched_event ev = {.type = EV_START, .job = job, .attempt = j->attempt + 1, .gang = gang, .pack = pack,
                      .name = on ? s->node[on[0]].name : "coordinator"};
    sched_effect *x;

    CHECK(job_start(s, &ev, NULL) == 0);
    sched_record(todo, &ev);
    j->node = on ? on[0] : -1;
    j->packed = pack;
    j->last_gang = gang;
    j->began_ms = s->now_ms;
    j->began_step = -1;
    x = sched_do(todo, on ? DO_START : DO_MERGE, job, j);
    x->pack = pack;
    if (!on)
        return;
    parts_begin(j, gang, on);
    x->ahead = gang == 1 && !pack && s->node[on[0]].slot[slot[0]].job >= 0;
    for (int r = 0; r < gang; r++) {
        x->slot[r] = slot[r];
        x->on[r] = on[r];
        if (x->ahead)
            slot_next(s, on[r], slot[r], job);
        else
            slot_take(s, on[r], slot[r], job);
    }
    ahead_look(s, job);
}

int job_done(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;

    TRY(job_check(s, ev, e));
    if (!ev->sha256 || strlen(ev->sha256) != HASH_HEX - 1)
        return err_set(e, ERR_INPUT, "a result without its hash");
    j = &s->job[ev->job];
    memcpy(j->sha256, ev->sha256, HASH_HEX);
    j->bytes = ev->bytes;
    j->seconds = ev->seconds;
    if (j->node >= 0)
        node_praised(s, j->node);
    job_let_go(s, ev->job);
    job_set(s, ev->job, JOB_DONE);
    return 0;
}

static bool own_fault(job_blame b) { return b == BLAME_JOB || b == BLAME_GPU || b == BLAME_SETTINGS; }

static bool nobodys_alone(const sched_event *ev)
{
    return ev->code && (strcmp(ev->code, FAILED_PACK) == 0 || strcmp(ev->code, FAILED_BUSY) == 0);
}

static job_verdict verdict_of(const sched_job *j, const sched_event *ev)
{
    if (ev->blame == BLAME_SETTINGS)
        return VERDICT_REJECT;
    if (own_fault(ev->blame))
        return !ev->retry || j->failures + 1 >= j->spec.retries ? VERDICT_QUARANTINE : VERDICT_RETRY;
    if (ev->mishaps >= MISHAPS_MOST)
        return VERDICT_QUARANTINE;
    return ev->blame == BLAME_STORE ? VERDICT_HOLD : VERDICT_RETRY;
}

/* Doubled with each failure; up to half of it less by lot, so that what failed together does not come back together. */
static int64_t backoff(const sched *s, int job, int failures)
{
    int64_t ms = s->how.backoff_ms;
    float lot;

    for (int i = 1; i < failures && ms < BACKOFF_MOST_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MOST_MS)
        ms = BACKOFF_MOST_MS;
    lot = rng_uniform(rng_open((uint64_t)job, "backoff", (uint32_t)s->job[job].attempt, 0), 0);
    return ms - (int64_t)(0.5f * lot * (float)ms);
}

/* One mishap is nobody's habit: it goes on at once. Where the next one comes before it came any further, it waits, lest a node
 * with some passing trouble, if it is the only one, uses up all its tries within a second. */
static int64_t wait_of(const sched *s, const sched_event *ev)
{
    if (ev->verdict == VERDICT_HOLD)
        return s->how.hold_ms;
    if (ev->verdict != VERDICT_RETRY || nobodys_alone(ev))
        return 0;
    if (own_fault(ev->blame))
        return backoff(s, ev->job, s->job[ev->job].failures + 1);
    return ev->mishaps > 1 ? backoff(s, ev->job, ev->mishaps - 1) : 0;
}

void job_judge(const sched *s, sched_event *ev)
{
    const sched_job *j = &s->job[ev->job];

    ev->mishaps = own_fault(ev->blame) ? 0 : ev->step > j->far ? 1 : j->mishaps + 1;
    ev->verdict = verdict_of(j, ev);
    ev->wait_ms = wait_of(s, ev);
}

static void remember_place(sched *s, int job)
{
    sched_job *j = &s->job[job];

    if (j->node < 0)
        return;
    j->last_node = j->node;
    for (int i = 0; i < s->node[j->node].n; i++)
        if (slot_holds(&s->node[j->node], i, job))
            j->last_slot = i;
}

static void sentence(sched_job *j, const sched_event *ev)
{
    free(j->why);
    j->why = mem_text(ev->text ? ev->text : ev->code ? ev->code : "no reason given");
}

static void count_failure(sched_job *j, const sched_event *ev)
{
    if (own_fault(ev->blame))
        j->failures++;
    else
        j->mishaps = ev->mishaps > 0 ? ev->mishaps : j->mishaps + 1;
    if (ev->step > j->far)
        j->far = ev->step;
}

/* ev->verdict is set: what follows is the same now and when the journal is read again. One that was cancelled or put on
 * hold meanwhile only gives back its slots. */
int job_failed(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;
    bool unwanted;
    int where;

    TRY(job_check(s, ev, e));
    j = &s->job[ev->job];
    unwanted = !sched_running(j);
    where = j->part.each > 0 ? j->part.culprit : j->node;
    remember_place(s, ev->job);
    if (!unwanted && where >= 0 && ev->blame != BLAME_STORE && ev->blame != BLAME_SETTINGS && !nobodys_alone(ev))
        node_struck(s, where, ev->job);
    job_let_go(s, ev->job);
    if (unwanted)
        return 0;
    sentence(j, ev);
    j->alone |= nobodys_alone(ev);
    count_failure(j, ev);
    if (ev->verdict == VERDICT_QUARANTINE || ev->verdict == VERDICT_REJECT)
        job_set(s, ev->job, ev->verdict == VERDICT_REJECT ? JOB_REJECTED : JOB_QUARANTINED);
    else if (ev->verdict == VERDICT_HOLD)
        wait_until(s, ev->job, JOB_HOLD, ev->now_ms + ev->wait_ms);
    else if (own_fault(ev->blame) || ev->wait_ms > 0)
        wait_until(s, ev->job, JOB_RETRY_WAIT, ev->now_ms + ev->wait_ms);
    else
        job_set(s, ev->job, JOB_QUEUED);
    return 0;
}

/* A running one keeps its slots until its agent says STOPPED. */
int job_cancel(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->state == JOB_DONE || j->state == JOB_CANCELLED)
        return err_set(e, ERR_INPUT, "%s is %s", j->spec.name, job_state_name(j->state));
    if (sched_running(j))
        parts_stop(s, ev->job, todo);
    if (ev->ordered)
        j->ordered |= ORDERED_CANCEL;
    job_set(s, ev->job, JOB_CANCELLED);
    return 0;
}

/* A running one is stopped, as if cancelled, and waits for its release. */
int job_hold(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->state >= JOB_DONE || (j->state == JOB_HOLD && j->spec.hold))
        return err_set(e, ERR_INPUT, "%s is %s", j->spec.name, job_state_name(j->state));
    if (sched_running(j))
        parts_stop(s, ev->job, todo);
    j->spec.hold = true;
    j->ordered |= ORDERED_HOLD;
    wait_until(s, ev->job, JOB_HOLD, INT64_MAX);
    return 0;
}

int job_priority_set(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->state == JOB_DONE || ev->priority < 0 || ev->priority >= PRIORITIES)
        return err_set(e, ERR_INPUT, "%s is %s", j->spec.name, job_state_name(j->state));
    s->waiting[j->spec.priority] -= job_in_line(j);
    ahead_tally(s, ev->job, -1);
    j->spec.priority = ev->priority;
    ahead_tally(s, ev->job, 1);
    s->waiting[j->spec.priority] += job_in_line(j);
    j->ordered |= ORDERED_PRIORITY;
    queue_rebuild(s);
    return 0;
}

int job_release(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;

    TRY(check_job(s, ev, e));
    j = &s->job[ev->job];
    if (j->state != JOB_QUARANTINED && j->state != JOB_REJECTED && j->state != JOB_CANCELLED &&
        j->state != JOB_RETRY_WAIT && j->state != JOB_HOLD)
        return err_set(e, ERR_INPUT, "%s is %s", j->spec.name, job_state_name(j->state));
    if (j->node >= 0)
        return err_set(e, ERR_INPUT, "%s is still being stopped", j->spec.name);
    job_let_go(s, ev->job);
    j->failures = j->mishaps = 0;
    j->far = 0;
    j->ordered &= ~ORDERED_CANCEL;
    j->since_ms = -1;
    if (ev->ordered && j->spec.hold)
        j->ordered |= ORDERED_HOLD;
    j->spec.hold = false;
    job_set(s, ev->job, JOB_QUEUED);
    return 0;
}

/* By order; or because its node leaves, and then it is nobody's fault and goes on elsewhere. */
int job_stopped(sched *s, const sched_event *ev, err *e)
{
    TRY(job_check(s, ev, e));
    if (s->job[ev->job].ahead)
        queue_refund(s, ev->job);
    job_let_go(s, ev->job);
    if (sched_running(&s->job[ev->job]))
        job_set(s, ev->job, JOB_QUEUED);
    return 0;
}

static void mix(double *known, double seen)
{
    *known = *known > 0 ? PACE_KEEPS * *known + (1 - PACE_KEEPS) * seen : seen;
}

static void learn(sched *s, sched_job *j, const sched_event *ev)
{
    double ms = 1000 * ev->step_seconds * j->gang / (double)(j->spec.batch > 0 ? j->spec.batch : 1);
    int k = 0;

    if (j->state < JOB_TRAINING && ev->phase == JOB_TRAINING && ev->now_ms > j->began_ms)
        mix(&s->load_ms, (double)(ev->now_ms - j->began_ms));
    if (!(ev->step_seconds > 0))
        return;
    while (2 << k <= j->gang)
        k++;
    mix(&s->ms_per_sample, ms);
    if (!j->packed) {
        mix(&s->pace[k].ms, ms);
        s->pace[k].seen++;
    }
    j->step_seconds = ev->step_seconds;
    j->told_ms = ev->now_ms;
    slow_learn(s, (int)(j - s->job));
}

int job_progress(sched *s, const sched_event *ev, err *e)
{
    sched_job *j;

    TRY(job_check(s, ev, e));
    j = &s->job[ev->job];
    if (!sched_running(j) || ev->phase < j->state || ev->phase > JOB_PUBLISHING || ev->step < j->step)
        return err_set(e, ERR_PEER, "%s: progress that goes back", j->spec.name);
    if (j->began_step < 0 && ev->phase == JOB_TRAINING)
        j->began_step = ev->step > 0 ? ev->step - 1 : 0;
    j->step = ev->step;
    j->loss = ev->loss;
    learn(s, j, ev);
    job_set(s, ev->job, ev->phase);
    ahead_look(s, ev->job);
    return 0;
}
