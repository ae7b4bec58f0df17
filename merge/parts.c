#include "merge/parts.h"

#include <stdio.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"

/* ---- files ---- */

static const struct {
    const char *stem, *prefix;
} PART[PARTS] = {
    [PART_UNET] = {"unet/diffusion_pytorch_model", "unet."},
    [PART_VAE] = {"vae/diffusion_pytorch_model", "vae."},
    [PART_TEXT] = {"text_encoder/model", "text_encoder."},
};

static int open_part(safetensors **out, const char *dir, part_kind k, err *e)
{
    static const char *const kinds[] = {".safetensors", ".fp16.safetensors"};
    char name[128], path[FS_PATH];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "%s%s", PART[k].stem, kinds[i]);
        TRY(fs_join(path, dir, name, e));
        if (fs_exists(path))
            return st_open(out, path, e);
    }
    return err_set(e, ERR_INPUT, "%s: no %s.safetensors", dir, PART[k].stem);
}

int parts_open(parts *out, const char *dir, err *e)
{
    *out = (parts){{NULL}};
    for (part_kind k = 0; k < PARTS; k++) {
        int rc = open_part(&out->file[k], dir, k, e);
        if (rc != 0) {
            parts_close(out);
            return rc;
        }
    }
    return 0;
}

void parts_close(parts *p)
{
    for (part_kind k = 0; k < PARTS; k++)
        if (p->file[k])
            st_close(p->file[k]);
    *p = (parts){{NULL}};
}

const char *parts_prefix(part_kind k)
{
    return PART[k].prefix;
}

/* ---- names ---- */

parts_shape parts_shape_of(const sd *m)
{
    const unet_shape *u = sd_unet_shape(m);
    parts_shape s = {.per_level = u->level[0].layers, .vae_levels = sd_vae_shape(m)->levels};
    for (int i = 0; i < u->levels; i++) /* going up, the levels come in the other order */
        s.up_attends[i] = u->level[u->levels - 1 - i].attend_up;
    return s;
}

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
static void spell(char out[NAME_ROOM], const char *front, const char *tail, const spelling *rows)
{
    for (; rows->ours; rows++)
        if (str_starts(tail, rows->ours)) {
            snprintf(out, NAME_ROOM, "%s%s%s", front, rows->theirs, tail + strlen(rows->ours));
            return;
        }
    snprintf(out, NAME_ROOM, "%s%s", front, tail);
}

#define UNET "model.diffusion_model."

static bool unet_name(char out[NAME_ROOM], const char *name, const parts_shape *s)
{
    int i, j, used = 0, step = s->per_level + 1;
    char front[64];
    for (const spelling *x = UNET_ENDS; x->ours; x++)
        if (str_starts(name, x->ours)) {
            spell(out, UNET, name, UNET_ENDS);
            return true;
        }
    if (names_to_compvis(out, name, s->per_level))
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
        return snprintf(out, NAME_ROOM, UNET "input_blocks.%d.0.op.%s", step * (i + 1), name + used) > 0;
    if (sscanf(name, "up_blocks.%d.upsamplers.0.conv.%n", &i, &used) == 1 && used && i >= 0 && i < 16)
        return snprintf(out, NAME_ROOM, UNET "output_blocks.%d.%d.conv.%s", step * i + s->per_level,
                        s->up_attends[i] ? 2 : 1, name + used) > 0;
    return false;
}

#define VAE "first_stage_model."

static bool vae_name(char out[NAME_ROOM], const char *name, const parts_shape *s)
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
        snprintf(out, NAME_ROOM, VAE "encoder.down.%d.downsample.%s", i, name + used);
    else if (sscanf(name, "decoder.up_blocks.%d.upsamplers.0.%n", &i, &used) == 1 && used)
        snprintf(out, NAME_ROOM, VAE "decoder.up.%d.upsample.%s", s->vae_levels - 1 - i, name + used);
    else if (str_starts(name, "encoder.conv_norm_out."))
        snprintf(out, NAME_ROOM, VAE "encoder.norm_out.%s", name + strlen("encoder.conv_norm_out."));
    else if (str_starts(name, "decoder.conv_norm_out."))
        snprintf(out, NAME_ROOM, VAE "decoder.norm_out.%s", name + strlen("decoder.conv_norm_out."));
    else
        snprintf(out, NAME_ROOM, VAE "%s", name);
    return true;
}

bool parts_to_compvis(char out[NAME_ROOM], part_kind k, const char *name, const parts_shape *s)
{
    if (strlen(name) > NAME_ROOM / 2)
        return false;
    if (k == PART_UNET)
        return unet_name(out, name, s);
    if (k == PART_VAE)
        return vae_name(out, name, s);
    return snprintf(out, NAME_ROOM, "cond_stage_model.transformer.%s", name) > 0;
}

bool parts_is_conv(part_kind k, const char *name)
{
    return k == PART_VAE && strstr(name, ".mid_block.attentions.0.") && str_ends(name, ".weight") &&
           !strstr(name, "group_norm");
}
