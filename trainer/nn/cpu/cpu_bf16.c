/* Whether products of bf16 pay on this processor. They do where it multiplies them in tiles (AMX: ten to twenty times f32),
 * and on AMD's processors since Zen 4, whose vdpbf16ps adds two products in the time of one f32 product (tests/bench/ops.csv).
 * Intel's without AMX take twice as long for it and are slower than in f32. */
#include <dnnl.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <string.h>
#endif

#include "trainer/nn/cpu/cpu.h"

static bool has(unsigned isa)
{
    return ((unsigned)dnnl_get_effective_cpu_isa() & isa) == isa;
}

bool cpu_has_bf16(void)
{
    return has(dnnl_cpu_isa_avx512_core_bf16);
}

static bool made_by_amd(void)
{
#ifdef __x86_64__
    unsigned a, name[3];

    return __get_cpuid(0, &a, &name[0], &name[2], &name[1]) && memcmp(name, "AuthenticAMD", sizeof name) == 0;
#else
    return false;
#endif
}

nn_compute nn_cpu_best_compute(const char **why)
{
    static const struct { nn_compute is; const char *why; } answer[] = {
        {NN_BF16, "bf16: this processor multiplies it in tiles (AMX)"},
        {NN_BF16, "bf16: this processor adds two products of it in the time of one in f32 (AVX512_BF16 of AMD)"},
        {NN_F32, "f32: this processor is slower in bf16 (AVX512_BF16 without AMX)"},
        {NN_F32, "f32: this processor has no products of bf16"},
    };
    static int found; /* one more than the answer's place; asking the processor takes microseconds, and a plan asks often */

    if (!found)
        found = has(dnnl_cpu_isa_avx512_core_amx) ? 1 : !cpu_has_bf16() ? 4 : made_by_amd() ? 2 : 3;
    if (why)
        *why = answer[found - 1].why;
    return answer[found - 1].is;
}
