/* Connections, and the calls that make and use them. A connection delivers in order or not at all, as TCP does and the sealed
 * frames insist: a frame that is lost, doubled or turned round ends it. What a cut link holds back arrives when it is healed.
 *
 * The frames are not encoded: a body is handed over as the value it is, sealed connections are only told apart from others. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "cluster/base/mem.h"
#include "cluster/node/node.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"
#include "tests/sim/world.h"

enum { ENDS_MOST = 4096, PORT = 1000 };

typedef struct frame {
    struct frame *next;
    uint16_t type;
    json_t *body;
    int64_t sent;
} frame;

typedef enum { END_FREE, END_NEW, END_CONNECTING, END_REFUSED, END_LISTENS, END_OPEN } end_state;
typedef struct {
    end_state state;
    int holders, host, peer;      /* peer: the other end, -1: none any more */
    process *owner;               /* whom arrivals wake; NULL: a worker's */
    void (*arrived)(void *arg);
    void *arg;
    frame *first, **last;         /* came, not yet taken */
    int64_t last_at;              /* the latest arrival foretold here: order is kept */
    int on_its_way;               /* frames from here that the other machine has not taken */
    bool gone;                    /* the other side has ended, and this one has heard of it */
    unsigned version, peer_version; /* peer_version: that of the other end; its place may be another's by now */
    int backlog[64], backlog_n;
} end;

static end ends[ENDS_MOST];
static int ends_n;
static int64_t cut_until[HOSTS_MOST][HOSTS_MOST];
static int spoil_host = -1;

static end *end_of(int fd) { return &ends[fd - FD_BASE]; }

static void clear(end *x)
{
    for (frame *f = x->first, *n; f; f = n) {
        n = f->next;
        json_decref(f->body);
        free(f);
    }
    x->first = NULL;
    x->last = &x->first;
}

static int new_end(int host, end_state state)
{
    int at = ends_n;

    for (int i = 0; i < ends_n; i++)
        if (ends[i].state == END_FREE) {
            at = i;
            break;
        }
    CHECK(at < ENDS_MOST);
    ends_n += at == ends_n;
    end *x = &ends[at];
    unsigned version = x->version + 1;
    *x = (end){.state = state, .holders = 1, .host = host, .peer = -1, .owner = process_self(), .version = version};
    x->last = &x->first;
    return FD_BASE + at;
}

void net_reset(void)
{
    for (int i = 0; i < ends_n; i++) {
        clear(&ends[i]);
        ends[i] = (end){.version = ends[i].version + 1};
    }
    ends_n = 0;
    memset(cut_until, 0, sizeof cut_until);
    spoil_host = -1;
}

void net_cut(int a, int b, int64_t until)
{
    if (a == b)
        return;
    cut_until[a][b] = cut_until[b][a] = until;
}

void net_heal(void)
{
    memset(cut_until, 0, sizeof cut_until);
    spoil_host = -1;
}

void net_spoil(int host) { spoil_host = host; }

/* ---- passing --------------------------------------------------------------------------------------------------- */

static int64_t passes_at(const end *from, const end *to, int64_t at)
{
    int64_t cut = cut_until[from->host][to->host];

    return from->host == to->host ? at : cut > at ? cut + (int64_t)lot(1000) * MS : at;
}

/* Until something comes the reader sleeps. */
static void tell(end *x)
{
    if (x->owner)
        process_wake(x->owner);
    else if (x->arrived)
        x->arrived(x->arg);
}

typedef struct { int to, from; unsigned version, from_version; frame *f; } parcel;

static void deliver(void *arg)
{
    parcel *p = arg;
    end *to = &ends[p->to], *from = &ends[p->from];
    bool there = to->version == p->version && to->state == END_OPEN;
    int64_t at = from->version == p->from_version ? passes_at(from, to, world.now) : world.now;

    if (there && at > world.now && p->f) { /* a cut began meanwhile */
        world_at(at, deliver, p, NULL);
        return;
    }
    if (from->version == p->from_version && p->f)
        from->on_its_way--;
    if (!there) {
        if (p->f)
            json_decref(p->f->body);
        free(p->f);
        if (from->version == p->from_version && from->state == END_OPEN && !from->gone) {
            from->gone = true; /* a reset */
            tell(from);
        }
    } else if (p->f && spoil_host >= 0 && to->host != from->host && (to->host == spoil_host || from->host == spoil_host)) {
        world_say("a frame between host %d and host %d is lost", from->host, to->host);
        spoil_host = -1;
        json_decref(p->f->body);
        free(p->f);
        to->gone = true; /* the next frame has the wrong number */
        tell(to);
    } else if (p->f) {
        *to->last = p->f;
        to->last = &p->f->next;
        tell(to);
    } else {
        to->gone = true;
        tell(to);
    }
    free(p);
}

