/* A Stable Diffusion of half a million weights in the diffusers layout: 64x64 pictures, 8x8 latents, three levels. Its
 * weights are random: uniform with variance gain^2 / inputs, looked up by the tensor's name, so one more tensor changes
 * no other; branches that add to their input have a smaller gain, so that depth does not make values grow. */
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

enum {
    SEED = 20230618,
    LATENT = 4, TEXT = 64, TEXT_LAYERS = 2, TEXT_HEADS = 4, TOKENS = 77, HEADS = 4,
    UNET_GROUPS = 8, VAE_GROUPS = 4, UNET_LEVELS = 3, VAE_LEVELS = 4, LEVEL_LAYERS = 1, NAME = 160
};
static const int UNET[UNET_LEVELS] = {24, 32, 48}, VAE[VAE_LEVELS] = {8, 16, 16, 16};
#define BRANCH 0.5F /* gain of what is added to its input */

typedef struct {
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
    *w = (weights){0};
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
    attention(w, at(part, "%sattn2.", block), n, TEXT);
    norm(w, block, "norm3", n);
    linear(w, block, "ff.net.0.proj", 8 * n, n, 1);
    linear(w, block, "ff.net.2", n, 4 * n, BRANCH);
    conv(w, prefix, "proj_out", n, n, 1, BRANCH);
}

/* ---- the three models ---- */

static void unet_down(weights *w, int time)
{
    char name[NAME];

    for (int i = 0; i < UNET_LEVELS; i++) {
        resnet(w, at(name, "down_blocks.%d.resnets.0.", i), UNET[i > 0 ? i - 1 : 0], UNET[i], time);
        if (i + 1 == UNET_LEVELS)
            break;
        transformer(w, at(name, "down_blocks.%d.attentions.0.", i), UNET[i]);
        conv(w, at(name, "down_blocks.%d.downsamplers.0.", i), "conv", UNET[i], UNET[i], 3, 1);
    }
}

/* Block i runs on the level of the same number from below; its resnets also take what went down: the outputs of that
 * level's resnets, last first, and of the step before them. */
