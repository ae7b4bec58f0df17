/* `cfarm report FARM`: a farm's history out of its journal, as JSON for cfarm-merge, which knows pictures and makes the page
 * of it. The farm is looked at and not touched; it may be running.
 *
 *   {version, farm, dir, running, restated, nodes: [name], machine: {name, cores, memory}, began, ended,
 *    slots: [{use, seconds}],
 *    jobs: [{name, kind, state, attempt, steps, batch, seconds, file, why, said, settings, needs}],
 *    runs: [{job, attempt, node, lane, gang, from, to, end}], failures: [{job, attempt, at, step, blame, verdict, text}]}
 *
 * Times are milliseconds since 1970. slots: where the slots' time went since the last coordinator began. A lane is a place of a node
 * where one thing ran at a time: the journal keeps no slots. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/waste.h"

enum { EVENTS_MOST = 1 << 30, LANES_MOST = SLOTS_MOST };

typedef struct {
    int job, attempt, gang, node, lane;
    int64_t from, to; /* to 0: it runs */
    const char *end;
} run;

typedef struct {
    run *at;
    size_t n;
    char **node;
    int nodes;
    json_t *failures;
    int64_t began, last; /* of the records' times */
    bool restated;
} story;

/* ---- the journal ---------------------------------------------------------------------------------------------- */

static int node_of(story *s, const char *name)
{
    for (int i = 0; i < s->nodes; i++)
        if (strcmp(s->node[i], name) == 0)
            return i;
    s->node = mem_grow(s->node, (size_t)s->nodes + 1, sizeof *s->node);
    s->node[s->nodes] = mem_text(name);
    return s->nodes++;
}

static void begin(story *s, const sched_event *ev, int64_t at)
{
    s->at = mem_grow(s->at, s->n + 1, sizeof *s->at);
    s->at[s->n++] = (run){.job = ev->job, .attempt = ev->attempt, .gang = ev->gang > 0 ? ev->gang : 1, .from = at,
                          .node = node_of(s, ev->name && *ev->name ? ev->name : "?")};
}

/* The open run of a job; NULL: none. */
static run *open_run(story *s, int job)
{
    for (size_t i = s->n; i-- > 0;)
        if (s->at[i].job == job)
            return s->at[i].to == 0 ? &s->at[i] : NULL;
    return NULL;
}

static void finish(story *s, int job, int64_t at, const char *end)
{
    run *r = open_run(s, job);

    if (!r)
        return;
    r->to = at > r->from ? at : r->from + 1;
    r->end = end;
}

/* What ran when a coordinator ended ran as far as its last record tells; an agent may have it still (adopt). */
static void begin_epoch(story *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->at[i].to == 0)
            finish(s, s->at[i].job, s->last, "interrupted");
}

static void fail(story *s, const sched_event *ev, int64_t at)
{
    static const char *const verdicts[VERDICTS] = {"none", "tried again", "held", "quarantined", "rejected"};

    finish(s, ev->job, at, "failed");
    json_array_append_new(s->failures,
                          json_pack("{s:i s:i s:I s:I s:s s:s s:s}", "job", ev->job, "attempt", ev->attempt, "at", (json_int_t)at,
                                    "step", (json_int_t)ev->step, "blame", job_blame_name(ev->blame), "verdict",
                                    verdicts[ev->verdict], "text", ev->text ? ev->text : ""));
}

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    story *s = arg;
    json_t *owner = NULL;
    sched_event ev;

    TRY(sched_read_record(&ev, &owner, type, body, n, e));
    int64_t at = look_wall_ms(json_string_value(json_object_get(owner, "at")));
    switch ((int)ev.type) {
    case EV_EPOCH:    begin_epoch(s); break;
    case EV_START:    finish(s, ev.job, at, "interrupted"); begin(s, &ev, at); break;
    case EV_ADOPT:    begin(s, &ev, at); break;
    case EV_DONE:     finish(s, ev.job, at, "done"); break;
    case EV_FAILED:   fail(s, &ev, at); break;
    case EV_CANCEL:   finish(s, ev.job, at, "cancelled"); break;
    case EV_SNAPSHOT: s->restated = true; break;
    default:          break;
    }
    s->began = s->began ? s->began : at;
    s->last = at ? at : s->last;
    json_decref(owner);
    return 0;
}

/* ---- lanes ---------------------------------------------------------------------------------------------------- */

