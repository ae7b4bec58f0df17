#ifndef COMMAND_MERGE_IMPL_H
#define COMMAND_MERGE_IMPL_H
/* Between command_merge.c (the flags and the merge), command_merge_given.c (what is merged) and command_merge_features.c. */
#include <pthread.h>

#include "merge/cards.h"
#include "merge/command.h"
#include "merge/compose.h"

typedef struct {
    const char *out, *base, *captions, *features;
    cfg_texts rename, remove, weight;
    int bos, relax;
    double ridge, drift;
    bool accept_drift, factors_only, json;
    cards_cfg cards;
    cfg_texts class_word;
    cfg_texts prompt;
    const char *preview;
    int steps;
} merge_settings;

typedef struct {
    const merge_settings *set;
    char *const *given; /* [n_given] the arguments */
    int n_given;
    char **file; /* [n] a name for each concept: its file, or what it is called in a merged one */
    bool *is_file; /* [n] which of both */
    double *weight;
    int n;
    logger *log;
    concept *in;
    int *source;   /* [n] which source of `start` each is; -1: a file of its own, or another merged one's, with images */
    concept start; /* the first merged file that is given, while its concepts need it, and its name */
    const char *start_file;
    bool renewed; /* merged is start with a few changes: images of start are not in it */
    base_model base;
    struct { /* kept features, read while the concepts are */
        pthread_t thread;
        bool on;
        char path[FS_PATH];
        features f;
        int rc;
    } early;
    features f;
    char **captions;
    int n_captions;
    char captions_hash[HASH_HEX];
    compose_name *names;
    int n_names;
    concept merged;
    certificate told;
} merge_job;

/* All files that are given, the concepts of merged ones one by one, without those that shall go. */
int merge_read_concepts(merge_job *j, err *e);
/* The images of concepts that are still in the merged file alone; from here on nobody needs that. */
int merge_take_images(merge_job *j, err *e);
/* By its file's name, with or without folders and ".h5"; -1: none, or several. */
int merge_named(const merge_job *j, const char *name, size_t n);

int merge_need_base(merge_job *j, err *e);
/* Kept features are read in a thread of their own from here on, until merge_open_features or merge_take_early. */
void merge_start_features(merge_job *j);
int merge_open_features(merge_job *j, err *e);
bool merge_take_early(merge_job *j); /* false: they were not read, or could not be */
#endif
