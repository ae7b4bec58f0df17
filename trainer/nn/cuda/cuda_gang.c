/* A gang of GPUs: NCCL's all-reduce over the devices' memory, beside the wire that the gang has anyway, which carries what
 * is small or of the host. NCCL is opened when the first gang is joined (libnccl.so.2, or what CFARM_NCCL names), so that
 * everything else runs without it.
 *
 * Nobody waits for ever: a communicator is made and used without blocking, and a rank that hears nothing for the timeout,
 * or of whom NCCL says that another is lost, aborts it and returns ERR_PEER. Communicators are kept: the same ranks that
 * meet again, as a farm's workers do concept after concept, need no new one. */
#include <dlfcn.h>
/* Older headers of NCCL (2.20, beside CUDA 12.4) name bf16 only where C++ has seen CUDA's type. */
#ifndef __CUDA_BF16_TYPES_EXIST__
#define __CUDA_BF16_TYPES_EXIST__
#endif
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/comm/comm_impl.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

/* ---- the library ---- */

#define NCCL_FUNCTIONS(F)                                                                                    \
    F(GetUniqueId) F(CommInitRankConfig) F(CommGetAsyncError) F(CommAbort) F(CommDestroy) F(CommFinalize)    \
    F(AllReduce) F(GetErrorString)

static struct {
    void *library;
#define F(NAME) __typeof__(nccl##NAME) *NAME;
    NCCL_FUNCTIONS(F)
#undef F
} nccl;

static int find(void *to, const char *name, err *e)
{
    void *at = dlsym(nccl.library, name);

    if (!at)
        return err_set(e, ERR_DEVICE, "this NCCL has no %s; version 2.18 or a later one is needed", name);
    memcpy(to, &at, sizeof at);
    return 0;
}

static int open_library(err *e)
{
    const char *given = getenv("CFARM_NCCL");

    if (nccl.GetErrorString) /* the last that is looked for */
        return 0;
    if (!nccl.library)
        nccl.library = dlopen(given ? given : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!nccl.library)
        return err_set(e, ERR_DEVICE, "a gang of GPUs needs NCCL, or reduce: exact: %s", dlerror());
#define F(NAME) TRY(find(&nccl.NAME, "nccl" #NAME, e));
    NCCL_FUNCTIONS(F)
#undef F
    return 0;
}

/* ---- gangs ---- */

enum { RANKS_MOST = 64, KEPT_MOST = 8 };

/* A process that is in a gang, as no other ever: a number, and which device of which machine it has. */
typedef struct { uint64_t process, device; } member;

/* Made for these ranks, in this order. */
struct cuda_joined {
    ncclComm_t with;
    int rank, size;
    member of[RANKS_MOST];
};

typedef struct {
    comm base;
    comm *under;       /* the gang as it came: taken over */
    nn_backend *b;
    cuda *on;
    ncclComm_t with;
    double timeout;
    cudaStream_t sums;   /* beside the device's own stream */
    cudaEvent_t turn;
    void *half;          /* for what travels in bf16 */
    size_t half_bytes;
} gang;

static int refused(const gang *g, ncclResult_t rc, err *e)
{
    if (rc == ncclInvalidUsage)
        return err_set(e, ERR_PEER, "NCCL: %s; do two ranks of the gang share a GPU? then reduce: exact can join them",
                       nccl.GetErrorString(rc));
    return err_set(e, ERR_PEER, "NCCL, rank %d of %d: %s", g->base.rank, g->base.size, nccl.GetErrorString(rc));
}

static void *abort_one(void *with)
{
    nccl.CommAbort(with);
    return NULL;
}

/* An abort waits until all graphs are gone that its sums were recorded into (until 2.21 in the thread that calls it, later in one
 * of NCCL's own), and who has those learns of the loss only when we return: so another thread waits. */
static void give_up(ncclComm_t with)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, abort_one, with) == 0)
        pthread_detach(thread);
    else
        nccl.CommAbort(with);
}

