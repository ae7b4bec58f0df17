/* A gang over several nodes that outlived its coordinator: its nodes come back one by one, and it is taken over when all of
 * them are there. Meanwhile the mind does not begin it anew (AWAIT); if one stays away, the others give up, and it begins again
 * from its checkpoint.
 *
 * A part may have ended while there was no coordinator, and answers as soon as there is one: that is kept until the gang is
 * taken over. With rank 0's result nobody is waited for any more. */
#include <stdlib.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "scheduler/coord_impl.h"
#include "scheduler/link.h"

static const int64_t PATIENCE = 4000000000; /* shorter than the mind's: what is kept is on the disk when it begins again */

typedef struct gather {
    struct gather *next;
    int job, attempt, size, here;      /* here: ranks that have been told */
    int at[GANG_MOST], on[GANG_MOST];  /* of each rank; at -1: not yet; on -1: its part has ended */
    struct { int node, type; json_t *said; } answer[GANG_NODES_MOST]; /* said NULL: it did all it had to, and has said so before */
    int answers;
    int64_t since_ns;
} gather;

static void drop(coordinator *c, gather *g)
{
    for (gather **at = &c->gathers; *at; at = &(*at)->next)
        if (*at == g) {
            *at = g->next;
            break;
        }
    for (int i = 0; i < g->answers; i++)
        json_decref(g->answer[i].said);
    free(g);
}

static void say_halt(coordinator *c, int node, int job, int attempt, const char *why)
{
    peer *k = coord_peer_of(c, node);

    if (k)
        coord_tell(k, LINK_HALT, json_pack("{s:i, s:i, s:s, s:b}", "job", job, "attempt", attempt, "why", why, "keep", 1));
}

/* Each node is told once: its ranks follow each other. */
static void give_up(coordinator *c, gather *g, const char *why)
{
    for (int r = 0; r < g->size; r++)
        if (g->at[r] >= 0 && (r == 0 || g->at[r] != g->at[r - 1]))
            say_halt(c, g->at[r], g->job, g->attempt, why);
    drop(c, g);
}

static gather *begin(coordinator *c, const sched_event *ev, int size, err *late)
{
    sched_event wait = {.type = EV_AWAIT, .job = ev->job, .attempt = ev->attempt, .now_ms = ev->now_ms};
    gather *g;

    if (coord_try(c, &wait, late) != 0)
        return NULL;
    g = NEW(gather);
    *g = (gather){.next = c->gathers, .job = ev->job, .attempt = ev->attempt, .size = size, .since_ns = clock_ns()};
    for (int r = 0; r < size; r++)
        g->at[r] = -1;
    c->gathers = g;
    return g;
}

static gather *find(const coordinator *c, int64_t job, int64_t attempt)
{
    for (gather *g = c->gathers; g; g = g->next)
        if (g->job == job && g->attempt == attempt)
            return g;
    return NULL;
}

/* ---- answers that came before all were there ------------------------------------------------------------------ */

static void keep(gather *g, int node, int type, const json_t *said)
{
    for (int i = 0; i < g->answers; i++)
        if (g->answer[i].node == node)
            return;
    if (g->answers == GANG_NODES_MOST)
        return;
    g->answer[g->answers].node = node;
    g->answer[g->answers].type = type;
    g->answer[g->answers++].said = json_deep_copy(said);
}

static void hear_again(coordinator *c, const gather *g)
{
    for (int i = 0; i < g->answers; i++) {
        peer *k = coord_peer_of(c, g->answer[i].node);
        sched_event ev = {.type = EV_PART, .node = g->answer[i].node, .job = g->job, .attempt = g->attempt, .now_ms = coord_now_ms()};
        err e = {0};
        if (!g->answer[i].said)
            coord_step(c, &ev);
        else if (k && peer_answer(k, g->answer[i].type, g->answer[i].said, &e) != 0)
            log_event(c->how->log, "refused", TEXT("why", e.text));
    }
}

static void take_over(coordinator *c, gather *g, const char *node)
{
    sched_event ev = {.type = EV_ADOPT, .node = g->at[0], .now_ms = coord_now_ms(), .job = g->job, .attempt = g->attempt, .gang = g->size,
                      .on = g->on, .at = g->at, .on_n = g->size, .name = node};
    err late = {0};

    if (coord_try(c, &ev, &late) != 0) {
        give_up(c, g, late.text);
        return;
    }
    log_event(c->how->log, "goes-on", TEXT("concept", c->s->job[g->job].spec.name), INT("attempt", g->attempt), INT("gang", g->size));
    hear_again(c, g);
    drop(c, g);
}

/* The result is there: the others have had their part in it, and end by themselves. */
static void take_result(coordinator *c, gather *g, peer *first, const json_t *said)
{
    sched_event ev = {.type = EV_ADOPT, .node = first->node, .now_ms = coord_now_ms(), .job = g->job, .attempt = g->attempt,
                      .gang = g->size, .name = c->s->node[first->node].name};
    err e = {0};

    if (coord_try(c, &ev, &e) == 0)
        peer_answer(first, LINK_DONE, said, &e);
    if (e.code)
        log_event(c->how->log, "refused", TEXT("why", e.text));
    drop(c, g);
}

bool parts_keep(peer *k, int type, const json_t *said)
{
    gather *g = find(k->of, json_integer_value(json_object_get(said, "job")), json_integer_value(json_object_get(said, "attempt")));

    if (!g)
        return false;
    if (type == LINK_DONE && g->at[0] == k->node)
        take_result(k->of, g, k, said);
    else
        keep(g, k->node, type, said);
    return true;
}

/* What cannot be is no more than late: another attempt may have begun. */
int parts_gather(peer *k, const json_t *told, const sched_event *ev, err *e)
{
    coordinator *c = k->of;
    gather *g = find(c, ev->job, ev->attempt);
    int64_t first, size;
    err late = {0};

    TRY(json_get_int(told, "first", 0, GANG_MOST - 1, &first, e));
    TRY(json_get_int(told, "size", 2, GANG_MOST, &size, e));
    if (first + ev->gang > size || (ev->on_n != 0 && ev->on_n != ev->gang) || (g && g->size != size))
        return err_set(e, ERR_PEER, "ranks %lld to %lld of %lld", (long long)first, (long long)first + ev->gang - 1, (long long)size);
    if (!g)
        g = begin(c, ev, (int)size, &late);
    if (late.code) {
        say_halt(c, k->node, ev->job, ev->attempt, late.text);
        return 0;
    }
    for (int r = 0; r < ev->gang; r++) {
        g->here += g->at[first + r] < 0;
        g->at[first + r] = k->node;
        g->on[first + r] = ev->on_n > 0 ? ev->on[r] : -1;
    }
    if (json_is_true(json_object_get(told, "ended")))
        keep(g, k->node, LINK_DONE, NULL);
    if (g->here == g->size)
        take_over(c, g, c->s->node[g->at[0]].name);
    return 0;
}

void parts_tick(coordinator *c)
{
    for (gather *g = c->gathers, *next; g; g = next) {
        next = g->next;
        if (clock_ns() - g->since_ns > PATIENCE)
            give_up(c, g, "a part of its gang has not come back");
    }
}

void parts_gone(coordinator *c, int node)
{
    for (gather *g = c->gathers, *next; g; g = next) {
        bool had = false;
        next = g->next;
        for (int r = 0; r < g->size; r++)
            had |= g->at[r] == node;
        if (had)
            give_up(c, g, "a part of its gang has gone again");
    }
}

void parts_end(coordinator *c)
{
    while (c->gathers)
        drop(c, c->gathers);
}
