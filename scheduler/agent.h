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
#include "scheduler/door.h"

/* The coordinator, as a child of ours. */
typedef struct {
    pid_t pid;                           /* 0: it has ended, with this status */
    int status;
    int (*again)(void *arg, pid_t *pid, err *e); /* starts another */
    void *arg;
} agent_coordinator;

typedef struct {
    door door;                           /* where the coordinator is */
    const char *farm;                    /* whose door is read again when it is not there any more; NULL: not. Such an agent
                                            came by itself and also leaves at USR1 */
    const char *node;                    /* this one's name in the farm */
    int slots, threads;                  /* threads of each worker */
    uint64_t memory;                     /* bytes of its own that each worker may have; 0: nobody counts */
    int devices;                         /* GPUs, shared out to the slots in turn; 0: workers compute on cores */
    char device[NODE_DEVICES][NODE_DEVICE]; /* as CUDA_VISIBLE_DEVICES names them */
    int link[NODE_DEVICES];              /* which of them are linked best: a group's number for each */
    bool linked;                         /* that is known */
    double share;                        /* part of its GPU's memory that a worker may take */
    agent_coordinator *coordinator;      /* ours, to whom signals are passed on; NULL: elsewhere */
} agent_options;

/* Until the coordinator says END (0), or is gone (ERR_PEER). */
int agent_run(const agent_options *o, err *e);
#endif
