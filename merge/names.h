#ifndef NAMES_H
#define NAMES_H
/* What other programs call the weights we name as diffusers does ("down_blocks.0...attn2.to_k.weight"). */
#include <stdbool.h>
#include <stddef.h>

#include "trainer/model/single.h"

enum { NAME_ROOM = SINGLE_ROOM };

/* diffusers' custom-diffusion files: "...attn2.processor.to_k_custom_diffusion.weight". False: no such name there. */
bool names_to_processor(char out[NAME_ROOM], const char *name);
bool names_from_processor(char out[NAME_ROOM], const char *key);

/* CompVis: "model.diffusion_model.input_blocks.1.1.transformer_blocks...", of what stands in an attention; the way there is
 * single_attention (trainer/model/single.h). per_level: resnets a level has going down (2 in SD 1.x and 2.x). */
bool names_from_compvis(char out[NAME_ROOM], const char *key, int per_level);

/* kohya's LoRA modules: "lora_unet_down_blocks_0_..._attn2_to_k", "lora_te_text_model_...", without ".weight". */
bool names_to_kohya(char out[NAME_ROOM], const char *name);
/* PEFT's as diffusers has them: "unet.down_blocks.0....attn2.to_k", "text_encoder.text_model....". */
bool names_to_peft(char out[NAME_ROOM], const char *name);
#endif
