#ifndef UNET_H
#define UNET_H
/* The denoising UNet of Stable Diffusion 1.x and 2.x (Rombach et al. 2022), written as diffusers 0.21's
 * UNet2DConditionModel names and computes it. Which one it is stands in one value read from config.json; no code
 * asks for a version. */
#include "cluster/base/json.h"
#include "trainer/nn/nn.h"

enum { UNET_LEVELS = 8 };
typedef struct {
    int in, out;                    /* channels of latents */
    int sample[2];                  /* height and width of the latents it was made for */
    int text_width;                 /* of the context */
    int levels;
    struct {
        int channels, layers;       /* resnets going down; one more going up */
        int heads;                  /* config's attention_head_dim, which is a number of heads */
        int depth;                  /* transformer blocks an attention holds */
        bool attend_down, attend_up;
    } level[UNET_LEVELS];
    int groups;
    float norm_eps;
    bool linear_projection;         /* proj_in, proj_out are linear layers, not 1x1 convolutions */
    bool flip_sin_to_cos;
    float freq_shift;
    int time_width;                 /* of the time embedding */
} unet_shape;

/* config: unet/config.json. ERR_INPUT names the key and what stands there where it is not built. */
int unet_shape_from(unet_shape *out, const json_t *config, err *e);

/* x [n,h,w,in], t F32 [n], text [n,tokens,text_width] -> [n,h,w,out]. Any h, w: upsampling goes to the skip's size.
 * detach_first: Custom Diffusion's rule, no gradient through K and V of the first token in cross-attention.
 * Asks for weights below the current scope ("unet"). */
nn_tensor unet_write(nn_graph *g, const unet_shape *u, nn_tensor x, nn_tensor t, nn_tensor text, bool detach_first);
#endif