/* Forgets a communicator that is of no more use. */
static void drop(gang *g)
{
    for (size_t i = 0; i < g->on->joined_n; i++)
        if (g->on->joined[i].with == g->with)
            g->on->joined[i] = g->on->joined[--g->on->joined_n];
    if (g->with)
        give_up(g->with);
    g->with = NULL;
}

static void rest(void)
{
    usleep(20); /* an all-reduce of 38 MB takes 200 */
}

/* Waits until the communicator has taken what it was asked. */
static int taken(gang *g, ncclResult_t rc, err *e)
{
    const double late = clock_s() + g->timeout;

    while (rc == ncclInProgress) {
        ncclResult_t now = nccl.CommGetAsyncError(g->with, &rc);
        rc = now == ncclSuccess ? rc : now;
        if (rc == ncclInProgress && clock_s() > late) {
            drop(g);
            return err_set(e, ERR_PEER, "NCCL, rank %d of %d: the others have not come within %.0f s", g->base.rank,
                           g->base.size, g->timeout);
        }
        if (rc == ncclInProgress)
            rest();
    }
    if (rc == ncclSuccess)
        return 0;
    refused(g, rc, e);
    drop(g);
    return ERR_PEER;
}

/* Waits until the stream has done all of it, or somebody is lost. */
static int done(gang *g, err *e)
{
    const double late = clock_s() + g->timeout;
    ncclResult_t rc = ncclSuccess;

    for (;;) {
        cudaError_t state = cudaStreamQuery(g->on->stream);
        if (state == cudaSuccess)
            return 0;
        if (state != cudaErrorNotReady)
            return err_set(e, ERR_DEVICE, "%s: a gang's sum: %s", g->on->name, cudaGetErrorString(state));
        cudaGetLastError(); /* it is no error */
        if (nccl.CommGetAsyncError(g->with, &rc) != ncclSuccess || (rc != ncclSuccess && rc != ncclInProgress)) {
            refused(g, rc, e);
            drop(g);
            return ERR_PEER;
        }
        if (clock_s() > late) {
            drop(g);
            return err_set(e, ERR_PEER, "NCCL, rank %d of %d: a sum is not done after %.0f s; a rank is lost", g->base.rank,
                           g->base.size, g->timeout);
        }
        rest();
    }
}

/* ---- the wire ---- */

static int gang_sum(comm *c, float *buf, size_t n, err *e)
{
    comm *under = ((gang *)c)->under;

    return under->wire->sum(under, buf, n, e);
}

static int gang_broadcast(comm *c, void *buf, size_t bytes, int root, err *e)
{
    comm *under = ((gang *)c)->under;

    return under->wire->broadcast(under, buf, bytes, root, e);
}

static int gang_agree(comm *c, const err *mine, err *e)
{
    comm *under = ((gang *)c)->under;

    return under->wire->agree(under, mine, e);
}

static void part(gang *g)
{
    if (g->sums)
        cudaStreamDestroy(g->sums);
    if (g->turn)
        cudaEventDestroy(g->turn);
    if (g->half)
        g->b->release(g->b, g->half);
    free(g);
}

/* The communicator stays with the device. */
static void gang_free(comm *c)
{
    gang *g = (gang *)c;

    g->under->wire->free(g->under);
    part(g);
}

static int still_whole(const gang *g, err *e)
{
    return g->with ? 0 : err_set(e, ERR_PEER, "the gang of GPUs has broken up");
}

static int gang_sum_devices(comm *c, float *device, size_t n, err *e)
{
    gang *g = (gang *)c;

    TRY(still_whole(g, e));
    TRY(taken(g, nccl.AllReduce(device, device, n, ncclFloat32, ncclSum, g->with, g->on->stream), e));
    return done(g, e);
}

/* ---- sums beside the work ---- */

/* Everything asked of `after` from here on comes behind what `before` was asked. */
static int follow(gang *g, cudaStream_t after, cudaStream_t before, err *e)
{
    TRY(cuda_told(g->on, cudaEventRecord(g->turn, before), "an event", e));
    return cuda_told(g->on, cudaStreamWaitEvent(after, g->turn, 0), "a stream's turn", e);
}

