/* Who starts where. One number decides: the share s = free slots per waiting training. Below 1 each gets one slot, or up to
 * 1/s of one class share one, as a pack; from 1 on a gang of the largest power of two within the share, on one node, or where no
 * node has room for it on as few as have, with as many ranks on each.
 * Where nothing runs yet and about as many wait as slots are free, shares are planned for all of them together (wave.c). What runs
 * is given more room when nothing waits (moves.c). */
#include "scheduler/sched_impl.h"

int place_gang(const sched_job *j, int gang_max, int slots, int waiting)
{
    int g = 1;

    while (2 * g * waiting <= slots && 2 * g <= gang_max && 2 * g <= GANG_MOST && 2 * g <= j->spec.leaves)
        g *= 2;
    return g;
}

/* ---- slots of one node ------------------------------------------------------------------------------------------ */

/* Free slots: good ones, slow ones, the one it failed on. */
enum { RANK_GOOD, RANK_SLOW, RANK_SHUN, RANKS };

static int rank_of(const sched_node *n, int shun, int i)
{
    if (n->slot[i].job >= 0 || n->slot[i].state != SLOT_READY)
        return RANKS;
    return i == shun ? RANK_SHUN : n->slot[i].slow_ms > 0 ? RANK_SLOW : RANK_GOOD;
}

/* Free slots of a group (link), or of all (-1), that are of this rank or better. */
static int count_free(const sched_node *n, int shun, int link, int worst)
{
    int k = 0;

    for (int i = 0; i < n->n; i++)
        k += (link < 0 || n->slot[i].link == link) && rank_of(n, shun, i) <= worst;
    return k;
}

/* The group with the fewest free slots that has enough, so that big holes stay; where none has, the one with the most. */
static int group_for(const sched_node *n, int shun, int gang, int worst, const bool *used)
{
    int best = -1, best_room = 0;

    for (int i = 0; i < n->n; i++) {
        int link = n->slot[i].link, room = used[link] || link == best ? 0 : count_free(n, shun, link, worst);
        bool better = best_room >= gang ? room >= gang && room < best_room : room > best_room;
        if (room > 0 && better) {
            best = link;
            best_room = room;
        }
    }
    return best;
}

/* Those of one group where one has enough, else of as few as do; the slow after the others, the one it failed on only when there
 * is no other: a slow member holds up its gang more than a slow wire. */
static void choose_slots(const sched_node *n, int shun, int gang, int slot[])
{
    bool used[SLOTS_MOST] = {false};
    int k = 0, worst = RANK_GOOD;

    while (worst < RANK_SHUN && count_free(n, shun, -1, worst) < gang)
        worst++;
    while (k < gang) {
        int link = group_for(n, shun, gang - k, worst, used);
        CHECK(link >= 0);
        used[link] = true;
        for (int rank = 0; rank <= worst; rank++)
            for (int i = 0; i < n->n && k < gang; i++)
                if (n->slot[i].link == link && rank_of(n, shun, i) == rank)
                    slot[k++] = i;
    }
}

