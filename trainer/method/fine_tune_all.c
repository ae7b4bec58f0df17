/* Custom Diffusion with everything of the UNet free ("ours w/ fine-tune all", Kumari et al., CVPR 2023, table 1 and
 * appendix E): what keys and values alone are worth is measured against it. All else is as there. */
#include "trainer/method/method.h"

static bool moves(const char *param, const struct train_cfg *how)
{
    (void)how;
    return method_of_unet(param);
}

const method method_fine_tune_all = {
    .name = "fine-tune-all",
    .help = "all weights of the UNet and one new word a subject (Kumari et al., CVPR 2023, appendix E)",
    .paper = {.lr = 8e-6, .steps = 500, .batch = 8},
    .port = {.lr = 8e-6, .clip = 1, .steps = 500, .batch = 4},
    .detach_first = true,
    .learns_words = true,
    .port_decays_table = true,
    .moves_weights = true,
    .moves = moves,
};
