#ifndef CALIBRATE_H
#define CALIBRATE_H
/* What things take here, by doing them: small farms of the user's own concepts are trained, each so that one figure
 * follows from it, and sim_times.h's figures are fitted to what their journals say. */
#include "cluster/base/json.h"
#include "scheduler/sim_times.h"

/* One concept of a trial; times in seconds. */
typedef struct {
    int method, batch, stage; /* a stage begins when all of the one before are done */
    int64_t steps;
    double began, ended; /* START's and DONE's time of day */
    double seconds;      /* by the worker's own watch: loading and steps */
    bool packed;
} trial_concept;

typedef struct {
    const char *dir, *name; /* it is DIR/NAME */
    const char *base, *root;
    json_t *const *settings;                  /* by method */
    int workers, gang_max, pack_max, threads; /* threads 0: as the farm chooses */
    bool keeps;                               /* a checkpoint after each step */
    trial_concept *at;
    int n;
    double came, start, end; /* its agent said hello; a worker was ready so much later; the last DONE. Time of day */
} trial;

/* calibrate_trial.c -- ERR_PEER: a concept has failed, or the farm */
int trial_run(trial *t, err *e);

/* calibrate_site.c -- medians of the farm's own calls on this disk and this machine's loopback, in seconds */
typedef struct {
    double commit, name, message;
} site_times;
int site_measure(site_times *out, const char *dir, err *e);
#endif
