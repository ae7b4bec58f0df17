#ifndef PACK_H
#define PACK_H
/* Many concepts at once over one frozen base. A pack has places; a concept that is put stands in line, is loaded while others
 * train, takes the place of the first that leaves (finished, stopped, or gone wrong) at that place's next step, and is
 * written while others train. No graph is made anew for it.
 *
 * Promise: the file of a concept has the bytes of its solo training, whoever stands beside it, however many places there
 * are, whenever it came; what goes wrong with one concept is its own affair.
 *
 * Places are `lanes` threads of `width` each. The concepts of a lane go through the same passes (step.h); lanes know nothing
 * of each other. A CPU's cores are lanes of width 1: its kernels gain nothing by more rows, and a thread that stays with a
 * concept waits for nobody. A device that one sample does not fill wants one lane, and width. */
#include "trainer/train.h"

typedef struct { int lanes, width; } pack_opts;
typedef struct pack pack;

/* like: a concept of the class that all will be: one method and its shape, the same batch, passes, resolution, number of
 * words. Trained blocks and all plans are made here. The model is the pack's until pack_close. */
int pack_open(pack **out, sd *model, const train_job *like, const pack_opts *o, err *e);
/* ERR_INPUT where the job is of another class: which setting differs. */
int pack_takes(const pack *p, const train_job *job, err *e);

/* What pack_takes compares, as one word: who has the same word can share a pack of width 1. "": trains alone. leaves as in
 * train_job. */
enum { PACK_CLASS = 17 };
void pack_class(char out[PACK_CLASS], const concept_cfg *c, int leaves);

int pack_words(const data_cfg *d);                        /* new words of a concept, of all its subjects */

/* What became of a job: as train_concept returns it. Called, as the job's progress, say and shelf are, from threads of the
 * pack, one call at a time. Nothing may be put from there. */
typedef void pack_ended(void *arg, int rc, const train_summary *sum, const err *e);
/* The job is copied; what it points at must stay until it has ended. Its gang is itself alone. One of another class ends
 * with pack_takes' error. */
void pack_put(pack *p, const train_job *job, pack_ended *ended, void *arg);
/* Some may want to stop while they wait for a place: they are asked, by their job's progress. Nothing that it takes a lock for may be
 * held by the caller. */
void pack_ask(pack *p);
void pack_wait(pack *p);         /* until all that were put have ended */
void pack_close(pack *p);        /* the same, then it is gone */

typedef struct {
    int refills;                 /* how often a place was taken after another concept */
    double gap_most, gap_sum;    /* seconds from a concept's last step to the next one's first in that place, its probe apart */
    double bubble_most, bubble_sum; /* of those: waiting for one who was not ready, and this lane's own work; else its core was another's */
    double step_sum;             /* seconds of all steps of all lanes */
    uint64_t steps;              /* of lanes */
    size_t bytes;                /* of the steppers' plans */
} pack_figures;
/* After pack_wait. */
void pack_tell(const pack *p, pack_figures *out);
#endif
