/* The hook: `notify.exec EVENT FARM NAME` with CFARM_EVENT, CFARM_FARM, CFARM_NAME, CFARM_RESULT and CFARM_WHY in its
 * environment, one at a time, in the order of events. It is a child that the farm never waits for, and is killed when it takes too long; what it
 * writes goes to logs/notify.log. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/child.h"
#include "scheduler/coord_impl.h"

enum { WAITING_MOST = 1000 };
static const int64_t SECOND = 1000000000, HOOK_PATIENCE = 60 * SECOND, END_PATIENCE = 10 * SECOND;

static bool wanted(const coordinator *c, const char *event)
{
    for (size_t i = 0; c->how->hook && i < c->how->hook_on.n; i++)
        if (strcmp(c->how->hook_on.at[i], event) == 0)
            return true;
    return false;
}

static char *text_of(const char *fmt, const char *a, const char *b)
{
    str s = {0};

    str_add(&s, fmt, a, b);
    return s.at;
}

static void spawn(coordinator *c, const notice *n)
{
    char path[FS_PATH];
    char *env[] = {text_of("CFARM_EVENT=%s%s", n->event, ""), text_of("CFARM_FARM=%s%s", c->l->dir, ""),
                   text_of("CFARM_NAME=%s%s", n->name, ""), text_of("CFARM_WHY=%s%s", n->why, ""),
                   text_of(n->name[0] ? "CFARM_RESULT=%s/out/%s.h5" : "CFARM_RESULT=", c->l->dir, n->name), NULL};
    const char *argv[] = {c->how->hook, n->event, c->l->dir, n->name, NULL};
    child_spec spec = {.argv = argv, .env = (const char *const *)env, .fd = -1, .out = -1, .err = -1};
    err e = {0};

    if (fs_join(path, c->l->dir, "logs/notify.log", &e) == 0)
        spec.out = spec.err = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (child_start(&c->hook_pid, &spec, &e) != 0) {
        c->hook_pid = 0;
        log_event(c->how->log, "notify-failed", TEXT("why", e.text));
    }
    c->hook_ns = clock_ns();
    if (spec.out >= 0)
        close(spec.out);
    for (int i = 0; env[i]; i++)
        free(env[i]);
}

static void next(coordinator *c)
{
    notice first;

    if (c->hook_pid > 0 || c->notices == 0)
        return;
    first = c->notice[0];
    memmove(c->notice, c->notice + 1, (size_t)--c->notices * sizeof *c->notice);
    spawn(c, &first);
    free(first.name);
    free(first.why);
}

void notify(coordinator *c, const char *event, const char *name, const char *why)
{
    if (!wanted(c, event))
        return;
    if (c->notices == WAITING_MOST) {
        log_event(c->how->log, "notify-dropped", TEXT("event", event), TEXT("name", name));
        return;
    }
    c->notice = mem_grow(c->notice, (size_t)c->notices + 1, sizeof *c->notice);
    c->notice[c->notices++] = (notice){.event = event, .name = mem_text(name), .why = mem_text(why ? why : "")};
    next(c);
}

void notify_reap(coordinator *c)
{
    char ending[96];
    int status;

    if (c->hook_pid <= 0 || waitpid(c->hook_pid, &status, WNOHANG) != c->hook_pid)
        return;
    c->hook_pid = 0;
    child_ending(status, ending, sizeof ending);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        log_event(c->how->log, "notify-failed", TEXT("why", ending));
    next(c);
}

void notify_tick(coordinator *c)
{
    if (c->hook_pid > 0 && clock_ns() - c->hook_ns > HOOK_PATIENCE)
        kill(-c->hook_pid, SIGKILL);
    next(c);
}

/* The last news have their time, and no more. */
void notify_end(coordinator *c)
{
    int64_t until = clock_ns() + END_PATIENCE;

    while ((c->hook_pid > 0 || c->notices > 0) && clock_ns() < until) {
        usleep(5000);
        notify_reap(c);
        next(c);
    }
    if (c->hook_pid > 0) {
        kill(-c->hook_pid, SIGKILL);
        while (waitpid(c->hook_pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    for (int i = 0; i < c->notices; i++) {
        free(c->notice[i].name);
        free(c->notice[i].why);
    }
    free(c->notice);
}
