/* A coordinator with very many agents on this machine's loopback, and no worker: how long from an answer to the next order on the
 * same slot, and how many trainings a second it can grant, each in the journal before it is told.
 *   bench_agents DIR [--agents 1280] [--slots 8] [--seconds 10] [--rate 500] [--csv]
 * DIR: where the farm is made, on a disk that is to be measured; it is removed. --rate: trainings that end each second; 0: as
 * quick as it goes, every answer at once. The agents are one process with a socket each, and speak link.h as agents do. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"
#include "scheduler/coordinator.h"
#include "scheduler/link.h"

static const char TOKEN[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char SHA[] = "00000000000000000000000000000000000000000000000000000000000000aa";

typedef struct bench bench;
typedef struct {
    bench *of;
    wire *w;
    char nonce[WIRE_NONCE];
    int number;
    bool up;                   /* welcomed */
    int64_t *answered;         /* when each slot's last answer was sent; 0: not yet */
} agent;

typedef struct { int64_t due; int agent, slot, job, attempt; } work;

struct bench {
    int agents, slots, port, concepts;
    double seconds, rate;
    loop *l;
    agent *agent;
    int welcome;
    work *line;                /* those under way, in the order of their ends */
    size_t first, n, room;
    double *latency;
    size_t latencies, grants;
    int begun;                 /* slots that have had an order */
    int64_t from, until;       /* what is measured */
    bool over;
};

static void die(const char *what, const err *e)
{
    fprintf(stderr, "bench_agents: %s: %s\n", what, e && e->text[0] ? e->text : strerror(errno));
    exit(3);
}

static int number(const char *text)
{
    int v = atoi(text);

    if (v < 0)
        die(text, NULL);
    return v;
}

/* ---- the agents ------------------------------------------------------------------------------------------------ */

static void say(agent *a, int type, json_t *o)
{
    err e = {0};

    wire_json(a->w, (uint16_t)type, o);
    if (wire_flush(a->w, &e) != 0)
        die("a frame", &e);
    loop_write(a->of->l, wire_fd(a->w), wire_waiting(a->w) > 0);
}

static void say_slots(agent *a)
{
    a->up = true;
    for (int i = 0; i < a->of->slots; i++)
        say(a, LINK_SLOT, json_pack("{s:i, s:s, s:i}", "slot", i, "state", "ready", "pack", 1));
    a->of->welcome++;
}

static void progress(agent *a, const work *t, const char *phase, int step)
{
    say(a, LINK_PROGRESS, json_pack("{s:i, s:i, s:s, s:i, s:i, s:f, s:f}", "job", t->job, "attempt", t->attempt, "phase", phase, "step",
                                    step, "steps", 1, "loss", 0.1, "seconds", 0.001));
}

static void answer(bench *b, const work *t)
{
    agent *a = &b->agent[t->agent];

    progress(a, t, "training", 1);
    progress(a, t, "publishing", 1);
    a->answered[t->slot] = clock_ns();
    say(a, LINK_DONE, json_pack("{s:i, s:i, s:s, s:i, s:f}", "job", t->job, "attempt", t->attempt, "sha256", SHA, "bytes", 1000, "seconds",
                                0.001));
}

static void on_run(agent *a, const json_t *o)
{
    bench *b = a->of;
    int64_t now = clock_ns();
    work t = {.agent = a->number, .slot = (int)json_integer_value(json_array_get(json_object_get(o, "slots"), 0)),
              .job = (int)json_integer_value(json_object_get(o, "job")),
              .attempt = (int)json_integer_value(json_object_get(o, "attempt"))};
    bool first = a->answered[t.slot] == 0;

    if (first)
        a->answered[t.slot] = now;
    b->begun += first;
    if (now >= b->from && now < b->until) {
        b->grants++;
        if (!first)
            b->latency[b->latencies++ % (size_t)b->concepts] = (double)(now - a->answered[t.slot]) * 1e-6;
    }
    progress(a, &t, "loading", 0);
    if (b->rate <= 0) {
        answer(b, &t);
        return;
    }
    t.due = now + (int64_t)(1e9 * b->agents * b->slots / b->rate * (first ? (double)(b->n - b->first + 1) / (b->agents * b->slots) : 1));
    if (b->n == b->room) {
        b->room = b->room ? 2 * b->room : 1024;
        b->line = mem_grow(b->line, b->room, sizeof *b->line);
    }
    b->line[b->n++] = t;
}

