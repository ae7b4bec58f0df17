/* A block of a kernel on one CPU: its threads are fibers, which run one at a time, each until it comes to a barrier. See
 * standin.h for what that finds. */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sys/mman.h>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "tests/trainer/nn/cuda/standin/standin.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

/* Not seen through: after a jump every variable may be another. */
#ifdef __clang__
#define OPAQUE __attribute__((noinline, optnone, no_sanitize("address")))
#else
#define OPAQUE __attribute__((noipa, no_sanitize("address")))
#endif

enum { MOST_THREADS = 1024, STACK = 256 << 10, SLOT = 24, LINE = 64 };
enum state { READY, AT_BLOCK, AT_WARP, ENDED };

/* A stack and where what runs on it goes on. Kept for ever: one that is free waits in live() for its next thread. */
struct fiber {
    void *at[5]; /* of __builtin_setjmp */
    ucontext_t first;
};

struct thread {
    state is;
    unsigned turn; /* which of a warp's two tables its next exchange uses */
    fiber *on;     /* NULL: it has not begun */
};

/* Threads that a barrier holds together: how many there are, wait at it, and have ended. */
struct company {
    unsigned size, waiting, ended;
};

thread threads[MOST_THREADS];
company warps[MOST_THREADS / STANDIN_WARP], whole;
dim3 places[MOST_THREADS]; /* a thread's threadIdx */
unsigned count, running; /* of the block; the thread whose turn it is */
std::vector<unsigned> order;
size_t cursor;           /* where in `order` the block's loop is */
fiber pool[MOST_THREADS]; /* no more are ever needed: each that is made is one thread's, or idle */
std::vector<fiber *> idle;
fiber *fresh;            /* begins with the thread that is running */
size_t stacks;
void *home[5];           /* where the block's loop goes on */
ucontext_t nowhere;
const std::function<void()> *body;
alignas(16) unsigned char table[MOST_THREADS / STANDIN_WARP][2][STANDIN_WARP * SLOT];

/* A copy to shared memory that has begun; `group`: how many its thread had closed. */
struct copy {
    void *to;
    const void *from;
    size_t bytes, group;
};

std::vector<copy> copies[MOST_THREADS];
size_t groups[MOST_THREADS]; /* closed by a thread */

/* Work that a thread has begun; `group` as a copy's. */
struct delayed {
    std::function<void()> work;
    size_t group;
};

std::vector<delayed> works[MOST_THREADS];
size_t work_groups[MOST_THREADS];

/* In a word of shared memory: gifts that are still to come, how many there are, how often it has passed. */
struct signal {
    uint16_t left, count;
    uint32_t passed;
};

size_t turns, in_vain, stuck; /* turns of threads in a round, those that ended at a signal, rounds in which all did */
enum { STUCK_MOST = 1000 };
uint64_t launches;

[[noreturn]] void stray(const char *why)
{
    fprintf(stderr, "stand-in: block %u,%u,%u thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z, running, why);
    abort();
}

/* A function of its own: the compiler must not see that a jump can come back to where it was made. */
[[noreturn]] OPAQUE void go_on(void **to)
{
    __builtin_longjmp(to, 1);
}

/* Goes on at `to`, and returns when somebody goes on at `from`. No system call, unlike swapcontext: a block of attention
 * changes fibers ten thousand times. */
OPAQUE void hop(void **from, void **to)
{
    if (__builtin_setjmp(from) == 0)
        go_on(to);
}

void turn_to(unsigned t)
{
    running = t;
    threadIdx = places[t];
    turns++;
}

/* Goes on with the next thread of the block's loop that can, and returns when this one's turn comes. Only for one that has not
 * begun the way is through the loop itself. */
void pass_on(void **from)
{
    for (; cursor + 1 < order.size(); cursor++) {
        const thread &next = threads[order[cursor + 1]];
        if (next.is != READY)
            continue;
        if (!next.on)
            break;
        turn_to(order[++cursor]);
        return hop(from, next.on->at);
    }
    hop(from, home);
}

/* The next thread of the block's loop, where it has not begun: it can have the stack of one that has ended, and a kernel
 * without barriers is a plain loop. */
bool next_begins()
{
    if (cursor + 1 >= order.size() || threads[order[cursor + 1]].is != READY || threads[order[cursor + 1]].on)
        return false;
    turn_to(order[++cursor]);
    return true;
}

OPAQUE void live()
{
    fiber *me = fresh;

    for (;;) {
        threads[running].on = me;
        (*body)();
        if (!copies[running].empty())
            stray("it ends without having waited for its copies");
        if (!works[running].empty())
            stray("it ends without having waited for its products");
        threads[running].is = ENDED;
        warps[running / STANDIN_WARP].ended++;
        whole.ended++;
        if (next_begins())
            continue;
        idle.push_back(me);
        pass_on(me->at);
    }
}

/* Tops of stacks are no power of two apart, or they would all want the same lines of the cache. */
OPAQUE void begin_fiber()
{
    char *stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED)
        stray("no memory for its stack");
    fresh = &pool[stacks];
    getcontext(&fresh->first);
    fresh->first.uc_stack.ss_sp = stack;
    fresh->first.uc_stack.ss_size = STACK - stacks++ % 61 * 5 * LINE;
    makecontext(&fresh->first, live, 0);
    if (__builtin_setjmp(home) == 0)
        swapcontext(&nowhere, &fresh->first);
}

