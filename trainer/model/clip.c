/* CLIP's text transformer; see clip.h. */
#include "trainer/model/clip.h"

#include <string.h>

#include "trainer/model/block.h"

static int read_activation(clip_shape *c, const json_t *config, err *e)
{
    const char *act;

    TRY(json_opt_text(config, "hidden_act", "quick_gelu", &act, e));
    c->quick = strcmp(act, "quick_gelu") == 0;
    if (!c->quick && strcmp(act, "gelu") != 0)
        return err_set(e, ERR_INPUT, "hidden_act %s is not built (quick_gelu and gelu are)", act);
    return 0;
}

int clip_shape_from(clip_shape *out, const json_t *config, err *e)
{
    clip_shape c = {0};
    double eps;

    TRY(block_ints(config, "hidden_size", 1, 1, 1 << 16, 512, &c.width, e));
    TRY(block_ints(config, "num_hidden_layers", 1, 1, 1 << 10, 12, &c.layers, e));
    TRY(block_ints(config, "num_attention_heads", 1, 1, 1 << 12, 8, &c.heads, e));
    TRY(block_ints(config, "intermediate_size", 1, 1, 1 << 18, 2048, &c.inner, e));
    TRY(block_ints(config, "vocab_size", 1, 1, 1 << 24, 49408, &c.vocab, e));
    TRY(block_ints(config, "max_position_embeddings", 1, 1, 1 << 16, 77, &c.positions, e));
    TRY(block_ints(config, "projection_dim", 1, 1, 1 << 16, 512, &c.projection, e));
    TRY(json_opt_real(config, "layer_norm_eps", 1e-5, &eps, e));
    TRY(read_activation(&c, config, e));
    c.eps = (float)eps;
    if (c.width % c.heads != 0)
        return err_set(e, ERR_INPUT, "num_attention_heads %d does not divide hidden_size %d", c.heads, c.width);
    *out = c;
    return 0;
}

/* Each id is found in one of two tables and gives zeros in the other. */
static nn_tensor embed(nn_graph *g, const clip_shape *c, nn_tensor ids, int modifiers, nn_tensor scale)
{
    int64_t tokens = block_dim(ids, 1);

    nn_enter(g, "text_model.embeddings");
    nn_tensor table = nn_weight(g, "token_embedding.weight", NN_SHAPE(c->vocab, c->width));
    nn_tensor places = nn_weight(g, "position_embedding.weight", NN_SHAPE(c->positions, c->width));
    nn_leave(g);
    nn_tensor x = nn_embedding(g, table, ids, 0);
    if (scale)
        x = nn_mul(g, x, scale);
    if (modifiers > 0) {
        nn_tensor rows = nn_param(g, "modifier", NN_SHAPE(modifiers, c->width));
        rows = nn_reshape(g, rows, NN_SHAPE(nn_count(nn_shape_get(rows)) / c->width, c->width)); /* of a pack: all concepts' */
        x = nn_add(g, x, nn_embedding(g, rows, ids, c->vocab));
    }
    if (tokens > c->positions)
        return nn_mistake(g, "%lld tokens, and the text encoder has places for %d", (long long)tokens, c->positions);
    if (tokens < c->positions)
        places = nn_slice(g, places, 0, 0, tokens);
    return nn_add(g, x, places);
}

static nn_tensor self_attention(nn_graph *g, const clip_shape *c, nn_tensor x)
{
    nn_enter(g, "self_attn");
    nn_tensor q = block_linear(g, "q_proj", x, c->width, true);
    nn_tensor k = block_linear(g, "k_proj", x, c->width, true);
    nn_tensor v = block_linear(g, "v_proj", x, c->width, true);
    nn_tensor y = block_linear(g, "out_proj", nn_attention(g, q, k, v, c->heads, true), c->width, true);
    nn_leave(g);
    return y;
}

static nn_tensor mlp(nn_graph *g, const clip_shape *c, nn_tensor x)
{
    nn_enter(g, "mlp");
    nn_tensor h = block_linear(g, "fc1", x, c->inner, true);
    h = c->quick ? nn_quick_gelu(g, h) : nn_gelu(g, h);
    h = block_linear(g, "fc2", h, c->width, true);
    nn_leave(g);
    return h;
}

nn_tensor clip_write(nn_graph *g, const clip_shape *c, nn_tensor ids, int modifiers, nn_tensor scale)
{
    nn_tensor x = embed(g, c, ids, modifiers, scale); /* [n,tokens,width] */

    nn_enter(g, "text_model");
    for (int i = 0; i < c->layers; i++) {
        nn_enter(g, "encoder.layers.%d", i);
        x = nn_add(g, x, self_attention(g, c, block_layer_norm(g, "layer_norm1", x, c->eps)));
        x = nn_add(g, x, mlp(g, c, block_layer_norm(g, "layer_norm2", x, c->eps)));
        nn_leave(g);
    }
    x = block_layer_norm(g, "final_layer_norm", x, c->eps);
    nn_leave(g);
    return x;
}

nn_tensor clip_project_write(nn_graph *g, const clip_shape *c, nn_tensor x)
{
    return block_linear(g, "text_projection", x, c->projection, false);
}
