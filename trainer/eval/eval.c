/* The settings of an evaluation, and its course. */
#include "trainer/eval/eval.h"

#include <stdlib.h>

#include "cluster/base/fs.h"
#include "trainer/diffusion/sampler.h"

enum { SAMPLERS_MOST = 16, SIDE_MOST = 8192 };
static const char *const AUTO[] = {"auto", NULL};
static const char *const SCALES[] = {"cosine", "hundred", "clipscore", NULL};
static const char *samplers[SAMPLERS_MOST + 1]; /* the names of sampler.h, filled by eval_rows */

static const cfg_field ROWS[] = {
    {"pictures", CFG_TEXT, CFG_AT(eval_cfg, pictures), "",
     .help = "a folder of pictures to measure as they are, with prompts.json or "
             "X.txt beside X.png; without it pictures are made"},
    {"model", CFG_TEXT, CFG_AT(eval_cfg, model), "",
     .help = "the base model pictures are made with: a folder in the diffusers layout"},
    {"from", CFG_TEXT, CFG_AT(eval_cfg, from), "",
     .help = "a concept file or a merged file that is laid over it; with pictures: whose "
             "words are in the prompts"},
    {"prompt", CFG_TEXTS, CFG_AT(eval_cfg, prompt), "",
     .help = "what to show; {} is the subject, {0} and {1} those of a merged file"},
    {"prompts", CFG_TEXT, CFG_AT(eval_cfg, prompts), "", .help = "a text file with a prompt a line"},
    {"class", CFG_TEXT, CFG_AT(eval_cfg, class_word), "",
     .help = "what the subject is, in {}; else as the concept file has it"},
    {"token", CFG_TEXTS, CFG_AT(eval_cfg, token), "",
     .help = "words that CLIP shall not read, besides those of the concept file"},
    {"negative", CFG_TEXT, CFG_AT(eval_cfg, negative), "", .help = "what guidance leads away from"},
    {"count", CFG_INT, CFG_AT(eval_cfg, count), "4", 1, 10000, .unit = "pictures", .help = "pictures of each prompt"},
    {"sampler", CFG_CHOICE, CFG_AT(eval_cfg, sampler), "ddim", .names = samplers,
     .help = "how noise becomes a picture"},
    {"steps", CFG_INT, CFG_AT(eval_cfg, steps), "50", 1, 1000, .unit = "steps",
     .help = "calls of the model for a picture"},
    {"eta", CFG_REAL, CFG_AT(eval_cfg, eta), "0", 0, 1,
     .help = "fresh noise in ddim's steps: 0 none, 1 as much as ddpm"},
    {"guidance", CFG_REAL, CFG_AT(eval_cfg, guidance), "6", 0, 100, .help = "weight of the prompt; 1: no guidance"},
    {"seed", CFG_INT, CFG_AT(eval_cfg, seed), "1", 0, 9e15, .help = "of the pictures and of KID's subsets"},
    {"side", CFG_INT, CFG_AT(eval_cfg, side), "auto", 1, SIDE_MOST, .unit = "pixels", .names = AUTO,
     .help = "of a made picture; auto: what the model was made for"},
    {"batch", CFG_INT, CFG_AT(eval_cfg, batch), "auto", 1, 64, .unit = "pictures", .names = AUTO,
     .help = "made at once on a GPU, by any sampler but pndm; auto: up to 8, as many as have room"},
    {"backend", CFG_TEXT, CFG_AT(eval_cfg, backend), "cpu", 1, 64,
     .help = "what makes the pictures: cpu, cuda or cuda:N, the N-th GPU from 0"},
    {"clip", CFG_TEXT, CFG_AT(eval_cfg, clip), "",
     .help = "a whole CLIP in Hugging Face's layout: text alignment, and image alignment "
             "with real"},
    {"dino", CFG_TEXT, CFG_AT(eval_cfg, dino), "",
     .help = "a DINO ViT, a folder or a .safetensors file: image alignment with real"},
    {"inception", CFG_TEXT, CFG_AT(eval_cfg, inception), "",
     .help = "Inception-v3 as one .safetensors file: KID with against"},
    {"real", CFG_TEXTS, CFG_AT(eval_cfg, real), "",
     .help = "folders with the subjects' own pictures, each compared for itself"},
    {"against", CFG_TEXT, CFG_AT(eval_cfg, against), "", .help = "a folder with real pictures of the class, for KID"},
    {"kid_subsets", CFG_INT, CFG_AT(eval_cfg, kid_subsets), "100", 1, 100000,
     .help = "subsets that KID is the mean of"},
    {"kid_size", CFG_INT, CFG_AT(eval_cfg, kid_size), "1000", 2, 100000, .unit = "pictures",
     .help = "of a subset; at most what is there"},
    {"scale", CFG_CHOICE, CFG_AT(eval_cfg, scale), "cosine", .names = SCALES,
     .help = "the scaling of text alignment that is told "
             "first; all are written, each by its name"},
    {"shown", CFG_INT, CFG_AT(eval_cfg, shown), "8", 0, 1000, .unit = "pictures",
     .help = "of each prompt in index.html"},
    {"title", CFG_TEXT, CFG_AT(eval_cfg, title), "Evaluation", 1, 200, .help = "heads index.html"},
    {"out", CFG_TEXT, CFG_AT(eval_cfg, out), "evaluation", 1, 4000,
     .help = "folder for scores.csv, scores.json, pictures.csv, "
             "index.html and what is made"},
    CFG_END,
};

