/* Agents: who they are, and what they say. What they say is checked here and judged by the farm's mind. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "scheduler/coord_impl.h"
#include "scheduler/link.h"

static const int64_t SECOND = 1000000000, LOOK_EVERY = SECOND / 50;

/* ---- who it is ------------------------------------------------------------------------------------------------ */

static int on_nonce(peer *k, const json_t *o, err *e)
{
    const char *theirs;

    TRY(json_get_text(o, "nonce", &theirs, e));
    TRY(wire_seal(k->w, k->of->how->token, k->nonce, theirs, e));
    k->sealed = true;
    return 0;
}

/* The same agent again: its old connection has died without a word. */
static void close_former(peer *k, const char *name, int64_t pid)
{
    for (peer *other = k->of->peers, *next; other; other = next) {
        next = other->next;
        if (other != k && other->node >= 0 && other->pid == pid && strcmp(k->of->s->node[other->node].name, name) == 0)
            peer_close(other, "it has come again");
    }
}

static int read_running(const json_t *o, sched_event *ev, int on[GANG_MOST], err *e)
{
    const json_t *slots = json_object_get(o, "slots");
    int64_t job, attempt, gang;

    TRY(json_get_int(o, "job", 0, INT32_MAX, &job, e));
    TRY(json_get_int(o, "attempt", 0, INT32_MAX, &attempt, e));
    TRY(json_get_int(o, "gang", 1, GANG_MOST, &gang, e));
    ev->job = (int)job;
    ev->attempt = (int)attempt;
    ev->gang = (int)gang;
    TRY(json_opt_bool(o, "pack", false, &ev->pack, e));
    TRY(json_opt_bool(o, "ahead", false, &ev->ahead, e));
    ev->on = on;
    ev->on_n = (int)json_array_size(slots);
    if (ev->on_n > GANG_MOST)
        return err_set(e, ERR_PEER, "a gang on %d slots", ev->on_n);
    for (int r = 0; r < ev->on_n; r++)
        on[r] = (int)json_integer_value(json_array_get(slots, (size_t)r));
    return 0;
}

/* What it has under way from before this coordinator, or before its connection broke: it goes on, or is given up. */
static int take_over(peer *k, const json_t *running, err *e)
{
    for (size_t i = 0; i < json_array_size(running); i++) {
        sched_event ev = {.type = EV_ADOPT, .node = k->node, .now_ms = coord_now_ms(), .name = k->of->s->node[k->node].name};
        const json_t *o = json_array_get(running, i);
        int on[GANG_MOST];
        err late = {0};
        TRY(read_running(o, &ev, on, e));
        if (json_is_true(json_object_get(o, "part"))) {
            TRY(parts_gather(k, o, &ev, e));
            continue;
        }
        if (coord_try(k->of, &ev, &late) == 0)
            log_event(k->of->how->log, "goes-on", TEXT("concept", k->of->s->job[ev.job].spec.name), INT("attempt", ev.attempt));
        else
            coord_tell(k, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b}", "job", ev.job, "attempt", ev.attempt, "why", late.text,
                                               "keep", 1));
    }
    return 0;
}

/* An agent that has obeyed a later epoch shows that this coordinator was replaced. */
static int check_epoch(peer *k, const json_t *o, err *e)
{
    int64_t epoch;
    err replaced = {0};

    TRY(json_opt_int(o, "epoch", 0, INT64_MAX, 0, &epoch, e));
    if (epoch <= k->of->s->epoch)
        return 0;
    err_set(&replaced, ERR_PEER, "epoch %lld has begun elsewhere; this coordinator, of epoch %lld, ends", (long long)epoch,
            (long long)k->of->s->epoch);
    coord_fail(k->of, &replaced);
    return err_set(e, ERR_PEER, "%s", replaced.text);
}

/* Nodes are numbered as they come, and no number is given twice. */
static void seat(peer *k)
{
    coordinator *c = k->of;

    c->at_node = mem_grow(c->at_node, (size_t)k->node + 1, sizeof(peer *));
    for (; c->at_nodes <= k->node; c->at_nodes++)
        c->at_node[c->at_nodes] = NULL;
    c->at_node[k->node] = k;
    c->strangers--;
}