/* One thread's turn, until its next barrier. */
void resume(unsigned t)
{
    fiber *on = threads[t].on;

    turn_to(t);
    if (!on && !idle.empty()) {
        on = idle.back();
        idle.pop_back();
    }
    if (on)
        hop(home, on->at);
    else
        begin_fiber();
}

void wait_at(state where)
{
    threads[running].is = where;
    (where == AT_WARP ? warps[running / STANDIN_WARP] : whole).waiting++;
    pass_on(threads[running].on->at);
}

/* Lets go those of a company, the first of them `from`, that wait at such a barrier, when all that have not ended do. */
bool release(company &c, unsigned from, state where)
{
    if (c.waiting == 0 || c.waiting + c.ended < c.size)
        return false;
    for (unsigned t = from; t < from + c.size; t++)
        if (threads[t].is == where)
            threads[t].is = READY;
    c.waiting = 0;
    return true;
}

/* One turn each; false: all have ended. */
bool one_round()
{
    bool moved = false;

    turns = in_vain = 0;
    for (cursor = 0; cursor < order.size(); cursor++)
        if (threads[order[cursor]].is == READY) {
            resume(order[cursor]);
            moved = true;
        }
    for (unsigned t = 0; t < count; t += STANDIN_WARP)
        moved |= release(warps[t / STANDIN_WARP], t, AT_WARP);
    moved |= release(whole, 0, AT_BLOCK);
    stuck = turns == in_vain ? stuck + 1 : 0;
    if (whole.ended < count && stuck > STUCK_MOST)
        stray("it waits for a signal that others do not give");
    if (whole.ended < count && !moved)
        stray("it waits at a barrier that others do not reach");
    return whole.ended < count;
}

void run_block()
{
    for (unsigned t = 0; t < count; t++) {
        threads[t] = thread{READY, 0, nullptr};
        groups[t] = work_groups[t] = 0;
    }
    whole = company{count, 0, 0};
    for (unsigned t = 0; t < count; t += STANDIN_WARP)
        warps[t / STANDIN_WARP] = company{std::min<unsigned>(STANDIN_WARP, count - t), 0, 0};
    while (one_round())
        ;
}

/* 0 .. n - 1 in an order that looks like chance and is this launch's own. */
std::vector<unsigned> shuffled(unsigned n, uint64_t chance)
{
    std::vector<unsigned> out(n);

    std::iota(out.begin(), out.end(), 0u);
    for (unsigned i = n; i > 1; i--) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        std::swap(out[i - 1], out[(chance >> 33) % i]);
    }
    return out;
}

void run_grid(dim3 grid, dim3 block, const std::function<void()> &thread_body)
{
    const std::vector<unsigned> which = shuffled(grid.x * grid.y * grid.z, ++launches);

    body = &thread_body;
    gridDim = grid;
    blockDim = block;
    count = block.x * block.y * block.z;
    order = shuffled(count, launches);
    for (unsigned t = 0; t < count; t++)
        places[t] = dim3(t % block.x, t / block.x % block.y, t / block.x / block.y);
    for (unsigned b : which) {
        blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
        run_block();
    }
}

