/* Which of the builds of our inner loops this processor runs. */
#include "trainer/nn/cpu/cpu_simd.h"

const cpu_simd *cpu_simd_best(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return &cpu_simd_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &cpu_simd_avx2;
#endif
    return &cpu_simd_plain;
}