/* How many groups of slots are linked; 0: nobody knows. */
static int read_links(const json_t *o, int slots, int link[], int *groups, err *e)
{
    const json_t *list = json_object_get(o, "links");

    *groups = 0;
    if (list && json_array_size(list) != (size_t)slots)
        return err_set(e, ERR_PEER, "links of %zu slots, of %d", json_array_size(list), slots);
    for (int i = 0; list && i < slots; i++) {
        const json_t *at = json_array_get(list, (size_t)i);
        if (!json_is_integer(at) || json_integer_value(at) < 0 || json_integer_value(at) >= SLOTS_MOST)
            return err_set(e, ERR_PEER, "slot %d is of no group that there can be", i);
        link[i] = (int)json_integer_value(at);
        *groups = link[i] >= *groups ? link[i] + 1 : *groups;
    }
    return 0;
}

static int on_hello(peer *k, const json_t *o, err *e)
{
    coordinator *c = k->of;
    int link[SLOTS_MOST], groups;
    sched_event ev = {.type = EV_NODE_UP, .now_ms = coord_now_ms()};
    int64_t protocol, slots;

    if (k->node >= 0)
        return err_set(e, ERR_PEER, "it says hello twice");
    TRY(json_get_int(o, "protocol", 0, INT32_MAX, &protocol, e));
    if (protocol != LINK_PROTOCOL)
        return err_set(e, ERR_PEER, "it speaks protocol %lld, this program %d", (long long)protocol, LINK_PROTOCOL);
    TRY(json_get_text(o, "node", &ev.name, e));
    TRY(json_get_int(o, "slots", 0, SLOTS_MOST, &slots, e));
    TRY(read_links(o, (int)slots, link, &groups, e));
    ev.links = groups > 0 ? link : NULL;
    TRY(json_opt_int(o, "pid", 0, INT64_MAX, 0, &k->pid, e));
    TRY(check_epoch(k, o, e));
    close_former(k, ev.name, k->pid);
    ev.slots = (int)slots;
    coord_step(c, &ev);
    k->node = c->todo.node;
    if (k->node < 0)
        return err_set(e, ERR_PEER, "a node with %lld slots is not taken", (long long)slots);
    seat(k);
    c->agents_seen++;
    log_event(c->how->log, "agent", TEXT("node", ev.name), INT("workers", slots), INT("groups", groups));
    coord_tell(k, LINK_WELCOME,
               json_pack("{s:s, s:s, s:I, s:i, s:f}", "farm", c->l->dir, "base", c->how->base, "epoch",
                         (json_int_t)c->s->epoch, "pack", c->s->how.pack_max, "checkpoint", c->how->checkpoint));
    return take_over(k, json_object_get(o, "running"), e);
}

/* ---- what it says --------------------------------------------------------------------------------------------- */

static int read_attempt(const json_t *o, sched_event *ev, err *e)
{
    int64_t job, attempt;

    TRY(json_get_int(o, "job", 0, INT32_MAX, &job, e));
    TRY(json_get_int(o, "attempt", 0, INT32_MAX, &attempt, e));
    ev->job = (int)job;
    ev->attempt = (int)attempt;
    return 0;
}

/* Where several nodes work at one concept, all but the first only say when their part is over. */
static bool tells_of_part(const peer *k, const sched_event *ev)
{
    return sched_part(k->of->s, ev->job, ev->attempt, k->node);
}

static int part_over(peer *k, sched_event *ev)
{
    ev->failed = ev->type == EV_FAILED;
    ev->stopped = ev->type == EV_STOPPED;
    ev->type = EV_PART;
    ev->node = k->node;
    coord_step(k->of, ev);
    return 0;
}

static int on_slot(peer *k, const json_t *o, err *e)
{
    sched_event ev = {.type = EV_SLOT, .node = k->node, .now_ms = coord_now_ms()};
    const char *state, *text;
    int64_t slot, room;

    TRY(json_get_int(o, "slot", 0, SLOTS_MOST, &slot, e));
    TRY(json_get_text(o, "state", &state, e));
    TRY(json_opt_text(o, "text", "", &text, e));
    TRY(json_opt_int(o, "pack", 1, PACK_MOST, 1, &room, e));
    ev.slot = (int)slot;
    ev.room = (int)room;
    ev.becomes = strcmp(state, "ready") == 0 ? SLOT_READY : strcmp(state, "down") == 0 ? SLOT_DOWN : SLOT_WARMING;
    coord_step(k->of, &ev);
    if (ev.becomes == SLOT_DOWN) {
        log_event(k->of->how->log, "slot-down", TEXT("node", k->of->s->node[k->node].name), INT("slot", slot),
                  TEXT("why", text));
        str_copy(k->of->slot_trouble, sizeof k->of->slot_trouble, text);
    }
    return 0;
}

