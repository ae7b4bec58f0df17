#include "trainer/method/method.h"

#include <stddef.h>
#include <string.h>

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
