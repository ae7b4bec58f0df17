/* What a farm's processes have others do: workers that train, checkpoints, and calls about processes. A worker is a machine of
 * its own, driven by the frames it gets and the time: it speaks cluster/wire/worker.h, its result depends on the concept alone,
 * and it crashes, hangs or is slow by lot. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "cluster/wire/worker.h"
#include "scheduler/agent_impl.h"
#include "scheduler/child.h"
#include "scheduler/coord_impl.h"
#include "tests/sim/world.h"

enum { FIRST_WORKER = 500000 };

typedef struct training {
    struct training *next;
    int job, attempt, concept, rank, size, step, steps;
    char name[32], out[96];
    bool pack, stop, keep;
    int place;
    int64_t step_ns;
} training;

typedef struct worker {
    struct worker *next;
    int pid, fd, status;
    const process *parent;
    bool dead, reaped, ready, hangs;
    int64_t frozen;
    unsigned version;            /* of what was foretold */
    training *work;
} worker;

static worker *workers;
static int last_pid;
int hands_done, hands_starts;

static void live(void *arg);

/* ---- a worker's life ------------------------------------------------------------------------------------------- */

static void drop_work(worker *w)
{
    for (training *t = w->work, *n; t; t = n) {
        n = t->next;
        free(t);
    }
    w->work = NULL;
}

static void end(worker *w, int status)
{
    if (w->dead)
        return;
    w->dead = true;
    w->status = status;
    w->version++;
    drop_work(w);
    net_close(w->fd);
    if (process_alive(w->parent))
        process_signal((process *)(uintptr_t)w->parent, SIGCHLD);
}

static json_t *about(const training *t) { return json_pack("{s:i, s:i}", "job", t->job, "attempt", t->attempt); }

static void progress(const worker *w, const training *t, const char *phase)
{
    json_t *o = about(t);

    json_object_update_new(o, json_pack("{s:s, s:i, s:i, s:f, s:f}", "phase", phase, "step", t->step, "steps", t->steps, "loss", 0.1,
                                        "seconds", (double)t->step_ns * 1e-9));
    net_send(w->fd, WORKER_PROGRESS, o);
}