static void unet_up(weights *w, int time)
{
    char name[NAME];

    for (int i = 0; i < UNET_LEVELS; i++) {
        const int level = UNET_LEVELS - 1 - i, n = UNET[level], below = UNET[level + (i > 0)];
        const int above = UNET[level > 0 ? level - 1 : 0];

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
    const int time = 4 * UNET[0], middle = UNET[UNET_LEVELS - 1];

    conv(w, "", "conv_in", UNET[0], LATENT, 3, 1);
    linear(w, "time_embedding.", "linear_1", time, UNET[0], 1);
    linear(w, "time_embedding.", "linear_2", time, time, 1);
    unet_down(w, time);
    resnet(w, "mid_block.resnets.0.", middle, middle, time);
    transformer(w, "mid_block.attentions.0.", middle);
    resnet(w, "mid_block.resnets.1.", middle, middle, time);
    unet_up(w, time);
    norm(w, "", "conv_norm_out", UNET[0]);
    conv(w, "", "conv_out", LATENT, UNET[0], 3, 0.7F);
}

static void vae_middle(weights *w, const char *part)
{
    static const char *const NAMES[] = {"to_q", "to_k", "to_v", "to_out.0"};
    const int n = VAE[VAE_LEVELS - 1];
    char name[NAME];

    resnet(w, at(name, "%s.mid_block.resnets.0.", part), n, n, 0);
    norm(w, at(name, "%s.mid_block.attentions.0.", part), "group_norm", n);
    for (int i = 0; i < 4; i++)
        linear(w, name, NAMES[i], n, n, i < 3 ? 1 : BRANCH);
    resnet(w, at(name, "%s.mid_block.resnets.1.", part), n, n, 0);
}

static void encoder(weights *w)
{
    char name[NAME];

    conv(w, "encoder.", "conv_in", VAE[0], 3, 3, 1);
    for (int i = 0; i < VAE_LEVELS; i++) {
        resnet(w, at(name, "encoder.down_blocks.%d.resnets.0.", i), VAE[i > 0 ? i - 1 : 0], VAE[i], 0);
        if (i + 1 < VAE_LEVELS)
            conv(w, at(name, "encoder.down_blocks.%d.downsamplers.0.", i), "conv", VAE[i], VAE[i], 3, 1);
    }
    vae_middle(w, "encoder");
    norm(w, "encoder.", "conv_norm_out", VAE[VAE_LEVELS - 1]);
    conv(w, "encoder.", "conv_out", 2 * LATENT, VAE[VAE_LEVELS - 1], 3, 1);
    matrix(w, "", "quant_conv", 2 * LATENT, 2 * LATENT, 1, 8); /* means of variance about 1 / 0.18215^2 */
    bias(w, "", "quant_conv", 2 * LATENT, 0);
}

static void decoder(weights *w)
{
    const int top = VAE[VAE_LEVELS - 1];
    char name[NAME];

    conv(w, "", "post_quant_conv", LATENT, LATENT, 1, 0.2F);
    conv(w, "decoder.", "conv_in", top, LATENT, 3, 1);
    vae_middle(w, "decoder");
    for (int i = 0; i < VAE_LEVELS; i++) {
        const int n = VAE[VAE_LEVELS - 1 - i], below = i > 0 ? VAE[VAE_LEVELS - i] : top;

        for (int k = 0; k <= LEVEL_LAYERS; k++)
            resnet(w, at(name, "decoder.up_blocks.%d.resnets.%d.", i, k), k ? n : below, n, 0);
        if (i + 1 < VAE_LEVELS)
            conv(w, at(name, "decoder.up_blocks.%d.upsamplers.0.", i), "conv", n, n, 3, 1);
    }
    norm(w, "decoder.", "conv_norm_out", VAE[0]);
    conv(w, "decoder.", "conv_out", 3, VAE[0], 3, 0.7F);
}

static void text_encoder(weights *w, int vocabulary)
{
    static const char *const PARTS[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"};
    char name[NAME];

    add(w, "text_model.embeddings.token_embedding.weight", 2, (int64_t[]){vocabulary, TEXT}, 0, 0.1F);
    add(w, "text_model.embeddings.position_embedding.weight", 2, (int64_t[]){TOKENS, TEXT}, 0, 0.03F);
    for (int i = 0; i < TEXT_LAYERS; i++) {
        at(name, "text_model.encoder.layers.%d.", i);
        norm(w, name, "layer_norm1", TEXT);
        for (int k = 0; k < 4; k++)
            linear(w, name, PARTS[k], TEXT, TEXT, k < 3 ? 1 : 0.1F);
        norm(w, name, "layer_norm2", TEXT);
        linear(w, name, "mlp.fc1", 4 * TEXT, TEXT, 1);
        linear(w, name, "mlp.fc2", TEXT, 4 * TEXT, 0.1F);
    }
    norm(w, "text_model.", "final_layer_norm", TEXT);
}

/* ---- configs ---- */

static const char INDEX_JSON[] =
    "{\n  \"_class_name\": \"StableDiffusionPipeline\",\n  \"_diffusers_version\": \"0.21.4\",\n"
    "  \"scheduler\": [\"diffusers\", \"PNDMScheduler\"],\n  \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],\n"
    "  \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],\n  \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],\n"
    "  \"vae\": [\"diffusers\", \"AutoencoderKL\"]\n}\n";
static const char SCHEDULER_JSON[] =
    "{\n  \"_class_name\": \"PNDMScheduler\",\n  \"beta_end\": 0.012,\n  \"beta_schedule\": \"scaled_linear\",\n"
    "  \"beta_start\": 0.00085,\n  \"clip_sample\": false,\n  \"num_train_timesteps\": 1000,\n"
    "  \"prediction_type\": \"epsilon\",\n  \"set_alpha_to_one\": false,\n  \"skip_prk_steps\": true,\n"
    "  \"steps_offset\": 1\n}\n";

static void text_json(str *j, int vocabulary)
{
    str_add(j, "{\n  \"architectures\": [\"CLIPTextModel\"],\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n"
            "  \"hidden_act\": \"quick_gelu\",\n  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n"
            "  \"layer_norm_eps\": 1e-05,\n  \"max_position_embeddings\": %d,\n  \"model_type\": \"clip_text_model\",\n"
            "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"vocab_size\": %d\n}\n",
            vocabulary - 2, vocabulary - 1, TEXT, 4 * TEXT, TOKENS, TEXT_HEADS, TEXT_LAYERS, vocabulary);
}

static void unet_json(str *j)
{
    str_add(j, "{\n  \"_class_name\": \"UNet2DConditionModel\",\n  \"act_fn\": \"silu\",\n  \"attention_head_dim\": %d,\n"
            "  \"block_out_channels\": [%d, %d, %d],\n  \"center_input_sample\": false,\n  \"cross_attention_dim\": %d,\n"
            "  \"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"DownBlock2D\"],\n"
            "  \"downsample_padding\": 1,\n  \"flip_sin_to_cos\": true,\n  \"freq_shift\": 0,\n  \"in_channels\": %d,\n"
            "  \"layers_per_block\": %d,\n  \"mid_block_scale_factor\": 1,\n  \"norm_eps\": 1e-05,\n  \"norm_num_groups\": %d,\n"
            "  \"out_channels\": %d,\n  \"sample_size\": 8,\n"
            "  \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"]\n}\n",
            HEADS, UNET[0], UNET[1], UNET[2], TEXT, LATENT, LEVEL_LAYERS, UNET_GROUPS, LATENT);
}

