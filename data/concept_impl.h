#ifndef CONCEPT_IMPL_H
#define CONCEPT_IMPL_H
/* Where things stand in a concept file: shared by concept_read.c and concept_write.c. */
#include "data/concept.h"
#include "data/store.h"

#define CONCEPT_FORMAT "conceptfarm"
/* 2: there may be a bank, which a reader of version 1 would pass over. 3: factors keep their images source by source. Files with
 * neither are written as version 1. */
enum { CONCEPT_BANK = 2, CONCEPT_BLOCKS = 3, CONCEPT_VERSION = 3, CONCEPT_PATH = 1024 };

/* The texts among the attributes of "/". */
typedef struct {
    const char *name;
    size_t at;
} concept_text;
extern const concept_text concept_texts[]; /* ended by a NULL name */
static inline char **concept_text_at(const concept *c, const concept_text *t)
{
    return (char **)((char *)(uintptr_t)c + t->at);
}

/* "X.attn2.to_k.weight" <-> "/kv/X.attn2/to_k"; other names stand as they are below "/weights". */
int concept_path_of(char path[CONCEPT_PATH], const char *name, err *e);
void concept_share_path(char path[CONCEPT_PATH], const char *what, int i); /* "/bank/left/00012" */
void concept_block_path(char path[CONCEPT_PATH], int block);               /* "/factors/left/00012" */
/* The rows of source s: how many, *first the first of them. */
int concept_rows_of(const concept_factors *f, int s, int *first);
int concept_name_of(char name[CONCEPT_PATH], const char *layer, const char *dataset, err *e);
#endif
