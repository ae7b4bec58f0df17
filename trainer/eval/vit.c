/* The body stands once; what differs between the three namings is the table WORDS and how q, k, v lie in the file. */
#include "trainer/eval/vit.h"

#include <string.h>

#include "trainer/model/block.h"

/* Scopes of one naming. qkv: one matrix for the three, else NULL and q, k, v. */
typedef struct {
    const char *patch, *token, *places;        /* patch: a convolution; the other two: weights */
    const char *before, *layer, *after;        /* norms around the layers (before NULL: none); layer: a format */
    const char *norm1, *norm2;
    const char *qkv, *q, *k, *v, *out;
    const char *fc1, *fc2;
} vit_words;

static const vit_words WORDS[] = {
    [VIT_CLIP] = {"embeddings.patch_embedding", "embeddings.class_embedding", "embeddings.position_embedding.weight",
                  "pre_layrnorm", "encoder.layers.%d", "post_layernorm", "layer_norm1", "layer_norm2", NULL,
                  "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1",
                  "mlp.fc2"},
    [VIT_DINO] = {"patch_embed.proj", "cls_token", "pos_embed", NULL, "blocks.%d", "norm", "norm1", "norm2", "attn.qkv",
                  NULL, NULL, NULL, "attn.proj", "mlp.fc1", "mlp.fc2"},
    [VIT_HF] = {"embeddings.patch_embeddings.projection", "embeddings.cls_token", "embeddings.position_embeddings",
                NULL, "encoder.layer.%d", "layernorm", "layernorm_before", "layernorm_after", NULL,
                "attention.attention.query", "attention.attention.key", "attention.attention.value",
                "attention.output.dense", "intermediate.dense", "output.dense"},
};

/* ---- config.json ---- */

static int read_act(vit_shape *v, const json_t *config, const char *fallback, err *e)
{
    const char *act;

    TRY(json_opt_text(config, "hidden_act", fallback, &act, e));
    v->act = strcmp(act, "quick_gelu") == 0 ? VIT_QUICK_GELU : VIT_GELU;
    if (v->act == VIT_GELU && strcmp(act, "gelu") != 0)
        return err_set(e, ERR_INPUT, "hidden_act %s is not built (quick_gelu and gelu are)", act);
    return 0;
}

static int read_sizes(vit_shape *v, const json_t *config, int inner, int patch, err *e)
{
    TRY(block_ints(config, "hidden_size", 1, 1, 1 << 16, 768, &v->width, e));
    TRY(block_ints(config, "num_hidden_layers", 1, 1, 1 << 10, 12, &v->layers, e));
    TRY(block_ints(config, "num_attention_heads", 1, 1, 1 << 12, 12, &v->heads, e));
    TRY(block_ints(config, "intermediate_size", 1, 1, 1 << 18, inner, &v->inner, e));
    TRY(block_ints(config, "image_size", 1, 1, 1 << 12, 224, &v->side, e));
    TRY(block_ints(config, "patch_size", 1, 1, 1 << 12, patch, &v->patch, e));
    TRY(block_check_only(config, (const block_only[]){{"num_channels", "3"}, {NULL, NULL}}, e));
    if (v->width % v->heads != 0)
        return err_set(e, ERR_INPUT, "num_attention_heads %d does not divide hidden_size %d", v->heads, v->width);
    if (v->patch > v->side)
        return err_set(e, ERR_INPUT, "patch_size %d is more than image_size %d", v->patch, v->side);
    return 0;
}

int vit_clip_shape_from(vit_shape *out, const json_t *config, err *e)
{
    const json_t *vision = json_object_get(config, "vision_config");
    vit_shape v = {.naming = VIT_CLIP};
    double eps;

    if (!json_is_object(vision))
        return err_set(e, ERR_INPUT, "no vision_config; the config.json of a whole CLIP model is wanted");
    if (read_sizes(&v, vision, 3072, 32, e) != 0 || json_opt_real(vision, "layer_norm_eps", 1e-5, &eps, e) != 0 ||
        read_act(&v, vision, "quick_gelu", e) != 0)
        return err_wrap(e, "vision_config");
    TRY(block_ints(config, "projection_dim", 1, 1, 1 << 16, 512, &v.projection, e));
    v.eps = (float)eps;
    *out = v;
    return 0;
}

