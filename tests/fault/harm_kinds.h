#ifndef HARM_KINDS_H
#define HARM_KINDS_H
/* What the files of the ways show each other and nobody else. */
#include "tests/fault/harm.h"

enum { SOME = 16, EARLY = 30, LATE = 450 }; /* milliseconds after the start within which it happens */

pid_t begin_and_wait_a_while(world *w);
pid_t any_child(world *w, pid_t agent, const char *name); /* of the agent, with that name; 0: it has none just now */
void hit(pid_t pid, int signal);                          /* nobody where there is none */
void freeze(world *w, pid_t pid, int most_ms);
void with(world *w, const char *name, const char *value, const char *workers); /* a variable that only this start sees */
void be_impatient(void);                                  /* a hang is found after a second */
void kill_all(world *w, pid_t agent);

typedef void harm_fn(world *w);

/* harm_processes.c */
harm_fn worker_killed, worker_segv, workers_killed, worker_killed_early, agent_killed, coordinator_killed,
    everything_killed, killed_over_and_over, worker_frozen, agent_frozen, coordinator_frozen, worker_stuck,
    worker_slow, told_term, told_hup, told_int, told_int_twice, told_usr1, told_usr2, short_notice, poison,
    not_a_number, leaves, impossible, disk_of_worker, hangs, member_dies, member_killed, member_hangs;

/* harm_disks.c */
harm_fn link_fails, dies_at_link, dies_at_write, dies_at_sync, sync_fails, journal_full, dies_at_rename, rename_fails,
    checkpoint_fails, shim_eio, shim_enospc, shim_short, shim_eintr, shim_fsync, shim_stall, shim_rename, shim_link, shim_unlink, shim_mkdir,
    shim_create, shim_alloc, disk_full, journal_torn,
    last_record_torn, journal_flipped, checkpoint_damaged, checkpoint_cut;

/* harm_others.c */
harm_fn started_twice, started_beside_a_frozen_one, settings_of_a_done_one, settings_of_a_waiting_one,
    added_and_killed, black_hole, few_descriptors, other_width, mpirun_killed, rank_killed, rank_killed_recovery,
    garbage, silent_strangers;
#endif
