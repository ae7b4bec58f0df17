#ifndef MEET_H
#define MEET_H
/* How the ranks of a launcher find each other, once, at the start: MPI is begun, used for two messages, and ended.
 * After that no MPI call can hang on a dead rank, and a rank's death is only that agent's. Without a launcher MPI is
 * not touched at all. */
#include "cluster/base/err.h"
#include "scheduler/door.h"

/* What rank 0 tells all. */
typedef struct {
    int go;                    /* 0: nothing to be done here, leave with `status` */
    int status;
    door door;
} meet_notice;

typedef struct {
    int rank, size;            /* 0 of 1 without a launcher */
    int local_rank, local_size; /* among the ranks of this node */
    int nodes;
    node_cores cores;          /* of all ranks of this node together */
} meet_place;

/* Has a launcher started this process? Then also which rank it is, before MPI is begun (-1: it does not say).
 * ERR_INPUT: a launcher that MPI does not know of (srun without --mpi=pmix). */
int meet_launched(int *rank, int *size, err *e);
/* Are all ranks on one machine, as far as the launcher tells beforehand? */
bool meet_one_node(void);
/* Ends the process (FARM_BROKEN) when the others do not come within an hour, or CFARM_MEET_S seconds: in recovery mode a
 * launcher does not tell that one has died. Collective over all ranks; notice is rank 0's, and everyone's afterwards. */
int meet(meet_place *out, meet_notice *notice, err *e);
#endif
