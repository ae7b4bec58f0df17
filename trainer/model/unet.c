/* UNet2DConditionModel; see unet.h. Read unet_write first: down, middle, up. */
#include "trainer/model/unet.h"

#include <stdio.h>

#include "trainer/model/block.h"

/* ---- its shape ---- */

static const block_only BUILT[] = {
    {"act_fn", "\"silu\""},
    {"addition_embed_type", "null"},
    {"attention_type", "\"default\""},
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "null"},
    {"downsample_padding", "1"},
    {"dropout", "0"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"mid_block_only_cross_attention", "false"},
    {"mid_block_scale_factor", "1"},
    {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"num_class_embeds", "null"},
    {"only_cross_attention", "false"},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"resnet_time_scale_shift", "\"default\""},
    {"reverse_transformer_layers_per_block", "null"},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", "null"},
    {NULL, NULL},
};

static int count_levels(int *levels, const json_t *config, err *e)
{
    const json_t *v = json_object_get(config, "block_out_channels");

    if (!json_is_array(v) || json_array_size(v) < 1 || json_array_size(v) > UNET_LEVELS)
        return err_set(e, ERR_INPUT, "block_out_channels: a list of 1 to %d channel counts is wanted", UNET_LEVELS);
    *levels = (int)json_array_size(v);
    return 0;
}

static int read_levels(unet_shape *u, const json_t *config, err *e)
{
    int n = u->levels, channels[UNET_LEVELS], layers[UNET_LEVELS], heads[UNET_LEVELS], depth[UNET_LEVELS];
    bool down[UNET_LEVELS], up[UNET_LEVELS];
    /* diffusers 0.21 reads the number of heads from attention_head_dim, unless num_attention_heads is given */
    const char *heads_key = json_is_null(json_object_get(config, "num_attention_heads")) ||
                                    !json_object_get(config, "num_attention_heads")
                                ? "attention_head_dim" : "num_attention_heads";

    TRY(block_ints(config, "block_out_channels", n, 1, 1 << 16, 0, channels, e));
    TRY(block_ints(config, "layers_per_block", n, 1, 64, 2, layers, e));
    TRY(block_ints(config, heads_key, n, 1, 1 << 12, 8, heads, e));
    TRY(block_ints(config, "transformer_layers_per_block", n, 1, 64, 1, depth, e));
    TRY(block_types(config, "down_block_types", n, "DownBlock2D", "CrossAttnDownBlock2D", down, e));
    TRY(block_types(config, "up_block_types", n, "UpBlock2D", "CrossAttnUpBlock2D", up, e));
    for (int i = 0; i < n; i++) {
        u->level[i].channels = channels[i];
        u->level[i].layers = layers[i];
        u->level[i].heads = heads[i];
        u->level[i].depth = depth[i];
        u->level[i].attend_down = down[i];
        u->level[n - 1 - i].attend_up = up[i];
    }
    return 0;
}

/* Sizes that must divide each other; a config may promise what no block can have. */
static int check_widths(const unet_shape *u, err *e)
{
    for (int i = 0; i < u->levels; i++) {
        int c = u->level[i].channels, heads = u->level[i].heads;
        bool attends = u->level[i].attend_down || u->level[i].attend_up || i == u->levels - 1;

        if (c % u->groups != 0)
            return err_set(e, ERR_INPUT, "norm_num_groups %d does not divide block_out_channels %d", u->groups, c);
        if (attends && c % heads != 0)
            return err_set(e, ERR_INPUT, "attention_head_dim %d (a number of heads) does not divide block_out_channels %d",
                           heads, c);
    }
    if (u->level[0].channels % 2 != 0)
        return err_set(e, ERR_INPUT, "block_out_channels begins with %d, and sines and cosines need an even number",
                       u->level[0].channels);
    return 0;
}

static int read_text_width(unet_shape *u, const json_t *config, err *e)
{
    int widths[UNET_LEVELS];

    TRY(block_ints(config, "cross_attention_dim", u->levels, 1, 1 << 16, 0, widths, e));
    for (int i = 1; i < u->levels; i++)
        if (widths[i] != widths[0])
            return err_set(e, ERR_INPUT, "cross_attention_dim differs between levels, which is not built");
    u->text_width = widths[0];
    return 0;
}

