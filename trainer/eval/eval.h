#ifndef EVAL_H
#define EVAL_H
/* One evaluation: pictures that are there, or made from a prompt list, and the figures that measuring models give them.
 * Settings stand in rows; a protocol is a YAML file of the same keys (configs/eval/). */
#include "cluster/base/log.h"
#include "configs/cfg.h"
#include "data/concept.h"
#include "trainer/eval/score.h"

typedef struct {
    const char *pictures;                        /* measured as they are; "": made */
    const char *model, *from, *negative, *class_word, *prompts, *against, *clip, *dino, *inception, *out, *title, *backend;
    cfg_texts prompt, token, real;
    int sampler, steps, count, batch, side, scale, kid_subsets, kid_size, shown;
    double eta, guidance;
    int64_t seed;
} eval_cfg;
const cfg_field *eval_rows(void);
/* Settings against each other; no file is opened. */
int eval_check(const eval_cfg *c, err *e);

/* A picture and its words. `said` is what the picture was asked by; `meant` what CLIP reads: tokens are taken out,
 * since it never learned them. */
typedef struct {
    char *path, *said, *meant; /* the last two NULL: no prompt is known */
    double text, image, dino;  /* cosines; NaN: not measured. image, dino: mean over the pictures of the first `real` */
} eval_picture;

typedef struct {
    const char *measure;       /* "clip-text", "clip-image", "dino", "kid" */
    char *scaling, *against;   /* "cosine"; the folder it was measured against, or "" */
    double value, deviation;   /* deviation: over pictures, of KID over subsets */
    int64_t count;             /* pictures measured */
    const char *what;          /* the measuring model */
} eval_figure;

typedef struct {
    eval_picture *at;
    int n, figures;
    eval_figure *figure;
    char *models[3];           /* what measured; NULL: was not asked */
} evaluation;

/* ---- eval_words.c ---- */

/* Words of a subject: what `{}`, `{0}`, `{1}` of a prompt stand for, and which words CLIP must not see. */
typedef struct {
    char **said, **meant;      /* "<rex> dog", "dog" */
    int n;
    char **token;              /* "<rex>" */
    int tokens;
} eval_words;
/* c: the concept whose words these are, or NULL. */
void eval_words_of(eval_words *out, const eval_cfg *set, const concept *c);
void eval_words_free(eval_words *w);
/* Both readings of a prompt; free() them. ERR_INPUT where it has a place that nothing fills. */
int eval_words_fill(char **said, char **meant, const eval_words *w, const char *prompt, err *e);

/* ---- eval_make.c, eval_measure.c, eval_tell.c, eval_page.c ---- */

/* The pictures of a folder with the prompts its prompts.json or captions tell. */
int eval_list(evaluation *out, const eval_cfg *set, const eval_words *w, err *e);
/* Makes what is not there yet in OUT/pictures. */
int eval_make(evaluation *out, const eval_cfg *set, logger *log, err *e);
int eval_measure(evaluation *ev, const eval_cfg *set, logger *log, err *e);
/* OUT/scores.csv, pictures.csv, scores.json, then index.html, which says that all is there. */
int eval_tell(const evaluation *ev, const eval_cfg *set, const char *settings, err *e);
int eval_page(const evaluation *ev, const eval_cfg *set, const char *settings, err *e);
void evaluation_free(evaluation *ev);

/* All of it, as `cfarm eval` does. settings: as JSON, for the reports. */
int eval_run(const eval_cfg *set, const char *settings, logger *log, err *e);
#endif
