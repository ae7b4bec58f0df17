/* One CUDA device as a backend, and the plugin's entry. Every call is checked; what a kernel does wrong while it runs
 * appears at wait(). */
#include "trainer/nn/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cuda/cuda_entry.h"
#include "trainer/nn/cuda/cuda_kernels.h"

static const nn_kernel *const *const lists[NN_OP_COUNT] = {
#define NN_NAME(name)
#define NN_OP(name) [NN_OP_##name] = cuda_##name,
#include "trainer/nn/ops.def"
#undef NN_OP
};

static const nn_kernel *const *kernels(nn_op_id op)
{
    return lists[op];
}

static const nn_kernel *const *kernels_bf16(nn_op_id op)
{
    switch (op) {
    case NN_OP_attention: return cuda_attention_bf16;
    case NN_OP_attention_grad: return cuda_attention_grad_bf16;
    case NN_OP_matmul: return cuda_matmul_bf16;
    case NN_OP_conv2d: return cuda_conv2d_bf16;
    case NN_OP_conv2d_grad_x: return cuda_conv2d_grad_x_bf16;
    case NN_OP_conv2d_grad_w: return cuda_conv2d_grad_w_bf16;
    default: return lists[op];
    }
}

/* The same with another attention first (CFARM_CUDA_ATTENTION): cuDNN's, or ours by wgmma. */
static const nn_kernel *const *kernels_dnn(nn_op_id op)
{
    switch (op) {
    case NN_OP_attention: return cuda_attention_dnn;
    case NN_OP_attention_grad: return cuda_attention_grad_dnn;
    default: return kernels_bf16(op);
    }
}

static const nn_kernel *const *kernels_wgmma(nn_op_id op)
{
    switch (op) {
    case NN_OP_attention: return cuda_attention_wgmma;
    case NN_OP_attention_grad: return cuda_attention_grad_wgmma;
    default: return kernels_bf16(op);
    }
}

static _Thread_local cuda *current;

cuda *cuda_current(void)
{
    return current;
}

const char *cuda_needs_f32(const struct nn_node *y)
{
    bool all = y->type == F32;

    for (int i = 0; i < NN_MAX_SRC; i++)
        all = all && (!y->src[i] || y->src[i]->type == F32 || y->src[i]->type == I32);
    return all ? NULL : "needs f32";
}

bool cuda_narrows(const struct nn_node *y)
{
    (void)y;
    return true;
}

int cuda_told(const cuda *c, cudaError_t rc, const char *what, err *e)
{
    if (rc == cudaSuccess)
        return 0;
    return err_set(e, ERR_DEVICE, "%s: %s: %s", c->name, what, cudaGetErrorString(rc));
}

/* ---- refusals ---- */

static _Thread_local char refusal[200]; /* of a kernel's run, until it is told; "": none */

int cuda_took(const char *library, const char *why)
{
    if (!why)
        return 0;
    snprintf(refusal, sizeof refusal, "%s: %s", library, why);
    return ERR_DEVICE;
}

int cuda_ran(cudaError_t rc)
{
    return cuda_took("a launch", rc == cudaSuccess ? NULL : cudaGetErrorString(rc));
}

bool cuda_recording(const cuda *c)
{
    enum cudaStreamCaptureStatus is = cudaStreamCaptureStatusNone;

    return cudaStreamIsCapturing(c->stream, &is) == cudaSuccess && is != cudaStreamCaptureStatusNone;
}

/* ---- memory ---- */

static int use(const cuda *c, err *e)
{
    return cuda_told(c, cudaSetDevice(c->device), "the device cannot be used", e);
}

static int refused(const cuda *c, size_t bytes, err *e)
{
    const double mib = 1048576.0;
    size_t left = 0, all = 0;

    if (bytes > c->most - c->taken)
        return err_set(e, ERR_MEMORY, "%s: %.1f MiB are wanted and %.1f of the %.1f MiB that it may use are free", c->name,
                       (double)bytes / mib, (double)(c->most - c->taken) / mib, (double)c->most / mib);
    cudaGetLastError(); /* the refusal is answered here and shall not appear at the next launch */
    if (cudaMemGetInfo(&left, &all) != cudaSuccess)
        left = all = 0;
    return err_set(e, ERR_MEMORY, "%s: %.1f MiB are wanted and %.1f of its %.1f MiB are free", c->name,
                   (double)bytes / mib, (double)left / mib, (double)all / mib);
}

