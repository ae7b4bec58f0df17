/* A small Stable Diffusion in the diffusers layout. Its weights are random: uniform with variance gain^2 / inputs, looked up by
 * the tensor's name, so one more tensor changes no other; branches that add to their input have a smaller gain, so that depth does not make values grow. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "data/toyworld/toy_world.h"

enum { SEED = 20230618, LATENT = 4, TOKENS = 77, LEVEL_LAYERS = 1, NAME = 160 };
const toy_shape TOY_EMBEDDED = {
    .side = 64, .text = 64, .text_layers = 2, .text_heads = 4, .heads = 4, .unet_levels = 3, .unet = {24, 32, 48},
    .vae_levels = 4, .vae = {8, 16, 16, 16}, .unet_groups = 8, .vae_groups = 4,
};
const toy_shape TOY_WORLD = {
    .side = 128, .text = 128, .text_layers = 4, .text_heads = 4, .picture = 128, .picture_layers = 4, .picture_heads = 4,
    .patch = 16, .projection = 96, .heads = 4, .unet_levels = 4,
    .unet = {64, 96, 128, 128}, .vae_levels = 4, .vae = {16, 32, 64, 64}, .unet_groups = 16, .vae_groups = 8,
};
#define BRANCH 0.5F /* gain of what is added to its input */

typedef struct {
    const toy_shape *of;
    st_tensor *t;
    size_t n;
} weights;

/* ---- tensors ---- */

static void add(weights *w, const char *name, int n, const int64_t *d, float centre, float spread)
{
    const rng_stream s = rng_open(SEED, name, 0, 0);
    st_tensor t = {.name = mem_text(name), .type = F16, .n = n, .count = 1};
    uint16_t *half;

    for (int i = 0; i < n; i++)
        t.count *= (uint64_t)(t.d[i] = d[i]);
    half = NEW_N(uint16_t, t.count);
    for (uint64_t i = 0; i < t.count; i++)
        half[i] = f16_of_f32(centre + spread * (2 * rng_uniform(s, i) - 1));
    t.data = half;
    w->t = mem_grow(w->t, w->n + 1, sizeof *w->t);
    w->t[w->n++] = t;
}

static const char *named(char out[NAME], const char *prefix, const char *name, const char *what)
{
    CHECK(snprintf(out, NAME, "%s%s.%s", prefix, name, what) < NAME);
    return out;
}

static void bias(weights *w, const char *prefix, const char *name, int out, float centre)
{
    char full[NAME];

    add(w, named(full, prefix, name, "bias"), 1, (int64_t[]){out}, centre, 0.02F);
}

/* A matrix [out, in], or a convolution [out, in, k, k]. */
static void matrix(weights *w, const char *prefix, const char *name, int out, int in, int k, float gain)
{
    const int64_t d[] = {out, in, k, k};
    char full[NAME];

    add(w, named(full, prefix, name, "weight"), k ? 4 : 2, d, 0, gain * sqrtf(3.0F / (float)(in * (k ? k * k : 1))));
}

static void linear(weights *w, const char *prefix, const char *name, int out, int in, float gain)
{
    matrix(w, prefix, name, out, in, 0, gain);
    bias(w, prefix, name, out, 0);
}

static void conv(weights *w, const char *prefix, const char *name, int out, int in, int k, float gain)
{
    matrix(w, prefix, name, out, in, k, gain);
    bias(w, prefix, name, out, 0);
}

static void norm(weights *w, const char *prefix, const char *name, int n)
{
    char full[NAME];

    add(w, named(full, prefix, name, "weight"), 1, (int64_t[]){n}, 1, 0.1F);
    bias(w, prefix, name, n, 0);
}

