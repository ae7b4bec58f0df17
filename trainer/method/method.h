#ifndef METHOD_H
#define METHOD_H
/* What makes one way of teaching a concept different from another, and nothing more. To add one: a file beside this,
 * a row in method.c, a YAML in configs/. */
#include <stdbool.h>

#include "cluster/base/str.h"
#include "data/concept.h"
#include "data/manner.h"
#include "trainer/model/sd.h"

struct train_cfg;

/* What is taken where the settings say auto. */
typedef struct {
    double lr, lr_text;         /* lr_text: where the text encoder moves, too; 0: lr */
    bool lr_each;               /* lr is for one sample: times batch and accumulation, as its authors' programs have it */
    double clip;                /* 0: none */
    int steps;
    int batch;                  /* samples of an update; of a method in pairs those of the subject, and as many of its class
                                 * come on top where there is regularisation */
} method_recipe;

/* How concepts of a method become one. Different ways are never mixed. */
typedef enum {
    MERGE_NEVER,                /* whole weights moved: no merge is defined */
    MERGE_CARDS,                /* K/V alone move: the closed form, from merge cards */
    MERGE_SUMS                  /* what the file keeps adds up, tensor by tensor */
} method_merge;

typedef struct {
    const char *name;           /* as in the YAML: "custom-diffusion" */
    const char *help;           /* one sentence with the paper */
    method_recipe paper, port;  /* port: with compat: diffusers */
    bool in_pairs;
    data_manner manner;         /* how pictures are shown and what is said of them */
    bool detach_first;          /* cross-attention's first token: no gradient through its K and V */
    bool learns_words;          /* modifier tokens' rows move ("text_encoder.modifier") */
    bool port_decays_table;     /* compat: diffusers lets the vocabulary's other rows feel the weight decay */
    method_merge merges;
    bool moves_weights;         /* whole weights of the model: they may be kept in 16 bits (master) */
    bool packs;                 /* what moves is small and stands beside a shared base: several concepts may share a pass */
    /* Whether this parameter moves; names as in nn_params. NULL: none. */
    bool (*moves)(const char *param, const struct train_cfg *how);

    /* For methods that train something beside the weights; all NULL for the others. prepare puts it into the model's
     * parameters, and the adapter (its arg is the train_cfg) writes how it acts. A file keeps what moves and what `kept`
     * names; `whole` makes whole weights of the base's names from that, for whoever lays a concept over its base. */
    int (*prepare)(sd *model, const struct train_cfg *how, err *e);
    nn_adapter adapter;
    bool (*kept)(const char *param);
    int (*whole)(concept *out, const concept *c, const sd *base, err *e);
} method;

const method *method_find(const char *name); /* NULL: none; method_names for the message */
extern const char *const method_names[];     /* ended by NULL */
#define METHOD_USUAL "custom-diffusion"      /* where settings name none */
/* The method whose file could be these tensors and words, some other program's; NULL: none. */
const method *method_that_keeps(const concept *c);
extern const method method_custom_diffusion, method_dreambooth, method_fine_tune_all, method_lora, method_svdiff,
    method_textual_inversion;

/* Whether concepts so taught become one; names are for people. The same for a plan and for a merge. */
int method_check_merge(const method *const by[], const char *const names[], int n, err *e);

/* What the model's parameters call a tensor of a concept ("unet." + its name), and back. */
void method_param(str *out, const char *tensor);
const char *method_tensor(const char *param);

/* For several methods' `moves`. */
bool method_of_unet(const char *param);         /* any weight of the UNet */
bool method_of_text_encoder(const char *param); /* any weight that the text encoder's states depend on */
#endif
