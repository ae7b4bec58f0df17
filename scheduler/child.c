/* fork, and between fork and exec only what is safe there. */
#include "scheduler/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum { FILES_MOST = 4096 };

int child_program(char out[FS_PATH], const char *name, err *e)
{
    const char *first = getenv("CFARM_PROGRAMS");
    char self[FS_PATH];
    ssize_t n;

    if (first && *first && fs_join(out, first, name, e) == 0 && access(out, X_OK) == 0)
        return 0;
    n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_set(e, ERR_IO, "/proc/self/exe: %s", strerror(errno));
    self[n] = '\0';
    self[fs_base(self) - self - (fs_base(self) > self + 1)] = '\0';
    TRY(fs_join(out, self, name, e));
    if (access(out, X_OK) != 0)
        return err_set(e, ERR_INPUT, "%s is not there; build or install it beside cfarm", out);
    return 0;
}

bool child_find(char out[FS_PATH], const char *name)
{
    const char *path = getenv("PATH");
    char *all = mem_text(path ? path : ""), *rest = all;
    bool found = false;

    for (char *dir; !found && (dir = strsep(&rest, ":"));)
        found = *dir && fs_join(out, dir, name, NULL) == 0 && access(out, X_OK) == 0;
    free(all);
    return found;
}

static void set_number(const char *name, int v)
{
    char text[16];

    snprintf(text, sizeof text, "%d", v);
    setenv(name, text, 1);
}

/* Sleeping, not spinning for long: a worker that waits must not take the cores of one that works. */
static void set_threads(int n)
{
    set_number("OMP_NUM_THREADS", n);
    set_number("OPENBLAS_NUM_THREADS", n);
    node_brief_waits(true);
}

/* What a process may take from the others: memory of its own (shared files do not count), descriptors; and no core files,
 * which would hold users' pictures. A sanitizer's shadow is no memory. */
static void set_limits(uint64_t memory)
{
    struct rlimit none = {0, 0}, files, data;

    setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_max = files.rlim_cur = files.rlim_max < FILES_MOST ? files.rlim_max : FILES_MOST;
        setrlimit(RLIMIT_NOFILE, &files);
    }
#ifndef __SANITIZE_ADDRESS__
    if (memory > 0 && getrlimit(RLIMIT_DATA, &data) == 0 && memory < data.rlim_max) {
        data.rlim_max = data.rlim_cur = memory;
        setrlimit(RLIMIT_DATA, &data);
    }
#else
    (void)memory, (void)data;
#endif
}

/* A fat worker is a better victim of the kernel than a small agent. */
static void offer_to_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "500", 3) < 0)
        errno = 0; /* not allowed everywhere, and no matter */
    if (fd >= 0)
        close(fd);
}

static void place_fd(int from, int to)
{
    if (from >= 0 && from != to)
        dup2(from, to);
}

/* Slurm signals every process of a step, children too: what these mean is their master's affair, who stops them in his
 * own way. */
static void leave_signals_to_the_master(void)
{
    static const int number[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

    for (size_t i = 0; i < sizeof number / sizeof number[0]; i++)
        signal(number[i], SIG_IGN);
}

static _Noreturn void become(const child_spec *c, pid_t parent)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd = c->fd;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    leave_signals_to_the_master();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    if (fd >= 0 && fd < 4) /* out of the way of 0 to 3 */
        fd = fcntl(fd, F_DUPFD, 4);
    place_fd(null, 0);
    place_fd(c->out, 1);
    place_fd(c->err, 2);
    place_fd(fd, 3);
    close_range(fd >= 0 ? 4 : 3, ~0U, 0);
    if (c->threads > 0)
        set_threads(c->threads);
    if (c->cores)
        node_cores_use(c->cores, NULL); /* refused: slower, not wrong */
    for (const char *const *v = c->env; v && *v; v++)
        putenv((char *)(uintptr_t)*v);
    offer_to_oom_killer();
    set_limits(c->memory);
    execv(c->argv[0], (char *const *)(uintptr_t)c->argv);
    _exit(127);
}

int child_start(pid_t *pid, const child_spec *c, err *e)
{
    pid_t parent = getpid();

    if (access(c->argv[0], X_OK) != 0)
        return err_set(e, ERR_INPUT, "%s cannot be run: %s", c->argv[0], strerror(errno));
    *pid = fork();
    if (*pid < 0)
        return err_set(e, ERR_MEMORY, "cannot start another process: %s", strerror(errno));
    if (*pid == 0)
        become(c, parent);
    setpgid(*pid, *pid); /* also here, so that it holds before the child comes to run */
    return 0;
}

void child_ending(int status, char *out, size_t room)
{
    if (WIFSIGNALED(status))
        snprintf(out, room, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, room, "exit status %d", WEXITSTATUS(status));
}

static int drain(int fd, str *text, size_t most, err *e)
{
    char chunk[65536];
    ssize_t n;

    while ((n = read(fd, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ERR_IO, "reading its output: %s", strerror(errno));
        if (text->n + (size_t)n > most)
            return err_set(e, ERR_PEER, "it writes more than %zu bytes", most);
        str_put(text, chunk, (size_t)n);
    }
    return 0;
}

int child_output(const char *const *argv, char **out, size_t *n, size_t most, int *status, err *e)
{
    str text = {0};
    child_spec c = {.argv = argv, .fd = -1, .err = -1};
    int ends[2], rc;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_set(e, ERR_IO, "a pipe: %s", strerror(errno));
    c.out = ends[1];
    rc = child_start(&pid, &c, e);
    close(ends[1]);
    if (rc == 0) {
        rc = drain(ends[0], &text, most, e);
        if (rc != 0)
            kill(pid, SIGKILL);
        while (waitpid(pid, status, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    str_put(&text, "", 1); /* terminated also when it said nothing */
    *n = text.n - 1;
    *out = text.at;
    if (rc != 0) {
        str_free(&text);
        *out = NULL;
        return err_wrap(e, "%s", fs_base(argv[0]));
    }
    return 0;
}
