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
#include "trainer/nn/cpu/cpu_simd_exp.h"
#include "trainer/nn/cpu/cpu_simd_norm.h"
#include "trainer/nn/cpu/cpu_simd_pointwise.h"
#include "trainer/nn/cpu/cpu_simd_tile.h"

#include "trainer/nn/cpu/cpu_simd_sizes.h"
#include "trainer/nn/cpu/cpu_simd_scores.h"

const cpu_simd SIMD_NAME = {
    .name = SIMD_TEXT,
    .sizes = TILE_SIZES,
    .panels = SIMD_WIDE,
    .tile = TILE_TABLE,
    .score_weights = score_weights,
    .score_most = score_most,
    .score_slopes = score_slopes,
    .score_sums = score_sums,
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
    .round = round_up_or_down,
    .adamw = adamw,
};
