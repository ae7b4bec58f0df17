/* Kernels for sums, products, activations and casts, in order of preference. */
#include "trainer/nn/cpu/cpu.h"

const nn_kernel *const cpu_add[] = {&cpu_ref_add, NULL};
const nn_kernel *const cpu_sub[] = {&cpu_ref_sub, NULL};
const nn_kernel *const cpu_mul[] = {&cpu_ref_mul, NULL};
const nn_kernel *const cpu_scale[] = {&cpu_ref_scale, NULL};
const nn_kernel *const cpu_silu[] = {&cpu_ref_silu, NULL};
const nn_kernel *const cpu_silu_grad[] = {&cpu_ref_silu_grad, NULL};
const nn_kernel *const cpu_gelu[] = {&cpu_ref_gelu, NULL};
const nn_kernel *const cpu_gelu_grad[] = {&cpu_ref_gelu_grad, NULL};
const nn_kernel *const cpu_quick_gelu[] = {&cpu_ref_quick_gelu, NULL};
const nn_kernel *const cpu_quick_gelu_grad[] = {&cpu_ref_quick_gelu_grad, NULL};
const nn_kernel *const cpu_geglu[] = {&cpu_ref_geglu, NULL};
const nn_kernel *const cpu_geglu_grad[] = {&cpu_ref_geglu_grad, NULL};
const nn_kernel *const cpu_cast[] = {&cpu_ref_cast, NULL};
