/* The shared bricks; see block.h. */
#include "trainer/model/block.h"

#include <string.h>

int64_t block_dim(nn_tensor x, int i)
{
    nn_shape s = nn_shape_get(x);
    int at = i < 0 ? s.n + i : i;

    return at >= 0 && at < s.n ? s.d[at] : 1;
}

nn_tensor block_linear(nn_graph *g, const char *name, nn_tensor x, int64_t out, bool bias)
{
    nn_enter(g, "%s", name);
    nn_tensor w = nn_weight(g, "weight", NN_SHAPE(out, block_dim(x, -1)));
    nn_tensor b = bias ? nn_param(g, "bias", NN_SHAPE(out)) : NULL;
    nn_tensor y = nn_beside(g, nn_linear(g, x, w, b), x);
    nn_leave(g);
    return y;
}

nn_tensor block_conv_at(nn_graph *g, const char *name, nn_tensor x, int64_t out, int k, nn_conv at)
{
    nn_enter(g, "%s", name);
    nn_tensor w = nn_weight(g, "weight", NN_SHAPE(out, k, k, block_dim(x, -1)));
    nn_tensor b = nn_param(g, "bias", NN_SHAPE(out));
    nn_tensor y = nn_conv2d(g, x, w, b, at);
    nn_leave(g);
    return y;
}

nn_tensor block_conv(nn_graph *g, const char *name, nn_tensor x, int64_t out, int k, int stride)
{
    int p = k / 2;

    return block_conv_at(g, name, x, out, k, (nn_conv){.stride = stride, .pad = {p, p, p, p}});
}

nn_tensor block_group_norm(nn_graph *g, const char *name, nn_tensor x, int groups, float eps)
{
    nn_shape c = NN_SHAPE(block_dim(x, -1));

    nn_enter(g, "%s", name);
    nn_tensor y = nn_group_norm(g, x, nn_weight(g, "weight", c), nn_param(g, "bias", c), groups, eps);
    nn_leave(g);
    return y;
}

nn_tensor block_group_norm_silu(nn_graph *g, const char *name, nn_tensor x, int groups, float eps)
{
    nn_shape c = NN_SHAPE(block_dim(x, -1));

    nn_enter(g, "%s", name);
    nn_tensor y = nn_group_norm_silu(g, x, nn_weight(g, "weight", c), nn_param(g, "bias", c), groups, eps);
    nn_leave(g);
    return y;
}

nn_tensor block_layer_norm(nn_graph *g, const char *name, nn_tensor x, float eps)
{
    nn_shape c = NN_SHAPE(block_dim(x, -1));

    nn_enter(g, "%s", name);
    nn_tensor y = nn_layer_norm(g, x, nn_weight(g, "weight", c), nn_param(g, "bias", c), eps);
    nn_leave(g);
    return y;
}

nn_tensor block_resnet(nn_graph *g, nn_tensor x, nn_tensor time, int64_t out, int groups, float eps)
{
    int64_t n = block_dim(x, 0), in = block_dim(x, -1);
    nn_tensor h = block_group_norm_silu(g, "norm1", x, groups, eps);

    h = block_conv(g, "conv1", h, out, 3, 1);
    if (time) {
        nn_tensor t = block_linear(g, "time_emb_proj", time, out, true);
        h = nn_add(g, h, nn_reshape(g, t, NN_SHAPE(n, 1, 1, out)));
    }
    h = block_group_norm_silu(g, "norm2", h, groups, eps);
    h = block_conv(g, "conv2", h, out, 3, 1);
    if (in != out)
        x = block_conv(g, "conv_shortcut", x, out, 1, 1);
    return nn_add(g, x, h);
}

size_t block_unit(const char *scope)
{
    static const char *const kinds[] = {".resnets.", ".transformer_blocks.", ".encoder.layers."};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *at = strstr(scope, kinds[i]);
        if (!at)
            continue;
        at += strlen(kinds[i]);
        return (size_t)(at - scope) + strspn(at, "0123456789");
    }
    return 0;
}

nn_tensor block_upsample(nn_graph *g, nn_tensor x, int64_t h, int64_t w)
{
    return block_conv(g, "conv", nn_upsample(g, x, h, w), block_dim(x, -1), 3, 1);
}
