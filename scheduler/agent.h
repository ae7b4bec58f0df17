#ifndef AGENT_H
#define AGENT_H
/* The farm on one node: keeps a warm worker in every slot, passes the coordinator's orders to them and their answers
 * back, judges how they die, and publishes results. One thread, no tensors.
 *
 * Promises. Every order is answered. No worker outlives its agent. A member of a gang that dies takes the others with
 * it. An agent that loses its coordinator ends its workers and leaves. */
#include <sys/types.h>

#include "cluster/base/err.h"
#include "cluster/node/node.h"

typedef struct {
    const char (*address)[NODE_ADDRESS]; /* of the coordinator, tried in order */
    int addresses, port;
    const char *token;
    const char *node;                    /* this one's name in the farm */
    int slots, threads;                  /* threads of each worker */
    pid_t coordinator;                   /* our child, to whom signals are passed on; 0: elsewhere */
} agent_options;

/* Until the coordinator says END (0), or is gone (ERR_PEER). */
int agent_run(const agent_options *o, err *e);
#endif