int unet_shape_from(unet_shape *out, const json_t *config, err *e)
{
    unet_shape u = {0};
    double eps, shift;

    TRY(block_check_only(config, BUILT, e));
    TRY(count_levels(&u.levels, config, e));
    TRY(block_ints(config, "in_channels", 1, 1, 1 << 12, 4, &u.in, e));
    TRY(block_ints(config, "out_channels", 1, 1, 1 << 12, 4, &u.out, e));
    TRY(block_ints(config, "sample_size", 2, 1, 1 << 14, 64, u.sample, e));
    TRY(block_ints(config, "norm_num_groups", 1, 1, 1 << 12, 32, &u.groups, e));
    TRY(json_opt_real(config, "norm_eps", 1e-5, &eps, e));
    TRY(json_opt_real(config, "freq_shift", 0, &shift, e));
    TRY(json_opt_bool(config, "flip_sin_to_cos", true, &u.flip_sin_to_cos, e));
    TRY(json_opt_bool(config, "use_linear_projection", false, &u.linear_projection, e));
    u.norm_eps = (float)eps;
    u.freq_shift = (float)shift;
    TRY(read_levels(&u, config, e));
    TRY(read_text_width(&u, config, e));
    TRY(check_widths(&u, e));
    TRY(block_ints(config, "time_embedding_dim", 1, 1, 1 << 16, 4 * (int64_t)u.level[0].channels, &u.time_width, e));
    *out = u;
    return 0;
}

/* ---- what runs through it ---- */

typedef struct {
    nn_graph *g;
    const unet_shape *u;
    nn_tensor text, time;      /* time: embedded and through silu, as every resnet wants it */
    bool detach_first;
    int64_t h, w;              /* of the map that is attended now */
    nn_tensor skip[1 + UNET_LEVELS * 65]; /* 64 layers and a downsampler a level at most */
    int skips;
} walk;

static nn_tensor time_embedding(nn_graph *g, const unet_shape *u, nn_tensor t)
{
    nn_enter(g, "time_proj");
    nn_tensor waves = nn_timestep_embedding(g, t, u->level[0].channels, u->flip_sin_to_cos, u->freq_shift);
    nn_leave(g);
    nn_enter(g, "time_embedding");
    nn_tensor y = block_linear(g, "linear_1", waves, u->time_width, true);
    y = block_linear(g, "linear_2", nn_silu(g, y), u->time_width, true);
    nn_leave(g);
    return nn_silu(g, y);
}

/* from: x itself, or the text. x [n,t,c], from [n,tokens,width] -> [n,t,c] */
static nn_tensor attention(walk *k, const char *name, nn_tensor x, nn_tensor from, int heads, bool detach_first)
{
    nn_graph *g = k->g;
    int64_t c = block_dim(x, -1);

    nn_enter(g, "%s", name);
    nn_tensor q = block_linear(g, "to_q", x, c, false);
    nn_tensor key = block_linear(g, "to_k", from, c, false);
    nn_tensor value = block_linear(g, "to_v", from, c, false);
    if (detach_first) {
        key = nn_detach_rows(g, key, 1);
        value = nn_detach_rows(g, value, 1);
    }
    if (from != x)
        nn_cross(g, q, key, heads, k->h, k->w);
    nn_tensor y = block_linear(g, "to_out.0", nn_attention(g, q, key, value, heads, false), c, true);
    nn_leave(g);
    return y;
}

static nn_tensor feed_forward(nn_graph *g, nn_tensor x)
{
    int64_t c = block_dim(x, -1);

    nn_enter(g, "ff");
    nn_enter(g, "net.0");
    nn_tensor y = nn_geglu(g, block_linear(g, "proj", x, 8 * c, true)); /* [n,t,4c] */
    nn_leave(g);
    y = block_linear(g, "net.2", y, c, true);
    nn_leave(g);
    return y;
}

static nn_tensor transformer_block(walk *k, nn_tensor x, int heads)
{
    nn_graph *g = k->g;
    nn_tensor h = block_layer_norm(g, "norm1", x, 1e-5F);

    x = nn_add(g, x, attention(k, "attn1", h, h, heads, false));
    h = block_layer_norm(g, "norm2", x, 1e-5F);
    x = nn_add(g, x, attention(k, "attn2", h, k->text, heads, k->detach_first));
    return nn_add(g, x, feed_forward(g, block_layer_norm(g, "norm3", x, 1e-5F)));
}

