/* Which of the builds of our inner loops this processor runs. */
#include "trainer/nn/cpu/cpu_simd.h"

static const cpu_simd *asked;

bool cpu_simd_runs(const cpu_simd *s)
{
#ifdef __x86_64__
    if (s == &cpu_simd_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
    if (s == &cpu_simd_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return s == &cpu_simd_plain;
}

void cpu_simd_use(const cpu_simd *s)
{
    asked = s;
}

const cpu_simd *cpu_simd_pairs(void)
{
#ifdef __x86_64__
    if (!asked && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") && cpu_simd_avx512_bf16.panels)
        return &cpu_simd_avx512_bf16;
#endif
    return NULL;
}

const cpu_simd *cpu_simd_best(void)
{
    if (asked)
        return asked;
    return cpu_simd_runs(&cpu_simd_avx512) ? &cpu_simd_avx512
           : cpu_simd_runs(&cpu_simd_avx2) ? &cpu_simd_avx2
                                           : &cpu_simd_plain;
}