static void on_frame(agent *a, const wire_frame *f)
{
    json_t *o = NULL;
    err e = {0};

    if (wire_parse(f, &o, &e) != 0)
        die("an order", &e);
    if (f->type == LINK_NONCE) {
        const char *theirs = json_string_value(json_object_get(o, "nonce"));
        char name[32];
        snprintf(name, sizeof name, "n%d", a->number);
        if (!theirs || wire_seal(a->w, TOKEN, a->nonce, theirs, &e) != 0)
            die("greeting", &e);
        say(a, LINK_HELLO, json_pack("{s:i, s:s, s:i, s:i, s:i, s:[]}", "protocol", LINK_PROTOCOL, "node", name, "pid", a->number + 1,
                                     "slots", a->of->slots, "epoch", 0, "running"));
    } else if (f->type == LINK_WELCOME) {
        say_slots(a);
    } else if (f->type == LINK_RUN) {
        on_run(a, o);
    } else if (f->type == LINK_END) {
        a->of->over = true;
    }
    json_decref(o);
}

static void on_link(void *arg, bool readable, bool writable)
{
    agent *a = arg;
    wire_frame f;
    err e = {0};

    if (readable && wire_fill(a->w, &e) != 0) {
        if (!a->of->over)
            fprintf(stderr, "bench_agents: agent %d: %s\n", a->number, e.text);
        a->of->over = true;
        loop_drop(a->of->l, wire_fd(a->w));
    }
    while (wire_next(a->w, &f, &e) == 0 && f.type)
        on_frame(a, &f);
    if (writable && wire_flush(a->w, &e) == 0)
        loop_write(a->of->l, wire_fd(a->w), wire_waiting(a->w) > 0);
}

static void connect_agent(bench *b, int i)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)b->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    agent *a = &b->agent[i];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    err e = {0};

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("a connection", NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *a = (agent){.of = b, .w = wire_new(fd), .number = i, .answered = NEW_N(int64_t, b->slots)};
    loop_add(b->l, fd, on_link, a);
    if (wire_nonce(a->nonce, &e) != 0)
        die("a nonce", &e);
    say(a, LINK_NONCE, json_pack("{s:s}", "nonce", a->nonce));
}

static void end_due(bench *b)
{
    int64_t now = clock_ns();

    while (b->first < b->n && b->line[b->first].due <= now) {
        work t = b->line[b->first++];
        answer(b, &t);
    }
}

/* Each once a second, one after another: machines do not beat together, and one process that spoke for all at once would keep
 * its own answers and orders waiting. */
static void beat_due(bench *b, int64_t from, int64_t *beats)
{
    int64_t due = (int64_t)((double)(clock_ns() - from) * 1e-9 * b->agents);

    for (; *beats < due; ++*beats)
        if (b->agent[*beats % b->agents].up)
            say(&b->agent[*beats % b->agents], LINK_BEAT, json_object());
}

static void drive(bench *b)
{
    int64_t from = clock_ns(), beats = 0;

    b->l = loop_new();
    b->agent = NEW_N(agent, b->agents);
    for (int i = 0; i < b->agents; i++) {
        connect_agent(b, i);
        loop_turn(b->l, 0);
    }
    b->from = INT64_MAX;
    while (!b->over && clock_ns() < b->until) {
        loop_turn(b->l, 1);
        end_due(b);
        beat_due(b, from, &beats);
        if (b->from == INT64_MAX && b->begun == b->agents * b->slots) { /* the first orders are out; some seconds to settle */
            b->from = clock_ns() + INT64_C(3000000000);
            b->until = b->from + (int64_t)(b->seconds * 1e9);
        }
    }
}

/* ---- the coordinator ------------------------------------------------------------------------------------------- */

static int submit(ledger *l, int i, err *e)
{
    sched_event ev = {.type = EV_SUBMIT, .more = true};
    sched_effects todo = {0};
    char name[32];
    int rc;

    snprintf(name, sizeof name, "c%06d", i);
    ev.spec = (job_spec){.priority = PRIORITY_NORMAL, .name = name, .settings = "{\"steps\":1}", .steps = 1, .batch = 8, .leaves = 8,
                         .retries = 3};
    rc = ledger_step(l, &ev, &todo, e);
    sched_effects_free(&todo);
    return rc;
}

static int make_farm(ledger **out, const char *dir, int concepts, err *e)
{
    sched_options how = {.gang_max = 1, .pack_max = 1, .backoff_ms = 1000, .hold_ms = 1000};

    TRY(ledger_open(out, dir, how, e));
    TRY(ledger_begin(*out, "bench_agents", e));
    for (int i = 0; i < concepts; i++)
        TRY(submit(*out, i, e));
    return ledger_commit(*out, e);
}

/* Is killed when enough was seen. The farm is made before, so that nobody waits for it. */
static pid_t start_coordinator(const bench *b, const char *dir, int listen)
{
    ledger *l = NULL;
    coordinator_options o = {.name = "bench", .base = "base", .listen = listen, .token = TOKEN, .agents = b->agents, .time_left = -1};
    err e = {0};
    pid_t pid;

    if (make_farm(&l, dir, b->concepts, &e) != 0)
        die("the farm", &e);
    o.l = l;
    pid = fork();
    if (pid == 0)
        _exit(coordinator_run(&o));
    ledger_close(l);
    close(listen);
    return pid;
}

