/* A gang on one node: a file all its processes map. Every field is meaningful as zero, so whoever comes first
 * creates it by touching it and nobody has to be asked to initialise.
 *
 * A collective is: write to my slot, meet, work on my part of the range over all slots, meet, read. Waiting is a
 * futex, never a spin: cores may be fewer than ranks. A peer that died is found by its pid within POLL; one that
 * hangs, by the timeout. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/comm/comm_impl.h"

enum { MOST_RANKS = 64, POLL_MS = 100 };

typedef struct {
    _Atomic uint32_t size;            /* told by the first, checked by the others */
    _Atomic uint32_t arrived;         /* in this meeting */
    _Atomic uint32_t meetings;        /* finished ones: the futex */
    _Atomic int32_t pid[MOST_RANKS];  /* 0: not here yet */
    err said[MOST_RANKS];             /* comm_agree's slots */
} shm_head;

typedef struct {
    comm base;
    shm_head *head;
    unsigned char *slots;             /* [size][slot] */
    size_t slot, mapped;
    double timeout_s;
} shm_comm;

static float *slot_of(shm_comm *c, int rank) { return (float *)(void *)(c->slots + (size_t)rank * c->slot); }

static int find_the_missing(shm_comm *c, double waited, err *e)
{
    for (int r = 0; r < c->base.size; r++) {
        int pid = atomic_load(&c->head->pid[r]);
        if (pid && kill(pid, 0) != 0 && errno == ESRCH)
            return err_set(e, ERR_PEER, "gang member %d of %d (process %d) is gone", r, c->base.size, pid);
    }
    if (waited > c->timeout_s)
        return err_set(e, ERR_PEER, "gang members did not come to the meeting within %.0f s", c->timeout_s);
    return 0;
}

static int meet(shm_comm *c, err *e)
{
    uint32_t round = atomic_load(&c->head->meetings);
    double from = clock_s();

    if (atomic_fetch_add(&c->head->arrived, 1) + 1 == (uint32_t)c->base.size) {
        atomic_store(&c->head->arrived, 0);
        atomic_fetch_add(&c->head->meetings, 1);
        syscall(SYS_futex, &c->head->meetings, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        return 0;
    }
    while (atomic_load(&c->head->meetings) == round) {
        struct timespec poll = {.tv_nsec = POLL_MS * 1000000L};
        if (syscall(SYS_futex, &c->head->meetings, FUTEX_WAIT, round, &poll, NULL, 0) != 0 && errno == ETIMEDOUT)
            TRY(find_the_missing(c, clock_s() - from, e));
    }
    return 0;
}

/* Adds the slots pairwise over [from, to): 0+1, 2+3, ..., then 0+2, ...; the result stands in slot 0. */
static void add_tree(shm_comm *c, size_t from, size_t to)
{
    for (int step = 1; step < c->base.size; step *= 2)
        for (int r = 0; r + step < c->base.size; r += 2 * step) {
            float *a = slot_of(c, r);
            const float *b = slot_of(c, r + step);
            for (size_t i = from; i < to; i++)
                a[i] += b[i];
        }
}

static int shm_sum(comm *base, float *buf, size_t n, err *e)
{
    shm_comm *c = (shm_comm *)base;
    size_t most = c->slot / sizeof(float), ranks = (size_t)base->size, me = (size_t)base->rank;

    for (size_t at = 0; at < n; at += most) {
        size_t piece = n - at < most ? n - at : most;
        memcpy(slot_of(c, base->rank), buf + at, piece * sizeof(float));
        TRY(meet(c, e));
        add_tree(c, piece * me / ranks, piece * (me + 1) / ranks);
        TRY(meet(c, e));
        memcpy(buf + at, slot_of(c, 0), piece * sizeof(float));
        TRY(meet(c, e)); /* nobody overwrites slot 0 while another still reads it */
    }
    return 0;
}

static int shm_broadcast(comm *base, void *buf, size_t bytes, int root, err *e)
{
    shm_comm *c = (shm_comm *)base;

    for (size_t at = 0; at < bytes; at += c->slot) {
        size_t piece = bytes - at < c->slot ? bytes - at : c->slot;
        if (base->rank == root)
            memcpy(slot_of(c, root), (char *)buf + at, piece);
        TRY(meet(c, e));
        if (base->rank != root)
            memcpy((char *)buf + at, slot_of(c, root), piece);
        TRY(meet(c, e));
    }
    return 0;
}

static int shm_agree(comm *base, const err *mine, err *e)
{
    shm_comm *c = (shm_comm *)base;
    err first = {0};

    c->head->said[base->rank] = *mine;
    TRY(meet(c, e));
    for (int r = base->size - 1; r >= 0; r--)
        if (c->head->said[r].code)
            first = c->head->said[r];
    TRY(meet(c, e));
    return first.code ? err_set(e, first.code, "%s", first.text) : 0;
}

static void shm_free(comm *base)
{
    shm_comm *c = (shm_comm *)base;

    munmap(c->head, c->mapped);
    free(c);
}

static int map_file(shm_comm *c, const char *path, err *e)
{
    size_t head = (sizeof(shm_head) + 4095) / 4096 * 4096;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));

    c->mapped = head + (size_t)c->base.size * c->slot;
    int rc = posix_fallocate(fd, 0, (off_t)c->mapped); /* a full /dev/shm says so here, not as a SIGBUS later */
    void *at = rc == 0 ? mmap(NULL, c->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (rc == 0 && at == MAP_FAILED)
        rc = errno;
    close(fd);
    if (rc != 0)
        return err_set(e, ERR_MEMORY, "%s: %zu bytes to share in a gang of %d: %s", path, c->mapped, c->base.size, strerror(rc));
    c->head = at;
    c->slots = (unsigned char *)at + head;
    return 0;
}

static int join(shm_comm *c, const char *path, err *e)
{
    uint32_t nobody = 0, size = (uint32_t)c->base.size;

    if (!atomic_compare_exchange_strong(&c->head->size, &nobody, size) && nobody != size)
        return err_set(e, ERR_PEER, "%s: a gang of %u, not of %u", path, nobody, size);
    if (atomic_exchange(&c->head->pid[c->base.rank], (int32_t)getpid()) != 0)
        return err_set(e, ERR_PEER, "%s: rank %d is taken", path, c->base.rank);
    TRY(meet(c, e));
    if (c->base.rank == 0)
        unlink(path); /* all have it mapped: nothing is left behind, whatever happens */
    return 0;
}

int comm_shm(comm **out, const char *path, int rank, int size, size_t bytes, double timeout_s, err *e)
{
    static const comm_wire wire = {.sum = shm_sum, .broadcast = shm_broadcast, .agree = shm_agree, .free = shm_free};
    shm_comm *c = NEW(shm_comm);

    CHECK(rank >= 0 && rank < size && size <= MOST_RANKS && bytes > 0);
    *c = (shm_comm){.base = {&wire, rank, size}, .slot = (bytes + 63) / 64 * 64, .timeout_s = timeout_s};
    if (map_file(c, path, e) != 0) {
        free(c);
        return e ? (int)e->code : ERR_MEMORY;
    }
    int rc = join(c, path, e);
    if (rc != 0) {
        shm_free(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}
