/* The tie to the coordinator: found, greeted, kept alive, found again. Nothing here waits: workers are watched meanwhile.
 *
 * The lease. A coordinator's kernel that takes our bytes proves that we are not cut off, even while the coordinator waits
 * for a slow disk or is being replaced. Without such a proof for LEASE_S the coordinator holds this node for lost: what
 * it trains is halted and kept, and the node comes back as a new one when the way is free again. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/rng.h"
#include "scheduler/agent_impl.h"
#include "scheduler/link.h"

static const int64_t SECOND = 1000000000, RETRY = SECOND / 20, CONNECT = 3 * SECOND, GREETING = 10 * SECOND, FIRST_WELCOME = 30 * SECOND,
                     GONE = 60 * SECOND, GONE_LATE = 600 * SECOND;

void agent_tell(agent *a, int type, json_t *body)
{
    err e = {0};

    if (a->tie != TIE_UP) { /* what is of the moment is told again at the next greeting; answers wait in their tasks */
        json_decref(body);
        return;
    }
    wire_json(a->boss, (uint16_t)type, body);
    if (wire_flush(a->boss, &e) == 0) /* a broken link shows itself where it is read */
        loop_write(a->l, wire_fd(a->boss), wire_waiting(a->boss) > 0);
}

void tie_close(agent *a)
{
    if (a->boss) {
        loop_drop(a->l, wire_fd(a->boss));
        wire_free(a->boss);
    }
    a->boss = NULL;
    a->tie = TIE_NONE;
    a->tried_ns = clock_ns();
}

/* ---- connecting ----------------------------------------------------------------------------------------------- */

static int knock(agent *a, int *out, err *e)
{
    const char *address = a->door.address[a->address];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)a->door.port)};
    int fd, on = 1;

    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return err_set(e, ERR_PEER, "%s: no address", address);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(e, ERR_IO, "a socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS) {
        *out = fd;
        return 0;
    }
    err_set(e, ERR_PEER, "the coordinator at %s:%d: %s", address, a->door.port, strerror(errno));
    close(fd);
    return ERR_PEER;
}

static void greet(agent *a, err *e)
{
    int failed = 0;
    socklen_t n = sizeof failed;

    if (getsockopt(wire_fd(a->boss), SOL_SOCKET, SO_ERROR, &failed, &n) != 0)
        failed = errno;
    if (failed) {
        err_set(e, ERR_PEER, "the coordinator at %s:%d: %s", a->door.address[a->address], a->door.port, strerror(failed));
        return;
    }
    a->tie = TIE_GREETING;
    if (wire_nonce(a->nonce, e) == 0)
        wire_json(a->boss, LINK_NONCE, json_pack("{s:s}", "nonce", a->nonce));
}

/* Of each slot: its GPU's. */
static json_t *links_of(const agent_options *how)
{
    json_t *list = json_array();

    for (int i = 0; i < how->slots; i++)
        json_array_append_new(list, json_integer(how->link[i % how->devices]));
    return list;
}

/* What it has under way, so that it need not be begun again. */
static int say_hello(agent *a, const json_t *o, err *e)
{
    const char *theirs;
    node_facts node;
    json_t *hello;

    TRY(json_get_text(o, "nonce", &theirs, e));
    TRY(wire_seal(a->boss, a->door.token, a->nonce, theirs, e));
    node_look(&node);
    hello = json_pack("{s:i, s:s, s:i, s:i, s:i, s:I, s:I, s:o}", "protocol", LINK_PROTOCOL, "node", a->how->node, "pid",
                      (int)getpid(), "slots", a->how->slots, "cores", node.cores, "memory", (json_int_t)node.memory, "epoch",
                      (json_int_t)a->epoch, "running", task_list(a));
    if (a->how->linked)
        json_object_set_new(hello, "links", links_of(a->how));
    wire_json(a->boss, LINK_HELLO, hello);
    a->tie = TIE_HELLO;
    return 0;
}