/* ---- the mind and the journal alone ----------------------------------------------------------------------------- */

static double seconds_since(int64_t t) { return (double)(clock_ns() - t) * 1e-9; }

/* Grants and ends through the ledger, `group` of each to a commit. */
static double ledger_rate(const char *dir, int group, double most)
{
    sched_effects todo = {0};
    ledger *l = NULL;
    int concepts = 200000, running[1024], n = 0, done = 0;
    int64_t t;
    err e = {0};
    double seconds;

    if (make_farm(&l, dir, concepts, &e) != 0)
        die("the farm", &e);
    for (int i = 0; i < group; i++)
        if (ledger_step(l, &(sched_event){.type = EV_NODE_UP, .name = "n", .slots = 1}, &todo, &e) != 0 ||
            ledger_step(l, &(sched_event){.type = EV_SLOT, .node = i, .becomes = SLOT_READY}, &todo, &e) != 0)
            die("a node", &e);
    if (ledger_step(l, &(sched_event){.type = EV_OPEN}, &todo, &e) != 0)
        die("the farm", &e);
    for (size_t i = 0; i < todo.n; i++)
        running[n++] = todo.at[i].job;
    t = clock_ns();
    while (n == group && seconds_since(t) < most) {
        int ended[1024];
        memcpy(ended, running, sizeof ended);
        n = 0;
        for (int k = 0; k < group; k++) {
            sched_event ev = {.type = EV_DONE, .job = ended[k], .attempt = 1, .sha256 = SHA};
            if (ledger_step(l, &ev, &todo, &e) != 0)
                die("a step", &e);
            for (size_t i = 0; i < todo.n; i++)
                running[n++] = todo.at[i].job;
        }
        if (ledger_commit(l, &e) != 0)
            die("a commit", &e);
        done += group;
    }
    seconds = seconds_since(t);
    sched_effects_free(&todo);
    ledger_close(l);
    return done / seconds;
}

/* ---- telling ---------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double share(const bench *b, double q)
{
    return b->latencies > 0 ? b->latency[(size_t)(q * (double)(b->latencies - 1))] : 0;
}

static void sub_dir(char out[FS_PATH], const char *dir, const char *name)
{
    err e = {0};

    if (fs_join(out, dir, name, &e) != 0 || fs_mkdirs(out, &e) != 0)
        die("a folder", &e);
}

static void remove_dir(const char *dir)
{
    err e = {0};

    if (fs_remove_tree(dir, &e) != 0)
        die("a folder", &e);
}

int main(int argc, char **argv)
{
    bench b = {.agents = 1280, .slots = 8, .seconds = 10, .rate = 500, .concepts = 200000};
    struct rlimit files;
    char dir[FS_PATH];
    bool csv = false;
    int listen = -1;
    pid_t pid;
    err e = {0};

    if (argc < 2 || argv[1][0] == '-')
        return fputs("usage: bench_agents DIR [--agents 1280] [--slots 8] [--seconds 10] [--rate 500] [--csv]\n", stderr), 2;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            csv = true;
        else if (i + 1 < argc && strcmp(argv[i], "--agents") == 0)
            b.agents = number(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--slots") == 0)
            b.slots = number(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
            b.seconds = atof(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--rate") == 0)
            b.rate = atof(argv[++i]);
        else
            return fprintf(stderr, "bench_agents: %s: no such option, or no value\n", argv[i]), 2;
    }
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    sub_dir(dir, argv[1], "bench_agents");
    if (coordinator_listen(&listen, &b.port, false, &e) != 0)
        die("a socket", &e);
    if (b.rate > 0) /* as many as will be needed: their table is written now and then */
        b.concepts = b.agents * b.slots + (int)(b.rate * (b.seconds + 10));
    pid = start_coordinator(&b, dir, listen);
    b.latency = NEW_N(double, b.concepts);
    b.until = clock_ns() + INT64_C(120000000000);
    drive(&b);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    remove_dir(dir);
    qsort(b.latency, b.latencies, sizeof *b.latency, by_size);
    printf(csv ? "%d,%d,%.0f,%zu,%.0f,%.2f,%.2f,%.2f\n"
               : "%d agents with %d slots, %.0f a second wanted: %zu orders, %.0f a second; from answer to order p50 %.2f ms, p99 %.2f ms, most %.2f ms\n",
           b.agents, b.slots, b.rate, b.grants, (double)b.grants / b.seconds, share(&b, 0.5), share(&b, 0.99), share(&b, 1));
    for (int group = 1; group <= 1024; group *= 32) {
        sub_dir(dir, argv[1], "bench_agents");
        printf(csv ? "ledger,%d,,,%.0f,,,\n" : "the mind and the journal alone, %d to a commit: %.0f grants and ends a second\n", group,
               ledger_rate(dir, group, 3));
        remove_dir(dir);
    }
    return b.grants > 0 ? 0 : 3;
}
