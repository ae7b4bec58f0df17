#ifndef SCHED_H
#define SCHED_H
/* The farm as a value. sched_step() alone changes it: no clock, no network, no disk. What an event makes necessary
 * comes back in two lists: records, to be made durable first, and effects, to be carried out after that.
 *
 * Promises. A refused event changes nothing. A gang is whole or absent, and on one node where it may not be spread over more. A
 * slot has one master, or
 * a pack: several trainings whose settings are of one class, none of them urgent, none of them a gang. The
 * records of a farm, replayed, give the same farm. Every accepted job ends: done, quarantined, rejected or cancelled,
 * as long as slots are up. (job, attempt) names one try; what carries an older attempt is refused as late. A try that
 * outlives the coordinator goes on under the next one (ADOPT).
 *
 *   QUEUED -> ASSIGNED -> LOADING -> TRAINING -> PUBLISHING -> DONE
 *     ^          '-----------'----------'------------'--failed--> RETRY_WAIT, HOLD -> QUEUED
 *     |                                                           QUARANTINED, REJECTED --release, other settings--.
 *     '------------------------------------------------------------------------------------------------------------'
 *   CANCELLED from anywhere but DONE. A merge is a job too: it needs other jobs done, and no slot. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/hash.h"
#include "cluster/base/json.h"

enum { GANG_MOST = 64, GANG_NODES_MOST = 8, PACK_MOST = 64, MISHAPS_MOST = 20, SLOTS_MOST = 1024 };

/* Codes of failures that are nobody's alone: a worker died of one of several, it is not known of which; or it did not take
 * one beside the others. Who failed so is tried again alone. */
#define FAILED_PACK "pack"
#define FAILED_BUSY "busy"
/* Another member of its gang failed: who it was says why (worker.h, rule 5). */
#define FAILED_GANG "gang"

typedef enum {
    JOB_QUEUED, JOB_ASSIGNED, JOB_LOADING, JOB_TRAINING, JOB_PUBLISHING, JOB_RETRY_WAIT, JOB_HOLD,
    JOB_DONE, JOB_QUARANTINED, JOB_REJECTED, JOB_CANCELLED, JOB_STATES
} job_state;
typedef enum { JOB_TRAIN, JOB_MERGE, JOB_KINDS } job_kind;
typedef enum { PRIORITY_URGENT, PRIORITY_NORMAL, PRIORITY_BACKGROUND, PRIORITIES } job_priority;
typedef enum { BLAME_JOB, BLAME_GPU, BLAME_NODE, BLAME_STORE, BLAME_SETTINGS, BLAMES } job_blame;
typedef enum { VERDICT_NONE, VERDICT_RETRY, VERDICT_HOLD, VERDICT_QUARANTINE, VERDICT_REJECT, VERDICTS } job_verdict;
typedef enum { SLOT_WARMING, SLOT_READY, SLOT_DOWN, SLOT_STATES } slot_state;

/* What is asked for. Text is borrowed in an event and owned in a job. */
typedef struct {
    job_kind kind;
    job_priority priority;
    const char *name;
    const char *settings;      /* JSON object, keys sorted; what the job's numbers depend on */
    int64_t steps, batch;      /* steps * batch: how long it is beside the others */
    int leaves;                /* parts of the batch, a power of two: the widest gang (worker.h, rule 6) */
    int retries;               /* failures of its own until it is quarantined, at least 1 */
    const json_t *needs;       /* names of the jobs that must be done before; NULL: none */
    bool hold;                 /* not before it is released */
    const char *owner;         /* whose it is, for fair shares; NULL or "": nobody's in particular */
    bool added;                /* by `cfarm add`: the farm file need not name it */
    const char *alike;         /* trainings with the same word here can share a worker (worker.h, rule 10); NULL or "": alone */
} job_spec;

/* What a command has decided about a job stands until another command; the farm file decides the rest. */
enum { ORDERED_CANCEL = 1, ORDERED_PRIORITY = 2, ORDERED_HOLD = 4 };

