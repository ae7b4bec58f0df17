#ifndef CLIP_H
#define CLIP_H
/* CLIP's text transformer (Radford et al. 2021), named as Hugging Face's CLIPTextModel. */
#include "cluster/base/json.h"
#include "trainer/nn/nn.h"

typedef struct {
    int width, layers, heads, inner;  /* inner: of the MLP */
    int vocab, positions;
    int projection;                   /* width of text_projection; 0: the model has none */
    float eps;
    bool quick;                       /* quick_gelu, else gelu */
} clip_shape;

/* config: text_encoder/config.json. */
int clip_shape_from(clip_shape *out, const json_t *config, err *e);

/* ids I32 [n,tokens] -> the last hidden state after the final layer norm [n,tokens,width]. Ids vocab..vocab+modifiers-1
 * read rows of the parameter "modifier" [modifiers,width], a table of its own so that only it need be trained.
 * scale [n,1,1] or NULL: a factor on the vocabulary's rows, not the modifiers' (a table that only decays).
 * Asks for weights below the current scope ("text_encoder"). */
nn_tensor clip_write(nn_graph *g, const clip_shape *c, nn_tensor ids, int modifiers, nn_tensor scale);
/* x [n,width], states at the end token -> [n,projection]; only where projection > 0. */
nn_tensor clip_project_write(nn_graph *g, const clip_shape *c, nn_tensor x);
#endif
