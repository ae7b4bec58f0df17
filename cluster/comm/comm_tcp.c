/* A gang over several nodes: TCP connections along the very tree in which sums are added. Rank r is tied to r without its
 * lowest bit, and to r + 1, r + 2, r + 4, ... below its lowest bit; rank 0 is the root. A sum goes up it, each adding his
 * children in that order, and comes down again: with ranks in the order of their nodes all but one tie of a node are local.
 *
 * Nobody listens longer than until his children are there. A member that ends is known at once, by its connection; one
 * whose machine is lost, by KEEPALIVE; one that hangs, by the timeout. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/comm/comm_impl.h"
#include "cluster/node/node.h"
#include "cluster/wire/wire.h"

enum { CHILDREN = 6, MOST_RANKS = 64, PIECE = 4 << 20 /* bytes a message */, FILE_MOST = 1 << 14, LOOK_MS = 50, KEEPALIVE_S = 15 };
enum { GANG_NONCE = 1, GANG_HELLO, GANG_BYTES };
static const double GREETING_S = 2;

typedef struct { wire *w; int rank; } tie;

typedef struct {
    comm base;
    tie up, down[CHILDREN];   /* up.w NULL: the root */
    int children;             /* in the order in which they are added */
    char path[FS_PATH];       /* of the file that tells where this rank listens; "": none */
    double timeout_s;
} tcp_comm;

static int parent_of(int rank) { return rank & (rank - 1); }

/* The ranks from `rank` on that are below it. */
static int span_of(const tcp_comm *c, int rank) { return rank > 0 ? rank & -rank : c->base.size; }

/* ---- messages -------------------------------------------------------------------------------------------------- */

static int gone(const tcp_comm *c, const tie *t, const err *why, err *e)
{
    return err_set(e, ERR_PEER, "gang member %d of %d is gone (%s)", t->rank, c->base.size, why->text);
}

static int late(const tcp_comm *c, err *e)
{
    return err_set(e, ERR_PEER, "gang members did not come to the meeting within %.0f s", c->timeout_s);
}

static int pass(const tcp_comm *c, const tie *t, const void *bytes, size_t n, err *e)
{
    err why = {0};

    return wire_send(t->w, GANG_BYTES, bytes, n, c->timeout_s, &why) == 0 ? 0 : gone(c, t, &why, e);
}

/* Good until the next message of that tie. */
static int take(const tcp_comm *c, const tie *t, const char **bytes, size_t n, err *e)
{
    wire_frame f;
    err why = {0};

    if (wire_take(t->w, &f, c->timeout_s, &why) != 0)
        return gone(c, t, &why, e);
    if (!f.type)
        return late(c, e);
    if (f.type != GANG_BYTES || f.n != n)
        return err_set(e, ERR_PEER, "gang member %d of %d says something else than is due", t->rank, c->base.size);
    *bytes = f.body;
    return 0;
}

static int take_into(const tcp_comm *c, const tie *t, void *to, size_t n, err *e)
{
    const char *bytes = NULL;

    TRY(take(c, t, &bytes, n, e));
    memcpy(to, bytes, n);
    return 0;
}

/* ---- the verbs ------------------------------------------------------------------------------------------------- */

/* From the root, which has it, to everyone. */
static int spread(const tcp_comm *c, void *buf, size_t n, err *e)
{
    if (c->up.w)
        TRY(take_into(c, &c->up, buf, n, e));
    for (int k = 0; k < c->children; k++)
        TRY(pass(c, &c->down[k], buf, n, e));
    return 0;
}

static int add_child(const tcp_comm *c, const tie *t, float *buf, size_t n, err *e)
{
    const char *bytes;
    float x;

    TRY(take(c, t, &bytes, n * sizeof x, e));
    for (size_t i = 0; i < n; i++) {
        memcpy(&x, bytes + i * sizeof x, sizeof x);
        buf[i] += x;
    }
    return 0;
}

static int tcp_sum(comm *base, float *buf, size_t n, err *e)
{
    const tcp_comm *c = (tcp_comm *)base;
    const size_t most = PIECE / sizeof(float);

    for (size_t at = 0; at < n; at += most) {
        size_t piece = n - at < most ? n - at : most;
        for (int k = 0; k < c->children; k++)
            TRY(add_child(c, &c->down[k], buf + at, piece, e));
        if (c->up.w)
            TRY(pass(c, &c->up, buf + at, piece * sizeof(float), e));
        TRY(spread(c, buf + at, piece * sizeof(float), e));
    }
    return 0;
}

