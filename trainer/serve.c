/* A worker that serves an agent (cluster/wire/worker.h): what it is told, what it says, and the trainings in between: one after
 * another in this thread, or several in a pack. */
#include "trainer/serve.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fault.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/wire/wire.h"
#include "cluster/wire/worker.h"
#include "configs/cfg_yaml.h"
#include "trainer/pack.h"
#include "trainer/resume.h"

enum { GANG_SLOT = 4 << 20, ROOM_MOST = 64 }; /* bytes a rank shows at once in a gang; places of a pack */
static const double GANG_TIMEOUT = 600, TELL_EVERY = 0.1, SEND_WITHIN = 30;

typedef struct member member;

typedef struct {
    wire *agent;
    nn_backend *backend;
    sd *model;
    pack *pack;                         /* NULL: none is open */
    int room;                           /* trainings at once */
    pthread_mutex_t lock;               /* over what is said and the rest here: a pack has threads of its own. Recursive */
    member *members;                    /* under way */
    bool quit;
    bool broken;                        /* its device has failed */
} worker;

/* A training under way: alone, in this thread, or in the pack. */
struct member {
    worker *of;
    member *next;
    int64_t job, attempt;
    bool packed;
    bool stop, keep;                    /* keep: the stop asks for a checkpoint */
    double told;
    char phase[16];
    json_t *order;
    const char *name;
    cfg_doc *doc;
    concept_cfg cfg;
    char *ran;                          /* its settings */
    comm *gang;
    resume *resume;
    train_job train;
    double began_cpu;                   /* processor seconds of this process */
};

/* ---- telling the agent ---- */

static json_t *about(const member *m)
{
    return json_pack("{s:I s:I}", "job", (json_int_t)m->job, "attempt", (json_int_t)m->attempt);
}

static void say(worker *w, uint16_t type, json_t *body)
{
    err e = {0};

    pthread_mutex_lock(&w->lock);
    if (wire_tell(w->agent, type, body, SEND_WITHIN, &e) != 0)
        w->quit = true;                 /* the agent is gone: nobody wants the rest */
    pthread_mutex_unlock(&w->lock);
}

static void say_failed(worker *w, json_t *o, const char *blame, bool retry, const char *code, const char *text)
{
    json_object_set_new(o, "blame", json_string(blame));
    json_object_set_new(o, "retry", json_boolean(retry));
    json_object_set_new(o, "code", json_string(code));
    json_object_set_new(o, "text", json_string(text));
    say(w, WORKER_FAILED, o);
}

/* What would have to change for it to go well (rule 7). */
static void say_error(const member *m, const err *e)
{
    static const struct { err_code code; const char *blame; bool retry; } judge[] = {
        {ERR_INPUT, "job", false}, {ERR_SHAPE, "job", false}, {ERR_IO, "store", true},
        {ERR_MEMORY, "job", true}, {ERR_DEVICE, "gpu", true}, {ERR_PEER, "node", true},
    };

    for (size_t i = 0; i < sizeof judge / sizeof *judge; i++)
        if (judge[i].code == e->code)
            say_failed(m->of, about(m), judge[i].blame, judge[i].retry, e->code == ERR_PEER ? "gang" : err_name(e->code),
                       e->text);
}

/* ---- who is under way ---- */

static member *member_of(const worker *w, const json_t *o)
{
    int64_t job = json_integer_value(json_object_get(o, "job")), attempt = json_integer_value(json_object_get(o, "attempt"));

    for (member *m = w->members; m; m = m->next)
        if (m->job == job && m->attempt == attempt)
            return m;
    return NULL;
}

