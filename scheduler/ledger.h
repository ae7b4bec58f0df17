#ifndef LEDGER_H
#define LEDGER_H
/* A farm on the disk: its mind (sched.h) and its memory (journal.h) held together, so that what the one decides the
 * other has on the disk before anyone acts on it. One process at a time: a lock for the careful, the epoch for the
 * rest. */
#include "scheduler/journal.h"
#include "scheduler/sched.h"

typedef struct {
    char *dir;
    sched *s;
    journal *j;
    int lock;
    bool shared;         /* agents of the last epoch live: what they write is not swept at its end */
} ledger;

/* Makes the folder where it is missing, locks it and reads its past. ERR_PEER: somebody has it open. Writes nothing. */
int ledger_open(ledger **out, const char *dir, sched_options how, err *e);
/* What is known of a farm that may be running: its journal read, its folder left as it is. j is NULL: steps of it
 * change only this picture. */
int ledger_look(ledger **out, const char *dir, err *e);
void ledger_close(ledger *l);
/* Is a farm running there? The lock tells. */
bool ledger_busy(const char *dir);

/* Begins an epoch, whose first word is `by` ("host pid"). Results that were published but whose news was lost are
 * taken as done; what was under way is queued again. */
int ledger_begin(ledger *l, const char *by, err *e);
/* sched_step(), and its records appended. */
int ledger_step(ledger *l, const sched_event *ev, sched_effects *todo, err *e);
int ledger_commit(ledger *l, err *e); /* before acting on the effects */
#endif
