#include "trainer/model/single.h"

#include <stdio.h>
#include <string.h>

#include "cluster/base/str.h"

#define UNET "model.diffusion_model."
#define TEXT "cond_stage_model.transformer."
#define OPEN "cond_stage_model.model."

single_shape single_shape_of(single_keys keys, const unet_shape *u, const vae_shape *v, const clip_shape *t)
{
    single_shape s = {.keys = keys, .per_level = u->level[0].layers, .vae_levels = v->levels, .open_clip = !t->quick};
    for (int i = 0; i < u->levels; i++) /* going up, the levels come in the other order */
        s.up_attends[i] = u->level[u->levels - 1 - i].attend_up;
    return s;
}

bool single_is(single_keys *out, const safetensors *f)
{
    *out = st_find(f, "unet.conv_in.weight") ? SINGLE_DIFFUSERS : SINGLE_COMPVIS;
    return *out == SINGLE_DIFFUSERS || st_find(f, UNET "input_blocks.0.0.weight");
}

const char *single_prefix(sd_part p)
{
    static const char *const prefix[SD_PARTS] = {[SD_UNET] = "unet.", [SD_VAE] = "vae.", [SD_TEXT] = "text_encoder."};
    return prefix[p];
}

/* ---- CompVis' keys ---- */

typedef struct {
    const char *ours, *theirs;
} spelling;

static const spelling RESNET[] = {
    {"norm1.", "in_layers.0."},  {"conv1.", "in_layers.2."},  {"time_emb_proj.", "emb_layers.1."},
    {"norm2.", "out_layers.0."}, {"conv2.", "out_layers.3."}, {"conv_shortcut.", "skip_connection."},
    {NULL, NULL},
};
static const spelling VAE_RESNET[] = {{"conv_shortcut.", "nin_shortcut."}, {NULL, NULL}};
static const spelling VAE_ATTENTION[] = {
    {"group_norm.", "norm."}, {"to_q.", "q."}, {"to_k.", "k."},   {"to_v.", "v."},   {"to_out.0.", "proj_out."},
    {"query.", "q."},         {"key.", "k."},  {"value.", "v."}, {"proj_attn.", "proj_out."}, {NULL, NULL},
};
static const spelling UNET_ENDS[] = {
    {"conv_in.", "input_blocks.0.0."},        {"conv_norm_out.", "out.0."},
    {"conv_out.", "out.2."},                  {"time_embedding.linear_1.", "time_embed.0."},
    {"time_embedding.linear_2.", "time_embed.2."}, {NULL, NULL},
};

/* The tail's beginning as they spell it; the rest as it is. */
static void spell(char out[SINGLE_ROOM], const char *front, const char *tail, const spelling *rows)
{
    for (; rows->ours; rows++)
        if (str_starts(tail, rows->ours)) {
            snprintf(out, SINGLE_ROOM, "%s%s%s", front, rows->theirs, tail + strlen(rows->ours));
            return;
        }
    snprintf(out, SINGLE_ROOM, "%s%s", front, tail);
}

/* The k-th block of a side counts resnets: down, conv_in is block 0 and each level ends in a downsampler; up, each
 * level has one resnet more. So down (i, j) is input block (per_level + 1) i + j + 1, up (i, j) output block (per_level
 * + 1) i + j. */
bool single_attention(char out[SINGLE_ROOM], const char *name, int per_level)
{
    int i, j, used = 0, n = -1;
    if (sscanf(name, "down_blocks.%d.attentions.%d.%n", &i, &j, &used) == 2 && used)
        n = snprintf(out, SINGLE_ROOM, UNET "input_blocks.%d.1.%s", (per_level + 1) * i + j + 1, name + used);
    else if (sscanf(name, "up_blocks.%d.attentions.%d.%n", &i, &j, &used) == 2 && used)
        n = snprintf(out, SINGLE_ROOM, UNET "output_blocks.%d.1.%s", (per_level + 1) * i + j, name + used);
    else if (sscanf(name, "mid_block.attentions.0.%n", &used) == 0 && used)
        n = snprintf(out, SINGLE_ROOM, UNET "middle_block.1.%s", name + used);
    return n > 0 && n < SINGLE_ROOM;
}