static int on_progress(peer *k, const json_t *o, err *e)
{
    sched_event ev = {.type = EV_PROGRESS, .now_ms = coord_now_ms()};
    const char *phase;
    int64_t steps;
    double joined;
    int state;

    TRY(read_attempt(o, &ev, e));
    TRY(json_get_text(o, "phase", &phase, e));
    TRY(json_opt_int(o, "step", 0, INT64_MAX, 0, &ev.step, e));
    TRY(json_opt_int(o, "steps", 0, INT64_MAX, 0, &steps, e));
    TRY(json_opt_real(o, "loss", 0, &ev.loss, e));
    TRY(json_opt_real(o, "seconds", 0, &ev.step_seconds, e));
    TRY(json_opt_real(o, "joined", 0, &joined, e));
    state = job_state_find(phase);
    if (state < JOB_LOADING || state > JOB_PUBLISHING)
        return err_set(e, ERR_PEER, "phase %s: no such one", phase);
    ev.phase = (job_state)state;
    show_progress(k->of, ev.job, ev.step);
    waste_progress(k->of, &ev, joined);
    coord_step(k->of, &ev);
    return 0;
}

static int on_done(peer *k, const json_t *o, err *e)
{
    sched_event ev = {.type = EV_DONE, .now_ms = coord_now_ms()};

    TRY(read_attempt(o, &ev, e));
    if (tells_of_part(k, &ev))
        return part_over(k, &ev);
    TRY(json_get_text(o, "sha256", &ev.sha256, e));
    TRY(json_get_int(o, "bytes", 0, INT64_MAX, &ev.bytes, e));
    TRY(json_opt_real(o, "seconds", 0, &ev.seconds, e));
    coord_step(k->of, &ev);
    return 0;
}

static int on_failed(peer *k, const json_t *o, err *e)
{
    sched_event ev = {.type = EV_FAILED, .now_ms = coord_now_ms()};
    const char *blame;
    int who;

    TRY(read_attempt(o, &ev, e));
    TRY(json_get_text(o, "blame", &blame, e));
    TRY(json_opt_bool(o, "retry", true, &ev.retry, e));
    TRY(json_opt_text(o, "code", "", &ev.code, e));
    TRY(json_opt_text(o, "text", "", &ev.text, e));
    TRY(json_opt_int(o, "step", 0, INT64_MAX, 0, &ev.step, e));
    who = job_blame_find(blame);
    ev.blame = who >= 0 ? (job_blame)who : BLAME_NODE;
    if (tells_of_part(k, &ev))
        return part_over(k, &ev);
    coord_step(k->of, &ev);
    return 0;
}

static int on_stopped(peer *k, const json_t *o, err *e)
{
    sched_event ev = {.type = EV_STOPPED, .now_ms = coord_now_ms()};
    const sched *s = k->of->s;
    const char *why;

    TRY(read_attempt(o, &ev, e));
    TRY(json_opt_text(o, "why", NULL, &why, e));
    if (why && ev.job < s->jobs)
        log_event(k->of->how->log, "handed-back", TEXT("node", s->node[k->node].name), TEXT("concept", s->job[ev.job].spec.name),
                  TEXT("why", why));
    if (tells_of_part(k, &ev))
        return part_over(k, &ev);
    coord_step(k->of, &ev);
    return 0;
}

int peer_answer(peer *k, int type, const json_t *o, err *e)
{
    if (type == LINK_DONE)
        return on_done(k, o, e);
    return type == LINK_FAILED ? on_failed(k, o, e) : on_stopped(k, o, e);
}

static int on_log(peer *k, const json_t *o, err *e)
{
    const char *text;

    TRY(json_get_text(o, "text", &text, e));
    log_event(k->of->how->log, "worker", TEXT("node", k->of->s->node[k->node].name), TEXT("says", text));
    return 0;
}

static int on_leave(peer *k)
{
    if (!k->leaving)
        log_event(k->of->how->log, "agent-leaves", TEXT("node", k->of->s->node[k->node].name));
    k->of->leaving += !k->leaving;
    k->leaving = true;
    return 0;
}

static int on_message(peer *k, int type, const json_t *o, err *e)
{
    if (!k->sealed)
        return type == LINK_NONCE ? on_nonce(k, o, e) : err_set(e, ERR_PEER, "it does not greet");
    if (type == LINK_HELLO)
        return on_hello(k, o, e);
    if (k->node < 0)
        return err_set(e, ERR_PEER, "it speaks before it said hello");
    switch (type) {
    case LINK_SLOT:     return on_slot(k, o, e);
    case LINK_PROGRESS: return on_progress(k, o, e);
    case LINK_DONE:
    case LINK_FAILED:
    case LINK_STOPPED:  return parts_keep(k, type, o) ? 0 : peer_answer(k, type, o, e);
    case LINK_LOG:      return on_log(k, o, e);
    case LINK_LEAVE:    return on_leave(k);
    case LINK_BEAT:
        coord_tell(k, LINK_BEAT, json_object());
        return 0;
    default:            return err_set(e, ERR_PEER, "a message of kind %d, which is not due", type);
    }
}

