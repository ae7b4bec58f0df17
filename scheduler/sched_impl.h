#ifndef SCHED_IMPL_H
#define SCHED_IMPL_H
/* What the files of the farm's mind show each other and nobody else. */
#include "scheduler/sched.h"

/* place.c -- starts what should start now. */
void sched_place(sched *s, sched_effects *todo);
/* One that was stopped for a move goes on, before others take what it has left. */
void place_moved(sched *s, int job, sched_effects *todo);
/* The gang a training gets that shares `slots` with `waiting` others of its rank or better. */
int place_gang(const sched_job *j, int gang_max, int slots, int waiting);

/* moves.c -- more room for what runs, when nothing waits; less for a gang, when work does. */
void sched_move(sched *s, sched_effects *todo);
void sched_narrow(sched *s, sched_effects *todo);

/* ahead.c -- the next order is there before its slot is free. */
void ahead_place(sched *s, sched_effects *todo);                            /* as far as slots will soon be free */
void ahead_recall(sched *s, sched_effects *todo);                           /* whom a free slot or a better one wants */
void ahead_recall_all(sched *s, sched_effects *todo);
bool ahead_any(const sched *s);                                             /* somebody comes next somewhere */
void ahead_look(sched *s, int job);                                         /* will its slot soon be free? */
void ahead_tally(sched *s, int job, int by);                                /* every change of one of them stands between -1 and 1 */

/* Of the time on so many slots, what is left on twice as many. */
double move_halves(const sched *s, int gang, double unseen);

/* slow.c -- slots where trainings take longer than others of their class elsewhere. */
int slow_class(sched *s, const char *alike);                                /* -1: none */
void slow_learn(sched *s, int job);                                         /* it has told of a step */
void slow_forget(sched *s);                                                 /* what was seen long ago */
double slow_by(const sched *s, const sched_job *j);                         /* times what the quick ones take; below SLOW: none of note */
int slow_ready(const sched *s, const sched_node *n);                        /* free slots that are slow */
bool slow_runs(const sched *s, const sched_job *j);

/* wave.c -- a plan for all that wait, when nothing runs and each will soon have its turn. */
void wave_plan(sched *s);
void wave_end(sched *s);

/* queue.c -- runnable trainings, the one to start next on top. */
int queue_owner(sched *s, const char *name);
void queue_free(sched *s);
void queue_push(sched *s, int job);
int queue_top(sched *s); /* -1: empty */
void queue_pop(sched *s);
void queue_refund(sched *s, int job); /* it was popped, and nothing of it was done */
void queue_rebuild(sched *s); /* after a key in it changed; done when it is next asked */

/* job.c */
void job_set(sched *s, int job, job_state next);
bool job_in_line(const sched_job *j);                                       /* a training that could start now */
void job_let_go(sched *s, int job);                                         /* gives back the slots it holds */
int job_check(const sched *s, const sched_event *ev, err *e);               /* is this the attempt under way? */
void job_judge(const sched *s, sched_event *failure);                       /* fills in its verdict, and what goes with it */
void job_spec_free(sched_job *j);
int job_submit(sched *s, const sched_event *ev, err *e);
int job_start(sched *s, const sched_event *ev, err *e);
int job_adopt(sched *s, const sched_event *ev, err *e);
int job_await(sched *s, const sched_event *ev, err *e);
int job_done(sched *s, const sched_event *ev, err *e);
int job_failed(sched *s, const sched_event *ev, err *e);
int job_cancel(sched *s, const sched_event *ev, sched_effects *todo, err *e);
int job_release(sched *s, const sched_event *ev, err *e);
int job_hold(sched *s, const sched_event *ev, sched_effects *todo, err *e);
int job_priority_set(sched *s, const sched_event *ev, err *e);
int job_stopped(sched *s, const sched_event *ev, err *e);
int job_progress(sched *s, const sched_event *ev, err *e);
/* For place.c: START is an event that the farm itself makes. on: rank r on slot[r] of node on[r]; NULL: a merge. */
void sched_begin(sched *s, int job, int gang, const int on[], const int slot[], bool pack, sched_effects *todo);

/* parts.c -- a gang over several nodes */
void parts_begin(sched_job *j, int gang, const int on[]);
void parts_forget(sched *s, int job);
void parts_stop(sched *s, int job, sched_effects *todo);                    /* STOP for each of its nodes that works at it */
int parts_lead(sched *s, const sched_event *ev, sched_effects *todo, err *e); /* FAILED or STOPPED of the first node */
int parts_answer(sched *s, const sched_event *ev, sched_effects *todo, err *e); /* PART */
void parts_lost(sched *s, int job, const sched_event *lost, sched_effects *todo); /* of the node that is gone, as FAILED or PART */

/* slots.c */
void slot_set(sched *s, int node, int i, slot_state state, int job);        /* job -1: free */
bool slot_takes(const sched *s, int node, int i, const sched_job *j);       /* it is a pack of j's class */
void slot_take(sched *s, int node, int i, int job);                         /* a free one, or one that takes it */
bool slot_holds(const sched_node *n, int i, int job);
void slot_next(sched *s, int node, int i, int job);                         /* when the one there has ended */
void slot_leave(sched *s, int node, int i, int job);                        /* nothing where it is not */
int slot_becomes(sched *s, const sched_event *ev, err *e);
void node_struck(sched *s, int node, int job);                            /* job has failed there */
void node_praised(sched *s, int node);                                    /* one has ended well there */
bool node_takes(const sched_node *n);                                     /* one more */
int node_up(sched *s, const sched_event *ev, sched_effects *todo, err *e);
int node_lost(sched *s, const sched_event *ev, sched_effects *todo, err *e);

/* state.c */
void sched_record(sched_effects *todo, const sched_event *ev);
sched_effect *sched_do(sched_effects *todo, sched_effect_type type, int job, const sched_job *j);

/* record.c */
int sched_restore(sched *s, const json_t *snapshot, err *e);                /* into a farm without jobs */
#endif
