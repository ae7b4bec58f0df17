/* The loop: events in, records to the disk, effects out, in that order every turn. */
#include "scheduler/coordinator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fault.h"
#include "cluster/base/mem.h"
#include "scheduler/coord_impl.h"
#include "scheduler/limit.h"
#include "scheduler/link.h"
#include "scheduler/publish.h"

enum { TURN_MS = 100, BACKLOG = 1024 };
static const int64_t SECOND = 1000000000, AGENTS_WAIT = 30 * SECOND, STRANGER_WAIT = 10 * SECOND, END_WAIT = 20 * SECOND,
                     HALT_WAIT = 20 * SECOND;

int64_t coord_now_ms(void) { return clock_ns() / 1000000; }

int coordinator_listen(int *fd, int *port, bool everywhere, err *e)
{
    in_addr_t where = everywhere ? INADDR_ANY : INADDR_LOOPBACK;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(where)};
    socklen_t n = sizeof at;

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd >= 0 && bind(*fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(*fd, BACKLOG) == 0 &&
        getsockname(*fd, (struct sockaddr *)&at, &n) == 0) {
        *port = ntohs(at.sin_port);
        return 0;
    }
    err_set(e, ERR_IO, "cannot listen for agents: %s", strerror(errno));
    if (*fd >= 0)
        close(*fd);
    return ERR_IO;
}

/* ---- acting --------------------------------------------------------------------------------------------------- */

void coord_tell(peer *k, int type, json_t *body)
{
    err e = {0};

    wire_json(k->w, (uint16_t)type, body);
    if (wire_flush(k->w, &e) == 0) /* a broken link shows itself where it is read */
        loop_write(k->of->loop, wire_fd(k->w), wire_waiting(k->w) > 0);
}

peer *coord_peer_of(const coordinator *c, int node)
{
    return node >= 0 && node < c->at_nodes ? c->at_node[node] : NULL;
}

/* The n ranks from `first` on, which are one node's. */
static void order_part(coordinator *c, peer *k, const sched_effect *x, int first, int n)
{
    const sched_job *j = &c->s->job[x->job];
    json_t *slots = json_array(), *o;

    for (int r = first; r < first + n; r++)
        json_array_append_new(slots, json_integer(x->slot[r]));
    o = json_pack("{s:i, s:i, s:s, s:o, s:i, s:o, s:b}", "job", x->job, "attempt", x->attempt, "name", j->spec.name,
                  "settings", json_loads(j->spec.settings, 0, NULL), "leaves", j->spec.leaves, "slots", slots, "pack", x->pack);
    if (x->ahead)
        json_object_set_new(o, "ahead", json_true());
    if (n < x->gang)
        json_object_update_new(o, json_pack("{s:i, s:i}", "first", first, "size", x->gang));
    coord_tell(k, LINK_RUN, o);
}

/* To each of its nodes: ranks follow each other node by node. */
static void order_run(coordinator *c, const sched_effect *x)
{
    for (int first = 0, n; first < x->gang; first += n) {
        peer *k = coord_peer_of(c, x->on[first]);
        for (n = 1; first + n < x->gang && x->on[first + n] == x->on[first]; n++)
            ;
        if (k)
            order_part(c, k, x, first, n);
    }
}

/* What is not cancelled will be gone on with. */
static void order_halt(coordinator *c, peer *k, const sched_effect *x)
{
    bool keep = c->s->job[x->job].state != JOB_CANCELLED;

    coord_tell(k, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b}", "job", x->job, "attempt", x->attempt, "why",
                                       keep ? "it will be gone on with" : "cancelled", "keep", keep));
}

static void order_back(peer *k, const sched_effect *x)
{
    coord_tell(k, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b, s:b}", "job", x->job, "attempt", x->attempt, "why", "it is called back", "keep",
                                       1, "unbegun", 1));
}

/* An order for a node that went away meanwhile needs no carrying out: its loss is an event of its own. */
static void act(coordinator *c, const sched_effect *x)
{
    peer *k = x->node >= 0 ? coord_peer_of(c, x->node) : NULL;

    if (x->type == DO_MERGE)
        merge_start(c, x->job, x->attempt);
    else if (x->type == DO_STOP && x->node < 0)
        merge_halt(c, x->job, x->attempt);
    else if (x->type == DO_STOP && k)
        order_halt(c, k, x);
    else if (x->type == DO_RECALL && k)
        order_back(k, x);
    else if (x->type == DO_START)
        order_run(c, x);
}

