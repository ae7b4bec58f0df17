#ifndef CF_DTYPE_H
#define CF_DTYPE_H
/* Element types of tensors, in memory and in files, and the two 16-bit float conversions. */
#include <stddef.h>
#include <stdint.h>

typedef enum { F32, BF16, F16, F64, U8, I8, I16, I32, I64, BOOL8, DTYPE_COUNT } dtype;

size_t dtype_bytes(dtype t);
const char *dtype_name(dtype t);              /* as safetensors spells it: "F32", "BF16", ... */
int dtype_find(const char *name, dtype *out); /* 0 when known */

float f32_of_bf16(uint16_t v);
uint16_t bf16_of_f32(float v);                /* to nearest, ties to even; NaN stays NaN */
float f32_of_f16(uint16_t v);
uint16_t f16_of_f32(float v);
/* n elements of any float type into f32. */
void f32_from(float *to, const void *from, dtype t, size_t n);
void f32_into(void *to, dtype t, const float *from, size_t n);
#endif
