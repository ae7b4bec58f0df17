#ifndef SUBJECT_H
#define SUBJECT_H
/* What a concept is taught from: its settings (rows of the farm file) and, opened, its pictures with their captions.
 * A concept has one subject, told at the top level of its settings, or several under `subjects:` that are trained
 * jointly. Everything a person can get wrong is found before any training. */
#include "configs/cfg.h"
#include "data/caption.h"
#include "data/image_check.h"
#include "data/image_list.h"
#include "data/manner.h"
#include "data/regset.h"
#include "data/tokenizer.h"

typedef struct {
    const char *class_word;   /* "class": dog */
    cfg_texts images;
    const char *captions;     /* a file; "": beside the pictures where there, else the template */
    cfg_texts token;          /* empty: <new1>, of the second subject <new2>, ..., or a chosen word; "none": no token */
    cfg_texts initializer;    /* per token: auto, an id, a word or a vocabulary entry */
    int64_t vectors;          /* rows of each token: "<new1>", "<new1>_1", ... */
    bool style;
    const char *form;         /* "template": "photo of a {}"; "": by style */
    regset_cfg reg;
} subject_cfg;

typedef enum { COMPAT_PAPER, COMPAT_DIFFUSERS } data_compat;

enum { SUBJECT_WORD = 65, SUBJECT_WORDS_MOST = 64, SUBJECT_RARE = 4 }; /* bytes of a token and terminator; tokens of a concept; chosen ones */

typedef struct data_cfg {
    subject_cfg one;          /* first, so that a subject's rows fit both structs */
    cfg_table subjects;       /* of subject_cfg; instead of `one` */
    bool augment, center_crop;
    int flip;                 /* data_flip says what follows */
    int compat;               /* a data_compat */
    int64_t resolution;       /* CFG_WORD: the model's own */
    int64_t batch;            /* CFG_WORD: 8, for compat diffusers 4 */
    double prior_weight;
    double cut_mix;           /* share of samples that show two subjects side by side */
    const char *root;         /* folder that relative paths start from */
    data_manner manner;       /* the method's, no row */
    /* Identifiers of subjects without a token where the method takes rare words, by subject_choose; no row. */
    char rare[SUBJECT_WORDS_MOST][SUBJECT_RARE];
    const char *model;        /* what stands for the base model, the side and the compute type where pictures are generated, no row; NULL: a plan */
} data_cfg;
extern const cfg_field data_fields[];

bool data_flip(const data_cfg *c);
int data_batch(const data_cfg *c);
int data_subjects(const data_cfg *c);                          /* how many; at least 1 */
const subject_cfg *data_subject(const data_cfg *c, int i);
/* Settings against each other; no file is opened. */
int data_check(const data_cfg *c, err *e);

/* A modifier token: a word of its own whose embedding row is learned. */
typedef struct {
    char word[SUBJECT_WORD];
    int32_t id;               /* after the vocabulary, in the order of the subjects and their tokens */
    int32_t start;            /* the row it is a copy of before training */
    int subject;
} subject_word;
/* Before anything else asks for tokens: where the method takes rare words, finds one in the vocabulary for each subject that was
 * given none. The same vocabulary, class and pictures give the same word. */
int subject_choose(data_cfg *c, const tokenizer *t, err *e);
const char *data_chosen(const data_cfg *c, int i); /* of subject i; "": none was */
/* Adds every token to t and finds where each starts: out[0..*n-1]. None where tokens are words of the vocabulary. */
int subject_words(subject_word out[SUBJECT_WORDS_MOST], int *n, const data_cfg *c, tokenizer *t, err *e);
/* The tokens of subject i, without adding them anywhere; how many. */
int subject_tokens(char out[SUBJECT_WORDS_MOST][SUBJECT_WORD], const data_cfg *c, int i);

/* What regularisation pictures are still to be made by the base model, per subject; n entries, most want 0. */
int data_missing(regset_need **out, int *n, const data_cfg *c, err *e); /* free(*out) */

typedef struct {
    const char *path, *caption; /* the caption without a prefix of the augmentation */
    int h, w;                   /* upright */
    uint64_t id;                /* of the path: equal in every concept that uses the picture */
} subject_picture;

typedef struct {
    const subject_cfg *cfg;
    subject_picture *target, *prior; /* prior: the class's; may be empty */
    uint32_t targets, priors;
    bool written;                    /* the targets' captions stand in files, else the template makes them */
    regset_told told;                /* how class pictures were chosen from an index */
    caption_lines forms;             /* captions to draw from in place of the targets' own; n 0: none */
    uint32_t later;                  /* by subjects_look: class pictures still to be generated or chosen */
    image_list keep[2];              /* owns paths and captions */
} subject;

typedef struct {
    subject *at;
    int n;
} subjects;
/* Reads lists and captions, and every picture's header. embed: for a regularisation index, else NULL. */
int subjects_open(subjects *out, const data_cfg *c, const regset_embed *embed, err *e);
/* For a plan: decodes every picture whole (once over all concepts that share `seen`); takes no model, so class
 * pictures to be generated or chosen from an index are left out. */
int subjects_look(subjects *out, const data_cfg *c, image_checks *seen, err *e);
/* Does c, which data_check passed, differ from `of` in its tokens at most, and go they with the captions of s, which was
 * looked at for `of`? Then looking for c finds the same. */
bool subjects_serve(const subjects *s, const data_cfg *of, const data_cfg *c);
void subjects_close(subjects *s);
#endif
