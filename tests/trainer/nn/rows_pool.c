/* Rows of op/pool2d.c: for kernels alone, since no gradient has a rule. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_max(nn_graph *g, const nn_tensor x[])
{
    return nn_pool2d(g, nn_detach(g, x[0]), NN_POOL_MAX, 3, (nn_conv){2, {0}});
}

static nn_tensor w_mean(nn_graph *g, const nn_tensor x[])
{
    return nn_pool2d(g, nn_detach(g, x[0]), NN_POOL_MEAN, 3, (nn_conv){1, {1, 1, 1, 1}});
}

static nn_tensor w_mean_whole(nn_graph *g, const nn_tensor x[])
{
    return nn_pool2d(g, nn_detach(g, x[0]), NN_POOL_MEAN_WHOLE, 3, (nn_conv){2, {1, 0, 1, 2}});
}

const nn_row rows_pool[] = {
    {NN_OP_pool2d, "max, stride 2", {S(2, 9, 11, 20)}, .write = w_max, .kernels_only = true},
    {NN_OP_pool2d, "mean of what is inside", {S(2, 9, 11, 33)}, .write = w_mean, .kernels_only = true},
    {NN_OP_pool2d, "mean with zeros around", {S(2, 9, 11, 33)}, .write = w_mean_whole, .kernels_only = true},
    {0},
};
