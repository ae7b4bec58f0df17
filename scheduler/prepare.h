#ifndef PREPARE_H
#define PREPARE_H
/* From a farm file to a ledger whose next epoch has begun: read, compared, checked, accepted, in that order. */
#include "configs/farmfile.h"
#include "scheduler/intake.h"
#include "scheduler/ledger.h"

typedef struct {
    cfg_doc *d;
    farmfile *f;        /* lives in d */
    ledger *l;
    intake changes;
    bool accepted;
} prepared;

/* Reads the file, or, for a farm's folder, the one it accepted last; workers: limits.workers from the command line,
 * 0: as the file has it. */
int prepare_read(prepared *p, const char *path, int workers, err *e);
/* Opens the ledger and finds what has changed. */
int prepare_compare(prepared *p, bool retry, err *e);
/* Trainings that a worker may hold at once: what limits.pack_max comes to here. */
int prepare_pack_max(const farmfile *f);
/* Is there anything a worker or a merge could do, or an order to be carried out? */
bool prepare_needed(const prepared *p);
/* Asks the worker program whether all that is new can be trained; its mistakes go to our standard error. */
int prepare_check(json_t **checked, const char *path, const char *piece, err *e); /* piece NULL: all of it */
/* Begins the epoch, accepts the changes and carries out the orders that wait: durable when it returns 0. */
int prepare_accept(prepared *p, const json_t *checked, err *e);
/* All of it for a farm whose coordinator was killed while its agents live: as it was accepted, under a new epoch. */
int prepare_again(prepared *p, const char *dir, err *e);
void prepare_free(prepared *p);
#endif
