#ifndef PREVIEW_H
#define PREVIEW_H
/* Pictures of a merge side by side: of the base, of each concept alone, of what they became. cfarm-sample makes them, a
 * process for each column; what comes of it is a folder of folders and grid.png, a row for each prompt. */
#include "data/concept.h"

typedef struct {
    const char *base;          /* folder of the base model */
    const char *merged;        /* the merged file */
    const concept *in;         /* [n] */
    const concept *out;        /* the merged file's contents: its words are the prompts' */
    const char *const *file;   /* [n] where each concept lies; one that lies nowhere has no column */
    int n;
    const char *const *prompt; /* [prompts] */
    int prompts, steps;
    const char *dir;           /* made; must not be there yet */
} preview_job;

int preview(const preview_job *j, err *e);
#endif
