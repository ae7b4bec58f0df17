#ifndef COMM_IMPL_H
#define COMM_IMPL_H
/* What a wire brings: the verbs of comm.h over one kind of transport. */
#include "cluster/comm/comm.h"

typedef struct {
    int (*sum)(comm *c, float *buf, size_t n, err *e);
    int (*broadcast)(comm *c, void *buf, size_t bytes, int root, err *e);
    int (*agree)(comm *c, const err *mine, err *e);
    void (*free)(comm *c);
    int (*sum_devices)(comm *c, float *device, size_t n, err *e); /* NULL: it joins none, nor has it what follows */
    int (*begin_sum)(comm *c, float *device, size_t n, dtype as, err *e);
    int (*end_sums)(comm *c, err *e);
    int (*wait_devices)(comm *c, err *e);
} comm_wire;

struct comm {
    const comm_wire *wire; /* first member of every implementation's own struct */
    int rank, size;
};
#endif