static const char *at(char out[NAME], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *at(char out[NAME], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    CHECK(vsnprintf(out, NAME, fmt, ap) < NAME);
    va_end(ap);
    return out;
}

static int save(weights *w, const char *dir, const char *name, err *e)
{
    char path[FS_PATH];
    int rc = fs_join(path, dir, name, e);

    if (rc == 0)
        rc = st_write(path, w->t, w->n, NULL, NULL, e);
    for (size_t i = 0; i < w->n; i++) {
        free((void *)(uintptr_t)w->t[i].name);
        free((void *)(uintptr_t)w->t[i].data);
    }
    free(w->t);
    *w = (weights){.of = w->of};
    return rc;
}

/* ---- blocks ---- */

static void resnet(weights *w, const char *prefix, int in, int out, int time)
{
    norm(w, prefix, "norm1", in);
    conv(w, prefix, "conv1", out, in, 3, 1);
    if (time)
        linear(w, prefix, "time_emb_proj", out, time, 1);
    norm(w, prefix, "norm2", out);
    conv(w, prefix, "conv2", out, out, 3, BRANCH);
    if (in != out)
        conv(w, prefix, "conv_shortcut", out, in, 1, 1);
}

static void attention(weights *w, const char *prefix, int n, int context)
{
    matrix(w, prefix, "to_q", n, n, 0, 1);
    matrix(w, prefix, "to_k", n, context, 0, 1);
    matrix(w, prefix, "to_v", n, context, 0, 1);
    linear(w, prefix, "to_out.0", n, n, BRANCH);
}

static void transformer(weights *w, const char *prefix, int n)
{
    char block[NAME], part[NAME];

    at(block, "%stransformer_blocks.0.", prefix);
    norm(w, prefix, "norm", n);
    conv(w, prefix, "proj_in", n, n, 1, 1);
    norm(w, block, "norm1", n);
    attention(w, at(part, "%sattn1.", block), n, n);
    norm(w, block, "norm2", n);
    attention(w, at(part, "%sattn2.", block), n, w->of->text);
    norm(w, block, "norm3", n);
    linear(w, block, "ff.net.0.proj", 8 * n, n, 1);
    linear(w, block, "ff.net.2", n, 4 * n, BRANCH);
    conv(w, prefix, "proj_out", n, n, 1, BRANCH);
}

/* ---- the three models ---- */

static void unet_down(weights *w, int time)
{
    const int *n = w->of->unet, levels = w->of->unet_levels;
    char name[NAME];

    for (int i = 0; i < levels; i++) {
        resnet(w, at(name, "down_blocks.%d.resnets.0.", i), n[i > 0 ? i - 1 : 0], n[i], time);
        if (i + 1 == levels)
            break;
        transformer(w, at(name, "down_blocks.%d.attentions.0.", i), n[i]);
        conv(w, at(name, "down_blocks.%d.downsamplers.0.", i), "conv", n[i], n[i], 3, 1);
    }
}

/* Block i runs on the level of the same number from below; its resnets also take what went down: the outputs of that
 * level's resnets, last first, and of the step before them. */
static void unet_up(weights *w, int time)
{
    const int *channels = w->of->unet, levels = w->of->unet_levels;
    char name[NAME];

    for (int i = 0; i < levels; i++) {
        const int level = levels - 1 - i, n = channels[level], below = channels[level + (i > 0)];
        const int above = channels[level > 0 ? level - 1 : 0];

        for (int k = 0; k <= LEVEL_LAYERS; k++) {
            const int skip = k < LEVEL_LAYERS ? n : above;
            resnet(w, at(name, "up_blocks.%d.resnets.%d.", i, k), (k ? n : below) + skip, n, time);
            if (i > 0)
                transformer(w, at(name, "up_blocks.%d.attentions.%d.", i, k), n);
        }
        if (level > 0)
            conv(w, at(name, "up_blocks.%d.upsamplers.0.", i), "conv", n, n, 3, 1);
    }
}

static void unet(weights *w)
{
    const int top = w->of->unet[0], time = 4 * top, middle = w->of->unet[w->of->unet_levels - 1];

    conv(w, "", "conv_in", top, LATENT, 3, 1);
    linear(w, "time_embedding.", "linear_1", time, top, 1);
    linear(w, "time_embedding.", "linear_2", time, time, 1);
    unet_down(w, time);
    resnet(w, "mid_block.resnets.0.", middle, middle, time);
    transformer(w, "mid_block.attentions.0.", middle);
    resnet(w, "mid_block.resnets.1.", middle, middle, time);
    unet_up(w, time);
    norm(w, "", "conv_norm_out", top);
    conv(w, "", "conv_out", LATENT, top, 3, 0.7F);
}

static void vae_middle(weights *w, const char *part)
{
    static const char *const NAMES[] = {"to_q", "to_k", "to_v", "to_out.0"};
    const int n = w->of->vae[w->of->vae_levels - 1];
    char name[NAME];

    resnet(w, at(name, "%s.mid_block.resnets.0.", part), n, n, 0);
    norm(w, at(name, "%s.mid_block.attentions.0.", part), "group_norm", n);
    for (int i = 0; i < 4; i++)
        linear(w, name, NAMES[i], n, n, i < 3 ? 1 : BRANCH);
    resnet(w, at(name, "%s.mid_block.resnets.1.", part), n, n, 0);
}

static void encoder(weights *w)
{
    const int *n = w->of->vae, levels = w->of->vae_levels;
    char name[NAME];

    conv(w, "encoder.", "conv_in", n[0], 3, 3, 1);
    for (int i = 0; i < levels; i++) {
        resnet(w, at(name, "encoder.down_blocks.%d.resnets.0.", i), n[i > 0 ? i - 1 : 0], n[i], 0);
        if (i + 1 < levels)
            conv(w, at(name, "encoder.down_blocks.%d.downsamplers.0.", i), "conv", n[i], n[i], 3, 1);
    }
    vae_middle(w, "encoder");
    norm(w, "encoder.", "conv_norm_out", n[levels - 1]);
    conv(w, "encoder.", "conv_out", 2 * LATENT, n[levels - 1], 3, 1);
    matrix(w, "", "quant_conv", 2 * LATENT, 2 * LATENT, 1, 8); /* means of variance about 1 / 0.18215^2 */
    bias(w, "", "quant_conv", 2 * LATENT, 0);
}

static void decoder(weights *w)
{
    const int *channels = w->of->vae, levels = w->of->vae_levels, top = channels[levels - 1];
    char name[NAME];

    conv(w, "", "post_quant_conv", LATENT, LATENT, 1, 0.2F);
    conv(w, "decoder.", "conv_in", top, LATENT, 3, 1);
    vae_middle(w, "decoder");
    for (int i = 0; i < levels; i++) {
        const int n = channels[levels - 1 - i], below = i > 0 ? channels[levels - i] : top;

        for (int k = 0; k <= LEVEL_LAYERS; k++)
            resnet(w, at(name, "decoder.up_blocks.%d.resnets.%d.", i, k), k ? n : below, n, 0);
        if (i + 1 < levels)
            conv(w, at(name, "decoder.up_blocks.%d.upsamplers.0.", i), "conv", n, n, 3, 1);
    }
    norm(w, "decoder.", "conv_norm_out", channels[0]);
    conv(w, "decoder.", "conv_out", 3, channels[0], 3, 0.7F);
}

/* The transformer that text and picture towers share; names below prefix. */
static void tower(weights *w, const char *prefix, int n, int layers)
{
    static const char *const PARTS[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"};
    char name[NAME];

    for (int i = 0; i < layers; i++) {
        at(name, "%sencoder.layers.%d.", prefix, i);
        norm(w, name, "layer_norm1", n);
        for (int k = 0; k < 4; k++)
            linear(w, name, PARTS[k], n, n, k < 3 ? 1 : 0.1F);
        norm(w, name, "layer_norm2", n);
        linear(w, name, "mlp.fc1", 4 * n, n, 1);
        linear(w, name, "mlp.fc2", n, 4 * n, 0.1F);
    }
}

static void text_encoder(weights *w, int vocabulary)
{
    const int n = w->of->text;

    add(w, "text_model.embeddings.token_embedding.weight", 2, (int64_t[]){vocabulary, n}, 0, 0.1F);
    add(w, "text_model.embeddings.position_embedding.weight", 2, (int64_t[]){TOKENS, n}, 0, 0.03F);
    tower(w, "text_model.", n, w->of->text_layers);
    norm(w, "text_model.", "final_layer_norm", n);
}

/* The pictures' half of CLIP, and what joins the two. */
static void picture_encoder(weights *w)
{
    const int n = w->of->picture, patch = w->of->patch, places = 1 + (w->of->side / patch) * (w->of->side / patch);

    add(w, "vision_model.embeddings.class_embedding", 1, (int64_t[]){n}, 0, 0.1F);
    matrix(w, "vision_model.embeddings.", "patch_embedding", n, 3, patch, 1);
    add(w, "vision_model.embeddings.position_embedding.weight", 2, (int64_t[]){places, n}, 0, 0.1F);
    norm(w, "vision_model.", "pre_layrnorm", n); /* spelled as Hugging Face has it */
    tower(w, "vision_model.", n, w->of->picture_layers);
    norm(w, "vision_model.", "post_layernorm", n);
    matrix(w, "", "visual_projection", w->of->projection, n, 0, 1);
    matrix(w, "", "text_projection", w->of->projection, w->of->text, 0, 1);
    add(w, "logit_scale", 0, NULL, 2.6592F, 0); /* ln(1 / 0.07) */
}

int toy_model(const char *dir, const toy_shape *of, int vocabulary, err *e)
{
    weights w = {.of = of};

    TRY(toy_configs(dir, of, vocabulary, e));
    text_encoder(&w, vocabulary);
    TRY(save(&w, dir, "text_encoder/model.safetensors", e));
    unet(&w);
    TRY(save(&w, dir, "unet/diffusion_pytorch_model.safetensors", e));
    encoder(&w);
    decoder(&w);
    TRY(save(&w, dir, "vae/diffusion_pytorch_model.safetensors", e));
    if (of->picture == 0)
        return 0;
    text_encoder(&w, vocabulary);
    picture_encoder(&w);
    return save(&w, dir, "clip/model.safetensors", e);
}

int toy_world(const char *dir, err *e)
{
    char model[FS_PATH];
    int vocabulary;

    TRY(fs_join(model, dir, "model", e));
    TRY(toy_pictures(dir, e));
    TRY(toy_tokenizer(&vocabulary, model, "", e));
    return toy_model(model, &TOY_EMBEDDED, vocabulary, e);
}
