/* Rows of op/reduce.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

/* Squares first, so that the slope differs from element to element. */
static nn_tensor sum(nn_graph *g, const nn_tensor x[], nn_shape s)
{
    return nn_sum_to(g, nn_mul(g, x[0], x[0]), s);
}

static nn_tensor repeat(nn_graph *g, const nn_tensor x[], nn_shape s)
{
    nn_tensor y = nn_expand(g, x[0], s);

    return nn_mul(g, y, nn_input(g, "weighed", F32, s));
}

static nn_tensor w_sum_rows(nn_graph *g, const nn_tensor x[])
{
    return sum(g, x, NN_SHAPE(x[0]->shape.d[x[0]->shape.n - 1]));
}

static nn_tensor w_sum_all(nn_graph *g, const nn_tensor x[]) { return sum(g, x, NN_SHAPE(1)); }

static nn_tensor w_sum_maps(nn_graph *g, const nn_tensor x[])
{
    return sum(g, x, NN_SHAPE(x[0]->shape.d[0], 1, 1, x[0]->shape.d[3]));
}

static nn_tensor w_sum_columns(nn_graph *g, const nn_tensor x[]) { return sum(g, x, NN_SHAPE(x[0]->shape.d[0], 1)); }

static nn_tensor w_sum_holes(nn_graph *g, const nn_tensor x[])
{
    return sum(g, x, NN_SHAPE(1, x[0]->shape.d[1], 1, x[0]->shape.d[3]));
}

static nn_tensor w_repeat_row(nn_graph *g, const nn_tensor x[]) { return repeat(g, x, NN_SHAPE(5, x[0]->shape.d[0])); }

static nn_tensor w_repeat_maps(nn_graph *g, const nn_tensor x[])
{
    return repeat(g, x, NN_SHAPE(x[0]->shape.d[0], 3, 5, x[0]->shape.d[3]));
}

static nn_tensor w_repeat_one(nn_graph *g, const nn_tensor x[]) { return repeat(g, x, NN_SHAPE(4, 3)); }
static nn_tensor w_squares(nn_graph *g, const nn_tensor x[]) { return nn_sum_squares(g, x[0]); }

const nn_row rows_reduce[] = {
    {NN_OP_sum_to, "sum over rows", {S(2, 3, 4)}, .write = w_sum_rows},
    {NN_OP_sum_to, "sum of all", {S(3, 5)}, .write = w_sum_all},
    {NN_OP_sum_to, "sum over a map", {S(2, 3, 2, 3)}, .write = w_sum_maps},
    {NN_OP_sum_to, "sum over columns", {S(3, 5)}, .write = w_sum_columns},
    {NN_OP_sum_to, "sum over two dimensions apart", {S(2, 3, 2, 3)}, .write = w_sum_holes},
    {NN_OP_expand, "expand a row", {S(4)}, .write = w_repeat_row},
    {NN_OP_expand, "expand over a map", {S(2, 1, 1, 3)}, .write = w_repeat_maps},
    {NN_OP_expand, "expand one number", {S(1)}, .write = w_repeat_one},
    {NN_OP_sum_squares, "sum of squares", {S(3, 5)}, .write = w_squares},

    {NN_OP_sum_to, "sum over 313 rows of 65", {S(313, 65)}, .write = w_sum_rows, .kernels_only = true},
    {NN_OP_sum_to, "sum over 5 rows of 4099", {S(5, 4099)}, .write = w_sum_rows, .kernels_only = true},
    {NN_OP_sum_to, "sum of 21,003", {S(21003)}, .write = w_sum_all, .kernels_only = true},
    {NN_OP_sum_to, "sum over maps of 13x17x33", {S(3, 13, 17, 33)}, .write = w_sum_maps, .kernels_only = true},
    {NN_OP_sum_to, "sum over 333 columns", {S(61, 333)}, .write = w_sum_columns, .kernels_only = true},
    {NN_OP_sum_to, "sum over two dimensions apart, large", {S(3, 13, 17, 33)}, .write = w_sum_holes,
     .kernels_only = true},
    {NN_OP_expand, "expand a row of 5003", {S(5003)}, .write = w_repeat_row, .kernels_only = true},
    {NN_OP_expand, "expand over a map, large", {S(5, 1, 1, 333)}, .write = w_repeat_maps, .kernels_only = true},
    {NN_OP_sum_squares, "sum of 21,003 squares", {S(21003)}, .write = w_squares, .kernels_only = true},
    {0},
};
