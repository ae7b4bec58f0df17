/* Rows of op/norm.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_group(nn_graph *g, const nn_tensor x[]) { return nn_group_norm(g, x[0], x[1], x[2], 3, 1e-3f); }
static nn_tensor w_silu(nn_graph *g, const nn_tensor x[]) { return nn_group_norm_silu(g, x[0], x[1], x[2], 3, 1e-3f); }
static nn_tensor w_layer(nn_graph *g, const nn_tensor x[]) { return nn_layer_norm(g, x[0], x[1], x[2], 1e-3f); }

const nn_row rows_norm[] = {
    {NN_OP_group_norm, "group norm", {S(2, 2, 3, 6), S(6), S(6)}, .write = w_group},
    {NN_OP_group_norm_silu, "group norm with silu", {S(2, 2, 3, 6), S(6), S(6)}, .write = w_silu},
    {NN_OP_layer_norm, "layer norm", {S(2, 3, 7), S(7), S(7)}, .write = w_layer},

    {NN_OP_group_norm, "group norm, large", {S(3, 11, 13, 33), S(33), S(33)}, .write = w_group, .kernels_only = true},
    {NN_OP_group_norm_silu, "group norm with silu, large", {S(3, 11, 13, 33), S(33), S(33)}, .write = w_silu, .kernels_only = true},
    {NN_OP_layer_norm, "layer norm, large", {S(2, 77, 129), S(129), S(129)}, .write = w_layer, .kernels_only = true},
    {0},
};
