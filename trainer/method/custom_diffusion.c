/* Custom Diffusion (Kumari, Zhang, Zhang, Shechtman, Zhu, "Multi-Concept Customization of Text-to-Image Diffusion", CVPR
 * 2023, section 3): only the key and value matrices of the UNet's cross-attention and the new words' rows move. With
 * freeze: crossattn the queries and output projections move too (the authors' setting for faces). */
#include "cluster/base/str.h"
#include "trainer/method/method.h"
#include "trainer/train.h"

static bool moves(const char *param, const train_cfg *how)
{
    static const char *const more[] = {".attn2.to_q.weight", ".attn2.to_out.0.weight", ".attn2.to_out.0.bias"};

    if (!str_starts(param, "unet."))
        return false;
    if (str_ends(param, ".attn2.to_k.weight") || str_ends(param, ".attn2.to_v.weight"))
        return true;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (how->freeze == FREEZE_CROSSATTN && str_ends(param, more[i]))
            return true;
    return false;
}

/* paper: 1e-5 times 2 GPUs times 4 samples, as the authors run it. */
const method method_custom_diffusion = {
    .name = "custom-diffusion",
    .help = "key and value matrices of cross-attention and one new word a subject (Kumari et al., CVPR 2023)",
    .paper = {.lr = 8e-5, .steps = 250, .batch = 8},
    .port = {.lr = 1e-5, .clip = 1, .steps = 250, .batch = 4},
    .detach_first = true,
    .learns_words = true,
    .port_decays_table = true,
    .merges = MERGE_CARDS,
    .packs = true,
    .moves = moves,
};
