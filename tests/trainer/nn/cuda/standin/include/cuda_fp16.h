#ifndef STANDIN_CUDA_FP16_H
#define STANDIN_CUDA_FP16_H
/* f16 as CUDA's C++ has it. */
extern "C" {
#include "cluster/base/dtype.h"
}

struct __half {
    uint16_t bits;
    operator float() const { return f32_of_f16(bits); }
};

static inline __half __float2half_rn(float x)
{
    return __half{f16_of_f32(x)};
}
#endif
