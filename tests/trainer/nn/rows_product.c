/* Rows of op/matmul.c, op/conv2d.c, op/attention.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_nn(nn_graph *g, const nn_tensor x[]) { return nn_matmul(g, x[0], x[1], false, false); }
static nn_tensor w_tn(nn_graph *g, const nn_tensor x[]) { return nn_matmul(g, x[0], x[1], true, false); }
static nn_tensor w_nt(nn_graph *g, const nn_tensor x[]) { return nn_matmul(g, x[0], x[1], false, true); }
static nn_tensor w_tt(nn_graph *g, const nn_tensor x[]) { return nn_matmul(g, x[0], x[1], true, true); }
static nn_tensor w_linear(nn_graph *g, const nn_tensor x[]) { return nn_linear(g, x[0], x[1], x[2]); }
static nn_tensor w_plain_linear(nn_graph *g, const nn_tensor x[]) { return nn_linear(g, x[0], x[1], NULL); }

static nn_tensor w_conv(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){1, {1, 1, 1, 1}});
}

static nn_tensor w_linear_sum(nn_graph *g, const nn_tensor x[]) { return nn_add(g, x[3], nn_linear(g, x[0], x[1], x[2])); }
static nn_tensor w_conv_sum(nn_graph *g, const nn_tensor x[]) { return nn_add(g, w_conv(g, x), x[3]); }

static nn_tensor w_conv_half(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){2, {1, 1, 1, 1}});
}

static nn_tensor w_conv_vae(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], NULL, (nn_conv){2, {0, 0, 1, 1}});
}

static nn_tensor w_conv_bare(nn_graph *g, const nn_tensor x[])
{
    return nn_conv2d(g, x[0], x[1], x[2], (nn_conv){1, {0}});
}

static nn_tensor w_attention(nn_graph *g, const nn_tensor x[])
{
    return nn_attention(g, nn_scale(g, x[0], 2.0f), x[1], x[2], 2, false);
}

static nn_tensor w_causal(nn_graph *g, const nn_tensor x[])
{
    return nn_attention(g, nn_scale(g, x[0], 2.0f), x[1], x[2], 1, true);
}

const nn_row rows_product[] = {
    {NN_OP_matmul, "matmul", {S(3, 4), S(4, 2)}, .write = w_nn},
    {NN_OP_matmul, "matmul, left turned", {S(4, 3), S(4, 2)}, .write = w_tn},
    {NN_OP_matmul, "matmul, right turned", {S(3, 4), S(2, 4)}, .write = w_nt},
    {NN_OP_matmul, "matmul, both turned", {S(4, 3), S(2, 4)}, .write = w_tt},
    {NN_OP_matmul, "matmul, a batch, left turned", {S(2, 4, 3), S(2, 4, 2)}, .write = w_tn},
    {NN_OP_matmul, "matmul, a batch, right turned", {S(2, 3, 4), S(2, 2, 4)}, .write = w_nt},
    {NN_OP_matmul, "linear", {S(2, 3, 4), S(5, 4), S(5)}, .write = w_linear},
    {NN_OP_matmul, "linear without bias", {S(3, 4), S(5, 4)}, .write = w_plain_linear},
    {NN_OP_matmul, "linear and a sum", {S(2, 3, 4), S(5, 4), S(5), S(2, 3, 5)}, .write = w_linear_sum},
    {NN_OP_conv2d, "conv 3x3", {S(2, 3, 4, 2), S(3, 3, 3, 2), S(3)}, .write = w_conv},
    {NN_OP_conv2d, "conv 3x3, stride 2", {S(1, 4, 5, 2), S(3, 3, 3, 2), S(3)}, .write = w_conv_half},
    {NN_OP_conv2d, "conv 3x3, stride 2, padded right and below", {S(1, 4, 4, 2), S(3, 3, 3, 2)}, .write = w_conv_vae},
    {NN_OP_conv2d, "conv 1x1", {S(2, 2, 3, 4), S(3, 1, 1, 4), S(3)}, .write = w_conv_bare},
    {NN_OP_conv2d, "conv 3x3 and a sum", {S(1, 3, 4, 2), S(3, 3, 3, 2), S(3), S(1, 3, 4, 3)}, .write = w_conv_sum},
    {NN_OP_conv2d, "conv 3x3 and a number a channel", {S(2, 3, 2, 2), S(3, 3, 3, 2), S(3), S(2, 1, 1, 3)}, .write = w_conv_sum},
    {NN_OP_attention, "attention of two heads", {S(2, 3, 4), S(2, 5, 4), S(2, 5, 4)}, .write = w_attention},
    {NN_OP_attention, "causal attention", {S(2, 4, 3), S(2, 4, 3), S(2, 4, 3)}, .write = w_causal},

    {NN_OP_matmul, "linear 77x65 to 130", {S(77, 65), S(130, 65), S(130)}, .write = w_linear, .kernels_only = true},
    {NN_OP_matmul, "matmul of 3 batches", {S(3, 33, 17), S(3, 17, 49)}, .write = w_nn, .kernels_only = true},
    {NN_OP_conv2d, "conv 3x3, 20 to 33 channels", {S(2, 9, 11, 20), S(33, 3, 3, 20), S(33)}, .write = w_conv,
     .kernels_only = true},
    {NN_OP_matmul, "linear 77x65 to 130, and a sum", {S(77, 65), S(130, 65), S(130), S(77, 130)}, .write = w_linear_sum,
     .kernels_only = true},
    {NN_OP_conv2d, "conv 3x3, stride 2, 20 to 33", {S(2, 9, 11, 20), S(33, 3, 3, 20), S(33)}, .write = w_conv_half,
     .kernels_only = true},
    {NN_OP_attention, "attention, 70 queries, 77 keys", {S(2, 70, 40), S(2, 77, 40), S(2, 77, 40)},
     .write = w_attention, .kernels_only = true},
    {NN_OP_attention, "attention, heads of 40", {S(1, 18, 80), S(1, 21, 80), S(1, 21, 80)}, .write = w_attention,
     .kernels_only = true},
    {NN_OP_attention, "causal attention over 77", {S(2, 77, 33), S(2, 77, 33), S(2, 77, 33)}, .write = w_causal,
     .kernels_only = true},
    {0},
};
