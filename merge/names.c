#include "merge/names.h"

#include <stdio.h>
#include <string.h>

#include "cluster/base/str.h"

/* Rows of what follows "attn2." in both spellings. */
static const struct {
    const char *ours, *theirs;
} processor[] = {
    {"to_k.weight", "processor.to_k_custom_diffusion.weight"},
    {"to_v.weight", "processor.to_v_custom_diffusion.weight"},
    {"to_q.weight", "processor.to_q_custom_diffusion.weight"},
    {"to_out.0.weight", "processor.to_out_custom_diffusion.0.weight"},
    {"to_out.0.bias", "processor.to_out_custom_diffusion.0.bias"},
};
enum { PROCESSORS = sizeof processor / sizeof *processor };

static bool replace_tail(char out[NAME_ROOM], const char *name, const char *tail, const char *by)
{
    return str_ends(name, tail) &&
           snprintf(out, NAME_ROOM, "%.*s%s", (int)(strlen(name) - strlen(tail)), name, by) < NAME_ROOM;
}

bool names_to_processor(char out[NAME_ROOM], const char *name)
{
    for (int i = 0; i < PROCESSORS; i++)
        if (strstr(name, ".attn2.") && replace_tail(out, name, processor[i].ours, processor[i].theirs))
            return true;
    return false;
}

bool names_from_processor(char out[NAME_ROOM], const char *key)
{
    for (int i = 0; i < PROCESSORS; i++)
        if (strstr(key, ".attn2.") && replace_tail(out, key, processor[i].theirs, processor[i].ours))
            return true;
    return false;
}

#define COMPVIS "model.diffusion_model."

bool names_from_compvis(char out[NAME_ROOM], const char *key, int per_level)
{
    int k, used = 0, n = -1, step = per_level + 1;
    if (!str_starts(key, COMPVIS))
        return false;
    key += strlen(COMPVIS);
    if (sscanf(key, "input_blocks.%d.1.%n", &k, &used) == 1 && used && k > 0)
        n = snprintf(out, NAME_ROOM, "down_blocks.%d.attentions.%d.%s", (k - 1) / step, (k - 1) % step, key + used);
    else if (sscanf(key, "output_blocks.%d.1.%n", &k, &used) == 1 && used && k >= 0)
        n = snprintf(out, NAME_ROOM, "up_blocks.%d.attentions.%d.%s", k / step, k % step, key + used);
    else if (sscanf(key, "middle_block.1.%n", &used) == 0 && used)
        n = snprintf(out, NAME_ROOM, "mid_block.attentions.0.%s", key + used);
    return n > 0 && n < NAME_ROOM;
}

bool names_to_kohya(char out[NAME_ROOM], const char *name)
{
    bool text = strncmp(name, "text_encoder.", strlen("text_encoder.")) == 0;
    const char *front = text ? "lora_te_" : "lora_unet_";
    size_t n = strlen(front);
    if (!replace_tail(out, text ? name + strlen("text_encoder.") : name, ".weight", "") || strlen(out) + n >= NAME_ROOM)
        return false;
    memmove(out + n, out, strlen(out) + 1);
    memcpy(out, front, n);
    for (char *at = out; *at; at++)
        if (*at == '.')
            *at = '_';
    return true;
}

bool names_to_peft(char out[NAME_ROOM], const char *name)
{
    char module[NAME_ROOM];
    bool text = strncmp(name, "text_encoder.", strlen("text_encoder.")) == 0;
    return replace_tail(module, name, ".weight", "") &&
           snprintf(out, NAME_ROOM, "%s%s", text ? "" : "unet.", module) < NAME_ROOM;
}
