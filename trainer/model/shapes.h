#ifndef SHAPES_H
#define SHAPES_H
/* Named shapes of models, as the configs that a directory of each would hold: for measuring without a download. */

/* "sd15", "sd21" (2.1-base), "small" (channels 64 to 256, latents of 32) and "tiny", ended by NULL. */
extern const char *const shape_names[];
/* The text of a config: file is "unet", "vae", "text_encoder", "scheduler" or "model_index"; NULL: no such shape. */
const char *shape_config(const char *shape, const char *file);
#endif
