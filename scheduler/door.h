#ifndef DOOR_H
#define DOOR_H
/* What an agent must know to join a farm: where the coordinator listens, the token, and what the farm file says of workers.
 * A launcher's ranks are told (meet.h); agents that come later read FARM/door, which is the owner's alone to read and
 * stands there while the farm runs. */
#include "cluster/node/node.h"

enum { DOOR_TOKEN = 65 };

typedef struct {
    int port;
    int addresses;
    char address[NODE_ADDRESSES][NODE_ADDRESS];
    char token[DOOR_TOKEN];
    int64_t workers, threads;  /* as the farm file has them; negative: auto */
    double memory;             /* part of the node's that all its workers together may take; of a GPU's, of the GPU's */
    bool cuda;                 /* workers train on GPUs */
} door;

int door_write(const door *d, const char *farm, err *e);
void door_remove(const char *farm);
/* ERR_INPUT: no farm runs there, or it is somebody else's. */
int door_read(door *out, const char *farm, err *e);
#endif
