#ifndef PACK_RUN_H
#define PACK_RUN_H
/* All concepts of a farm file here and now, those of one class in one pack after another, the others alone. */
#include "configs/farmfile.h"
#include "trainer/pack.h"

/* Files go to FOLDER/NAME.h5, whole or not at all; a line a concept on stderr. *failed: how many did not end well. */
int pack_run(const farmfile *farm, const char *folder, const pack_opts *o, int *failed, err *e);
#endif
