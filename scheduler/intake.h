#ifndef INTAKE_H
#define INTAKE_H
/* What a farm file asks for, held against what the ledger has: the list of changes, and the refusals. */
#include "configs/farmfile.h"
#include "scheduler/ledger.h"

typedef enum { INTAKE_SUBMIT, INTAKE_RELEASE, INTAKE_CANCEL } intake_kind;
typedef struct {
    intake_kind kind;
    int job;                      /* RELEASE, CANCEL */
    const farm_concept *concept;  /* SUBMIT: one of the two */
    const farm_merge *merge;
} intake_change;

typedef struct {
    intake_change *at;
    size_t n;
    size_t trainings;             /* concepts to be submitted: they must be checked first */
} intake;

/* New concepts and merges, changed ones that are not done, released ones; what is no longer asked for is cancelled.
 * retry: quarantined and rejected ones are tried again. ERR_INPUT: one that is done has other settings now; the
 * difference is named. */
int intake_compare(intake *out, const ledger *l, const farmfile *f, bool retry, err *e);
void intake_free(intake *i);
/* checked: what `cfarm-worker --check --json` said (worker.h); NULL when there are no trainings. Appends to the ledger;
 * the caller commits. */
int intake_apply(const intake *i, ledger *l, const farmfile *f, const json_t *checked, err *e);
#endif
