/* The ways in which a farm is disturbed, one row each. None decides when it meets the farm: a lot does. */
#include <signal.h>
#include <stdlib.h>

#include "tests/fault/harm_kinds.h"

pid_t begin_and_wait_a_while(world *w)
{
    pid_t pid = begin(w, "2");

    nap(w, EARLY, w->real ? 4 * LATE : LATE);
    return pid;
}

/* One of the agent's children of that name; 0: it has none just now. */
pid_t any_child(world *w, pid_t agent, const char *name)
{
    pid_t all[SOME];
    int n = find_children(agent, name, all, SOME);

    return n > 0 ? all[pick(w, 0, n - 1)] : 0;
}

void hit(pid_t pid, int signal)
{
    if (pid > 0)
        kill(pid, signal);
}

void freeze(world *w, pid_t pid, int most_ms)
{
    hit(pid, SIGSTOP);
    nap(w, 20, most_ms);
    hit(pid, SIGCONT);
}

/* With a variable of the environment that only this start sees. */
void with(world *w, const char *name, const char *value, const char *workers)
{
    pid_t pid;

    setenv(name, value, 1);
    pid = begin(w, workers);
    unsetenv(name);
    await(w, pid);
}

/* A hang is found after a second, whether it is between two steps or not. */
void be_impatient(void)
{
    setenv("CFARM_SILENCE_S", "1", 1);
    setenv("CFARM_STILL_S", "1", 1);
}

/* Dead before the next instruction of any of them: stopped first, so that none sees another's end. */
void kill_all(world *w, pid_t agent)
{
    pid_t all[SOME * 4];
    int n;

    hit(agent, SIGSTOP);
    n = list_marked(w, all, SOME * 4);
    for (int i = 0; i < n; i++)
        kill(all[i], SIGKILL);
    hit(agent, SIGKILL); /* it may only just have become our program, and not be marked yet */
    await(w, agent);
}

const harm_kind harm_kinds[] = {
    {"worker-killed", "SIGKILL to a worker", worker_killed, true},
    {"worker-segv", "SIGSEGV to a worker", worker_segv, true},
    {"workers-killed", "SIGKILL to five workers in turn", workers_killed, false},
    {"worker-killed-early", "SIGKILL to a worker that loads", worker_killed_early, true},
    {"agent-killed", "SIGKILL to the agent", agent_killed, true},
    {"coordinator-killed", "SIGKILL to the coordinator", coordinator_killed, true},
    {"everything-killed", "SIGKILL to all at once", everything_killed, true},
    {"killed-over-and-over", "SIGKILL to all; three starts", killed_over_and_over, true},
    {"worker-frozen", "a worker stands still for a moment", worker_frozen, true},
    {"agent-frozen", "the agent stands still for a moment", agent_frozen, true},
    {"coordinator-frozen", "the coordinator stands still for a moment", coordinator_frozen, true},
    {"worker-stuck", "a worker stands still for good", worker_stuck, false},
    {"worker-slow", "a worker gets a tenth of its time", worker_slow, false},
    {"told-term", "SIGTERM", told_term, true},
    {"told-hup", "SIGHUP", told_hup, false},
    {"told-int", "one interrupt: drain", told_int, true},
    {"told-int-twice", "two interrupts", told_int_twice, true},
    {"told-usr1", "SIGUSR1: the machine wants it to go", told_usr1, true},
    {"told-usr2", "SIGUSR2: drain", told_usr2, false},
    {"short-notice", "SIGTERM; all killed up to 40 ms later", short_notice, true},
    {"poison", "a concept always crashes", poison, false},
    {"not-a-number", "a concept's loss is always NaN", not_a_number, false},
    {"leaves", "a concept's worker always exits", leaves, false},
    {"impossible", "a setting that cannot be", impossible, false},
    {"worker-disk", "a worker cannot write its result", disk_of_worker, false},
    {"hangs", "a concept hangs once", hangs, false},
    {"member-dies", "a gang's member crashes", member_dies, false},
    {"member-killed", "a gang's member is killed", member_killed, false},
    {"member-hangs", "a gang's member hangs in the collective", member_hangs, false},
    {"link-fails", "publication's link fails", link_fails, true},
    {"dies-at-link", "killed at publication's link", dies_at_link, true},
    {"dies-at-write", "coordinator killed at a journal write", dies_at_write, false},
    {"dies-at-sync", "coordinator killed at a journal sync", dies_at_sync, false},
    {"sync-fails", "a journal sync fails", sync_fails, false},
    {"journal-full", "a journal write fails: no space", journal_full, false},
    {"dies-at-rename", "killed at a rename", dies_at_rename, true},
    {"rename-fails", "a rename fails", rename_fails, false},
    {"checkpoint-fails", "a checkpoint cannot be written on notice", checkpoint_fails, false},
    {"write-eio", "the n-th write(): EIO", shim_eio, false},
    {"write-enospc", "the n-th write() and all after: ENOSPC", shim_enospc, false},
    {"write-short", "every n-th write() is short", shim_short, false},
    {"write-eintr", "every n-th write(): EINTR", shim_eintr, false},
    {"fsync-fails", "the n-th fsync() or fdatasync(): EIO", shim_fsync, false},
    {"sync-stalls", "every n-th fsync() or fdatasync() takes most of a second", shim_stall, false},
    {"rename-eio", "the n-th rename(): EIO", shim_rename, false},
    {"link-eio", "the n-th link(): EIO", shim_link, false},
    {"unlink-eio", "the n-th unlink(): EIO", shim_unlink, false},
    {"mkdir-eio", "the n-th mkdir(): EIO", shim_mkdir, false},
    {"create-eio", "the n-th open() that makes a file: EIO", shim_create, false},
    {"alloc-fails", "the n-th allocation of some process is refused", shim_alloc, false},
    {"disk-full", "a small disk; enlarged later", disk_full, false},
    {"journal-torn", "garbage behind the journal's end", journal_torn, false},
    {"last-record-torn", "the journal's last record is cut", last_record_torn, false},
    {"journal-flipped", "a bit flipped in the journal", journal_flipped, false},
    {"checkpoint-damaged", "a byte of each checkpoint changed", checkpoint_damaged, true},
    {"checkpoint-cut", "checkpoints cut short", checkpoint_cut, true},
    {"started-twice", "a second coordinator beside the first", started_twice, true},
    {"beside-a-frozen-one", "a second coordinator; the first stands still", started_beside_a_frozen_one, false},
    {"settings-done", "a done concept's settings change", settings_of_a_done_one, false},
    {"settings-waiting", "a waiting concept's settings change", settings_of_a_waiting_one, false},
    {"added-and-killed", "a concept added; SIGKILL to all up to 60 ms later", added_and_killed, false},
    {"black-hole", "a node whose workers never start", black_hole, false},
    {"few-descriptors", "6 to 24 open files; a higher limit allowed", few_descriptors, false},
    {"other-width", "other numbers of workers; killed each time", other_width, true},
    {"mpirun-killed", "SIGKILL to mpirun", mpirun_killed, true},
    {"rank-killed", "SIGKILL to rank 0", rank_killed, false},
    {"rank-killed-recovery", "SIGKILL to rank 0 in recovery mode", rank_killed_recovery, false},
    {"garbage", "random bytes to the coordinator's port", garbage, false},
    {"silent-strangers", "20 connections that say nothing", silent_strangers, false},
};
const int harm_kinds_n = sizeof harm_kinds / sizeof harm_kinds[0];
