#ifndef SIM_H
#define SIM_H
/* A farm of any size in virtual time. What decides is the very sched_step() that decides in a farm; what is simulated is
 * everything else: nodes that come, are slow, break and are taken away, and trainings that take as long as sim_times.h says.
 * All that is random is addressed by one seed: the same options give the same run, to the last event. */
#include "scheduler/sched.h"
#include "scheduler/sim_times.h"
#include "scheduler/waste.h"

typedef struct {
    const sim_method *method;
    int64_t steps;
    int batch, owner;
    bool urgent;
} sim_concept;

typedef struct {
    const sim_times *times;
    uint64_t seed;
    int gpus, per_node, concepts;
    int batch;
    const char *mix;         /* "custom-diffusion:7,lora:2": methods and how often */
    double urgent;           /* share of the concepts */
    int owners;              /* who take turns; owner 0 weighs twice as much as each other */
    int gang_max, pack_max;
    double mtbf_hours;       /* of one GPU's software; 0: nothing fails */
    double slow, slow_by;    /* share of the GPUs, and how much longer they take */
    double preempt_minutes;  /* between two takings of one node; 0: never */
    double late;             /* share of the nodes that come late, at any time within the bound */
} sim_options;

typedef struct {
    double bound;            /* no schedule ends sooner, were nothing to go wrong */
    double bound_there;      /* nor sooner than this on what was there: less what came late, was slow, taken or started again */
    double makespan, mean, urgent_mean;
    double busy, useful;     /* shares of the GPUs' time: at steps; what one GPU would have needed for them */
    double owner_least;      /* of the work that was done up to half-time, the least for his weight over the most */
    waste where;
    int64_t starts, failures, preemptions, moves, events, done, quarantined;
    double mind_seconds, mind_worst; /* of the processor, in sched_step: in all, and the longest */
} sim_result;

/* sim_work.c -- what is to be done, and the least time in which it can be */
sim_concept *sim_concepts(const sim_options *o, err *e); /* NULL: the mix names no known methods */
typedef struct { double at, gpus; } sim_supply; /* from then on so many, a slow one as the part of one that it is */
/* there: [n], until `upto`, by when it was all done; NULL: all GPUs from their start on, however long. */
double sim_bound(const sim_options *o, const sim_concept *work, const sim_supply *there, int n, double upto);
/* One after the other as they come, each on a gang of that width: warm workers, or a process for each concept. */
typedef struct { double makespan, mean; } sim_other;
sim_other sim_in_order(const sim_options *o, const sim_concept *work, int gang, bool process_each);

/* sim_run.c -- ERR_INPUT: the farm never ends under these options */
int sim_run(sim_result *out, const sim_options *o, const sim_concept *work, err *e);
#endif
