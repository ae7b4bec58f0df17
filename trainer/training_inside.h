#ifndef TRAINING_INSIDE_H
#define TRAINING_INSIDE_H
/* A training as its own files see it: train_load.c, all that is before its first step; train.c, its steps and its end. */
#include "cluster/base/fs.h"
#include "data/batch.h"
#include "trainer/keep.h"
#include "trainer/training.h"

typedef int32_t word_ids[SUBJECT_WORDS_MOST];

struct training {
    sd *model;
    const train_job *job;
    const method *how;
    data_cfg data;           /* the job's, with what the model adds */
    char *model_key;
    char kept[FS_PATH];      /* where class pictures' moments are; "": nowhere */
    bool left;               /* told to stop before the first step */
    tokenizer *words;
    subject_word word[SUBJECT_WORDS_MOST];
    int n_words;
    word_ids *said;          /* ids of each subject's words, n_said of them; for unmix, else NULL */
    int *n_said;
    batch_source *batches;
    latents_pool *pool, *own; /* own: to be freed; NULL: somebody else's is used */
    latents *latents;
    batch_sample *plan;      /* [accumulate][batch] of the step that is begun */
    stepper *stepper;        /* where it stands */
    int place;
    concept_history history;
    int step;                /* finished updates */
    int begun;               /* updates that nobody was told of yet, beyond them */
    bool stop;               /* told so, or its gang was */
    char key[HASH_HEX];      /* of its checkpoints */
    double started;
    train_summary sum;
};

/* Tells its job how far it is; r: of a step that was just taken, or NULL. true: stop. */
bool training_tell(training *t, const char *phase, const step_result *r, double lr, double seconds);
/* A sentence for people. */
void training_say(const training *t, const char *text);
#endif
