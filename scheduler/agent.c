/* The agent's orders, signals, and the loop. */
#include "scheduler/agent.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/wire/worker.h"
#include "scheduler/agent_impl.h"
#include "scheduler/link.h"

enum { TICK_MS = 100, SAVING_MS = 5, AGAIN_MOST = 5 };
static const int64_t LEAVE_PATIENCE = 15000000000, AGAIN_WITHIN = 60000000000;
static const double CHECKPOINT_S = 5;

/* ---- orders --------------------------------------------------------------------------------------------------- */

/* A coordinator that was replaced may still speak: the highest epoch is obeyed, and no other. */
static int on_welcome(agent *a, const json_t *o, err *e)
{
    const char *farm, *base;
    int64_t epoch, pack;
    double checkpoint;

    if (a->tie != TIE_HELLO)
        return err_set(e, ERR_PEER, "the coordinator welcomes twice");
    TRY(json_get_text(o, "farm", &farm, e));
    TRY(json_get_text(o, "base", &base, e));
    TRY(json_get_int(o, "epoch", 1, INT64_MAX, &epoch, e));
    TRY(json_opt_int(o, "pack", 0, PACK_MOST, 1, &pack, e));
    TRY(json_opt_real(o, "checkpoint", 0, &checkpoint, e));
    if (epoch < a->epoch)
        return err_set(e, ERR_PEER, "a coordinator of epoch %lld, which was replaced by one of epoch %lld", (long long)epoch,
                       (long long)a->epoch);
    a->epoch = epoch;
    a->pack = pack > 1 ? (int)pack : 1;
    a->disk_s = checkpoint;
    tie_up(a);
    if (a->welcome) {
        crew_tell(a);
        return 0;
    }
    a->farm = mem_text(farm);
    a->base = mem_text(base);
    a->welcome = true;
    crew_open(a);
    return 0;
}

/* What is trained is kept before the agent is gone. parted: the coordinator knows. */
static void leave(agent *a, bool parted)
{
    a->parted |= parted;
    if (a->leaving)
        return;
    a->leaving = true;
    a->leave_ns = clock_ns() + LEAVE_PATIENCE;
    crew_close(a, "the node leaves");
    task_leave(a);
}

/* The last word is the coordinator's: orders that were on their way come before it, and are answered. */
static void part(agent *a)
{
    if (!a->leaving || a->tasks)
        return;
    if (!a->farewell)
        agent_tell(a, LINK_LEAVE, json_object());
    a->farewell = true;
    a->over |= a->parted || a->tie != TIE_UP;
}

int agent_order(agent *a, int type, const json_t *o, err *e)
{
    if (type == LINK_WELCOME)
        return on_welcome(a, o, e);
    if (a->tie != TIE_UP)
        return err_set(e, ERR_PEER, "an order of kind %d before the welcome", type);
    if (type == LINK_RUN)
        task_run(a, o);
    else if (type == LINK_HALT)
        task_halt(a, o);
    else if (type == LINK_END && json_is_true(json_object_get(o, "now")))
        a->over = true;
    else if (type == LINK_END)
        leave(a, true);
    else if (type == LINK_LEAVE && a->farewell)
        a->parted = true;
    else
        return err_set(e, ERR_PEER, "an order of kind %d, which is not due", type);
    return 0;
}

/* ---- the coordinator, where it is our child ------------------------------------------------------------------- */

static bool may_try_again(agent *a)
{
    int64_t now = clock_ns();

    if (now - a->again_ns > AGAIN_WITHIN)
        a->again = 0;
    a->again_ns = now;
    return ++a->again <= AGAIN_MOST;
}

/* One that was killed is replaced, while the workers go on; one that has ended had its reasons. */
static void reap_coordinator(agent *a)
{
    agent_coordinator *c = a->how->coordinator;

    if (!c || c->pid <= 0 || waitpid(c->pid, &c->status, WNOHANG) != c->pid)
        return;
    c->pid = 0;
    if (WIFEXITED(c->status) || a->leaving || !may_try_again(a) || c->again(c->arg, &c->pid, &a->why) != 0)
        leave(a, true);
}

/* ---- signals and the loop ------------------------------------------------------------------------------------- */

/* What INT, USR1 and USR2 mean is the coordinator's to decide. TERM is notice: a few seconds are left, or less. */
static void on_signal(void *arg, int signal)
{
    agent *a = arg;

    if (signal == SIGCHLD) {
        crew_reap(a);
        reap_coordinator(a);
        return;
    }
    if (a->how->coordinator && a->how->coordinator->pid > 0)
        kill(a->how->coordinator->pid, signal);
    if (signal != SIGTERM && !(signal == SIGUSR1 && a->how->farm))
        return;
    a->over |= a->leaving; /* told twice: at once */
    leave(a, false);
}

/* For tests: a number of seconds from the environment. */
static double seconds(const char *name, double otherwise)
{
    const char *text = getenv(name);

    return text && *text ? atof(text) : otherwise;
}

int agent_run(const agent_options *o, err *e)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, -1};
    agent a = {.how = o, .door = o->door, .l = loop_new(), .silence_s = seconds("CFARM_SILENCE_S", WORKER_SILENCE_S),
               .still_s = seconds("CFARM_STILL_S", WORKER_STILL_S), .checkpoint_s = seconds("CFARM_CHECKPOINT_S", CHECKPOINT_S),
               .oom_kills = node_oom_kills()};

    signal(SIGPIPE, SIG_IGN);
    task_sweep();
    loop_signals(a.l, on_signal, &a, signals);
    a.address = a.door.addresses - 1; /* the first is tried first */
    a.proof_ns = clock_ns();
    while (!a.over) {
        tie_tick(&a);
        loop_turn(a.l, a.leaving || a.tie != TIE_UP ? SAVING_MS : TICK_MS);
        crew_tick(&a);
        task_tick(&a);
        part(&a);
        a.over |= a.leaving && clock_ns() > a.leave_ns;
    }
    task_end(&a);
    shelf_end(&a);
    crew_end(&a);
    tie_close(&a);
    loop_free(a.l);
    free(a.farm);
    free(a.base);
    if (e)
        *e = a.why;
    return (int)a.why.code;
}
