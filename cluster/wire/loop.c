/* Handlers stand in a table by descriptor; an event whose handler has gone meanwhile is dropped there. */
#include "cluster/wire/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cluster/base/mem.h"

enum { BATCH = 256 };

typedef struct { loop_fn *fn; void *arg; bool writing; } handler;
struct loop {
    int epoll, signals;
    handler *of;
    int room;
    loop_signal_fn *on_signal;
    void *signal_arg;
};

loop *loop_new(void)
{
    loop *l = NEW(loop);

    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->signals = -1;
    CHECK(l->epoll >= 0);
    return l;
}

void loop_free(loop *l)
{
    if (!l)
        return;
    if (l->signals >= 0)
        close(l->signals);
    close(l->epoll);
    free(l->of);
    free(l);
}

static void control(loop *l, int how, int fd, bool writing)
{
    struct epoll_event ev = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.fd = fd};

    CHECK(epoll_ctl(l->epoll, how, fd, &ev) == 0);
}

void loop_add(loop *l, int fd, loop_fn *fn, void *arg)
{
    for (; fd >= l->room; l->room++) {
        l->of = mem_grow(l->of, (size_t)l->room + 1, sizeof *l->of);
        l->of[l->room] = (handler){0};
    }
    control(l, EPOLL_CTL_ADD, fd, false);
    l->of[fd] = (handler){.fn = fn, .arg = arg};
}

void loop_write(loop *l, int fd, bool want)
{
    if (l->of[fd].writing == want)
        return;
    l->of[fd].writing = want;
    control(l, EPOLL_CTL_MOD, fd, want);
}

void loop_drop(loop *l, int fd)
{
    epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
    l->of[fd] = (handler){0};
}

void loop_turn(loop *l, int timeout_ms)
{
    struct epoll_event ev[BATCH];
    int n = epoll_wait(l->epoll, ev, BATCH, timeout_ms);

    CHECK(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++) {
        handler h = l->of[ev[i].data.fd];
        if (h.fn)
            h.fn(h.arg, ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR), ev[i].events & EPOLLOUT);
    }
}

static void on_signals(void *arg, bool readable, bool writable)
{
    loop *l = arg;
    struct signalfd_siginfo s;

    (void)readable, (void)writable;
    while (read(l->signals, &s, sizeof s) == sizeof s)
        l->on_signal(l->signal_arg, (int)s.ssi_signo);
}

void loop_signals(loop *l, loop_signal_fn *fn, void *arg, const int *signals)
{
    sigset_t set;

    sigemptyset(&set);
    for (const int *s = signals; *s >= 0; s++)
        sigaddset(&set, *s);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    l->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(l->signals >= 0);
    l->on_signal = fn;
    l->signal_arg = arg;
    loop_add(l, l->signals, on_signals, l);
}
