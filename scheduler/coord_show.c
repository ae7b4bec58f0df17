/* What people and programs see of a running farm: a line per event, one line of progress, DIR/status.json, DIR/exit. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/coord_impl.h"

static const int64_t SECOND = 1000000000, LINE_EVERY = 60 * SECOND;
enum { STATUS_SHARE = 50 }; /* at most a 50th of the time goes into the status file, however large the farm */
static const double LEARNED_MOST = 10; /* concepts of earlier runs count at most as so many */
static const double MEMORY_S = 60; /* of the pace: long enough to be steady, short enough to follow */

/* ---- events --------------------------------------------------------------------------------------------------- */

static const char *noun(const sched_job *j) { return j->spec.kind == JOB_MERGE ? "merge" : "concept"; }

void show_event(coordinator *c, const sched_event *ev)
{
    const sched_job *j = ev->job >= 0 && ev->job < c->s->jobs ? &c->s->job[ev->job] : NULL;
    logger *log = c->how->log;

    if (ev->type == EV_START && j->spec.kind == JOB_MERGE)
        log_event(log, "started", TEXT("merge", j->spec.name), INT("attempt", ev->attempt));
    else if (ev->type == EV_START)
        log_event(log, "started", TEXT("concept", j->spec.name), INT("attempt", ev->attempt), TEXT("node", ev->name),
                  INT("gang", ev->gang), INT("pack", ev->pack));
    if (ev->type == EV_DONE && j->spec.kind == JOB_TRAIN)
        eta_learn(&c->eta, (double)(coord_now_ms() - j->began_ms) * 1e-3 * j->last_gang,
                  (double)(j->spec.steps - j->began_step) * (double)j->spec.batch);
    if (ev->type == EV_DONE)
        notify(c, j->spec.kind == JOB_MERGE ? "merged" : "done", j->spec.name, "");
    if (ev->type == EV_FAILED && (j->state == JOB_QUARANTINED || j->state == JOB_REJECTED))
        notify(c, "quarantine", j->spec.name, j->why);
    if (ev->type == EV_FAILED && j->spec.kind == JOB_TRAIN && (j->state == JOB_QUARANTINED || j->state == JOB_REJECTED))
        keep_failure(c, j, ev);
    if (ev->type == EV_DONE)
        log_event(log, "done", TEXT(noun(j), j->spec.name), REAL("seconds", ev->seconds),
                  INT("done", c->s->count[JOB_DONE]), INT("of", c->s->jobs - c->s->count[JOB_CANCELLED]));
    else if (ev->type == EV_FAILED)
        log_event(log, "failed", TEXT(noun(j), j->spec.name), INT("attempt", ev->attempt), INT("step", ev->step),
                  TEXT("blame", job_blame_name(ev->blame)), TEXT("now", job_state_name(j->state)),
                  TEXT("why", ev->text));
}

/* ---- pace and time left --------------------------------------------------------------------------------------- */

void show_progress(coordinator *c, int job, int64_t step)
{
    const sched_job *j = job >= 0 && job < c->s->jobs ? &c->s->job[job] : NULL;

    if (j && step > j->step && step <= j->spec.steps)
        c->pace.samples += (double)((step - j->step) * j->spec.batch);
}

static void age_pace(pace *p)
{
    int64_t now = clock_ns();
    double dt = p->at_ns ? (double)(now - p->at_ns) * 1e-9 : 0, keep = MEMORY_S / (MEMORY_S + dt);

    p->samples *= keep;
    p->seconds = (p->seconds + dt) * keep;
    p->at_ns = now;
}

static double rate(const coordinator *c) { return c->pace.seconds > 0 ? c->pace.samples / c->pace.seconds : 0; }

static void count_job(eta_work *w, const sched_job *j)
{
    double samples = (double)(j->spec.steps - (sched_running(j) ? j->step : 0)) * (double)j->spec.batch;

    if (j->spec.kind != JOB_TRAIN || j->state >= JOB_DONE || j->spec.hold)
        return;
    w->samples += samples;
    w->concepts++;
    if (samples > w->longest)
        w->longest = samples;
}

static void count_slots(eta_work *w, const sched_node *n)
{
    for (int i = 0; n->name && i < n->n; i++)
        w->slots += n->slot[i].state != SLOT_DOWN;
}