static bool unet_name(char out[SINGLE_ROOM], const char *name, const single_shape *s)
{
    int i, j, used = 0, step = s->per_level + 1;
    char front[64];
    for (const spelling *x = UNET_ENDS; x->ours; x++)
        if (str_starts(name, x->ours)) {
            spell(out, UNET, name, UNET_ENDS);
            return true;
        }
    if (single_attention(out, name, s->per_level))
        return true;
    if (sscanf(name, "down_blocks.%d.resnets.%d.%n", &i, &j, &used) == 2 && used)
        snprintf(front, sizeof front, UNET "input_blocks.%d.0.", step * i + j + 1);
    else if (sscanf(name, "up_blocks.%d.resnets.%d.%n", &i, &j, &used) == 2 && used)
        snprintf(front, sizeof front, UNET "output_blocks.%d.0.", step * i + j);
    else if (sscanf(name, "mid_block.resnets.%d.%n", &j, &used) == 1 && used)
        snprintf(front, sizeof front, UNET "middle_block.%d.", 2 * j);
    if (used) {
        spell(out, front, name + used, RESNET);
        return true;
    }
    if (sscanf(name, "down_blocks.%d.downsamplers.0.conv.%n", &i, &used) == 1 && used)
        return snprintf(out, SINGLE_ROOM, UNET "input_blocks.%d.0.op.%s", step * (i + 1), name + used) > 0;
    if (sscanf(name, "up_blocks.%d.upsamplers.0.conv.%n", &i, &used) == 1 && used && i >= 0 && i < 16)
        return snprintf(out, SINGLE_ROOM, UNET "output_blocks.%d.%d.conv.%s", step * i + s->per_level,
                        s->up_attends[i] ? 2 : 1, name + used) > 0;
    return false;
}

#define VAE "first_stage_model."

static bool vae_name(char out[SINGLE_ROOM], const char *name, const single_shape *s)
{
    int i, j, used = 0;
    char front[64];
    if (sscanf(name, "encoder.down_blocks.%d.resnets.%d.%n", &i, &j, &used) == 2 && used)
        snprintf(front, sizeof front, VAE "encoder.down.%d.block.%d.", i, j);
    else if (sscanf(name, "decoder.up_blocks.%d.resnets.%d.%n", &i, &j, &used) == 2 && used)
        snprintf(front, sizeof front, VAE "decoder.up.%d.block.%d.", s->vae_levels - 1 - i, j);
    else if (sscanf(name, "encoder.mid_block.resnets.%d.%n", &j, &used) == 1 && used)
        snprintf(front, sizeof front, VAE "encoder.mid.block_%d.", j + 1);
    else if (sscanf(name, "decoder.mid_block.resnets.%d.%n", &j, &used) == 1 && used)
        snprintf(front, sizeof front, VAE "decoder.mid.block_%d.", j + 1);
    if (used) {
        spell(out, front, name + used, VAE_RESNET);
        return true;
    }
    if (sscanf(name, "encoder.mid_block.attentions.0.%n", &used) == 0 && used)
        spell(out, VAE "encoder.mid.attn_1.", name + used, VAE_ATTENTION);
    else if (sscanf(name, "decoder.mid_block.attentions.0.%n", &used) == 0 && used)
        spell(out, VAE "decoder.mid.attn_1.", name + used, VAE_ATTENTION);
    else if (sscanf(name, "encoder.down_blocks.%d.downsamplers.0.%n", &i, &used) == 1 && used)
        snprintf(out, SINGLE_ROOM, VAE "encoder.down.%d.downsample.%s", i, name + used);
    else if (sscanf(name, "decoder.up_blocks.%d.upsamplers.0.%n", &i, &used) == 1 && used)
        snprintf(out, SINGLE_ROOM, VAE "decoder.up.%d.upsample.%s", s->vae_levels - 1 - i, name + used);
    else if (str_starts(name, "encoder.conv_norm_out."))
        snprintf(out, SINGLE_ROOM, VAE "encoder.norm_out.%s", name + strlen("encoder.conv_norm_out."));
    else if (str_starts(name, "decoder.conv_norm_out."))
        snprintf(out, SINGLE_ROOM, VAE "decoder.norm_out.%s", name + strlen("decoder.conv_norm_out."));
    else
        snprintf(out, SINGLE_ROOM, VAE "%s", name);
    return true;
}