/* A map becomes tokens, passes `depth` transformer blocks, becomes a map again and is added to what it was. */
static nn_tensor transformer(walk *k, int j, nn_tensor x, int heads, int depth)
{
    nn_graph *g = k->g;
    bool linear = k->u->linear_projection;
    int64_t n = block_dim(x, 0), h = block_dim(x, 1), w = block_dim(x, 2), c = block_dim(x, 3);

    k->h = h;
    k->w = w;
    nn_enter(g, "attentions.%d", j);
    nn_tensor y = block_group_norm(g, "norm", x, k->u->groups, 1e-6F);
    if (!linear)
        y = block_conv(g, "proj_in", y, c, 1, 1);
    y = nn_reshape(g, y, NN_SHAPE(n, h * w, c));
    if (linear)
        y = block_linear(g, "proj_in", y, c, true);
    for (int i = 0; i < depth; i++) {
        nn_enter(g, "transformer_blocks.%d", i);
        y = transformer_block(k, y, heads);
        nn_leave(g);
    }
    if (linear)
        y = block_linear(g, "proj_out", y, c, true);
    y = nn_reshape(g, y, NN_SHAPE(n, h, w, c));
    if (!linear)
        y = block_conv(g, "proj_out", y, c, 1, 1);
    y = nn_add(g, y, x);
    nn_leave(g);
    return y;
}

static nn_tensor resnet(walk *k, int j, nn_tensor x, int channels)
{
    nn_enter(k->g, "resnets.%d", j);
    nn_tensor y = block_resnet(k->g, x, k->time, channels, k->u->groups, k->u->norm_eps);
    nn_leave(k->g);
    return y;
}

/* ---- the way down, through the middle, and up ---- */

static nn_tensor keep_skip(walk *k, nn_tensor x)
{
    return k->skip[k->skips++] = x;
}

static nn_tensor down(walk *k, int i, nn_tensor x)
{
    const unet_shape *u = k->u;

    nn_enter(k->g, "down_blocks.%d", i);
    for (int j = 0; j < u->level[i].layers; j++) {
        x = resnet(k, j, x, u->level[i].channels);
        if (u->level[i].attend_down)
            x = transformer(k, j, x, u->level[i].heads, u->level[i].depth);
        keep_skip(k, x);
    }
    if (i < u->levels - 1) {
        nn_enter(k->g, "downsamplers.0");
        x = keep_skip(k, block_conv(k->g, "conv", x, u->level[i].channels, 3, 2));
        nn_leave(k->g);
    }
    nn_leave(k->g);
    return x;
}

static nn_tensor middle(walk *k, nn_tensor x)
{
    int last = k->u->levels - 1, c = k->u->level[last].channels;

    nn_enter(k->g, "mid_block");
    x = resnet(k, 0, x, c);
    x = transformer(k, 0, x, k->u->level[last].heads, k->u->level[last].depth);
    x = resnet(k, 1, x, c);
    nn_leave(k->g);
    return x;
}

/* Block `b` of the way up works at level i = levels - 1 - b; each resnet takes one skip more than were made here: the
 * last belongs to the level's input. */
static nn_tensor up(walk *k, int b, nn_tensor x)
{
    const unet_shape *u = k->u;
    int i = u->levels - 1 - b;

    nn_enter(k->g, "up_blocks.%d", b);
    for (int j = 0; j <= u->level[i].layers; j++) {
        x = nn_concat(k->g, x, k->skip[--k->skips]);
        x = resnet(k, j, x, u->level[i].channels);
        if (u->level[i].attend_up)
            x = transformer(k, j, x, u->level[i].heads, u->level[i].depth);
    }
    if (i > 0) {
        nn_tensor like = k->skip[k->skips - 1];

        nn_enter(k->g, "upsamplers.0");
        x = block_upsample(k->g, x, block_dim(like, 1), block_dim(like, 2));
        nn_leave(k->g);
    }
    nn_leave(k->g);
    return x;
}

nn_tensor unet_write(nn_graph *g, const unet_shape *u, nn_tensor x, nn_tensor t, nn_tensor text, bool detach_first)
{
    walk k = {.g = g, .u = u, .text = text, .detach_first = detach_first, .time = time_embedding(g, u, t)};

    x = keep_skip(&k, block_conv(g, "conv_in", x, u->level[0].channels, 3, 1));
    for (int i = 0; i < u->levels; i++)
        x = down(&k, i, x);
    x = middle(&k, x);
    for (int b = 0; b < u->levels; b++)
        x = up(&k, b, x);
    x = block_group_norm_silu(g, "conv_norm_out", x, u->groups, u->norm_eps);
    return block_conv(g, "conv_out", x, u->out, 3, 1);
}