/* f NULL: the end of the stream. */
static void post(end *from, frame *f)
{
    end *to = from->peer >= 0 ? &ends[from->peer] : NULL;
    parcel *p;
    int64_t at;

    if (!to) {
        if (f)
            json_decref(f->body);
        free(f);
        return;
    }
    p = NEW(parcel);
    *p = (parcel){.to = from->peer, .from = (int)(from - ends), .version = from->peer_version, .from_version = from->version, .f = f};
    at = world.now + (from->host == to->host ? 20000 + (int64_t)lot(200000) : 100000 + (int64_t)lot(2000000));
    if (from->host != to->host && lot(200) == 0)
        at += (int64_t)lot(3000) * MS;
    at = passes_at(from, to, at);
    if (to->version == from->peer_version) {
        at = at > to->last_at ? at : to->last_at + 1;
        to->last_at = at;
    }
    from->on_its_way += f != NULL;
    world_at(at, deliver, p, NULL);
}

static void hang_up(end *x, bool silent)
{
    if (x->state == END_FREE)
        return;
    if (x->state == END_OPEN && x->peer >= 0 && !silent)
        post(x, NULL);
    if (x->peer >= 0 && ends[x->peer].version == x->peer_version && ends[x->peer].peer == (int)(x - ends))
        ends[x->peer].peer = silent ? ends[x->peer].peer : -1;
    for (int i = 0; i < x->backlog_n; i++)
        hang_up(&ends[x->backlog[i]], silent);
    clear(x);
    x->state = END_FREE;
    x->version++;
    x->holders = 0;
    x->peer = -1;
}

void net_close(int fd)
{
    end *x = end_of(fd);

    if (--x->holders <= 0)
        hang_up(x, false);
}

int net_share(int fd)
{
    end_of(fd)->holders++;
    return fd;
}

void net_drop_process(const process *p, bool silent)
{
    for (int i = 0; i < ends_n; i++)
        if (ends[i].state != END_FREE && ends[i].state != END_LISTENS && ends[i].owner == p) {
            ends[i].owner = NULL;
            ends[i].arrived = NULL;
            hang_up(&ends[i], silent);
        }
}

int net_listen(int host)
{
    int fd = new_end(host, END_LISTENS);

    end_of(fd)->owner = NULL;
    return fd;
}

void net_unlisten(int fd)
{
    if (end_of(fd)->state == END_LISTENS)
        hang_up(end_of(fd), false);
}

/* ---- for workers ----------------------------------------------------------------------------------------------- */

int net_send(int fd, uint16_t type, json_t *body)
{
    end *x = end_of(fd);
    frame *f = NEW(frame);

    *f = (frame){.type = type, .body = body, .sent = world.now};
    post(x, f);
    return 0;
}

json_t *net_take(int fd, uint16_t *type)
{
    end *x = end_of(fd);
    frame *f = x->first;
    json_t *body;

    if (!f)
        return NULL;
    x->first = f->next;
    if (!x->first)
        x->last = &x->first;
    *type = f->type;
    body = f->body;
    free(f);
    return body;
}

bool net_gone(int fd) { return end_of(fd)->gone && !end_of(fd)->first; }

void net_on_arrival(int fd, void (*fn)(void *arg), void *arg)
{
    end *x = end_of(fd);

    x->owner = NULL;
    x->arrived = fn;
    x->arg = arg;
    if (x->first || x->gone)
        fn(arg);
}

/* ---- the calls: sockets ---------------------------------------------------------------------------------------- */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    (void)domain, (void)type, (void)protocol;
    return new_end(process_host(process_self()), END_NEW);
}

typedef struct { int from, port; unsigned version; } knock;

static void refuse(end *x)
{
    x->state = END_REFUSED;
    tell(x);
}

static void knocked(void *arg)
{
    knock k = *(knock *)arg;
    end *x = &ends[k.from], *door = k.port - PORT >= 0 && k.port - PORT < ends_n ? &ends[k.port - PORT] : NULL, *in;
    int fd;

    free(arg);
    if (x->version != k.version || x->state != END_CONNECTING)
        return;
    if (!door || door->state != END_LISTENS || door->backlog_n == 64) {
        refuse(x);
        return;
    }
    if (passes_at(x, door, world.now) > world.now)
        return; /* nobody answers */
    fd = new_end(door->host, END_OPEN);
    in = end_of(fd);
    in->owner = NULL;
    in->peer = k.from;
    in->peer_version = ends[k.from].version;
    x = &ends[k.from];
    x->peer = fd - FD_BASE;
    x->peer_version = in->version;
    x->state = END_OPEN;
    door->backlog[door->backlog_n++] = fd - FD_BASE;
    tell(x);
    if (door->owner)
        process_wake(door->owner);
}