/* The first `gang` lanes beside each other that are free from r->from on; until[] is when each is. */
static int free_lane(const int64_t until[], const run *r)
{
    for (int lane = 0; lane + r->gang < LANES_MOST; lane++) {
        int k = 0;
        while (k < r->gang && until[lane + k] <= r->from)
            k++;
        if (k == r->gang)
            return lane;
    }
    return 0;
}

/* Runs stand in the order of their beginnings. */
static void lay_lanes(story *s)
{
    int64_t *until = NEW_N(int64_t, (size_t)(s->nodes + 1) * LANES_MOST);

    for (size_t i = 0; i < s->n; i++) {
        run *r = &s->at[i];
        int64_t *of = until + (size_t)r->node * LANES_MOST;
        r->lane = free_lane(of, r);
        for (int k = 0; k < r->gang && r->lane + k < LANES_MOST; k++)
            of[r->lane + k] = r->to ? r->to : INT64_MAX;
    }
    free(until);
}

/* ---- as JSON -------------------------------------------------------------------------------------------------- */

static json_t *job_told(const sched_job *j, const json_t *said)
{
    json_t *settings = json_loads(j->spec.settings, 0, NULL), *o;
    str file = {0};

    str_add(&file, "out/%s.h5", j->spec.name);
    o = json_pack("{s:s s:s s:s s:i s:I s:I s:f s:s s:s s:s s:o*}", "name", j->spec.name, "kind", job_kind_name(j->spec.kind),
                  "state", job_state_name(j->state), "attempt", j->attempt, "steps", (json_int_t)j->spec.steps, "batch",
                  (json_int_t)j->spec.batch, "seconds", j->seconds, "file", j->state == JOB_DONE ? file.at : "", "why",
                  j->why && j->state != JOB_DONE ? j->why : "", "said",
                  said ? json_string_value(said) : "", "settings", settings);
    CHECK(o);
    if (j->spec.needs)
        json_object_set_new(o, "needs", json_deep_copy(j->spec.needs));
    str_free(&file);
    return o;
}

static json_t *runs_told(const story *s, bool running)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n; i++) {
        const run *r = &s->at[i];
        bool cut = r->to == 0 && !running;
        json_array_append_new(list, json_pack("{s:i s:i s:i s:i s:i s:I s:I s:s}", "job", r->job, "attempt", r->attempt, "node",
                                              r->node, "lane", r->lane, "gang", r->gang, "from", (json_int_t)r->from, "to",
                                              (json_int_t)(r->to ? r->to : cut ? s->last : clock_wall_ms()), "end",
                                              r->to ? r->end : cut ? "interrupted" : "running"));
    }
    return list;
}

static json_t *machine_told(void)
{
    node_facts here;

    node_look(&here);
    return json_pack("{s:s s:i s:I}", "name", here.name, "cores", here.cores, "memory", (json_int_t)here.memory);
}

/* As status.json has it; nothing where there is none. */
static json_t *slots_told(const char *dir)
{
    json_t *list = json_array(), *status = NULL;
    const json_t *seconds;
    char path[FS_PATH];

    if (fs_join(path, dir, "status.json", NULL) == 0 && json_read(&status, path, NULL) != 0)
        status = NULL;
    seconds = json_object_get(status, "slot_seconds");
    for (int k = 0; seconds && k < WASTES; k++)
        json_array_append_new(list, json_pack("{s:s s:f}", "use", waste_text((waste_kind)k), "seconds",
                                              json_number_value(json_object_get(seconds, waste_word((waste_kind)k)))));
    json_decref(status);
    return list;
}

/* ---- what workers said at the end of a concept ----------------------------------------------------------------- */

/* "concept mug: 150 steps, ..." under its name. A farm without the file has only less to tell. */
static void listen(json_t *said, char *line)
{
    static const char head[] = "concept ";
    json_t *o = json_loads(line, 0, NULL);
    const char *says = json_string_value(json_object_get(o, "says")), *colon = says ? strstr(says, ": ") : NULL;

    if (colon && str_starts(says, head)) {
        char *name = mem_text(says + sizeof head - 1);
        name[colon - says - (ptrdiff_t)(sizeof head - 1)] = '\0';
        json_object_set_new(said, name, json_string(colon + 2));
        free(name);
    }
    json_decref(o);
}