static eta_work work_left(const sched *s)
{
    eta_work w = {0};

    for (int i = 0; i < s->jobs; i++)
        count_job(&w, &s->job[i]);
    for (int n = 0; n < s->nodes; n++)
        count_slots(&w, &s->node[n]);
    return w;
}

/* What earlier runs took, without their gangs and their loading: a first idea, soon outweighed. */
void show_learn(coordinator *c)
{
    for (int i = 0; i < c->s->jobs; i++) {
        const sched_job *j = &c->s->job[i];
        if (j->state == JOB_DONE && j->spec.kind == JOB_TRAIN)
            eta_learn(&c->eta, j->seconds, (double)j->spec.steps * (double)j->spec.batch);
    }
    if (c->eta.n > LEARNED_MOST) {
        c->eta.m2 *= LEARNED_MOST / c->eta.n;
        c->eta.n = LEARNED_MOST;
    }
}

/* Seconds; negative while nothing is known. Before the first concept has ended, what the steps say. */
static double time_for(const coordinator *c, const eta_work *w)
{
    eta_answer a;

    if (eta_ask(&c->eta, w, &a))
        return a.middle;
    return rate(c) > 0 ? w->samples / rate(c) : -1;
}

static double time_left(const coordinator *c)
{
    eta_work w = work_left(c->s);

    return time_for(c, &w);
}

