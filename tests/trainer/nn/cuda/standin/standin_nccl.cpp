/* The stand-in's NCCL: processes of one machine through a shared file, in which every rank has a place for its numbers. As the
 * real one it knows nothing of ranks that die: the others' sums are just never done, until they are aborted; it adds in an
 * order that turns from element to element, as rings do, and is the same on every rank; it refuses two ranks on one GPU; a
 * call may answer that it is still in progress; and an abort does not return while a graph has sums of the communicator, as
 * that of 2.20 does not. */
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include <cuda_bf16.h>
#include <nccl.h>

#include "tests/trainer/nn/cuda/standin/standin.h"

namespace {

enum { RANKS = 32, NUMBERS = 8 << 20, NAME = 64 };

/* Of shared memory; the numbers of a rank follow, NUMBERS each. */
struct board {
    std::atomic<int> joined;
    std::atomic<uint64_t> put[RANKS], taken[RANKS]; /* sums whose numbers a rank has shown, and has done with */
    char gpu[RANKS][NAME];
    std::atomic<int> made; /* the id's owner has it ready */
};

size_t place_of(int rank)
{
    return (sizeof(board) + 4095) / 4096 * 4096 + (size_t)rank * NUMBERS * sizeof(float);
}

} // namespace

struct standin_nccl {
    int rank, size;
    uint64_t ended = 0; /* sums */
    board *at;
    std::atomic<bool> aborted{false};
    std::shared_ptr<int> recorded = std::make_shared<int>(); /* each graph that has a sum of it, and each replay, has it, too */
    int calls = 0;

    float *numbers(int r) const { return (float *)((char *)at + place_of(r)); }
    bool met() const { return at->joined.load() >= size; }
};

/* Those that are at an end and were not destroyed: as the real ones, the library's until the process is over. */
static std::vector<standin_nccl *> *const retired = new std::vector<standin_nccl *>;

/* Which GPU of the machine this process computes on, as text. */
static std::string gpu_of_process()
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    std::string all = list ? list : "0";

    return all.substr(0, all.find(','));
}

static bool share_a_gpu(const standin_nccl *c)
{
    for (int a = 0; a < c->size; a++)
        for (int b = 0; b < a; b++)
            if (strcmp(c->at->gpu[a], c->at->gpu[b]) == 0)
                return true;
    return false;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
    unsigned long long chance;

    if (getentropy(&chance, sizeof chance) != 0)
        return ncclInvalidUsage;
    snprintf(out->internal, sizeof out->internal, "/dev/shm/cfarm-standin-nccl-%llx", chance);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *how)
{
    size_t bytes = place_of(ranks);
    int fd = open(id.internal, O_RDWR | O_CREAT, 0600);

    if (ranks > RANKS || rank >= ranks || how->blocking || fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        return ncclInvalidArgument;
    void *mem = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mem == MAP_FAILED)
        return ncclInvalidArgument;
    standin_nccl *c = *out = new standin_nccl;
    c->rank = rank;
    c->size = ranks;
    c->at = (board *)mem;
    snprintf(c->at->gpu[rank], NAME, "%s", gpu_of_process().c_str());
    if (c->at->joined.fetch_add(1) + 1 == ranks)
        unlink(id.internal); /* who is in has it */
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *out)
{
    *out = !c->met() || ++c->calls % 3 == 1 ? ncclInProgress : share_a_gpu(c) ? ncclInvalidUsage : ncclSuccess;
    return ncclSuccess;
}

/* The memory stays: what is aborted may still be looked at by work on a stream. */
ncclResult_t ncclCommAbort(ncclComm_t c)
{
    c->aborted = true;
    while (c->recorded.use_count() > 1)
        usleep(1000);
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    retired->push_back(c);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    munmap(c->at, place_of(c->size));
    delete c;
    return ncclSuccess;
}

static float number_at(const void *from, ncclDataType_t type, size_t i)
{
    return type == ncclFloat32 ? ((const float *)from)[i] : (float)((const __nv_bfloat16 *)from)[i];
}

/* As a ring would: rounded to the type behind each addition. */
static float added(float sum, float next, ncclDataType_t type)
{
    return type == ncclFloat32 ? sum + next : (float)__float2bfloat16_rn(sum + next);
}

/* One look: whether the sum that is next here is done. A graph launched again brings its sums again, so they are counted as
 * they end. */
static bool look(standin_nccl *c, ncclDataType_t type, const void *from, void *to, size_t n)
{
    const uint64_t turn = c->ended + 1;

    if (c->aborted)
        return true;
    if (c->at->put[c->rank].load() < turn) {
        for (int r = 0; r < c->size; r++)
            if (c->at->taken[r].load() < turn - 1)
                return false;
        for (size_t i = 0; i < n; i++)
            c->numbers(c->rank)[i] = number_at(from, type, i);
        c->at->put[c->rank] = turn;
    }
    for (int r = 0; r < c->size; r++)
        if (c->at->put[r].load() < turn)
            return false;
    for (size_t i = 0; i < n; i++) {
        size_t first = i * (size_t)c->size / n;
        float sum = c->numbers((int)first)[i];
        for (int k = 1; k < c->size; k++)
            sum = added(sum, c->numbers((int)((first + (size_t)k) % (size_t)c->size))[i], type);
        if (type == ncclFloat32)
            ((float *)to)[i] = sum;
        else
            ((__nv_bfloat16 *)to)[i] = __float2bfloat16_rn(sum);
    }
    c->at->taken[c->rank] = turn;
    c->ended = turn;
    return true;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t, ncclComm_t c, cudaStream_t s)
{
    if (n > NUMBERS)
        return ncclInvalidArgument;
    const std::shared_ptr<int> held = standin_captures(s) ? c->recorded : nullptr;
    cudaError_t rc = standin_do_when(s, [=] {
        (void)held;
        return look(c, type, from, to, n);
    });
    return rc == cudaSuccess ? ncclInProgress : ncclUnhandledCudaError;
}

const char *ncclGetErrorString(ncclResult_t rc)
{
    static const char *const TEXT[] = {"no error", "unhandled cuda error", "invalid argument", "invalid usage",
                                       "remote process exited or there was a network error", "in progress"};

    return TEXT[rc];
}
