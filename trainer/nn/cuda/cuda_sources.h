#ifndef CUDA_SOURCES_H
#define CUDA_SOURCES_H
/* A call's sources as our kernels take those that may be in bf16. */
#include "trainer/nn/backend.h"
#include "trainer/nn/cuda/cuda_kernels.h"

static inline cuda_source cuda_source_of(const nn_call *c, int i)
{
    return (cuda_source){.at = c->in[i], .half = c->narrow_in >> i & 1, .bias = i == 0 ? c->late_bias : NULL, .more = i == 0 ? c->late_more : NULL};
}
#endif
