/* A plugin whose structures are of another size than the program's. */
#include "trainer/nn/cuda/cuda_entry.h"

static int never(nn_backend **out, int device, err *e)
{
    (void)out, (void)device, (void)e;
    err_bug(__FILE__, __LINE__, "a plugin of another build is not opened");
}

const nn_cuda_plugin *nn_cuda_entry(void)
{
    static const nn_cuda_plugin plugin = {NN_CUDA_ABI, NN_CUDA_SIZE + 8, never, NULL};

    return &plugin;
}