static void cuda_turn(nn_backend *b, bool mine)
{
    cuda *c = cuda_of(b);

    if (mine)
        pthread_mutex_lock(&c->turn);
    else
        pthread_mutex_unlock(&c->turn);
}

/* cudaMalloc aligns to 256 bytes and has no empty piece. */
static int cuda_alloc(nn_backend *b, void **mem, size_t bytes, err *e)
{
    cuda *c = cuda_of(b);

    TRY(use(c, e));
    if (bytes > c->most - c->taken)
        return refused(c, bytes, e);
    cuda_turn(b, true); /* nothing may be allocated while a graph is recorded */
    cudaError_t rc = cudaMalloc(mem, bytes ? bytes : 1);
    cuda_turn(b, false);
    if (rc == cudaErrorMemoryAllocation)
        return refused(c, bytes, e);
    TRY(cuda_told(c, rc, "memory", e));
    c->pieces = mem_grow(c->pieces, c->piece_n + 1, sizeof *c->pieces);
    c->pieces[c->piece_n++] = (struct cuda_piece){*mem, bytes};
    c->taken += bytes;
    return 0;
}

/* cudaFree waits for whatever still uses the memory. */
static void cuda_release(nn_backend *b, void *mem)
{
    cuda *c = cuda_of(b);

    for (size_t i = c->piece_n; i-- > 0;)
        if (c->pieces[i].mem == mem) {
            c->taken -= c->pieces[i].bytes;
            c->pieces[i] = c->pieces[--c->piece_n];
            break;
        }
    cuda_turn(b, true);
    if (cudaSetDevice(c->device) == cudaSuccess)
        cudaFree(mem);
    cuda_turn(b, false);
}

static int cuda_limit(nn_backend *b, double share, err *e)
{
    cuda *c = cuda_of(b);
    size_t left, all;

    CHECK(share > 0.0 && share <= 1.0);
    TRY(use(c, e));
    TRY(cuda_told(c, cudaMemGetInfo(&left, &all), "its memory", e));
    c->most = (size_t)((double)all * share);
    return 0;
}

static int cuda_left(nn_backend *b, size_t *bytes, err *e)
{
    cuda *c = cuda_of(b);
    size_t left, all;

    TRY(use(c, e));
    TRY(cuda_told(c, cudaMemGetInfo(&left, &all), "its memory", e));
    *bytes = left < c->most - c->taken ? left : c->most - c->taken;
    return 0;
}

/* Ours are pages of the system, never pinned: CUDA has taken a copy when it returns, and the caller may reuse its side. */
static int cuda_write(nn_backend *b, void *to, const void *host, size_t bytes, err *e)
{
    const cuda *c = cuda_of(b);

    TRY(use(c, e));
    cuda_turn(b, true);
    cudaError_t rc = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, c->stream);
    cuda_turn(b, false);
    return cuda_told(c, rc, "a copy", e);
}

static int cuda_read(nn_backend *b, void *host, const void *from, size_t bytes, err *e)
{
    const cuda *c = cuda_of(b);

    TRY(use(c, e));
    cuda_turn(b, true);
    cudaError_t rc = cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, c->stream);
    if (rc == cudaSuccess)
        rc = cudaStreamSynchronize(c->stream);
    cuda_turn(b, false);
    return cuda_told(c, rc, "a copy, or work before it", e);
}

static int cuda_copy(nn_backend *b, void *to, const void *from, size_t bytes)
{
    return cuda_ran(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_stream(b)));
}

/* Values as the file has them, [o,i,h,w] where the graph has [o,h,w,i]. */
static int make_half(void *to, const float *values, const void *arg, err *e)
{
    const nn_shape s = ((const struct nn_node *)arg)->shape;
    const bool turns = s.n == 4 && s.d[3] > 1;
    const int64_t in = turns ? s.d[3] : 1, window = turns ? s.d[1] * s.d[2] : 1, rows = nn_count(s) / (in * window);
    uint16_t *out = to;

    (void)e;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < window; k++)
            for (int64_t i = 0; i < in; i++)
                *out++ = bf16_of_f32(values[(r * in + i) * window + k]);
    return 0;
}

