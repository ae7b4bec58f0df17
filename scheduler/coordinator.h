#ifndef COORDINATOR_H
#define COORDINATOR_H
/* The farm's one voice: turns what agents say into events, makes the records durable, then acts. One thread, no
 * tensors; it opens no file that a worker wrote.
 *
 * Exit statuses of a farm, which are also those of `cfarm train`. */
#include "cluster/base/log.h"
#include "configs/cfg.h"
#include "scheduler/ledger.h"

enum {
    FARM_DONE = 0,        /* everything asked for is done */
    FARM_SOME_FAILED = 1, /* the rest is done; some concepts are quarantined, rejected, or wait for such */
    FARM_BAD_INPUT = 2,   /* a usage or settings mistake: nothing was begun */
    FARM_BROKEN = 3,      /* the farm itself could not go on: no worker, no disk, no coordinator */
    FARM_AGAIN = 20,      /* stopped by the machine (TERM, USR1, the time limit): the same command goes on. Requeue it */
    FARM_INTERRUPTED = 130 /* stopped by a person (INT, an order); the same command goes on */
};

typedef struct {
    ledger *l;            /* begun; borrowed */
    const char *name, *base;
    int listen;           /* a listening socket; taken */
    const char *token;
    int agents;           /* that will come; starts wait for them, a while */
    bool serve;           /* stay when nothing is left to do */
    double time_left;     /* seconds; -1: no limit */
    double checkpoint;    /* seconds between two of a training on the disk; 0 or less: none until it must go */
    const char *hook;     /* absolute; NULL: none */
    cfg_texts hook_on;    /* events it is run for */
    logger *log;          /* borrowed */
} coordinator_options;

/* A socket agents can reach: on loopback alone, or on all addresses. */
int coordinator_listen(int *fd, int *port, bool everywhere, err *e);
/* Until nothing is left to do, or it is told to stop: INT once, USR2 or `cfarm drain` drains (what runs ends, nothing
 * starts); INT twice, TERM, USR1 or `cfarm stop` halts (workers are asked to stop, with a checkpoint where they can); one
 * more INT or TERM kills. Returns the farm's exit status. */
int coordinator_run(const coordinator_options *o);
/* For one that was killed before it could tell how the farm ended: status.json and jobs.jsonl, where they still say that it runs. */
void coordinator_last_words(ledger *l, const char *name, int status);
#endif