/* What is rounded travels through memory of its own: sums come one behind the other there, so the largest is enough. */
static int room_for_half(gang *g, size_t bytes, err *e)
{
    if (bytes <= g->half_bytes)
        return 0;
    if (g->half)
        g->b->release(g->b, g->half);
    g->half = NULL;
    g->half_bytes = 0;
    TRY(g->b->alloc(g->b, &g->half, bytes, e));
    g->half_bytes = bytes;
    return 0;
}

static int gang_begin_sum(comm *c, float *device, size_t n, dtype as, err *e)
{
    gang *g = (gang *)c;
    cudaStream_t s = g->sums;

    TRY(still_whole(g, e));
    if (as == BF16)
        TRY(room_for_half(g, n * 2, e));
    TRY(follow(g, s, g->on->stream, e));
    if (as == F32)
        return taken(g, nccl.AllReduce(device, device, n, ncclFloat32, ncclSum, g->with, s), e);
    TRY(cuda_told(g->on, k_cast(s, g->half, CUDA_BF16, device, CUDA_F32, (int64_t)n), "rounding a sum", e));
    TRY(taken(g, nccl.AllReduce(g->half, g->half, n, ncclBfloat16, ncclSum, g->with, s), e));
    return cuda_told(g->on, k_cast(s, device, CUDA_F32, g->half, CUDA_BF16, (int64_t)n), "a rounded sum", e);
}

static int gang_end_sums(comm *c, err *e)
{
    gang *g = (gang *)c;

    return follow(g, g->on->stream, g->sums, e);
}

static int gang_wait_devices(comm *c, err *e)
{
    gang *g = (gang *)c;

    TRY(still_whole(g, e));
    return done(g, e);
}

/* ---- joining ---- */

/* The slot of the bus, and the machine's boot: containers of one machine have the same. Parts of one GPU (MIG) have one slot. */
static int device_of(uint64_t *out, const cuda *on, err *e)
{
    static const char BOOT[] = "/proc/sys/kernel/random/boot_id";
    char bus[32], boot[64];
    FILE *f = fopen(BOOT, "r");
    bool told = f && fgets(boot, sizeof boot, f);

    if (f)
        fclose(f);
    if (!told)
        return err_set(e, ERR_IO, "%s: cannot be read, and tells this machine from others", BOOT);
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, on->device) != cudaSuccess)
        return err_set(e, ERR_DEVICE, "%s: no place on the bus", on->name);
    *out = (uint64_t)hash_crc32(0, boot, strlen(boot)) << 32 | hash_crc32(0, bus, strlen(bus));
    return 0;
}

/* Who is in it, told in turns by each. */
static int meet(const gang *g, struct cuda_joined *j, err *e)
{
    static uint64_t self;

    if (!self && getentropy(&self, sizeof self) != 0)
        return err_set(e, ERR_IO, "no random numbers from the system");
    *j = (struct cuda_joined){.rank = g->base.rank, .size = g->base.size};
    j->of[j->rank].process = self;
    TRY(device_of(&j->of[j->rank].device, g->on, e));
    for (int r = 0; r < j->size; r++)
        TRY(g->under->wire->broadcast(g->under, &j->of[r], sizeof j->of[r], r, e));
    return 0;
}

static bool share_a_gpu(const struct cuda_joined *j)
{
    for (int a = 0; a < j->size; a++)
        for (int b = 0; b < a; b++)
            if (j->of[a].device == j->of[b].device)
                return true;
    return false;
}

static ncclComm_t kept(const cuda *on, const struct cuda_joined *j)
{
    for (size_t i = 0; i < on->joined_n; i++)
        if (on->joined[i].rank == j->rank && on->joined[i].size == j->size
            && memcmp(on->joined[i].of, j->of, (size_t)j->size * sizeof *j->of) == 0)
            return on->joined[i].with;
    return NULL;
}

