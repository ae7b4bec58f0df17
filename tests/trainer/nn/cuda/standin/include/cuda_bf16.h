#ifndef STANDIN_CUDA_BF16_H
#define STANDIN_CUDA_BF16_H
/* bf16 as CUDA's C++ has it. */
extern "C" {
#include "cluster/base/dtype.h"
}

struct __nv_bfloat16 {
    uint16_t bits;
    operator float() const { return f32_of_bf16(bits); }
};

static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16{bf16_of_f32(x)};
}
#endif
