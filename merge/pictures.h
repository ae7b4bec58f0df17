#ifndef PICTURES_H
#define PICTURES_H
/* Pictures of a model, made by the program beside this one: cfarm-sample, a process of its own. */
#include <stdint.h>

#include "cluster/base/err.h"

typedef struct {
    const char *model, *from;  /* from: a concept or merged file; NULL: the base alone */
    const char *const *prompt; /* [prompts] */
    int prompts, count, steps; /* count: pictures of each prompt */
    double guidance;
    int64_t seed;
    const char *out;           /* a folder: 00000.png, ..., count after count of each prompt */
} pictures_job;

int pictures_make(const pictures_job *j, err *e);
#endif