/* Whether free slots of one group are enough. */
static bool is_near(const sched_node *n, int gang)
{
    for (int i = 0; i < n->n; i++)
        if (count_free(n, -1, n->slot[i].link, RANK_SLOW) >= gang)
            return true;
    return false;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

/* The fullest node that can hold the whole gang keeps big holes for big gangs; those where it would lie over several groups come
 * later, those whose slots are slow after them, the one it failed on comes last. *later:
 * some node will have room once its workers are warm. */
static int snuggest(const sched *s, const sched_job *j, int gang, bool *later)
{
    int best = -1, best_cost = 0;

    *later = false;
    for (int n = 0; n < s->nodes; n++) {
        int ready = s->node[n].ready, cost;
        if (ready + s->node[n].warming < gang || !node_takes(&s->node[n]))
            continue;
        *later = true;
        if (ready < gang)
            continue;
        cost = ready + (n == j->last_node ? 8 * SLOTS_MOST : 0);
        cost += s->slows > 0 && ready - slow_ready(s, &s->node[n]) < gang ? 4 * SLOTS_MOST : 0;
        cost += gang > 1 && !is_near(&s->node[n], gang) ? 2 * SLOTS_MOST : 0;
        if (best < 0 || cost < best_cost) {
            best = n;
            best_cost = cost;
        }
    }
    return best;
}

/* Enough nodes with `each` slots, ready or at least soon; the one it failed on last comes last. */
static int fitting(const sched *s, const sched_job *j, int each, int most, bool soon, int nodes[])
{
    int k = 0;

    for (int pass = 0; pass < 2; pass++)
        for (int n = 0; n < s->nodes && k < most; n++) {
            int room = s->node[n].ready + (soon ? s->node[n].warming : 0);
            if (room >= each && node_takes(&s->node[n]) && (n == j->last_node) == (pass == 1))
                nodes[k++] = n;
        }
    return k;
}

/* Over as few nodes as have room for the whole gang; ranks follow each other node by node. */
static bool spread_out(const sched *s, const sched_job *j, int gang, int on[], int slot[], bool *later)
{
    int nodes[GANG_NODES_MOST], most = s->how.gang_nodes < GANG_NODES_MOST ? s->how.gang_nodes : GANG_NODES_MOST;

    for (int k = 2; k <= most && k <= gang; k *= 2) {
        int each = gang / k;
        *later |= fitting(s, j, each, k, true, nodes) == k;
        if (fitting(s, j, each, k, false, nodes) < k)
            continue;
        for (int i = 0; i < k; i++) {
            choose_slots(&s->node[nodes[i]], nodes[i] == j->last_node ? j->last_slot : -1, each, slot + i * each);
            for (int r = 0; r < each; r++)
                on[i * each + r] = nodes[i];
        }
        return true;
    }
    return false;
}

static bool on_one(const sched *s, const sched_job *j, int gang, int on[], int slot[], bool *later)
{
    int node = snuggest(s, j, gang, later);

    if (node < 0)
        return false;
    choose_slots(&s->node[node], node == j->last_node ? j->last_slot : -1, gang, slot);
    for (int r = 0; r < gang; r++)
        on[r] = node;
    return true;
}

/* How many share a slot, where the settings are of one class: no more than brings all that wait into the free slots. Who
 * comes when no slot is free takes a place in a pack that has one left. */
static int place_pack(const sched *s, const sched_job *j, int waiting)
{
    int slots = s->ready + s->warming, most = s->how.pack_max;

    if (j->spec.priority == PRIORITY_URGENT || !j->spec.alike[0] || j->alone || most < 2)
        return 1;
    if (slots > 0 && waiting / slots < most)
        most = waiting / slots;
    return most > 1 ? most : 1;
}

static int members(const sched_node *n, int i) { return n->slot[i].mates + 1; }

/* The pack with the fewest that has a place for it. */
static bool join(sched *s, int job, int most, sched_effects *todo)
{
    int node = -1, slot = 0;

    for (int n = 0; n < s->nodes; n++)
        for (int i = 0; s->node[n].places > 0 && i < s->node[n].n && node_takes(&s->node[n]); i++) {
            const sched_node *at = &s->node[n];
            if (at->slot[i].state == SLOT_READY && slot_takes(s, n, i, &s->job[job]) && members(at, i) < most &&
                members(at, i) < at->slot[i].room && (node < 0 || members(at, i) < members(&s->node[node], slot))) {
                node = n;
                slot = i;
            }
        }
    if (node < 0)
        return false;
    queue_pop(s);
    sched_begin(s, job, 1, &node, &slot, true, todo);
    return true;
}

/* As wide as asked for, or less; false: it waits for workers that are warming up, or for others to end. */
static bool find_slots(const sched *s, const sched_job *j, int *gang, int on[], int slot[])
{
    bool later = false;

    for (; *gang > 0 && !later; *gang /= 2)
        if (on_one(s, j, *gang, on, slot, &later) || (!later && spread_out(s, j, *gang, on, slot, &later)))
            return true;
    return false;
}

static int share_of(const sched *s, const sched_job *j, int waiting)
{
    return place_gang(j, s->how.gang_max, s->ready + s->warming, waiting);
}

static bool start_training(sched *s, int job, sched_effects *todo)
{
    sched_job *j = &s->job[job];
    int waiting = 0, planned = j->want, on[GANG_MOST], slot[GANG_MOST], gang, pack;

    for (int p = 0; p <= (int)j->spec.priority; p++)
        waiting += s->waiting[p];
    if (j->want == 0 && s->wave_slots > 0)
        planned = j->wave_gang;
    pack = planned > 0 ? 1 : place_pack(s, j, waiting);
    if (pack > 1 && join(s, job, pack, todo))
        return true;
    gang = planned > 0 ? planned : share_of(s, j, waiting);
    if (!find_slots(s, j, &gang, on, slot))
        return false;
    queue_pop(s);
    sched_begin(s, job, gang, on, slot, pack > 1 && gang == 1 && s->node[on[0]].slot[slot[0]].room > 1, todo);
    return true;
}

/* Others may have come meanwhile: then it has no more than its share. It is out of the line by this door (queue.c). */
void place_moved(sched *s, int job, sched_effects *todo)
{
    sched_job *j = &s->job[job];
    int waiting = 0, on[GANG_MOST], slot[GANG_MOST], gang;

    for (int p = 0; p < PRIORITIES; p++)
        waiting += s->waiting[p];
    gang = share_of(s, j, waiting);
    if (gang > j->want)
        gang = j->want;
    if (s->open && gang > 0 && find_slots(s, j, &gang, on, slot))
        sched_begin(s, job, gang, on, slot, false, todo);
}

/* A result that was asked for is made before the next one: merges run one at a time. */
static void start_merge(sched *s, sched_effects *todo)
{
    for (int m = 0; m < s->merges && !s->merging; m++) {
        const sched_job *j = &s->job[s->merge[m]];
        if (j->state == JOB_QUEUED && !j->blocked)
            sched_begin(s, s->merge[m], 1, NULL, NULL, false, todo);
    }
}

void sched_place(sched *s, sched_effects *todo)
{
    int job;

    if (!s->open)
        return;
    start_merge(s, todo);
    wave_plan(s);
    while ((s->ready > 0 || s->places > 0) && (job = queue_top(s)) >= 0 && start_training(s, job, todo))
        ;
    ahead_place(s, todo);
    ahead_recall(s, todo);
    if (sched_waits(s))
        sched_narrow(s, todo);
    else
        sched_move(s, todo);
}
