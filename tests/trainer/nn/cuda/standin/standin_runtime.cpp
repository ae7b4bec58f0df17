/* The stand-in's runtime: devices, memory, streams as lists of work, events, graphs. See standin.h. */
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "tests/trainer/nn/cuda/standin/standin.h"

using work = std::function<bool()>; /* false: it is not done yet */

struct standin_graph {
    struct node { work what; std::vector<size_t> after; };
    std::vector<node> list; /* each behind all that it comes after */
};

struct standin_stream {
    std::deque<work> todo;
    std::shared_ptr<standin_graph> capture; /* what is recorded, while it is */
    std::vector<size_t> tail;               /* nodes that the next one comes after */
    bool forked = false;                    /* captured since it waited for a stream that is */
    bool spoiled = false;                   /* something was done that may not be while it is captured */
};

struct standin_event {
    standin_stream *on = nullptr;
    uint64_t wanted = 0, reached = 0;       /* recordings asked for, and done */
    double at = 0.0;
    std::shared_ptr<standin_graph> capture; /* recorded in it last */
    std::vector<size_t> tail;
};

namespace {

/* One lock for everything: who calls from several threads finds a device that does one thing at a time. */
std::recursive_mutex lock;
using guard = std::lock_guard<std::recursive_mutex>;

enum { DEVICES = 16, MANY = 1 << 30 };
struct {
    int devices = 1, driver = CUDART_VERSION, major = 9, links = 0; /* links 0: all */
    size_t memory = (size_t)4 << 30;
    int64_t fail_at = 0;
    cudaError_t fail = cudaSuccess;
    bool plain = false;
    int refuse_at = 0;
} machine;

struct piece { size_t bytes; int device; }; /* device -1: pinned host memory */
std::map<char *, piece> memory;
size_t used[DEVICES];
std::vector<standin_stream *> streams;
thread_local int device;
thread_local cudaError_t last;
cudaError_t broken; /* after a failure of the device nothing works */
int64_t done;

const char *value_of(const std::string &word, const char *key)
{
    size_t n = strlen(key);

    return word.compare(0, n, key) == 0 ? word.c_str() + n : nullptr;
}

void take_word(const std::string &word)
{
    if (const char *v = value_of(word, "devices="))
        machine.devices = atoi(v);
    else if (const char *v = value_of(word, "memory="))
        machine.memory = strtoull(v, nullptr, 10);
    else if (const char *v = value_of(word, "driver="))
        machine.driver = atoi(v);
    else if (const char *v = value_of(word, "major="))
        machine.major = atoi(v);
    else if (const char *v = value_of(word, "links="))
        machine.links = atoi(v);
    else if (const char *v = value_of(word, "fail=")) {
        machine.fail_at = strtoll(v, nullptr, 10);
        std::string what = strchr(v, ':') ? strchr(v, ':') + 1 : "";
        machine.fail = what == "ecc"    ? cudaErrorECCUncorrectable
                       : what == "lost" ? cudaErrorDeviceUninitialized
                                        : cudaErrorIllegalAddress;
    } else if (const char *v = value_of(word, "refuse="))
        machine.refuse_at = atoi(v);
    else if (word == "plain")
        machine.plain = true;
    else if (!word.empty()) {
        fprintf(stderr, "stand-in: STANDIN_CUDA does not know %s\n", word.c_str());
        abort();
    }
}

/* CUDA_VISIBLE_DEVICES hides devices as it does from CUDA: a list of numbers, cut short at the first that is not one. */
int visible(int there)
{
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    int n = 0;

    if (!text)
        return there;
    while (*text >= '0' && *text <= '9') {
        char *end;
        if (strtol(text, &end, 10) >= there)
            break;
        n++;
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

struct reader {
    reader()
    {
        const char *text = getenv("STANDIN_CUDA");
        std::string word;
        for (; text && *text; text++)
            if (*text == ',') {
                take_word(word);
                word.clear();
            } else
                word += *text;
        take_word(word);
        machine.devices = visible(machine.devices);
    }
} read_at_start;

cudaError_t say(cudaError_t rc)
{
    if (rc != cudaSuccess)
        last = rc;
    return rc;
}

bool capturing()
{
    for (standin_stream *s : streams)
        if (s->capture)
            return true;
    return false;
}

/* For calls that may not be made while any stream is captured. */
cudaError_t unless_captured()
{
    for (standin_stream *s : streams)
        s->spoiled = s->spoiled || s->capture;
    return capturing() ? cudaErrorStreamCaptureUnsupported : broken;
}

void do_next(standin_stream *s)
{
    if (!broken && machine.fail_at && done + 1 == machine.fail_at)
        broken = machine.fail;
    if (!broken && !s->todo.front()())
        return;
    done++;
    s->todo.pop_front();
}

void drain(standin_stream *s)
{
    while (!s->todo.empty())
        do_next(s);
}

void drain_all()
{
    for (standin_stream *s : streams)
        drain(s);
}

/* The piece that holds these bytes whole, or NULL. */
const piece *holds(const void *at, size_t bytes)
{
    auto next = memory.upper_bound((char *)at);

    if (next == memory.begin())
        return nullptr;
    auto found = std::prev(next);
    size_t from = (size_t)((char *)at - found->first);
    return from + bytes <= found->second.bytes ? &found->second : nullptr;
}

bool on_device(const void *at, size_t bytes)
{
    const piece *p = holds(at, bytes);

    return p && p->device >= 0;
}

void fill_with_nan(void *mem, size_t bytes)
{
    memset(mem, 0xff, bytes); /* of f32, bf16 and f16; as an integer, -1 */
}

double spent; /* seconds that work says it would have taken */

double seconds()
{
    return spent + std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

} // namespace

int standin_counts[STANDIN_COUNTS];

/* Behind a wait, and whether there was something to wait for. */
static void count_wait(bool waited)
{
    bool dry = waited;

    for (standin_stream *s : streams)
        dry = dry && s->todo.empty();
    standin_counts[STANDIN_WAITS] += waited;
    standin_counts[STANDIN_DRY] += dry;
}

/* The piece of memory that holds this place, for who looks after kernels' accesses himself (../ptx). */
const char *standin_piece(const void *at, size_t *bytes)
{
    auto next = memory.upper_bound((char *)at);

    if (next == memory.begin() || !holds(at, 1))
        return nullptr;
    *bytes = std::prev(next)->second.bytes;
    return std::prev(next)->first;
}

bool standin_plain()
{
    return machine.plain;
}

bool standin_refuses()
{
    static int calls;

    return ++calls == machine.refuse_at;
}

bool standin_captures(cudaStream_t s)
{
    return s->capture != nullptr;
}

void standin_spend(double more)
{
    spent += more;
}

void standin_refuse(cudaError_t rc)
{
    say(rc);
}

cudaError_t standin_do(cudaStream_t s, std::function<void()> w)
{
    guard g(lock);

    standin_counts[STANDIN_PUT] += !s->capture;
    return standin_do_when(s, [=] {
        w();
        return true;
    });
}

cudaError_t standin_do_when(cudaStream_t s, work w)
{
    guard g(lock);

    if (broken)
        return broken;
    if (s->capture) {
        s->capture->list.push_back({std::move(w), s->tail});
        s->tail = {s->capture->list.size() - 1};
    } else
        s->todo.push_back(std::move(w));
    return cudaSuccess;
}

/* ---- devices ---- */

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = machine.driver;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    if (machine.driver < CUDART_VERSION)
        return say(cudaErrorInsufficientDriver); /* and *n stays as it was */
    if (machine.devices == 0)
        return say(cudaErrorNoDevice);
    *n = machine.devices;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int d)
{
    if (d < 0 || d >= machine.devices)
        return say(cudaErrorInvalidDevice);
    device = d;
    return say(broken);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int)
{
    *value = which == cudaDevAttrComputeCapabilityMajor ? machine.major : which == cudaDevAttrMultiProcessorCount ? 4 : 0;
    return cudaSuccess;
}

/* Of `links`, the last device shares nothing with the others. */
cudaError_t cudaDeviceCanAccessPeer(int *can, int d, int other)
{
    if (d < 0 || d >= machine.devices || other < 0 || other >= machine.devices || d == other)
        return say(cudaErrorInvalidDevice);
    *can = !machine.links || (d < machine.devices - 1 && other < machine.devices - 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetP2PAttribute(int *value, enum cudaDeviceP2PAttr, int from, int to)
{
    *value = machine.links && from / machine.links != to / machine.links;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *name, int bytes, int d)
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");

    for (int k = 0; list && k < d; k++)
        list = strchr(list, ',') ? strchr(list, ',') + 1 : list;
    snprintf(name, (size_t)bytes, "0000:%02x:00.0", list ? atoi(list) : d);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t rc = last;

    last = cudaSuccess;
    return rc;
}

const char *cudaGetErrorString(cudaError_t rc)
{
    static const char *const TEXT[cudaErrorStandinCount] = {"no error", "invalid argument", "out of memory",
        "CUDA driver version is insufficient for CUDA runtime version", "no CUDA-capable device is detected",
        "invalid device ordinal", "device not ready", "an illegal memory access was encountered",
        "uncorrectable ECC error encountered", "invalid device context", "unspecified launch failure",
        "operation not permitted when stream is capturing",
        "operation failed due to a previous error during capture", "capture has unjoined work"};

    return TEXT[rc];
}

/* ---- memory ---- */

static cudaError_t allocate(void **mem, size_t bytes, int on)
{
    guard g(lock);
    cudaError_t rc = unless_captured();

    if (rc)
        return say(rc);
    standin_counts[STANDIN_ALLOCATIONS]++;
    if (on >= 0 && used[on] + bytes > machine.memory)
        return say(cudaErrorMemoryAllocation);
    char *at = (char *)aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!at)
        return say(cudaErrorMemoryAllocation);
    fill_with_nan(at, bytes);
    memory[at] = piece{bytes, on};
    if (on >= 0)
        used[on] += bytes;
    *mem = at;
    return cudaSuccess;
}

static cudaError_t release(void *mem, bool pinned)
{
    guard g(lock);
    cudaError_t rc = unless_captured();
    auto found = memory.find((char *)mem);

    if (!mem)
        return cudaSuccess;
    if (capturing())
        return say(rc);
    if (found == memory.end() || (found->second.device < 0) != pinned)
        return say(cudaErrorInvalidValue);
    standin_counts[STANDIN_RELEASES]++;
    drain_all();
    if (!pinned)
        used[found->second.device] -= found->second.bytes;
    memory.erase(found);
    free(mem);
    return say(broken);
}

cudaError_t cudaMalloc(void **mem, size_t bytes)
{
    return allocate(mem, bytes, device);
}

cudaError_t cudaHostAlloc(void **mem, size_t bytes, unsigned)
{
    return allocate(mem, bytes, -1);
}

cudaError_t cudaFree(void *mem)
{
    return release(mem, false);
}

cudaError_t cudaFreeHost(void *mem)
{
    return release(mem, true);
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    *all = machine.memory;
    *left = machine.memory - used[device];
    return say(broken);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
    guard g(lock);
    bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    const piece *host = from_device ? to_device ? nullptr : holds(to, bytes) : holds(from, bytes);

    if (on_device(to, bytes) != to_device || on_device(from, bytes) != from_device)
        return say(cudaErrorInvalidValue);
    if (from_device && to_device)
        return say(standin_do(s, [=] { memmove(to, from, bytes); }));
    if (!host && s->capture) /* what is not pinned cannot be found again at a replay */
        return say(cudaErrorStreamCaptureUnsupported);
    if (host)
        return say(standin_do(s, [=] { memcpy(to, from, bytes); }));
    if (from_device) { /* into pageable memory: returns when it is there */
        drain(s);
        count_wait(true);
        memcpy(to, from, bytes);
        return say(broken);
    }
    standin_counts[STANDIN_HELD]++;
    auto kept = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    return say(standin_do(s, [=] { memcpy(to, kept->data(), bytes); }));
}

cudaError_t cudaMemsetAsync(void *mem, int byte, size_t bytes, cudaStream_t s)
{
    guard g(lock);

    if (!on_device(mem, bytes))
        return say(cudaErrorInvalidValue);
    return say(standin_do(s, [=] { memset(mem, byte, bytes); }));
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    guard g(lock);

    standin_counts[STANDIN_MADE]++;
    streams.push_back(*out = new standin_stream);
    return say(broken);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    guard g(lock);

    drain(s);
    for (auto &at : streams)
        if (at == s) {
            streams.erase(streams.begin() + (&at - streams.data()));
            break;
        }
    delete s;
    return say(broken);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    guard g(lock);
    cudaError_t rc = unless_captured();

    if (rc)
        return say(rc);
    const bool waits = !s->todo.empty();
    drain(s);
    count_wait(waits);
    return say(broken);
}

/* Nothing is done while nobody waits; asking again is waiting. */
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    guard g(lock);

    if (s->todo.empty() || broken)
        return say(broken);
    do_next(s);
    return cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    guard g(lock);

    standin_counts[STANDIN_MADE]++;
    *out = new standin_event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    guard g(lock);

    for (standin_stream *s : streams) /* its stream may be gone before it */
        if (s == e->on)
            drain(s);
    delete e;
    return cudaSuccess;
}

/* Recorded in a capture, it joins streams there and has no time. */
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    guard g(lock);

