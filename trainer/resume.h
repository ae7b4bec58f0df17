#ifndef RESUME_H
#define RESUME_H
/* A worker's checkpoints: which one an attempt goes on from, and where it puts new ones, as its START has it (worker.h,
 * rule 9). Two places take turns, so that one is always whole; how often is bounded by what it costs. */
#include "cluster/base/json.h"
#include "trainer/train.h"

typedef struct {
    void *arg;
    void (*kept)(void *arg, int place, int step, size_t bytes); /* a checkpoint stands whole in keep[place] */
    void (*says)(void *arg, const char *text);                  /* for the farm's log */
    bool (*wants)(void *arg);      /* asked when a training stops: shall it be kept? */
} resume_ear;

typedef struct resume resume;
/* start: the order's body. ERR_PEER: what it says of checkpoints makes no sense. */
int resume_open(resume **out, const json_t *start, const char *name, resume_ear ear, err *e);
void resume_close(resume *r);
/* How many were made so far, and the processor time of this process that went into them; and that of all it did. */
int resume_made(const resume *r, double *cpu_seconds);
double resume_cpu_s(void);
/* Sets what of the job concerns checkpoints: the newest of `from` that is whole and this training's, and the shelf. What
 * is passed over is told. The job may be used until r is closed. */
int resume_prepare(resume *r, const sd *model, train_job *job, err *e);
#endif
