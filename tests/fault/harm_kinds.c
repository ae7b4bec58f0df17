/* The ways in which a farm is disturbed, one row each. None decides when it meets the farm: a lot does. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/journal.h"
#include "tests/fault/harm.h"

enum { SOME = 16, EARLY = 30, LATE = 450 }; /* milliseconds after the start within which it happens */

/* ---- what they have in common --------------------------------------------------------------------------------- */

static pid_t begin_and_wait_a_while(world *w)
{
    pid_t pid = begin(w, "2");

    nap(w, EARLY, w->real ? 4 * LATE : LATE);
    return pid;
}

/* One of the agent's children of that name; 0: it has none just now. */
static pid_t any_child(world *w, pid_t agent, const char *name)
{
    pid_t all[SOME];
    int n = find_children(agent, name, all, SOME);

    return n > 0 ? all[pick(w, 0, n - 1)] : 0;
}

static void hit(pid_t pid, int signal)
{
    if (pid > 0)
        kill(pid, signal);
}

static void freeze(world *w, pid_t pid, int most_ms)
{
    hit(pid, SIGSTOP);
    nap(w, 20, most_ms);
    hit(pid, SIGCONT);
}

/* With a variable of the environment that only this start sees. */
static void with(world *w, const char *name, const char *value, const char *workers)
{
    pid_t pid;

    setenv(name, value, 1);
    pid = begin(w, workers);
    unsetenv(name);
    await(w, pid);
}

/* A hang is found after a second, whether it is between two steps or not. */
static void be_impatient(void)
{
    setenv("CFARM_SILENCE_S", "1", 1);
    setenv("CFARM_STILL_S", "1", 1);
}

/* Dead before the next instruction of any of them: stopped first, so that none sees another's end. */
static void kill_all(world *w, pid_t agent)
{
    pid_t all[SOME * 4];
    int n;

    hit(agent, SIGSTOP);
    n = list_marked(w, all, SOME * 4);
    for (int i = 0; i < n; i++)
        kill(all[i], SIGKILL);
    await(w, agent);
}

/* ---- processes that die --------------------------------------------------------------------------------------- */

static void worker_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm-worker"), SIGKILL);
    await(w, agent);
}

static void worker_segv(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm-worker"), SIGSEGV);
    await(w, agent);
}

static void workers_killed(world *w)
{
    pid_t agent = begin(w, "3");

    for (int i = 0; i < 5; i++) {
        nap(w, EARLY, 150);
        hit(any_child(w, agent, "cfarm-worker"), SIGKILL);
    }
    await(w, agent);
}

static void worker_killed_early(world *w)
{
    pid_t agent = begin(w, "2"), worker = 0;

    for (int i = 0; i < 2000 && !worker; i++, usleep(500))
        worker = any_child(w, agent, "cfarm-worker");
    usleep((useconds_t)pick(w, 0, 3000));
    hit(worker, SIGKILL);
    await(w, agent);
}

static void agent_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(agent, SIGKILL);
    await(w, agent);
}

static void coordinator_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(any_child(w, agent, "cfarm"), SIGKILL);
    await(w, agent);
}

static void everything_killed(world *w) { kill_all(w, begin_and_wait_a_while(w)); }

static void killed_over_and_over(world *w)
{
    for (int i = 0; i < 3; i++)
        everything_killed(w);
}

/* ---- processes that stand still ------------------------------------------------------------------------------- */

static void worker_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, any_child(w, agent, "cfarm-worker"), 400);
    await(w, agent);
}

static void agent_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, agent, 400);
    await(w, agent);
}

static void coordinator_frozen(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    freeze(w, any_child(w, agent, "cfarm"), 400);
    await(w, agent);
}

static void worker_stuck(world *w)
{
    pid_t agent;

    be_impatient();
    agent = begin_and_wait_a_while(w);
    hit(any_child(w, agent, "cfarm-worker"), SIGSTOP);
    await(w, agent);
}