/* ---- coming and going ----------------------------------------------------------------------------------------- */

static int take_messages(peer *k, err *e)
{
    wire_frame f;

    for (;;) {
        json_t *o = NULL;
        int rc;
        TRY(wire_next(k->w, &f, e));
        if (!f.type)
            return 0;
        TRY(wire_parse(&f, &o, e));
        k->heard_ns = clock_ns();
        rc = k->of->ended ? 0 : on_message(k, f.type, o, e);
        json_decref(o);
        TRY(rc);
    }
}

static void on_link(void *arg, bool readable, bool writable)
{
    peer *k = arg;
    err end = {0}, e = {0};
    int rc = readable ? wire_fill(k->w, &end) : 0;

    if (take_messages(k, &e) != 0) {
        peer_close(k, e.text);
        return;
    }
    if (rc == 0 && writable) {
        rc = wire_flush(k->w, &end);
        loop_write(k->of->loop, wire_fd(k->w), wire_waiting(k->w) > 0);
    }
    if (rc != 0)
        peer_close(k, k->parted ? NULL : end.text);
}

void peer_accept(coordinator *c)
{
    int fd, on = 1;
    err e = {0};

    while ((fd = accept4(c->how->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        peer *k = NEW(peer);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        *k = (peer){.next = c->peers, .of = c, .w = wire_new(fd), .node = -1, .since_ns = clock_ns(),
                    .heard_ns = clock_ns()};
        c->peers = k;
        c->strangers++;
        loop_add(c->loop, fd, on_link, k);
        if (wire_nonce(k->nonce, &e) == 0)
            coord_tell(k, LINK_NONCE, json_pack("{s:s}", "nonce", k->nonce));
    }
}

/* Called once a turn, after what has come was heard. A turn that took long, for a slow disk or a stopped process, was our
 * silence and nobody else's: it is not counted. */
void peer_leases(coordinator *c)
{
    int64_t now = clock_ns(), own = c->leases_ns ? now - c->leases_ns : 0;

    if (c->leases_ns && own < LOOK_EVERY)
        return;
    c->leases_ns = now;
    for (peer *k = c->peers, *next; k; k = next) {
        next = k->next;
        if (own > SECOND)
            k->heard_ns += own;
        bool suspect = now - k->heard_ns > LINK_SUSPECT_S * SECOND;
        if (k->node >= 0 && now - k->heard_ns > LINK_LEASE_S * SECOND) {
            peer_close(k, "its lease ran out");
            continue;
        }
        if (k->node >= 0 && suspect && !k->suspect)
            log_event(c->how->log, "suspect", TEXT("node", c->s->node[k->node].name), INT("silent-seconds", LINK_SUSPECT_S));
        k->suspect = suspect;
    }
}

/* Called once a turn, after the orders of the turn went out. Who has said farewell is let go when nothing is under way there:
 * an order that crossed it on the way has been answered. */
void peer_farewells(coordinator *c)
{
    for (peer *k = c->leaving > 0 ? c->peers : NULL, *next; k; k = next) {
        next = k->next;
        if (!k->leaving || k->parted || node_busy(c->s, k->node))
            continue;
        coord_tell(k, LINK_LEAVE, json_object());
        k->parted = true;
    }
}

void peer_close(peer *k, const char *why)
{
    coordinator *c = k->of;
    int node = k->node;

    for (peer **at = &c->peers; *at; at = &(*at)->next)
        if (*at == k) {
            *at = k->next;
            break;
        }
    if (node >= 0)
        c->at_node[node] = NULL;
    if (node >= 0 && !c->ended)
        parts_gone(c, node);
    c->strangers -= node < 0;
    c->leaving -= k->leaving;
    loop_drop(c->loop, wire_fd(k->w));
    wire_free(k->w);
    free(k);
    if (c->ended)
        return;
    if (why)
        log_event(c->how->log, node >= 0 ? "agent-lost" : "stranger",
                  TEXT("node", node >= 0 ? c->s->node[node].name : "unknown"), TEXT("why", why));
    if (node >= 0)
        coord_step(c, &(sched_event){.type = EV_NODE_LOST, .node = node, .now_ms = coord_now_ms()});
}
