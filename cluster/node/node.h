#ifndef CF_NODE_H
#define CF_NODE_H
/* What this machine has, as far as a farm must know: read from the system, never assumed. No accelerator's library is
 * touched: GPUs are counted by their device files. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { NODE_NAME = 256, NODE_CORES = 1024, NODE_ADDRESS = 64, NODE_ADDRESSES = 16, NODE_DEVICE = 96, NODE_DEVICES = 64 };

typedef struct {
    char name[NODE_NAME];      /* hostname */
    int cores;                 /* this process may use: affinity and cgroup quota */
    int cores_there;           /* online in the machine */
    size_t memory, memory_free; /* bytes; the cgroup's limit where it is lower */
    int gpus;                  /* NVIDIA device files this process can see */
} node_facts;
void node_look(node_facts *out);
/* The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it: that variable's own list ("3", "GPU-...", "MIG-..."),
 * or the numbers of all there are. How many. */
int node_devices(char out[NODE_DEVICES][NODE_DEVICE]);
int node_workers(const node_facts *node); /* CPU workers that fit, where nobody says how many: one per two cores and 8 GiB */

/* The cores this process may run on, as a set that can be sent, joined with others' and applied. */
typedef struct { uint64_t bits[NODE_CORES / 64]; } node_cores;
void node_cores_get(node_cores *out);
void node_cores_join(node_cores *all, const node_cores *more);
int node_cores_use(const node_cores *c, err *e);
int node_cores_count(const node_cores *c);
/* Of these cores those of the memory node (NUMA) that slot `slot` of `slots` belongs to, slots being shared out among nodes by
 * their cores: all of them where there is one node, or where its cores are fewer than the slot's threads. As /sys says;
 * CFARM_SYS_NODES names another folder: for tests. */
void node_cores_near(node_cores *out, const node_cores *all, int slot, int slots, int threads);

/* How threads of OpenMP wait for each other in what is started from here: for microseconds awake, then asleep. As its
 * environment says where that says anything, unless `firmly`. */
void node_brief_waits(bool firmly);

/* As many open files as the system's administrator allows; ERR_INPUT: fewer than `least`. */
int node_open_files(int least, err *e);
/* Addresses others may reach this machine at, as text; loopback last. How many. */
int node_addresses(char out[NODE_ADDRESSES][NODE_ADDRESS]);
/* How many processes of this cgroup the kernel killed for want of memory, or of the machine where the cgroup does not tell; 0:
 * nobody tells. CFARM_CGROUP names another folder of a cgroup: for tests. */
int64_t node_oom_kills(void);
#endif