/* Of a gang over several nodes: the nodes beside its first one, and what was said until all have spoken. */
typedef struct {
    int each;                  /* ranks on every node; 0: it is on one */
    int node[GANG_NODES_MOST - 1], n; /* those that have not answered yet */
    int bare;                  /* of those n: taken over when they had given their slots back */
    bool stopping, answered;   /* all were told to stop; the first node has answered */
    bool failed;               /* this is why: */
    int culprit;               /* a node */
    job_blame blame;
    bool retry;
    int64_t step;
    char code[16], text[200];
} sched_parts;

typedef struct {
    job_spec spec;
    char hash[HASH_HEX];       /* of the settings */
    job_state state;
    int attempt;               /* the last one started; 0: none */
    int failures, mishaps;     /* blamed on the job; on anything else, since it last came further than ever before */
    int64_t far;               /* the furthest step at which an attempt has failed */
    char sha256[HASH_HEX];     /* of the result, when done */
    int64_t bytes;
    double seconds;
    char *why;                 /* the last failure, one sentence; NULL: none */
    int ordered;               /* ORDERED_ bits */
    bool alone;                /* something went wrong while it shared a worker: it never does again */

    int *needs;                /* as job numbers. From here on nothing is in the journal */
    bool blocked;              /* something it needs is not done */
    int *wanted_by, wanted_n;  /* jobs that need this one */
    int64_t wake_ms;           /* in RETRY_WAIT and HOLD */
    int node, gang;            /* where it holds slots; -1, 0: nowhere */
    bool packed;               /* it shares its slot, or would */
    sched_parts part;
    bool slotless;             /* taken over when it had given them back: only its answer is still to come */
    int last_node, last_slot;  /* where it failed last: another place is tried first */
    int64_t step;
    double loss, step_seconds;
    int64_t told_ms;           /* when it last told of a step */
    int64_t had_step;          /* as far as the attempt before had come, */
    double had_seconds;        /* in so many seconds of a slot */
    bool moved;                /* this attempt began by a move */
    bool awaited;              /* in RETRY_WAIT: parts of its gang have come back, and the others are waited for */
    bool ahead;                /* it comes next on its slot, when the one there has ended: nothing has begun */
    bool recalled;             /* it shall come back from there, if nothing has */
    bool soon;                 /* it is of those whose slots will soon be free */
    bool narrowed;             /* this attempt began by a move to fewer slots */
    bool moving;               /* it is stopped to go on with more room, or with less: */
    int want;                  /* with a gang of so many; 0: with its share */
    int wave_gang, wave_turn;  /* of the plan for one wave, while there is one (wave.c) */
    int64_t began_ms, began_step; /* of the last attempt: its start, and the first step it told of */
    int last_gang;
    int class;                 /* of sched.class; -1: none */
    int hurried;               /* times it was moved off slow slots */
    double sample_ms;          /* of one slot for a sample, as this attempt sees it; 0: not yet */
    bool in_queue;
    int owner;                 /* of sched.owner */
    int64_t since_ms;          /* it waits since; -1: not yet */
    double key;                /* its place in the line */
} sched_job;

/* A node that fails whatever it is given would empty the line: after two different concepts have failed there and none
 * has ended well, it gets one at a time; after a third, nothing. What fails elsewhere, too, is forgiven the node; and the last
 * node that works is never shut. */
typedef enum { NODE_WELL, NODE_CANARY, NODE_DRAINED } node_trouble;

typedef struct {
    node_trouble trouble;
    int strike[3], strikes;    /* the concepts */
    char *name;                /* NULL: gone */
    int ready, warming, places; /* free slots; packs with a place for one more */
    int n;
    struct {
        slot_state state;
        int job;               /* -1: free */
        int ahead;             /* who comes next here, by an order that is there already; -1: nobody. Never without job */
        int room;              /* trainings that its worker may hold at once */
        int mates, mate[PACK_MOST - 1]; /* of a pack: those beside job */
        int64_t slow_ms;       /* it was seen to be slow then (slow.c); 0: it was not */
        bool quick;            /* it was seen to be quick */
        int link;              /* a gang is better off where this is one number */
    } *slot;
} sched_node;

