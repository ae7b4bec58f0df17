/* The farm's own calls, many times, and the middle of what they took: a commit of one record, giving a result its two
 * names, and a message there and back over loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "scheduler/calibrate.h"
#include "scheduler/coordinator.h"
#include "scheduler/publish.h"

enum { COMMITS = 50, NAMES = 20, MESSAGES = 500, BYTES = 128 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double middle(double *took, int n)
{
    qsort(took, (size_t)n, sizeof *took, by_size);
    return took[n / 2];
}

static int ignore(void *arg, int type, const char *body, size_t n, err *e)
{
    (void)arg, (void)type, (void)body, (void)n, (void)e;
    return 0;
}

static int time_commits(double *out, const char *dir, err *e)
{
    static const char body[] = "{\"job\":0,\"attempt\":1,\"gang\":1,\"node\":\"a "
                               "node\",\"at\":\"2026-11-22T21:04:05.123Z\"}";
    char path[FS_PATH];
    double took[COMMITS];
    journal *j = NULL;

    TRY(fs_join(path, dir, "site-journal", e));
    TRY(fs_mkdirs(path, e));
    TRY(journal_open(&j, path, ignore, NULL, e));
    int rc = journal_start(j, 0, NULL, 0, e);
    for (int i = 0; i < COMMITS && rc == 0; i++) {
        double t = clock_s();
        journal_append(j, EV_START, body, sizeof body - 1);
        rc = journal_commit(j, e);
        took[i] = clock_s() - t;
    }
    journal_close(j);
    *out = rc == 0 ? middle(took, COMMITS) : 0;
    return rc;
}

static int time_names(double *out, const char *dir, err *e)
{
    char farm[FS_PATH], obj[FS_PATH], aside[FS_PATH], sha256[HASH_HEX], text[32], name[32];
    double took[NAMES];

    TRY(fs_join(farm, dir, "site-farm", e));
    TRY(fs_join(obj, farm, "obj", e));
    TRY(fs_mkdirs(obj, e));
    for (int i = 0; i < NAMES; i++) {
        int n = snprintf(text, sizeof text, "result %d", i);
        snprintf(name, sizeof name, "c%d", i);
        hash_bytes(text, (size_t)n, sha256);
        TRY(publish_aside(aside, farm, name, 1, e));
        TRY(fs_write(aside, text, (size_t)n, e));
        double t = clock_s();
        TRY(publish(farm, aside, sha256, name, e));
        took[i] = clock_s() - t;
    }
    *out = middle(took, NAMES);
    return 0;
}

static bool all_of(int fd, bool in, char *at)
{
    for (size_t n = 0; n < BYTES;) {
        ssize_t k = in ? recv(fd, at + n, BYTES - n, 0) : send(fd, at + n, BYTES - n, MSG_NOSIGNAL);
        if (k <= 0 && !(k < 0 && errno == EINTR))
            return false;
        n += k > 0 ? (size_t)k : 0;
    }
    return true;
}

static _Noreturn void echo(int port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    char bytes[BYTES];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0)
        while (all_of(fd, true, bytes) && all_of(fd, false, bytes))
            ;
    _exit(0);
}

/* Both ends sleep until the other has spoken, as the coordinator and an agent do. */
static int time_messages(double *out, err *e)
{
    double took[MESSAGES];
    char bytes[BYTES] = "";
    int listening, port, fd = -1, on = 1, rc = 0;
    pid_t pid;

    TRY(coordinator_listen(&listening, &port, false, e));
    pid = fork();
    if (pid == 0)
        echo(port);
    for (int64_t until = clock_ns() + 10000000000; pid > 0 && fd < 0 && clock_ns() < until; usleep(1000))
        fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC); /* the listening socket does not wait */
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        rc = err_set(e, ERR_IO, "no connection over loopback: %s", strerror(errno));
    for (int i = 0; i < MESSAGES && rc == 0; i++) {
        double t = clock_s();
        if (!all_of(fd, false, bytes) || !all_of(fd, true, bytes))
            rc = err_set(e, ERR_IO, "a connection over loopback ends: %s", strerror(errno));
        took[i] = clock_s() - t;
    }
    if (fd >= 0)
        close(fd);
    close(listening);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    *out = rc == 0 ? middle(took, MESSAGES) : 0;
    return rc;
}

int site_measure(site_times *out, const char *dir, err *e)
{
    *out = (site_times){0};
    TRY(time_commits(&out->commit, dir, e));
    TRY(time_names(&out->name, dir, e));
    return time_messages(&out->message, e);
}
