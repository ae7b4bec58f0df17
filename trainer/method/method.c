#include "trainer/method/method.h"

#include <stddef.h>
#include <string.h>

static const method *const methods[] = {&method_custom_diffusion};
const char *const method_names[] = {"custom-diffusion", NULL};

const method *method_find(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}
