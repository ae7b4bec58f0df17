#ifndef KEEP_H
#define KEEP_H
/* What a training leaves behind: the concept file. */
#include "data/concept.h"
#include "trainer/train.h"

typedef struct {
    sd *model;
    const tokenizer *words;
    const subject_word *word;    /* [n_words] */
    int n_words;
    const method *how;
    const concept_cfg *cfg;
    const data_cfg *data;        /* cfg's, with identifiers chosen */
    const char *name, *settings;
    const concept_history *history;
    int leaves;
} keep_job;

/* Writes the file whole or not at all. It holds no clock's times: the same training gives the same bytes. */
int keep_concept(const char *path, const keep_job *k, err *e);
#endif
