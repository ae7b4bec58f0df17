/* The inner loops for processors with AVX-512F and AVX512VL (cpu_simd.h). */
#define SIMD_NAME cpu_simd_avx512
#define SIMD_TEXT "avx512"
#define SIMD_BYTES 64
#define SIMD_WIDE 2
#define SIMD_MOST 8
#include "trainer/nn/cpu/cpu_simd_body.h"
