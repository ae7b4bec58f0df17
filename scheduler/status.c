/* `cfarm status`, `cfarm top`, `cfarm logs`, `cfarm why`: what a farm writes, for people; and for programs with --json.
 * None of them touches the farm. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/waste.h"

enum { FILE_MOST = 1 << 30, ALL_SHOWN = 50, POLL_US = 200000, TOP_ROWS = 20 };

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static long long number_of(const json_t *o, const char *key) { return (long long)json_integer_value(json_object_get(o, key)); }

/* ---- reading -------------------------------------------------------------------------------------------------- */

static int read_status(json_t **out, const char *dir, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, "status.json", e));
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: no farm has run here", dir);
    return json_read(out, path, e);
}

static int read_jobs(char **text, size_t *n, const char *dir, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, "jobs.jsonl", e));
    return fs_read(path, text, n, FILE_MOST, e);
}

/* The line of a name: each begins with {"name":"NAME", and names hold nothing that is escaped. */
static bool line_is(const char *line, const char *name)
{
    static const char head[] = "{\"name\":\"";
    size_t n = strlen(name);

    return strncmp(line, head, sizeof head - 1) == 0 && strncmp(line + sizeof head - 1, name, n) == 0 &&
           line[sizeof head - 1 + n] == '"';
}

/* ---- status --------------------------------------------------------------------------------------------------- */

static void show_job(const json_t *j)
{
    printf("%-20s %-12s", text_of(j, "name"), text_of(j, "state"));
    if (json_object_get(j, "step"))
        printf(" %lld/%lld  loss %.4f", number_of(j, "step"), number_of(j, "steps"),
               json_number_value(json_object_get(j, "loss")));
    if (json_object_get(j, "seconds"))
        printf(" %.1f s", json_number_value(json_object_get(j, "seconds")));
    if (json_object_get(j, "why"))
        printf(" %s", text_of(j, "why"));
    putchar('\n');
}

static void show_line(const char *line, size_t n)
{
    json_t *j = json_loadb(line, n, 0, NULL);

    if (j)
        show_job(j);
    json_decref(j);
}

static void show_list(const json_t *list)
{
    json_t *v;
    size_t i;

    json_array_foreach(list, i, v)
        show_job(v);
}

static void show_time(const json_t *o)
{
    double left = json_number_value(json_object_get(o, "seconds_left"));
    double low = json_number_value(json_object_get(o, "seconds_low"));
    double high = json_number_value(json_object_get(o, "seconds_high"));

    if (!json_object_get(o, "seconds_left"))
        return;
    printf(", %.0f s left", left);
    if (high > 0)
        printf(" (%.0f to %.0f)", low, high);
}

static void show_counts(const json_t *o, bool busy, size_t orders)
{
    const char *state = text_of(o, "state"), *key;
    json_t *v;

    if (!busy && (strcmp(state, "running") == 0 || strcmp(state, "draining") == 0))
        state = "cut short; the same command goes on";
    printf("farm %s: %s", text_of(o, "farm"), state);
    json_object_foreach(json_object_get(o, "count"), key, v)
        printf(", %lld %s", (long long)json_integer_value(v), key);
    if (busy)
        show_time(o);
    if (orders > 0)
        printf(", %zu orders wait%s", orders, busy ? "" : " for its next start");
    putchar('\n');
}

typedef struct {
    char *const *names;
    int n;
    bool all, json;
} status_options;

static bool is_wanted(const status_options *w, const char *line)
{
    for (int i = 0; i < w->n; i++)
        if (line_is(line, w->names[i]))
            return true;
    return w->n == 0;
}

/* Each wanted line of the table, as it stands; how many. */
static int each_line(const status_options *w, char *text, void (*fn)(const char *line, size_t n))
{
    int found = 0;

    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if (is_wanted(w, line)) {
            fn(line, (size_t)(end - line));
            found++;
        }
    return found;
}

static void print_json_line(const char *line, size_t n)
{
    static bool comma;

    printf("%s%.*s", comma ? "," : "", (int)n, line);
    comma = true;
}

/* The table's lines are objects already: nothing is parsed again. */
static void print_json(json_t *o, const status_options *w, char *jobs, bool busy, size_t orders)
{
    char *text;

    json_object_del(o, "jobs");
    json_object_set_new(o, "alive", json_boolean(busy));
    json_object_set_new(o, "orders_waiting", json_integer((json_int_t)orders));
    text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%.*s,\"jobs\":[", (int)strlen(text) - 1, text);
    each_line(w, jobs, print_json_line);
    puts("]}");
    free(text);
}

