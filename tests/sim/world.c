/* Events in the order of their time, and coroutines. */
#include "tests/sim/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "cluster/base/mem.h"

enum { STACK = 512 << 10, FIRST_PID = 1000 };

world_state world;

typedef struct {
    int64_t at;
    uint64_t order;
    void (*fn)(void *arg);
    void *arg;
    const unsigned *of;
    unsigned version;
} event;

static event *heap;
static int heap_n, heap_room;
static uint64_t order;

/* ---- lots ------------------------------------------------------------------------------------------------------ */

static uint64_t next(void)
{
    uint64_t z = world.state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t lot(uint32_t n) { return (uint32_t)((next() >> 32) * n >> 32); }
double lot_real(void) { return (double)(next() >> 11) * 0x1p-53; }
bool chance(double p) { return lot_real() < p; }

/* ---- words ----------------------------------------------------------------------------------------------------- */

void world_break(const char *law, const char *fmt, ...)
{
    va_list args;

    if (world.broken)
        return;
    world.broken = law;
    va_start(args, fmt);
    vsnprintf(world.detail, sizeof world.detail, fmt, args);
    va_end(args);
}

void world_say(const char *fmt, ...)
{
    va_list args;

    if (!world.trace)
        return;
    fprintf(stderr, "%10.4f  ", (double)world.now * 1e-9);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

static bool earlier(const event *a, const event *b) { return a->at != b->at ? a->at < b->at : a->order < b->order; }

void world_at(int64_t when, void (*fn)(void *arg), void *arg, const unsigned *of)
{
    event ev = {.at = when > world.now ? when : world.now, .order = order++, .fn = fn, .arg = arg, .of = of,
                .version = of ? *of : 0};
    int at = heap_n++;

    if (heap_n > heap_room) {
        heap_room = heap_room ? 2 * heap_room : 256;
        heap = mem_grow(heap, (size_t)heap_room, sizeof *heap);
    }
    for (; at > 0 && earlier(&ev, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = ev;
}

static event take(void)
{
    event first = heap[0], last = heap[--heap_n];
    int at = 0;

    for (int child; (child = 2 * at + 1) < heap_n; at = child) {
        if (child + 1 < heap_n && earlier(&heap[child + 1], &heap[child]))
            child++;
        if (!earlier(&heap[child], &last))
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

bool world_next(void)
{
    event ev;

    do {
        if (heap_n == 0)
            return false;
        ev = take();
    } while (ev.of && *ev.of != ev.version);
    world.now = ev.at;
    world.events++;
    ev.fn(ev.arg);
    return true;
}

/* ---- processes ------------------------------------------------------------------------------------------------- */

/* Those that have ended stay: others may ask for them by number. Their stacks are used again. */
struct process {
    process *next, *parent;
    process_fn *fn;
    void *arg;
    int pid, host, status;
    bool dead, ready, waits;
    int64_t frozen;
    unsigned version;        /* of its wake */
    unsigned signals;
    char *stack;
    bool begun;
    ucontext_t start;
    jmp_buf at;
};

static process *all, *self;
static int last_pid;
static jmp_buf back;
static char *spare[64];
static int spares;

static char *new_stack(void)
{
    char *at;

    if (spares > 0)
        return spare[--spares];
    at = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void drop_stack(process *p)
{
    if (!p->stack)
        return;
    if (spares < (int)(sizeof spare / sizeof *spare))
        spare[spares++] = p->stack;
    else
        munmap(p->stack, STACK);
    p->stack = NULL;
}

process *process_self(void) { return self; }
int process_pid(const process *p) { return p->pid; }
int process_host(const process *p) { return p->host; }
bool process_alive(const process *p) { return p && !p->dead; }
int process_status(const process *p) { return p->status; }

process *process_find(int pid)
{
    for (process *p = all; p; p = p->next)
        if (p->pid == pid)
            return p;
    return NULL;
}

static void end(process *p, int status)
{
    p->dead = true;
    p->status = status;
    p->version++;
    if (p->parent && !p->parent->dead)
        process_signal(p->parent, 17);
}

static void run_first(void)
{
    int status = 0;

    self->fn(self->arg, &status);
    end(self, status << 8);
    longjmp(back, 1);
}

static void resume(void *arg)
{
    process *p = arg;

    if (p->dead)
        return;
    if (p->frozen > world.now) {
        world_at(p->frozen, resume, p, &p->version);
        return;
    }
    p->version++;
    p->waits = false;
    self = p;
    if (setjmp(back) == 0) {
        if (p->begun)
            longjmp(p->at, 1);
        p->begun = true;
        setcontext(&p->start);
    }
    self = NULL;
    if (p->dead) {
        net_drop_process(p, false);
        hands_drop_process(p);
        drop_stack(p);
    }
}

void process_wait(int64_t until)
{
    process *p = self;

    p->waits = true;
    world_at(until, resume, p, &p->version);
    if (setjmp(p->at) == 0)
        longjmp(back, 1);
}

/* A moment later: nobody is scheduled at once. */
void process_wake(process *p)
{
    if (!p || p->dead || !p->waits)
        return;
    p->version++;
    world_at(world.now + (int64_t)lot(200000), resume, p, &p->version);
}

process *process_start(process_fn *fn, void *arg, int host, process *parent)
{
    process *p = NEW(process);

    *p = (process){.next = all, .parent = parent, .fn = fn, .arg = arg, .pid = ++last_pid, .host = host, .stack = new_stack()};
    all = p;
    getcontext(&p->start);
    p->start.uc_stack.ss_sp = p->stack;
    p->start.uc_stack.ss_size = STACK;
    makecontext(&p->start, run_first, 0);
    world_at(world.now + (int64_t)lot(5000000), resume, p, &p->version);
    return p;
}

/* What dies takes its children along (PR_SET_PDEATHSIG). */
static void die(process *p, int signal)
{
    CHECK(p != self);
    end(p, signal);
    net_drop_process(p, false);
    hands_drop_process(p);
    drop_stack(p);
    for (process *c = all; c; c = c->next)
        if (c->parent == p && !c->dead)
            die(c, 9);
}

void process_signal(process *p, int signal)
{
    if (!p || p->dead)
        return;
    if (signal == 9) {
        die(p, 9);
        return;
    }
    p->signals |= 1u << signal;
    process_wake(p);
}

unsigned process_take_signals(process *p)
{
    unsigned s = p->signals;

    p->signals = 0;
    return s;
}

void process_freeze(process *p, int64_t until)
{
    if (p && !p->dead && until > p->frozen)
        p->frozen = until;
}

void process_orphan(process *p) { p->parent = NULL; }

void process_end_all(void)
{
    for (process *p = all; p; p = p->next)
        if (!p->dead)
            die(p, 9);
}

void world_reset(uint64_t seed)
{
    bool trace = world.trace;

    for (process *p = all, *n; p; p = n) {
        n = p->next;
        drop_stack(p);
        free(p);
    }
    all = self = NULL;
    last_pid = FIRST_PID;
    heap_n = 0;
    order = 0;
    world = (world_state){.seed = seed, .state = seed, .now = SEC, .trace = trace};
}
