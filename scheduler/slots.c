/* Nodes come and go with their slots; a slot is warming up, ready or down, and has one master, a pack, or none. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "scheduler/sched_impl.h"

/* A pack with a place for one more. */
static bool has_place(const sched *s, const sched_node *n, int i)
{
    int most = s->how.pack_max < n->slot[i].room ? s->how.pack_max : n->slot[i].room;

    return n->slot[i].job >= 0 && n->slot[i].state == SLOT_READY && s->job[n->slot[i].job].packed && n->slot[i].mates + 1 < most;
}

/* Every change of a slot stands between two of these, -1 and 1: so the counts are those of the slots. */
static void tally(sched *s, sched_node *n, int i, int by)
{
    bool free = n->slot[i].job < 0, ready = free && n->slot[i].state == SLOT_READY,
         warming = free && n->slot[i].state == SLOT_WARMING, place = has_place(s, n, i);

    n->ready += ready ? by : 0;
    n->warming += warming ? by : 0;
    n->places += place ? by : 0;
    if (n->trouble == NODE_DRAINED)
        return;
    s->ready += ready ? by : 0;
    s->warming += warming ? by : 0;
    s->places += place ? by : 0;
}

void slot_set(sched *s, int node, int i, slot_state state, int job)
{
    sched_node *n = &s->node[node];

    tally(s, n, i, -1);
    n->slot[i].state = state;
    n->slot[i].job = job;
    tally(s, n, i, 1);
}

/* ---- packs ----------------------------------------------------------------------------------------------------- */

bool slot_takes(const sched *s, int node, int i, const sched_job *j)
{
    const sched_node *n = &s->node[node];
    const sched_job *first = n->slot[i].job >= 0 ? &s->job[n->slot[i].job] : NULL;

    return first && first->packed && n->slot[i].mates < PACK_MOST - 1 && j->spec.alike[0] &&
           strcmp(first->spec.alike, j->spec.alike) == 0;
}

void slot_take(sched *s, int node, int i, int job)
{
    sched_node *n = &s->node[node];

    tally(s, n, i, -1);
    if (n->slot[i].job < 0) {
        n->slot[i].job = job;
        n->slot[i].state = SLOT_READY; /* what is taken over is at work there, whatever was told of the slot */
    } else {
        n->slot[i].mate[n->slot[i].mates++] = job;
    }
    tally(s, n, i, 1);
}

void slot_next(sched *s, int node, int i, int job)
{
    s->node[node].slot[i].ahead = job;
    s->job[job].ahead = true;
    ahead_tally(s, job, 1);
}

/* Whoever came next is there now, or nobody. */
static int follow(sched *s, sched_node *n, int i)
{
    int next = n->slot[i].ahead;

    if (next < 0)
        return -1;
    ahead_tally(s, next, -1);
    n->slot[i].ahead = -1;
    s->job[next].ahead = s->job[next].recalled = false;
    s->job[next].began_ms = s->now_ms;
    return next;
}

/* Which of its mates it is; its first one: -1; not there: -2. */
static int seat(const sched_node *n, int i, int job)
{
    if (n->slot[i].job == job)
        return -1;
    for (int k = 0; k < n->slot[i].mates; k++)
        if (n->slot[i].mate[k] == job)
            return k;
    return -2;
}

bool slot_holds(const sched_node *n, int i, int job) { return seat(n, i, job) != -2; }

void slot_leave(sched *s, int node, int i, int job)
{
    sched_node *n = &s->node[node];
    int at = seat(n, i, job), last = n->slot[i].mates - 1;

    if (n->slot[i].ahead == job) {
        follow(s, n, i);
        s->job[n->slot[i].job].soon = false;
        ahead_look(s, n->slot[i].job);
    }
    if (at == -2)
        return;
    tally(s, n, i, -1);
    if (at == -1 && last < 0)
        n->slot[i].job = follow(s, n, i);
    else if (at == -1)
        n->slot[i].job = n->slot[i].mate[n->slot[i].mates = last];
    else
        n->slot[i].mate[at] = n->slot[i].mate[n->slot[i].mates = last];
    tally(s, n, i, 1);
    if (n->slot[i].job >= 0)
        ahead_look(s, n->slot[i].job);
}