static json_t *what_was_said(const char *dir)
{
    json_t *said = json_object();
    char path[FS_PATH], *text, *rest;
    size_t n;

    if (fs_join(path, dir, "logs/events.jsonl", NULL) != 0 || fs_read(path, &text, &n, EVENTS_MOST, NULL) != 0)
        return said;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (strstr(line, "\"says\""))
            listen(said, line);
    free(text);
    return said;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static void free_story(story *s)
{
    for (int i = 0; i < s->nodes; i++)
        free(s->node[i]);
    free(s->node);
    free(s->at);
    json_decref(s->failures);
}

static json_t *assemble(const story *s, const sched *farm, const char *dir)
{
    json_t *jobs = json_array(), *nodes = json_array(), *said = what_was_said(dir);
    bool running = ledger_busy(dir);

    for (int i = 0; i < farm->jobs; i++)
        json_array_append_new(jobs, job_told(&farm->job[i], json_object_get(said, farm->job[i].spec.name)));
    for (int i = 0; i < s->nodes; i++)
        json_array_append_new(nodes, json_string(s->node[i]));
    json_decref(said);
    json_t *o = json_pack("{s:s s:s s:s s:b s:b s:I s:I s:o s:o s:o s:o s:o s:O}", "version", CFARM_VERSION, "farm", fs_base(dir),
                          "dir", dir, "running", running, "restated", s->restated, "began", (json_int_t)s->began, "ended",
                          (json_int_t)s->last, "nodes", nodes, "machine", machine_told(), "slots", slots_told(dir), "jobs", jobs,
                          "runs", runs_told(s, running), "failures", s->failures);
    CHECK(o);
    return o;
}

static int tell(json_t **out, const char *dir, err *e)
{
    story s = {.failures = json_array()};
    char path[FS_PATH];
    ledger *l = NULL;
    journal *j = NULL;
    json_t *name = json_string(dir);
    int rc = name ? look_open(&l, dir, e)
                  : err_set(e, ERR_INPUT, "%s: a page cannot show a name that is not UTF-8; rename the folder", dir);

    if (rc == 0)
        rc = fs_join(path, dir, "journal", e);
    if (rc == 0)
        rc = journal_open(&j, path, on_record, &s, e);
    if (rc == 0) {
        lay_lanes(&s);
        *out = assemble(&s, l->s, dir);
    }
    json_decref(name);
    journal_close(j);
    ledger_close(l);
    free_story(&s);
    return rc;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

/* In memory and nowhere else: a file would outlive whoever is killed. The program we become has it under this name. */
static int put_aside(char name[64], const json_t *o, err *e)
{
    char *text = json_dumps(o, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    int fd = memfd_create("story", 0);
    bool whole = fd >= 0 && text;

    for (size_t at = 0; whole && at < n;) {
        ssize_t wrote = write(fd, text + at, n - at);
        whole = wrote > 0;
        at += whole ? (size_t)wrote : 0;
    }
    free(text);
    snprintf(name, 64, "--story=/proc/self/fd/%d", fd);
    return whole ? 0 : err_set(e, ERR_MEMORY, "no memory for the farm's history (%zu bytes)", n);
}

/* Comes back only where the program cannot be run. argv: the command's flags. */
static int hand_on(const char *dir, const char *story_flag, int argc, char **argv, err *e)
{
    char program[FS_PATH];
    const char **to = NEW_N(const char *, argc + 5);
    int n = 0;

    int rc = child_program(program, "cfarm-merge", e);
    to[n++] = program;
    to[n++] = "report";
    if (dir)
        to[n++] = dir;
    if (story_flag)
        to[n++] = story_flag;
    for (int i = 0; i < argc; i++)
        to[n++] = argv[i];
    node_brief_waits(false);
    if (rc == 0)
        execv(program, (char *const *)(uintptr_t)to);
    free(to);
    return rc ? rc : err_set(e, ERR_PEER, "%s cannot be run", program);
}

static int report(int argc, char **argv, err *e)
{
    char given[FS_PATH], dir[FS_PATH], flag[64];
    json_t *o = NULL;

    TRY(look_folder(given, argv[1], e));
    if (!realpath(given, dir))
        return err_set(e, ERR_INPUT, "%s: %s", given, fs_reason(errno));
    TRY(tell(&o, dir, e));
    int rc = put_aside(flag, o, e);
    json_decref(o);
    return rc == 0 ? hand_on(dir, flag, argc - 2, argv + 2, e) : rc;
}

int command_report(int argc, char **argv)
{
    err e = {0};

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        hand_on(NULL, NULL, argc - 1, argv + 1, &e);
        return look_complain(&e);
    }
    if (argc < 2 || argv[1][0] == '-') {
        fputs("usage: cfarm report FARM [--out FILE.html] [--prompts FILE] ...      cfarm report --help tells its flags\n",
              stderr);
        return FARM_BAD_INPUT;
    }
    report(argc, argv, &e);
    return look_complain(&e);
}
