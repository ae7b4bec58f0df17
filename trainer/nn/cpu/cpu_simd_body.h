/* All inner loops, as one processor gets them. The file that includes this says what it is for:
 *   SIMD_NAME   the table it defines
 *   SIMD_TEXT   its name in words
 *   SIMD_BYTES  of its vector registers
 *   SIMD_WIDE   panels of the widest tile
 *   SIMD_MOST   rows of the largest tile */
#include <math.h>
#include <string.h>

#include "trainer/nn/cpu/cpu_simd.h"

#include "trainer/nn/cpu/cpu_simd_lanes.h"
#include "trainer/nn/cpu/cpu_simd_softmax.h"
#include "trainer/nn/cpu/cpu_simd_norm.h"
#include "trainer/nn/cpu/cpu_simd_pointwise.h"
#include "trainer/nn/cpu/cpu_simd_tile.h"

#define TILES(R) TILE(R, 1) TILE(R, 2)
#define TILE_ROW(R) {tile_##R##_1, tile_##R##_2}
#if SIMD_MOST == 8
TILES(8) TILES(4) TILES(2) TILES(1)
#define TILE_SIZES {8, 4, 2, 1}
#define TILE_TABLE {TILE_ROW(8), TILE_ROW(4), TILE_ROW(2), TILE_ROW(1)}
#elif SIMD_MOST == 6
TILES(6) TILES(3) TILES(2) TILES(1)
#define TILE_SIZES {6, 3, 2, 1}
#define TILE_TABLE {TILE_ROW(6), TILE_ROW(3), TILE_ROW(2), TILE_ROW(1)}
#else
TILES(4) TILES(3) TILES(2) TILES(1)
#define TILE_SIZES {4, 3, 2, 1}
#define TILE_TABLE {TILE_ROW(4), TILE_ROW(3), TILE_ROW(2), TILE_ROW(1)}
#endif

const cpu_simd SIMD_NAME = {
    .name = SIMD_TEXT,
    .sizes = TILE_SIZES,
    .panels = SIMD_WIDE,
    .tile = TILE_TABLE,
    .softmax = softmax,
    .softmax_grad = softmax_grad,
    .column_sums = column_sums,
    .column_squares = column_squares,
    .column_dots = column_dots,
    .norm_apply = norm_apply,
    .norm_grad = norm_grad,
    .layer_norm = layer_norm,
    .layer_norm_grad_x = layer_norm_grad_x,
    .layer_norm_grad_w = layer_norm_grad_w,
    .add = add,
    .sub = sub,
    .mul = mul,
    .silu = silu,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .silu_grad = silu_grad,
    .gelu_grad = gelu_grad,
    .quick_gelu_grad = quick_gelu_grad,
    .scale = scale,
    .geglu = geglu,
    .geglu_grad = geglu_grad,
    .narrow = narrow,
    .sum = sum,
    .sum_squares = sum_squares,
    .adamw = adamw,
};
