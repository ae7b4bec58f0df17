#ifndef WORLD_H
#define WORLD_H
/* A world in which the farm's own programs run: the coordinator, the agents, the journal and the publishing are the very object
 * files that ship, and everything they ask of a system (the clock, the loop, the wires, the disk, their children) is answered
 * here, in virtual time, by one thread, from one seed. CMakeLists.txt lists the calls that are taken over (--wrap).
 *
 * A process is a coroutine: it runs until it waits in loop_turn(), usleep() or for the disk, and there it can be killed, stopped
 * or left alone by its network, and its machine can lose its power. A seed decides all of it; the same seed is the same world. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cluster/base/err.h"
#include "cluster/base/json.h"

enum { HOSTS_MOST = 8, WORLD_FARM_PATH = 64 };
static const int64_t MS = 1000000, SEC = 1000000000;

typedef struct process process;

/* ---- world.c: time, lots, processes ---- */
typedef struct {
    uint64_t seed, state;          /* of the lots */
    int64_t now;                   /* ns */
    int64_t events;
    const char *broken;            /* a law; NULL: none */
    char detail[400];
    bool trace;
    int64_t turn_ns;               /* how long an idle turn may be stretched */
    bool spells;                   /* of 13 minutes in which turns take seconds, after every two in which they do not */
    int disturbances;
} world_state;
extern world_state world;
void world_reset(uint64_t seed);

void world_break(const char *law, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_say(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* with --trace */
uint32_t lot(uint32_t n);          /* 0..n-1 */
bool chance(double p);
double lot_real(void);             /* [0, 1) */

/* fn(arg) at that time, unless `of` has moved on from `version` meanwhile (NULL: whatever happens). */
void world_at(int64_t when, void (*fn)(void *arg), void *arg, const unsigned *of);
bool world_next(void);             /* one event; false: none is left */

typedef void process_fn(void *arg, int *status);
process *process_start(process_fn *fn, void *arg, int host, process *parent);
process *process_self(void);       /* NULL: the world itself */
int process_pid(const process *p);
int process_host(const process *p);
bool process_alive(const process *p);
process *process_find(int pid);
void process_wait(int64_t until);  /* of the one that runs; it may never come back */
void process_wake(process *p);     /* something has come for it */
void process_signal(process *p, int signal); /* 9: dies; others wait for its loop */
void process_freeze(process *p, int64_t until);
void process_orphan(process *p);   /* it does not die with its parent */
void process_end_all(void);
int process_status(const process *p); /* as of waitpid; once it is dead */
unsigned process_take_signals(process *p);

/* ---- net.c: wires between processes ---- */
enum { FD_BASE = 1 << 20 };
void net_reset(void);
void net_cut(int a, int b, int64_t until); /* nothing passes between these hosts until then */
void net_heal(void);
void net_spoil(int host);          /* one frame on its way to or from there is lost: the link ends */
int net_listen(int host);          /* a listening descriptor; port 1000 + it */
void net_unlisten(int fd);
void net_drop_process(const process *p, bool silent); /* its descriptors are closed, or vanish without a word */
int net_share(int fd);             /* one more holder: a child's */
void net_close(int fd);
/* For workers, which live in the world itself. */
int net_send(int fd, uint16_t type, json_t *body);
json_t *net_take(int fd, uint16_t *type); /* NULL: nothing there */
bool net_gone(int fd);
void net_on_arrival(int fd, void (*fn)(void *arg), void *arg);

/* ---- disk.c ---- */
void disk_reset(void);
void disk_power_loss(void);        /* what was not synced is lost, or torn */
void disk_fail(int syncs, int writes); /* the n-th from now fails; 0: none */
void disk_stall(int64_t until);    /* nothing ends before */
void disk_unlock(void);            /* whoever holds a lock has it no more, and does not know */
bool disk_synced(const char *path);
bool disk_has(const char *path);
size_t disk_read(const char *path, const char **bytes); /* 0: not there */
void disk_put(const char *path, const void *bytes, size_t n); /* whole and synced */
void disk_remove(const char *path);
int disk_list(char names[][96], int most, const char *dir);

/* ---- hands.c: workers, checkpoints ---- */
void hands_reset(void);
int hands_pick(void);              /* the pid of a worker that lives; 0: none */
void hands_kill(int pid, int signal);
void hands_freeze(int pid, int64_t until);
void hands_drop_process(const process *p); /* its children end with it */
bool hands_wait(int pid, int *status);     /* like waitpid with WNOHANG */
bool hands_start(int *pid, const char *const *argv, int fd, const process *parent);
extern int hands_done, hands_starts;

/* ---- laws.c ---- */
void laws_reset(int concepts);
const char *laws_name(int concept);
bool laws_poison(int concept);
void laws_started(int job, int attempt, int pid); /* a worker was told to begin */
void laws_journal(void);           /* whole, legal, one DONE each; and cut anywhere */
int laws_open_jobs(void);          /* not ended, by the journal */
void laws_final(int status);
#endif