static const char *nearest_line(char *jobs, const char *name, char room[128])
{
    const char **names = NULL, *near;
    size_t n = 0;

    for (char *line = jobs, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char *quote = strchr(line + 9, '"');
        if (!quote || quote > end)
            continue;
        *quote = '\0';
        names = mem_grow(names, n + 2, sizeof *names);
        names[n++] = line + 9;
        names[n] = NULL;
    }
    near = names ? str_nearest(name, names) : NULL;
    if (near)
        str_copy(room, 128, near);
    free(names);
    return near ? room : NULL;
}

static int check_names(const status_options *w, char *jobs, err *e)
{
    for (int i = 0; i < w->n; i++) {
        bool found = false;
        char near[128];
        for (char *line = jobs, *end; !found && (end = strchr(line, '\n')) != NULL; line = end + 1)
            found = line_is(line, w->names[i]);
        if (found)
            continue;
        return nearest_line(jobs, w->names[i], near)
                   ? err_set(e, ERR_INPUT, "%s: no such concept; did you mean %s", w->names[i], near)
                   : err_set(e, ERR_INPUT, "%s: no such concept", w->names[i]);
    }
    return 0;
}

static int status(const char *arg, const status_options *w, err *e)
{
    char dir[FS_PATH], *jobs = NULL;
    json_t *o = NULL;
    size_t n;
    bool lines, busy;
    int rc;

    TRY(look_folder(dir, arg, e));
    TRY(read_status(&o, dir, e));
    busy = ledger_busy(dir);
    lines = w->json || w->all || w->n > 0 || number_of(o, "jobs") <= ALL_SHOWN;
    rc = lines ? read_jobs(&jobs, &n, dir, e) : 0;
    if (rc == 0 && w->n > 0)
        rc = check_names(w, jobs, e);
    if (rc == 0 && w->json) {
        print_json(o, w, jobs, busy, spool_waiting(dir));
    } else if (rc == 0) {
        if (lines)
            each_line(w, jobs, show_line);
        else
            show_list(json_object_get(o, "running")), show_list(json_object_get(o, "unwell"));
        if (w->n == 0)
            show_counts(o, busy, spool_waiting(dir));
    }
    free(jobs);
    json_decref(o);
    return rc;
}

int command_status(int argc, char **argv)
{
    status_options w = {.json = look_json(&argc, argv)};
    err e = {0};

    if (argc > 2 && strcmp(argv[argc - 1], "--all") == 0) {
        w.all = true;
        argc--;
    }
    w.names = argv + 2;
    w.n = argc - 2;
    if (argc < 2 || argv[1][0] == '-') {
        fputs("usage: cfarm status FARM [NAME...] [--all] [--json]      FARM: its folder or its file\n"
              "  --all   each concept of a large farm, not only those that run or are unwell\n",
              stderr);
        return FARM_BAD_INPUT;
    }
    return status(argv[1], &w, &e) == 0 ? FARM_DONE : look_complain(&e);
}

/* ---- top ------------------------------------------------------------------------------------------------------ */

static void top_nodes(const json_t *o)
{
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(o, "nodes"), i, v)
        printf("node %-16s %lld busy, %lld ready, %lld warming, %lld down%s%s\n", text_of(v, "name"), number_of(v, "busy"),
               number_of(v, "ready"), number_of(v, "warming"), number_of(v, "down"), *text_of(v, "trouble") ? "  " : "",
               text_of(v, "trouble"));
}

/* Where the time of the slots went, since the coordinator began. */
static void top_waste(const json_t *o)
{
    const json_t *seconds = json_object_get(o, "slot_seconds");
    waste w = {0};

    for (int k = 0; k < WASTES; k++)
        w.seconds[k] = json_number_value(json_object_get(seconds, waste_word((waste_kind)k)));
    if (!(waste_total(&w) > 0))
        return;
    printf("slots");
    for (int k = 0; k < WASTES; k++)
        printf("%s %s %.1f %%", k ? "," : "", waste_text((waste_kind)k), 100 * waste_share(&w, (waste_kind)k));
    putchar('\n');
}

static void top_running(const json_t *o, int rows)
{
    const json_t *list = json_object_get(o, "running");
    json_t *v;
    size_t i;

    json_array_foreach(list, i, v)
    {
        if ((int)i == rows) {
            printf("... %zu more\n", json_array_size(list) - i);
            break;
        }
        printf("%-20s %-10s %lld/%lld  loss %.4f  %.3f s/step  %s x%lld\n", text_of(v, "name"), text_of(v, "state"),
               number_of(v, "step"), number_of(v, "steps"), json_number_value(json_object_get(v, "loss")),
               json_number_value(json_object_get(v, "step_seconds")), text_of(v, "node"), number_of(v, "gang"));
    }
}

static int terminal_rows(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 8 ? size.ws_row - 8 : TOP_ROWS;
}

static void top_page(const json_t *o, bool busy, size_t orders)
{
    fputs("\033[H\033[2J", stdout);
    show_counts(o, busy, orders);
    top_waste(o);
    top_nodes(o);
    top_running(o, terminal_rows());
}