/* ---- nodes that fail whatever they are given ------------------------------------------------------------------- */

const char *node_trouble_text(node_trouble t)
{
    static const char *const text[] = {"well", "two concepts failed here and none ended well: one at a time",
                                       "three concepts failed here and none ended well: it gets nothing more"};

    return text[t];
}

static bool has_struck(const sched_node *n, int job)
{
    for (int i = 0; i < n->strikes; i++)
        if (n->strike[i] == job)
            return true;
    return false;
}

/* Is there another node that works and is not suspect? */
static bool another(const sched *s, int but)
{
    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; n != but && s->node[n].name && s->node[n].trouble == NODE_WELL && i < s->node[n].n; i++)
            if (s->node[n].slot[i].state != SLOT_DOWN)
                return true;
    return false;
}

/* The slots of a drained node are not counted among those that are free. */
static void grade(sched *s, int node)
{
    sched_node *n = &s->node[node];

    for (int i = 0; i < n->n; i++)
        tally(s, n, i, -1);
    n->trouble = n->strikes >= 3 ? NODE_DRAINED : n->strikes == 2 ? NODE_CANARY : NODE_WELL;
    for (int i = 0; i < n->n; i++)
        tally(s, n, i, 1);
}

static void forgive(sched *s, int node, int job)
{
    sched_node *n = &s->node[node];
    int kept = 0;

    for (int i = 0; i < n->strikes; i++)
        if (n->strike[i] != job)
            n->strike[kept++] = n->strike[i];
    n->strikes = kept;
    grade(s, node);
}

void node_struck(sched *s, int node, int job)
{
    sched_node *n = &s->node[node];
    bool elsewhere = false;

    for (int m = 0; m < s->nodes; m++)
        if (m != node && has_struck(&s->node[m], job)) {
            forgive(s, m, job);
            elsewhere = true;
        }
    if (elsewhere || has_struck(n, job) || n->trouble == NODE_DRAINED || !another(s, node))
        return;
    n->strike[n->strikes++] = job;
    grade(s, node);
}

void node_praised(sched *s, int node)
{
    s->node[node].strikes = 0;
    grade(s, node);
}

/* The others are lost: a suspect is better than nobody. */
static void pardon(sched *s)
{
    for (int n = 0; n < s->nodes; n++)
        if (s->node[n].name && s->node[n].trouble != NODE_DRAINED)
            return;
    for (int n = 0; n < s->nodes; n++)
        if (s->node[n].name) {
            s->node[n].strikes = 2;
            grade(s, n);
        }
}

/* Some hold slots; of some, which were taken over, only the answer is still to come. */
bool node_busy(const sched *s, int node)
{
    for (int i = 0; i < s->node[node].n; i++)
        if (s->node[node].slot[i].job >= 0)
            return true;
    for (int i = 0; i < s->jobs; i++)
        if ((s->job[i].node == node && s->job[i].slotless) || sched_part(s, i, s->job[i].attempt, node))
            return true;
    return false;
}

bool node_takes(const sched_node *n)
{
    if (n->trouble != NODE_CANARY)
        return n->trouble == NODE_WELL;
    for (int i = 0; i < n->n; i++)
        if (n->slot[i].job >= 0)
            return false;
    return true;
}

int node_up(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_node n = {.n = ev->slots};

    if (!ev->name || ev->slots < 0 || ev->slots > SLOTS_MOST)
        return err_set(e, ERR_INPUT, "a node with %d slots; 0 to %d are possible", ev->slots, SLOTS_MOST);
    n.name = mem_text(ev->name);
    n.slot = mem_new((size_t)ev->slots + 1, sizeof *n.slot);
    for (int i = 0; i < n.n; i++) {
        n.slot[i].job = n.slot[i].ahead = -1; /* and SLOT_WARMING */
        n.slot[i].link = ev->links ? ev->links[i] : 0;
    }
    s->node = mem_grow(s->node, (size_t)s->nodes + 1, sizeof *s->node);
    n.warming = n.n;
    s->node[s->nodes] = n;
    s->warming += n.n;
    todo->node = s->nodes++;
    return 0;
}

