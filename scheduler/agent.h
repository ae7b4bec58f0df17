#ifndef AGENT_H
#define AGENT_H
/* The farm on one node: keeps a warm worker in every slot, passes the coordinator's orders to them and their answers
 * back, judges how they die, and publishes results. One thread, no tensors.
 *
 * Promises. Every order is answered. No worker outlives its agent. A member of a gang that dies takes the others with
 * it. A coordinator that is killed is replaced, if it is this agent's child, and found again: what runs goes on. An agent
 * that is cut off halts its trainings when its lease runs out, and leaves a minute after. */
#include <stdbool.h>
#include <sys/types.h>

#include "cluster/base/err.h"
#include "cluster/node/node.h"

/* The coordinator, as a child of ours. */
typedef struct {
    pid_t pid;                           /* 0: it has ended, with this status */
    int status;
    int (*again)(void *arg, pid_t *pid, err *e); /* starts another */
    void *arg;
} agent_coordinator;

typedef struct {
    const char (*address)[NODE_ADDRESS]; /* of the coordinator, tried in order */
    int addresses, port;
    const char *token;
    const char *node;                    /* this one's name in the farm */
    int slots, threads;                  /* threads of each worker */
    agent_coordinator *coordinator;      /* ours, to whom signals are passed on; NULL: elsewhere */
    bool late;                           /* it came by itself, and goes at USR1 */
} agent_options;

/* Until the coordinator says END (0), or is gone (ERR_PEER). */
int agent_run(const agent_options *o, err *e);
#endif