/* Trainings of one class, by the logarithm of their gang: what a sample takes of the quick ones. */
typedef struct { struct { double ms; int seen; } width[7]; } sched_class;

/* Whose concepts these are, and how much of the farm they have had. */
typedef struct {
    double weight, spent;      /* spent: work started, over the weight */
    int *queue, n, room;       /* heap of his runnable trainings */
} sched_owner;

typedef enum {
    /* durable, in the journal under these numbers */
    EV_EPOCH = 1, EV_SUBMIT, EV_START, EV_DONE, EV_FAILED, EV_CANCEL, EV_RELEASE, EV_SNAPSHOT, EV_HOLD,
    EV_PRIORITY, EV_ADOPT, EV_DURABLE_END,
    /* of the moment */
    EV_OPEN = 32, EV_DRAIN, EV_HALT, EV_NODE_UP, EV_NODE_LOST, EV_SLOT, EV_PROGRESS, EV_STOPPED, EV_TICK, EV_PART, EV_AWAIT,
    EV_END
} sched_event_type;

typedef struct {
    sched_event_type type;
    int64_t now_ms;            /* of the coordinator's monotonic clock */
    bool more;                 /* another one follows at once: nothing starts before it has come */
    int job, attempt;
    int node, slot;            /* NODE_LOST, SLOT, PART; NODE_UP answers in sched_effects.node */
    slot_state becomes;        /* SLOT */
    int room;                  /* SLOT: trainings at once; 0 and 1: one */
    int slots;                 /* NODE_UP */
    const int *links;          /* NODE_UP: [slots], the same number, below SLOTS_MOST, for those that reach each other best; NULL: any */
    const char *name;          /* NODE_UP, START (the node's); EPOCH: "host pid" */
    int64_t epoch;             /* EPOCH */
    job_spec spec;             /* SUBMIT */
    bool ordered;              /* CANCEL, RELEASE: by a command, not by the farm file */
    job_priority priority;     /* PRIORITY */
    int gang;                  /* START, ADOPT */
    bool pack;                 /* START, ADOPT: it shares its slot. Not in the journal */
    bool ahead;                /* ADOPT: it comes next on its slot. Not in the journal */
    const int *on;             /* ADOPT: [on_n] rank r on slot on[r] of `node`; none, or of a whole part -1: given back */
    const int *at;             /* ADOPT: [on_n] of node at[r]; NULL: all of `node`, which is at[0] otherwise */
    int on_n;
    const char *sha256;        /* DONE */
    int64_t bytes;
    double seconds;
    bool failed, stopped;      /* PART: as FAILED says; as STOPPED; neither: its ranks have done all */
    job_blame blame;           /* FAILED */
    bool retry;
    job_verdict verdict;       /* NONE: decide; else as the journal has it, like these two: */
    int64_t wait_ms;           /* until it may begin again */
    int mishaps;               /* so many of them with this one; 0: one more, where it is one */
    const char *code, *text;
    job_state phase;           /* PROGRESS: LOADING, TRAINING or PUBLISHING */
    int64_t step;              /* PROGRESS, FAILED */
    double loss, step_seconds;
    const json_t *snapshot;    /* SNAPSHOT */
} sched_event;

typedef enum { DO_START, DO_STOP, DO_MERGE, DO_RECALL } sched_effect_type; /* RECALL: stop it if it has not begun */
typedef struct {
    sched_effect_type type;
    int job, attempt, node, gang;
    bool pack;                 /* START: beside others */
    bool ahead;                /* START: when the one on its slot has ended */
    int slot[GANG_MOST], on[GANG_MOST]; /* START: rank r on slot[r] of node on[r] */
} sched_effect;

/* Text in records points into the event or the farm: use it before the next step. */
typedef struct {
    sched_event *record;
    size_t records;
    sched_effect *at;
    size_t n;
    int node;                  /* after NODE_UP: its number */
} sched_effects;
void sched_effects_free(sched_effects *todo);

