/* Finds the CUDA plugin and opens a device through it. The program itself is linked with nothing of CUDA: it runs the
 * same where the plugin, its libraries, a driver or a device is missing, and can say which. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "trainer/nn/cuda/cuda_entry.h"
#include "trainer/nn/params.h"

static const char PLUGIN[] = "cfarm_cuda.so";

/* The entry of a plugin that is there, or a sentence. It is never unloaded: CUDA cannot be. */
static int load(nn_cuda_entry_fn **out, const char *path, err *e)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!handle)
        return err_set(e, ERR_DEVICE, "the CUDA backend does not load: %s", dlerror());
    void *entry = dlsym(handle, "nn_cuda_entry");
    if (!entry)
        return err_set(e, ERR_DEVICE, "%s is not a CUDA backend of conceptfarm", path);
    memcpy(out, &entry, sizeof entry);
    return 0;
}

static int plugin_from(const nn_cuda_plugin **out, const char *path, err *e)
{
    nn_cuda_entry_fn *entry = NULL;

    TRY(load(&entry, path, e));
    *out = entry();
    if ((*out)->abi != NN_CUDA_ABI || (*out)->size != NN_CUDA_SIZE)
        return err_set(e, ERR_DEVICE, "%s is of another build than this program; build both together", path);
    return 0;
}

int nn_cuda_open_from(nn_backend **out, const char *path, int device, err *e)
{
    const nn_cuda_plugin *p;

    TRY(plugin_from(&p, path, e));
    TRY(p->open(out, device, e));
    (*out)->form = nn_params_form;
    return 0;
}

/* Another file than the one beside the program: for a plugin that lies elsewhere, and the tests' own. */
static const char PLACE[] = "CFARM_CUDA_PLUGIN";

/* Where the program lies. */
static int own_folder(char out[FS_PATH], err *e)
{
    ssize_t n = readlink("/proc/self/exe", out, FS_PATH - 1);

    if (n <= 0)
        return err_set(e, ERR_DEVICE, "the program's own place cannot be read, so no CUDA backend is found");
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return 0;
}

static int find_plugin(char path[FS_PATH], err *e)
{
    char own[FS_PATH], lib[FS_PATH];
    const char *given = getenv(PLACE);

    if (given)
        return str_copy(path, FS_PATH, given) ? 0 : err_set(e, ERR_INPUT, "%s is too long a path", PLACE);
    TRY(own_folder(own, e));
    TRY(fs_join(path, own, PLUGIN, e));
    if (fs_exists(path))
        return 0;
    TRY(fs_join(lib, own, "../lib", e));
    TRY(fs_join(path, lib, PLUGIN, e));
    if (fs_exists(path))
        return 0;
    return err_set(e, ERR_DEVICE, "this build has no CUDA backend: %s is not in %s; configure with CFARM_CUDA=ON",
                   PLUGIN, own);
}

int nn_cuda_open(nn_backend **out, int device, err *e)
{
    char path[FS_PATH];

    TRY(find_plugin(path, e));
    return nn_cuda_open_from(out, path, device, e);
}

int nn_cuda_links(int group[], int most, int *n, err *e)
{
    const nn_cuda_plugin *p;
    char path[FS_PATH];

    TRY(find_plugin(path, e));
    TRY(plugin_from(&p, path, e));
    return p->links(group, most, n, e);
}

int nn_cuda_built(err *e)
{
    const nn_cuda_plugin *p;
    char path[FS_PATH];

    TRY(find_plugin(path, e));
    return plugin_from(&p, path, e);
}

nn_compute nn_best_compute(const nn_backend *b, const char **why)
{
    if (!b->kind)
        return nn_cpu_best_compute(why);
    if (why)
        *why = "bf16: GPUs multiply it in tiles";
    return NN_BF16;
}

int nn_open(nn_backend **out, const char *name, int threads, err *e)
{
    char *end;
    long device = 0;

    if (strcmp(name, "cpu") == 0)
        return nn_cpu_open(out, threads, false, e);
    bool cuda = strcmp(name, "cuda") == 0;
    if (str_starts(name, "cuda:") && name[5] >= '0' && name[5] <= '9') {
        device = strtol(name + 5, &end, 10);
        cuda = *end == '\0' && device <= INT_MAX;
    }
    if (!cuda)
        return err_set(e, ERR_INPUT, "there is no backend %s; cpu, cuda and cuda:NUMBER can be had", name);
    return nn_cuda_open(out, (int)device, e);
}
