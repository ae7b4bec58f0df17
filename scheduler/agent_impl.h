#ifndef AGENT_IMPL_H
#define AGENT_IMPL_H
/* What the files of the agent show each other and nobody else. */
#include <stdbool.h>

#include "cluster/base/fs.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"
#include "scheduler/agent.h"
#include "scheduler/sched.h"

typedef enum { CREW_NONE, CREW_STARTING, CREW_IDLE, CREW_BUSY, CREW_DYING, CREW_CLOSED } crew_state;
typedef struct agent agent;
typedef struct task task;

/* One slot and the worker in it. */
typedef struct {
    agent *of;
    int number;
    crew_state state;
    pid_t pid;
    wire *w;                  /* NULL: none, or it has ended */
    task *task;               /* what it works at, and as which rank */
    int rank;
    int64_t heard_ns;         /* the last sign of life */
    double longest;           /* step, in seconds, of this attempt */
    int bad_starts;           /* in a row, before it was ready */
    int64_t start_ns;         /* CREW_NONE: when to start it */
    char last_words[400];     /* a failure it told that was about no job */
} crew;

/* One attempt at one concept, by one worker or a gang. */
struct task {
    task *next;
    int job, attempt, size, answered, dones;
    char *name;
    int slot[GANG_MOST];
    bool done[GANG_MOST];     /* this rank has answered */
    char aside[FS_PATH], path[FS_PATH];
    bool halting;
    int64_t halt_ns;          /* when patience ends */
    int64_t step;
    json_t *result;           /* rank 0's DONE */
};

struct agent {
    const agent_options *how;
    loop *l;
    wire *boss;
    char *farm, *base;
    int64_t epoch, oom_kills;
    crew *slot;
    int slots;
    task *tasks;
    bool welcome, over;
    double silence_s;
    err why;                  /* of over, when it is no END */
};

/* agent.c */
void agent_tell(agent *a, int type, json_t *body); /* takes body */

/* crew.c -- workers */
void crew_open(agent *a);
void crew_tick(agent *a);                          /* starts what is due, kills what is silent */
void crew_reap(agent *a);                          /* those that ended */
void crew_kill(crew *c);                           /* its slot warms up again */
void crew_order(crew *c, int type, json_t *body);  /* takes body */
void crew_end(agent *a);

/* task.c -- attempts */
void task_run(agent *a, const json_t *order);
void task_halt(agent *a, const json_t *order);
void task_frame(crew *c, int type, const json_t *body);
void task_member_lost(crew *c, const char *blame, const char *code, const char *text);
void task_tick(agent *a);
void task_end(agent *a);                           /* all of them, without an answer */
#endif
