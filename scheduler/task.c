/* Attempts: an order becomes one START per rank; the ranks' answers become one answer. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/wire/worker.h"
#include "scheduler/agent_impl.h"
#include "scheduler/link.h"
#include "scheduler/publish.h"

/* Where the members of a gang meet: a file named after the agent. */
static const char SHARED[] = "/dev/shm";
#define MEETING "cfarm-"

static const int64_t HALT_PATIENCE = 10000000000;
static const double STEP_KEEPS = 0.8; /* of an average that forgets */

/* As which rank this worker is at it; -1: not at all. */
static int rank_at(const task *t, const crew *c)
{
    for (int r = 0; r < t->size; r++)
        if (t->at[r] && t->slot[r] == c->number)
            return r;
    return -1;
}

static void take_away(task *t, int rank, crew *c)
{
    t->at[rank] = false;
    c->tasks--;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static json_t *about(const task *t) { return json_pack("{s:i, s:i}", "job", t->job, "attempt", t->attempt); }

static json_t *failure(json_t *o, const char *blame, bool retry, const char *code, const char *text, int64_t step)
{
    json_object_set_new(o, "blame", json_string(blame));
    json_object_set_new(o, "retry", json_boolean(retry));
    json_object_set_new(o, "code", json_string(code));
    json_object_set_new(o, "text", json_string(text));
    json_object_set_new(o, "step", json_integer(step));
    return o;
}

static bool is_part(const task *t) { return t->all > t->gang; }

bool task_has_part(const agent *a, int slot)
{
    for (const task *t = a->tasks; t; t = t->next)
        for (int r = 0; is_part(t) && r < t->size; r++)
            if (t->at[r] && t->slot[r] == slot)
                return true;
    return false;
}

/* A gang of this node meets in memory, one of several where all nodes see it: what a rank that was killed left there. */
static void clear_meeting(const task *t)
{
    char path[FS_PATH + 16];

    if (!t->path[0])
        return;
    if (!is_part(t))
        unlink(t->path);
    for (int r = 0; is_part(t) && r < t->gang; r++) {
        snprintf(path, sizeof path, "%s.%d", t->path, t->first + r);
        unlink(path);
    }
}

/* Ranks that have not answered are killed: in a collective they would wait for one who does not come. */
static void give_back(agent *a, task *t)
{
    int size = t->size;

    t->size = 0;
    for (int r = 0; r < size; r++) {
        crew *c = &a->slot[t->slot[r]];
        if (!t->at[r])
            continue;
        take_away(t, r, c);
        if (!t->done[r])
            crew_kill(c);
        else if (c->state == CREW_BUSY)
            crew_freed(c);
    }
    clear_meeting(t);
}

static void let_go(agent *a, task *t)
{
    give_back(a, t);
    if (t->aside[0])
        fs_discard(t->aside);
}

static void task_free(agent *a, task *t)
{
    let_go(a, t);
    for (task **at = &a->tasks; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    if (t->shelf)
        t->shelf->used = false;
    json_decref(t->order);
    json_decref(t->result);
    json_decref(t->said);
    free(t->name);
    free(t);
}

/* attempt 0: any. */
static void forget_end(agent *a, int job, int attempt)
{
    int kept = 0;

    for (int i = 0; i < a->ends; i++)
        if (a->end[i].job != job || (attempt > 0 && a->end[i].attempt != attempt))
            a->end[kept++] = a->end[i];
    a->ends = kept;
}

/* What rank 0 has said is in the journal; of the others nobody but their agent knows. */
static void remember_end(agent *a, const task *t)
{
    if (t->answer != LINK_DONE || t->first == 0)
        return;
    if (a->ends == ENDS_MOST)
        memmove(a->end, a->end + 1, (size_t)--a->ends * sizeof *a->end);
    a->end[a->ends++] = (part_end){.job = t->job, .attempt = t->attempt, .first = t->first, .ranks = t->gang, .all = t->all};
}

/* What was trained is on the disk before the answer is said: another node may be the next to go on with it. */
static void task_settle(agent *a, task *t)
{
    if ((t->keep && t->shelf && shelf_save(a, t->shelf)) || (a->tie != TIE_UP && !a->leaving))
        return;
    remember_end(a, t);
    json_t *said = json_incref(t->said);
    int answer = t->answer;
    task_free(a, t);
    agent_tell(a, answer, said);
}

/* Takes said. */
static void task_answer(agent *a, task *t, int answer, json_t *said)
{
    let_go(a, t);
    t->answer = answer;
    t->said = said;
    task_settle(a, t);
}

static void task_fail(agent *a, task *t, const char *blame, bool retry, const char *code, const char *text)
{
    t->keep = retry;
    task_answer(a, t, LINK_FAILED, failure(about(t), blame, retry, code, text, t->step));
}

static void task_stopped(agent *a, task *t)
{
    json_t *o = about(t);

    if (t->keep && t->shelf)
        json_object_set_new(o, "step", json_integer(shelf_step(t->shelf)));
    if (!t->keep && t->shelf) {
        shelf_forget(a, t->shelf);
        t->shelf = NULL;
    }
    task_answer(a, t, LINK_STOPPED, o);
}

/* Stopped by this node's order, or as another's was: then it will be gone on with. */
static void task_ended(agent *a, task *t)
{
    t->keep |= !t->halting;
    task_stopped(a, t);
}

/* ---- results -------------------------------------------------------------------------------------------------- */

static int check_result(const task *t, const char **sha256, err *e)
{
    struct stat s;
    int64_t bytes;

    TRY(json_get_text(t->result, "sha256", sha256, e));
    TRY(json_get_int(t->result, "bytes", 1, INT64_MAX, &bytes, e));
    if (stat(t->aside, &s) != 0 || s.st_size != bytes)
        return err_set(e, ERR_PEER, "the worker tells of a result of %lld bytes that is not there", (long long)bytes);
    return 0;
}

static void task_publish(agent *a, task *t)
{
    const char *sha256 = NULL;
    json_t *o = about(t);
    err e = {0};
    int rc = check_result(t, &sha256, &e);

    give_back(a, t); /* whoever comes next begins meanwhile */
    if (rc == 0)
        rc = publish(a->farm, t->aside, sha256, t->name, &e);
    if (rc != 0) {
        json_decref(o);
        task_fail(a, t, e.code == ERR_IO ? "store" : "node", true, e.code == ERR_IO ? "publish" : "result", e.text);
        return;
    }
    json_object_update(o, t->result);
    json_object_del(o, "file");
    shelf_forget(a, t->shelf);
    t->shelf = NULL;
    task_answer(a, t, LINK_DONE, o);
}

/* ---- orders --------------------------------------------------------------------------------------------------- */

static bool takes(const crew *c, const task *t)
{
    return c->state == CREW_IDLE || (c->state == CREW_BUSY && t->pack && c->pack && c->tasks < c->room);
}

static int read_slots(agent *a, task *t, const json_t *order, err *e)
{
    const json_t *slots = json_object_get(order, "slots");

    t->gang = t->size = (int)json_array_size(slots);
    if (t->size < 1 || t->size > GANG_MOST)
        return err_set(e, ERR_PEER, "an order for %d slots", t->size);
    for (int r = 0; r < t->size; r++) {
        int64_t i = json_integer_value(json_array_get(slots, (size_t)r));
        if (i < 0 || i >= a->slots)
            return err_set(e, ERR_PEER, "slot %lld: there are %d", (long long)i, a->slots);
        t->slot[r] = (int)i;
    }
    return 0;
}

/* An order crosses news of its slot, or comes while a worker is still at what the coordinator has given up. Such a slot is told
 * as it stands before the order is handed back, and once more when it is free: nothing is ordered for it until then. */
static bool deny_taken(agent *a, const task *t)
{
    bool any = false;

    for (int r = 0; r < t->size; r++) {
        crew *c = &a->slot[t->slot[r]];
        if (takes(c, t))
            continue;
        crew_deny(c);
        any = true;
    }
    return any;
}

/* Which ranks of a gang over several nodes are here, and where all of it meets. */
static int read_part(agent *a, task *t, const json_t *order, err *e)
{
    int64_t first, all;
    char dir[FS_PATH];

    TRY(json_opt_int(order, "first", 0, GANG_MOST - 1, 0, &first, e));
    TRY(json_opt_int(order, "size", 1, GANG_MOST, t->size, &all, e));
    if (first + t->size > all)
        return err_set(e, ERR_PEER, "ranks %lld to %lld of %lld", (long long)first, (long long)first + t->size - 1, (long long)all);
    t->first = (int)first;
    t->all = (int)all;
    if (!is_part(t))
        return 0;
    if (snprintf(dir, sizeof dir, "%s/gang", a->farm) >= FS_PATH ||
        snprintf(t->path, sizeof t->path, "%s/gang/%d-%d", a->farm, t->job, t->attempt) >= FS_PATH)
        return err_set(e, ERR_IO, "%s: a path too long", a->farm);
    return fs_mkdirs(dir, e);
}

static int read_order(agent *a, task *t, const json_t *order, err *e)
{
    const char *name;

    TRY(json_get_text(order, "name", &name, e));
    t->name = mem_text(name);
    t->pack = json_is_true(json_object_get(order, "pack"));
    TRY(read_slots(a, t, order, e));
    return read_part(a, t, order, e);
}

static int prepare(agent *a, task *t, err *e)
{
    if (t->first > 0)
        return 0; /* result and checkpoints are rank 0's */
    TRY(publish_aside(t->aside, a->farm, t->name, t->attempt, e));
    t->shelf = shelf_take(a, t->name);
    t->shelf->saved_ns = clock_ns();
    if (t->size > 1 && !is_part(t))
        snprintf(t->path, sizeof t->path, "%s/" MEETING "%ld-%d-%d", SHARED, (long)getpid(), t->job, t->attempt);
    return 0;
}

static void start_rank(agent *a, task *t, int rank, const json_t *order)
{
    crew *c = &a->slot[t->slot[rank]];
    json_t *o = about(t), *gang;

    gang = json_pack("{s:i, s:i, s:O}", "rank", t->first + rank, "size", t->all, "leaves", json_object_get(order, "leaves"));
    if (t->path[0])
        json_object_set_new(gang, is_part(t) ? "meet" : "path", json_string(t->path));
    json_object_set_new(o, "gang", gang);
    json_object_set_new(o, "name", json_string(t->name));
    json_object_set(o, "settings", json_object_get(order, "settings"));
    if (t->first + rank == 0) {
        json_object_set_new(o, "out", json_string(t->aside));
        shelf_describe(a, t->shelf, o);
    }
    if (t->pack)
        json_object_set_new(o, "pack", json_true());
    if (c->state == CREW_IDLE) {
        c->pack = t->pack;
        c->step = 0;
    }
    c->state = CREW_BUSY;
    c->tasks++;
    t->at[rank] = true;
    c->heard_ns = clock_ns();
    crew_order(c, WORKER_START, o);
}

void task_sweep(void)
{
    DIR *d = opendir(SHARED);

    for (struct dirent *at; d && (at = readdir(d));) {
        long pid = str_starts(at->d_name, MEETING) ? atol(at->d_name + strlen(MEETING)) : 0;
        if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            unlinkat(dirfd(d), at->d_name, 0); /* another user's stays: it is not ours to remove */
    }
    if (d)
        closedir(d);
}

/* Not begun, and nobody's fault. */
static void hand_back(agent *a, task *t, const char *why)
{
    json_t *o = about(t);

    json_object_set_new(o, "why", json_string(why));
    t->size = 0;
    t->keep = true;
    task_answer(a, t, LINK_STOPPED, o);
}

static void refuse(agent *a, task *t, const err *e)
{
    t->size = 0;
    task_fail(a, t, "node", true, "refused", e->text);
}

static void begin(agent *a, task *t, const json_t *order)
{
    err e = {0};

    if (deny_taken(a, t)) {
        hand_back(a, t, "its slot is not free");
        return;
    }
    if (prepare(a, t, &e) != 0) {
        refuse(a, t, &e);
        return;
    }
    for (int r = 0; r < t->size; r++)
        start_rank(a, t, r, order);
}

/* Who waits here for the slot's worker. */
static task *next_of(const agent *a, int slot)
{
    for (task *t = a->tasks; t; t = t->next)
        if (t->order && t->slot[0] == slot)
            return t;
    return NULL;
}

/* Behind one that is at work alone. */
static bool may_come_next(const agent *a, const task *t)
{
    const crew *c = &a->slot[t->slot[0]];

    return t->size == 1 && !t->pack && c->state == CREW_BUSY && !c->pack && !next_of(a, c->number);
}

void task_run(agent *a, const json_t *order)
{
    task *t = NEW(task);
    err e = {0};

    t->job = (int)json_integer_value(json_object_get(order, "job"));
    t->attempt = (int)json_integer_value(json_object_get(order, "attempt"));
    t->next = a->tasks;
    a->tasks = t;
    forget_end(a, t->job, 0);
    if (a->leaving) /* the order came a moment too late */
        hand_back(a, t, "the node leaves");
    else if (read_order(a, t, order, &e) != 0)
        refuse(a, t, &e);
    else if (json_is_true(json_object_get(order, "ahead")) && may_come_next(a, t))
        t->order = json_deep_copy(order);
    else
        begin(a, t, order);
}

void task_next(crew *c)
{
    task *t = next_of(c->of, c->number);
    json_t *order = t ? t->order : NULL;

    if (!t)
        return;
    t->order = NULL;
    begin(c->of, t, order);
    json_decref(order);
}

static task *find(const agent *a, const json_t *o)
{
    json_int_t job = json_integer_value(json_object_get(o, "job"));
    json_int_t attempt = json_integer_value(json_object_get(o, "attempt"));

    for (task *t = a->tasks; t; t = t->next)
        if (t->job == job && t->attempt == attempt && !t->said)
            return t;
    return NULL;
}

static void halt(agent *a, task *t, bool keep, const char *why)
{
    t->keep |= keep;
    if (t->halting || t->said)
        return; /* its answer is on its way */
    if (t->order) {
        task_stopped(a, t);
        return;
    }
    t->halting = true;
    t->halt_ns = clock_ns() + HALT_PATIENCE;
    for (int r = 0; r < t->size; r++) {
        json_t *o = about(t);
        json_object_set_new(o, "why", json_string(why));
        json_object_set_new(o, "keep", json_boolean(t->keep));
        crew_order(&a->slot[t->slot[r]], WORKER_STOP, o);
    }
    if (t->keep && t->shelf)
        shelf_save(a, t->shelf); /* what is there is safe at once; a step may be long */
}

void task_halt(agent *a, const json_t *order)
{
    task *t = find(a, order);
    const char *why = json_string_value(json_object_get(order, "why"));

    if (!t)
        forget_end(a, (int)json_integer_value(json_object_get(order, "job")), (int)json_integer_value(json_object_get(order, "attempt")));
    if (t && (t->order || !json_is_true(json_object_get(order, "unbegun"))))
        halt(a, t, json_is_true(json_object_get(order, "keep")), why ? why : "");
}

static json_t *describe(const task *t)
{
    json_t *o = about(t), *slots = json_array();

    for (int r = 0; r < t->size; r++)
        json_array_append_new(slots, json_integer(t->slot[r]));
    json_object_set_new(o, "gang", json_integer(t->gang));
    if (is_part(t))
        json_object_update_new(o, json_pack("{s:b, s:i, s:i}", "part", 1, "first", t->first, "size", t->all));
    if (t->pack)
        json_object_set_new(o, "pack", json_true());
    if (t->order)
        json_object_set_new(o, "ahead", json_true());
    json_object_set_new(o, "slots", slots); /* none: its answer waits to be said */
    return o;
}

static json_t *describe_end(const part_end *p)
{
    return json_pack("{s:i, s:i, s:i, s:b, s:b, s:i, s:i, s:[]}", "job", p->job, "attempt", p->attempt, "gang", p->ranks, "part", 1,
                     "ended", 1, "first", p->first, "size", p->all, "slots");
}

json_t *task_list(const agent *a)
{
    json_t *all = json_array();

    for (int i = 0; i < a->ends; i++)
        json_array_append_new(all, describe_end(&a->end[i]));
    for (int ahead = 0; ahead < 2; ahead++)
        for (const task *t = a->tasks; t; t = t->next)
            if ((t->order != NULL) == ahead)
                json_array_append_new(all, describe(t));
    return all;
}

void task_leave(agent *a)
{
    for (task *t = a->tasks, *next; t; t = next) {
        next = t->next;
        halt(a, t, true, "the node leaves");
    }
}

/* Its worker has others, who shall not end for it: it answers as soon as the pack comes to it. */
static bool has_company(const agent *a, const task *t)
{
    if (t->pack)
        for (const task *other = a->tasks; other; other = other->next)
            if (other != t && !other->halting && t->size > 0 && rank_at(other, &a->slot[t->slot[0]]) >= 0)
                return true;
    return false;
}

/* A lost machine shall cost no more than that. Whoever could not be written is tried again at the next turn of it. */
static void save_now_and_then(agent *a, task *t)
{
    if (a->disk_s <= 0 || !t->shelf || t->halting || clock_ns() - t->shelf->saved_ns < (int64_t)(a->disk_s * 1e9))
        return;
    t->shelf->saved_ns = clock_ns();
    shelf_save(a, t->shelf);
}

void task_tick(agent *a)
{
    for (task *t = a->tasks, *next; t; t = next) {
        next = t->next;
        if (t->said)
            task_settle(a, t);
        else if (t->halting && clock_ns() > t->halt_ns && !has_company(a, t))
            task_stopped(a, t);
        else
            save_now_and_then(a, t);
    }
}

void task_end(agent *a)
{
    while (a->tasks)
        task_free(a, a->tasks);
}

/* ---- what workers say ----------------------------------------------------------------------------------------- */

static void on_progress(crew *c, task *t, const json_t *body)
{
    double seconds = json_number_value(json_object_get(body, "seconds"));
    int64_t step = json_integer_value(json_object_get(body, "step"));
    const char *phase = json_string_value(json_object_get(body, "phase"));
    bool due = phase && strcmp(phase, "training") == 0 && step < json_integer_value(json_object_get(body, "steps"));
    json_t *o;

    if (seconds > 0)
        c->step = c->step > 0 ? STEP_KEEPS * c->step + (1 - STEP_KEEPS) * seconds : seconds;
    if (rank_at(t, c) != 0)
        return;
    t->step = step;
    t->heard_ns = due ? clock_ns() : 0;
    if (t->first > 0)
        return; /* the first node tells */
    o = json_deep_copy(body);
    agent_tell(c->of, LINK_PROGRESS, o);
}

static void on_failed(crew *c, task *t, const json_t *body)
{
    const char *blame = json_string_value(json_object_get(body, "blame"));
    const char *code = json_string_value(json_object_get(body, "code"));
    const char *text = json_string_value(json_object_get(body, "text"));
    bool known = blame && job_blame_find(blame) >= 0;

    t->done[rank_at(t, c)] = true;
    task_fail(c->of, t, known ? blame : "node", !json_is_false(json_object_get(body, "retry")), code ? code : "",
              text ? text : "the worker gave no reason");
}

/* A rank has answered with DONE or STOPPED; the last one's answer is the gang's. */
static void on_answer(crew *c, task *t, int type, const json_t *body)
{
    int rank = rank_at(t, c);

    if (t->done[rank])
        return;
    t->done[rank] = true;
    t->answered++;
    t->dones += type == WORKER_DONE;
    if (type == WORKER_DONE && rank == 0)
        t->result = json_deep_copy(body);
    if (t->answered < t->size)
        return;
    if (t->dones == t->size && t->first > 0)
        task_answer(c->of, t, LINK_DONE, about(t));
    else if (t->dones == t->size)
        task_publish(c->of, t);
    else if (t->halting || is_part(t)) /* in a gang nobody leaves alone: another node was told */
        task_ended(c->of, t);
    else
        task_fail(c->of, t, "node", true, "protocol", "a worker stopped by nobody's order");
}

/* Frames about another attempt are late (worker.h, rule 2). */
void task_frame(crew *c, int type, const json_t *body)
{
    task *t = find(c->of, body);

    if (!t || rank_at(t, c) < 0)
        return;
    if (type == WORKER_PROGRESS)
        on_progress(c, t, body);
    else if (type == WORKER_FAILED)
        on_failed(c, t, body);
    else if (type == WORKER_CHECKPOINT && t->shelf && rank_at(t, c) == 0)
        shelf_told(t->shelf, body);
    else if (type == WORKER_DONE || type == WORKER_STOPPED)
        on_answer(c, t, type, body);
}

bool task_still(const crew *c, int64_t since_ns, const task **one)
{
    int n = 0;

    for (const task *t = c->of->tasks; t; t = t->next)
        if (rank_at(t, c) >= 0 && t->heard_ns > 0 && t->heard_ns < since_ns) {
            *one = t;
            n++;
        }
    if (n != 1)
        *one = NULL;
    return n > 0;
}

void task_forgive(agent *a, int64_t ns)
{
    for (task *t = a->tasks; t; t = t->next)
        if (t->heard_ns > 0)
            t->heard_ns += ns;
}

/* It may have answered already and died afterwards: then only the slot is lost. */
static void task_lost(crew *c, task *t, const char *blame, const char *code, const char *text)
{
    int rank = rank_at(t, c);

    take_away(t, rank, c);
    if (t->done[rank])
        return;
    if (t->halting)
        task_stopped(c->of, t);
    else
        task_fail(c->of, t, blame, true, code, text);
}

void task_member_lost(crew *c, const task *guilty, const char *blame, const char *code, const char *text)
{
    int n = c->tasks;
    char shared[300];
    task *next;

    snprintf(shared, sizeof shared, "it shared a worker with %d others: %s; it is tried again alone", n - 1, text);
    for (task *t = c->of->tasks; t; t = next) {
        next = t->next;
        if (rank_at(t, c) < 0)
            continue;
        if (n == 1 || t == guilty)
            task_lost(c, t, blame, code, text);
        else
            task_lost(c, t, "node", FAILED_PACK, shared);
    }
    if ((next = next_of(c->of, c->number)))
        hand_back(c->of, next, "the worker there has ended");
}
