#ifndef TRAIN_H
#define TRAIN_H
/* One concept from settings to concept file. Which pictures, words, crops, noise and timesteps a step sees are functions of
 * (seed, step, sample) alone; with the numeric shape (leaves) they decide every bit of the result, whatever the gang,
 * the machine's threads, and restarts. */
#include "cluster/comm/comm.h"
#include "configs/cfg.h"
#include "data/subject.h"
#include "trainer/method/method.h"
#include "trainer/model/sd.h"
#include "trainer/step.h"

typedef enum { FREEZE_KV, FREEZE_CROSSATTN } train_freeze; /* named after what is left free, as the authors do */

typedef enum { MOMENTS_F32, MOMENTS_8BIT } train_moments;
typedef enum { MASTER_F32, MASTER_BF16 } train_master;

typedef enum { LORA_ATTENTION, LORA_CROSS } lora_layers; /* all attention of the UNet, or cross-attention alone */

typedef enum { SVDIFF_ELEMENTWISE, SVDIFF_SCALAR, SVDIFF_OFF } svdiff_norms; /* shifts a norm's gain has */

typedef enum { REDUCE_FAST, REDUCE_EXACT, REDUCE_BF16 } train_reduce;

typedef enum { COMPUTE_AUTO, COMPUTE_F32, COMPUTE_BF16 } train_compute;

/* What of a concept's settings concerns the training itself; data_cfg has the rest. CFG_WORD: as the recipe has it. */
typedef struct train_cfg {
    const char *base;            /* the base model's folder: one for the whole farm */
    int method;                  /* index in method_names */
    int freeze;                  /* a train_freeze */
    bool train_text_encoder;     /* methods that can move the text encoder do */
    int64_t lora_rank;
    double lora_alpha;           /* CFG_WORD: the rank */
    int lora_layers;             /* a lora_layers */
    int svdiff_norms;            /* a svdiff_norms */
    int compute;                 /* a train_compute; the recipe turns AUTO into what this machine does faster */
    int reduce;                  /* a train_reduce */
    int64_t steps, accumulate, warmup, probe, seed, leaves;
    double lr, clip, beta1, beta2, eps, weight_decay;
    int lr_schedule;             /* index in lr_names */
    const char *kept;            /* folder for the moments of class pictures; "": beside generated ones */
    int moments;                 /* a train_moments */
    int master;                  /* a train_master */
    double unmix;                /* weight of unmix.h's loss; 0: none */
    bool recompute;              /* blocks' insides on the way back */
    bool scale_lr;               /* lr was given for one sample; train_recipe has multiplied it */
} train_cfg;
extern const cfg_field train_fields[];
/* Fills in what the method decides: its manner, and where auto was said its paper's numbers, or those of diffusers'
 * port (compat). */
void train_recipe(train_cfg *how, data_cfg *data);
/* Whether this process trains on a GPU, and so what `compute: auto` is; before any train_recipe. */
void train_on_gpu(bool yes);

/* Settings of the training that its method does not take. */
int train_check(const train_cfg *how, const data_cfg *data, err *e);

/* Passes a step can be cut into, over the whole gang: as set, or the largest power of two that divides its samples. */
int train_leaves(const train_cfg *how, const data_cfg *data);
/* Whether these are what a step is cut into. Not where GPUs train and nothing was set but reduce: exact: nobody keeps an order of
 * sums there, and each rank makes one pass of all that is its own (of each batch, where several are accumulated). */
bool train_leaves_kept(const train_cfg *how);

/* All sections that read one concept's settings. */
typedef struct { data_cfg data; train_cfg how; } concept_cfg;
int concept_cfg_fill(concept_cfg *out, const cfg **from, cfg_doc *d, const cfg_node *settings, err *e);
/* The same, one after another: what a concept shares with the one before is not read again. b begins as zeros. */
typedef struct {
    const cfg_node *settings;    /* what `as` was filled from, before its recipe; NULL: nothing yet */
    concept_cfg as;
} concept_before;
int concept_cfg_fill_next(concept_cfg *out, concept_before *b, cfg_doc *d, const cfg_node *settings, err *e);
void concept_cfg_help(FILE *to);

typedef struct {
    const char *phase;           /* "loading", "training", "publishing" */
    int step, steps;
    double loss, lr, grad_norm, seconds; /* of this step */
    double joined;               /* of them: as step_result has it */
} train_progress;

/* Where checkpoints go (checkpoint.h), asked of rank 0 alone: after the same sums all ranks hold the same weights. */
typedef struct {
    void *arg;
    /* After each step but the last: where one of so many bytes shall be written now; NULL: nowhere. last: the training
     * stops here. */
    void *(*open)(void *arg, int step, size_t bytes, bool last);
    void (*close)(void *arg, int step, size_t bytes); /* it is whole */
} train_shelf;

typedef struct {
    const char *name;            /* of the concept */
    const concept_cfg *cfg;
    const char *settings;        /* as JSON, kept in the file */
    comm *gang;
    int leaves;                  /* passes a step, over the whole gang; 0: train_leaves */
    const char *out;             /* where rank 0 writes the concept file; NULL on the others */
    const train_shelf *shelf;    /* NULL: no checkpoints */
    const void *from;            /* rank 0's: a checkpoint to go on from, checked by train_key; NULL: from the beginning */
    size_t from_bytes;
    /* Told after each step and at signs of life while loading; true ends the training with `stopped` set, in a gang
     * behind the next step and on all ranks. */
    bool (*progress)(void *arg, const train_progress *p);
    void (*say)(void *arg, const char *text); /* a sentence for people, of rank 0; NULL: nobody listens */
    void *arg;
} train_job;

typedef struct {
    bool stopped;
    int steps, began;                  /* began: finished before, as the checkpoint had it */
    double first_loss, last_loss;      /* means over the first and the last tenth of the steps */
    double probe_before, probe_after;  /* mean loss over the fixed draws; NaN without a probe */
    double seconds, load_seconds;      /* of this attempt */
    size_t bytes;                      /* of the plans */
} train_summary;

int train_concept(sd *model, const train_job *job, train_summary *out, err *e);
/* What a checkpoint must have been made under for this training to go on from it: model, settings, numeric shape. */
int train_key(const sd *model, const train_job *job, char key[HASH_HEX], err *e);

/* The parameters that a method moves, the modifier tokens' rows last; free the list, not the names. */
int train_moves(sd *model, const method *by, const train_cfg *how, const char ***names, int *n, err *e);
/* Which texts a training that moves these can say without encoding them in its passes. */
step_text train_texts(const sd *model, const char *const moves[], int n, bool table_decays);
#endif