static void let_go(worker *w, training *t)
{
    for (training **at = &w->work; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    free(t);
}

/* The bytes depend on the concept alone. */
static void finish(worker *w, training *t)
{
    json_t *o = about(t);
    char bytes[64], sha[HASH_HEX];
    int n = snprintf(bytes, sizeof bytes, "the result of %s", t->name);

    json_object_update_new(o, json_pack("{s:f, s:{}}", "seconds", (double)t->steps * (double)t->step_ns * 1e-9, "summary"));
    if (t->rank == 0) {
        hash_bytes(bytes, (size_t)n, sha);
        disk_put(t->out, bytes, (size_t)n);
        json_object_update_new(o, json_pack("{s:s, s:s, s:i}", "file", t->out, "sha256", sha, "bytes", n));
    }
    hands_done++;
    net_send(w->fd, WORKER_DONE, o);
    let_go(w, t);
}

static void fail(worker *w, training *t, const char *blame, const char *code)
{
    json_t *o = about(t);

    json_object_update_new(o, json_pack("{s:s, s:b, s:s, s:s}", "blame", blame, "retry", 1, "code", code, "text", "by lot"));
    net_send(w->fd, WORKER_FAILED, o);
    let_go(w, t);
}

static void stop_at_step(worker *w, training *t)
{
    if (t->keep && t->rank == 0 && t->step > 0)
        net_send(w->fd, WORKER_CHECKPOINT, json_pack("{s:i, s:i, s:i, s:i, s:i}", "job", t->job, "attempt", t->attempt, "place",
                                                     t->place, "step", t->step, "bytes", 100));
    net_send(w->fd, WORKER_STOPPED, about(t));
    let_go(w, t);
}

/* One in some thousand steps goes wrong; the poisoned concept's third one always. True: the worker is no more, or silent. */
static bool mishap(worker *w, const training *t)
{
    if (t->rank == 0 && t->step >= 3 && laws_poison(t->concept)) {
        end(w, SIGSEGV);
        return true;
    }
    if (lot(3000) == 0) {
        world_say("worker %d crashes at %s", w->pid, t->name);
        end(w, SIGKILL);
        return true;
    }
    if (lot(20000) == 0) {
        world_say("worker %d hangs at %s", w->pid, t->name);
        w->hangs = true;
        return true;
    }
    return false;
}

/* Members of a gang make their steps together: from where the first one goes on, the others do. */
static void catch_up(training *t)
{
    for (const worker *w = workers; w && t->rank > 0; w = w->next)
        for (const training *first = w->work; first; first = first->next)
            if (first->job == t->job && first->attempt == t->attempt && first->rank == 0 && first->step > t->step)
                t->step = first->step;
}

static void step(worker *w, training *t)
{
    catch_up(t);
    if (t->stop) {
        stop_at_step(w, t);
        return;
    }
    if (t->step < 0) { /* loaded */
        t->step = 0;
        progress(w, t, "loading");
        return;
    }
    if (t->step < t->steps) {
        if (mishap(w, t))
            return;
        if (lot(30000) == 0) {
            fail(w, t, "store", "disk");
            return;
        }
        t->step++;
        progress(w, t, "training");
        if (t->rank == 0 && t->step % 3 == 0) {
            net_send(w->fd, WORKER_CHECKPOINT, json_pack("{s:i, s:i, s:i, s:i, s:i}", "job", t->job, "attempt", t->attempt, "place",
                                                         t->place, "step", t->step, "bytes", 100));
            t->place = 1 - t->place;
        }
        return;
    }
    finish(w, t);
}

/* A turn of all that it works at; the next one when the slowest has made its step. */
static void live(void *arg)
{
    worker *w = arg;
    int64_t longest = 0;

    if (w->dead || w->hangs)
        return;
    if (w->frozen > world.now) {
        world_at(w->frozen, live, w, &w->version);
        return;
    }
    if (!w->ready) {
        w->ready = true;
        net_send(w->fd, WORKER_READY, json_pack("{s:i, s:i, s:s, s:s, s:i, s:i}", "protocol", WORKER_PROTOCOL, "pid", w->pid,
                                                "version", "sim", "backend", "sim", "memory", 1 << 30, "pack", 4));
        return;
    }
    for (training *t = w->work, *n; t && !w->dead && !w->hangs; t = n) {
        n = t->next;
        step(w, t);
    }
    if (w->dead)
        return;
    for (const training *t = w->work; t; t = t->next)
        longest = t->step_ns > longest ? t->step_ns : longest;
    w->version++;
    if (longest > 0)
        world_at(world.now + longest, live, w, &w->version);
}

/* ---- what it is told ------------------------------------------------------------------------------------------- */

static training *find(const worker *w, const json_t *o)
{
    for (training *t = w->work; t; t = t->next)
        if (t->job == json_integer_value(json_object_get(o, "job")) && t->attempt == json_integer_value(json_object_get(o, "attempt")))
            return t;
    return NULL;
}

static void begin(worker *w, const json_t *o)
{
    const json_t *gang = json_object_get(o, "gang"), *settings = json_object_get(o, "settings");
    const char *out = json_string_value(json_object_get(o, "out"));
    training *t = NEW(training);

    *t = (training){.next = w->work, .job = (int)json_integer_value(json_object_get(o, "job")),
                    .attempt = (int)json_integer_value(json_object_get(o, "attempt")),
                    .concept = (int)json_integer_value(json_object_get(settings, "concept")),
                    .rank = (int)json_integer_value(json_object_get(gang, "rank")),
                    .size = (int)json_integer_value(json_object_get(gang, "size")),
                    .steps = (int)json_integer_value(json_object_get(settings, "steps")),
                    .pack = json_is_true(json_object_get(o, "pack"))};
    t->step_ns = (int64_t)(json_number_value(json_object_get(settings, "seconds")) * 1e9) / t->size;
    str_copy(t->name, sizeof t->name, json_string_value(json_object_get(o, "name")));
    str_copy(t->out, sizeof t->out, out ? out : "");
    t->step = -1;
    if (w->work && !(t->pack && w->work->pack))
        world_break("a slot is promised once", "worker %d at %s is told to begin %s", w->pid, w->work->name, t->name);
    laws_started(t->job, t->attempt, w->pid);
    hands_starts++;
    net_send(w->fd, WORKER_STARTED, about(t));
    if (json_object_get(o, "from_step"))
        t->step = (int)json_integer_value(json_object_get(o, "from_step"));
    if (t->step >= t->steps)
        t->step = t->steps - 1;
    world_say("worker %d begins %s at step %d of %d, rank %d of %d", w->pid, t->name, t->step, t->steps, t->rank, t->size);
    w->work = t;
    if (!t->next) {
        w->version++;
        world_at(world.now + SEC / 2 + (int64_t)lot(2000) * MS, live, w, &w->version);
    }
}

static void hear(worker *w, uint16_t type, const json_t *o)
{
    training *t = find(w, o);

    if (type == WORKER_LOAD) {
        if (lot(200) == 0) {
            end(w, 1 << 8); /* a bad start */
            return;
        }
        world_at(world.now + SEC + (int64_t)lot(4000) * MS, live, w, &w->version);
    } else if (type == WORKER_START) {
        begin(w, o);
    } else if (type == WORKER_STOP && t) {
        t->stop = true;
        t->keep = json_is_true(json_object_get(o, "keep"));
    } else if (type == WORKER_STOP) {
        net_send(w->fd, WORKER_STOPPED, json_copy((json_t *)(uintptr_t)o));
    } else if (type == WORKER_QUIT) {
        end(w, 0);
    }
}

static void on_arrival(void *arg)
{
    worker *w = arg;
    uint16_t type;
    json_t *o;

    while (!w->dead && !w->hangs && (o = net_take(w->fd, &type)) != NULL) {
        hear(w, type, o);
        json_decref(o);
    }
    if (!w->dead && net_gone(w->fd))
        end(w, 0);
}

bool hands_start(int *pid, const char *const *argv, int fd, const process *parent)
{
    worker *w = NEW(worker);

    (void)argv;
    *w = (worker){.next = workers, .pid = ++last_pid, .fd = net_share(fd), .parent = parent};
    workers = w;
    net_on_arrival(fd, on_arrival, w);
    *pid = w->pid;
    return true;
}

static worker *worker_of(int pid)
{
    for (worker *w = workers; w; w = w->next)
        if (w->pid == pid)
            return w;
    return NULL;
}

int hands_pick(void)
{
    int n = 0, k;

    for (const worker *w = workers; w; w = w->next)
        n += !w->dead;
    k = n > 0 ? (int)lot((uint32_t)n) : 0;
    for (const worker *w = workers; w; w = w->next)
        if (!w->dead && k-- == 0)
            return w->pid;
    return 0;
}

void hands_kill(int pid, int signal)
{
    worker *w = worker_of(pid);

    if (w)
        end(w, signal);
}

void hands_freeze(int pid, int64_t until)
{
    worker *w = worker_of(pid);

    if (w)
        w->frozen = until;
}

void hands_drop_process(const process *p)
{
    for (worker *w = workers; w; w = w->next)
        if (w->parent == p && !w->dead) {
            w->parent = NULL;
            end(w, SIGKILL);
        }
}

bool hands_wait(int pid, int *status)
{
    worker *w = worker_of(pid);

    if (!w || !w->dead || w->reaped)
        return false;
    w->reaped = true;
    if (status)
        *status = w->status;
    return true;
}

void hands_reset(void)
{
    for (worker *w = workers, *n; w; w = n) {
        n = w->next;
        drop_work(w);
        free(w);
    }
    workers = NULL;
    last_pid = FIRST_WORKER;
    hands_done = hands_starts = 0;
}

/* ---- the calls: time and processes ----------------------------------------------------------------------------- */

int64_t __wrap_clock_ns(void);
int64_t __wrap_clock_ns(void) { return world.now; }

/* The time of day jumps as it likes: nobody may count on it. */
int64_t __wrap_clock_wall_ms(void);
int64_t __wrap_clock_wall_ms(void) { return INT64_C(1700000000000) + world.now / MS + (int64_t)lot(7200000) - 3600000; }

int __wrap_usleep(useconds_t us);
int __wrap_usleep(useconds_t us)
{
    process_wait(world.now + (int64_t)us * 1000);
    return 0;
}

pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void) { return process_self() ? process_pid(process_self()) : 1; }

pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    errno = EAGAIN;
    return -1;
}

int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal)
{
    int who = pid < 0 ? -pid : pid;
    process *p = process_find(who);

    if (p && signal)
        process_signal(p, signal);
    else if (signal == SIGKILL)
        hands_kill(who, signal);
    return 0;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int how);
pid_t __wrap_waitpid(pid_t pid, int *status, int how)
{
    const process *p = process_find(pid);

    (void)how;
    if (p && !process_alive(p)) {
        if (status)
            *status = process_status(p);
        return pid;
    }
    return !p && hands_wait(pid, status) ? pid : 0;
}

int __wrap_child_program(char out[FS_PATH], const char *name, err *e);
int __wrap_child_program(char out[FS_PATH], const char *name, err *e)
{
    (void)e;
    str_copy(out, FS_PATH, name);
    return 0;
}

int __wrap_child_start(pid_t *pid, const child_spec *c, err *e);
int __wrap_child_start(pid_t *pid, const child_spec *c, err *e)
{
    if (lot(300) == 0)
        return err_set(e, ERR_MEMORY, "no process can be made, by lot");
    return hands_start(pid, c->argv, c->fd, process_self()) ? 0 : err_set(e, ERR_IO, "no worker");
}

int64_t __wrap_node_oom_kills(void);
int64_t __wrap_node_oom_kills(void) { return 0; }