int cuda_half_leaf(nn_backend *b, nn_call *c, void **mem, err *e)
{
    static const char key[] = "bf16";
    const size_t bytes = 2 * (size_t)nn_count(c->leaf[1]->shape);
    const nn_form form = {.key = key, .key_bytes = sizeof key, .bytes = bytes, .make = make_half, .arg = c->leaf[1]};

    c->form_key = key;
    c->form_key_bytes = sizeof key;
    c->form_bytes = bytes;
    return c->sizing ? 0 : b->form(c->params, c->leaf[1], &form, mem, e);
}

int cuda_round(nn_backend *b, void **to, const void *from, int64_t n, err *e)
{
    cuda *c = cuda_of(b);
    struct cuda_rounded made = {.from = from, .users = 1};

    for (size_t i = 0; i < c->rounded_n; i++)
        if (c->rounded[i].from == from) {
            c->rounded[i].users++;
            *to = c->rounded[i].to;
            return 0;
        }
    TRY(cuda_alloc(b, &made.to, (size_t)n * 2, e));
    cudaError_t rc = k_cast(c->stream, made.to, CUDA_BF16, from, CUDA_F32, n);
    if (rc != cudaSuccess) {
        cuda_release(b, made.to);
        return cuda_told(c, rc, "rounding a weight", e);
    }
    c->rounded = mem_grow(c->rounded, c->rounded_n + 1, sizeof *c->rounded);
    c->rounded[c->rounded_n++] = made;
    *to = made.to;
    return 0;
}

void cuda_round_done(nn_backend *b, const void *from)
{
    cuda *c = cuda_of(b);

    for (size_t i = 0; i < c->rounded_n; i++)
        if (c->rounded[i].from == from && --c->rounded[i].users == 0) {
            cuda_release(b, c->rounded[i].to);
            c->rounded[i] = c->rounded[--c->rounded_n];
            return;
        }
}

static int cuda_compute(nn_backend *b, nn_compute as, err *e)
{
    (void)e;
    static const nn_kernel *const *(*const of[])(nn_op_id op) = {kernels_bf16, kernels_dnn, kernels_dnn, kernels_wgmma}; /* attention */

    b->kernels = as == NN_BF16 ? of[cuda_of(b)->attention] : kernels;
    b->computes = as;
    return 0;
}

/* ---- recording: a graph of CUDA's ---- */

static int cuda_record(nn_backend *b, err *e)
{
    const cuda *c = cuda_of(b);

    return cuda_told(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal), "a graph's beginning", e);
}

static int cuda_recorded(nn_backend *b, void **list, err *e)
{
    const cuda *c = cuda_of(b);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;

    *list = NULL;
    TRY(cuda_told(c, cudaStreamEndCapture(c->stream, &graph), "a graph's end (CFARM_CUDA_GRAPHS=0 makes none)", e));
    cudaError_t rc = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    TRY(cuda_told(c, rc, "a graph (CFARM_CUDA_GRAPHS=0 makes none)", e));
    *list = ready;
    return 0;
}

static int cuda_replay(nn_backend *b, void *list, err *e)
{
    const cuda *c = cuda_of(b);

    return cuda_told(c, cudaGraphLaunch(list, c->stream), "a graph's launch", e);
}

static void cuda_forget(nn_backend *b, void *list)
{
    if (cudaSetDevice(cuda_of(b)->device) == cudaSuccess)
        cudaGraphExecDestroy(list);
}

/* ---- a thread's turn, waiting, closing ---- */

/* A failure shows at the first launch, with its reason at wait(). */
static void cuda_begin(nn_backend *b)
{
    current = cuda_of(b);
    cudaSetDevice(current->device);
}

