/* Kernels of words and times as vectors, in order of preference: copies of rows and a few sines. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_embedding[] = {&cpu_ref_embedding, NULL};
const nn_kernel *const cpu_embedding_grad[] = {&cpu_ref_embedding_grad, NULL};
const nn_kernel *const cpu_timestep_embedding[] = {&cpu_ref_timestep_embedding, NULL};
