#ifndef TRAINING_H
#define TRAINING_H
/* One concept's training in pieces, for whoever carries out one (train_concept) or several side by side (pack.h): loaded,
 * given a place in a stepper, turned step by step, published. Nothing but training_turn, training_took and what they are
 * told (progress, shelf) happens between two steps. */
#include "trainer/latents.h"
#include "trainer/train.h"

typedef struct training training;

/* The job is borrowed. pool: where moments are kept; NULL: the training has one of its own. */
training *training_new(sd *model, const train_job *job, latents_pool *pool);
void training_free(training *t);

/* Words, class pictures, captions and pictures. The words' rows and what a method trains beside the weights take their
 * first values in the open slot of the model's parameters, which must be as new. Collective in the job's gang. */
int training_load(training *t, err *e);
bool training_left(const training *t);     /* told to stop while loading: that was all */
/* What a stepper for it is made of; free o->moves. The adapter's argument is the job's settings. */
int training_opts(training *t, step_opts *o, nn_adapter *adapter, err *e);

/* Stands at this place of a stepper from now on, where its first values are: goes on from the job's checkpoint, or probes. */
int training_begin(training *t, stepper *s, int place, err *e);
bool training_goes_on(const training *t);  /* there is a step to take */
void training_turn(training *t, step_turn *turn);                     /* what the next step needs to know */
/* Encodes together what the next step of these will ask for, planned by training_turn: pictures and texts, with one pool. NULL: nobody. */
void training_prepare(training *const of[], int n);
/* What came of it is written down and told; a turn that went wrong is the error. seconds: how long it took. */
int training_took(training *t, const step_turn *turn, double seconds, err *e);
int training_end(training *t, err *e);     /* no step is left: the probe after */
/* The file, from the weights in the open slot. Not after a stop. */
int training_publish(training *t, err *e);
const train_summary *training_summary(const training *t);
#endif
