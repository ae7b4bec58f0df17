/* The inner loops for processors with AVX2 and FMA (cpu_simd.h). */
#define SIMD_NAME cpu_simd_avx2
#define SIMD_TEXT "avx2"
#define SIMD_BYTES 32
#define SIMD_WIDE 1
#define SIMD_MOST 6
#include "trainer/nn/cpu/cpu_simd_body.h"
