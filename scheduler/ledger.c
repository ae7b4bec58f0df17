/* Opening, beginning, stepping. */
#include "scheduler/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/publish.h"

/* Reading is quick, but a journal of a thousand restarts is still read at every one: it is restated now and then. */
enum { RESTATE_RECORDS = 20000, LOCK_TRIES = 20, LOCK_WAIT_US = 100000 };

static int lock_path(char out[FS_PATH], const char *dir, err *e) { return fs_join(out, dir, "lock", e); }

static const char *who_has_it(const char *dir, char *room, size_t n)
{
    char path[FS_PATH], *text;
    size_t size;

    if (fs_join(path, dir, "epoch", NULL) != 0 || fs_read(path, &text, &size, 4096, NULL) != 0)
        return "another process";
    text[strcspn(text, "\n")] = '\0';
    str_copy(room, n, text);
    free(text);
    return room;
}

/* One that was killed a moment ago may still be on its way out. */
static int take_lock(ledger *l, err *e)
{
    char path[FS_PATH], who[256];

    TRY(lock_path(path, l->dir, e));
    l->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (l->lock < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(l->lock, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK)
            return 0; /* a file system without locks: the epoch fences alone */
        usleep(LOCK_WAIT_US);
    }
    return err_set(e, ERR_PEER, "%s is running already (%s); stop it first", l->dir,
                   who_has_it(l->dir, who, sizeof who));
}

bool ledger_busy(const char *dir)
{
    char path[FS_PATH];
    int fd = lock_path(path, dir, NULL) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1; /* who may only read can ask, too */
    bool busy = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    return busy;
}

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    json_t *owner = NULL;
    sched_event ev;
    int rc;

    rc = sched_read_record(&ev, &owner, type, body, n, e);
    if (rc == 0)
        rc = sched_replay(arg, &ev, e);
    json_decref(owner);
    if (rc != 0 && e)
        e->code = ERR_IO; /* not the user's mistake: the file does not say what was written */
    return rc == 0 ? 0 : ERR_IO;
}

static int make_folders(const char *dir, err *e)
{
    static const char *const name[] = {"journal", "obj", "out", "logs", "spool"};
    char path[FS_PATH];

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        TRY(fs_join(path, dir, name[i], e));
        TRY(fs_mkdirs(path, e));
    }
    return 0;
}

int ledger_open(ledger **out, const char *dir, sched_options how, err *e)
{
    ledger *l = NEW(ledger);
    char path[FS_PATH];
    int rc;

    l->dir = mem_text(dir);
    l->lock = -1;
    l->s = sched_new(how);
    rc = make_folders(dir, e);
    if (rc == 0)
        rc = take_lock(l, e);
    if (rc == 0)
        rc = fs_join(path, dir, "journal", e);
    if (rc == 0)
        rc = journal_open(&l->j, path, on_record, l->s, e);
    if (rc != 0) {
        ledger_close(l);
        l = NULL;
    }
    *out = l;
    return rc;
}

int ledger_look(ledger **out, const char *dir, err *e)
{
    ledger *l = NEW(ledger);
    char path[FS_PATH];
    int rc;

    l->dir = mem_text(dir);
    l->lock = -1;
    l->s = sched_new((sched_options){.gang_max = 1});
    rc = fs_join(path, dir, "journal", e);
    if (rc == 0 && !fs_is_dir(path))
        rc = err_set(e, ERR_INPUT, "%s: no farm has run here", dir);
    if (rc == 0)
        rc = journal_open(&l->j, path, on_record, l->s, e);
    if (rc == 0) {
        journal_close(l->j);
        l->j = NULL;
    } else {
        ledger_close(l);
        l = NULL;
    }
    *out = l;
    return rc;
}

void ledger_close(ledger *l)
{
    if (!l)
        return;
    journal_close(l->j);
    sched_free(l->s);
    if (l->lock >= 0)
        close(l->lock);
    free(l->dir);
    free(l);
}

static json_t *place(int node, int slot) { return json_pack("[i, i]", node, slot); }

/* On which slots an attempt is, for whoever holds the farm to its promises (audit.h); no later epoch asks for it.
 * x: the effect of a START. */
