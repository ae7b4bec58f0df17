#ifndef CUDA_ENTRY_H
#define CUDA_ENTRY_H
/* What the program and the CUDA plugin (cfarm_cuda.so) know of each other. The plugin is built from the same sources as
 * the program and exports one function, nn_cuda_entry. Structures cross this border, so one built from other sources
 * is refused: abi is raised when a meaning changes, size changes by itself with the structures and the operations. */
#include "trainer/nn/backend.h"

enum {
    NN_CUDA_ABI = 4,
    NN_CUDA_SIZE = sizeof(struct nn_node) + sizeof(nn_call) * 7 + sizeof(nn_kernel) * 31 + sizeof(nn_backend) * 127
                   + NN_OP_COUNT * 8191
};

typedef struct {
    int abi, size;
    int (*open)(nn_backend **out, int device, err *e);
    int (*links)(int group[], int most, int *n, err *e);
} nn_cuda_plugin;

typedef const nn_cuda_plugin *nn_cuda_entry_fn(void);
const nn_cuda_plugin *nn_cuda_entry(void) __attribute__((visibility("default")));

/* nn_cuda_open with the plugin in this file; for nn_cuda_open, and for tests of what may be wrong with a plugin. */
int nn_cuda_open_from(nn_backend **out, const char *plugin, int device, err *e);
#endif
