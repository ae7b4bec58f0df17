#include "trainer/method/method.h"

#include <stddef.h>
#include <string.h>

#include "trainer/train.h"

static const method *const methods[] = {&method_custom_diffusion, &method_dreambooth, &method_fine_tune_all, &method_lora,
                                        &method_svdiff, &method_textual_inversion};
const char *const method_names[] = {"custom-diffusion", "dreambooth", "fine-tune-all", "lora", "svdiff",
                                    "textual-inversion", NULL};

const method *method_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}

static bool could_keep(const method *by, const char *param)
{
    static const train_cfg widest = {.freeze = FREEZE_CROSSATTN, .train_text_encoder = true};

    return (by->moves && by->moves(param, &widest)) || (by->kept && by->kept(param));
}

static bool could_be_of(const method *by, const concept *c)
{
    bool all = c->n_tensors > 0 || !by->moves;

    for (int k = 0; k < c->n_tensors && all; k++) {
        str param = {0};
        method_param(&param, c->tensors[k].name);
        all = could_keep(by, param.at);
        str_free(&param);
    }
    return all && (c->n_tokens == 0 || by->learns_words || by->whole);
}

/* What stands beside the weights first: to a method that moves them all, any name is one of them. */
const method *method_that_keeps(const concept *c)
{
    for (int beside = 1; beside >= 0; beside--)
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
            if ((methods[i]->whole != NULL) == beside && could_be_of(methods[i], c))
                return methods[i];
    return NULL;
}

int method_check_merge(const method *const by[], const char *const names[], int n, err *e)
{
    for (int i = 0; i < n; i++)
        if (by[i]->merges == MERGE_NEVER)
            return err_set(e, ERR_INPUT, "%s was taught by %s, and no merge of such concepts is defined; teach the subjects "
                                         "jointly, under subjects", names[i], by[i]->name);
    for (int i = 1; i < n; i++)
        if (by[i]->merges != by[0]->merges || (by[i] != by[0] && by[i]->merges == MERGE_SUMS))
            return err_set(e, ERR_INPUT, "%s was taught by %s and %s by %s, and what they moved does not add up to one model; "
                                         "teach both by one method", names[0], by[0]->name, names[i], by[i]->name);
    return 0;
}

void method_param(str *out, const char *tensor)
{
    str_add(out, "%s%s", str_starts(tensor, "text_encoder.") ? "" : "unet.", tensor);
}

const char *method_tensor(const char *param)
{
    return str_starts(param, "unet.") ? param + strlen("unet.") : param;
}

bool method_of_unet(const char *param)
{
    return str_starts(param, "unet.");
}

/* The projection and the list of positions stand in some files and have no part in the states; new words' rows are a
 * method's own affair. */
bool method_of_text_encoder(const char *param)
{
    return str_starts(param, "text_encoder.text_model.") && !str_ends(param, ".position_ids");
}
