/* LoRA files of kohya's scripts, of PEFT and of diffusers in its ages, and shifts of singular values as svdiff-pytorch
 * has them: their keys to ours. A module's name with its dots gone is looked for among the base's own. */
#include <stdio.h>
#include <string.h>

#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"
#include "trainer/method/factors.h"

typedef struct {
    const char *theirs, *ours;
} tail;

static const tail tails[] = {
    {".lora_down.weight", FACTORS_DOWN},              /* kohya */
    {".lora_up.weight", FACTORS_UP},
    {".lora_A.weight", FACTORS_DOWN},                 /* PEFT */
    {".lora_B.weight", FACTORS_UP},
    {".lora.down.weight", FACTORS_DOWN},              /* diffusers from 0.22 on */
    {".lora.up.weight", FACTORS_UP},
    {".lora_linear_layer.down.weight", FACTORS_DOWN}, /* its text encoder */
    {".lora_linear_layer.up.weight", FACTORS_UP},
    {"_lora.down.weight", FACTORS_DOWN},              /* its attention processors, before */
    {"_lora.up.weight", FACTORS_UP},
    {".alpha", FACTORS_ALPHA},
    {".delta", ".shift"},                             /* svdiff-pytorch */
};

/* "lora_unet_down_blocks_0_..._to_q" -> "down_blocks.0....to_q" */
static bool from_kohya(char out[NAME_ROOM], const char *module, sd *base)
{
    char flat[NAME_ROOM];
    const char *name;

    for (size_t i = 0; (name = nn_params_name(sd_params(base), i)) != NULL; i++) {
        const char *own = str_starts(name, "unet.") ? name + strlen("unet.") : name;
        if (own == name && !str_starts(name, "text_encoder."))
            continue;
        if (!names_to_kohya(flat, own) || strcmp(flat, module) != 0)
            continue;
        return snprintf(out, NAME_ROOM, "%.*s", (int)(strlen(own) - strlen(".weight")), own) < NAME_ROOM;
    }
    return false;
}

/* "unet.down_blocks.0....attn1.processor.to_out" -> "down_blocks.0....attn1.to_out.0" */
static bool from_dotted(char out[NAME_ROOM], const char *module, sd *base)
{
    static const char old[] = ".processor.";
    const char *own = str_starts(module, "unet.") ? module + strlen("unet.") : module, *at = strstr(own, old);
    char name[NAME_ROOM + 16];
    nn_shape shape;
    int n;

    if (at)
        n = snprintf(out, NAME_ROOM, "%.*s.%s%s", (int)(at - own), own, at + strlen(old), str_ends(own, "to_out") ? ".0" : "");
    else
        n = snprintf(out, NAME_ROOM, "%s%s", str_starts(own, "text_model.") ? "text_encoder." : "", own);
    if (n >= NAME_ROOM)
        return false;
    snprintf(name, sizeof name, "%s%s.weight", str_starts(out, "text_encoder.") ? "" : "unet.", out);
    return sd_file_shape(base, name, &shape, NULL) == 0;
}

bool import_lora_key(char *out, const char *key, sd *base)
{
    char module[NAME_ROOM], layer[NAME_ROOM];

    for (size_t i = 0; base && i < sizeof tails / sizeof *tails; i++) {
        if (!str_ends(key, tails[i].theirs) || strlen(key) >= NAME_ROOM)
            continue;
        snprintf(module, sizeof module, "%.*s", (int)(strlen(key) - strlen(tails[i].theirs)), key);
        bool flat = str_starts(module, "lora_unet_") || str_starts(module, "lora_te_");
        if (flat ? from_kohya(layer, module, base) : from_dotted(layer, module, base))
            return snprintf(out, NAME_ROOM, "%s%s", layer, tails[i].ours) < NAME_ROOM;
    }
    return false;
}

/* A pair without alpha is meant as it is: alpha/rank 1. */
void import_lora_complete(concept *c)
{
    char name[NAME_ROOM + 16];

    for (int i = 0, n = c->n_tensors; i < n; i++) {
        const concept_tensor *up = &c->tensors[i];
        float alpha = (float)up->cols;
        if (!str_ends(up->name, FACTORS_UP))
            continue;
        snprintf(name, sizeof name, "%.*s" FACTORS_ALPHA, (int)(strlen(up->name) - strlen(FACTORS_UP)), up->name);
        if (!concept_find(c, name))
            concept_add_tensor(c, name, 1, 0, &alpha);
    }
}
