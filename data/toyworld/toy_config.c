/* The configs of a small Stable Diffusion, as diffusers and transformers write them. */
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/toyworld/toy_world.h"

enum { LATENT = 4, TOKENS = 77, LEVEL_LAYERS = 1 };

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

static void text_json(str *j, const toy_shape *of, int vocabulary)
{
    str_add(j, "{\n  \"architectures\": [\"CLIPTextModel\"],\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n"
            "  \"hidden_act\": \"quick_gelu\",\n  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n"
            "  \"layer_norm_eps\": 1e-05,\n  \"max_position_embeddings\": %d,\n  \"model_type\": \"clip_text_model\",\n"
            "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"vocab_size\": %d\n}\n",
            vocabulary - 2, vocabulary - 1, of->text, 4 * of->text, TOKENS, of->text_heads, of->text_layers, vocabulary);
}

static void clip_json(str *j, const toy_shape *of, int vocabulary)
{
    str_add(j, "{\n  \"architectures\": [\"CLIPModel\"],\n  \"logit_scale_init_value\": 2.6592,\n  \"model_type\": \"clip\",\n"
            "  \"projection_dim\": %d,\n  \"text_config\": {\n    \"bos_token_id\": %d,\n    \"eos_token_id\": %d,\n"
            "    \"hidden_act\": \"quick_gelu\",\n    \"hidden_size\": %d,\n    \"intermediate_size\": %d,\n"
            "    \"layer_norm_eps\": 1e-05,\n    \"max_position_embeddings\": %d,\n    \"num_attention_heads\": %d,\n"
            "    \"num_hidden_layers\": %d,\n    \"projection_dim\": %d,\n    \"vocab_size\": %d\n  },\n",
            of->projection, vocabulary - 2, vocabulary - 1, of->text, 4 * of->text, TOKENS, of->text_heads, of->text_layers,
            of->projection, vocabulary);
    str_add(j, "  \"vision_config\": {\n    \"hidden_act\": \"quick_gelu\",\n    \"hidden_size\": %d,\n    \"image_size\": %d,\n"
            "    \"intermediate_size\": %d,\n    \"layer_norm_eps\": 1e-05,\n    \"num_attention_heads\": %d,\n"
            "    \"num_channels\": 3,\n    \"num_hidden_layers\": %d,\n    \"patch_size\": %d,\n    \"projection_dim\": %d\n"
            "  }\n}\n", of->picture, of->side, 4 * of->picture, of->picture_heads, of->picture_layers, of->patch, of->projection);
}

/* "a", "a", "b": the odd one last, or first. */
static void types(str *j, const char *key, int levels, const char *usual, const char *odd, int odd_at)
{
    str_add(j, "  \"%s\": [", key);
    for (int i = 0; i < levels; i++)
        str_add(j, "%s\"%s\"", i ? ", " : "", i == odd_at ? odd : usual);
    str_add(j, "]");
}

static void channels(str *j, const int *n, int levels)
{
    str_add(j, "  \"block_out_channels\": [");
    for (int i = 0; i < levels; i++)
        str_add(j, "%s%d", i ? ", " : "", n[i]);
    str_add(j, "],\n");
}

static void unet_json(str *j, const toy_shape *of)
{
    str_add(j, "{\n  \"_class_name\": \"UNet2DConditionModel\",\n  \"act_fn\": \"silu\",\n  \"attention_head_dim\": %d,\n", of->heads);
    channels(j, of->unet, of->unet_levels);
    str_add(j, "  \"center_input_sample\": false,\n  \"cross_attention_dim\": %d,\n", of->text);
    types(j, "down_block_types", of->unet_levels, "CrossAttnDownBlock2D", "DownBlock2D", of->unet_levels - 1);
    str_add(j, ",\n  \"downsample_padding\": 1,\n  \"flip_sin_to_cos\": true,\n  \"freq_shift\": 0,\n  \"in_channels\": %d,\n"
            "  \"layers_per_block\": %d,\n  \"mid_block_scale_factor\": 1,\n  \"norm_eps\": 1e-05,\n  \"norm_num_groups\": %d,\n"
            "  \"out_channels\": %d,\n  \"sample_size\": %d,\n",
            LATENT, LEVEL_LAYERS, of->unet_groups, LATENT, of->side >> (of->vae_levels - 1));
    types(j, "up_block_types", of->unet_levels, "CrossAttnUpBlock2D", "UpBlock2D", 0);
    str_add(j, "\n}\n");
}

static void vae_json(str *j, const toy_shape *of, double scaling)
{
    str_add(j, "{\n  \"_class_name\": \"AutoencoderKL\",\n  \"act_fn\": \"silu\",\n");
    channels(j, of->vae, of->vae_levels);
    types(j, "down_block_types", of->vae_levels, "DownEncoderBlock2D", NULL, -1);
    str_add(j, ",\n  \"in_channels\": 3,\n  \"latent_channels\": %d,\n  \"layers_per_block\": %d,\n"
            "  \"norm_num_groups\": %d,\n  \"out_channels\": 3,\n  \"sample_size\": %d,\n  \"scaling_factor\": %.6g,\n",
            LATENT, LEVEL_LAYERS, of->vae_groups, of->side, scaling);
    types(j, "up_block_types", of->vae_levels, "UpDecoderBlock2D", NULL, -1);
    str_add(j, "\n}\n");
}

static int put(const char *dir, const char *name, const char *text, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, name, e));
    return fs_write(path, text, strlen(text), e);
}

static int put_json(const char *dir, const char *name, str *json, err *e)
{
    int rc = put(dir, name, json->at, e);

    str_free(json);
    return rc;
}

int toy_vae_config(const char *dir, const toy_shape *of, double scaling, err *e)
{
    str j = {0};

    vae_json(&j, of, scaling);
    return put_json(dir, "vae/config.json", &j, e);
}

int toy_configs(const char *dir, const toy_shape *of, int vocabulary, err *e)
{
    static const char *const FOLDERS[] = {"scheduler", "text_encoder", "unet", "vae", "clip"};
    char folder[FS_PATH];
    str j = {0};

    for (int i = 0; i < (of->picture ? 5 : 4); i++) {
        TRY(fs_join(folder, dir, FOLDERS[i], e));
        TRY(fs_mkdirs(folder, e));
    }
    TRY(put(dir, "model_index.json", INDEX_JSON, e));
    TRY(put(dir, "scheduler/scheduler_config.json", SCHEDULER_JSON, e));
    text_json(&j, of, vocabulary);
    TRY(put_json(dir, "text_encoder/config.json", &j, e));
    unet_json(&j, of);
    TRY(put_json(dir, "unet/config.json", &j, e));
    TRY(toy_vae_config(dir, of, 0.18215, e));
    if (of->picture == 0)
        return 0;
    clip_json(&j, of, vocabulary);
    return put_json(dir, "clip/config.json", &j, e);
}
