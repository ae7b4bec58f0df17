#ifndef METHOD_H
#define METHOD_H
/* What makes one way of teaching a concept different from another, and nothing more. To add one: a file beside this,
 * a row in method.c, a YAML in configs/. */
#include <stdbool.h>

struct train_cfg;

typedef struct {
    const char *name;           /* as in the YAML: "custom-diffusion" */
    const char *help;           /* one sentence with the paper */
    bool detach_first;          /* cross-attention's first token: no gradient through its K and V */
    bool learns_words;          /* modifier tokens' rows move ("text_encoder.modifier") */
    bool masked;                /* the loss counts the valid region only */
    bool merges;                /* K/V alone move, so the closed-form merge applies and a card is made */
    /* Whether this UNet or text-encoder parameter moves; names as in nn_params. */
    bool (*moves)(const char *param, const struct train_cfg *how);
} method;

const method *method_find(const char *name); /* NULL: none; method_names for the message */
extern const char *const method_names[];     /* ended by NULL */
extern const method method_custom_diffusion;
#endif