static void worker_slow(world *w)
{
    pid_t agent = begin_and_wait_a_while(w), worker = any_child(w, agent, "cfarm-worker");

    for (int i = 0; i < 10; i++) {
        freeze(w, worker, 60);
        usleep(5000);
    }
    await(w, agent);
}

/* ---- told to stop --------------------------------------------------------------------------------------------- */

static void told(world *w, int signal, int times)
{
    pid_t agent = begin_and_wait_a_while(w);

    for (int i = 0; i < times; i++) {
        hit(agent, signal);
        nap(w, 10, 80);
    }
    await(w, agent);
}

static void told_term(world *w) { told(w, SIGTERM, 1); }
static void told_hup(world *w) { told(w, SIGHUP, 1); }
static void told_int(world *w) { told(w, SIGINT, 1); }
static void told_int_twice(world *w) { told(w, SIGINT, 2); }
static void told_usr1(world *w) { told(w, SIGUSR1, 1); }
static void told_usr2(world *w) { told(w, SIGUSR2, 1); }

/* The notice may be too short for what the farm wants to keep. */
static void short_notice(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    hit(agent, SIGTERM);
    nap(w, 0, 40);
    kill_all(w, agent);
}

/* ---- concepts that fail --------------------------------------------------------------------------------------- */

/* times 0: always. */
static void misbehaves(world *w, const char *does, int times, bool gang)
{
    char text[400], limit[32] = "";

    if (times > 0)
        snprintf(limit, sizeof limit, ", times: %d", times);
    if (gang)
        snprintf(text, sizeof text, " - {name: a, fake: {step_ms: 5, at: %d, does: %s, rank: %d%s}}", pick(w, 1, 10), does,
                 pick(w, 0, 3), limit);
    else
        snprintf(text, sizeof text, " - {name: bad, fake: {at: %d, does: %s%s}}\n - {name: a}\n - {name: b}\n - {name: c}",
                 pick(w, 1, 10), does, limit);
    put_farm(w, text);
    w->bad = times > 0 || gang ? NULL : "bad";
    await(w, begin(w, gang ? "4" : "2"));
}

static void poison(world *w) { misbehaves(w, "crash", 0, false); }
static void not_a_number(world *w) { misbehaves(w, "nan", 0, false); }
static void leaves(world *w) { misbehaves(w, "exit", 0, false); }
static void impossible(world *w) { misbehaves(w, "refuse", 0, false); }
static void disk_of_worker(world *w) { misbehaves(w, "disk", pick(w, 1, 3), false); }
static void member_dies(world *w) { misbehaves(w, "crash", 1, true); }
static void member_killed(world *w) { misbehaves(w, "kill", 1, true); }

static void hangs(world *w)
{
    be_impatient();
    misbehaves(w, "hang", 1, false);
}

static void member_hangs(world *w)
{
    be_impatient();
    misbehaves(w, "hang", 1, true);
}

/* ---- disks that fail ------------------------------------------------------------------------------------------ */

static void fault(world *w, const char *point, int most, const char *how)
{
    char text[64];

    snprintf(text, sizeof text, "%s:%d%s", point, pick(w, 1, most), how);
    with(w, "CFARM_FAULT", text, "2");
}

static void link_fails(world *w) { fault(w, "publish.link", 4, ""); }
static void dies_at_link(world *w) { fault(w, "publish.link", 4, ":kill"); }
static void dies_at_write(world *w) { fault(w, "journal.write", 12, ":kill"); }
static void dies_at_sync(world *w) { fault(w, "journal.sync", 12, ":kill"); }
static void sync_fails(world *w) { fault(w, "journal.sync", 12, ""); }
static void journal_full(world *w) { fault(w, "journal.write", 12, ""); }
static void dies_at_rename(world *w) { fault(w, "fs.rename", 8, ":kill"); }
static void rename_fails(world *w) { fault(w, "fs.rename", 8, ""); }
static void checkpoint_fails(world *w)
{
    pid_t agent;

    setenv("CFARM_FAULT", "checkpoint.write:1", 1);
    agent = begin_and_wait_a_while(w);
    unsetenv("CFARM_FAULT");
    hit(agent, SIGTERM);
    await(w, agent);
}

