/* A plugin that loads, on a machine without what it needs. */
#include "trainer/nn/cuda/cuda_entry.h"

static int refuse(nn_backend **out, int device, err *e)
{
    (void)out;
    return err_set(e, ERR_DEVICE, "there is no CUDA device %d", device);
}

const nn_cuda_plugin *nn_cuda_entry(void)
{
    static const nn_cuda_plugin plugin = {NN_CUDA_ABI, NN_CUDA_SIZE, refuse, NULL};

    return &plugin;
}