void __wrap_node_look(node_facts *out);
void __wrap_node_look(node_facts *out) { *out = (node_facts){.cores = 4, .memory = INT64_C(1) << 34}; }

/* ---- the calls: what touches the real world, or is shown to people --------------------------------------------- */

void __wrap_task_sweep(void);
void __wrap_task_sweep(void) {}
void __wrap_show_tick(coordinator *c);
void __wrap_show_tick(coordinator *c) { (void)c; }
void __wrap_show_end(coordinator *c);
void __wrap_show_end(coordinator *c) { (void)c; }
void __wrap_keep_failure(coordinator *c, const sched_job *j, const sched_event *ev);
void __wrap_keep_failure(coordinator *c, const sched_job *j, const sched_event *ev) { (void)c, (void)j, (void)ev; }

/* ---- the calls: checkpoints ------------------------------------------------------------------------------------ */

/* An agent's memory files are the steps in struct shelf; those on the disk are files that hold a step. */
static shelf *shelf_find(const agent *a, const char *name)
{
    for (shelf *h = a->shelves; h; h = h->next)
        if (strcmp(h->name, name) == 0)
            return h;
    return NULL;
}

static void shelf_path(char out[96], const agent *a, const char *name) { snprintf(out, 96, "%s/ckpt/%s/0", a->farm, name); }

shelf *__wrap_shelf_take(agent *a, const char *name);
shelf *__wrap_shelf_take(agent *a, const char *name)
{
    shelf *h = shelf_find(a, name);

    if (!h) {
        h = NEW(shelf);
        *h = (shelf){.next = a->shelves, .name = mem_text(name)};
        a->shelves = h;
    }
    h->used = true;
    return h;
}

void __wrap_shelf_describe(const agent *a, const shelf *h, json_t *start);
void __wrap_shelf_describe(const agent *a, const shelf *h, json_t *start)
{
    int64_t step = shelf_step(h), on_disk;
    const char *bytes;
    char path[96];

    shelf_path(path, a, h->name);
    on_disk = disk_read(path, &bytes) > 0 ? atoll(bytes) : 0;
    if (on_disk > step)
        step = on_disk;
    if (step > 0)
        json_object_set_new(start, "from_step", json_integer(step));
}

/* The saver is the world's; it ends some time later. */
typedef struct { agent *a; int agent_pid; char name[32]; int64_t step; } saving;

static void saved(void *arg)
{
    saving *s = arg;
    char path[96], text[32];
    shelf *h;

    if (process_alive(process_find(s->agent_pid)) && (h = shelf_find(s->a, s->name)) != NULL && h->saver) {
        shelf_path(path, s->a, s->name);
        snprintf(text, sizeof text, "%lld", (long long)s->step);
        disk_put(path, text, strlen(text) + 1);
        h->saver = 0;
        h->saved = s->step;
    }
    free(s);
}

bool __wrap_shelf_save(agent *a, shelf *h);
bool __wrap_shelf_save(agent *a, shelf *h)
{
    saving *s;

    if (h->saver > 0)
        return true;
    if (shelf_step(h) <= h->saved)
        return false;
    s = NEW(saving);
    *s = (saving){.a = a, .agent_pid = process_pid(process_self()), .step = shelf_step(h)};
    str_copy(s->name, sizeof s->name, h->name);
    h->saver = 1;
    world_at(world.now + 20 * MS + (int64_t)lot(300) * MS, saved, s, NULL);
    return true;
}

void __wrap_shelf_reap(agent *a);
void __wrap_shelf_reap(agent *a) { (void)a; }

void __wrap_shelf_forget(agent *a, shelf *h);
void __wrap_shelf_forget(agent *a, shelf *h)
{
    char path[96];

    shelf_path(path, a, h->name);
    disk_remove(path);
    for (shelf **at = &a->shelves; *at; at = &(*at)->next)
        if (*at == h) {
            *at = h->next;
            break;
        }
    free(h->name);
    free(h);
}

void __wrap_shelf_end(agent *a);
void __wrap_shelf_end(agent *a)
{
    while (a->shelves) {
        shelf *h = a->shelves;
        a->shelves = h->next;
        free(h->name);
        free(h);
    }
}
