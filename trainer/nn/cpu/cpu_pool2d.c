/* Kernels of pool2d, in order of preference: beside convolutions its cost is nothing. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_pool2d[] = {&cpu_ref_pool2d, NULL};
