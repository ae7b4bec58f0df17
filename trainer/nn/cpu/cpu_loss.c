/* Kernels of losses, in order of preference: two small calls of a step, which the plain loops serve well. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_squared_error[] = {&cpu_ref_squared_error, NULL};
const nn_kernel *const cpu_squared_error_grad[] = {&cpu_ref_squared_error_grad, NULL};
