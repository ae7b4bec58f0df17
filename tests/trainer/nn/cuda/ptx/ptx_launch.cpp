/* How nvcc's host code asks for its kernels (crt/host_runtime.h of the toolkit): they are registered by name before main, and
 * launched through a call that has put grid and stream aside. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/trainer/nn/cuda/ptx/ptx.h"
#include "tests/trainer/nn/cuda/standin/standin.h"

void standin_refuse(cudaError_t rc); /* standin_runtime.cpp */
dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

struct launch {
    dim3 blocks, threads;
    size_t shared;
    cudaStream_t on;
};
launch pending;

std::map<std::string, std::unique_ptr<ptx::kernel>> &kernels()
{
    static std::map<std::string, std::unique_ptr<ptx::kernel>> all;

    return all;
}

std::map<const void *, const ptx::kernel *> &functions()
{
    static std::map<const void *, const ptx::kernel *> all;

    return all;
}

struct last_words {
    ~last_words()
    {
        const char *text = getenv("STANDIN_PTX");
        if (text && strcmp(text, "show") == 0)
            ptx::show_costs();
    }
} at_the_end;

/* As a device has it. */
bool fits(const ptx::kernel &k, const launch &l)
{
    const uint64_t threads = (uint64_t)l.threads.x * l.threads.y * l.threads.z;

    return l.blocks.x && l.blocks.y && l.blocks.z && threads && l.blocks.x <= INT32_MAX && l.blocks.y <= 65535 &&
           l.blocks.z <= 65535 && threads <= k.most_threads && l.threads.z <= 64 && l.shared == 0 && k.shared_bytes <= 48 << 10;
}

cudaError_t begin(const ptx::kernel *k, const launch &l, void **arguments)
{
    std::vector<unsigned char> parameters(k->parameter_bytes, 0xff);

    if (!fits(*k, l)) {
        standin_refuse(cudaErrorInvalidValue);
        return cudaErrorInvalidValue;
    }
    for (size_t i = 0; i < k->parameters.size(); i++)
        memcpy(parameters.data() + k->parameters[i].at, arguments[i], k->parameters[i].bytes);
    const cudaError_t rc = standin_do(l.on, [=] {
        ptx::execute(*k, {l.blocks.x, l.blocks.y, l.blocks.z}, {l.threads.x, l.threads.y, l.threads.z}, parameters);
    });
    standin_refuse(rc);
    return rc;
}

} // namespace

void standin_launch(dim3, dim3, cudaStream_t, std::function<void()>) { abort(); /* no kernel is C++ here */ }

extern "C" {

/* PTX lies in a fat binary as text with a zero behind it, if it is not compressed. */
void **__cudaRegisterFatBinary(void *wrapped)
{
    struct wrapper {
        uint32_t magic, version;
        const char *data;
    };
    struct header {
        uint32_t magic;
        uint16_t version, bytes;
        uint64_t size;
    };
    static void *handle;
    const char *data = ((const wrapper *)wrapped)->data;
    const std::string all(data, ((const header *)data)->bytes + ((const header *)data)->size);

    for (size_t at = all.find(".version "); at != std::string::npos; at = all.find(".version ", at + 1))
        ptx::read_text(all.c_str() + at, &kernels());
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}

void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, void *, void *, void *, void *, int *)
{
    const auto found = kernels().find(name);

    if (found == kernels().end()) {
        fprintf(stderr, "ptx: no text of a kernel %s\n", name);
        abort();
    }
    functions()[host] = found->second.get();
}

unsigned __cudaPushCallConfiguration(dim3 blocks, dim3 threads, size_t shared, void *on)
{
    pending = launch{blocks, threads, shared, (cudaStream_t)on};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *blocks, dim3 *threads, size_t *shared, void *on)
{
    *blocks = pending.blocks;
    *threads = pending.threads;
    *shared = pending.shared;
    *(cudaStream_t *)on = pending.on;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(const void **out, const void *host)
{
    *out = functions().at(host);
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(const void *k, dim3 blocks, dim3 threads, void **arguments, size_t shared, cudaStream_t on)
{
    return begin((const ptx::kernel *)k, launch{blocks, threads, shared, on}, arguments);
}

/* What toolkits before 13 call. */
cudaError_t cudaLaunchKernel(const void *host, dim3 blocks, dim3 threads, void **arguments, size_t shared, cudaStream_t on)
{
    return begin(functions().at(host), launch{blocks, threads, shared, on}, arguments);
}

} // extern "C"
