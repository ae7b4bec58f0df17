/* What the farm said, was told and has counted, held to its journal: logs/events.jsonl, spool/, status.json,
 * jobs.jsonl, exit.
 *
 * The log is written before the commit and never synced: so it may know of the last moment before a crash what the
 * journal does not, and it may miss what the journal has; nothing else. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/audit.h"
#include "scheduler/look.h"
#include "scheduler/publish.h"
#include "scheduler/waste.h"

enum { EVENTS_MOST = 1 << 30, ORDER_MOST = 1 << 28 };
static const double SLACK = 0.02, SLACK_S = 3; /* of the account; of each slot: a turn that waits for a slow disk */

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}
static int64_t number_of(const json_t *o, const char *key)
{
    return (int64_t)json_number_value(json_object_get(o, key));
}

static json_t *read_json(const audit *a, const char *name)
{
    char path[FS_PATH];
    json_t *o = NULL;

    if (fs_join(path, a->dir, name, NULL) != 0 || !fs_exists(path) || json_read(&o, path, NULL) != 0)
        return NULL;
    return o;
}

/* Each line that is JSON. A file that is not there has none. */
typedef void line_fn(audit *a, const json_t *o, void *arg);
static void each_line(audit *a, const char *name, line_fn *fn, void *arg)
{
    char path[FS_PATH], *text, *rest;
    size_t n;

    if (fs_join(path, a->dir, name, NULL) != 0 || fs_read(path, &text, &n, EVENTS_MOST, NULL) != 0)
        return;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *o = json_loads(line, 0, NULL); /* a line that a full disk cut is none */
        if (json_is_object(o))
            fn(a, o, arg);
        json_decref(o);
    }
    free(text);
}

/* ---- orders that wait ----------------------------------------------------------------------------------------- */

typedef struct {
    json_t *waiting; /* the orders */
    int n;
} spooled;

