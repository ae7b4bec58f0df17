/* Kernels for copies, in order of preference. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_zero_rows[] = {&cpu_ref_zero_rows, NULL};
const nn_kernel *const cpu_slice[] = {&cpu_ref_slice, NULL};
const nn_kernel *const cpu_pad[] = {&cpu_ref_pad, NULL};
const nn_kernel *const cpu_concat[] = {&cpu_ref_concat, NULL};
const nn_kernel *const cpu_upsample[] = {&cpu_ref_upsample, NULL};
const nn_kernel *const cpu_upsample_grad[] = {&cpu_ref_upsample_grad, NULL};
