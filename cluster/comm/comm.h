#ifndef COMM_H
#define COMM_H
/* The ranks of one gang. Which wire carries it is chosen once, in main(). In a gang nobody leaves alone:
 * comm_agree() before leaving a step. */
#include <stdbool.h>
#include <stddef.h>

#include "cluster/base/dtype.h"
#include "cluster/base/err.h"

typedef struct comm comm;

int comm_self(comm **out, err *e);
/* Processes of one node through a shared-memory file (a path under /dev/shm or any mmap-able folder). The first to come
 * makes it; timeout_s without the others' arrival or progress is ERR_PEER. bytes: the largest payload of one call. */
int comm_shm(comm **out, const char *path, int rank, int size, size_t bytes, double timeout_s, err *e);
/* Processes of several nodes over TCP, each message under HMAC (wire.h). path: where files can be made that all of them see; the
 * ranks that others connect to write one there, path.RANK, its owner's alone to read, with where they listen and a secret of
 * this gang; it is gone when they have met. timeout_s as above. */
int comm_tcp(comm **out, const char *path, int rank, int size, double timeout_s, err *e);
void comm_free(comm *c);

int comm_rank(const comm *c);
int comm_size(const comm *c);

/* Collective. buf holds `size` leaves' sum: leaf r is rank r's buf, added in a fixed binary tree over ranks (rank r takes
 * r + 1, then r + 2, r + 4, ...), in f32, so that the same bits stand on every rank when it returns; a power-of-two gang
 * of halves continues the tree that each rank began over its own leaves. */
int comm_sum(comm *c, float *buf, size_t n, err *e);
/* Whether the wire also joins the ranks' devices (a gang of GPUs, nn_backend's gang), and then, collective: the same over
 * the devices' memory, in the wire's own order: the same bits on every rank, other bits than comm_sum's. */
bool comm_joins_devices(const comm *c);
int comm_sum_devices(comm *c, float *device, size_t n, err *e);
/* The same, begun and not waited for, while the device goes on with what it is asked afterwards; the numbers travel as F32 or BF16,
 * and are added in that. Then: whatever the device is asked from here on comes after all that were begun. Both may be
 * recorded with the rest of its work. comm_wait_devices waits for the device, ERR_PEER where a rank is lost. */
int comm_begin_sum(comm *c, float *device, size_t n, dtype as, err *e);
int comm_end_sums(comm *c, err *e);
int comm_wait_devices(comm *c, err *e);
/* Collective: rank root's bytes on every rank. */
int comm_broadcast(comm *c, void *buf, size_t bytes, int root, err *e);
/* Collective: 0 only if every rank says ok; otherwise ERR_PEER with the lowest failing rank's text. */
int comm_agree(comm *c, const err *mine, err *e);
#endif
