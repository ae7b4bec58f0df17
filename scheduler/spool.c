/* Orders as files, and what they mean. */
#include "scheduler/spool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/intake.h"

enum { ORDER_MOST = 1 << 28 };

static int spool_path(char out[FS_PATH], const char *farm, const char *id, err *e)
{
    str name = {0};
    int rc;

    str_add(&name, "spool/%s", id);
    rc = fs_join(out, farm, name.at, e);
    str_free(&name);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

int spool_put(char id[SPOOL_ID], const char *farm, json_t *order, err *e)
{
    char path[FS_PATH], *text;
    uint64_t lot = 0; /* two machines may speak in the same millisecond */
    int rc;

    if (getrandom(&lot, sizeof lot, 0) != (ssize_t)sizeof lot)
        lot = (uint64_t)clock_ns();
    json_object_set_new(order, "version", json_integer(SPOOL_VERSION));
    snprintf(id, SPOOL_ID, "%013lld-%016llx.json", (long long)clock_wall_ms(), (unsigned long long)lot);
    rc = spool_path(path, farm, "", e);
    if (rc == 0)
        rc = fs_mkdirs(path, e);
    if (rc == 0)
        rc = spool_path(path, farm, id, e);
    text = json_dumps(order, JSON_COMPACT);
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    free(text);
    json_decref(order);
    return rc;
}

/* Names of orders, by time; no folder: none. What is being written aside has another ending. */
static int list(char ***out, size_t *n, const char *farm, err *e)
{
    char dir[FS_PATH], **names;
    size_t all, kept = 0;

    *out = NULL;
    *n = 0;
    TRY(spool_path(dir, farm, "", e));
    if (!fs_is_dir(dir))
        return 0;
    TRY(fs_list(&names, &all, dir, e));
    for (size_t i = 0; i < all; i++) {
        if (str_ends(names[i], ".json"))
            names[kept++] = names[i];
        else
            free(names[i]);
    }
    names[kept] = NULL;
    *out = names;
    *n = kept;
    return 0;
}

size_t spool_waiting(const char *farm)
{
    char **names;
    size_t n;

    if (list(&names, &n, farm, NULL) != 0 || !names)
        return 0;
    fs_list_free(names);
    return n;
}

bool spool_has(const char *farm, const char *id)
{
    char path[FS_PATH];

    return spool_path(path, farm, id, NULL) == 0 && fs_exists(path);
}

static int refused_path(char out[FS_PATH], const char *farm, const char *id, const char *ending, err *e)
{
    str name = {0};
    int rc;

    str_add(&name, "refused/%s%s", id, ending);
    rc = spool_path(out, farm, name.at, e);
    str_free(&name);
    return rc;
}

bool spool_refused(const char *farm, const char *id, char *why, size_t room)
{
    char path[FS_PATH], *text;
    size_t n;

    if (refused_path(path, farm, id, ".why", NULL) != 0 || fs_read(path, &text, &n, 1 << 16, NULL) != 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    str_copy(why, room, text);
    free(text);
    return true;
}

/* ---- what orders mean ----------------------------------------------------------------------------------------- */

typedef struct {
    const sched *s;
    const char *word;
    const spool_hands *hands;
} obeying;

static void tell(const obeying *o, const char *name, bool changed, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void tell(const obeying *o, const char *name, bool changed, const char *fmt, ...)
{
    char text[600];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    o->hands->tell(o->hands->arg, o->word, name, changed, text);
}

/* The event, and the sentence that goes with it, or with its refusal. */
static void change(const obeying *o, const char *name, const sched_event *ev, const char *what)
{
    err e = {0};

    if (o->hands->step(o->hands->arg, ev, &e) == 0)
        tell(o, name, true, "%s", what);
    else
        tell(o, name, false, "%s", e.text);
}

/* Where a job stands, as one says it after "it ". */
static void standing(const sched_job *j, char out[200])
{
    if (j->state == JOB_TRAINING)
        snprintf(out, 200, "was training, at step %lld of %lld", (long long)j->step, (long long)j->spec.steps);
    else if (sched_running(j))
        snprintf(out, 200, "was running");
    else
        snprintf(out, 200, "was %s", job_state_name(j->state));
}

static void order_cancel(const obeying *o, int at, const sched_job *j)
{
    char was[200], text[260];

    standing(j, was);
    snprintf(text, sizeof text, "cancelled; it %s", was);
    if (j->state == JOB_CANCELLED)
        tell(o, j->spec.name, false, "cancelled already");
    else if (j->state == JOB_DONE)
        tell(o, j->spec.name, false, "done already: there is nothing to cancel");
    else
        change(o, j->spec.name, &(sched_event){.type = EV_CANCEL, .job = at, .ordered = true}, text);
}

static void order_retry(const obeying *o, int at, const sched_job *j)
{
    char was[200], text[260];

    standing(j, was);
    snprintf(text, sizeof text, "back in the line; it %s", was);
    if (j->state == JOB_DONE)
        tell(o, j->spec.name, false, "done already: there is nothing to try again");
    else if (j->state == JOB_HOLD && j->spec.hold)
        tell(o, j->spec.name, false, "on hold: release it");
    else if (j->state == JOB_QUEUED || sched_running(j))
        tell(o, j->spec.name, false, "%s already", job_state_name(j->state));
    else
        change(o, j->spec.name, &(sched_event){.type = EV_RELEASE, .job = at, .ordered = true}, text);
}

static void order_hold(const obeying *o, int at, const sched_job *j)
{
    char was[200], text[260];

    standing(j, was);
    snprintf(text, sizeof text, "on hold; it %s", was);
    if (j->state == JOB_HOLD && j->spec.hold)
        tell(o, j->spec.name, false, "on hold already");
    else if (j->state >= JOB_DONE)
        tell(o, j->spec.name, false, "%s: there is nothing to hold", job_state_name(j->state));
    else
        change(o, j->spec.name, &(sched_event){.type = EV_HOLD, .job = at}, text);
}

static void order_release(const obeying *o, int at, const sched_job *j)
{
    if (j->state != JOB_HOLD)
        tell(o, j->spec.name, false, "%s, not on hold", job_state_name(j->state));
    else
        change(o, j->spec.name, &(sched_event){.type = EV_RELEASE, .job = at, .ordered = true}, "released");
}

static void order_priority(const obeying *o, int at, const sched_job *j)
{
    sched_event ev = {.type = EV_PRIORITY, .job = at, .priority = (job_priority)job_priority_find(o->word)};
    char text[80];

    snprintf(text, sizeof text, "%s; it was %s", o->word, job_priority_name(j->spec.priority));
    if (j->spec.priority == ev.priority)
        tell(o, j->spec.name, false, "%s already", o->word);
    else if (j->state == JOB_DONE)
        tell(o, j->spec.name, false, "done already: its priority has no effect");
    else
        change(o, j->spec.name, &ev, text);
}

static const struct {
    const char *word;
    void (*obey)(const obeying *o, int at, const sched_job *j);
} named[] = {
    {"cancel", order_cancel}, {"retry", order_retry}, {"hold", order_hold}, {"release", order_release},
    {"urgent", order_priority}, {"normal", order_priority}, {"background", order_priority},
};

static const char *nearest(const sched *s, const char *name)
{
    const char **names = NEW_N(const char *, s->jobs + 1), *near;

    for (int i = 0; i < s->jobs; i++)
        names[i] = s->job[i].spec.name;
    near = str_nearest(name, names);
    free(names);
    return near;
}

static int obey_named(const obeying *o, const json_t *names, size_t row, err *e)
{
    json_t *v;
    size_t i;

    if (!json_is_array(names))
        return err_set(e, ERR_INPUT, "an order without names");
    json_array_foreach(names, i, v)
    {
        const char *name = json_string_value(v), *near;
        int at = name ? sched_find(o->s, name) : -1;
        if (at >= 0) {
            named[row].obey(o, at, &o->s->job[at]);
        } else {
            near = nearest(o->s, name ? name : "");
            tell(o, name ? name : "", false, near ? "no such concept; did you mean %s" : "no such concept", near);
        }
    }
    return 0;
}

static void add_one(const obeying *o, const job_spec *p)
{
    int at = sched_find(o->s, p->name);
    const sched_job *j = at >= 0 ? &o->s->job[at] : NULL;
    sched_event ev = {.type = EV_SUBMIT, .spec = *p};
    char text[INTAKE_TEXT];
    intake_answer is = intake_judge(j, p, text);

    if (is == INTAKE_SAME && j->state != JOB_CANCELLED)
        tell(o, p->name, false, "there already: %s", job_state_name(j->state));
    else
        change(o, p->name, &ev, is == INTAKE_NEW ? "added" : "changed");
}

static int obey_add(const obeying *o, json_t *jobs, err *e)
{
    json_t *v;
    size_t i;

    if (!json_is_array(jobs))
        return err_set(e, ERR_INPUT, "an order to add without jobs");
    json_array_foreach(jobs, i, v)
    {
        job_spec p = {0};
        TRY(sched_read_spec(&p, v, e));
        add_one(o, &p);
    }
    return 0;
}

int spool_obey(const sched *s, const json_t *order, const spool_hands *hands, err *e)
{
    obeying o = {.s = s, .hands = hands};
    int64_t version;

    TRY(json_get_int(order, "version", 1, INT32_MAX, &version, e));
    if (version != SPOOL_VERSION)
        return err_set(e, ERR_INPUT, "an order of version %lld; this program reads %d", (long long)version, SPOOL_VERSION);
    TRY(json_get_text(order, "do", &o.word, e));
    if (strcmp(o.word, "add") == 0)
        return obey_add(&o, json_object_get(order, "jobs"), e);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (strcmp(o.word, named[i].word) == 0)
            return obey_named(&o, json_object_get(order, "names"), i, e);
    if (strcmp(o.word, "drain") != 0 && strcmp(o.word, "stop") != 0)
        return err_set(e, ERR_INPUT, "an order to %s, which nobody here knows", o.word);
    if (hands->farm_word)
        hands->farm_word(hands->arg, o.word);
    return 0;
}

/* ---- taking --------------------------------------------------------------------------------------------------- */

static int read_and_obey(const sched *s, const char *farm, const char *id, const spool_hands *hands, err *e)
{
    char path[FS_PATH], *text;
    json_t *order = NULL;
    size_t n;
    int rc;

    TRY(spool_path(path, farm, id, e));
    TRY(fs_read(path, &text, &n, ORDER_MOST, e));
    rc = json_parse(&order, text, n, id, e);
    free(text);
    if (rc == 0)
        rc = json_is_object(order) ? spool_obey(s, order, hands, e) : err_set(e, ERR_INPUT, "%s: no order", id);
    json_decref(order);
    return rc;
}

/* Out of the way, and kept for whoever wonders. */
static void set_aside(const char *farm, const char *id, const char *why, const spool_hands *hands)
{
    char from[FS_PATH], to[FS_PATH], dir[FS_PATH];

    if (refused_path(dir, farm, "", "", NULL) != 0 || fs_mkdirs(dir, NULL) != 0 ||
        refused_path(to, farm, id, ".why", NULL) != 0 || fs_write(to, why, strlen(why), NULL) != 0 ||
        refused_path(to, farm, id, "", NULL) != 0 || spool_path(from, farm, id, NULL) != 0 || rename(from, to) != 0)
        hands->tell(hands->arg, "order", id, false, "cannot be set aside");
    else
        hands->tell(hands->arg, "order", id, false, why);
}

static void remove_done(const char *farm, char **names)
{
    char path[FS_PATH];

    for (; *names; names++)
        if (spool_path(path, farm, *names, NULL) == 0)
            unlink(path); /* one that was set aside is not there; one that stays is obeyed again, to no effect */
}

int spool_take(ledger *l, const spool_hands *hands, err *e)
{
    char **names;
    size_t n;
    int rc;

    if (list(&names, &n, l->dir, NULL) != 0 || !names) /* a folder that cannot be read now is looked at again */
        return 0;
    for (size_t i = 0; i < n; i++) {
        err why = {0};
        if (read_and_obey(l->s, l->dir, names[i], hands, &why) != 0)
            set_aside(l->dir, names[i], why.text, hands);
    }
    rc = n > 0 ? ledger_commit(l, e) : 0;
    if (rc == 0)
        remove_done(l->dir, names);
    fs_list_free(names);
    return rc;
}

static int look_step(void *arg, const sched_event *ev, err *e)
{
    sched_effects todo = {0};
    int rc = sched_step(((ledger *)arg)->s, ev, &todo, e);

    sched_effects_free(&todo);
    return rc;
}

static void look_tell(void *arg, const char *word, const char *name, bool changed, const char *text)
{
    (void)arg, (void)word, (void)name, (void)changed, (void)text;
}

int spool_look(ledger *l, const char *farm, err *e)
{
    spool_hands hands = {.step = look_step, .tell = look_tell, .arg = l};
    char **names;
    size_t n;

    TRY(list(&names, &n, farm, e));
    for (size_t i = 0; i < n; i++)
        read_and_obey(l->s, farm, names[i], &hands, NULL); /* what is no order is the coordinator's to tell */
    if (names)
        fs_list_free(names);
    return 0;
}
