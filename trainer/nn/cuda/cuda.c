/* One CUDA device as a backend, and the plugin's entry. Every call is checked; what a kernel does wrong while it runs
 * appears at wait(). */
#include "trainer/nn/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cuda/cuda_entry.h"

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

/* 0, or a sentence of what the device did not do. */
static int told(const cuda *c, cudaError_t rc, const char *what, err *e)
{
    if (rc == cudaSuccess)
        return 0;
    return err_set(e, ERR_DEVICE, "%s: %s: %s", c->name, what, cudaGetErrorString(rc));
}

/* ---- memory ---- */

static int use(const cuda *c, err *e)
{
    return told(c, cudaSetDevice(c->device), "the device cannot be used", e);
}

static int refused(const cuda *c, size_t bytes, err *e)
{
    const double mib = 1048576.0;
    size_t left = 0, all = 0;

    cudaGetLastError(); /* the refusal is answered here and shall not appear at the next launch */
    if (cudaMemGetInfo(&left, &all) != cudaSuccess)
        left = all = 0;
    return err_set(e, ERR_MEMORY, "%s: %.1f MiB are wanted and %.1f of its %.1f MiB are free", c->name,
                   (double)bytes / mib, (double)left / mib, (double)all / mib);
}

/* cudaMalloc aligns to 256 bytes and has no empty piece. */
static int cuda_alloc(nn_backend *b, void **mem, size_t bytes, err *e)
{
    const cuda *c = cuda_of(b);

    TRY(use(c, e));
    cudaError_t rc = cudaMalloc(mem, bytes ? bytes : 1);
    return rc == cudaErrorMemoryAllocation ? refused(c, bytes, e) : told(c, rc, "memory", e);
}

/* cudaFree waits for whatever still uses the memory. */
static void cuda_release(nn_backend *b, void *mem)
{
    if (cudaSetDevice(cuda_of(b)->device) == cudaSuccess)
        cudaFree(mem);
}

/* Returns when the bytes have arrived: the caller may reuse or read its side. */
static int move(const cuda *c, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, err *e)
{
    TRY(use(c, e));
    TRY(told(c, cudaMemcpyAsync(to, from, bytes, kind, c->stream), "a copy", e));
    return told(c, cudaStreamSynchronize(c->stream), "a copy, or work before it", e);
}

static int cuda_write(nn_backend *b, void *to, const void *host, size_t bytes, err *e)
{
    return move(cuda_of(b), to, host, bytes, cudaMemcpyHostToDevice, e);
}

static int cuda_read(nn_backend *b, void *host, const void *from, size_t bytes, err *e)
{
    return move(cuda_of(b), host, from, bytes, cudaMemcpyDeviceToHost, e);
}

static int cuda_copy(nn_backend *b, void *to, const void *from, size_t bytes)
{
    return cuda_ran(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_stream(b)));
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

    return told(c, cudaStreamSynchronize(c->stream), "work on the device", e);
}

static void close_device(cuda *c)
{
    if (current == c)
        current = NULL;
    cudaSetDevice(c->device);
    if (c->conv)
        cudnnDestroy(c->conv);
    if (c->gemm)
        cublasLtDestroy(c->gemm);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    free(c);
}

static void cuda_close(nn_backend *b)
{
    close_device(cuda_of(b));
    free(b);
}

/* ---- opening ---- */

static int count_devices(int *n, err *e)
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

    TRY(count_devices(&n, e));
    if (device < 0 || device >= n)
        return err_set(e, ERR_DEVICE, "there is no CUDA device %d; this process sees %d, counted from 0", device, n);
    cudaError_t rc = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (rc != cudaSuccess)
        return err_set(e, ERR_DEVICE, "cuda:%d: %s", device, cudaGetErrorString(rc));
    if (major < OLDEST)
        return err_set(e, ERR_DEVICE, "cuda:%d has compute capability %d and %d.0 is needed", device, major, OLDEST);
    return 0;
}

static int open_device(cuda *c, err *e)
{
    TRY(use(c, e));
    TRY(told(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "a stream", e));
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

static int cuda_open(nn_backend **out, int device, err *e)
{
    TRY(check_device(device, e));
    cuda *c = NEW(cuda);
    c->device = device;
    snprintf(c->name, sizeof c->name, "cuda:%d", device);
    int rc = open_device(c, e);
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
                         .wait = cuda_wait,
                         .close = cuda_close};
    return 0;
}

const nn_cuda_plugin *nn_cuda_entry(void)
{
    static const nn_cuda_plugin plugin = {NN_CUDA_ABI, NN_CUDA_SIZE, cuda_open};

    return &plugin;
}
