#ifndef SCHED_KIT_H
#define SCHED_KIT_H
/* A farm by hand: its mind alone, with every record it has made. */
#include "scheduler/sched_impl.h"

typedef struct {
    sched *s;
    sched_effects todo;      /* of the last step */
    json_t *log;             /* [type, body] of every record so far */
} farm;

extern const sched_options HOW;
extern const char SHA[];

farm farm_new(void);                     /* in its first epoch, and nothing else */
farm farm_of(int n, int slots);          /* n trainings of 8 leaves on one node of `slots` warm slots, open */
void farm_free(farm *f);

int step(farm *f, sched_event ev);
int submit(farm *f, const char *name, job_priority p, int steps, int leaves);
void node(farm *f, const char *name, int slots);
void warm(farm *f, int n, int slot);
int done(farm *f, int job);              /* as its attempt under way says */
int failed(farm *f, int job, job_blame blame, bool retry);
job_state state(const farm *f, int job);

void replay(sched *s, const json_t *log); /* the records again */
uint32_t lot(uint64_t farm_no, uint32_t step_no, uint64_t i, uint32_t n); /* below n */

int submit_alike(farm *f, const char *name, job_priority p, const char *alike); /* alike: the class it may be packed with */
void warm_pack(farm *f, int n, int slot, int room);
/* n trainings of one class on one node of `slots` warm slots, whose workers have room for `room`, open. */
farm packs_of(int n, int slots, int pack_max, int room);
int on_slot(const farm *f, int n, int i); /* trainings there */
#endif
