/* DreamBooth (Ruiz et al., CVPR 2023, arXiv 2208.12242), as it is done with Stable Diffusion: every weight of the UNet
 * moves, and with train_text_encoder every one of the text encoder, its token table whole. The subject goes by a rare word
 * that the vocabulary has already. Half of the loss is of class pictures, as a mean of its own. */
#include "trainer/method/method.h"
#include "trainer/train.h"

static bool moves(const char *param, const train_cfg *how)
{
    return method_of_unet(param) || (how->train_text_encoder && method_of_text_encoder(param));
}

/* The paper names no batch for Stable Diffusion; one picture with one of its class is what every script takes. The rates
 * and the clipping are those of diffusers' train_dreambooth.py and its README. */
const method method_dreambooth = {
    .name = "dreambooth",
    .help = "all weights of the UNet, of the text encoder if asked, and a rare word (Ruiz et al., CVPR 2023)",
    .paper = {.lr = 5e-6, .lr_text = 2e-6, .clip = 1, .steps = 1000, .batch = 1},
    .port = {.lr = 5e-6, .lr_text = 2e-6, .clip = 1, .steps = 800, .batch = 1},
    .in_pairs = true,
    .manner = {.show = DATA_CUT, .rare_words = true, .halves = true},
    .moves_weights = true,
    .moves = moves,
};