static int on_frame(agent *a, const wire_frame *f, err *e)
{
    json_t *o = NULL;
    int rc;

    TRY(wire_parse(f, &o, e));
    if (a->tie == TIE_GREETING)
        rc = f->type == LINK_NONCE ? say_hello(a, o, e) : err_set(e, ERR_PEER, "the coordinator does not greet");
    else if (f->type == LINK_BEAT)
        rc = 0;
    else
        rc = agent_order(a, f->type, o, e);
    json_decref(o);
    return rc;
}

static void listen_to(agent *a, bool readable, bool writable, err *e)
{
    int end = readable ? wire_fill(a->boss, e) : 0;
    wire_frame f;

    do {
        err broken = {0};
        if (wire_next(a->boss, &f, &broken) != 0 || (f.type && on_frame(a, &f, &broken) != 0)) {
            *e = broken;
            return;
        }
    } while (f.type && !a->over);
    if (end != 0)
        return;
    if (wire_flush(a->boss, e) == 0)
        loop_write(a->l, wire_fd(a->boss), wire_waiting(a->boss) > 0);
    (void)writable;
}

static void on_boss(void *arg, bool readable, bool writable)
{
    agent *a = arg;
    err e = {0};

    if (a->tie == TIE_CONNECTING)
        greet(a, &e);
    if (e.code == 0)
        listen_to(a, readable, writable, &e);
    if (e.code == 0)
        return;
    a->trouble = e;
    tie_close(a);
}

/* The farm may have been started again somewhere else. */
static void look_again(agent *a)
{
    door d;

    if (a->how->farm && door_read(&d, a->how->farm, NULL) == 0)
        a->door = d;
}

static void find(agent *a)
{
    int fd = -1;

    a->tried_ns = clock_ns();
    a->address = (a->address + 1) % a->door.addresses;
    if (a->address == 0)
        look_again(a);
    if (knock(a, &fd, &a->trouble) != 0)
        return;
    a->boss = wire_new(fd);
    a->tie = TIE_CONNECTING;
    loop_add(a->l, fd, on_boss, a);
    loop_write(a->l, fd, true);
}

/* ---- keeping it ----------------------------------------------------------------------------------------------- */

static void beat(agent *a)
{
    int64_t now = clock_ns();
    int on_its_way = 0;

    if (wire_waiting(a->boss) == 0 && ioctl(wire_fd(a->boss), SIOCOUTQ, &on_its_way) == 0 && on_its_way == 0)
        a->proof_ns = now;
    if (now - a->beat_ns < SECOND)
        return;
    a->beat_ns = now;
    agent_tell(a, LINK_BEAT, json_object());
}

static void give_up(agent *a, const char *what)
{
    a->over = true;
    a->why = a->trouble;
    if (a->why.code == 0)
        err_set(&a->why, ERR_PEER, "%s", what);
}

void tie_tick(agent *a)
{
    int64_t now = clock_ns();

    if (a->tie == TIE_UP) {
        beat(a);
    } else if (a->tie != TIE_NONE) {
        if (now - a->tried_ns > (a->tie == TIE_CONNECTING ? CONNECT : GREETING))
            tie_close(a);
    } else if (now - a->tried_ns >= RETRY && !a->leaving) {
        find(a);
    }
    if (!a->welcome && now - a->proof_ns > FIRST_WELCOME)
        give_up(a, "the coordinator does not answer");
    if (a->welcome && !a->leaving && now - a->proof_ns > LINK_LEASE_S * SECOND)
        task_leave(a);
    if (a->welcome && !a->leaving && now - a->proof_ns > (a->how->farm ? GONE_LATE : GONE))
        give_up(a, "the coordinator is gone");
}

/* Thousands that are welcomed together do not beat together. */
void tie_up(agent *a)
{
    a->tie = TIE_UP;
    a->trouble = (err){0};
    a->proof_ns = clock_ns();
    a->beat_ns = a->proof_ns - (int64_t)(rng_uniform(rng_open((uint64_t)getpid(), "beat", 0, 0), 0) * (float)SECOND);
}