int vit_hf_shape_from(vit_shape *out, const json_t *config, err *e)
{
    vit_shape v = {.naming = VIT_HF};
    double eps;

    TRY(read_sizes(&v, config, 3072, 16, e));
    TRY(read_act(&v, config, "gelu", e));
    TRY(json_opt_real(config, "layer_norm_eps", 1e-12, &eps, e));
    TRY(block_check_only(config, (const block_only[]){{"qkv_bias", "true"}, {NULL, NULL}}, e));
    v.eps = (float)eps;
    *out = v;
    return 0;
}

int vit_features(const vit_shape *v)
{
    return v->projection > 0 ? v->projection : v->width;
}

/* ---- the graph ---- */

/* CLIP's convolution has no bias, DINO's has one. */
static nn_tensor patches(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    int64_t k = v->patch;

    nn_enter(g, "%s", WORDS[v->naming].patch);
    nn_tensor w = nn_weight(g, "weight", NN_SHAPE(v->width, k, k, block_dim(x, -1)));
    nn_tensor b = v->naming == VIT_CLIP ? NULL : nn_param(g, "bias", NN_SHAPE(v->width));
    nn_tensor y = nn_conv2d(g, x, w, b, (nn_conv){.stride = v->patch});
    nn_leave(g);
    return y;
}

/* Words are joined by laying samples out flat: [n,c] beside [n,t*c]. */
static nn_tensor embed(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    const vit_words *say = &WORDS[v->naming];
    int64_t n = block_dim(x, 0), c = v->width;
    nn_tensor p = patches(g, v, x);
    int64_t t = block_dim(p, 1) * block_dim(p, 2);
    nn_tensor token = nn_reshape(g, nn_weight(g, say->token, NN_SHAPE(c)), NN_SHAPE(1, c));
    nn_tensor places = nn_weight(g, say->places, NN_SHAPE(t + 1, c));

    nn_tensor all = nn_concat(g, nn_expand(g, token, NN_SHAPE(n, c)), nn_reshape(g, p, NN_SHAPE(n, t * c)));
    return nn_add(g, nn_reshape(g, all, NN_SHAPE(n, t + 1, c)), places); /* [n,1+t,c] */
}

static nn_tensor self_attention(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    const vit_words *say = &WORDS[v->naming];
    int64_t c = v->width;
    nn_tensor q, k, val;

    if (say->qkv) {
        nn_tensor all = block_linear(g, say->qkv, x, 3 * c, true);
        q = nn_slice(g, all, 2, 0, c);
        k = nn_slice(g, all, 2, c, c);
        val = nn_slice(g, all, 2, 2 * c, c);
    } else {
        q = block_linear(g, say->q, x, c, true);
        k = block_linear(g, say->k, x, c, true);
        val = block_linear(g, say->v, x, c, true);
    }
    return block_linear(g, say->out, nn_attention(g, q, k, val, v->heads, false), c, true);
}

static nn_tensor mlp(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    const vit_words *say = &WORDS[v->naming];
    nn_tensor h = block_linear(g, say->fc1, x, v->inner, true);

    h = v->act == VIT_QUICK_GELU ? nn_quick_gelu(g, h) : nn_gelu(g, h);
    return block_linear(g, say->fc2, h, v->width, true);
}

static nn_tensor body(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    const vit_words *say = &WORDS[v->naming];

    x = embed(g, v, x);
    if (say->before)
        x = block_layer_norm(g, say->before, x, v->eps);
    for (int i = 0; i < v->layers; i++) {
        nn_enter(g, say->layer, i);
        x = nn_add(g, x, self_attention(g, v, block_layer_norm(g, say->norm1, x, v->eps)));
        x = nn_add(g, x, mlp(g, v, block_layer_norm(g, say->norm2, x, v->eps)));
        nn_leave(g);
    }
    x = nn_reshape(g, nn_slice(g, x, 1, 0, 1), NN_SHAPE(block_dim(x, 0), v->width)); /* the class token: [n,c] */
    return block_layer_norm(g, say->after, x, v->eps);
}

nn_tensor vit_write(nn_graph *g, const vit_shape *v, nn_tensor x)
{
    if (v->naming != VIT_CLIP)
        return body(g, v, x);
    nn_enter(g, "vision_model");
    x = body(g, v, x);
    nn_leave(g);
    return block_linear(g, "visual_projection", x, v->projection, false);
}
