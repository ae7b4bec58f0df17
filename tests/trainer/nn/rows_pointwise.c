/* Rows of op/pointwise.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_add(nn_graph *g, const nn_tensor x[]) { return nn_add(g, x[0], x[1]); }
static nn_tensor w_sub(nn_graph *g, const nn_tensor x[]) { return nn_sub(g, x[0], x[1]); }
static nn_tensor w_mul(nn_graph *g, const nn_tensor x[]) { return nn_mul(g, x[0], x[1]); }
static nn_tensor w_square(nn_graph *g, const nn_tensor x[]) { return nn_mul(g, x[0], x[0]); }
static nn_tensor w_scale(nn_graph *g, const nn_tensor x[]) { return nn_scale(g, x[0], -1.7f); }
static nn_tensor w_silu(nn_graph *g, const nn_tensor x[]) { return nn_silu(g, nn_scale(g, x[0], 3.0f)); }
static nn_tensor w_gelu(nn_graph *g, const nn_tensor x[]) { return nn_gelu(g, nn_scale(g, x[0], 3.0f)); }
static nn_tensor w_quick(nn_graph *g, const nn_tensor x[]) { return nn_quick_gelu(g, nn_scale(g, x[0], 3.0f)); }
static nn_tensor w_geglu(nn_graph *g, const nn_tensor x[]) { return nn_geglu(g, nn_scale(g, x[0], 3.0f)); }

/* Away from 0, where nudging would reach over the bend. */
static nn_tensor w_relu(nn_graph *g, const nn_tensor x[])
{
    nn_tensor up = nn_fill(g, NN_SHAPE(5, 3), 0.5f), down = nn_fill(g, NN_SHAPE(5, 4), -0.5f);

    return nn_relu(g, nn_add(g, nn_scale(g, x[0], 0.4f), nn_concat(g, up, down)));
}

/* Far out: where exponentials leave the range of f32. */
static nn_tensor w_silu_far(nn_graph *g, const nn_tensor x[]) { return nn_silu(g, nn_scale(g, x[0], 200.0f)); }
static nn_tensor w_quick_far(nn_graph *g, const nn_tensor x[]) { return nn_quick_gelu(g, nn_scale(g, x[0], 200.0f)); }
static nn_tensor w_geglu_far(nn_graph *g, const nn_tensor x[]) { return nn_geglu(g, nn_scale(g, x[0], 40.0f)); }
static nn_tensor w_gelu_far(nn_graph *g, const nn_tensor x[]) { return nn_gelu(g, nn_scale(g, x[0], 40.0f)); }

static nn_tensor w_cast(nn_graph *g, const nn_tensor x[])
{
    return nn_cast(g, nn_cast(g, x[0], BF16), F32);
}

/* A staircase has no slope; the rule gives that of the line it follows, rounded to the 8 bits of bf16 in its turn. */
static nn_tensor w_cast_slope(nn_graph *g, const nn_tensor x[])
{
    return nn_scale(g, x[0], 1.0f);
}

const nn_row rows_pointwise[] = {
    {NN_OP_add, "add, same shape", {S(3, 4), S(3, 4)}, .write = w_add},
    {NN_OP_add, "add, a bias over rows", {S(2, 3, 4), S(4)}, .write = w_add},
    {NN_OP_add, "add, a vector per sample over a map", {S(2, 3, 2, 4), S(2, 1, 1, 4)}, .write = w_add},
    {NN_OP_add, "add, holes in the middle", {S(2, 3, 4, 2, 3), S(3, 1, 2, 1)}, .write = w_add},
    {NN_OP_add, "add, one number", {S(3, 4), S(1)}, .write = w_add},
    {NN_OP_sub, "sub, same shape", {S(3, 4), S(3, 4)}, .write = w_sub},
    {NN_OP_sub, "sub, a column", {S(3, 4), S(3, 1)}, .write = w_sub},
    {NN_OP_mul, "mul, same shape", {S(3, 4), S(3, 4)}, .write = w_mul},
    {NN_OP_mul, "mul, a weight per sample", {S(3, 4, 2), S(3, 1, 1)}, .write = w_mul},
    {NN_OP_mul, "mul, a row", {S(3, 4), S(4)}, .write = w_mul},
    {NN_OP_mul, "mul, by itself", {S(3, 4)}, .write = w_square},
    {NN_OP_scale, "scale by -1.7", {S(3, 4)}, .write = w_scale},
    {NN_OP_silu, "silu", {S(5, 7)}, .write = w_silu},
    {NN_OP_gelu, "gelu", {S(5, 7)}, .write = w_gelu},
    {NN_OP_quick_gelu, "quick_gelu", {S(5, 7)}, .write = w_quick},
    {NN_OP_relu, "relu", {S(5, 7)}, .write = w_relu},
    {NN_OP_geglu, "geglu", {S(3, 2, 10)}, .write = w_geglu},
    {NN_OP_cast, "cast to bf16 and back", {S(5, 7)}, .write = w_cast, .slope_of = w_cast_slope,
     .slope_tolerance = 1.0 / 256, .tolerance = 1e-9},

    {NN_OP_add, "add, 3 rows of 1021", {S(3, 1021), S(3, 1021)}, .write = w_add, .kernels_only = true},
    {NN_OP_add, "add, a bias over 77 rows of 321", {S(77, 321), S(321)}, .write = w_add, .kernels_only = true},
    {NN_OP_add, "add, a vector per sample over 9x7x65", {S(2, 9, 7, 65), S(2, 1, 1, 65)}, .write = w_add,
     .kernels_only = true},
    {NN_OP_add, "add, a column", {S(33, 130), S(33, 1)}, .write = w_add, .kernels_only = true},
    {NN_OP_sub, "sub, enough for two threads", {S(3, 131, 67), S(131, 67)}, .write = w_sub, .kernels_only = true},
    {NN_OP_mul, "mul, enough for two threads", {S(161, 131), S(161, 131)}, .write = w_mul, .kernels_only = true},
    {NN_OP_mul, "mul, a weight per sample", {S(3, 70, 101), S(3, 1, 1)}, .write = w_mul, .kernels_only = true},
    {NN_OP_scale, "scale, enough for two threads", {S(161, 131)}, .write = w_scale, .kernels_only = true},
    {NN_OP_silu, "silu, enough for two threads", {S(161, 131)}, .write = w_silu, .kernels_only = true},
    {NN_OP_gelu, "gelu, enough for two threads", {S(161, 131)}, .write = w_gelu, .kernels_only = true},
    {NN_OP_quick_gelu, "quick_gelu, enough for two threads", {S(161, 131)}, .write = w_quick, .kernels_only = true},
    {NN_OP_geglu, "geglu, enough for two threads", {S(41, 2 * 131)}, .write = w_geglu, .kernels_only = true},
    {NN_OP_silu, "silu, far out", {S(31, 31)}, .write = w_silu_far, .kernels_only = true},
    {NN_OP_gelu, "gelu, far out", {S(31, 31)}, .write = w_gelu_far, .kernels_only = true},
    {NN_OP_quick_gelu, "quick_gelu, far out", {S(31, 31)}, .write = w_quick_far, .kernels_only = true},
    {NN_OP_geglu, "geglu, far out", {S(31, 62)}, .write = w_geglu_far, .kernels_only = true},
    {NN_OP_cast, "cast, enough for two threads", {S(161, 131)}, .write = w_cast,
     .kernels_only = true, .tolerance = 1e-9},
    {0},
};
