#ifndef PARTS_H
#define PARTS_H
/* The three files of weights of a model folder, and what a checkpoint in one file calls their tensors. */
#include "data/safetensors.h"
#include "merge/names.h"
#include "trainer/model/sd.h"

typedef enum { PART_UNET, PART_VAE, PART_TEXT, PARTS } part_kind;
typedef struct {
    safetensors *file[PARTS];
} parts;

int parts_open(parts *out, const char *dir, err *e);
void parts_close(parts *p);

/* "unet.": before a tensor's name in a checkpoint with diffusers' keys; of the text encoder also in a concept. */
const char *parts_prefix(part_kind k);

/* The model's shape as far as names depend on it. */
typedef struct {
    int per_level, vae_levels;
    bool up_attends[16]; /* an upsampler stands behind an attention where the level has one */
} parts_shape;
parts_shape parts_shape_of(const sd *m);
/* CompVis: "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model....", "cond_stage_model.transformer....". */
bool parts_to_compvis(char out[NAME_ROOM], part_kind k, const char *name, const parts_shape *s);
/* [c,c] in diffusers and [c,c,1,1] there: the linear layers of the VAE's attention. */
bool parts_is_conv(part_kind k, const char *name);
#endif
