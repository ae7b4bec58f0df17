/* What people and programs see of a running farm: a line per event, one line of progress, DIR/status.json, DIR/exit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/str.h"
#include "scheduler/coord_impl.h"

static const int64_t SECOND = 1000000000, LINE_EVERY = 60 * SECOND;
enum { STATUS_SHARE = 50 }; /* at most a 50th of the time goes into the status file, however large the farm */
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
                  INT("gang", ev->gang));
    else if (ev->type == EV_DONE)
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

static double samples_left(const sched *s)
{
    double left = 0;

    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        if (j->spec.kind == JOB_TRAIN && j->state < JOB_DONE && !j->spec.hold)
            left += (double)((j->spec.steps - (sched_running(j) ? j->step : 0)) * j->spec.batch);
    }
    return left;
}

/* Seconds; negative while nothing is known. */
static double time_left(const coordinator *c) { return rate(c) > 0 ? samples_left(c->s) / rate(c) : -1; }

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

/* ---- the status file ------------------------------------------------------------------------------------------ */

static json_t *job_status(const sched_job *j)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:I}", "name", j->spec.name, "kind", job_kind_name(j->spec.kind),
                          "state", job_state_name(j->state), "attempt", j->attempt, "steps",
                          (json_int_t)j->spec.steps);

    if (sched_running(j)) {
        json_object_set_new(o, "step", json_integer(j->step));
        json_object_set_new(o, "loss", json_real(j->loss));
        json_object_set_new(o, "gang", json_integer(j->gang));
    }
    if (j->state == JOB_DONE) {
        json_object_set_new(o, "sha256", json_string(j->sha256));
        json_object_set_new(o, "seconds", json_real(j->seconds));
    } else if (j->why) {
        json_object_set_new(o, "why", json_string(j->why));
    }
    return o;
}

static json_t *status(const coordinator *c, const char *state)
{
    json_t *counts = json_object(), *jobs = json_array();
    double left = time_left(c);
    char when[32];

    for (int k = 0; k < JOB_STATES; k++)
        if (c->s->count[k] > 0)
            json_object_set_new(counts, job_state_name((job_state)k), json_integer(c->s->count[k]));
    for (int i = 0; i < c->s->jobs; i++)
        json_array_append_new(jobs, job_status(&c->s->job[i]));
    clock_iso(when, clock_wall_ms());
    return json_pack("{s:s, s:s, s:s, s:I, s:o, s:i, s:i, s:f, s:o*, s:o}", "farm", c->how->name, "state", state,
                     "time", when, "epoch", (json_int_t)c->s->epoch, "count", counts, "free_slots", c->s->ready,
                     "warming_slots", c->s->warming, "samples_per_second", rate(c), "seconds_left",
                     left >= 0 ? json_real(left) : NULL, "jobs", jobs);
}

/* A status that cannot be written (a full disk) must not stop what it tells of. */
static void write_file(const coordinator *c, const char *name, const char *text)
{
    char path[FS_PATH];
    err e = {0};

    if (fs_join(path, c->l->dir, name, &e) != 0 || fs_write(path, text, strlen(text), &e) != 0)
        log_event(c->how->log, "status-not-written", TEXT("why", e.text));
}

static void write_status(const coordinator *c, const char *state)
{
    json_t *o = status(c, state);
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9));

    write_file(c, "status.json", text);
    free(text);
    json_decref(o);
}

/* ---- when ----------------------------------------------------------------------------------------------------- */

void show_tick(coordinator *c)
{
    int64_t t = clock_ns();

    age_pace(&c->pace);
    progress_line(c);
    if (t >= c->status_ns) {
        write_status(c, c->level > LEVEL_RUN ? "draining" : "running");
        c->status_ns = clock_ns() + SECOND + STATUS_SHARE * (clock_ns() - t);
    }
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

void show_end(coordinator *c)
{
    char number[16];

    if (c->status == FARM_SOME_FAILED)
        tell_unfinished(c);
    log_event(c->how->log, "farm", TEXT("name", c->how->name), TEXT("end", end_word(c->status)),
              INT("done", c->s->count[JOB_DONE]), INT("of", c->s->jobs - c->s->count[JOB_CANCELLED]),
              REAL("seconds", (double)(clock_ns() - c->started_ns) * 1e-9));
    write_status(c, end_word(c->status));
    snprintf(number, sizeof number, "%d\n", c->status);
    write_file(c, "exit", number);
}
