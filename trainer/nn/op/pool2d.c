/* Windows of maps [n,h,w,c]: the largest or the mean of what of each lies inside. Channels stay apart. */
#include "trainer/nn/node.h"

/* Every window must hold something: a padding as wide as the window would leave some empty. */
static bool fits(nn_conv at, int k)
{
    if (at.stride < 1 || k < 1)
        return false;
    for (int i = 0; i < 4; i++)
        if (at.pad[i] < 0 || at.pad[i] >= k)
            return false;
    return true;
}

static int pool2d_shape(struct nn_node *y, err *e)
{
    nn_shape x = y->src[0]->shape;
    nn_conv at = y->at.pool.at;
    int64_t k = y->at.pool.k;
    char text[64];

    if (!fits(at, (int)k))
        return nn_shape_fail(y, e, "windows of %lld, stride %d, padding %d %d %d %d", (long long)k, at.stride, at.pad[0],
                             at.pad[1], at.pad[2], at.pad[3]);
    if (x.n != 4 || x.d[1] + at.pad[0] + at.pad[2] < k || x.d[2] + at.pad[1] + at.pad[3] < k)
        return nn_shape_fail(y, e, "windows of %lld on %s", (long long)k, nn_shape_text(x, text));
    y->shape = NN_SHAPE(x.d[0], (x.d[1] + at.pad[0] + at.pad[2] - k) / at.stride + 1,
                        (x.d[2] + at.pad[1] + at.pad[3] - k) / at.stride + 1, x.d[3]);
    y->type = y->src[0]->type;
    return 0;
}

const nn_op nn_op_pool2d = {.id = NN_OP_pool2d, .name = "pool2d", .shape = pool2d_shape};

nn_tensor nn_pool2d(nn_graph *g, nn_tensor x, nn_pool how, int k, nn_conv at)
{
    return nn_make(g, (struct nn_node){.op = &nn_op_pool2d, .src = {x}, .at.pool = {at, how, k}});
}