/* As a device has it. */
bool fits(dim3 grid, dim3 block)
{
    return grid.x && grid.y && grid.z && block.x && block.y && block.z && grid.x <= INT32_MAX && grid.y <= 65535
           && grid.z <= 65535 && (uint64_t)block.x * block.y * block.z <= MOST_THREADS && block.z <= 64;
}

} // namespace

void standin_refuse(cudaError_t rc); /* standin_runtime.cpp: what cudaGetLastError says next */

void standin_launch(dim3 grid, dim3 block, cudaStream_t s, std::function<void()> thread_body)
{
    if (!fits(grid, block))
        return standin_refuse(cudaErrorInvalidValue);
    standin_refuse(standin_do(s, [=] { run_grid(grid, block, thread_body); }));
}

void standin_block_barrier()
{
    wait_at(AT_BLOCK);
}

/* The next exchange uses the warp's other table: nobody is two barriers ahead of one who still reads. */
const void *standin_gather(const void *mine, size_t bytes)
{
    unsigned char *slots = table[running / STANDIN_WARP][threads[running].turn++ % 2];

    if (bytes > SLOT)
        stray("an exchange of too much");
    memcpy(slots + running % STANDIN_WARP * bytes, mine, bytes);
    wait_at(AT_WARP);
    return slots;
}

void standin_exchange(void *mine, size_t bytes, unsigned from)
{
    if (from >= STANDIN_WARP)
        stray("an exchange with a lane that there is not");
    memcpy(mine, (const unsigned char *)standin_gather(mine, bytes) + from * bytes, bytes);
}

void *standin_at(const void *place, size_t bytes)
{
    if ((uintptr_t)place % bytes != 0)
        stray("a place that is not a multiple of what is read there");
    return (void *)(uintptr_t)place;
}

/* ---- copies that a thread does not wait for at once ---- */

void standin_copy_begin(void *to, const void *from, size_t bytes)
{
    copies[running].push_back(copy{to, from, bytes, groups[running]});
}

void standin_copy_group()
{
    groups[running]++;
}

void standin_copy_wait(size_t left)
{
    std::vector<copy> &mine = copies[running];
    size_t n = 0;

    for (; n < mine.size() && mine[n].group + left < groups[running]; n++)
        if (mine[n].from)
            memcpy(mine[n].to, mine[n].from, mine[n].bytes);
        else
            memset(mine[n].to, 0, mine[n].bytes);
    mine.erase(mine.begin(), mine.begin() + (ptrdiff_t)n);
}

/* ---- work that is done when it is waited for ---- */

void standin_later(std::function<void()> work)
{
    works[running].push_back(delayed{std::move(work), work_groups[running]});
}

void standin_later_group()
{
    work_groups[running]++;
}

void standin_later_wait(size_t left)
{
    std::vector<delayed> &mine = works[running];
    size_t n = 0;

    for (; n < mine.size() && mine[n].group + left < work_groups[running]; n++)
        mine[n].work();
    mine.erase(mine.begin(), mine.begin() + (ptrdiff_t)n);
}

/* ---- signals ---- */

void standin_signal_begin(uint64_t *s, unsigned n)
{
    const signal fresh_one = {(uint16_t)n, (uint16_t)n, 0};

    static_assert(sizeof fresh_one == sizeof *s, "a signal is a word");
    memcpy(s, &fresh_one, sizeof fresh_one);
}

void standin_signal_give(uint64_t *s)
{
    signal it;

    memcpy(&it, s, sizeof it);
    if (--it.left == 0) {
        it.left = it.count;
        it.passed++;
    }
    memcpy(s, &it, sizeof it);
}

void standin_signal_wait(uint64_t *s, unsigned odd)
{
    signal it;

    for (memcpy(&it, s, sizeof it); it.passed % 2 == odd; memcpy(&it, s, sizeof it)) {
        in_vain++;
        pass_on(threads[running].on->at);
    }
}
