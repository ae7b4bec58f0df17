#ifndef SPOOL_H
#define SPOOL_H
/* Orders to a farm that runs, rests or is down: files in FARM/spool, one an order, written aside, synced, renamed. The
 * coordinator looks there several times a second; a farm that is down reads them at its next start.
 *
 * Promises. An order that spool_put() took is on the disk. Orders are carried out in the order of their names, that is
 * of their times, journalled, and only then removed. One that is carried out twice, because a crash came between the
 * two, changes nothing the second time. A file that is no order is set aside in FARM/spool/refused with its reason, and
 * harms nobody.
 *
 * An order is a JSON object {version: 1, do: WORD, ...}, with WORD one of
 *   add                                   jobs: [what a submit record has]
 *   cancel, retry, hold, release, urgent, normal, background      names: [...]
 *   drain, stop                           what runs ends; or is stopped, to go on at the next start */
#include "scheduler/ledger.h"

enum { SPOOL_ID = 64, SPOOL_VERSION = 1 };

/* Takes order, which has everything but its version. id: its name there. */
int spool_put(char id[SPOOL_ID], const char *farm, json_t *order, err *e);
/* Orders that are not yet carried out; 0 where there is no such folder. */
size_t spool_waiting(const char *farm);
/* Is it still there? And if not: was it refused? Then why. */
bool spool_has(const char *farm, const char *id);
bool spool_refused(const char *farm, const char *id, char *why, size_t room);

/* Whose hands carry orders out. step: sched_step() and what belongs to it. tell: what became of a name ("" for the
 * farm itself), one sentence; changed: something did. farm_word: drain or stop; NULL: not here. */
typedef struct {
    int (*step)(void *arg, const sched_event *ev, err *e);
    void (*tell)(void *arg, const char *word, const char *name, bool changed, const char *text);
    void (*farm_word)(void *arg, const char *word);
    void *arg;
} spool_hands;

/* One order on a farm. ERR_INPUT: it is none. A name that is not there, or a change that cannot be, is told and is no
 * error. */
int spool_obey(const sched *s, const json_t *order, const spool_hands *hands, err *e);
/* All that wait; commits, and removes them. Only the journal's failures are errors. */
int spool_take(ledger *l, const spool_hands *hands, err *e);
/* The same on a ledger that is only looked at: nothing is written or removed. */
int spool_look(ledger *l, const char *farm, err *e);
#endif
