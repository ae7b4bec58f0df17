/* The settings of training, a row each, and the recipes that fill in what is left to them. */
#include "trainer/lr.h"
#include "trainer/train.h"

static const char *const freezes[] = {"kv", "crossattn", NULL};
static const char *const recipe[] = {"auto", NULL};

const cfg_field train_fields[] = {
    {"base", CFG_TEXT, CFG_AT(train_cfg, base), "", .help = "the base model, as the farm has it"},
    {"method", CFG_CHOICE, CFG_AT(train_cfg, method), "custom-diffusion", .help = "how the concept is taught", .names = method_names},
    {"freeze", CFG_CHOICE, CFG_AT(train_cfg, freeze), "kv", .names = freezes,
     .help = "what of cross-attention moves: kv, keys and values; crossattn, queries and output, too (for faces)"},
    {"steps", CFG_INT, CFG_AT(train_cfg, steps), "250", 1, 1e7, .help = "updates; the paper takes 250 for one subject, 500 for two at once"},
    {"accumulate", CFG_INT, CFG_AT(train_cfg, accumulate), "1", 1, 1024, .help = "batches added up for one update"},
    {"lr", CFG_REAL, CFG_AT(train_cfg, lr), "auto", 0, 1, .help = "learning rate; auto: 8e-5, with compat: diffusers 1e-5", .names = recipe},
    {"lr_schedule", CFG_CHOICE, CFG_AT(train_cfg, lr_schedule), "constant", .help = "how the rate changes over the steps", .names = lr_names},
    {"warmup", CFG_INT, CFG_AT(train_cfg, warmup), "0", 0, 1e7, .help = "steps in which the rate grows from 0; plain constant has none", .unit = "steps"},
    {"clip", CFG_REAL, CFG_AT(train_cfg, clip), "auto", 0, 1e6, .names = recipe,
     .help = "most the gradient's norm may be, 0 for any; auto: 0, with compat: diffusers 1"},
    {"beta1", CFG_REAL, CFG_AT(train_cfg, beta1), "0.9", 0, 0.999999, .help = "AdamW: decay of the gradient's mean"},
    {"beta2", CFG_REAL, CFG_AT(train_cfg, beta2), "0.999", 0, 0.99999999, .help = "AdamW: decay of its square's mean"},
    {"epsilon", CFG_REAL, CFG_AT(train_cfg, eps), "1e-8", 1e-20, 1, .help = "AdamW: added to the root of the square's mean"},
    {"weight_decay", CFG_REAL, CFG_AT(train_cfg, weight_decay), "0.01", 0, 1, .help = "AdamW: decay of the weights toward 0"},
    {"seed", CFG_INT, CFG_AT(train_cfg, seed), "1", 0, 9e15, .help = "decides pictures, crops, noise and timesteps"},
    {"probe", CFG_INT, CFG_AT(train_cfg, probe), "0", 0, 4096, .help = "fixed draws of picture, timestep and noise to judge by, before and after",
     .unit = "draws"},
    {"leaves", CFG_INT, CFG_AT(train_cfg, leaves), "auto", 1, 4096, .names = recipe,
     .help = "passes a batch is cut into, a power of two; decides the order of sums and the widest gang; auto: the largest that divides it"},
    CFG_END};

void train_recipe(train_cfg *how, const data_cfg *data)
{
    bool port = data->compat == COMPAT_DIFFUSERS;

    if (how->lr < 0)
        how->lr = port ? 1e-5 : 8e-5;   /* the paper's 1e-5 times 2 GPUs times 4 samples: custom-diffusion 1.3 */
    if (how->clip < 0)
        how->clip = port ? 1 : 0;
}

int train_leaves(const train_cfg *how, const data_cfg *data)
{
    int all = data_batch(data) * (int)how->accumulate;

    return how->leaves > 0 ? (int)how->leaves : all & -all;
}

static void sections_of(cfg_section out[2], concept_cfg *into)
{
    out[0] = (cfg_section){"data", data_fields, into ? &into->data : NULL};
    out[1] = (cfg_section){"train", train_fields, into ? &into->how : NULL};
}

int concept_cfg_fill(concept_cfg *out, const cfg **from, cfg_doc *d, const cfg_node *settings, err *e)
{
    cfg_section sections[2];

    sections_of(sections, out);
    TRY(cfg_fill(from, d, sections, 2, settings, e));
    train_recipe(&out->how, &out->data);
    return 0;
}

void concept_cfg_help(FILE *to)
{
    cfg_section sections[2];

    sections_of(sections, NULL);
    cfg_help(to, sections, 2);
}
