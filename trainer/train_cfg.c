/* The settings of training, a row each, and the recipes that fill in what is left to them. */
#include <string.h>

#include "trainer/lr.h"
#include "trainer/train.h"

static const char *const freezes[] = {"kv", "crossattn", NULL};
static const char *const lora_names[] = {"attention", "cross", NULL};
static const char *const norm_names[] = {"elementwise", "scalar", "off", NULL};
static const char *const computes[] = {"auto", "f32", "bf16", NULL};
static const char *const moment_names[] = {"f32", "8bit", NULL};
static const char *const master_names[] = {"f32", "bf16", NULL};
static const char *const recipe[] = {"auto", NULL};

static const char *const reduces[] = {"fast", "exact", "bf16", NULL};

const cfg_field train_fields[] = {
    {"base", CFG_TEXT, CFG_AT(train_cfg, base), "", .help = "the base model, as the farm has it"},
    {"method", CFG_CHOICE, CFG_AT(train_cfg, method), METHOD_USUAL, .help = "how the concept is taught", .names = method_names},
    {"freeze", CFG_CHOICE, CFG_AT(train_cfg, freeze), "kv", .names = freezes,
     .help = "what of cross-attention moves: kv, keys and values; crossattn, queries and output, too (for faces)"},
    {"train_text_encoder", CFG_BOOL, CFG_AT(train_cfg, train_text_encoder), "false",
     .help = "of dreambooth, lora and svdiff: the text encoder is taught, too"},
    {"lora.rank", CFG_INT, CFG_AT(train_cfg, lora_rank), "4", 1, 1024, .help = "of lora: rows of its factors"},
    {"lora.alpha", CFG_REAL, CFG_AT(train_cfg, lora_alpha), "auto", 0, 1e6, .names = recipe,
     .help = "of lora: alpha/rank scales what the factors add; auto: the rank"},
    {"lora.layers", CFG_CHOICE, CFG_AT(train_cfg, lora_layers), "attention", .names = lora_names,
     .help = "of lora: all attention of the UNet, or cross-attention alone; with train_text_encoder the text encoder's, too"},
    {"svdiff.norms", CFG_CHOICE, CFG_AT(train_cfg, svdiff_norms), "elementwise", .names = norm_names,
     .help = "of svdiff: a shift for each channel of a norm's gain (the paper), one for all (the public program), or none"},
    {"steps", CFG_INT, CFG_AT(train_cfg, steps), "auto", 1, 1e7, .names = recipe,
     .help = "updates; auto: as the method's recipe has it; custom-diffusion takes 250 for one subject, 500 for two at once"},
    {"unmix", CFG_REAL, CFG_AT(train_cfg, unmix), "0", 0, 1e6,
     .help = "with cut_mix: weight of what a subject's word sees in the other's half, a further part of the loss (SVDiff's \"unmix\"; "
             "its authors' weight is in none of their tables); 0: none"},
    {"accumulate", CFG_INT, CFG_AT(train_cfg, accumulate), "1", 1, 1024, .help = "batches added up for one update"},
    {"lr", CFG_REAL, CFG_AT(train_cfg, lr), "auto", 0, 1, .help = "learning rate; auto: the method's recipe (custom-diffusion: 8e-5, with compat: diffusers 1e-5)", .names = recipe},
    {"scale_lr", CFG_BOOL, CFG_AT(train_cfg, scale_lr), "false",
     .help = "the given lr is for one picture: times batch and accumulate, as scripts' --scale_lr"},
    {"lr_schedule", CFG_CHOICE, CFG_AT(train_cfg, lr_schedule), "constant", .help = "how the rate changes over the steps", .names = lr_names},
    {"warmup", CFG_INT, CFG_AT(train_cfg, warmup), "0", 0, 1e7, .help = "steps in which the rate grows from 0; plain constant has none", .unit = "steps"},
    {"clip", CFG_REAL, CFG_AT(train_cfg, clip), "auto", 0, 1e6, .names = recipe,
     .help = "most the gradient's norm may be, 0 for any; auto: the method's recipe (custom-diffusion: 0, with compat: diffusers 1)"},
    {"beta1", CFG_REAL, CFG_AT(train_cfg, beta1), "0.9", 0, 0.999999, .help = "AdamW: decay of the gradient's mean"},
    {"beta2", CFG_REAL, CFG_AT(train_cfg, beta2), "0.999", 0, 0.99999999, .help = "AdamW: decay of its square's mean"},
    {"epsilon", CFG_REAL, CFG_AT(train_cfg, eps), "1e-8", 1e-20, 1, .help = "AdamW: added to the root of the square's mean"},
    {"weight_decay", CFG_REAL, CFG_AT(train_cfg, weight_decay), "0.01", 0, 1, .help = "AdamW: decay of the weights toward 0"},
    {"seed", CFG_INT, CFG_AT(train_cfg, seed), "1", 0, 9e15, .help = "decides pictures, crops, noise and timesteps"},
    {"probe", CFG_INT, CFG_AT(train_cfg, probe), "0", 0, 4096, .help = "fixed draws of picture, timestep and noise to judge by, before and after",
     .unit = "draws"},
    {"moments", CFG_CHOICE, CFG_AT(train_cfg, moments), "f32", .names = moment_names,
     .help = "AdamW's two moments of each weight: f32, 8 bytes, or 8bit, 2 bytes, quantised block by block (Dettmers et al., ICLR 2022)"},
    {"master", CFG_CHOICE, CFG_AT(train_cfg, master), "f32", .names = master_names,
     .help = "of dreambooth and fine-tune-all: what the weights that move are kept in: f32, 4 bytes, or bf16, 2 bytes, rounded up or "
             "down by chance so that small steps are kept in the mean"},
    {"recompute", CFG_BOOL, CFG_AT(train_cfg, recompute), "false",
     .help = "what stands inside the model's blocks is computed again on the way back: much less memory, the same bits, more time"},
    {"regularisation_cache", CFG_TEXT, CFG_AT(train_cfg, kept), "",
     .help = "folder where class pictures, once encoded, are kept for other concepts; empty: beside pictures that are generated, else nowhere"},
    {"leaves", CFG_INT, CFG_AT(train_cfg, leaves), "auto", 1, 4096, .names = recipe,
     .help = "passes a batch is cut into, a power of two; decides the order of sums and the widest gang; auto: the largest that divides it"},
    {"reduce", CFG_CHOICE, CFG_AT(train_cfg, reduce), "fast", .names = reduces,
     .help = "how a gang of GPUs adds its gradients: fast, by NCCL in f32; bf16, by NCCL in half the bytes; exact, through the host in one "
             "fixed order, the same bits for every gang that makes the same passes. Gangs of CPUs are exact always"},
    {"compute", CFG_CHOICE, CFG_AT(train_cfg, compute), "auto", .names = computes,
     .help = "what products are computed in: f32, or bf16 with sums, norms, losses and all that is trained in f32; auto: the faster one here"},
    CFG_END};

