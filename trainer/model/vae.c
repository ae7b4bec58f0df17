/* AutoencoderKL; see vae.h. */
#include "trainer/model/vae.h"

#include <math.h>
#include <string.h>

#include "trainer/model/block.h"

static const float EPS = 1e-6F; /* of every norm in it */

/* ---- its shape ---- */

static const block_only BUILT[] = {
    {"act_fn", "\"silu\""},
    {"latents_mean", "null"},
    {"latents_std", "null"},
    {"mid_block_add_attention", "true"},
    {"shift_factor", "null"},
    {"use_post_quant_conv", "true"},
    {"use_quant_conv", "true"},
    {NULL, NULL},
};

static int read_levels(vae_shape *v, const json_t *config, err *e)
{
    const json_t *c = json_object_get(config, "block_out_channels");
    bool special[VAE_LEVELS];

    if (!json_is_array(c) || json_array_size(c) < 1 || json_array_size(c) > VAE_LEVELS)
        return err_set(e, ERR_INPUT, "block_out_channels: a list of 1 to %d channel counts is wanted", VAE_LEVELS);
    v->levels = (int)json_array_size(c);
    TRY(block_ints(config, "block_out_channels", v->levels, 1, 1 << 16, 0, v->channels, e));
    TRY(block_types(config, "down_block_types", v->levels, "DownEncoderBlock2D", NULL, special, e));
    TRY(block_types(config, "up_block_types", v->levels, "UpDecoderBlock2D", NULL, special, e));
    for (int i = 0; i < v->levels; i++)
        if (v->channels[i] % v->groups != 0)
            return err_set(e, ERR_INPUT, "norm_num_groups %d does not divide block_out_channels %d", v->groups,
                           v->channels[i]);
    return 0;
}

int vae_shape_from(vae_shape *out, const json_t *config, err *e)
{
    vae_shape v = {0};
    double scaling;

    TRY(block_check_only(config, BUILT, e));
    TRY(block_ints(config, "in_channels", 1, 1, 1 << 12, 3, &v.in, e));
    TRY(block_ints(config, "out_channels", 1, 1, 1 << 12, 3, &v.out, e));
    TRY(block_ints(config, "latent_channels", 1, 1, 1 << 12, 4, &v.latent, e));
    TRY(block_ints(config, "layers_per_block", 1, 1, 64, 1, &v.layers, e));
    TRY(block_ints(config, "norm_num_groups", 1, 1, 1 << 12, 32, &v.groups, e));
    TRY(json_opt_real(config, "scaling_factor", 0.18215, &scaling, e));
    TRY(read_levels(&v, config, e));
    v.scaling = (float)scaling;
    if (!(scaling > 0))
        return err_set(e, ERR_INPUT, "scaling_factor %g where a number above 0 is wanted", scaling);
    *out = v;
    return 0;
}

int vae_factor(const vae_shape *v)
{
    return 1 << (v->levels - 1);
}

/* ---- its parts ---- */

static nn_tensor resnet(nn_graph *g, const vae_shape *v, int j, nn_tensor x, int64_t out)
{
    nn_enter(g, "resnets.%d", j);
    nn_tensor y = block_resnet(g, x, NULL, out, v->groups, EPS);
    nn_leave(g);
    return y;
}

/* One head over all pixels. */
static nn_tensor attention(nn_graph *g, const vae_shape *v, nn_tensor x)
{
    static const char *const NAMES[2][4] = {{"to_q", "to_k", "to_v", "to_out.0"},
                                            {"query", "key", "value", "proj_attn"}};
    const char *const *name = NAMES[v->old_attention];
    int64_t n = block_dim(x, 0), h = block_dim(x, 1), w = block_dim(x, 2), c = block_dim(x, 3);

    nn_enter(g, "attentions.0");
    nn_tensor y = block_group_norm(g, "group_norm", x, v->groups, EPS);
    y = nn_reshape(g, y, NN_SHAPE(n, h * w, c));
    nn_tensor q = block_linear(g, name[0], y, c, true);
    nn_tensor key = block_linear(g, name[1], y, c, true);
    nn_tensor value = block_linear(g, name[2], y, c, true);
    y = block_linear(g, name[3], nn_attention(g, q, key, value, 1, false), c, true);
    y = nn_add(g, nn_reshape(g, y, NN_SHAPE(n, h, w, c)), x);
    nn_leave(g);
    return y;
}

