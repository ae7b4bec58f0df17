/* Rows of op/embed.c. */
#include "tests/trainer/nn/rows.h"

#define S(...) {sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}}

/* Ids go from -2 to 6: row_fill. */
static nn_tensor w_embedding(nn_graph *g, const nn_tensor x[])
{
    return nn_embedding(g, x[0], nn_input(g, "ids", I32, NN_SHAPE(2, 9)), 0);
}

static nn_tensor w_embedding_from_3(nn_graph *g, const nn_tensor x[])
{
    return nn_embedding(g, x[0], nn_input(g, "ids", I32, NN_SHAPE(2, 9)), 3);
}

static nn_tensor w_embedding_large(nn_graph *g, const nn_tensor x[])
{
    return nn_embedding(g, x[0], nn_input(g, "ids", I32, NN_SHAPE(3, 77)), 0);
}

static nn_tensor w_waves(nn_graph *g, const nn_tensor x[])
{
    nn_tensor t = nn_input(g, "t", F32, NN_SHAPE(5));

    return nn_mul(g, nn_timestep_embedding(g, nn_scale(g, t, 999.0f), 33, true, 1.0f), x[0]);
}

static nn_tensor w_normal(nn_graph *g, const nn_tensor x[])
{
    return nn_mul(g, nn_normal(g, nn_input(g, "at", I32, NN_SHAPE(3, NN_STREAM)), NN_SHAPE(5, 7, 3)), x[0]);
}

const nn_row rows_embed[] = {
    {NN_OP_embedding, "embedding with ids outside the table", {S(5, 3)}, .write = w_embedding},
    {NN_OP_embedding, "embedding of the last words", {S(2, 3)}, .write = w_embedding_from_3},
    {NN_OP_embedding, "embedding of 3x77 words", {S(6, 129)}, .write = w_embedding_large, .kernels_only = true},
    {NN_OP_timestep_embedding, "timestep embedding", {S(5, 33)}, .write = w_waves, .kernels_only = true},
    {NN_OP_normal, "normal numbers, rows of 105", {S(3, 5, 7, 3)}, .write = w_normal, .kernels_only = true},
    {0},
};