/* From rank `from` up to the root. */
static int lift(const tcp_comm *c, void *buf, size_t n, int from, err *e)
{
    bool has = c->base.rank == from;

    for (int k = 0; k < c->children && !has; k++) {
        const tie *t = &c->down[k];
        if (from < t->rank || from >= t->rank + span_of(c, t->rank))
            continue;
        TRY(take_into(c, t, buf, n, e));
        has = true;
    }
    return has && c->up.w ? pass(c, &c->up, buf, n, e) : 0;
}

static int tcp_broadcast(comm *base, void *buf, size_t bytes, int root, err *e)
{
    const tcp_comm *c = (tcp_comm *)base;

    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t piece = bytes - at < PIECE ? bytes - at : PIECE;
        TRY(lift(c, (char *)buf + at, piece, root, e));
        TRY(spread(c, (char *)buf + at, piece, e));
    }
    return 0;
}

typedef struct { int rank; err said; } verdict; /* rank size: all is well */

static int tcp_agree(comm *base, const err *mine, err *e)
{
    const tcp_comm *c = (tcp_comm *)base;
    verdict first = {mine->code ? base->rank : base->size, *mine}, other;

    for (int k = 0; k < c->children; k++) {
        TRY(take_into(c, &c->down[k], &other, sizeof other, e));
        if (other.rank < first.rank)
            first = other;
    }
    if (c->up.w)
        TRY(pass(c, &c->up, &first, sizeof first, e));
    TRY(spread(c, &first, sizeof first, e));
    return first.rank < base->size ? err_set(e, first.said.code, "%s", first.said.text) : 0;
}

static void tcp_free(comm *base)
{
    tcp_comm *c = (tcp_comm *)base;

    if (c->path[0])
        unlink(c->path);
    wire_free(c->up.w);
    for (int k = 0; k < c->children; k++)
        wire_free(c->down[k].w);
    free(c);
}

/* ---- meeting --------------------------------------------------------------------------------------------------- */

/* A lost machine says nothing: its kernel is asked. */
static void watch(int fd)
{
    static const struct { int level, name, value; } opt[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},  {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S / 3},
        {IPPROTO_TCP, TCP_KEEPCNT, 5},   {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S * 2 / 15},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, KEEPALIVE_S * 1000},
    };

    for (size_t i = 0; i < sizeof opt / sizeof opt[0]; i++)
        setsockopt(fd, opt[i].level, opt[i].name, &opt[i].value, sizeof opt[i].value);
}

static int hear(wire *w, int type, json_t **out, err *e)
{
    wire_frame f;

    TRY(wire_take(w, &f, GREETING_S, e));
    if (f.type != type)
        return err_set(e, ERR_PEER, "it does not greet");
    return wire_parse(&f, out, e);
}

/* Nonces in clear, then who each one is under the gang's secret: what is none of ours does not come further. */
static int greet(wire *w, const tcp_comm *c, const char *secret, int *who, err *e)
{
    char mine[WIRE_NONCE];
    json_t *o = NULL;
    int64_t rank, size;

    TRY(wire_nonce(mine, e));
    TRY(wire_tell(w, GANG_NONCE, json_pack("{s:s}", "nonce", mine), GREETING_S, e));
    TRY(hear(w, GANG_NONCE, &o, e));
    const char *theirs = json_string_value(json_object_get(o, "nonce"));
    int rc = wire_seal(w, secret, mine, theirs ? theirs : "", e);
    json_decref(o);
    TRY(rc);
    TRY(wire_tell(w, GANG_HELLO, json_pack("{s:i, s:i}", "rank", c->base.rank, "size", c->base.size), GREETING_S, e));
    TRY(hear(w, GANG_HELLO, &o, e));
    rc = json_get_int(o, "rank", 0, MOST_RANKS - 1, &rank, e);
    if (rc == 0)
        rc = json_get_int(o, "size", 1, MOST_RANKS, &size, e);
    json_decref(o);
    if (rc == 0 && size != c->base.size)
        rc = err_set(e, ERR_PEER, "a gang of %lld, not of %d", (long long)size, c->base.size);
    *who = (int)rank;
    return rc;
}

static int open_door(int *fd, int *port, err *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t n = sizeof at;

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0 || bind(*fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(*fd, MOST_RANKS) != 0 ||
        getsockname(*fd, (struct sockaddr *)&at, &n) != 0)
        return err_set(e, ERR_IO, "cannot listen for a gang: %s", strerror(errno));
    *port = ntohs(at.sin_port);
    return 0;
}