int coord_try(coordinator *c, const sched_event *ev, err *e)
{
    TRY(ledger_step(c->l, ev, &c->todo, e));
    for (size_t i = 0; i < c->todo.records; i++)
        show_event(c, &c->todo.record[i]);
    c->act = mem_grow(c->act, c->acts + c->todo.n + 1, sizeof *c->act);
    for (size_t i = 0; i < c->todo.n; i++)
        c->act[c->acts++] = c->todo.at[i];
    return 0;
}

void coord_step(coordinator *c, const sched_event *ev)
{
    err e = {0};

    if (coord_try(c, ev, &e) != 0)
        log_event(c->how->log, "refused", TEXT("why", e.text));
}

/* First the journal, then the world. Acting may bring events at once (a merge that cannot start): then once more. */
static void carry_out(coordinator *c)
{
    err e = {0};

    do {
        sched_effect *now = c->act;
        size_t n = c->acts;
        if (ledger_commit(c->l, &e) != 0) {
            coord_fail(c, &e);
            return;
        }
        c->act = NULL;
        c->acts = 0;
        for (size_t i = 0; i < n && !c->ended; i++)
            act(c, &now[i]);
        free(now);
    } while (c->acts > 0);
}

void coord_fail(coordinator *c, const err *e)
{
    log_event(c->how->log, "stopped", TEXT("why", e->text));
    c->status = FARM_BROKEN;
    c->stop = true;
}

/* ---- signals -------------------------------------------------------------------------------------------------- */

void coord_stop(coordinator *c, coord_level level)
{
    if (level <= c->level)
        return;
    c->level = level;
    if (level == LEVEL_DRAIN) {
        log_event(c->how->log, "draining", TEXT("hint", "what runs will end, nothing more starts; again stops it"));
        coord_step(c, &(sched_event){.type = EV_DRAIN});
    } else if (level == LEVEL_HALT) {
        log_event(c->how->log, "stopping", TEXT("hint", "what runs is stopped and goes on at the next start; again kills it"));
        c->halted_ns = clock_ns();
        coord_step(c, &(sched_event){.type = EV_HALT});
    } else {
        c->stop = true;
    }
}

/* A person's Ctrl-C goes a step further each time. The machine's TERM and USR1 (a preemption, a time limit near) leave no
 * time to drain. */
static void on_signal(void *arg, int signal)
{
    coordinator *c = arg;

    if (signal == SIGCHLD) {
        merge_reap(c);
        notify_reap(c);
        keep_reap(c);
    } else if (signal == SIGUSR2) {
        coord_stop(c, LEVEL_DRAIN);
    } else if (signal == SIGINT) {
        coord_stop(c, c->level + 1);
    } else {
        c->by_machine |= c->level < LEVEL_HALT;
        coord_stop(c, c->level < LEVEL_HALT ? LEVEL_HALT : LEVEL_KILL);
    }
}

/* ---- the turn ------------------------------------------------------------------------------------------------- */

static void on_listen(void *arg, bool readable, bool writable)
{
    (void)readable, (void)writable;
    peer_accept(arg);
}

static int agents_here(const coordinator *c)
{
    int n = 0;

    for (const peer *k = c->peers; k; k = k->next)
        n += k->node >= 0;
    return n;
}

/* The first starts wait until all who were announced are there: the shares are theirs too. */
static void open_when_met(coordinator *c)
{
    bool waited = clock_ns() - c->started_ns > AGENTS_WAIT;

    if (c->s->open || c->level > LEVEL_RUN || (c->agents_seen < c->how->agents && !waited))
        return;
    if (waited && c->agents_seen < c->how->agents)
        log_event(c->how->log, "missing", INT("agents", c->how->agents - c->agents_seen));
    coord_step(c, &(sched_event){.type = EV_OPEN});
}

static void drop_strangers(coordinator *c)
{
    for (peer *k = c->strangers > 0 ? c->peers : NULL, *next; k; k = next) {
        next = k->next;
        if (k->node < 0 && clock_ns() - k->since_ns > STRANGER_WAIT)
            peer_close(k, "it never said who it is");
    }
}

