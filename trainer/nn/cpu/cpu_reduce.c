/* Kernels for sums over dimensions and repetition, in order of preference. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_sum_to[] = {&cpu_ref_sum_to, NULL};
const nn_kernel *const cpu_expand[] = {&cpu_ref_expand, NULL};
const nn_kernel *const cpu_sum_squares[] = {&cpu_ref_sum_squares, NULL};
