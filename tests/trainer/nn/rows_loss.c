/* Rows of op/loss.c, and of what clips a gradient (op/update.c). */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

static nn_tensor w_plain(nn_graph *g, const nn_tensor x[]) { return nn_squared_error(g, x[0], x[1], NULL); }

static nn_tensor w_masked(nn_graph *g, const nn_tensor x[])
{
    nn_shape s = x[0]->shape;

    return nn_squared_error(g, x[0], x[1], nn_input(g, "mask", F32, NN_SHAPE(s.d[0], s.d[1], s.d[2])));
}

/* Norms squared are no numbers below 0; nothing flows through. */
static nn_tensor w_clip(nn_graph *g, const nn_tensor x[])
{
    nn_tensor norm2 = nn_sum_to(g, nn_mul(g, x[1], x[1]), NN_SHAPE(x[1]->shape.d[0], 1));

    return nn_clip(g, nn_detach(g, x[0]), nn_detach(g, nn_reshape(g, norm2, NN_SHAPE(x[1]->shape.d[0]))), nn_detach(g, x[2]));
}

const nn_row rows_loss[] = {
    {NN_OP_squared_error, "squared error", {S(2, 2, 3, 2), S(2, 2, 3, 2)}, .write = w_plain},
    {NN_OP_squared_error, "squared error under a mask", {S(2, 2, 3, 2), S(2, 2, 3, 2)}, .write = w_masked},
    {NN_OP_squared_error, "squared error, large", {S(3, 33, 65, 4), S(3, 33, 65, 4)}, .write = w_masked,
     .kernels_only = true},
    {NN_OP_clip, "clip", {S(37, NN_ADAMW_HYPER), S(37, 2), S(37, 5)}, .write = w_clip, .kernels_only = true},
    {0},
};
