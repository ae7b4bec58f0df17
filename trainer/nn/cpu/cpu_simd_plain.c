/* The inner loops for processors of any kind (cpu_simd.h). */
#define SIMD_NAME cpu_simd_plain
#define SIMD_TEXT "plain"
#define SIMD_BYTES 16
#define SIMD_WIDE 1
#define SIMD_MOST 2
#include "trainer/nn/cpu/cpu_simd_body.h"
