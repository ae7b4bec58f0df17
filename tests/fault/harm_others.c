/* People, machines and strangers do what they do. */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fault/harm_kinds.h"

/* ---- people --------------------------------------------------------------------------------------------------- */

void started_twice(world *w)
{
    pid_t first = begin_and_wait_a_while(w), second = begin(w, "2");

    await(w, second);
    await(w, first);
}

/* The one that holds the farm does not answer: the other must not take it over. */
void started_beside_a_frozen_one(world *w)
{
    pid_t first = begin_and_wait_a_while(w), coordinator = any_child(w, first, "cfarm"), second;

    hit(coordinator, SIGSTOP);
    second = begin(w, "2");
    nap(w, 100, 400);
    hit(coordinator, SIGCONT);
    await(w, second);
    await(w, first);
}

void settings_of_a_done_one(world *w)
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

void settings_of_a_waiting_one(world *w)
{
    everything_killed(w);
    if (!has_result(&w->f, "d"))
        put_farm(w, " - {name: a, fake: {step_ms: 8}}\n - {name: b, fake: {step_ms: 8}}\n"
                    " - {name: c, fake: {step_ms: 7}}\n - {name: d, steps: 12, fake: {step_ms: 9}}");
    w->status = -1;
}

/* What was accepted before the farm died is not lost. */
void added_and_killed(world *w)
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

void black_hole(world *w) { with(w, "FAKE_LOAD", "exit", "2"); }

void few_descriptors(world *w)
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

void other_width(world *w)
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

void mpirun_killed(world *w) { by_mpirun(w, false, true); }
void rank_killed(world *w) { by_mpirun(w, false, false); }
void rank_killed_recovery(world *w) { by_mpirun(w, true, false); }

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

void garbage(world *w)
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

void silent_strangers(world *w)
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