/* Also a concept that was cancelled or put on hold has its slots until it is stopped. */
static bool slots_held(const sched *s)
{
    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; i < s->node[n].n; i++)
            if (s->node[n].slot[i].job >= 0)
                return true;
    return false;
}

/* Work is left and nobody could ever do it: every agent is gone, or every slot is down. */
static void check_hands(coordinator *c)
{
    err e = {0};

    if (!c->s->open || c->s->merging || slots_held(c->s) || sched_over(c->s) || c->s->ready + c->s->warming > 0)
        return;
    if (agents_here(c) == 0)
        err_set(&e, ERR_PEER, "no agent is left to do the work");
    else
        err_set(&e, ERR_PEER, "no worker can be started: %s", c->slot_trouble);
    coord_fail(c, &e);
}

static bool all_done(const sched *s)
{
    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        if (j->state != JOB_DONE && j->state != JOB_CANCELLED && !(j->state == JOB_HOLD && j->spec.hold))
            return false;
    }
    return true;
}

static int final_status(const coordinator *c)
{
    if (c->status != 0)
        return c->status;
    if (all_done(c->s))
        return FARM_DONE;
    if (c->by_machine)
        return FARM_AGAIN;
    return c->level > LEVEL_RUN ? FARM_INTERRUPTED : FARM_SOME_FAILED;
}

/* Agents leave by themselves once they are told; one that does not is left behind. */
static void say_end(coordinator *c)
{
    int64_t until = clock_ns() + END_WAIT;

    c->ended = true;
    merge_stop(c);
    c->status = final_status(c);
    show_end(c);
    for (peer *k = c->peers; k; k = k->next)
        coord_tell(k, LINK_END, json_pack("{s:b}", "now", c->level == LEVEL_KILL));
    while (c->peers && clock_ns() < until)
        loop_turn(c->loop, TURN_MS);
    while (c->peers)
        peer_close(c->peers, NULL);
    publish_sweep_gangs(c->l->dir);
}

/* So near the end that nothing new would be worth its loading; then so near that what runs must be kept. Every training
 * can be gone on with from its checkpoint: none need fit into the time. */
static void check_time(coordinator *c)
{
    double left = c->how->time_left - (double)(clock_ns() - c->started_ns) * 1e-9, margin = limit_margin(c->how->time_left);

    if (c->how->time_left == -1 || left > 2 * margin || c->level >= LEVEL_HALT)
        return;
    if (c->level < LEVEL_DRAIN)
        log_event(c->how->log, "time-limit", REAL("seconds_left", left));
    c->by_machine = true;
    coord_stop(c, left > margin ? LEVEL_DRAIN : LEVEL_HALT);
}

static void turn(coordinator *c)
{
    loop_turn(c->loop, show_under_way(c) ? 0 : TURN_MS);
    waste_turn(c);
    fault_here("coordinator.turn");
    coord_step(c, &(sched_event){.type = EV_TICK, .now_ms = coord_now_ms()});
    open_when_met(c);
    orders_tick(c);
    parts_tick(c);
    carry_out(c);
    peer_farewells(c);
    drop_strangers(c);
    peer_leases(c);
    check_hands(c);
    check_time(c);
    notify_tick(c);
    show_tick(c);
    if (c->level == LEVEL_HALT && clock_ns() - c->halted_ns > HALT_WAIT)
        c->stop = true;
}

/* Nothing is left to do, and nobody waits for more. */
static bool at_end(const coordinator *c)
{
    return sched_over(c->s) && (c->level > LEVEL_RUN || (c->s->open && !c->how->serve));
}

int coordinator_run(const coordinator_options *o)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, -1};
    coordinator c = {.how = o, .l = o->l, .s = o->l->s, .loop = loop_new(), .started_ns = clock_ns()};

    signal(SIGPIPE, SIG_IGN);
    loop_signals(c.loop, on_signal, &c, signals);
    loop_add(c.loop, o->listen, on_listen, &c);
    show_learn(&c);
    while (!c.stop && !at_end(&c))
        turn(&c);
    say_end(&c);
    notify_end(&c);
    keep_end(&c);
    parts_end(&c);
    loop_drop(c.loop, o->listen);
    close(o->listen);
    loop_free(c.loop);
    sched_effects_free(&c.todo);
    free(c.act);
    free(c.trouble_told);
    free(c.at_node);
    free(c.joins);
    return c.status;
}