int __wrap_connect(int fd, const struct sockaddr *to, socklen_t n);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t n)
{
    end *x = end_of(fd);
    knock *k = NEW(knock);

    (void)n;
    x->state = END_CONNECTING;
    *k = (knock){.from = fd - FD_BASE, .port = ntohs(((const struct sockaddr_in *)(const void *)to)->sin_port), .version = x->version};
    world_at(world.now + 200000 + (int64_t)lot(2000000), knocked, k, NULL);
    errno = EINPROGRESS;
    return -1;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *n);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
    (void)level, (void)name, (void)n;
    *(int *)value = end_of(fd)->state == END_REFUSED ? ECONNREFUSED : 0;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t n);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    (void)fd, (void)level, (void)name, (void)value, (void)n;
    return 0;
}

int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *n, int flags);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *n, int flags)
{
    end *door = end_of(fd);
    int at;

    (void)from, (void)n, (void)flags;
    if (door->backlog_n == 0) {
        errno = EAGAIN;
        return -1;
    }
    at = door->backlog[0];
    memmove(door->backlog, door->backlog + 1, (size_t)--door->backlog_n * sizeof *door->backlog);
    ends[at].owner = process_self();
    return FD_BASE + at;
}

int __wrap_socketpair(int domain, int type, int protocol, int fds[2]);
int __wrap_socketpair(int domain, int type, int protocol, int fds[2])
{
    (void)domain, (void)type, (void)protocol;
    for (int i = 0; i < 2; i++)
        fds[i] = new_end(process_host(process_self()), END_OPEN);
    for (int i = 0; i < 2; i++) {
        end_of(fds[i])->peer = fds[1 - i] - FD_BASE;
        end_of(fds[i])->peer_version = end_of(fds[1 - i])->version;
    }
    return 0;
}

/* SIOCOUTQ, the only question that is asked. */
int __wrap_ioctl(int fd, unsigned long request, int *value);
int __wrap_ioctl(int fd, unsigned long request, int *value)
{
    (void)request;
    if (fd < FD_BASE)
        return -1;
    *value = end_of(fd)->on_its_way;
    return 0;
}

/* ---- the calls: wires ------------------------------------------------------------------------------------------ */

struct wire { int fd; bool sealed; };

wire *__wrap_wire_new(int fd);
wire *__wrap_wire_new(int fd)
{
    wire *w = NEW(wire);

    w->fd = fd;
    return w;
}

void __wrap_wire_free(wire *w);
void __wrap_wire_free(wire *w)
{
    if (!w)
        return;
    net_close(w->fd);
    free(w);
}

int __wrap_wire_fd(const wire *w);
int __wrap_wire_fd(const wire *w) { return w->fd; }

int __wrap_wire_nonce(char out[WIRE_NONCE], err *e);
int __wrap_wire_nonce(char out[WIRE_NONCE], err *e)
{
    (void)e;
    for (int i = 0; i < WIRE_NONCE - 1; i++)
        out[i] = "0123456789abcdef"[lot(16)];
    out[WIRE_NONCE - 1] = '\0';
    return 0;
}

int __wrap_wire_seal(wire *w, const char *secret, const char *mine, const char *theirs, err *e);
int __wrap_wire_seal(wire *w, const char *secret, const char *mine, const char *theirs, err *e)
{
    (void)secret, (void)mine, (void)theirs, (void)e;
    w->sealed = true;
    return 0;
}

void __wrap_wire_json(wire *w, uint16_t type, json_t *body);
void __wrap_wire_json(wire *w, uint16_t type, json_t *body)
{
    net_send(w->fd, type, body);
}

int __wrap_wire_flush(wire *w, err *e);
int __wrap_wire_flush(wire *w, err *e)
{
    (void)w, (void)e;
    return 0;
}

size_t __wrap_wire_waiting(const wire *w);
size_t __wrap_wire_waiting(const wire *w)
{
    (void)w;
    return 0;
}

int __wrap_wire_fill(wire *w, err *e);
int __wrap_wire_fill(wire *w, err *e)
{
    return end_of(w->fd)->gone ? err_set(e, ERR_PEER, "the other side is gone") : 0;
}

