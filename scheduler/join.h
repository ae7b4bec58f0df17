#ifndef JOIN_H
#define JOIN_H
/* An agent's life on this node, whoever started it. */
#include "cluster/node/node.h"
#include "scheduler/agent.h"
#include "scheduler/meet.h"

/* With as many workers as the door, the launcher's ranks here, or the machine suggest. farm: where the door can be read
 * again when the coordinator has moved; NULL: it does not move. The process's exit status. */
int join_slots(const node_facts *node); /* what the machine suggests */
int join_farm(const door *d, const meet_place *place, agent_coordinator *coordinator, const char *farm);
#endif
