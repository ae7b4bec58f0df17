#ifndef INTAKE_H
#define INTAKE_H
/* What a farm file, or a piece added to it, asks for, held against what the ledger has: the list of changes, and the
 * refusals. What a command has decided about a job (ORDERED_) is left as it is. */
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

/* What is asked for beside what is there. */
typedef enum { INTAKE_NEW, INTAKE_SAME, INTAKE_CHANGED, INTAKE_RUNS, INTAKE_DONE_OTHERWISE, INTAKE_OTHER_KIND } intake_answer;
enum { INTAKE_TEXT = 400 };
/* j NULL: no job of that name. text: what differs, for CHANGED, RUNS and DONE_OTHERWISE. */
intake_answer intake_judge(const sched_job *j, const job_spec *p, char text[INTAKE_TEXT]);

/* New concepts and merges, changed ones that are not done, released ones; what is no longer asked for is cancelled.
 * retry: quarantined and rejected ones are tried again. ERR_INPUT: one that is done has other settings now; the
 * difference is named. */
int intake_compare(intake *out, const ledger *l, const farmfile *f, bool retry, err *e);
/* Of a piece (farm_piece): what is new or changed; the rest stays. What cannot be taken is told, one by one: its name
 * and a sentence. */
typedef void intake_tell(void *arg, const char *name, intake_answer is, const char *text);
int intake_compare_piece(intake *out, const ledger *l, const farmfile *piece, intake_tell *tell, void *arg, err *e);
void intake_free(intake *i);
/* checked: what `cfarm-worker --check --json` said (worker.h); NULL when there are no trainings. Appends to the ledger;
 * the caller commits. */
int intake_apply(const intake *i, ledger *l, const farmfile *f, const json_t *checked, err *e);
#endif