static int cuda_wait(nn_backend *b, err *e)
{
    const cuda *c = cuda_of(b);

    const bool refused = refusal[0] != '\0';

    cuda_turn(b, true);
    cudaError_t rc = cuda_recording(c) ? cudaSuccess : cudaStreamSynchronize(c->stream); /* what is recorded is not waited for */
    cuda_turn(b, false);
    if (refused)
        err_set(e, ERR_DEVICE, "%s: %s", c->name, refusal);
    refusal[0] = '\0';
    TRY(cuda_told(c, rc, "work on the device", e)); /* a lost device says more than the call that met it */
    return refused ? ERR_DEVICE : 0;
}

static void close_device(cuda *c)
{
    if (current == c)
        current = NULL;
    cudaSetDevice(c->device);
    cuda_part(c);
    cuda_convs_free(c);
    cuda_sdpas_free(c);
    if (c->conv)
        cudnnDestroy(c->conv);
    if (c->gemm)
        cublasLtDestroy(c->gemm);
    if (c->copies)
        cudaStreamDestroy(c->copies);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    free(c->pieces);
    free(c->rounded);
    free(c->found);
    free(c->asked);
    pthread_mutex_destroy(&c->turn);
    free(c);
}

static void cuda_close(nn_backend *b)
{
    close_device(cuda_of(b));
    free(b);
}

/* ---- opening ---- */

int cuda_count(int *n, err *e)
{
    int built = CUDART_VERSION, driver = 0;
    cudaError_t rc;

    *n = 0; /* cudaGetDeviceCount leaves it alone where there is no driver */
    rc = cudaGetDeviceCount(n);
    if (rc == cudaErrorNoDevice || (rc == cudaSuccess && *n == 0))
        return err_set(e, ERR_DEVICE, "the CUDA driver shows no device; see CUDA_VISIBLE_DEVICES");
    if (rc != cudaErrorInsufficientDriver)
        return rc == cudaSuccess ? 0 : err_set(e, ERR_DEVICE, "CUDA: %s", cudaGetErrorString(rc));
    cudaDriverGetVersion(&driver);
    if (driver == 0)
        return err_set(e, ERR_DEVICE, "this machine has no CUDA driver; use backend cpu here");
    return err_set(e, ERR_DEVICE, "the CUDA driver is for %d.%d and %d.%d is needed; update the driver", driver / 1000,
                   driver % 1000 / 10, built / 1000, built % 1000 / 10);
}

/* The oldest architecture our kernels are built for. */
enum { OLDEST = 8 };

static int check_device(int device, err *e)
{
    int n, major = 0;

    TRY(cuda_count(&n, e));
    if (device < 0 || device >= n)
        return err_set(e, ERR_DEVICE, "there is no CUDA device %d; this process sees %d, counted from 0", device, n);
    cudaError_t rc = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (rc != cudaSuccess)
        return err_set(e, ERR_DEVICE, "cuda:%d: %s", device, cudaGetErrorString(rc));
    if (major < OLDEST)
        return err_set(e, ERR_DEVICE, "cuda:%d has compute capability %d and %d.0 is needed", device, major, OLDEST);
    return 0;
}

static bool says(const char *variable, const char *what)
{
    const char *text = getenv(variable);

    return text && strcmp(text, what) == 0;
}

/* wgmma is what compute capability 9.0 has and no other. */
static int check_wgmma(const cuda *c, int major, int minor, err *e)
{
    if (c->attention != CUDA_ATTENTION_WGMMA)
        return 0;
    if (major != 9 || minor != 0)
        return err_set(e, ERR_DEVICE, "CFARM_CUDA_ATTENTION=wgmma needs compute capability 9.0 and %s has %d.%d; leave it unset", c->name, major,
                       minor);
    if (!k_flash_hopper_has(40))
        return err_set(e, ERR_DEVICE, "CFARM_CUDA_ATTENTION=wgmma needs a plugin that is built for sm_90a (CMAKE_CUDA_ARCHITECTURES)");
    return 0;
}

/* What decides a device's bits: how it computes, and the library that chooses how, by the number of multiprocessors, too. */
static int name_kind(cuda *c, err *e)
{
    static const char *const ATTENDS[] = {"", " attends", " attends by atomics", " attends by wgmma"};
    int major, minor, many;

    TRY(cuda_told(c, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, c->device), "its kind", e));
    TRY(cuda_told(c, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, c->device), "its kind", e));
    TRY(cuda_told(c, cudaDeviceGetAttribute(&many, cudaDevAttrMultiProcessorCount, c->device), "its kind", e));
    TRY(check_wgmma(c, major, minor, e));
    snprintf(c->kind, sizeof c->kind, "cuda %d sm_%d%d cublas %zu cudnn %zu%s", many, major, minor, cublasLtGetVersion(),
             cudnnGetVersion(), ATTENDS[c->attention]);
    return 0;
}