typedef struct { const char *owner; double weight; } sched_share;
typedef struct {
    int gang_max, pack_max;      /* 0 and 1: no packs */
    int gang_nodes;              /* that a gang may be spread over; 0 and 1: one */
    const sched_share *share;    /* borrowed; owners not named weigh 1 */
    int shares;
    bool moves;                  /* what runs is given more room when slots are free, gangs less when work waits (moves.c) */
    int64_t ahead_ms;            /* a slot that will be free so soon is given its next order; 0: only a free one */
    int64_t backoff_ms, hold_ms; /* first wait after a failure, doubled each time up to 5 min; wait for a full disk */
} sched_options;

typedef struct {
    sched_options how;
    int64_t epoch;
    sched_job *job;
    int jobs, job_room;
    sched_node *node;
    int nodes;
    json_t *by_name;
    sched_owner *owner;
    int owners;
    json_t *by_owner;
    sched_owner *turn;         /* whose training queue_top() has shown */
    bool queue_stale;          /* keys have changed */
    int64_t now_ms;            /* of the latest event that had a time */
    double ms_per_sample;      /* of one slot, as seen lately; 0: not yet */
    struct { double ms; int seen; } pace[7]; /* the same by the logarithm of the gang, of trainings that share no slot */
    double load_ms;            /* from a start to its first step, as seen lately */
    sched_class *class;
    int classes;
    json_t *by_class;          /* by spec.alike */
    int slows;                 /* slots that were seen to be slow */
    int wave_slots;            /* the line stands as it was planned for so many; 0: there is no such plan */
    int moving;                /* trainings that were stopped to be moved and have not begun again */
    int64_t plan_ms;           /* the next moves are looked for then */
    int *merge;                /* the merges among the jobs */
    int merges;
    int count[JOB_STATES];
    int waiting[PRIORITIES];   /* runnable trainings */
    int ready, warming;        /* free slots */
    struct { int job, attempt; } *soon; /* their slots will soon be free, */
    int soons, soon_room;      /* or have been: then they are dropped here */
    int aheads[PRIORITIES];    /* who come next somewhere and are not recalled; */
    int recalls;               /* who are */
    int places;                /* packs with a place for one more */
    bool open, merging;
    bool halting;              /* what runs is being stopped, to go on at the next start */
    int64_t next_wake_ms;      /* INT64_MAX: nobody waits for the clock */
} sched;

sched *sched_new(sched_options how);
void sched_free(sched *s);

/* One event: todo is emptied, then filled. ERR_INPUT, or ERR_PEER for what is late: nothing has changed. */
int sched_step(sched *s, const sched_event *ev, sched_effects *todo, err *e);
/* One durable record of the past: changes the farm, starts nothing. */
int sched_replay(sched *s, const sched_event *ev, err *e);

int sched_find(const sched *s, const char *name); /* -1: none */
int sched_ahead(const sched *s, int job);         /* trainings in the line that would start before it */
bool sched_running(const sched_job *j);           /* ASSIGNED to PUBLISHING */
bool sched_part(const sched *s, int job, int attempt, int node); /* has this node, not its first one, a part in it? */
bool node_busy(const sched *s, int node);         /* something is under way there, or not yet answered */
bool sched_waits(const sched *s);                 /* a training could start, were there a slot */
/* Nothing runs and nothing can ever start without a new event from outside. */
bool sched_over(const sched *s);

/* record.c -- durable events as JSON bodies. Reading borrows from *owner, which the caller frees. */
json_t *sched_write_record(const sched_event *ev);
int sched_read_record(sched_event *out, json_t **owner, int type, const char *body, size_t n, err *e);
json_t *sched_write_spec(const job_spec *p);
int sched_read_spec(job_spec *out, json_t *o, err *e); /* borrows from o, which keeps the canonical settings, too */
/* The durable half of the whole farm; equal texts mean equal farms. */
json_t *sched_snapshot(const sched *s);

/* The words of the journal, the messages and the status. */
const char *node_trouble_text(node_trouble t);
const char *job_state_name(job_state s);
const char *job_kind_name(job_kind k);
const char *job_priority_name(job_priority p);
const char *job_blame_name(job_blame b);
int job_blame_find(const char *word);       /* -1: none of them */
int job_state_find(const char *word);
int job_priority_find(const char *word);
#endif