/* The calls of the C library itself, by harm_shim.c, in every process of the farm. */
static void shim(world *w, const char *what, int most)
{
    char text[64];
    pid_t agent;

    snprintf(text, sizeof text, "%s:%d", what, pick(w, 1, most));
    setenv("HARM_SHIM", text, 1);
    setenv("LD_PRELOAD", HARM_SHIM_FILE, 1);
    agent = begin(w, "2");
    unsetenv("LD_PRELOAD");
    unsetenv("HARM_SHIM");
    await(w, agent);
}

static void shim_eio(world *w) { shim(w, "eio", 30); }
static void shim_enospc(world *w) { shim(w, "enospc", 30); }
static void shim_short(world *w) { shim(w, "short", 3); }
static void shim_eintr(world *w) { shim(w, "eintr", 3); }
static void shim_fsync(world *w) { shim(w, "fsync", 15); }

/* A disk of its own that is full, and is enlarged while the farm runs. */
static void disk_full(world *w)
{
    char at[300], size[32];
    pid_t agent;

    snprintf(at, sizeof at, "%s/pets", w->f.dir);
    snprintf(size, sizeof size, "size=%dk", pick(w, 6, 30) * 4);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mkdir(at, 0755) != 0 ||
        mount("tmpfs", at, "tmpfs", 0, size) != 0)
        skip_case(w, "a small disk cannot be mounted here");
    w->mounted = true;
    agent = begin(w, "2");
    nap(w, 200, 900);
    if (mount("tmpfs", at, "tmpfs", MS_REMOUNT, "size=8m") != 0)
        unlike(w, "the disk cannot be enlarged");
    await(w, agent);
}

/* ---- files that are damaged between two starts ---------------------------------------------------------------- */

static void newest_segment(const world *w, char path[400])
{
    char dir[300], **names;
    size_t n;

    snprintf(dir, sizeof dir, "%s/pets/journal", w->f.dir);
    if (fs_list(&names, &n, dir, NULL) != 0 || n == 0) {
        path[0] = '\0'; /* it was killed before it had one */
        return;
    }
    snprintf(path, 400, "%s/%s", dir, names[n - 1]);
    fs_list_free(names);
}

static void journal_torn(world *w)
{
    char path[400];
    struct stat st;

    everything_killed(w);
    newest_segment(w, path);
    if (path[0] && stat(path, &st) == 0 && st.st_size > JOURNAL_HEAD) {
        int fd = open(path, O_WRONLY | O_APPEND);
        for (int i = pick(w, 1, 60); i > 0; i--) {
            unsigned char c = (unsigned char)pick(w, 0, 255);
            if (write(fd, &c, 1) != 1)
                unlike(w, "%s cannot be written", path);
        }
        close(fd);
    }
}

/* What was not committed is cut off; the last commit itself stays. */
static void last_record_torn(world *w)
{
    char path[400];
    struct stat st;

    await(w, begin(w, "2")); /* to the end: the last record alone is DONE's */
    newest_segment(w, path);
    if (stat(path, &st) != 0 || truncate(path, st.st_size - pick(w, 1, 20)) != 0)
        unlike(w, "%s cannot be cut", path);
    w->status = -1;
}

static void flip(world *w, const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    unsigned char c;

    if (fd < 0 || pread(fd, &c, 1, at) != 1)
        unlike(w, "%s cannot be read", path);
    c = (unsigned char)(c ^ (1 << (at % 8)));
    if (pwrite(fd, &c, 1, at) != 1)
        unlike(w, "%s cannot be written", path);
    close(fd);
}

