/* Workers: started, listened to, found dead, started again. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/wire/worker.h"
#include "scheduler/agent_impl.h"
#include "scheduler/child.h"
#include "scheduler/link.h"

enum { BAD_STARTS_MOST = 3 };
static const int64_t SECOND = 1000000000;

static void tell_slot(const crew *c, const char *state, const char *text)
{
    json_t *o = json_pack("{s:i, s:s}", "slot", c->number, "state", state);

    json_object_set_new(o, "pack", json_integer(c->room));
    if (text)
        json_object_set_new(o, "text", json_string(text));
    agent_tell(c->of, LINK_SLOT, o);
}

void crew_order(crew *c, int type, json_t *body)
{
    err e = {0};

    if (!c->w) {
        json_decref(body);
        return;
    }
    wire_json(c->w, (uint16_t)type, body);
    if (wire_flush(c->w, &e) == 0) /* a broken one shows itself at its end */
        loop_write(c->of->l, wire_fd(c->w), wire_waiting(c->w) > 0);
}

/* ---- listening ------------------------------------------------------------------------------------------------ */

static void on_ready(crew *c, const json_t *body)
{
    int64_t room;

    if (c->state != CREW_STARTING)
        return;
    c->state = CREW_IDLE;
    c->untold = false;
    c->room = json_opt_int(body, "pack", 1, PACK_MOST, 1, &room, NULL) == 0 ? (int)room : 1;
    c->bad_starts = 0;
    tell_slot(c, "ready", NULL);
}

static void on_frame(crew *c, int type, const json_t *body)
{
    const char *text = json_string_value(json_object_get(body, "text"));

    if (type == WORKER_READY)
        on_ready(c, body);
    else if (type == WORKER_LOG && text)
        agent_tell(c->of, LINK_LOG, json_pack("{s:i, s:s}", "slot", c->number, "text", text));
    else if (type == WORKER_FAILED && !json_object_get(body, "job"))
        snprintf(c->last_words, sizeof c->last_words, "%s", text ? text : "");
    else
        task_frame(c, type, body);
}

static int take_frames(crew *c, err *e)
{
    wire_frame f;

    while (c->w) {
        json_t *body = NULL;
        TRY(wire_next(c->w, &f, e));
        if (!f.type)
            return 0;
        TRY(wire_parse(&f, &body, e));
        c->heard_ns = clock_ns();
        on_frame(c, f.type, body);
        json_decref(body);
    }
    return 0;
}

static void hang_up(crew *c)
{
    if (c->w) {
        loop_drop(c->of->l, wire_fd(c->w));
        wire_free(c->w);
    }
    c->w = NULL;
}

/* What it said before its end counts; then its wire is of no more use. Its process is judged when it is reaped. */
static void on_wire(void *arg, bool readable, bool writable)
{
    crew *c = arg;
    err e = {0};
    int end = readable ? wire_fill(c->w, &e) : 0;

    if (take_frames(c, &e) != 0)
        end = 1;
    if (end == 0 && c->w && writable) {
        end = wire_flush(c->w, &e);
        loop_write(c->of->l, wire_fd(c->w), wire_waiting(c->w) > 0);
    }
    if (end != 0 && c->w) {
        hang_up(c);
        if (c->pid > 0 && e.code == ERR_PEER && c->state != CREW_DYING)
            kill(-c->pid, SIGKILL);
    }
}

/* ---- starting ------------------------------------------------------------------------------------------------- */

