/* Kernels for updates, in order of preference. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_adamw[] = {&cpu_ref_adamw, NULL};