/* OpenCLIP's: q, k and v of a layer are one matrix, and what is a table elsewhere is a parameter. */
static bool open_clip_name(single_place *out, const char *name)
{
    static const spelling LAYER[] = {
        {"self_attn.out_proj.", "attn.out_proj."}, {"layer_norm1.", "ln_1."}, {"layer_norm2.", "ln_2."},
        {"mlp.fc1.", "mlp.c_fc."},                 {"mlp.fc2.", "mlp.c_proj."}, {NULL, NULL},
    };
    static const spelling ENDS[] = {
        {"text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
        {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
        {"text_model.final_layer_norm.", "ln_final."}, {NULL, NULL},
    };
    static const char *const packed[] = {"q_proj.", "k_proj.", "v_proj."};
    char front[64];
    int layer, used = 0;
    if (sscanf(name, "text_model.encoder.layers.%d.%n", &layer, &used) == 1 && used) {
        const char *tail = name + used;
        snprintf(front, sizeof front, OPEN "transformer.resblocks.%d.", layer);
        for (int i = 0; i < 3; i++)
            if (str_starts(tail, "self_attn.") && str_starts(tail + strlen("self_attn."), packed[i])) {
                out->at = i;
                out->of = 3;
                return snprintf(out->key, SINGLE_ROOM, "%sattn.in_proj_%s", front, tail + strlen("self_attn.") + strlen(packed[i])) > 0;
            }
        spell(out->key, front, tail, LAYER);
        return true;
    }
    for (const spelling *x = ENDS; x->ours; x++)
        if (str_starts(name, x->ours)) {
            spell(out->key, OPEN, name, ENDS);
            return true;
        }
    return false;
}

static bool compvis_place(single_place *out, sd_part p, const char *name, const single_shape *s)
{
    out->is_conv = p == SD_VAE && strstr(name, ".mid_block.attentions.0.") && str_ends(name, ".weight") && !strstr(name, "group_norm");
    if (p == SD_UNET)
        return unet_name(out->key, name, s);
    if (p == SD_VAE)
        return vae_name(out->key, name, s);
    if (s->open_clip)
        return open_clip_name(out, name);
    return snprintf(out->key, SINGLE_ROOM, TEXT "%s", name) > 0;
}

/* ---- both ---- */

bool single_place_of(single_place *out, sd_part p, const char *name, const single_shape *s)
{
    *out = (single_place){.of = 1};
    if (strlen(name) > SINGLE_ROOM / 2)
        return false;
    if (s->keys == SINGLE_COMPVIS)
        return compvis_place(out, p, name, s);
    return snprintf(out->key, SINGLE_ROOM, "%s%s", single_prefix(p), name) > 0;
}

/* Some programs leave "text_model." out. */
static const st_tensor *find_key(const safetensors *f, const char *key)
{
    const st_tensor *t = st_find(f, key);
    char other[SINGLE_ROOM + sizeof TEXT];
    if (t || !str_starts(key, TEXT "text_model."))
        return t;
    snprintf(other, sizeof other, TEXT "%s", key + strlen(TEXT "text_model."));
    return st_find(f, other);
}

bool single_find(st_tensor *out, const st_tensor **whole, const safetensors *f, sd_part p, const char *name,
                 const single_shape *s)
{
    single_place place;
    const st_tensor *t = single_place_of(&place, p, name, s) ? find_key(f, place.key) : NULL;
    *whole = t;
    if (!t || (place.of > 1 && (t->n == 0 || t->d[0] % place.of != 0)))
        return false;
    *out = *t;
    out->name = name;
    if (place.of > 1) {
        out->d[0] /= place.of;
        out->count /= (uint64_t)place.of;
        out->data = (const char *)t->data + (size_t)place.at * out->count * dtype_bytes(t->type);
    }
    if (place.is_conv && t->n == 4 && t->d[2] == 1 && t->d[3] == 1)
        out->n = 2;
    return true;
}
