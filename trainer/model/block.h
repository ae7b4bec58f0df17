#ifndef BLOCK_H
#define BLOCK_H
/* The bricks that the UNet, the autoencoder and the text encoder share. Each opens the scope it is given, asks for its
 * weights under the names diffusers and transformers give them, and leaves; so the scopes of a graph are the names of
 * the file's modules. Input widths are read off x. */
#include "cluster/base/json.h"
#include "trainer/nn/nn.h"

/* Size of dimension i, from the end where i < 0; 1 after a mistake. */
int64_t block_dim(nn_tensor x, int i);

nn_tensor block_linear(nn_graph *g, const char *name, nn_tensor x, int64_t out, bool bias);
/* k x k, "same" for stride 1; at stride 2 the zeros lie on all sides. */
nn_tensor block_conv(nn_graph *g, const char *name, nn_tensor x, int64_t out, int k, int stride);
nn_tensor block_conv_at(nn_graph *g, const char *name, nn_tensor x, int64_t out, int k, nn_conv at);
nn_tensor block_group_norm(nn_graph *g, const char *name, nn_tensor x, int groups, float eps);
nn_tensor block_group_norm_silu(nn_graph *g, const char *name, nn_tensor x, int groups, float eps);
nn_tensor block_layer_norm(nn_graph *g, const char *name, nn_tensor x, float eps);

/* norm, silu, conv, + time, norm, silu, conv, + x (He et al. 2016; Ho et al. 2020). x [n,h,w,c] -> [n,h,w,out].
 * time [n,width], already through silu, or NULL. In the current scope. */
nn_tensor block_resnet(nn_graph *g, nn_tensor x, nn_tensor time, int64_t out, int groups, float eps);
/* Nearest neighbour to h x w, then a 3x3 convolution. In the current scope. */
nn_tensor block_upsample(nn_graph *g, nn_tensor x, int64_t h, int64_t w);

/* The units that a training may compute again: a resnet, a transformer block, a layer of the text encoder (nn_unit). */
size_t block_unit(const char *scope);

/* ---- reading config.json ---- */

/* A key and the only value built for it, as JSON. Absent is as good as that value. */
typedef struct { const char *key, *only; } block_only;
/* rows ended by a NULL key. */
int block_check_only(const json_t *config, const block_only *rows, err *e);
/* An int, or a list with one int for each level. Absent: fallback; a fallback below least: the key is required. */
int block_ints(const json_t *config, const char *key, int levels, int64_t least, int64_t most, int64_t fallback,
               int out[], err *e);
/* Every one of the list's texts is `plain` (yes[i] false) or `special` (true; NULL: none is). */
int block_types(const json_t *config, const char *key, int levels, const char *plain, const char *special, bool yes[],
                err *e);
#endif
