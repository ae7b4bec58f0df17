#ifndef VIT_H
#define VIT_H
/* Vision transformers (Dosovitskiy et al. 2021) as they measure pictures: CLIP's picture tower (Radford et al. 2021,
 * named as Hugging Face's CLIPModel) and DINO (Caron et al. 2021, named as its authors' checkpoints or as Hugging
 * Face's ViTModel). One body, three ways of naming its weights. */
#include "cluster/base/json.h"
#include "trainer/nn/nn.h"

typedef enum { VIT_CLIP, VIT_DINO, VIT_HF } vit_naming;
typedef enum { VIT_GELU, VIT_QUICK_GELU } vit_act;

typedef struct {
    vit_naming naming;
    int side, patch;                 /* pixels of a picture and of a patch; both square */
    int width, layers, heads, inner; /* inner: of the MLP */
    int projection;                  /* of CLIP's features; 0: the class token's state is the feature */
    float eps;
    vit_act act;
} vit_shape;

/* clip: a CLIPModel's config.json (vision_config, projection_dim). hf: a ViTModel's. Absent keys have the value that
 * transformers gives them. The authors' DINO checkpoints have no config: dino_shape_from (judge.c) reads the weights.
 */
int vit_clip_shape_from(vit_shape *out, const json_t *config, err *e);
int vit_hf_shape_from(vit_shape *out, const json_t *config, err *e);
int vit_features(const vit_shape *v);

/* x [n,side,side,3], normalised as the model wants it -> [n,vit_features]. Asks for weights below the current scope. */
nn_tensor vit_write(nn_graph *g, const vit_shape *v, nn_tensor x);
#endif