static int tell_where(tcp_comm *c, const char *path, int port, const char *secret, err *e)
{
    char address[NODE_ADDRESSES][NODE_ADDRESS], *text;
    int n = node_addresses(address), rc;
    json_t *all = json_array(), *o = json_pack("{s:i, s:s, s:o}", "port", port, "secret", secret, "addresses", all);

    for (int i = 0; i < n; i++)
        json_array_append_new(all, json_string(address[i]));
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    rc = snprintf(c->path, FS_PATH, "%s.%d", path, c->base.rank) < FS_PATH ? fs_write_private(c->path, text, strlen(text), e)
                                                                          : err_set(e, ERR_INPUT, "%s: a path too long", path);
    free(text);
    return rc;
}

/* Which of the children that are still awaited; -1: none of them. */
static int seat_of(const tcp_comm *c, int rank)
{
    for (int k = 0; k < c->children; k++)
        if (c->down[k].rank == rank && !c->down[k].w)
            return k;
    return -1;
}

/* One that does not greet well is sent away: the right one is still awaited. */
static bool let_in(tcp_comm *c, int listening, const char *secret)
{
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC), who = 0, seat;
    err e = {0};
    wire *w;

    if (fd < 0)
        return false;
    watch(fd);
    w = wire_new(fd);
    seat = greet(w, c, secret, &who, &e) == 0 ? seat_of(c, who) : -1;
    if (seat < 0)
        wire_free(w);
    else
        c->down[seat].w = w;
    return seat >= 0;
}

static int await_children(tcp_comm *c, const char *path, double until, err *e)
{
    char secret[WIRE_NONCE];
    int fd = -1, port = 0, here = 0, rc;

    rc = open_door(&fd, &port, e);
    if (rc == 0)
        rc = wire_nonce(secret, e);
    if (rc == 0)
        rc = tell_where(c, path, port, secret, e);
    while (rc == 0 && here < c->children) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (clock_s() > until)
            rc = late(c, e);
        else if (poll(&p, 1, LOOK_MS) > 0)
            here += let_in(c, fd, secret);
    }
    if (c->path[0])
        unlink(c->path);
    c->path[0] = '\0';
    if (fd >= 0)
        close(fd);
    return rc;
}

static int knock(const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failed = 0;
    socklen_t n = sizeof failed;

    if (fd >= 0 && inet_pton(AF_INET, address, &to.sin_addr) == 1 &&
        (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS)) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, (int)(GREETING_S * 1000)) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) == 0 && failed == 0)
            return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

/* At one of its addresses: some may lead elsewhere from here. */
static bool try_parent(tcp_comm *c, const json_t *where)
{
    const json_t *all = json_object_get(where, "addresses");
    const char *secret = json_string_value(json_object_get(where, "secret"));

    for (size_t i = 0; secret && i < json_array_size(all); i++) {
        const char *address = json_string_value(json_array_get(all, i));
        int fd = address ? knock(address, (int)json_integer_value(json_object_get(where, "port"))) : -1, who = -1;
        err e = {0};
        if (fd < 0)
            continue;
        watch(fd);
        c->up.w = wire_new(fd);
        if (greet(c->up.w, c, secret, &who, &e) == 0 && who == c->up.rank)
            return true;
        wire_free(c->up.w);
        c->up.w = NULL;
    }
    return false;
}

static int find_parent(tcp_comm *c, const char *path, double until, err *e)
{
    char at[FS_PATH], *text;
    size_t n;

    if (snprintf(at, sizeof at, "%s.%d", path, c->up.rank) >= FS_PATH)
        return err_set(e, ERR_INPUT, "%s: a path too long", path);
    for (; clock_s() < until; usleep(LOOK_MS * 1000)) {
        json_t *where = NULL;
        bool found;
        if (!fs_exists(at) || fs_read(at, &text, &n, FILE_MOST, NULL) != 0)
            continue;
        found = json_parse(&where, text, n, at, NULL) == 0 && try_parent(c, where);
        json_decref(where);
        free(text);
        if (found)
            return 0;
    }
    return late(c, e);
}

int comm_tcp(comm **out, const char *path, int rank, int size, double timeout_s, err *e)
{
    static const comm_wire verbs = {.sum = tcp_sum, .broadcast = tcp_broadcast, .agree = tcp_agree, .free = tcp_free};
    tcp_comm *c = NEW(tcp_comm);
    double until = clock_s() + timeout_s;
    int rc;

    CHECK(rank >= 0 && rank < size && size <= MOST_RANKS);
    *c = (tcp_comm){.base = {&verbs, rank, size}, .up.rank = parent_of(rank), .timeout_s = timeout_s};
    for (int step = 1; step < span_of(c, rank) && rank + step < size; step *= 2)
        c->down[c->children++].rank = rank + step;
    rc = c->children > 0 ? await_children(c, path, until, e) : 0;
    if (rc == 0 && rank > 0)
        rc = find_parent(c, path, until, e);
    if (rc != 0) {
        tcp_free(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}