/* Refused, with nothing repaired or dropped; made whole again, it goes on. */
static void journal_flipped(world *w)
{
    char path[400];
    off_t at;

    await(w, begin(w, "2"));
    newest_segment(w, path);
    at = pick(w, JOURNAL_HEAD, JOURNAL_HEAD + 200);
    flip(w, path, at);
    await(w, begin(w, "2"));
    if (w->status != 3)
        unlike(w, "a damaged journal was taken: status %d", w->status);
    flip(w, path, at);
    w->status = -1;
}

static void checkpoint_damaged(world *w)
{
    char command[600];

    told_term(w);
    snprintf(command, sizeof command, "for f in %s/pets/ckpt/*/[01]; do [ ! -e \"$f\" ] || printf x | dd of=\"$f\" bs=1 seek=%d "
             "conv=notrunc status=none; done", w->f.dir, pick(w, 0, 24));
    if (system(command) != 0)
        unlike(w, "the checkpoints cannot be damaged");
}

static void checkpoint_cut(world *w)
{
    char command[600];

    told_term(w);
    snprintf(command, sizeof command, "for f in %s/pets/ckpt/*/%d; do [ ! -e \"$f\" ] || truncate -s %d \"$f\"; done", w->f.dir,
             pick(w, 0, 1), pick(w, 0, 24));
    if (system(command) != 0)
        unlike(w, "the checkpoints cannot be cut");
}

/* ---- people --------------------------------------------------------------------------------------------------- */

static void started_twice(world *w)
{
    pid_t first = begin_and_wait_a_while(w), second = begin(w, "2");

    await(w, second);
    await(w, first);
}

/* The one that holds the farm does not answer: the other must not take it over. */
static void started_beside_a_frozen_one(world *w)
{
    pid_t first = begin_and_wait_a_while(w), coordinator = any_child(w, first, "cfarm"), second;

    hit(coordinator, SIGSTOP);
    second = begin(w, "2");
    nap(w, 100, 400);
    hit(coordinator, SIGCONT);
    await(w, second);
    await(w, first);
}

static void settings_of_a_done_one(world *w)
{
    await(w, begin(w, "2"));
    put_farm(w, " - {name: a, steps: 11, fake: {step_ms: 8}}\n - {name: b, fake: {step_ms: 8}}\n"
                " - {name: c, fake: {step_ms: 7}}\n - {name: d, fake: {step_ms: 9}}");
    await(w, begin(w, "2"));
    if (w->status != 2)
        unlike(w, "other settings for what is done: status %d", w->status);
    put_farm(w, NULL);
    w->status = -1;
}

static void settings_of_a_waiting_one(world *w)
{
    everything_killed(w);
    if (!has_result(&w->f, "d"))
        put_farm(w, " - {name: a, fake: {step_ms: 8}}\n - {name: b, fake: {step_ms: 8}}\n"
                    " - {name: c, fake: {step_ms: 7}}\n - {name: d, steps: 12, fake: {step_ms: 9}}");
    w->status = -1;
}

/* What was accepted before the farm died is not lost. */
static void added_and_killed(world *w)
{
    pid_t agent = begin_and_wait_a_while(w), adds;
    char piece[300];
    static const char text[] = "concepts:\n - {name: e, fake: {step_ms: 6}}\n";
    const char *argv[] = {cfarm, "add", w->f.file, piece, NULL};

    snprintf(piece, sizeof piece, "%s/piece.yaml", w->f.dir);
    if (fs_write(piece, text, sizeof text - 1, NULL) != 0)
        unlike(w, "%s cannot be written", piece);
    adds = launch(&w->f, argv);
    await(w, adds);
    w->must = w->status == 0 ? "e" : NULL;
    nap(w, 0, 60);
    kill_all(w, agent);
    w->status = -1; /* it may have ended before the concept came */
}

/* ---- machines ------------------------------------------------------------------------------------------------- */

static void black_hole(world *w) { with(w, "FAKE_LOAD", "exit", "2"); }