static bool regularised(const data_cfg *data)
{
    for (int i = 0; i < data_subjects(data); i++)
        if (regset_asked(&data_subject(data, i)->reg))
            return true;
    return false;
}

static bool on_gpu; /* what `auto` means in this process */

void train_on_gpu(bool yes)
{
    on_gpu = yes;
}

void train_recipe(train_cfg *how, data_cfg *data)
{
    const method *by = method_find(method_names[how->method]);
    const method_recipe *r = data->compat == COMPAT_DIFFUSERS ? &by->port : &by->paper;

    bool given = how->lr >= 0;

    data->manner = by->manner;
    memset(data->rare, 0, sizeof data->rare);
    if (how->compute == COMPUTE_AUTO)
        how->compute = (on_gpu ? NN_BF16 : nn_cpu_best_compute(NULL)) == NN_BF16 ? COMPUTE_BF16 : COMPUTE_F32;
    if (!given)
        how->lr = how->train_text_encoder && r->lr_text > 0 ? r->lr_text : r->lr;
    if (how->clip < 0)
        how->clip = r->clip;
    if (how->steps < 0)
        how->steps = r->steps;
    if (data->batch < 0)
        data->batch = r->batch * (by->in_pairs && regularised(data) ? 2 : 1);
    if (given ? how->scale_lr : r->lr_each)
        how->lr *= (double)data_batch(data) * (double)how->accumulate;
}

static int check_unmix(const data_cfg *data, err *e)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];

    if (data->cut_mix <= 0)
        return err_set(e, ERR_INPUT, "unmix looks at pictures of two subjects side by side: it wants cut_mix");
    for (int i = 0; i < data_subjects(data) && !data->manner.rare_words; i++)
        if (subject_tokens(words, data, i) == 0)
            return err_set(e, ERR_INPUT, "unmix looks where each subject's word does, and %s has token: none",
                           data_subject(data, i)->class_word);
    return 0;
}

int train_check(const train_cfg *how, const data_cfg *data, err *e)
{
    const char *who = method_names[how->method];

    if (how->master == MASTER_BF16 && !method_find(who)->moves_weights)
        return err_set(e, ERR_INPUT, "master: bf16 is for methods that move whole weights; what %s moves is small and kept in f32", who);
    return how->unmix > 0 ? check_unmix(data, e) : 0;
}

int train_leaves(const train_cfg *how, const data_cfg *data)
{
    int all = data_batch(data) * (int)how->accumulate;

    return how->leaves > 0 ? (int)how->leaves : all & -all;
}

bool train_leaves_kept(const train_cfg *how)
{
    return !on_gpu || how->leaves > 0 || how->reduce == REDUCE_EXACT;
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

int concept_cfg_fill_next(concept_cfg *out, concept_before *b, cfg_doc *d, const cfg_node *settings, err *e)
{
    cfg_section sections[2];

    *out = b->as;
    sections_of(sections, out);
    if (!b->settings || !cfg_refill(d, sections, 2, settings, b->settings)) {
        b->settings = NULL;
        TRY(cfg_fill(NULL, d, sections, 2, settings, e));
        *b = (concept_before){settings, *out};
    }
    train_recipe(&out->how, &out->data);
    return 0;
}

void concept_cfg_help(FILE *to)
{
    cfg_section sections[2];

    sections_of(sections, NULL);
    cfg_help(to, sections, 2);
}