/* On a terminal a page that is drawn again each second; for programs an object a line whenever the farm has told; else a line
 * whenever the counts change. last: what was shown then; taken. What is shown now. */
static char *top_turn(json_t *o, bool busy, size_t orders, bool json, char *last)
{
    char *now;

    json_object_set_new(o, "alive", json_boolean(busy));
    json_object_set_new(o, "orders_waiting", json_integer((json_int_t)orders));
    now = json_dumps(json ? o : json_object_get(o, "count"), JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!json && isatty(STDOUT_FILENO))
        top_page(o, busy, orders);
    else if (json && (!last || strcmp(last, now) != 0))
        puts(now);
    else if (!json && (!last || strcmp(last, now) != 0))
        show_counts(o, busy, orders);
    fflush(stdout);
    free(last);
    return now;
}

static int top(const char *arg, bool json, err *e)
{
    char dir[FS_PATH], *last = NULL;
    bool busy = true;
    int rc = 0;

    TRY(look_folder(dir, arg, e));
    while (busy) {
        json_t *o;
        busy = ledger_busy(dir);
        rc = read_status(&o, dir, e);
        if (rc != 0)
            break;
        last = top_turn(o, busy, spool_waiting(dir), json, last);
        json_decref(o);
        for (int i = 0; i < 5 && busy; i++)
            usleep(POLL_US);
    }
    free(last);
    return rc;
}

int command_top(int argc, char **argv)
{
    bool json = look_json(&argc, argv);
    err e = {0};

    if (argc != 2 || argv[1][0] == '-') {
        fputs("usage: cfarm top FARM [--json]      until the farm ends, or Ctrl-C; --json: a line for programs, each second\n", stderr);
        return FARM_BAD_INPUT;
    }
    return top(argv[1], json, &e) == 0 ? FARM_DONE : look_complain(&e);
}

/* ---- logs ----------------------------------------------------------------------------------------------------- */

static bool about(const json_t *o, const char *name)
{
    static const char *const key[] = {"concept", "merge", "name"};

    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++)
        if (strcmp(text_of(o, key[i]), name) == 0)
            return true;
    return false;
}

static void print_event(const json_t *o)
{
    const char *key;
    json_t *v;

    printf("%s %s", text_of(o, "time"), text_of(o, "event"));
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        if (strcmp(key, "time") == 0 || strcmp(key, "event") == 0)
            continue;
        if (json_is_string(v))
            printf("  %s %s", key, json_string_value(v));
        else
            printf("  %s %.6g", key, json_number_value(v));
    }
    putchar('\n');
}

/* A line is parsed only when the name stands in it. */
static void on_log_line(const char *line, size_t n, const char *name, bool json)
{
    json_t *o = memmem(line, n, name, strlen(name)) ? json_loadb(line, n, 0, NULL) : NULL;

    if (o && about(o, name)) {
        if (json)
            printf("%.*s\n", (int)n, line);
        else
            print_event(o);
    }
    json_decref(o);
}

/* Whole lines of what has been written since the last look. */
static void on_more(FILE *f, const char *name, bool json)
{
    char *line = NULL;
    size_t room = 0;
    long at = ftell(f);
    ssize_t n;

    while ((n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n') {
        on_log_line(line, (size_t)n - 1, name, json);
        at = ftell(f);
    }
    fseek(f, at, SEEK_SET); /* half a line is read again */
    clearerr(f);
    fflush(stdout);
    free(line);
}

static int open_events(FILE **out, const char *dir, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, "logs/events.jsonl", e));
    *out = fopen(path, "re");
    return *out ? 0 : err_set(e, ERR_INPUT, "%s: no farm has run here", dir);
}

static int find_job(ledger **l, int *at, const char *dir, const char *name, err *e)
{
    const char **names, *near;

    TRY(look_open(l, dir, e));
    *at = sched_find((*l)->s, name);
    if (*at >= 0)
        return 0;
    names = NEW_N(const char *, (*l)->s->jobs + 1);
    for (int i = 0; i < (*l)->s->jobs; i++)
        names[i] = (*l)->s->job[i].spec.name;
    near = str_nearest(name, names);
    err_set(e, ERR_INPUT, near ? "%s: no such concept; did you mean %s" : "%s: no such concept", name, near);
    free(names);
    ledger_close(*l);
    *l = NULL;
    return ERR_INPUT;
}

static int logs(const char *arg, const char *name, bool follow, bool json, err *e)
{
    char dir[FS_PATH];
    ledger *l;
    FILE *f;
    int at;

    TRY(look_folder(dir, arg, e));
    TRY(find_job(&l, &at, dir, name, e));
    ledger_close(l);
    TRY(open_events(&f, dir, e));
    on_more(f, name, json);
    while (follow && ledger_busy(dir)) {
        usleep(POLL_US);
        on_more(f, name, json);
    }
    fclose(f);
    return 0;
}

