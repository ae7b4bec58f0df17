/* Rows of op/loss.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_plain(nn_graph *g, const nn_tensor x[]) { return nn_squared_error(g, x[0], x[1], NULL); }

static nn_tensor w_masked(nn_graph *g, const nn_tensor x[])
{
    nn_shape s = x[0]->shape;

    return nn_squared_error(g, x[0], x[1], nn_input(g, "mask", F32, NN_SHAPE(s.d[0], s.d[1], s.d[2])));
}

const nn_row rows_loss[] = {
    {NN_OP_squared_error, "squared error", {S(2, 2, 3, 2), S(2, 2, 3, 2)}, .write = w_plain},
    {NN_OP_squared_error, "squared error under a mask", {S(2, 2, 3, 2), S(2, 2, 3, 2)}, .write = w_masked},
    {NN_OP_squared_error, "squared error, large", {S(3, 33, 65, 4), S(3, 33, 65, 4)}, .write = w_masked,
     .kernels_only = true},
    {0},
};
