/* The agent's ties upwards: finding the coordinator, its orders, signals, and the loop. */
#include "scheduler/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/wire/worker.h"
#include "scheduler/agent_impl.h"
#include "scheduler/link.h"

enum { TICK_MS = 100, SAVING_MS = 5, CONNECT_MS = 5000, WELCOME_S = 30 };
static const int64_t LEAVE_PATIENCE = 15000000000;
static const double CHECKPOINT_S = 5;

void agent_tell(agent *a, int type, json_t *body)
{
    err e = {0};

    wire_json(a->boss, (uint16_t)type, body);
    if (wire_flush(a->boss, &e) == 0) /* a broken link shows itself where it is read */
        loop_write(a->l, wire_fd(a->boss), wire_waiting(a->boss) > 0);
}

/* ---- meeting the coordinator ---------------------------------------------------------------------------------- */

static int finish_connect(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int failed = 0;
    socklen_t n = sizeof failed;

    if (poll(&p, 1, CONNECT_MS) != 1)
        return ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) == 0 ? failed : errno;
}

static int connect_to(int *out, const char *address, int port, err *e)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd, rc, on = 1;

    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return err_set(e, ERR_PEER, "%s: no address", address);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(e, ERR_IO, "a socket: %s", strerror(errno));
    rc = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : errno;
    if (rc == EINPROGRESS)
        rc = finish_connect(fd);
    if (rc != 0) {
        close(fd);
        return err_set(e, ERR_PEER, "the coordinator at %s:%d: %s", address, port, strerror(rc));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *out = fd;
    return 0;
}

static int find_coordinator(agent *a, err *e)
{
    int fd = -1, rc = err_set(e, ERR_PEER, "the coordinator has no address");

    for (int i = 0; i < a->how->addresses && rc != 0; i++)
        rc = connect_to(&fd, a->how->address[i], a->how->port, e);
    if (rc != 0)
        return rc;
    a->boss = wire_new(fd);
    return 0;
}

static int hello(agent *a, err *e)
{
    node_facts node;

    node_look(&node);
    return wire_tell(a->boss, LINK_HELLO,
                     json_pack("{s:i, s:s, s:s, s:i, s:i, s:i, s:I}", "protocol", LINK_PROTOCOL, "token", a->how->token,
                               "node", a->how->node, "pid", (int)getpid(), "slots", a->how->slots, "cores", node.cores,
                               "memory", (json_int_t)node.memory),
                     WELCOME_S, e);
}

/* ---- orders --------------------------------------------------------------------------------------------------- */

static int on_welcome(agent *a, const json_t *o, err *e)
{
    const char *farm, *base;

    if (a->welcome)
        return err_set(e, ERR_PEER, "the coordinator welcomes twice");
    TRY(json_get_text(o, "farm", &farm, e));
    TRY(json_get_text(o, "base", &base, e));
    TRY(json_get_int(o, "epoch", 1, INT64_MAX, &a->epoch, e));
    a->farm = mem_text(farm);
    a->base = mem_text(base);
    a->welcome = true;
    crew_open(a);
    return 0;
}

/* What is trained is kept before the agent is gone. */
static void leave(agent *a)
{
    if (a->leaving)
        return;
    a->leaving = true;
    a->leave_ns = clock_ns() + LEAVE_PATIENCE;
    crew_close(a, "the node leaves");
    task_leave(a);
}

static int on_order(agent *a, const wire_frame *f, err *e)
{
    json_t *o = NULL;
    int rc = 0;

    TRY(wire_parse(f, &o, e));
    if (f->type == LINK_WELCOME)
        rc = on_welcome(a, o, e);
    else if (f->type == LINK_RUN && a->welcome)
        task_run(a, o);
    else if (f->type == LINK_HALT && a->welcome)
        task_halt(a, o);
    else if (f->type == LINK_END && json_is_true(json_object_get(o, "now")))
        a->over = true;
    else if (f->type == LINK_END)
        leave(a);
    else
        rc = err_set(e, ERR_PEER, "an order of kind %d, which is not due", f->type);
    json_decref(o);
    return rc;
}

static int listen_to_boss(agent *a, bool readable, err *e)
{
    int end = readable ? wire_fill(a->boss, e) : 0;
    wire_frame f;

    do {
        TRY(wire_next(a->boss, &f, e));
        if (f.type)
            TRY(on_order(a, &f, e));
    } while (f.type && !a->over);
    return end;
}

static void on_boss(void *arg, bool readable, bool writable)
{
    agent *a = arg;
    int rc = listen_to_boss(a, readable, &a->why);

    if (rc == 0 && writable) {
        rc = wire_flush(a->boss, &a->why);
        loop_write(a->l, wire_fd(a->boss), wire_waiting(a->boss) > 0);
    }
    if (rc != 0)
        a->over = true;
}

/* What INT, USR1 and USR2 mean is the coordinator's to decide. TERM is notice: a few seconds are left, or less. */
static void on_signal(void *arg, int signal)
{
    agent *a = arg;

    if (signal == SIGCHLD) {
        crew_reap(a);
        return;
    }
    if (a->how->coordinator > 0)
        kill(a->how->coordinator, signal);
    if (signal != SIGTERM)
        return;
    a->over |= a->leaving; /* told twice: at once */
    leave(a);
}

/* For tests: a number of seconds from the environment. */
static double seconds(const char *name, double otherwise)
{
    const char *text = getenv(name);

    return text && *text ? atof(text) : otherwise;
}

int agent_run(const agent_options *o, err *e)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, -1};
    agent a = {.how = o, .l = loop_new(), .silence_s = seconds("CFARM_SILENCE_S", WORKER_SILENCE_S),
               .checkpoint_s = seconds("CFARM_CHECKPOINT_S", CHECKPOINT_S), .oom_kills = node_oom_kills()};
    int rc;

    signal(SIGPIPE, SIG_IGN);
    loop_signals(a.l, on_signal, &a, signals);
    rc = find_coordinator(&a, e);
    if (rc == 0)
        rc = hello(&a, e);
    if (rc == 0) {
        loop_add(a.l, wire_fd(a.boss), on_boss, &a);
        while (!a.over) {
            loop_turn(a.l, a.leaving ? SAVING_MS : TICK_MS);
            crew_tick(&a);
            task_tick(&a);
            a.over |= a.leaving && (!a.tasks || clock_ns() > a.leave_ns);
        }
        task_end(&a);
        shelf_end(&a);
        crew_end(&a);
        rc = (int)a.why.code;
        if (e)
            *e = a.why;
    }
    wire_free(a.boss);
    loop_free(a.l);
    free(a.farm);
    free(a.base);
    return rc;
}
