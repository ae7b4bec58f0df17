/* Words and times as vectors. */
#include "trainer/nn/node.h"

static int embedding_shape(struct nn_node *y, err *e)
{
    nn_tensor table = y->src[0], ids = y->src[1];
    nn_shape s = ids->shape;
    char a[64], b[64];

    if (table->shape.n != 2 || ids->type != I32 || s.n >= NN_MAX_DIM)
        return nn_shape_fail(y, e, "%s %s of table %s", dtype_name(ids->type), nn_shape_text(s, a),
                             nn_shape_text(table->shape, b));
    s.d[s.n++] = table->shape.d[1];
    y->shape = s;
    y->type = table->type;
    return 0;
}

/* ids, dy -> [rows, c]; the builder sets at.embed. */
static int embedding_grad_shape(struct nn_node *y, err *e)
{
    nn_shape dy = y->src[1]->shape;

    (void)e;
    y->shape = NN_SHAPE(y->at.embed.rows, dy.d[dy.n - 1]);
    y->type = y->src[1]->type;
    return 0;
}

static void embedding_grad(nn_graph *g, nn_tensor y, nn_tensor dy, const bool want[], nn_tensor dx[])
{
    if (want[0])
        dx[0] = nn_make(g, (struct nn_node){.op = &nn_op_embedding_grad, .src = {y->src[1], dy}, .at = y->at});
}

const nn_op nn_op_embedding = {
    .id = NN_OP_embedding, .name = "embedding", .shape = embedding_shape, .grad = embedding_grad};
const nn_op nn_op_embedding_grad = {
    .id = NN_OP_embedding_grad, .name = "embedding_grad", .shape = embedding_grad_shape};

nn_tensor nn_embedding(nn_graph *g, nn_tensor table, nn_tensor ids, int64_t first)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_embedding,
                                       .src = {table, ids},
                                       .at.embed = {.first = first, .rows = table->shape.d[0]}});
}

static int wave_shape(struct nn_node *y, err *e)
{
    nn_tensor t = y->src[0];
    char text[64];

    if (t->shape.n != 1 || t->type != F32 || y->at.wave.dim < 2)
        return nn_shape_fail(y, e, "%s of %s into %lld sinusoids", dtype_name(t->type), nn_shape_text(t->shape, text),
                             (long long)y->at.wave.dim);
    y->shape = NN_SHAPE(t->shape.d[0], y->at.wave.dim);
    y->type = F32;
    return 0;
}

const nn_op nn_op_timestep_embedding = {
    .id = NN_OP_timestep_embedding, .name = "timestep_embedding", .shape = wave_shape};

nn_tensor nn_timestep_embedding(nn_graph *g, nn_tensor t, int64_t dim, bool flip_sin_to_cos, float freq_shift)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_timestep_embedding,
                                       .src = {t},
                                       .at.wave = {.dim = dim, .flip = flip_sin_to_cos, .shift = freq_shift}});
}
