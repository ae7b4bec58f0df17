/* Rows of op/shape.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

/* A factor that differs from element to element, so that a wrong place shows. */
static nn_tensor weighed(nn_graph *g, nn_tensor x)
{
    return nn_mul(g, x, nn_input(g, "weighed", F32, x->shape));
}

static nn_tensor w_reshape(nn_graph *g, const nn_tensor x[])
{
    return weighed(g, nn_reshape(g, x[0], NN_SHAPE(nn_count(x[0]->shape) / 2, 2)));
}

static nn_tensor w_view(nn_graph *g, const nn_tensor x[])
{
    return weighed(g, nn_view(g, x[0], 5, NN_SHAPE(3, 2)));
}

/* What passes through rows of words 0 and 1 has no slope; the value is all there. */
static nn_tensor w_detach_rows(nn_graph *g, const nn_tensor x[])
{
    nn_tensor y = nn_detach_rows(g, x[0], 2);

    return nn_mul(g, y, y);
}

static nn_tensor w_detached_slope(nn_graph *g, const nn_tensor x[])
{
    int64_t t = x[0]->shape.d[1];
    nn_tensor tail = nn_slice(g, nn_mul(g, x[0], x[0]), 1, 2, t - 2);

    return row_pull_back(g, nn_slice(g, x[0], 1, 2, t - 2), tail, x[0]); /* tail with zeros before it */
}

static nn_tensor w_zero_rows(nn_graph *g, const nn_tensor x[])
{
    return row_pull_back(g, nn_detach_rows(g, x[0], 2), x[1], x[0]);
}

static nn_tensor w_slice0(nn_graph *g, const nn_tensor x[]) { return weighed(g, nn_slice(g, x[0], 0, 1, 2)); }
static nn_tensor w_slice1(nn_graph *g, const nn_tensor x[]) { return weighed(g, nn_slice(g, x[0], 1, 1, 3)); }
static nn_tensor w_slice2(nn_graph *g, const nn_tensor x[]) { return weighed(g, nn_slice(g, x[0], 2, 1, 4)); }

static nn_tensor w_pad(nn_graph *g, const nn_tensor x[])
{
    return weighed(g, row_pull_back(g, nn_slice(g, x[0], 1, 1, 2), x[1], x[0]));
}

static nn_tensor w_concat(nn_graph *g, const nn_tensor x[]) { return weighed(g, nn_concat(g, x[0], x[1])); }

static nn_tensor up(nn_graph *g, nn_tensor x, int64_t h, int64_t w)
{
    return weighed(g, nn_upsample(g, x, h, w));
}

static nn_tensor w_double(nn_graph *g, const nn_tensor x[])
{
    return up(g, x[0], 2 * x[0]->shape.d[1], 2 * x[0]->shape.d[2]);
}

static nn_tensor w_odd(nn_graph *g, const nn_tensor x[])
{
    return up(g, x[0], 2 * x[0]->shape.d[1] - 1, 2 * x[0]->shape.d[2] + 1);
}

const nn_row rows_shape[] = {
    {NN_OP_reshape, "reshape", {S(3, 4)}, .write = w_reshape},
    {NN_OP_view, "view of the middle", {S(3, 5)}, .write = w_view},
    {NN_OP_detach_rows, "detach_rows", {S(2, 4, 3)}, .write = w_detach_rows, .slope_of = w_detached_slope},
    {NN_OP_zero_rows, "zero_rows", {S(2, 4, 3), S(2, 4, 3)}, .write = w_zero_rows},
    {NN_OP_slice, "slice of samples", {S(4, 3)}, .write = w_slice0},
    {NN_OP_slice, "slice of rows", {S(2, 5, 3)}, .write = w_slice1},
    {NN_OP_slice, "slice of channels", {S(2, 3, 6)}, .write = w_slice2},
    {NN_OP_pad, "pad of rows", {S(2, 4, 3), S(2, 2, 3)}, .write = w_pad},
    {NN_OP_concat, "concat", {S(2, 3, 2), S(2, 3, 5)}, .write = w_concat},
    {NN_OP_upsample, "upsample by two", {S(2, 2, 3, 2)}, .write = w_double},
    {NN_OP_upsample, "upsample to odd sizes", {S(1, 3, 2, 3)}, .write = w_odd},

    {NN_OP_slice, "slice of rows, large", {S(3, 70, 201)}, .write = w_slice1, .kernels_only = true},
    {NN_OP_slice, "slice of channels, many rows", {S(90, 91, 7)}, .write = w_slice2, .kernels_only = true},
    {NN_OP_concat, "concat of 31 and 66 channels", {S(11, 29, 31), S(11, 29, 66)}, .write = w_concat,
     .kernels_only = true},
    {NN_OP_concat, "concat of many narrow rows", {S(4501, 3), S(4501, 2)}, .write = w_concat, .kernels_only = true},
    {NN_OP_detach_rows, "detach_rows, large", {S(3, 77, 129)}, .write = w_detach_rows, .kernels_only = true},
    {NN_OP_upsample, "upsample by two, large", {S(2, 9, 8, 37)}, .write = w_double, .kernels_only = true},
    {NN_OP_upsample, "upsample to odd sizes, large", {S(2, 9, 8, 37)}, .write = w_odd, .kernels_only = true},
    {0},
};
