/* The configs, as diffusers and transformers write them; see shapes.h. */
#include "trainer/model/shapes.h"

#include <stddef.h>
#include <string.h>

#define THREE_CROSS                                                                                            \
    "\"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"DownBlock2D\"],"    \
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"],"             \
    " \"act_fn\": \"silu\", \"center_input_sample\": false, \"downsample_padding\": 1, \"flip_sin_to_cos\": true,"            \
    " \"freq_shift\": 0, \"in_channels\": 4, \"layers_per_block\": 2, \"mid_block_scale_factor\": 1, \"norm_eps\": 1e-05,"    \
    " \"out_channels\": 4, \"_class_name\": \"UNet2DConditionModel\", \"_diffusers_version\": \"0.6.0\""
#define FOUR_LEVELS                                                                                            \
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"   \
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"],"            \
    " \"act_fn\": \"silu\", \"in_channels\": 3, \"latent_channels\": 4, \"out_channels\": 3,"                                \
    " \"_class_name\": \"AutoencoderKL\", \"_diffusers_version\": \"0.6.0\""
#define CLIP                                                                                                   \
    "\"architectures\": [\"CLIPTextModel\"], \"model_type\": \"clip_text_model\", \"layer_norm_eps\": 1e-05,"                 \
    " \"max_position_embeddings\": 77, \"bos_token_id\": 0, \"eos_token_id\": 2, \"pad_token_id\": 1"

#define SD_VAE "{\"block_out_channels\": [128, 256, 512, 512], \"layers_per_block\": 2, \"norm_num_groups\": 32, \"sample_size\": 512, " FOUR_LEVELS "}"
#define SMALL_VAE "{\"block_out_channels\": [16, 32, 32, 32], \"layers_per_block\": 1, \"norm_num_groups\": 8, \"sample_size\": 256, " FOUR_LEVELS "}"

typedef struct { const char *name, *unet, *vae, *text; } shape;

static const shape shapes[] = {
    {"sd15",
     "{\"block_out_channels\": [320, 640, 1280, 1280], \"attention_head_dim\": 8, \"cross_attention_dim\": 768,"
     " \"norm_num_groups\": 32, \"sample_size\": 64, " THREE_CROSS "}",
     SD_VAE,
     "{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_hidden_layers\": 12, \"num_attention_heads\": 12,"
     " \"hidden_act\": \"quick_gelu\", \"vocab_size\": 49408, " CLIP "}"},
    {"sd21",
     "{\"block_out_channels\": [320, 640, 1280, 1280], \"attention_head_dim\": [5, 10, 20, 20], \"cross_attention_dim\": 1024,"
     " \"use_linear_projection\": true, \"norm_num_groups\": 32, \"sample_size\": 64, " THREE_CROSS "}",
     SD_VAE,
     "{\"hidden_size\": 1024, \"intermediate_size\": 4096, \"num_hidden_layers\": 23, \"num_attention_heads\": 16,"
     " \"hidden_act\": \"gelu\", \"vocab_size\": 49408, " CLIP "}"},
    {"small",
     "{\"block_out_channels\": [64, 128, 256, 256], \"attention_head_dim\": 8, \"cross_attention_dim\": 128,"
     " \"norm_num_groups\": 32, \"sample_size\": 32, " THREE_CROSS "}",
     SMALL_VAE,
     "{\"hidden_size\": 128, \"intermediate_size\": 512, \"num_hidden_layers\": 4, \"num_attention_heads\": 4,"
     " \"hidden_act\": \"quick_gelu\", \"vocab_size\": 1314, " CLIP "}"},
    {"tiny",
     "{\"block_out_channels\": [8, 16, 16, 24], \"attention_head_dim\": 4, \"cross_attention_dim\": 32,"
     " \"norm_num_groups\": 4, \"sample_size\": 8, " THREE_CROSS "}",
     "{\"block_out_channels\": [8, 8, 16, 16], \"layers_per_block\": 1, \"norm_num_groups\": 4, \"sample_size\": 64, " FOUR_LEVELS "}",
     "{\"hidden_size\": 32, \"intermediate_size\": 128, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
     " \"hidden_act\": \"quick_gelu\", \"vocab_size\": 1314, " CLIP "}"},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

const char *const shape_names[] = {"sd15", "sd21", "small", "tiny", NULL};

static const char SCHEDULER[] =
    "{\"_class_name\": \"DDIMScheduler\", \"_diffusers_version\": \"0.6.0\", \"beta_end\": 0.012, \"beta_start\": 0.00085,"
    " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false, \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false,"
    " \"steps_offset\": 1}";
static const char INDEX[] =
    "{\"_class_name\": \"StableDiffusionPipeline\", \"_diffusers_version\": \"0.6.0\","
    " \"scheduler\": [\"diffusers\", \"DDIMScheduler\"], \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
    " \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"], \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
    " \"vae\": [\"diffusers\", \"AutoencoderKL\"]}";

static const char *config_of(const shape *s, const char *file)
{
    const struct { const char *file, *text; } all[] = {
        {"unet", s->unet}, {"vae", s->vae}, {"text_encoder", s->text}, {"scheduler", SCHEDULER}, {"model_index", INDEX}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].file, file) == 0)
            return all[i].text;
    return NULL;
}

const char *shape_config(const char *name, const char *file)
{
    for (size_t i = 0; i < SHAPES; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return config_of(&shapes[i], file);
    return NULL;
}