    e->capture = s->capture;
    e->tail = s->tail;
    if (s->capture)
        return cudaSuccess;
    uint64_t turn = ++e->wanted;
    e->on = s;
    return say(standin_do(s, [=] {
        e->reached = turn;
        e->at = seconds();
    }));
}

/* A stream that waits for one that is captured is captured, too, until the capture's end. */
static cudaError_t fork(standin_stream *s, const standin_event *e)
{
    if (s->capture && s->capture != e->capture)
        return cudaErrorStreamCaptureUnsupported;
    if (!s->capture) {
        s->capture = e->capture;
        s->tail.clear();
        s->forked = true;
    }
    s->tail.insert(s->tail.end(), e->tail.begin(), e->tail.end());
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    guard g(lock);
    standin_stream *other = e->on;
    uint64_t turn = e->wanted;

    if (e->capture)
        return say(fork(s, e));
    if (s->capture) /* what happens outside cannot be waited for in a graph */
        return say(cudaErrorStreamCaptureUnsupported);
    if (!other || other == s)
        return say(broken);
    return say(standin_do_when(s, [=] {
        if (e->reached < turn && !other->todo.empty())
            do_next(other);
        return e->reached >= turn;
    }));
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    guard g(lock);

    if (e->reached == e->wanted || broken)
        return say(broken);
    cudaError_t rc = cudaStreamQuery(e->on);
    return rc == cudaErrorNotReady || e->reached != e->wanted ? cudaErrorNotReady : rc;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    guard g(lock);
    cudaError_t rc = unless_captured();

    if (rc)
        return say(rc);
    const bool waits = e->reached < e->wanted;
    while (e->reached < e->wanted && !e->on->todo.empty())
        do_next(e->on);
    count_wait(waits);
    return say(broken);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    if (from->reached != from->wanted || to->reached != to->wanted)
        return say(cudaErrorNotReady);
    *ms = (float)((to->at - from->at) * 1e3);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    guard g(lock);

    if (s->capture)
        return say(cudaErrorStreamCaptureUnsupported);
    s->capture = std::make_shared<standin_graph>();
    s->tail.clear();
    s->forked = s->spoiled = false;
    return say(broken);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *is)
{
    guard g(lock);

    *is = !s->capture ? cudaStreamCaptureStatusNone : s->spoiled ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return say(broken);
}