static int under_way(worker *w)
{
    int n = 0;

    pthread_mutex_lock(&w->lock);
    for (member *m = w->members; m; m = m->next)
        n++;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static member *member_new(worker *w, const json_t *order)
{
    member *m = NEW(member);

    *m = (member){.of = w, .order = json_deep_copy(order), .doc = cfg_doc_new()};
    m->job = json_integer_value(json_object_get(order, "job"));
    m->attempt = json_integer_value(json_object_get(order, "attempt"));
    m->name = json_string_value(json_object_get(m->order, "name"));
    m->began_cpu = resume_cpu_s();
    pthread_mutex_lock(&w->lock);
    m->next = w->members;
    w->members = m;
    pthread_mutex_unlock(&w->lock);
    return m;
}

static void member_free(member *m)
{
    worker *w = m->of;

    pthread_mutex_lock(&w->lock);
    for (member **at = &w->members; *at; at = &(*at)->next)
        if (*at == m) {
            *at = m->next;
            break;
        }
    pthread_mutex_unlock(&w->lock);
    resume_close(m->resume);
    comm_free(m->gang);
    free(m->ran);
    cfg_doc_free(m->doc);
    json_decref(m->order);
    free(m);
}

/* ---- what may come while training ---- */

static json_t *same_attempt(const json_t *o)
{
    return json_pack("{s:O? s:O?}", "job", json_object_get(o, "job"), "attempt", json_object_get(o, "attempt"));
}

static void on_stop(worker *w, const json_t *o)
{
    pthread_mutex_lock(&w->lock);
    member *m = member_of(w, o);
    bool packed = m && m->packed;
    if (m) {
        m->stop = true;
        m->keep = json_is_true(json_object_get(o, "keep"));
    } else {
        say(w, WORKER_STOPPED, same_attempt(o));
    }
    pthread_mutex_unlock(&w->lock);
    if (packed && w->pack)
        pack_ask(w->pack);
}

/* True: that one is under way already. */
static bool again(worker *w, const json_t *o)
{
    pthread_mutex_lock(&w->lock);
    bool ours = member_of(w, o) != NULL;
    if (ours)
        say(w, WORKER_STARTED, same_attempt(o));
    pthread_mutex_unlock(&w->lock);
    return ours;
}

static void on_order_while_busy(worker *w, const wire_frame *f)
{
    json_t *o = NULL;
    err e = {0};

    if (f->type == WORKER_QUIT)
        w->quit = true;
    if ((f->type != WORKER_STOP && f->type != WORKER_START) || wire_parse(f, &o, &e) != 0)
        return;
    if (f->type == WORKER_STOP)
        on_stop(w, o);
    else if (!again(w, o))
        say_failed(w, same_attempt(o), "node", true, "busy", "another concept is under way");
    json_decref(o);
}

static void look_for_orders(worker *w)
{
    wire_frame f;
    err e = {0};

    do {
        if (wire_take(w->agent, &f, 0, &e) != 0) {
            w->quit = true;
            return;
        }
        if (f.type)
            on_order_while_busy(w, &f);
    } while (f.type);
}

static void say_progress(member *m, const train_progress *p)
{
    json_t *o = about(m);

    json_object_set_new(o, "phase", json_string(p->phase));
    json_object_set_new(o, "step", json_integer(p->step));
    json_object_set_new(o, "steps", json_integer(p->steps));
    json_object_set_new(o, "seconds", json_real(p->seconds));
    if (p->step > 0 && isfinite(p->loss))
        json_object_set_new(o, "loss", json_real(p->loss));
    if (p->joined > 0)
        json_object_set_new(o, "joined", json_real(p->joined));
    say(m->of, WORKER_PROGRESS, o);
    snprintf(m->phase, sizeof m->phase, "%s", p->phase);
    m->told = clock_s();
}

/* A pack's orders are looked for by the thread that put them there. */
static bool on_progress(void *arg, const train_progress *p)
{
    member *m = arg;
    worker *w = m->of;
    bool turn = strcmp(m->phase, p->phase) != 0;

    if (turn || clock_s() - m->told >= TELL_EVERY || p->step == p->steps)
        say_progress(m, p);
    if (strcmp(p->phase, "training") == 0)
        fault_here("worker.step");
    if (!m->packed)
        look_for_orders(w);
    pthread_mutex_lock(&w->lock);
    bool stop = m->stop || w->quit;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static void on_say(void *arg, const char *text)
{
    const member *m = arg;

    say(m->of, WORKER_LOG, json_pack("{s:s}", "text", text));
}

/* ---- checkpoints ---- */

static void on_kept(void *arg, int place, int step, size_t bytes)
{
    const member *m = arg;
    json_t *o = about(m);

    json_object_set_new(o, "place", json_integer(place));
    json_object_set_new(o, "step", json_integer(step));
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    say(m->of, WORKER_CHECKPOINT, o);
    fault_here("worker.checkpoint");
}

static bool on_wants(void *arg)
{
    const member *m = arg;

    pthread_mutex_lock(&m->of->lock);
    bool keep = m->keep;
    pthread_mutex_unlock(&m->of->lock);
    return keep;
}

/* ---- START ---- */

json_t *serve_summary(const train_summary *s)
{
    json_t *o = json_pack("{s:i s:i s:f s:f s:f s:f}", "steps", s->steps, "began", s->began, "first_loss", s->first_loss,
                          "last_loss", s->last_loss, "load_seconds", s->load_seconds, "train_seconds", s->seconds);

    if (isfinite(s->probe_before))
        json_object_set_new(o, "probe_before", json_real(s->probe_before));
    if (isfinite(s->probe_after))
        json_object_set_new(o, "probe_after", json_real(s->probe_after));
    return o;
}

/* One line for the farm's log: what was learned, as far as numbers say it. */
static void say_learned(const member *m, const train_summary *s)
{
    str line = {0};
    double cpu;

    str_add(&line, "concept %s: %d steps, mean loss %.5f over the first tenth and %.5f over the last", m->name, s->steps,
            s->first_loss, s->last_loss);
    if (isfinite(s->probe_before) && isfinite(s->probe_after))
        str_add(&line, "; on the fixed draws %.6f before and %.6f after", s->probe_before, s->probe_after);
    int made = resume_made(m->resume, &cpu);
    if (made > 0 && !m->packed) /* in a pack the others' time is in it */
        str_add(&line, "; checkpoints: %d, of the processor time %.6f", made, cpu / (resume_cpu_s() - m->began_cpu));
    say(m->of, WORKER_LOG, json_pack("{s:s}", "text", line.at));
    str_free(&line);
}

static int say_done(const member *m, const train_summary *s, err *e)
{
    const char *out = m->train.out;
    json_t *o = about(m);

    json_object_set_new(o, "seconds", json_real(s->seconds));
    json_object_set_new(o, "summary", serve_summary(s));
    if (out) {
        char sha[HASH_HEX];
        struct stat st;
        if (hash_file(out, sha, e) != 0 || stat(out, &st) != 0) {
            json_decref(o);
            return e->code ? (int)e->code : err_set(e, ERR_IO, "%s is gone", out);
        }
        json_object_set_new(o, "file", json_string(out));
        json_object_set_new(o, "sha256", json_string(sha));
        json_object_set_new(o, "bytes", json_integer(st.st_size));
    }
    say(m->of, WORKER_DONE, o);
    return 0;
}

/* Its one answer. Whoever hears it may order the next: it is no longer under way. */
static void on_ended(void *arg, int rc, const train_summary *sum, const err *why)
{
    member *m = arg;
    worker *w = m->of;
    err e = *why;

    pthread_mutex_lock(&w->lock);
    if (rc == 0 && sum->stopped) {
        say(w, WORKER_STOPPED, about(m));
    } else if (rc == 0) {
        if (m->train.out)
            say_learned(m, sum);
        rc = say_done(m, sum, &e);
    }
    if (rc != 0)
        say_error(m, &e);
    w->broken |= e.code == ERR_DEVICE && w->backend->wait(w->backend, NULL) != 0; /* it stays so for this process */
    w->quit |= w->broken;
    member_free(m);
    pthread_mutex_unlock(&w->lock);
}

static int join_gang(comm **out, const json_t *gang, err *e)
{
    int64_t rank, size;
    const char *path;

    TRY(json_opt_int(gang, "rank", 0, 63, 0, &rank, e));
    TRY(json_opt_int(gang, "size", 1, 64, 1, &size, e));
    if (size == 1)
        return comm_self(out, e);
    if (json_object_get(gang, "meet")) {
        TRY(json_get_text(gang, "meet", &path, e));
        return comm_tcp(out, path, (int)rank, (int)size, GANG_TIMEOUT, e);
    }
    TRY(json_get_text(gang, "path", &path, e));
    return comm_shm(out, path, (int)rank, (int)size, GANG_SLOT, GANG_TIMEOUT, e);
}

static int read_settings(member *m, const cfg **from, err *e)
{
    char *settings = json_dumps(json_object_get(m->order, "settings"), JSON_COMPACT);
    const cfg_node *tree;
    str title = {0};

    str_add(&title, "settings of %s", m->name);
    int rc = cfg_yaml_parse(&tree, m->doc, settings, strlen(settings), title.at, e);
    if (rc == 0)
        rc = concept_cfg_fill(&m->cfg, from, m->doc, tree, e);
    str_free(&title);
    free(settings);
    return rc;
}

static int join_devices(member *m, err *e)
{
    nn_backend *b = m->of->backend;

    if (comm_size(m->gang) == 1 || m->cfg.how.reduce == REDUCE_EXACT || !b->join)
        return 0;
    TRY(b->join(b, &m->gang, GANG_TIMEOUT, e));
    if (!comm_joins_devices(m->gang))
        on_say(m, "workers of this gang share a GPU: gradients are added on the host, as by reduce: exact");
    return 0;
}

/* From the order to what is to be trained. */
static int settle(member *m, err *e)
{
    const json_t *gang = json_object_get(m->order, "gang");
    const cfg *from;
    int64_t leaves;

    TRY(join_gang(&m->gang, gang, e));
    TRY(read_settings(m, &from, e));
    TRY(join_devices(m, e));
    TRY(json_opt_int(gang, "leaves", 0, 1 << 20, 0, &leaves, e));
    TRY(resume_open(&m->resume, m->order, m->name, (resume_ear){m, on_kept, on_say, on_wants}, e));
    m->ran = cfg_values(from);
    m->train = (train_job){.name = m->name, .cfg = &m->cfg, .settings = m->ran, .gang = m->gang, .leaves = (int)leaves,
                           .out = json_string_value(json_object_get(m->order, "out")), .progress = on_progress, .say = on_say,
                           .arg = m};
    return resume_prepare(m->resume, m->of->model, &m->train, e);
}

static void train_alone(member *m)
{
    train_summary sum = {0};
    worker *w = m->of;
    err e = {0};

    pack_close(w->pack);                /* the model was the pack's */
    w->pack = NULL;
    int rc = train_concept(w->model, &m->train, &sum, &e);
    on_ended(m, rc, &sum, &e);
}

/* One that cannot be loaded is at fault itself; that a pack has no room here is no fault of the first one who asks. */
static void no_pack(member *m, const err *e)
{
    if (m->stop || m->of->quit)
        say(m->of, WORKER_STOPPED, about(m));
    else if (e->code == ERR_INPUT || e->code == ERR_SHAPE)
        say_error(m, e);
    else
        say_failed(m->of, about(m), "node", true, "pack", e->text);
    member_free(m);
}

/* One of three and more is on its way in or out, so that who ends finds the next one there. */
static int places_of(const worker *w) { return w->room > 2 ? w->room - 1 : w->room; }

static void train_packed(member *m)
{
    worker *w = m->of;
    const bool device = w->backend->kind != NULL; /* one stream: all that are at once share its passes */
    const pack_opts places = {device ? 1 : places_of(w), device ? places_of(w) : 1};
    err e = {0};

    if (w->pack && pack_takes(w->pack, &m->train, &e) != 0) {
        if (under_way(w) > 1) {
            say_failed(w, about(m), "node", true, "busy", e.text);
            member_free(m);
            return;
        }
        pack_close(w->pack);
        w->pack = NULL;
    }
    if (!w->pack && pack_open(&w->pack, w->model, &m->train, &places, &e) != 0) {
        w->pack = NULL;
        no_pack(m, &e);
        return;
    }
    pack_put(w->pack, &m->train, on_ended, m);
}

static bool wants_pack(const worker *w, const json_t *order)
{
    const json_t *size = json_object_get(json_object_get(order, "gang"), "size");

    return w->room > 1 && json_is_true(json_object_get(order, "pack")) && (!size || json_integer_value(size) == 1);
}

static void on_start(worker *w, const json_t *order)
{
    bool packed = wants_pack(w, order);
    err e = {0};

    if (again(w, order))
        return;
    if (under_way(w) >= (packed ? w->room : 1)) {
        say_failed(w, same_attempt(order), "node", true, "busy", "as much as this worker holds is under way");
        return;
    }
    if (!json_string_value(json_object_get(order, "name")) || !json_object_get(order, "settings")) {
        say_failed(w, same_attempt(order), "node", false, "protocol", "START without a name or settings");
        return;
    }
    member *m = member_new(w, order);
    m->packed = packed;
    say(w, WORKER_STARTED, about(m));
    if (settle(m, &e) != 0) {
        on_ended(m, (int)e.code, &(train_summary){0}, &e);
        return;
    }
    if (packed)
        train_packed(m);
    else
        train_alone(m);
}

/* ---- serving ---- */

static int on_load(worker *w, const json_t *order, err *e)
{
    const char *base, *backend;
    int64_t threads, protocol, room;
    double share;

    TRY(json_get_int(order, "protocol", 0, 1 << 20, &protocol, e));
    if (protocol < 1 || protocol > WORKER_PROTOCOL)
        return err_set(e, ERR_PEER, "the agent speaks protocol %lld and this worker up to %d", (long long)protocol,
                       WORKER_PROTOCOL);
    TRY(json_get_text(order, "base", &base, e));
    TRY(json_opt_int(order, "threads", 0, 4096, 0, &threads, e));
    TRY(json_opt_int(order, "pack", 1, ROOM_MOST, 1, &room, e));
    w->room = (int)room;
    TRY(json_opt_text(order, "backend", "cpu", &backend, e));
    TRY(json_opt_real(order, "share", 1, &share, e));
    TRY(nn_open(&w->backend, backend, (int)threads, e));
    if (!(share > 0 && share <= 1))
        return err_set(e, ERR_PEER, "LOAD with share %g of a device", share);
    if (w->backend->limit)
        TRY(w->backend->limit(w->backend, share, e));
    train_on_gpu(w->backend->kind);
    TRY(sd_open(&w->model, base, w->backend, e));
    say(w, WORKER_READY, json_pack("{s:I s:i s:s s:s s:I s:i}", "protocol", (json_int_t)protocol, "pid", (int)getpid(), "version",
                                   CFARM_VERSION, "backend", w->backend->name, "memory", (json_int_t)mem_free_bytes(), "pack",
                                   w->room));
    return 0;
}

static bool told_to_quit(worker *w, bool now)
{
    pthread_mutex_lock(&w->lock);
    bool quit = w->quit |= now;
    pthread_mutex_unlock(&w->lock);
    return quit;
}

static int on_order(worker *w, const wire_frame *f, err *e)
{
    json_t *o = NULL;
    int rc = 0;

    if (f->type == WORKER_QUIT) {
        told_to_quit(w, true);
        return 0;
    }
    TRY(wire_parse(f, &o, e));
    if (f->type == WORKER_LOAD && !w->model)
        rc = on_load(w, o, e);
    else if (f->type == WORKER_START && w->model)
        on_start(w, o);
    else if (f->type == WORKER_STOP)
        on_stop(w, o);
    else
        rc = err_set(e, ERR_PEER, "order %d where none of its kind is due", f->type);
    json_decref(o);
    return rc;
}

/* Waits without the lock: a pack speaks meanwhile. */
static int next_order(worker *w, wire_frame *f, err *e)
{
    struct pollfd p = {.fd = wire_fd(w->agent), .events = POLLIN};

    for (;;) {
        pthread_mutex_lock(&w->lock);
        int rc = wire_take(w->agent, f, 0, e);
        pthread_mutex_unlock(&w->lock);
        if (rc != 0 || f->type)
            return rc;
        poll(&p, 1, -1);
    }
}

static void lock_open(pthread_mutex_t *lock)
{
    pthread_mutexattr_t how;

    CHECK(pthread_mutexattr_init(&how) == 0 && pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE) == 0);
    CHECK(pthread_mutex_init(lock, &how) == 0);
    pthread_mutexattr_destroy(&how);
}

int serve(int fd)
{
    worker w = {.agent = wire_new(fd), .room = 1};
    wire_frame f;
    err e = {0};
    int rc = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    lock_open(&w.lock);
    while (rc == 0 && !told_to_quit(&w, false)) {
        if (next_order(&w, &f, &e) != 0) /* the agent is gone */
            break;
        rc = on_order(&w, &f, &e);
    }
    if (rc != 0)
        say_failed(&w, json_object(), "node", true, err_name(e.code), e.text);
    told_to_quit(&w, true);
    pack_close(w.pack);
    sd_close(w.model);
    if (w.backend)
        w.backend->close(w.backend);
    wire_free(w.agent);
    pthread_mutex_destroy(&w.lock);
    return rc != 0 || w.broken;
}
