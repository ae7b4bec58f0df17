#ifndef AGENT_IMPL_H
#define AGENT_IMPL_H
/* What the files of the agent show each other and nobody else. */
#include <stdbool.h>

#include "cluster/base/fs.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"
#include "scheduler/agent.h"
#include "scheduler/sched.h"

typedef enum { CREW_NONE, CREW_STARTING, CREW_IDLE, CREW_BUSY, CREW_DYING, CREW_CLOSED } crew_state;
typedef struct agent agent;
typedef struct task task;

/* The checkpoints of one training, in two memory files that take turns and, when it shall outlive the node, on the disk. */
typedef struct shelf {
    struct shelf *next;
    char *name;               /* of the training */
    int fd[2];
    int64_t step[2], bytes[2]; /* of the whole one there; step 0: none */
    bool used;                /* by a task */
    pid_t saver;              /* the child that writes it to the disk; 0: none */
    int64_t saving, saved;    /* steps that are on their way there; that went */
    int64_t saved_ns;         /* when one last set out, or the task began */
} shelf;

/* One slot and the worker in it. */
typedef struct {
    agent *of;
    int number;
    crew_state state;
    pid_t pid;
    wire *w;                  /* NULL: none, or it has ended */
    int tasks;                /* how many it works at */
    bool untold;              /* that it is free again must be told: the coordinator does not know what it works at */
    bool pack;                /* they are a pack: it may work at more than one */
    int room;                 /* as many as that */
    int64_t heard_ns;         /* the last sign of life */
    double step;              /* seconds that one takes, since it was idle; 0: none was told yet */
    int bad_starts;           /* in a row, before it was ready */
    int64_t start_ns;         /* CREW_NONE: when to start it */
    char last_words[400];     /* a failure it told that was about no job */
} crew;

/* One attempt at one concept, by one worker or a gang. */
struct task {
    task *next;
    int job, attempt, size, answered, dones;
    int first, all;           /* of a gang of `all` ranks the one on slot[0]; size == all: it is here alone */
    int gang;                 /* size, also when the slots are given back */
    char *name;
    int slot[GANG_MOST];
    bool at[GANG_MOST];       /* this rank's worker is at it */
    bool done[GANG_MOST];     /* this rank has answered */
    bool pack;                /* beside others on its slot */
    json_t *order;            /* of one that comes next on its slot and has not begun; NULL: it has */
    int64_t heard_ns;         /* of its last step, while another is due; 0: none is */
    char aside[FS_PATH], path[FS_PATH]; /* path: where its ranks meet */
    bool halting, keep;       /* keep: what was trained shall outlive this agent */
    int64_t halt_ns;          /* when patience ends */
    int64_t step;
    json_t *result;           /* rank 0's DONE */
    shelf *shelf;
    int answer;               /* the kind of its answer, once it has ended; it is said when the checkpoint is saved */
    json_t *said;
};

/* A part of a gang over several nodes that is over and has said so. The others may be at work yet: a coordinator that comes
 * meanwhile would wait for it in vain. */
enum { ENDS_MOST = 64 };
typedef struct { int job, attempt, first, ranks, all; } part_end;

typedef enum { TIE_NONE, TIE_CONNECTING, TIE_GREETING, TIE_HELLO, TIE_UP } tie_state;

struct agent {
    const agent_options *how;
    loop *l;
    wire *boss;               /* NULL: none at the moment */
    tie_state tie;
    door door;
    int address;              /* of the door's, tried last */
    int64_t tried_ns, beat_ns, proof_ns; /* proof_ns: when we last knew that the coordinator's machine hears us */
    char nonce[WIRE_NONCE];
    err trouble;              /* why there is no tie */
    int again;                /* coordinators that were replaced lately */
    int64_t again_ns;
    char *farm, *base;
    int64_t epoch, oom_kills;
    int pack;                 /* trainings that a worker may hold at once */
    crew *slot;
    int slots;
    task *tasks;
    part_end end[ENDS_MOST];  /* [ends], the last one newest */
    int ends;
    shelf *shelves;
    bool welcome, over;
    bool leaving;             /* keeps what was trained, says farewell, then is over */
    int64_t leave_ns;         /* at the latest */
    bool farewell, parted;    /* it was said; and answered, or there is nobody who could */
    double silence_s, still_s, checkpoint_s;
    double disk_s;            /* between two checkpoints of a training on the disk; 0 or less: none until it must go */
    int64_t watched_ns;       /* when workers were last looked at */
    err why;                  /* of over, when it is no END */
};

/* agent.c */
int agent_order(agent *a, int type, const json_t *o, err *e);

/* agent_tie.c -- the coordinator, found and found again */
void agent_tell(agent *a, int type, json_t *body); /* takes body; unheard while there is no tie */
void tie_tick(agent *a);
void tie_up(agent *a);                             /* welcomed */
void tie_close(agent *a);

/* crew.c -- workers */
void crew_open(agent *a);
void crew_tell(agent *a);                          /* how every slot stands */
void crew_tick(agent *a);                          /* starts what is due, kills what is silent */
void crew_reap(agent *a);                          /* those that ended */
void crew_kill(crew *c);                           /* its slot warms up again */
void crew_freed(crew *c);                          /* it has answered one of those it worked at */
void crew_deny(crew *c);                           /* it was taken for free: how it stands is told, and when it is free again */
void crew_order(crew *c, int type, json_t *body);  /* takes body */
void crew_close(agent *a, const char *why);        /* no slot takes any more */
void crew_end(agent *a);

/* shelf.c -- checkpoints */
shelf *shelf_take(agent *a, const char *name);     /* the training's, made when it is not there */
void shelf_describe(const agent *a, const shelf *h, json_t *start); /* START's keep, every and from */
void shelf_told(shelf *h, const json_t *checkpoint);
int64_t shelf_step(const shelf *h);                /* of the newest; 0: none */
bool shelf_save(agent *a, shelf *h);               /* false: all is on the disk, or cannot be */
void shelf_reap(agent *a);
void shelf_forget(agent *a, shelf *h);             /* from the disk, too: the training is done, or unwanted */
void shelf_end(agent *a);

/* task.c -- attempts */
void task_sweep(void);                             /* what killed agents of this machine left in shared memory */
void task_run(agent *a, const json_t *order);
void task_halt(agent *a, const json_t *order);
void task_frame(crew *c, int type, const json_t *body);
/* The worker is gone. guilty: of a pack, the member that it is known of; NULL: nobody is blamed for the others' trouble. */
void task_next(crew *c);                           /* its worker is free for whoever comes next */
void task_member_lost(crew *c, const task *guilty, const char *blame, const char *code, const char *text);
/* Has one of the worker's trainings made no step since then, though one is due? *one: which; NULL where there are several. */
bool task_still(const crew *c, int64_t since_ns, const task **one);
void task_forgive(agent *a, int64_t ns); /* so long nobody listened: nobody was silent */
void task_tick(agent *a);
json_t *task_list(const agent *a);                 /* HELLO's running */
bool task_has_part(const agent *a, int slot);      /* a rank of a gang over several nodes is at work there */
void task_leave(agent *a);                         /* all are halted and kept */
void task_end(agent *a);                           /* all of them, without an answer */
#endif