static void clock_text(double s, char out[32])
{
    long t = (long)(s + 0.5);

    if (s < 0)
        strcpy(out, "?");
    else
        snprintf(out, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static int running(const sched *s)
{
    int n = 0;

    for (int k = JOB_ASSIGNED; k <= JOB_PUBLISHING; k++)
        n += s->count[k];
    return n;
}

/* As many of those that run as fit: "rex 120/250 0.083". */
static void add_running(const coordinator *c, str *line, size_t most)
{
    for (int i = 0; i < c->s->jobs && line->n < most; i++) {
        const sched_job *j = &c->s->job[i];
        if (!sched_running(j))
            continue;
        if (j->state == JOB_TRAINING)
            str_add(line, "  %s %lld/%lld %.4f %.2f s/step", j->spec.name, (long long)j->step, (long long)j->spec.steps,
                    j->loss, j->step_seconds);
        else
            str_add(line, "  %s %s", j->spec.name, job_state_name(j->state));
    }
}

/* A line that wraps could not be overwritten. */
static int line_width(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1 : 79;
}

static void progress_line(coordinator *c)
{
    const sched *s = c->s;
    char left[32];
    str line = {0};

    if (!log_progress_due(c->how->log))
        return;
    clock_text(time_left(c), left);
    str_add(&line, "%d/%d done  %d running  %.1f samples/s  left %s", s->count[JOB_DONE],
            s->jobs - s->count[JOB_CANCELLED], running(s), rate(c), left);
    add_running(c, &line, 200);
    log_progress(c->how->log, "%.*s", line_width(), line.at);
    str_free(&line);
}

static void minute_line(coordinator *c)
{
    char left[32];

    clock_text(time_left(c), left);
    log_event(c->how->log, "progress", INT("done", c->s->count[JOB_DONE]),
              INT("of", c->s->jobs - c->s->count[JOB_CANCELLED]), INT("running", running(c->s)),
              REAL("samples_per_second", rate(c)), TEXT("left", left));
}

/* ---- the status files ----------------------------------------------------------------------------------------- */

enum { UNWELL_MOST = 50 }; /* named in the summary; all are in the table */
enum { PAGE_LOOKS = 32, PAGE_BYTES = 1 << 16 }; /* jobs between two looks at the clock; bytes of them between two writes */
static const int64_t PIECE = 500000;

static void put_word(str *to, const char *key, const char *word)
{
    json_t *text = json_string(word);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL; /* NULL: a program said what is no UTF-8 */

    str_add(to, ",\"%s\":%s", key, quoted ? quoted : "\"\"");
    free(quoted);
    json_decref(text);
}

/* One object; names and states need no escapes. Written by hand: a farm of 100,000 is told every few seconds. */
static void put_job(const coordinator *c, str *to, const sched_job *j)
{
    str_add(to, "{\"name\":\"%s\",\"kind\":\"%s\",\"state\":\"%s\",\"attempt\":%d,\"steps\":%lld", j->spec.name,
            job_kind_name(j->spec.kind), job_state_name(j->state), j->attempt, (long long)j->spec.steps);
    if (j->spec.owner[0])
        put_word(to, "owner", j->spec.owner);
    if (sched_running(j)) {
        str_add(to, ",\"step\":%lld,\"loss\":%.9g,\"gang\":%d,\"step_seconds\":%.6g", (long long)j->step,
                isfinite(j->loss) ? j->loss : 0, j->gang, j->step_seconds);
        if (j->node >= 0 && c->s->node[j->node].name)
            put_word(to, "node", c->s->node[j->node].name);
    }
    if (j->state == JOB_DONE)
        str_add(to, ",\"sha256\":\"%s\",\"seconds\":%.6g", j->sha256, j->seconds);
    else if (j->why)
        put_word(to, "why", j->why);
    str_add(to, "}");
}

static bool unwell(const sched_job *j)
{
    return j->state == JOB_QUARANTINED || j->state == JOB_REJECTED || j->state == JOB_RETRY_WAIT;
}

static void put_node(status_page *p, const sched_node *k)
{
    int count[SLOT_STATES] = {0}, busy = 0;

    if (!k->name)
        return;
    for (int i = 0; i < k->n; i++) {
        busy += k->slot[i].job >= 0;
        count[k->slot[i].state] += k->slot[i].job < 0;
    }
    str_add(&p->text, "%s\n {\"busy\":%d,\"ready\":%d,\"warming\":%d,\"down\":%d", p->told++ ? "," : "", busy, count[SLOT_READY],
            count[SLOT_WARMING], count[SLOT_DOWN]);
    put_word(&p->text, "name", k->name);
    if (k->trouble)
        put_word(&p->text, "trouble", node_trouble_text(k->trouble));
    str_add(&p->text, "}");
}

static void put_waste(const coordinator *c, str *to)
{
    str_add(to, ",\n\"slot_seconds\":{");
    for (int k = 0; k < WASTES; k++)
        str_add(to, "%s\"%s\":%.3f", k ? "," : "", waste_word((waste_kind)k), c->where.seconds[k]);
    str_add(to, "}");
}

static void put_head(const coordinator *c, str *to, const char *state, const eta_work *w)
{
    double left = time_for(c, w);
    eta_answer a;
    char when[32];
    bool first = true;

    clock_iso(when, clock_wall_ms());
    str_add(to, "{\"farm\":\"%s\",\"state\":\"%s\",\"time\":\"%s\",\"epoch\":%lld,\"jobs\":%d,\n\"count\":{",
            c->how->name, state, when, (long long)c->s->epoch, c->s->jobs);
    for (int k = 0; k < JOB_STATES; k++)
        if (c->s->count[k] > 0) {
            str_add(to, "%s\"%s\":%d", first ? "" : ",", job_state_name((job_state)k), c->s->count[k]);
            first = false;
        }
    str_add(to, "},\n\"free_slots\":%d,\"warming_slots\":%d,\"samples_per_second\":%.6g,\"sample_seconds\":%.6g", c->s->ready,
            c->s->warming, rate(c), c->s->ms_per_sample / 1000);
    if (left >= 0)
        str_add(to, ",\"seconds_left\":%.1f", left);
    if (eta_ask(&c->eta, w, &a))
        str_add(to, ",\"seconds_low\":%.1f,\"seconds_high\":%.1f", a.low, a.high);
    put_waste(c, to);
}

/* Whole or not at all, but not synced: it is told again in a second. A status that cannot be written (a full disk) must
 * not stop what it tells of. */
static int open_aside(page_file *f, const coordinator *c, const char *name, err *e)
{
    TRY(fs_join(f->path, c->l->dir, name, e));
    TRY(fs_aside(f->aside, f->path, e));
    f->to = fopen(f->aside, "we");
    return f->to ? 0 : err_set(e, ERR_IO, "%s: %s", f->path, strerror(errno));
}

static void open_file(page_file *f, const coordinator *c, const char *name)
{
    err e = {0};

    if (open_aside(f, c, name, &e) != 0)
        log_event(c->how->log, "status-not-written", TEXT("why", e.text));
}

static void put_in_file(page_file *f, str *text)
{
    if (f->to && fwrite(text->at, 1, text->n, f->to) != text->n)
        f->broken = errno;
    text->n = 0;
}

static void close_file(page_file *f, const coordinator *c)
{
    if (!f->to)
        return;
    if (!f->broken && (fflush(f->to) != 0 || rename(f->aside, f->path) != 0))
        f->broken = errno;
    fclose(f->to);
    if (f->broken) {
        log_event(c->how->log, "status-not-written", TEXT("path", f->path), TEXT("why", strerror(f->broken)));
        fs_discard(f->aside);
    }
    f->to = NULL;
    f->broken = 0;
}

static void write_file(const coordinator *c, const char *name, str *text)
{
    page_file f = {0};

    open_file(&f, c, name);
    put_in_file(&f, text);
    close_file(&f, c);
}

/* One job or node of the stage it is in; false: there is none left. */
static bool put_next(coordinator *c, status_page *p)
{
    int at = p->at++;
    const sched_job *j = at < c->s->jobs ? &c->s->job[at] : NULL;

    if (p->stage == PAGE_NODES && at < c->s->nodes) {
        count_slots(&p->work, &c->s->node[at]);
        put_node(p, &c->s->node[at]);
        return true;
    }
    if (p->stage == PAGE_NODES || !j)
        return false;
    if (p->stage == PAGE_COUNT) {
        count_job(&p->work, j);
    } else if (p->stage == PAGE_TABLE) {
        put_job(c, &p->text, j);
        str_put(&p->text, "\n", 1);
        if (p->text.n > PAGE_BYTES)
            put_in_file(&p->table, &p->text);
    } else if (p->stage == PAGE_RUNNING ? sched_running(j) : unwell(j) && p->told < UNWELL_MOST) {
        str_add(&p->text, "%s\n ", p->told++ ? "," : "");
        put_job(c, &p->text, j);
    }
    return true;
}

/* The head comes last, as it tells what was counted on the way. */
static void write_summary(const coordinator *c, status_page *p, const char *state)
{
    str all = {0};

    put_head(c, &all, state, &p->work);
    str_put(&all, p->text.at, p->text.n);
    str_add(&all, "}\n");
    write_file(c, "status.json", &all);
    str_free(&all);
    p->text.n = 0;
}

static void end_stage(coordinator *c, status_page *p, const char *state)
{
    static const char *const opens[PAGE_STAGES] = {[PAGE_NODES] = ",\n\"nodes\":[", [PAGE_RUNNING] = ",\n\"running\":[",
                                                   [PAGE_UNWELL] = ",\n\"unwell\":["};

    if (opens[p->stage])
        str_add(&p->text, "]");
    if (p->stage == PAGE_UNWELL)
        write_summary(c, p, state);
    if (p->stage == PAGE_TABLE) {
        put_in_file(&p->table, &p->text);
        close_file(&p->table, c);
    }
    p->stage++;
    p->at = p->told = 0;
    if (p->stage < PAGE_STAGES && opens[p->stage])
        str_add(&p->text, "%s", opens[p->stage]);
    if (p->stage == PAGE_TABLE)
        open_file(&p->table, c, "jobs.jsonl");
}

static void page_forget(status_page *p)
{
    if (p->table.to) {
        fclose(p->table.to);
        fs_discard(p->table.aside);
        p->table.to = NULL;
    }
    p->text.n = 0;
    p->stage = p->at = p->told = 0;
    p->work = (eta_work){0};
}

/* status.json is the summary, and comes last: once it tells of the end, jobs.jsonl does. That has a line for each job. A farm of
 * thousands is told in pieces of a turn each, so that no order waits for it; each line is true of its own moment. False: it goes
 * on at the next turn. */
static bool write_status(coordinator *c, const char *state, int64_t until)
{
    status_page *p = &c->page;

    for (int n = 1; p->stage < PAGE_STAGES; n++) {
        if (!put_next(c, p))
            end_stage(c, p, state);
        if (n % PAGE_LOOKS == 0 && clock_ns() > until)
            return false;
    }
    page_forget(p);
    return true;
}

/* ---- when ----------------------------------------------------------------------------------------------------- */

static void tell_troubles(coordinator *c)
{
    for (; c->troubles < c->s->nodes; c->troubles++) {
        c->trouble_told = mem_grow(c->trouble_told, (size_t)c->troubles + 1, sizeof *c->trouble_told);
        c->trouble_told[c->troubles] = NODE_WELL;
    }
    for (int n = 0; n < c->s->nodes; n++) {
        const sched_node *k = &c->s->node[n];
        if (!k->name || c->trouble_told[n] == (int)k->trouble)
            continue;
        c->trouble_told[n] = (int)k->trouble;
        log_event(c->how->log, "node", TEXT("node", k->name), TEXT("now", node_trouble_text(k->trouble)));
    }
}

static void tell_status(coordinator *c, int64_t t)
{
    bool all = write_status(c, c->level > LEVEL_RUN ? "draining" : "running", t + PIECE);

    c->page.spent_ns += clock_ns() - t;
    if (!all)
        return;
    c->status_ns = clock_ns() + SECOND + STATUS_SHARE * c->page.spent_ns;
    c->page.spent_ns = 0;
}

bool show_under_way(const coordinator *c) { return c->page.stage > 0 || c->page.at > 0; }

void show_tick(coordinator *c)
{
    int64_t t = clock_ns();

    age_pace(&c->pace);
    tell_troubles(c);
    progress_line(c);
    if (t >= c->status_ns)
        tell_status(c, t);
    if (c->told_ns == 0)
        c->told_ns = t;
    if (t - c->told_ns > LINE_EVERY) {
        c->told_ns = t;
        minute_line(c);
    }
}

static const char *end_word(int status)
{
    switch (status) {
    case FARM_DONE:        return "done";
    case FARM_SOME_FAILED: return "some failed";
    case FARM_INTERRUPTED: return "interrupted";
    case FARM_AGAIN:       return "stopped by the machine";
    default:               return "broken";
    }
}

static void tell_unfinished(const coordinator *c)
{
    for (int i = 0; i < c->s->jobs; i++) {
        const sched_job *j = &c->s->job[i];
        if (j->state == JOB_QUARANTINED || j->state == JOB_REJECTED)
            log_event(c->how->log, job_state_name(j->state), TEXT(noun(j), j->spec.name), TEXT("why", j->why));
        else if (j->state == JOB_QUEUED && j->blocked)
            log_event(c->how->log, "not-run", TEXT(noun(j), j->spec.name), TEXT("why", "what it needs is not done"));
    }
}

/* Killed between its last record and its last words: they are said for it, with the account of the slots' time as it stood. */
void coordinator_last_words(ledger *l, const char *name, int status)
{
    coordinator_options how = {.l = l, .name = name};
    coordinator c = {.how = &how, .l = l, .s = l->s};
    json_t *last = NULL;
    char path[FS_PATH];

    if (fs_join(path, l->dir, "status.json", NULL) != 0 || json_read(&last, path, NULL) != 0)
        return;
    const char *state = json_string_value(json_object_get(last, "state"));
    bool cut = state && (strcmp(state, "running") == 0 || strcmp(state, "draining") == 0);
    for (int k = 0; k < WASTES; k++)
        c.where.seconds[k] = json_number_value(json_object_get(json_object_get(last, "slot_seconds"), waste_word((waste_kind)k)));
    json_decref(last);
    if (!cut)
        return;
    show_learn(&c);
    write_status(&c, end_word(status), INT64_MAX);
    str_free(&c.page.text);
}

void show_end(coordinator *c)
{
    str number = {0};

    if (c->status == FARM_SOME_FAILED)
        tell_unfinished(c);
    log_event(c->how->log, "farm", TEXT("name", c->how->name), TEXT("end", end_word(c->status)),
              INT("done", c->s->count[JOB_DONE]), INT("of", c->s->jobs - c->s->count[JOB_CANCELLED]),
              REAL("seconds", (double)(clock_ns() - c->started_ns) * 1e-9));
    notify(c, "end", "", end_word(c->status));
    page_forget(&c->page); /* a half of before */
    write_status(c, end_word(c->status), INT64_MAX);
    str_free(&c->page.text);
    str_add(&number, "%d\n", c->status);
    write_file(c, "exit", &number);
    str_free(&number);
}