static void read_orders(audit *a, spooled *s)
{
    char dir[FS_PATH], path[FS_PATH], **names, *text;
    size_t n, size;

    s->waiting = json_array();
    if (fs_join(dir, a->dir, "spool", NULL) != 0 || !fs_is_dir(dir) || fs_list(&names, &n, dir, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        json_t *o = NULL;
        err e = {0};
        if (!str_ends(names[i], ".json") || fs_join(path, dir, names[i], NULL) != 0 || !fs_exists(path))
            continue;
        s->n++;
        if (fs_read(path, &text, &size, ORDER_MOST, &e) == 0) {
            json_parse(&o, text, size, names[i], &e);
            free(text);
        }
        if (e.code == 0 && !text_of(o, "do"))
            err_set(&e, ERR_INPUT, "%s: it does not say what to do", names[i]);
        if (e.code && fs_exists(path)) /* not taken up meanwhile */
            audit_breach(a, LAW_ORDERS, "an order that was accepted cannot be carried out: %s", e.text);
        else if (o)
            json_array_append(s->waiting, o);
        json_decref(o);
    }
    fs_list_free(names);
}

static bool names_it(const json_t *order, const char *word, const char *name)
{
    const json_t *names = json_object_get(order, "names");
    const char *will = text_of(order, "do");

    for (size_t i = 0; will && strcmp(will, word) == 0 && i < json_array_size(names); i++) {
        const char *one = json_string_value(json_array_get(names, i));
        if (one && strcmp(one, name) == 0)
            return true;
    }
    return false;
}

static bool waits(const spooled *s, const char *word, const char *name)
{
    for (size_t i = 0; i < json_array_size(s->waiting); i++)
        if (names_it(json_array_get(s->waiting, i), word, name))
            return true;
    return false;
}

static void check_refused(audit *a)
{
    char dir[FS_PATH], path[FS_PATH], **names;
    str why = {0};
    size_t n;

    if (fs_join(dir, a->dir, "spool/refused", NULL) != 0 || !fs_is_dir(dir) || fs_list(&names, &n, dir, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if (str_ends(names[i], ".why"))
            continue;
        a->law[LAW_ORDERS].looked++;
        why.n = 0;
        str_add(&why, "%s.why", names[i]);
        if (fs_join(path, dir, why.at, NULL) == 0 && !fs_exists(path))
            audit_breach(a, LAW_ORDERS, "spool/refused/%s was refused without a reason", names[i]);
    }
    str_free(&why);
    fs_list_free(names);
}

/* ---- orders that were carried out, as the log tells ------------------------------------------------------------- */

static int record_of(const char *word)
{
    static const struct {
        const char *word;
        int type;
    } row[] = {{"cancel", EV_CANCEL},   {"retry", EV_RELEASE},   {"release", EV_RELEASE},    {"hold", EV_HOLD},
               {"urgent", EV_PRIORITY}, {"normal", EV_PRIORITY}, {"background", EV_PRIORITY}};

    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (strcmp(row[i].word, word) == 0)
            return row[i].type;
    return -1;
}

/* An order is journalled before its file goes. */
static void on_order(audit *a, const json_t *o, void *arg)
{
    const char *event = text_of(o, "event"), *word = text_of(o, "to"), *name = text_of(o, "name");
    int type = word ? record_of(word) : -1, at;

    if (!event || strcmp(event, "order") != 0 || !name || type < 0 || number_of(o, "changed") == 0)
        return;
    if (a->past.restated && look_wall_ms(text_of(o, "time")) < a->past.first_ms)
        return;
    a->law[LAW_ORDERS].looked++;
    at = audit_find(&a->past, name);
    if ((at < 0 || a->past.job[at].ordered[type] == 0) && !waits(arg, word, name))
        audit_breach(a, LAW_ORDERS,
                     "the log says that %s was ordered to %s; the journal has no such record, and no order waits", name,
                     word);
}

/* Concepts are never taken out of a farm: it has no fewer than it said once. */
static void on_added(audit *a, const json_t *o, void *arg)
{
    const char *event = text_of(o, "event");
    const spooled *s = arg;

    if (!event || strcmp(event, "added") != 0)
        return;
    a->law[LAW_ORDERS].looked++;
    if (a->past.jobs < number_of(o, "of") && s->n == 0)
        audit_breach(a, LAW_ORDERS, "the log says that %lld concepts were added to make %lld; the journal has %d",
                     (long long)number_of(o, "concepts"), (long long)number_of(o, "of"), a->past.jobs);
}

void audit_orders(audit *a)
{
    spooled s = {0};

    a->law[LAW_ORDERS].asked = true;
    read_orders(a, &s);
    a->law[LAW_ORDERS].looked += s.n;
    each_line(a, "logs/events.jsonl", on_order, &s);
    each_line(a, "logs/events.jsonl", on_added, &s);
    check_refused(a);
    if (s.n > 0 && !a->running)
        audit_remark(a, "%d orders wait for the farm's next start", s.n);
    json_decref(s.waiting);
}

/* ---- the log --------------------------------------------------------------------------------------------------- */

/* Published, and the news of it lost with the coordinator: the next start takes it over. */
static bool will_be_taken_over(const audit *a, const audit_job *j)
{
    char sha256[HASH_HEX];

    return !a->running && j->open && publish_find(a->dir, j->name, sha256, NULL) == 0 && sha256[0];
}

typedef struct {
    int done;       /* by the journal */
    bool unwritten; /* the log says that a status could not be written: what stands there may be of before */
} told;

static void on_event(audit *a, const json_t *o, void *arg)
{
    const char *event = text_of(o, "event"),
               *name = text_of(o, "concept") ? text_of(o, "concept") : text_of(o, "merge");
    int at = name ? audit_find(&a->past, name) : -1;
    const audit_job *j = at >= 0 ? &a->past.job[at] : NULL;
    int64_t attempt = number_of(o, "attempt");
    told *t = arg;

    if (!event)
        return;
    a->law[LAW_LOG].looked++;
    t->unwritten |= strcmp(event, "status-not-written") == 0 && look_wall_ms(text_of(o, "time")) >= a->past.epoch_ms;
    if (strcmp(event, "farm") == 0 && number_of(o, "done") > t->done)
        audit_breach(a, LAW_LOG, "the log says that %lld were done at a farm's end; the journal has %d",
                     (long long)number_of(o, "done"), t->done);
    if (strcmp(event, "done") == 0 && (!j || (j->dones == 0 && !will_be_taken_over(a, j))))
        audit_breach(a, LAW_LOG, "the log says that %s was done; the journal does not", name ? name : "a nameless one");
    if (strcmp(event, "failed") == 0 && j && attempt > j->attempt)
        audit_breach(a, LAW_LOG, "the log says that %s failed in attempt %lld; the journal knows attempts up to %d",
                     name, (long long)attempt, j->attempt);
    if (strcmp(event, "started") == 0 && j && attempt > j->attempt + 1)
        audit_breach(a, LAW_LOG,
                     "the log says that %s was started as attempt %lld; the journal knows attempts up to %d", name,
                     (long long)attempt, j->attempt);
}

/* jobs.jsonl of a farm that has ended says of each job what the journal says. */
static void on_job(audit *a, const json_t *o, void *arg)
{
    const char *name = text_of(o, "name"), *state = text_of(o, "state"), *sha = text_of(o, "sha256");
    int at = name ? audit_find(&a->past, name) : -1, found = state ? job_state_find(state) : -1;
    const audit_job *j = at >= 0 ? &a->past.job[at] : NULL;

    (void)arg;
    a->law[LAW_LOG].looked++;
    if (!j)
        audit_breach(a, LAW_LOG, "jobs.jsonl tells of %s, which the journal does not know",
                     name ? name : "a nameless one");
    else if ((found >= JOB_DONE || j->state >= JOB_DONE) && found != (int)j->state)
        audit_breach(a, LAW_LOG, "%s is %s in jobs.jsonl and %s in the journal", name, state ? state : "nothing",
                     job_state_name(j->state));
    else if (j->state == JOB_DONE && (!sha || strcmp(sha, j->sha256) != 0))
        audit_breach(a, LAW_LOG, "%s has another hash in jobs.jsonl than in the journal", name);
}

static int count_state(const audit_past *p, job_state s)
{
    int n = 0;

    for (int i = 0; i < p->jobs; i++)
        n += p->job[i].state == s;
    return n;
}

/* The last run of this epoch has said its last words. */
static bool ended_in_order(const audit *a, const json_t *status)
{
    const char *state = text_of(status, "state");

    return !a->running && state && strcmp(state, "running") != 0 && strcmp(state, "draining") != 0 &&
           number_of(status, "epoch") == a->past.epoch;
}

static void check_exit(audit *a)
{
    char path[FS_PATH], *text;
    size_t n;
    int open = count_state(&a->past, JOB_QUEUED),
        bad = count_state(&a->past, JOB_QUARANTINED) + count_state(&a->past, JOB_REJECTED);

    if (fs_join(path, a->dir, "exit", NULL) != 0 || fs_read(path, &text, &n, 64, NULL) != 0)
        return;
    if (atoi(text) == 0 && open + bad > 0)
        audit_breach(a, LAW_ENDS,
                     "the farm ended with status 0, all done; the journal has %d that are not and %d that failed", open,
                     bad);
    if (atoi(text) == 1 && open + bad == 0)
        audit_breach(a, LAW_ENDS, "the farm ended with status 1, some failed; in the journal none has");
    free(text);
}

void audit_log(audit *a)
{
    json_t *status = read_json(a, "status.json");
    told t = {.done = count_state(&a->past, JOB_DONE)};

    a->law[LAW_LOG].asked = true;
    each_line(a, "logs/events.jsonl", on_event, &t);
    if (number_of(status, "epoch") > a->past.epoch)
        audit_breach(a, LAW_LOG, "status.json is of epoch %lld; the journal ends with epoch %lld",
                     (long long)number_of(status, "epoch"), (long long)a->past.epoch);
    if (t.unwritten)
        audit_remark(a, "the status could not be written for a while, as the log says: jobs.jsonl and exit are not "
                        "held to the journal");
    else if (ended_in_order(a, status)) {
        each_line(a, "jobs.jsonl", on_job, NULL);
        check_exit(a);
    }
    json_decref(status);
}

/* ---- the account ----------------------------------------------------------------------------------------------- */

typedef struct {
    char *name;
    int64_t since, slots;
    bool leaves;
} session;
typedef struct {
    session *at;
    int n;
    int64_t from, until, last; /* wall clock, ms */
    double sure, perhaps;      /* seconds of slots that were up; that may have been, besides */
    bool back;                 /* the clock was set back */
} sessions;

/* An agent that takes its leave has its slots a while longer, nobody tells how long. */
static void end_session(sessions *s, const char *name, int64_t at, bool leaves)
{
    for (int i = 0; i < s->n; i++) {
        session *x = &s->at[i];
        if (x->since == 0 || strcmp(x->name, name) != 0)
            continue;
        double dt = (double)(at - x->since) * 1e-3 * (double)x->slots;
        *(x->leaves ? &s->perhaps : &s->sure) += dt;
        x->leaves = leaves;
        x->since = leaves ? at : 0;
        return;
    }
}

static void on_agent(audit *a, const json_t *o, void *arg)
{
    const char *event = text_of(o, "event"), *node = text_of(o, "node");
    int64_t at = look_wall_ms(text_of(o, "time"));
    sessions *s = arg;

    (void)a;
    if (at < s->from || at > s->until)
        return;
    s->back |= at < s->last;
    s->last = at;
    if (!event || !node)
        return;
    if (strcmp(event, "agent") == 0) {
        s->at = mem_grow(s->at, (size_t)s->n + 1, sizeof *s->at);
        s->at[s->n++] = (session){.name = mem_text(node), .since = at, .slots = number_of(o, "workers")};
    } else if (strcmp(event, "agent-lost") == 0 || strcmp(event, "agent-leaves") == 0) {
        end_session(s, node, at, event[6] == 'l' && event[7] == 'e');
    }
}

static void free_sessions(sessions *s)
{
    for (int i = 0; i < s->n; i++)
        free(s->at[i].name);
    free(s->at);
}

static void weigh(audit *a, const json_t *account, const sessions *s, bool whole)
{
    double sum = 0, idle = 0, slots = 0, slack;

    for (int k = 0; k < WASTES; k++) {
        const json_t *v = json_object_get(account, waste_word((waste_kind)k));
        double x = json_is_number(v) ? json_number_value(v) : NAN;
        if (!(x >= 0))
            audit_breach(a, LAW_TIME, "%s: no time stands there", waste_word((waste_kind)k));
        sum += x;
        idle += k == WASTE_NO_WORK || k == WASTE_SCHEDULER ? x : 0;
    }
    for (int i = 0; i < s->n; i++)
        slots += (double)s->at[i].slots;
    a->law[LAW_TIME].looked = (int64_t)sum;
    slack = SLACK * (s->sure + s->perhaps) + SLACK_S * slots;
    if (sum < s->sure - slack || sum > s->sure + s->perhaps + slack)
        audit_breach(a, LAW_TIME, "%.1f seconds of slots are accounted for; by the log %.1f%s were up", sum, s->sure,
                     s->perhaps > 0 ? ", or some more," : "");
    if (whole && a->past.worked > sum - idle + slack)
        audit_breach(a, LAW_TIME,
                     "by the journal slots were at work for %.1f seconds; accounted for are %.1f besides the idle ones",
                     a->past.worked, sum - idle);
}

/* Of the last coordinator: each begins an account of its own. */
void audit_time(audit *a)
{
    json_t *status = read_json(a, "status.json"), *account = json_object_get(status, "slot_seconds");
    sessions s = {.from = a->past.epoch_ms, .until = look_wall_ms(text_of(status, "time"))};

    if (account && number_of(status, "epoch") == a->past.epoch) {
        a->law[LAW_TIME].asked = true;
        each_line(a, "logs/events.jsonl", on_agent, &s);
        for (int i = 0; i < s.n; i++)
            if (s.at[i].since > 0)
                end_session(&s, s.at[i].name, s.until, false);
        if (s.back)
            audit_remark(a, "the clock was set back while the farm ran: the times of the log cannot be held to the "
                            "account");
        else if (s.n > 0)
            weigh(a, account, &s, ended_in_order(a, status));
    } else {
        audit_remark(a, "there is no account of the last coordinator's time yet");
    }
    free_sessions(&s);
    json_decref(status);
}
