#ifndef VAE_H
#define VAE_H
/* The autoencoder between pictures and latents (Esser, Rombach, Ommer 2021; Rombach et al. 2022), named as diffusers'
 * AutoencoderKL. Pictures are [n,h,w,3] in -1..1, latents [n,h/8,w/8,4]. */
#include "cluster/base/json.h"
#include "trainer/nn/nn.h"

enum { VAE_LEVELS = 8 };
typedef struct {
    int in, out, latent;              /* channels */
    int levels, channels[VAE_LEVELS], layers, groups;
    float scaling;                    /* latents given to the UNet are the VAE's times this */
    bool old_attention;               /* the file says query, key, value, proj_attn for to_q, to_k, to_v, to_out.0 */
} vae_shape;

/* config: vae/config.json. old_attention is the file's affair: sd.c sets it. */
int vae_shape_from(vae_shape *out, const json_t *config, err *e);
int vae_factor(const vae_shape *v);   /* pixels to one latent, each way: 2^(levels-1) */

/* x [n,h,w,in] -> moments [n,h/f,w/f,2*latent]: mean, then log of the variance (not clamped). Weights below the
 * current scope ("vae"), as in decode: z [n,h,w,latent], already divided by scaling -> [n,h*f,w*f,out], not clamped. */
nn_tensor vae_encode_write(nn_graph *g, const vae_shape *v, nn_tensor x);
nn_tensor vae_decode_write(nn_graph *g, const vae_shape *v, nn_tensor z);

/* moments [pixels,2*latent] -> mean, logvar [pixels,latent], logvar clamped to -30..20. */
void vae_moments(const vae_shape *v, const float *moments, size_t pixels, float *mean, float *logvar);
/* (mean + exp(logvar/2) noise) * scaling: the latents a UNet is trained on. May be in place of mean. */
void vae_sample(const vae_shape *v, const float *mean, const float *logvar, const float *noise, float *out, size_t count);
#endif