static int open_log(const crew *c)
{
    char path[FS_PATH];
    int n = snprintf(path, sizeof path, "%s/logs/%s-%d.log", c->of->farm, c->of->how->node, c->number);

    return n < FS_PATH ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

static void load(crew *c)
{
    const agent *a = c->of;

    json_t *o = json_pack("{s:i, s:s, s:s, s:I, s:i, s:i, s:i}", "protocol", WORKER_PROTOCOL, "farm", a->farm, "base",
                          a->base, "epoch", (json_int_t)a->epoch, "slot", c->number, "threads", a->how->threads, "pack",
                          a->pack);

    if (a->how->devices > 0) {
        json_object_set_new(o, "backend", json_string("cuda"));
        json_object_set_new(o, "share", json_real(a->how->share));
    }
    crew_order(c, WORKER_LOAD, o);
}

/* "CUDA_VISIBLE_DEVICES=3": a worker sees one GPU, its own, and calls it its first. */
static void name_device(char out[NODE_DEVICE + 32], const crew *c)
{
    const agent_options *how = c->of->how;

    snprintf(out, NODE_DEVICE + 32, "CUDA_VISIBLE_DEVICES=%s", how->device[c->number % how->devices]);
}

static int start(crew *c, err *e)
{
    char program[FS_PATH], device[NODE_DEVICE + 32];
    const char *argv[] = {program, "--fd", "3", NULL}, *env[] = {device, NULL};
    const agent_options *how = c->of->how;
    node_cores ours, near;
    child_spec spec = {.argv = argv, .threads = how->threads, .memory = how->memory, .cores = &near};
    int ends[2], rc;

    node_cores_get(&ours);
    node_cores_near(&near, &ours, c->number, how->slots, how->threads);
    TRY(child_program(program, "cfarm-worker", e));
    if (how->devices > 0) {
        name_device(device, c);
        spec.env = env;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return err_set(e, ERR_IO, "a socket pair: %s", strerror(errno));
    spec.fd = ends[1];
    spec.out = spec.err = open_log(c);
    rc = child_start(&c->pid, &spec, e);
    close(ends[1]);
    if (spec.out >= 0)
        close(spec.out);
    if (rc != 0) {
        c->pid = 0;
        close(ends[0]);
        return rc;
    }
    c->w = wire_new(ends[0]);
    loop_add(c->of->l, ends[0], on_wire, c);
    return 0;
}

/* A worker that ends before it was ready says nothing about any concept: the slot is tried again, then closed. */
static void bad_start(crew *c, const char *text)
{
    c->bad_starts++;
    c->state = c->bad_starts < BAD_STARTS_MOST ? CREW_NONE : CREW_CLOSED;
    c->start_ns = clock_ns() + SECOND / 5 * c->bad_starts * c->bad_starts;
    if (c->state == CREW_CLOSED)
        tell_slot(c, "down", c->last_words[0] ? c->last_words : text);
}

static void try_start(crew *c)
{
    err e = {0};

    c->last_words[0] = '\0';
    c->heard_ns = clock_ns();
    if (start(c, &e) != 0) {
        bad_start(c, e.text);
        return;
    }
    c->state = CREW_STARTING;
    load(c);
}

void crew_open(agent *a)
{
    a->slots = a->how->slots;
    a->slot = NEW_N(crew, a->slots);
    for (int i = 0; i < a->slots; i++) {
        a->slot[i] = (crew){.of = a, .number = i, .room = 1};
        try_start(&a->slot[i]);
    }
}

/* ---- ending --------------------------------------------------------------------------------------------------- */

void crew_kill(crew *c)
{
    if (c->pid <= 0 || c->state == CREW_DYING)
        return;
    c->state = CREW_DYING;
    kill(-c->pid, SIGKILL);
    tell_slot(c, "warming", NULL);
}

/* The kernel counts whom it kills for want of memory before it does: each count is one worker's. */
static bool killed_for_memory(agent *a, int status)
{
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL || node_oom_kills() <= a->oom_kills)
        return false;
    a->oom_kills++;
    return true;
}

/* The kernel's killing for want of memory is the concept's doing; another's SIGKILL is not. */
static void judge(int status, bool memory, const char **blame, const char **code)
{
    *blame = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !memory ? "node" : "job";
    *code = memory ? "out-of-memory" : WIFSIGNALED(status) ? "signal" : "exit";
}

static void gone(crew *c, int status)
{
    crew_state was = c->state;
    char ending[96], text[160];
    const char *blame, *code;
    bool memory = killed_for_memory(c->of, status);

    c->pid = 0;
    if (c->w)
        on_wire(c, true, false); /* its last words */
    hang_up(c);
    child_ending(status, ending, sizeof ending);
    snprintf(text, sizeof text, memory ? "the kernel killed the worker for want of memory: %s" : "the worker ended with %s",
             ending);
    if (was == CREW_STARTING) {
        bad_start(c, text);
        return;
    }
    if (was != CREW_DYING)
        tell_slot(c, "warming", NULL);
    c->state = CREW_NONE;
    c->start_ns = 0;
    judge(status, memory, &blame, &code);
    task_member_lost(c, NULL, blame, code, text);
}

void crew_reap(agent *a)
{
    shelf_reap(a);
    for (int i = 0; i < a->slots; i++) {
        int status;
        if (a->slot[i].pid > 0 && waitpid(a->slot[i].pid, &status, WNOHANG) == a->slot[i].pid)
            gone(&a->slot[i], status);
    }
}

static int64_t ago(double seconds) { return clock_ns() - (int64_t)(seconds * 1e9); }

/* Whoever makes steps is measured by them: a load, a first step or a result may take long, the next step not much longer
 * than the last ones. */
static void check_silence(crew *c)
{
    double steps = WORKER_STILL_STEPS * c->step, still = steps > c->of->still_s ? steps : c->of->still_s;
    const task *guilty = NULL;
    char text[120];

    if (c->state != CREW_BUSY && c->state != CREW_STARTING)
        return;
    if (task_still(c, ago(still), &guilty))
        snprintf(text, sizeof text, "no further step for %.0f s, where one takes %.3g s", still, c->step);
    else if (c->heard_ns < ago(c->of->silence_s))
        snprintf(text, sizeof text, "the worker gave no sign of life for %.0f s", c->of->silence_s);
    else
        return;
    if (c->state == CREW_STARTING) {
        snprintf(c->last_words, sizeof c->last_words, "%s", text);
        kill(-c->pid, SIGKILL);
        return;
    }
    crew_kill(c);
    task_member_lost(c, guilty, "job", "hang", text);
}

/* A turn of the agent that took long, as it was stopped or its machine slept, was its own silence. */
static void forgive_own_silence(agent *a)
{
    int64_t now = clock_ns(), own = a->watched_ns ? now - a->watched_ns : 0;

    a->watched_ns = now;
    if (own < SECOND)
        return;
    for (int i = 0; i < a->slots; i++)
        a->slot[i].heard_ns += own;
    task_forgive(a, own);
}

void crew_tick(agent *a)
{
    forgive_own_silence(a);
    for (int i = 0; i < a->slots; i++) {
        crew *c = &a->slot[i];
        if (c->state == CREW_NONE && clock_ns() >= c->start_ns && !a->leaving)
            try_start(c);
        else
            check_silence(c);
    }
}

void crew_freed(crew *c)
{
    if (c->tasks == 0)
        c->state = CREW_IDLE;
    if (c->untold)
        tell_slot(c, "ready", NULL);
    c->untold = false;
    if (c->state == CREW_IDLE)
        task_next(c);
}

void crew_deny(crew *c)
{
    c->untold = c->state == CREW_BUSY;
    if (c->state == CREW_CLOSED)
        tell_slot(c, "down", c->last_words);
    else
        tell_slot(c, "warming", NULL);
}

void crew_tell(agent *a)
{
    for (int i = 0; i < a->slots; i++) {
        crew *c = &a->slot[i];
        c->untold = c->state == CREW_BUSY && task_has_part(a, i);
        if (c->state == CREW_CLOSED || a->leaving)
            tell_slot(c, "down", c->last_words);
        else if (c->untold) /* the other parts may not come back: the slot is free when this one has ended or was given up */
            tell_slot(c, "warming", NULL);
        else if (c->state == CREW_IDLE || c->state == CREW_BUSY)
            tell_slot(c, "ready", NULL);
        else
            tell_slot(c, "warming", NULL);
    }
}

void crew_close(agent *a, const char *why)
{
    for (int i = 0; i < a->slots; i++)
        if (a->slot[i].state != CREW_CLOSED)
            tell_slot(&a->slot[i], "down", why);
}

static bool any_left(const agent *a)
{
    for (int i = 0; i < a->slots; i++)
        if (a->slot[i].pid > 0)
            return true;
    return false;
}

/* The idle ones are asked, the others killed; nobody is waited for longer than two seconds. */
void crew_end(agent *a)
{
    int64_t until = clock_ns() + 2 * SECOND;

    for (int i = 0; i < a->slots; i++) {
        crew *c = &a->slot[i];
        if (c->pid > 0 && c->state == CREW_IDLE)
            crew_order(c, WORKER_QUIT, json_object());
        else if (c->pid > 0)
            kill(-c->pid, SIGKILL);
    }
    for (; any_left(a); usleep(2000))
        for (int i = 0; i < a->slots; i++) {
            crew *c = &a->slot[i];
            if (c->pid > 0 && clock_ns() > until)
                kill(-c->pid, SIGKILL);
            if (c->pid > 0 && waitpid(c->pid, NULL, WNOHANG) == c->pid)
                c->pid = 0;
        }
    for (int i = 0; i < a->slots; i++)
        hang_up(&a->slot[i]);
    free(a->slot);
    a->slots = 0;
}