static void few_descriptors(world *w)
{
    struct rlimit all, few;
    pid_t agent;

    getrlimit(RLIMIT_NOFILE, &all);
    few = (struct rlimit){(rlim_t)pick(w, 6, 24), all.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    agent = begin(w, "2");
    setrlimit(RLIMIT_NOFILE, &all);
    await(w, agent);
}

static void other_width(world *w)
{
    static const char *const workers[] = {"1", "2", "3", "4", "8"};

    for (int i = 0; i < 3; i++) {
        pid_t agent = begin(w, workers[pick(w, 0, 4)]);
        nap(w, EARLY, 250);
        kill_all(w, agent);
    }
}

static void need_mpirun_here(const world *w)
{
    if (system("command -v mpirun >/dev/null") != 0)
        skip_case(w, "mpirun is not installed");
}

static void by_mpirun(world *w, bool recovery, bool launcher)
{
    const char *argv[] = {"mpirun", "-np", "2", cfarm, "train", w->f.file, NULL};
    char path[300], *text;
    size_t n;
    pid_t pid;
    int agent = 0;

    need_mpirun_here(w);
    setenv("CFARM_MEET_S", "10", 1); /* it may be killed before the ranks have met */
    setenv("OMPI_MCA_orte_enable_recovery", recovery ? "1" : "0", 1);
    pid = launch(&w->f, argv);
    nap(w, 300, 900);
    snprintf(path, sizeof path, "%s/pets/epoch", w->f.dir);
    if (!launcher && fs_read(path, &text, &n, 4096, NULL) == 0) {
        char *at = strstr(text, "pid ");
        agent = at ? atoi(at + 4) : 0;
        free(text);
    }
    hit(launcher ? pid : agent, SIGKILL);
    await(w, pid);
    w->status = -1; /* a launcher's own status says nothing */
}

static void mpirun_killed(world *w) { by_mpirun(w, false, true); }
static void rank_killed(world *w) { by_mpirun(w, false, false); }
static void rank_killed_recovery(world *w) { by_mpirun(w, true, false); }

/* ---- strangers at the door ------------------------------------------------------------------------------------ */

/* The socket's number, of a process that listens on one; 0: none. */
static unsigned long listening(pid_t pid, int *port)
{
    char path[64], link[128], line[512];
    unsigned long inode = 0;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    d = opendir(path);
    for (struct dirent *at; d && !inode && (at = readdir(d));) {
        ssize_t n = readlinkat(dirfd(d), at->d_name, link, sizeof link - 1);
        unsigned long is = 0;
        FILE *f;
        if (n < 0)
            continue;
        link[n] = '\0';
        if (sscanf(link, "socket:[%lu]", &is) != 1)
            continue;
        f = fopen("/proc/net/tcp", "r");
        while (f && fgets(line, sizeof line, f)) {
            unsigned p, state;
            unsigned long of;
            if (sscanf(line, " %*d: %*x:%x %*x:%*x %x %*s %*s %*s %*s %*s %lu", &p, &state, &of) == 3 && state == 10 && of == is) {
                *port = (int)p;
                inode = is;
            }
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return inode;
}

/* A connection to the coordinator; -1: it is gone, or was not there yet. */
static int knock(world *w, pid_t agent)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pid_t coordinator = any_child(w, agent, "cfarm");
    int port = 0, fd;

    if (!coordinator || !listening(coordinator, &port))
        return -1;
    to.sin_port = htons((uint16_t)port);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void garbage(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);

    for (int k = 0; k < 5; k++) {
        int fd = knock(w, agent);
        unsigned char bytes[256];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)pick(w, 0, 255);
        if (fd >= 0 && write(fd, bytes, (size_t)pick(w, 1, 256)) > 0)
            nap(w, 1, 10);
        if (fd >= 0)
            close(fd);
    }
    await(w, agent);
}

static void silent_strangers(world *w)
{
    pid_t agent = begin_and_wait_a_while(w);
    int fd[20];

    for (int k = 0; k < 20; k++)
        fd[k] = knock(w, agent);
    await(w, agent);
    for (int k = 0; k < 20; k++)
        if (fd[k] >= 0)
            close(fd[k]);
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