/* Ends it for the streams that were drawn into it; false: one of them has work that the first does not come after. */
static bool leave_capture(const standin_graph *g, const std::vector<size_t> &end)
{
    std::vector<bool> before(g->list.size());
    bool all = true;

    for (size_t k : end)
        before[k] = true;
    for (size_t k = g->list.size(); k-- > 0;)
        for (size_t j : g->list[k].after)
            before[j] = before[j] || before[k];
    for (standin_stream *s : streams)
        if (s->capture.get() == g) {
            for (size_t k : s->tail)
                all = all && before[k];
            s->capture.reset();
            s->forked = false;
        }
    return all;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    guard g(lock);

    *out = nullptr;
    if (!s->capture || s->forked)
        return say(cudaErrorInvalidValue);
    std::shared_ptr<standin_graph> made = std::move(s->capture);
    bool joined = leave_capture(made.get(), s->tail);
    if (s->spoiled)
        return say(cudaErrorStreamCaptureInvalidated);
    if (!joined)
        return say(cudaErrorStreamCaptureUnjoined);
    *out = new standin_graph(*made);
    return say(broken);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long)
{
    guard hold(lock);

    standin_counts[STANDIN_MADE]++;
    *out = new standin_graph(*g);
    return say(broken);
}

/* In any order that the graph allows, another one at each launch: what nothing puts in order may not depend on it. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s)
{
    static std::mt19937 chance;
    guard hold(lock);
    std::vector<size_t> left(g->list.size()), ready;
    std::vector<std::vector<size_t>> behind(g->list.size());

    standin_counts[STANDIN_LAUNCHES]++;
    for (size_t k = 0; k < g->list.size(); k++) {
        left[k] = g->list[k].after.size();
        for (size_t j : g->list[k].after)
            behind[j].push_back(k);
        if (left[k] == 0)
            ready.push_back(k);
    }
    while (!ready.empty()) {
        std::swap(ready[chance() % ready.size()], ready.back());
        size_t k = ready.back();
        ready.pop_back();
        cudaError_t rc = standin_do_when(s, g->list[k].what);
        if (rc)
            return say(rc);
        for (size_t j : behind[k])
            if (--left[j] == 0)
                ready.push_back(j);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    delete g;
    return cudaSuccess;
}
