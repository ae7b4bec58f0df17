#ifndef NN_CPU_H
#define NN_CPU_H
/* What the CPU's kernels share. Every operation with a kernel has one list, cpu_NAME: preferred kernels first,
 * its reference cpu_ref_NAME last, then NULL. A list or a reference that is missing does not link.
 *
 * References (cpu_ref_*.c) are plain loops over f32, written to be read: they are the meaning. Bits: for one shape a
 * kernel gives the same bits with any number of threads; every output element, and every sum, has one fixed order. */
#include "trainer/nn/backend.h"

#define NN_NAME(name)
#define NN_OP(name)                                                                                          \
    extern const nn_kernel *const cpu_##name[];                                                              \
    extern const nn_kernel cpu_ref_##name;
#include "trainer/nn/ops.def"
#undef NN_OP

/* The lists of a backend that computes in bf16; cpu_NAME for all others. */
extern const nn_kernel *const cpu_matmul_in_bf16[], *const cpu_conv2d_in_bf16[], *const cpu_conv2d_grad_x_in_bf16[],
    *const cpu_conv2d_grad_w_in_bf16[],
    *const cpu_attention_in_bf16[], *const cpu_attention_grad_in_bf16[];
bool cpu_has_bf16(void);

/* For takes(): NULL when the result and all float sources are F32, else the reason. */
const char *cpu_needs_f32(const struct nn_node *y);

/* For references: where element i of `whole` lies in `part`, whose dimensions, aligned at the right, are whole's, 1 or
 * missing. */
int64_t cpu_place(int64_t i, const nn_shape *whole, const nn_shape *part);

/* Runs part(arg, from, to) over all of 0..n-1, on several threads when the whole is worth it. work: elements touched
 * by one of the n. What part does for one index may not depend on where the range is cut. */
typedef void cpu_part(const void *arg, int64_t from, int64_t to);
void cpu_for(int64_t n, int64_t work, cpu_part *part, const void *arg);
#endif