static nn_tensor middle(nn_graph *g, const vae_shape *v, nn_tensor x)
{
    int64_t c = block_dim(x, -1);

    nn_enter(g, "mid_block");
    x = resnet(g, v, 0, x, c);
    x = attention(g, v, x);
    x = resnet(g, v, 1, x, c);
    nn_leave(g);
    return x;
}

static nn_tensor end(nn_graph *g, const vae_shape *v, nn_tensor x, int64_t out)
{
    x = block_group_norm_silu(g, "conv_norm_out", x, v->groups, EPS);
    return block_conv(g, "conv_out", x, out, 3, 1);
}

static nn_tensor down(nn_graph *g, const vae_shape *v, int i, nn_tensor x)
{
    nn_enter(g, "down_blocks.%d", i);
    for (int j = 0; j < v->layers; j++)
        x = resnet(g, v, j, x, v->channels[i]);
    if (i < v->levels - 1) {
        nn_enter(g, "downsamplers.0");
        x = block_conv_at(g, "conv", x, v->channels[i], 3, (nn_conv){.stride = 2, .pad = {0, 0, 1, 1}});
        nn_leave(g);
    }
    nn_leave(g);
    return x;
}

static nn_tensor up(nn_graph *g, const vae_shape *v, int b, nn_tensor x)
{
    int i = v->levels - 1 - b;

    nn_enter(g, "up_blocks.%d", b);
    for (int j = 0; j <= v->layers; j++)
        x = resnet(g, v, j, x, v->channels[i]);
    if (i > 0) {
        nn_enter(g, "upsamplers.0");
        x = block_upsample(g, x, 2 * block_dim(x, 1), 2 * block_dim(x, 2));
        nn_leave(g);
    }
    nn_leave(g);
    return x;
}

nn_tensor vae_encode_write(nn_graph *g, const vae_shape *v, nn_tensor x)
{
    nn_enter(g, "encoder");
    x = block_conv(g, "conv_in", x, v->channels[0], 3, 1);
    for (int i = 0; i < v->levels; i++)
        x = down(g, v, i, x);
    x = end(g, v, middle(g, v, x), 2 * (int64_t)v->latent);
    nn_leave(g);
    return block_conv(g, "quant_conv", x, 2 * (int64_t)v->latent, 1, 1);
}

nn_tensor vae_decode_write(nn_graph *g, const vae_shape *v, nn_tensor z)
{
    z = block_conv(g, "post_quant_conv", z, v->latent, 1, 1);
    nn_enter(g, "decoder");
    nn_tensor x = block_conv(g, "conv_in", z, v->channels[v->levels - 1], 3, 1);
    x = middle(g, v, x);
    for (int b = 0; b < v->levels; b++)
        x = up(g, v, b, x);
    x = end(g, v, x, v->out);
    nn_leave(g);
    return x;
}

/* ---- latents ---- */

void vae_moments(const vae_shape *v, const float *moments, size_t pixels, float *mean, float *logvar)
{
    size_t c = (size_t)v->latent;

    for (size_t p = 0; p < pixels; p++)
        for (size_t j = 0; j < c; j++) {
            mean[p * c + j] = moments[p * 2 * c + j];
            logvar[p * c + j] = fminf(fmaxf(moments[p * 2 * c + c + j], -30), 20);
        }
}

void vae_sample(const vae_shape *v, const float *mean, const float *logvar, const float *noise, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (mean[i] + expf(0.5F * logvar[i]) * noise[i]) * v->scaling;
}
