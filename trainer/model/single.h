#ifndef SINGLE_H
#define SINGLE_H
/* A model in one file: where in it the tensors of a model folder stand. In CompVis' keys, as user interfaces have them (SD 2's
 * text encoder there is OpenCLIP's), or in diffusers' behind "unet.", "vae." and "text_encoder.". */
#include <stdbool.h>

#include "data/safetensors.h"
#include "trainer/model/clip.h"
#include "trainer/model/unet.h"
#include "trainer/model/vae.h"

enum { SINGLE_ROOM = 512 };
typedef enum { SD_UNET, SD_VAE, SD_TEXT, SD_PARTS } sd_part;
typedef enum { SINGLE_COMPVIS, SINGLE_DIFFUSERS } single_keys;

/* As far as keys depend on it. */
typedef struct {
    single_keys keys;
    int per_level, vae_levels;
    bool up_attends[16]; /* an upsampler stands behind an attention where the level has one */
    bool open_clip;
} single_shape;
single_shape single_shape_of(single_keys keys, const unet_shape *u, const vae_shape *v, const clip_shape *t);

/* Whether it is a model at all, and in which keys. */
bool single_is(single_keys *out, const safetensors *f);
/* "unet.": before a tensor's name in diffusers' keys; of the text encoder also in a concept. */
const char *single_prefix(sd_part p);

typedef struct {
    char key[SINGLE_ROOM];
    int at, of;   /* the tensor is part `at` of `of` alike along the key's rows: OpenCLIP has q, k and v in one */
    bool is_conv; /* [c,c] in a folder and [c,c,1,1] there: the linear layers of the VAE's attention */
} single_place;
/* False: it has no place there. name: as in the folder's file, "down_blocks.0...". */
bool single_place_of(single_place *out, sd_part p, const char *name, const single_shape *s);
/* The tensor as a folder would have it, its data where they lie; *whole is the file's. False: not there. */
bool single_find(st_tensor *out, const st_tensor **whole, const safetensors *f, sd_part p, const char *name,
                 const single_shape *s);

/* CompVis' key of what stands in an attention of the UNet; per_level: resnets a level has going down. */
bool single_attention(char out[SINGLE_ROOM], const char *name, int per_level);
#endif