static void add_slots(json_t *o, const sched_event *ev, const sched_effect *x)
{
    json_t *slots = json_array();

    for (int r = 0; x && r < x->gang; r++)
        json_array_append_new(slots, place(x->on[r], x->slot[r]));
    for (int r = 0; !x && r < ev->on_n; r++)
        if (ev->on[r] >= 0)
            json_array_append_new(slots, place(ev->at ? ev->at[r] : ev->node, ev->on[r]));
    json_object_set_new(o, "slots", slots);
    if (ev->pack)
        json_object_set_new(o, "pack", json_true());
    if (x ? x->ahead : ev->ahead)
        json_object_set_new(o, "ahead", json_true());
}

/* Effects stand in the order of the records that they belong to. */
static const sched_effect *effect_of(const sched_effects *todo, size_t *next, const sched_event *ev)
{
    for (; *next < todo->n; ++*next)
        if (todo->at[*next].type == DO_START && todo->at[*next].job == ev->job && todo->at[*next].attempt == ev->attempt)
            return &todo->at[*next];
    *next = 0;
    return NULL;
}

/* A record says also when it was written, for people. */
static void append(ledger *l, const sched_event *ev, const sched_effect *x)
{
    json_t *o = sched_write_record(ev);
    char when[32], *text;

    CHECK(o != NULL);
    if (x || ev->type == EV_ADOPT)
        add_slots(o, ev, x);
    clock_iso(when, clock_wall_ms());
    json_object_set_new(o, "at", json_string(when));
    text = json_dumps(o, JSON_COMPACT);
    CHECK(text != NULL);
    journal_append(l->j, (int)ev->type, text, strlen(text));
    free(text);
    json_decref(o);
}

int ledger_step(ledger *l, const sched_event *ev, sched_effects *todo, err *e)
{
    size_t next = 0;

    TRY(sched_step(l->s, ev, todo, e));
    for (size_t i = 0; i < todo->records && l->j; i++) {
        const sched_event *r = &todo->record[i];
        append(l, r, r->type == EV_START ? effect_of(todo, &next, r) : NULL);
    }
    return 0;
}

int ledger_commit(ledger *l, err *e) { return journal_commit(l->j, e); }

/* The name was given, and the coordinator died before it knew. */
static int adopt(ledger *l, int job, sched_effects *todo, err *e)
{
    const sched_job *j = &l->s->job[job];
    sched_event ev = {.type = EV_DONE, .job = job, .attempt = j->attempt};
    char sha256[HASH_HEX];

    if (!sched_running(j))
        return 0;
    TRY(publish_find(l->dir, j->spec.name, sha256, e));
    ev.sha256 = sha256;
    return sha256[0] ? ledger_step(l, &ev, todo, e) : 0;
}

static int start_epoch(ledger *l, err *e)
{
    json_t *all = sched_snapshot(l->s);
    bool restate = journal_records(l->j) > RESTATE_RECORDS;
    char *text = restate ? json_dumps(all, JSON_COMPACT) : NULL;
    int rc = journal_start(l->j, EV_SNAPSHOT, text, text ? strlen(text) : 0, e);

    free(text);
    json_decref(all);
    return rc;
}

static int write_epoch(const ledger *l, const char *by, err *e)
{
    char path[FS_PATH];
    str text = {0};
    int rc;

    str_add(&text, "epoch %lld %s\n", (long long)l->s->epoch, by);
    rc = fs_join(path, l->dir, "epoch", e);
    if (rc == 0)
        rc = fs_write(path, text.at, text.n, e);
    str_free(&text);
    return rc;
}

int ledger_begin(ledger *l, const char *by, err *e)
{
    sched_effects todo = {0};
    sched_event ev = {.type = EV_EPOCH, .name = by};
    int rc = start_epoch(l, e);

    ev.epoch = journal_epoch(l->j);
    for (int i = 0; i < l->s->jobs && rc == 0; i++)
        rc = adopt(l, i, &todo, e);
    if (rc == 0)
        rc = ledger_step(l, &ev, &todo, e);
    if (rc == 0)
        rc = ledger_commit(l, e);
    if (rc == 0 && !l->shared)
        rc = publish_sweep(l->dir, e);
    sched_effects_free(&todo);
    return rc == 0 ? write_epoch(l, by, e) : rc;
}
