/* Processes die, stand still, are told to stop; concepts fail. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fault/harm_kinds.h"

/* ---- processes that die --------------------------------------------------------------------------------------- */

void worker_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm-worker"), SIGKILL);
    await(w, agent);
}

void worker_segv(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm-worker"), SIGSEGV);
    await(w, agent);
}

void workers_killed(world *w)
{
    pid_t agent = begin(w, "3");

    for (int i = 0; i < 5; i++) {
        nap(w, EARLY, 150);
        hit(any_child(w, agent, "cfarm-worker"), SIGKILL);
    }
    await(w, agent);
}

void worker_killed_early(world *w)
{
    pid_t agent = begin(w, "2"), worker = 0;

    for (int i = 0; i < 2000 && !worker; i++, usleep(500))
        worker = any_child(w, agent, "cfarm-worker");
    usleep((useconds_t)pick(w, 0, 3000));
    hit(worker, SIGKILL);
    await(w, agent);
}

void agent_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(agent, SIGKILL);
    await(w, agent);
}

void coordinator_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm"), SIGKILL);
    await(w, agent);
}

void everything_killed(world *w) { kill_all(w, begin_and_wait_a_while(w)); }

void killed_over_and_over(world *w)
{
    for (int i = 0; i < 3; i++)
        everything_killed(w);
}

/* ---- processes that stand still ------------------------------------------------------------------------------- */

void worker_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, any_child(w, agent, "cfarm-worker"), 400);
    await(w, agent);
}

void agent_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, agent, 400);
    await(w, agent);
}

void coordinator_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, any_child(w, agent, "cfarm"), 400);
    await(w, agent);
}

void worker_stuck(world *w)
{
    pid_t agent;

    be_impatient();
    agent = begin_and_wait_a_while(w);
    hit(any_child(w, agent, "cfarm-worker"), SIGSTOP);
    await(w, agent);
}

void worker_slow(world *w)
{
    pid_t agent = begin_and_wait_a_while(w), worker = any_child(w, agent, "cfarm-worker");

    for (int i = 0; i < 10; i++) {
        freeze(w, worker, 60);
        usleep(5000);
    }
    await(w, agent);
}

/* ---- told to stop --------------------------------------------------------------------------------------------- */

static void told(world *w, int signal, int times)
{
    pid_t agent = begin_and_wait_a_while(w);

    for (int i = 0; i < times; i++) {
        hit(agent, signal);
        nap(w, 10, 80);
    }
    await(w, agent);
}

void told_term(world *w) { told(w, SIGTERM, 1); }
void told_hup(world *w) { told(w, SIGHUP, 1); }
void told_int(world *w) { told(w, SIGINT, 1); }
void told_int_twice(world *w) { told(w, SIGINT, 2); }
void told_usr1(world *w) { told(w, SIGUSR1, 1); }
void told_usr2(world *w) { told(w, SIGUSR2, 1); }

/* The notice may be too short for what the farm wants to keep. */
void short_notice(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(agent, SIGTERM);
    nap(w, 0, 40);
    kill_all(w, agent);
}

/* ---- concepts that fail --------------------------------------------------------------------------------------- */

/* times 0: always. */
static void misbehaves(world *w, const char *does, int times, bool gang)
{
    char text[400], limit[32] = "";

    if (times > 0)
        snprintf(limit, sizeof limit, ", times: %d", times);
    if (gang)
        snprintf(text, sizeof text, " - {name: a, fake: {step_ms: 5, at: %d, does: %s, rank: %d%s}}", pick(w, 1, 10), does,
                 pick(w, 0, 3), limit);
    else
        snprintf(text, sizeof text, " - {name: bad, fake: {at: %d, does: %s%s}}\n - {name: a}\n - {name: b}\n - {name: c}",
                 pick(w, 1, 10), does, limit);
    put_farm(w, text);
    w->bad = times > 0 || gang ? NULL : "bad";
    await(w, begin(w, gang ? "4" : "2"));
}

void poison(world *w) { misbehaves(w, "crash", 0, false); }
void not_a_number(world *w) { misbehaves(w, "nan", 0, false); }
void leaves(world *w) { misbehaves(w, "exit", 0, false); }
void impossible(world *w) { misbehaves(w, "refuse", 0, false); }
void disk_of_worker(world *w) { misbehaves(w, "disk", pick(w, 1, 3), false); }
void member_dies(world *w) { misbehaves(w, "crash", 1, true); }
void member_killed(world *w) { misbehaves(w, "kill", 1, true); }

void hangs(world *w)
{
    be_impatient();
    misbehaves(w, "hang", 1, false);
}

void member_hangs(world *w)
{
    be_impatient();
    misbehaves(w, "hang", 1, true);
}
