#include "trainer/method/method.h"

#include <stddef.h>
#include <string.h>

#include "cluster/base/str.h"

static const method *const methods[] = {&method_custom_diffusion, &method_dreambooth, &method_textual_inversion};
const char *const method_names[] = {"custom-diffusion", "dreambooth", "textual-inversion", NULL};

const method *method_find(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
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