int __wrap_wire_next(wire *w, wire_frame *out, err *e);
int __wrap_wire_next(wire *w, wire_frame *out, err *e)
{
    uint16_t type = 0;
    json_t *body = net_take(w->fd, &type);

    (void)e;
    *out = (wire_frame){.type = type, .body = (const char *)body};
    return 0;
}

/* A value that others hold, too, is theirs: a copy. */
int __wrap_wire_parse(const wire_frame *f, json_t **out, err *e);
int __wrap_wire_parse(const wire_frame *f, json_t **out, err *e)
{
    (void)e;
    *out = (json_t *)(uintptr_t)f->body;
    return 0;
}

/* ---- the calls: the loop --------------------------------------------------------------------------------------- */

typedef struct { int fd; loop_fn *fn; void *arg; bool writes; } handler;
struct loop {
    handler *of;
    int n;
    loop_signal_fn *on_signal;
    void *signal_arg;
};

loop *__wrap_loop_new(void);
loop *__wrap_loop_new(void) { return NEW(loop); }

void __wrap_loop_free(loop *l);
void __wrap_loop_free(loop *l)
{
    if (l)
        free(l->of);
    free(l);
}

void __wrap_loop_add(loop *l, int fd, loop_fn *fn, void *arg);
void __wrap_loop_add(loop *l, int fd, loop_fn *fn, void *arg)
{
    l->of = mem_grow(l->of, (size_t)l->n + 1, sizeof *l->of);
    l->of[l->n++] = (handler){.fd = fd, .fn = fn, .arg = arg};
    end_of(fd)->owner = process_self();
}

void __wrap_loop_write(loop *l, int fd, bool want);
void __wrap_loop_write(loop *l, int fd, bool want)
{
    for (int i = 0; i < l->n; i++)
        if (l->of[i].fd == fd)
            l->of[i].writes = want;
}

void __wrap_loop_drop(loop *l, int fd);
void __wrap_loop_drop(loop *l, int fd)
{
    for (int i = 0; i < l->n; i++)
        if (l->of[i].fd == fd)
            l->of[i].fn = NULL;
}

void __wrap_loop_signals(loop *l, loop_signal_fn *fn, void *arg, const int *signals);
void __wrap_loop_signals(loop *l, loop_signal_fn *fn, void *arg, const int *signals)
{
    (void)signals;
    l->on_signal = fn;
    l->signal_arg = arg;
}

static bool readable(int fd)
{
    const end *x = end_of(fd);

    return x->first || x->gone || (x->state == END_LISTENS && x->backlog_n > 0);
}

static bool writable(const handler *h)
{
    end_state s = end_of(h->fd)->state;

    return h->writes && (s == END_OPEN || s == END_REFUSED);
}

static bool anything(const loop *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->of[i].fn && (readable(l->of[i].fd) || writable(&l->of[i])))
            return true;
    return false;
}

static void sweep(loop *l)
{
    int kept = 0;

    for (int i = 0; i < l->n; i++)
        if (l->of[i].fn)
            l->of[kept++] = l->of[i];
    l->n = kept;
}

static void give_signals(loop *l)
{
    unsigned s = process_take_signals(process_self());

    for (int i = 1; s && i < 32; i++)
        if (s & 1u << i)
            l->on_signal(l->signal_arg, i);
}

/* A turn in which nothing comes is stretched up to what this world's processes are slow: they may be. Not always, though: an agent
 * whose turns all take more than a second holds every silence for its own. */
static int64_t idle_turn(int64_t wait)
{
    static const int64_t WELL = 120 * SEC, SPELL = 780 * SEC, SLOW = 4500 * MS;

    if (world.spells && world.now % (WELL + SPELL) > WELL)
        return SLOW / 2 + (int64_t)(lot_real() * (double)(SLOW / 2));
    return world.turn_ns > wait ? wait + (int64_t)(lot_real() * (double)(world.turn_ns - wait)) : wait;
}

void __wrap_loop_turn(loop *l, int timeout_ms);
void __wrap_loop_turn(loop *l, int timeout_ms)
{
    int64_t wait = (int64_t)timeout_ms * MS;

    if (timeout_ms >= 100)
        wait = idle_turn(wait);
    process_wait(anything(l) ? world.now + 1000 : world.now + wait);
    give_signals(l);
    for (int i = 0, n = l->n; i < n; i++) {
        handler h = l->of[i];
        if (h.fn && (readable(h.fd) || writable(&h)))
            h.fn(h.arg, readable(h.fd), writable(&h));
    }
    sweep(l);
}