const cfg_field *eval_rows(void)
{
    for (size_t i = 0; i < SAMPLERS_MOST && sampler_kind_at(i); i++)
        samplers[i] = sampler_kind_at(i)->name;
    return ROWS;
}

static int check_models(const eval_cfg *c, err *e)
{
    if (!c->clip[0] && !c->dino[0] && !c->inception[0])
        return err_set(e, ERR_INPUT, "nothing to measure with; give --clip DIR, --dino PATH or --inception FILE");
    if (c->dino[0] && c->real.n == 0)
        return err_set(e, ERR_INPUT, "--dino compares with the subject's own pictures; give --real DIR");
    if (c->inception[0] && !c->against[0])
        return err_set(e, ERR_INPUT, "--inception compares with real pictures of the class; give --against DIR");
    if (c->against[0] && !c->inception[0])
        return err_set(e, ERR_INPUT, "--against is for KID; give --inception FILE");
    return 0;
}

int eval_check(const eval_cfg *c, err *e)
{
    bool prompts = c->prompt.n > 0 || c->prompts[0];

    if (!c->pictures[0] && !c->model[0] && !c->from[0])
        return err_set(e, ERR_INPUT,
                       "no pictures; give --pictures DIR, or --model DIR or --from FILE.h5 with prompts to make some");
    if (c->pictures[0] && c->model[0])
        return err_set(e, ERR_INPUT, "--model beside --pictures; pictures are measured or made, not both");
    if (!c->pictures[0] && !prompts)
        return err_set(e, ERR_INPUT, "no prompt; give --prompt \"a photo of a {}\" or --prompts FILE");
    return check_models(c, e);
}

static int list_pictures(evaluation *ev, const eval_cfg *set, err *e)
{
    concept c = {0};
    eval_words w;

    if (set->from[0])
        TRY(concept_read(&c, set->from, 0, e));
    eval_words_of(&w, set, set->from[0] ? &c : NULL);
    int rc = eval_list(ev, set, &w, e);
    eval_words_free(&w);
    concept_free(&c);
    return rc;
}

int eval_run(const eval_cfg *set, const char *settings, logger *log, err *e)
{
    evaluation ev = {0};
    int rc = eval_check(set, e);

    if (rc == 0)
        rc = fs_mkdirs(set->out, e);
    if (rc == 0)
        rc = set->pictures[0] ? list_pictures(&ev, set, e) : eval_make(&ev, set, log, e);
    if (rc == 0)
        rc = eval_measure(&ev, set, log, e);
    if (rc == 0)
        rc = eval_tell(&ev, set, settings, e);
    if (rc == 0)
        rc = eval_page(&ev, set, settings, e);
    evaluation_free(&ev);
    return rc;
}

void evaluation_free(evaluation *ev)
{
    for (int i = 0; i < ev->n; i++) {
        free(ev->at[i].path);
        free(ev->at[i].said);
        free(ev->at[i].meant);
    }
    for (int i = 0; i < ev->figures; i++) {
        free(ev->figure[i].scaling);
        free(ev->figure[i].against);
    }
    for (int i = 0; i < 3; i++)
        free(ev->models[i]);
    free(ev->at);
    free(ev->figure);
    *ev = (evaluation){0};
}