/* The oldest goes when there are many. */
static void keep(cuda *on, const struct cuda_joined *j)
{
    if (on->joined_n == KEPT_MOST) {
        nccl.CommDestroy(on->joined[0].with);
        memmove(on->joined, on->joined + 1, --on->joined_n * sizeof *on->joined);
    }
    on->joined = mem_grow(on->joined, on->joined_n + 1, sizeof *on->joined);
    on->joined[on->joined_n++] = *j;
}

static int make(gang *g, struct cuda_joined *j, err *e)
{
    ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id = {{0}};
    err mine = {0};

    how.blocking = 0;
    if (j->rank == 0) {
        ncclResult_t rc = nccl.GetUniqueId(&id);
        if (rc != ncclSuccess)
            refused(g, rc, &mine);
    }
    TRY(g->under->wire->agree(g->under, &mine, e));
    TRY(g->under->wire->broadcast(g->under, &id, sizeof id, 0, e));
    ncclResult_t rc = nccl.CommInitRankConfig(&g->with, j->size, id, j->rank, &how);
    int ended = taken(g, rc, &mine);
    if (g->under->wire->agree(g->under, &mine, e) != 0) { /* the others may stand where this one does not */
        if (ended == 0)
            drop(g);
        return (int)e->code;
    }
    j->with = g->with;
    keep(g->on, j);
    return 0;
}

/* A communicator is taken again only if all have it. NCCL joins none whose ranks share a GPU: g->with stays NULL. */
static int join(gang *g, err *e)
{
    struct cuda_joined j;
    float have;

    TRY(meet(g, &j, e));
    if (share_a_gpu(&j))
        return 0;
    g->with = kept(g->on, &j);
    have = g->with ? 1.0f : 0.0f;
    TRY(g->under->wire->sum(g->under, &have, 1, e));
    if ((int)have == j.size)
        return 0;
    if (g->with)
        drop(g);
    return make(g, &j, e);
}

int cuda_join(nn_backend *b, comm **io, double timeout_s, err *e)
{
    static const comm_wire wire = {gang_sum, gang_broadcast, gang_agree, gang_free, gang_sum_devices, gang_begin_sum, gang_end_sums,
                                   gang_wait_devices};
    err mine = {0}, said = {0};

    if (!e)
        e = &said;
    CHECK((*io)->size <= RANKS_MOST);
    open_library(&mine);
    TRY((*io)->wire->agree(*io, &mine, e));
    TRY(cudaSetDevice(cuda_of(b)->device) == cudaSuccess ? 0 : err_set(e, ERR_DEVICE, "%s cannot be used", b->name));
    gang *g = NEW(gang);
    *g = (gang){.base = {&wire, (*io)->rank, (*io)->size}, .under = *io, .b = b, .on = cuda_of(b), .timeout = timeout_s};
    int rc = join(g, e);
    if (rc == 0)
        rc = cuda_told(g->on, cudaStreamCreateWithFlags(&g->sums, cudaStreamNonBlocking), "a stream", e);
    if (rc == 0)
        rc = cuda_told(g->on, cudaEventCreateWithFlags(&g->turn, cudaEventDisableTiming), "an event", e);
    if (rc == 0 && g->with)
        *io = &g->base;
    else
        part(g);
    return rc;
}

/* NCCL's work for it is over, within the time: what it has yet goes with the process. (Destroying it is done by a thread of NCCL's
 * that nobody can wait for, and which the process's end would meet.) */
static void retire(ncclComm_t with)
{
    const double late = clock_s() + 2.0;
    ncclResult_t now = ncclSuccess, rc = nccl.CommFinalize(with);

    while (now == ncclSuccess && rc == ncclInProgress && clock_s() < late) {
        rest();
        now = nccl.CommGetAsyncError(with, &rc);
    }
}

void cuda_part(cuda *c)
{
    for (size_t i = 0; i < c->joined_n; i++)
        retire(c->joined[i].with);
    free(c->joined);
}