static void vae_json(str *j)
{
    str_add(j, "{\n  \"_class_name\": \"AutoencoderKL\",\n  \"act_fn\": \"silu\",\n"
            "  \"block_out_channels\": [%d, %d, %d, %d],\n"
            "  \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", "
            "\"DownEncoderBlock2D\"],\n  \"in_channels\": 3,\n  \"latent_channels\": %d,\n  \"layers_per_block\": %d,\n"
            "  \"norm_num_groups\": %d,\n  \"out_channels\": 3,\n  \"sample_size\": 64,\n  \"scaling_factor\": 0.18215,\n"
            "  \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", "
            "\"UpDecoderBlock2D\"]\n}\n",
            VAE[0], VAE[1], VAE[2], VAE[3], LATENT, LEVEL_LAYERS, VAE_GROUPS);
}

static int put(const char *dir, const char *name, const char *text, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, name, e));
    return fs_write(path, text, strlen(text), e);
}

static int write_configs(const char *dir, int vocabulary, err *e)
{
    str text = {0}, net = {0}, pictures = {0};
    int rc = put(dir, "model_index.json", INDEX_JSON, e);

    text_json(&text, vocabulary);
    unet_json(&net);
    vae_json(&pictures);
    rc = rc ? rc : put(dir, "scheduler/scheduler_config.json", SCHEDULER_JSON, e);
    rc = rc ? rc : put(dir, "text_encoder/config.json", text.at, e);
    rc = rc ? rc : put(dir, "unet/config.json", net.at, e);
    rc = rc ? rc : put(dir, "vae/config.json", pictures.at, e);
    str_free(&text);
    str_free(&net);
    str_free(&pictures);
    return rc;
}

int toy_model(const char *dir, int vocabulary, err *e)
{
    static const char *const FOLDERS[] = {"scheduler", "text_encoder", "unet", "vae"};
    char model[FS_PATH], folder[FS_PATH];
    weights w = {0};

    TRY(fs_join(model, dir, "model", e));
    for (int i = 0; i < 4; i++) {
        TRY(fs_join(folder, model, FOLDERS[i], e));
        TRY(fs_mkdirs(folder, e));
    }
    TRY(write_configs(model, vocabulary, e));
    text_encoder(&w, vocabulary);
    TRY(save(&w, model, "text_encoder/model.safetensors", e));
    unet(&w);
    TRY(save(&w, model, "unet/diffusion_pytorch_model.safetensors", e));
    encoder(&w);
    decoder(&w);
    return save(&w, model, "vae/diffusion_pytorch_model.safetensors", e);
}

int toy_world(const char *dir, err *e)
{
    int vocabulary;

    TRY(toy_pictures(dir, e));
    TRY(toy_tokenizer(&vocabulary, dir, e));
    return toy_model(dir, vocabulary, e);
}
