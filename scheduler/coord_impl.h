#ifndef COORD_IMPL_H
#define COORD_IMPL_H
/* What the files of the coordinator show each other and nobody else. */
#include <stdio.h>
#include <sys/types.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"
#include "scheduler/coordinator.h"
#include "scheduler/eta.h"
#include "scheduler/waste.h"

typedef struct coordinator coordinator;

/* Each one more than the one before: what runs ends, what runs is stopped, now. */
typedef enum { LEVEL_RUN, LEVEL_DRAIN, LEVEL_HALT, LEVEL_KILL } coord_level;

/* One connection: a stranger until its HELLO, an agent from then on. */
typedef struct peer {
    struct peer *next;
    coordinator *of;
    wire *w;
    int node;                /* in the ledger's farm; -1: none yet */
    int64_t pid;             /* the agent's */
    int64_t since_ns, heard_ns;
    char nonce[WIRE_NONCE];
    bool sealed, suspect;
    bool leaving, parted;    /* it has said farewell; and was answered */
} peer;

/* How fast the farm works, as an average that forgets: samples (steps times batch) per second. */
typedef struct { double samples, seconds; int64_t at_ns; } pace;
typedef struct { const char *event; char *name, *why; } notice;

/* The status files on their way: pieces of them are made turn by turn. */
typedef enum { PAGE_COUNT, PAGE_TABLE, PAGE_NODES, PAGE_RUNNING, PAGE_UNWELL, PAGE_STAGES } page_stage;
typedef struct { char path[FS_PATH], aside[FS_PATH]; FILE *to; int broken; } page_file; /* to: NULL: none; broken: why */
typedef struct {
    int stage, at;           /* at: the next job, or node */
    int told;                /* in this stage */
    eta_work work;           /* counted so far */
    str text;
    page_file table;
    int64_t spent_ns;
} status_page;

typedef struct {
    pid_t pid;               /* 0: none runs */
    int job, attempt;
    char aside[FS_PATH];
    int64_t since_ns;
} merge_step;

struct coordinator {
    const coordinator_options *how;
    ledger *l;
    sched *s;
    loop *loop;
    peer *peers;
    peer **at_node;          /* [at_nodes]; NULL: gone */
    int at_nodes;
    struct gather *gathers;  /* coord_parts.c */
    int leaving, strangers;  /* peers that have said farewell; that have not said hello */
    int agents_seen;
    int added;               /* by the orders of this turn */
    sched_effects todo;      /* of the last step */
    sched_effect *act;       /* decided and not yet carried out */
    size_t acts;
    merge_step merge;
    pace pace;
    status_page page;
    waste where;             /* the slots' time went, since this coordinator began */
    int64_t waste_ns;        /* counted up to then */
    double *joins;           /* of each job: the part of its steps in which its gang adds up, as it told last */
    int joins_n;
    eta eta;
    notice *notice;          /* news that wait for the hook */
    int notices;
    pid_t hook_pid;          /* 0: none runs */
    int64_t hook_ns;
    pid_t *keeper;           /* children that set failed concepts aside */
    int keepers;
    int *trouble_told;       /* of each node */
    int troubles;
    coord_level level;       /* how far it was told to stop */
    bool by_machine;         /* and by whom */
    int64_t halted_ns;
    bool stop;               /* now */
    bool ended;              /* END was said */
    int status;
    int64_t leases_ns, spool_ns; /* last looked at */
    int64_t started_ns, told_ns, status_ns; /* begun; last line told; next status due */
    char slot_trouble[400];  /* why a slot is down */
};

/* coordinator.c */
int coord_try(coordinator *c, const sched_event *ev, err *e);
void coord_step(coordinator *c, const sched_event *ev); /* a refusal is logged */
void coord_stop(coordinator *c, coord_level level);     /* never goes back */
int64_t coord_now_ms(void);
void coord_tell(peer *k, int type, json_t *body); /* takes body */
peer *coord_peer_of(const coordinator *c, int node);
void coord_fail(coordinator *c, const err *e);    /* the farm itself cannot go on */

/* coord_peer.c -- agents come, speak and go */
void peer_accept(coordinator *c);
void peer_close(peer *k, const char *why);
int peer_answer(peer *k, int type, const json_t *o, err *e); /* DONE, FAILED or STOPPED, heard now or before */
void peer_leases(coordinator *c);
void peer_farewells(coordinator *c);

/* coord_parts.c -- gangs over several nodes that outlived a coordinator */
int parts_gather(peer *k, const json_t *told, const sched_event *ev, err *e); /* ev: as ADOPT of this node's ranks */
bool parts_keep(peer *k, int type, const json_t *said);  /* it is the answer of a part that is waited for: kept until then */
void parts_tick(coordinator *c);
void parts_gone(coordinator *c, int node);
void parts_end(coordinator *c);

/* coord_orders.c -- the spool */
void orders_tick(coordinator *c);

/* coord_merge.c -- one merge at a time, as a child */
void merge_start(coordinator *c, int job, int attempt);
void merge_stop(coordinator *c);
void merge_halt(coordinator *c, int job, int attempt); /* stops it and says so */
void merge_reap(coordinator *c);

/* coord_notify.c -- the user's hook */
void notify(coordinator *c, const char *event, const char *name, const char *why);
void notify_reap(coordinator *c);
void notify_tick(coordinator *c);
void notify_end(coordinator *c);

/* coord_keep.c -- what is set aside of concepts that failed for good */
void keep_failure(coordinator *c, const sched_job *j, const sched_event *ev);
void keep_reap(coordinator *c);
void keep_end(coordinator *c);

/* coord_waste.c -- where the slots' time goes */
void waste_turn(coordinator *c);
void waste_progress(coordinator *c, const sched_event *ev, double joined); /* before the mind hears of it */

/* coord_show.c -- the status file, the lines for people */
void show_event(coordinator *c, const sched_event *ev);
void show_progress(coordinator *c, int job, int64_t step);
void show_learn(coordinator *c); /* from what is done already */
void show_tick(coordinator *c);
bool show_under_way(const coordinator *c); /* there is more to tell at once */
void show_end(coordinator *c);
#endif
