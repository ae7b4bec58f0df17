#ifndef FARM_IMPL_H
#define FARM_IMPL_H
/* What the files of farmfile share. */
#include "configs/farmfile.h"

/* A table (tab-separated, first line the keys) as a list of maps. */
int farm_table(const cfg_node **out, cfg_doc *d, const char *path, err *e);
/* A list of concepts, `from:` tables followed, each over f->defaults. */
int farm_concepts(farm_concept **out, size_t *n, farmfile *f, const cfg_node *list, err *e);
int farm_merges(farmfile *f, err *e);

/* One name, one concept; what one depends on exists, and waits for nothing that waits for it. Makes f->by_name. */
int farm_check_concepts(farmfile *f, err *e);
int farm_check_merges(const farmfile *f, err *e);
/* 1 to 64 of [A-Za-z0-9._+-], not beginning with . or - */
int farm_check_name(const char *name, cfg_mark at, err *e);
#endif
