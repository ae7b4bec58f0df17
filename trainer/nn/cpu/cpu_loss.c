/* Kernels for losses, in order of preference. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_squared_error[] = {&cpu_ref_squared_error, NULL};
const nn_kernel *const cpu_squared_error_grad[] = {&cpu_ref_squared_error_grad, NULL};