static int open_device(cuda *c, err *e)
{
    TRY(use(c, e));
    TRY(name_kind(c, e));
    TRY(cuda_told(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "a stream", e));
    TRY(cuda_told(c, cudaStreamCreateWithFlags(&c->copies, cudaStreamNonBlocking), "a stream", e));
    cublasStatus_t gemm = cublasLtCreate(&c->gemm);
    if (gemm != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ERR_DEVICE, "%s: cuBLASLt does not start: %s", c->name, cublasLtGetStatusString(gemm));
    cudnnStatus_t conv = cudnnCreate(&c->conv);
    if (conv == CUDNN_STATUS_SUCCESS)
        conv = cudnnSetStream(c->conv, c->stream);
    if (conv != CUDNN_STATUS_SUCCESS)
        return err_set(e, ERR_DEVICE, "%s: cuDNN does not start: %s", c->name, cudnnGetErrorString(conv));
    return 0;
}

static int choose_attention(cuda *c, err *e)
{
    static const char *const NAMES[] = {"own", "cudnn", "atomics", "wgmma"};
    const char *given = getenv("CFARM_CUDA_ATTENTION");

    for (int i = 0; given && i < 4; i++)
        if (says("CFARM_CUDA_ATTENTION", NAMES[i])) {
            c->attention = i;
            return 0;
        }
    return given ? err_set(e, ERR_INPUT, "CFARM_CUDA_ATTENTION is own, cudnn, atomics or wgmma, not %.40s", given) : 0;
}

static void make_turn(pthread_mutex_t *turn)
{
    pthread_mutexattr_t nested;

    pthread_mutexattr_init(&nested);
    pthread_mutexattr_settype(&nested, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(turn, &nested);
    pthread_mutexattr_destroy(&nested);
}

static int cuda_open(nn_backend **out, int device, err *e)
{
    TRY(check_device(device, e));
    cuda *c = NEW(cuda);
    make_turn(&c->turn);
    c->device = device;
    c->most = SIZE_MAX;
    snprintf(c->name, sizeof c->name, "cuda:%d", device);
    c->search = says("CFARM_CUDA_SEARCH", "0") ? CUDA_SEARCH_OFF : says("CFARM_CUDA_SEARCH", "show") ? CUDA_SEARCH_SHOWN : CUDA_SEARCH_ON;
    c->compiles = says("CFARM_CUDA_COMPILE", "1");
    int rc = choose_attention(c, e);
    if (rc == 0)
        rc = open_device(c, e);
    if (rc != 0) {
        close_device(c);
        return rc;
    }
    *out = NEW(nn_backend);
    **out = (nn_backend){.name = c->name,
                         .self = c,
                         .kernels = kernels,
                         .alloc = cuda_alloc,
                         .release = cuda_release,
                         .write = cuda_write,
                         .read = cuda_read,
                         .copy = cuda_copy,
                         .begin = cuda_begin,
                         .turn = cuda_turn,
                         .wait = cuda_wait,
                         /* CFARM_CUDA_GRAPHS=0: every call by itself, to see what graphs are worth and where a fault lies. */
                         .record = says("CFARM_CUDA_GRAPHS", "0") ? NULL : cuda_record,
                         .recorded = cuda_recorded,
                         .replay = cuda_replay,
                         .forget = cuda_forget,
                         .limit = cuda_limit,
                         .left = cuda_left,
                         .join = cuda_join,
                         .crossing = &cuda_crossing,
                         .kind = c->kind,
                         .compute = cuda_compute,
                         .exact = kernels,
                         .close = cuda_close};
    return 0;
}

const nn_cuda_plugin *nn_cuda_entry(void)
{
    static const nn_cuda_plugin plugin = {NN_CUDA_ABI, NN_CUDA_SIZE, cuda_open, cuda_links};

    return &plugin;
}