static int check_node(const sched *s, const sched_event *ev, err *e)
{
    if (ev->node < 0 || ev->node >= s->nodes || !s->node[ev->node].name)
        return err_set(e, ERR_INPUT, "node %d is not up", ev->node);
    return 0;
}

/* What had not begun there goes back into the line. */
static void lose_next(sched *s, int node)
{
    for (int i = 0; i < s->node[node].n; i++) {
        int job = s->node[node].slot[i].ahead;
        sched_event ev = {.type = EV_STOPPED, .job = job};
        if (job < 0)
            continue;
        ev.attempt = s->job[job].attempt;
        CHECK(job_stopped(s, &ev, NULL) == 0);
    }
}

static sched_event loss(const sched *s, const sched_event *ev, int job)
{
    return (sched_event){.type = EV_FAILED, .now_ms = ev->now_ms, .job = job, .attempt = s->job[job].attempt, .node = ev->node,
                         .failed = true, .blame = BLAME_NODE, .retry = true, .code = "node-lost", .text = "its node is gone"};
}

/* What ran there failed, by no fault of its own: records like any other failure. */
static void lose_jobs(sched *s, const sched_event *ev, sched_effects *todo)
{
    for (int i = 0, job; i < s->node[ev->node].n; i += job < 0) {
        job = s->node[ev->node].slot[i].job;
        if (job < 0)
            continue;
        sched_event lost = loss(s, ev, job);
        if (s->job[job].part.each > 0) {
            parts_lost(s, job, &lost, todo);
            continue;
        }
        lost.step = s->job[job].step;
        job_judge(s, &lost);
        CHECK(job_failed(s, &lost, NULL) == 0);
        sched_record(todo, &lost);
    }
}

/* What was taken over without slots, as only its answer was still to come, and will not come now. */
static void lose_answers(sched *s, const sched_event *ev, sched_effects *todo)
{
    for (int i = 0; i < s->jobs; i++) {
        bool first = s->job[i].node == ev->node && s->job[i].slotless;
        if (!first && !sched_part(s, i, s->job[i].attempt, ev->node))
            continue;
        if (s->job[i].part.each > 0) {
            sched_event lost = loss(s, ev, i);
            parts_lost(s, i, &lost, todo);
            continue;
        }
        job_let_go(s, i);
        job_set(s, i, JOB_QUEUED);
    }
}

int node_lost(sched *s, const sched_event *ev, sched_effects *todo, err *e)
{
    sched_node *n;

    TRY(check_node(s, ev, e));
    lose_next(s, ev->node);
    lose_jobs(s, ev, todo);
    lose_answers(s, ev, todo);
    n = &s->node[ev->node];
    for (int i = 0; i < n->n; i++)
        slot_set(s, ev->node, i, SLOT_DOWN, -1);
    free(n->name);
    n->name = NULL;
    pardon(s);
    return 0;
}

int slot_becomes(sched *s, const sched_event *ev, err *e)
{
    TRY(check_node(s, ev, e));
    if (ev->slot < 0 || ev->slot >= s->node[ev->node].n || ev->becomes < 0 || ev->becomes >= SLOT_STATES)
        return err_set(e, ERR_INPUT, "node %d has no slot %d", ev->node, ev->slot);
    tally(s, &s->node[ev->node], ev->slot, -1);
    s->node[ev->node].slot[ev->slot].state = ev->becomes;
    s->node[ev->node].slot[ev->slot].room = ev->room;
    tally(s, &s->node[ev->node], ev->slot, 1);
    return 0;
}