int command_logs(int argc, char **argv)
{
    bool json = look_json(&argc, argv), follow = false;
    err e = {0};

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "-f") == 0) {
            follow = true;
            memmove(&argv[i], &argv[i + 1], (size_t)(argc-- - i) * sizeof *argv);
            break;
        }
    if (argc != 3 || argv[1][0] == '-') {
        fputs("usage: cfarm logs FARM NAME [-f] [--json]      -f: go on until the farm ends\n", stderr);
        return FARM_BAD_INPUT;
    }
    return logs(argv[1], argv[2], follow, json, &e) == 0 ? FARM_DONE : look_complain(&e);
}

/* ---- why ------------------------------------------------------------------------------------------------------ */

/* The first of what it needs that is not done. */
static const sched_job *missing(const sched *s, const sched_job *j)
{
    for (size_t i = 0; i < json_array_size(j->spec.needs); i++)
        if (s->job[j->needs[i]].state != JOB_DONE)
            return &s->job[j->needs[i]];
    return NULL;
}

static void why_queued(str *to, const sched *s, int at)
{
    const sched_job *j = &s->job[at], *need = missing(s, j);
    int ahead = sched_ahead(s, at);

    if (need)
        str_add(to, "waits for %s, which is %s%s%s", need->spec.name, job_state_name(need->state), need->why ? ": " : "",
                need->why ? need->why : "");
    else if (ahead == 0)
        str_add(to, "is the next in the line, as %s", job_priority_name(j->spec.priority));
    else
        str_add(to, "waits in the line, as %s: %d before it", job_priority_name(j->spec.priority), ahead);
}

static void why_running(str *to, const json_t *status, const char *name)
{
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(status, "running"), i, v)
        if (strcmp(text_of(v, "name"), name) == 0) {
            str_add(to, "is %s on %s, %lld workers, at step %lld of %lld", text_of(v, "state"), text_of(v, "node"),
                    number_of(v, "gang"), number_of(v, "step"), number_of(v, "steps"));
            return;
        }
    str_add(to, "has been started");
}

static void explain(str *to, const sched *s, int at, const json_t *status)
{
    const sched_job *j = &s->job[at];
    const char *why = j->why ? j->why : "no reason kept";

    switch (j->state) {
    case JOB_QUEUED:      why_queued(to, s, at); break;
    case JOB_RETRY_WAIT:  str_add(to, "has failed %d times and is tried again soon; the last time: %s",
                                  j->failures + j->mishaps, why); break;
    case JOB_HOLD:
        str_add(to, j->spec.hold ? "is on hold: cfarm release lets it start" : "waits for the disk: %s", why);
        break;
    case JOB_DONE:        str_add(to, "is done, by attempt %d in %.1f s", j->attempt, j->seconds); break;
    case JOB_QUARANTINED:
        str_add(to, "is quarantined after %d failures (%d blamed on it); the last time: %s. cfarm logs shows it, "
                    "cfarm replay repeats it, cfarm retry puts it back", j->failures + j->mishaps, j->failures, why);
        break;
    case JOB_REJECTED:    str_add(to, "is rejected, as a setting makes it impossible: %s", why); break;
    case JOB_CANCELLED:
        str_add(to, j->ordered & ORDERED_CANCEL ? "was cancelled by cfarm cancel" : "is no longer in the farm file");
        break;
    default:              why_running(to, status, j->spec.name);
    }
    if (j->why && j->state == JOB_QUEUED)
        str_add(to, "; attempt %d ended: %s", j->attempt, why);
}

static int why(const char *arg, const char *name, bool json, err *e)
{
    char dir[FS_PATH];
    json_t *status_now = NULL;
    str text = {0};
    ledger *l;
    int at;

    TRY(look_folder(dir, arg, e));
    TRY(find_job(&l, &at, dir, name, e));
    read_status(&status_now, dir, NULL);
    explain(&text, l->s, at, ledger_busy(dir) ? status_now : NULL);
    if (json) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "name", name, "state", job_state_name(l->s->job[at].state),
                              "why", text.at, "attempt", l->s->job[at].attempt, "failures", l->s->job[at].failures,
                              "mishaps", l->s->job[at].mishaps);
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
    } else {
        printf("%s %s\n", name, text.at);
    }
    json_decref(status_now);
    str_free(&text);
    ledger_close(l);
    return 0;
}

int command_why(int argc, char **argv)
{
    bool json = look_json(&argc, argv);
    err e = {0};

    if (argc != 3 || argv[1][0] == '-') {
        fputs("usage: cfarm why FARM NAME [--json]\n", stderr);
        return FARM_BAD_INPUT;
    }
    return why(argv[1], argv[2], json, &e) == 0 ? FARM_DONE : look_complain(&e);
}
