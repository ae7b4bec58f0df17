#ifndef METHOD_H
#define METHOD_H
/* What makes one way of teaching a concept different from another, and nothing more. To add one: a file beside this,
 * a row in method.c, a YAML in configs/. */
#include <stdbool.h>

#include "data/manner.h"

struct train_cfg;

/* What is taken where the settings say auto. */
typedef struct {
    double lr, lr_text;         /* lr_text: where the text encoder moves, too; 0: lr */
    double clip;                /* 0: none */
    int steps;
    int batch;                  /* samples of an update; of a method in pairs those of the subject, and as many of its class
                                 * come on top where there is regularisation */
} method_recipe;

typedef struct {
    const char *name;           /* as in the YAML: "custom-diffusion" */
    const char *help;           /* one sentence with the paper */
    method_recipe paper, port;  /* port: with compat: diffusers */
    bool in_pairs;
    data_manner manner;         /* how pictures are shown and what is said of them */
    bool detach_first;          /* cross-attention's first token: no gradient through its K and V */
    bool learns_words;          /* modifier tokens' rows move ("text_encoder.modifier") */
    bool port_decays_table;     /* compat: diffusers lets the vocabulary's other rows feel the weight decay */
    bool merges;                /* K/V alone move, so the closed-form merge applies and a card is made */
    /* Whether this UNet or text-encoder parameter moves; names as in nn_params. NULL: none of them. */
    bool (*moves)(const char *param, const struct train_cfg *how);
} method;

const method *method_find(const char *name); /* NULL: none; method_names for the message */
extern const char *const method_names[];     /* ended by NULL */
extern const method method_custom_diffusion, method_dreambooth, method_textual_inversion;

/* For several methods' `moves`. */
bool method_of_unet(const char *param);         /* any weight of the UNet */
bool method_of_text_encoder(const char *param); /* any weight that the text encoder's states depend on */
#endif
