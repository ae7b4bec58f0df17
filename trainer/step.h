#ifndef STEP_H
#define STEP_H
/* One update of what is trained: forward and backward over micro-batches, the gang's one sum, clipping, AdamW.
 *
 * A step's samples are numbered over the whole gang; `micro` neighbours make a leaf, a leaf is one pass, and leaves
 * are added in one binary tree that continues over the ranks (comm_sum). So where every rank holds the same power of
 * two of leaves, a gang of any size adds the same numbers in the same order: the same bits.
 *
 * A stepper moves `width` concepts of a pack side by side, neighbouring slots of nn_params, in the same passes; a concept
 * alone is a pack of one. Each has its own samples, rate, step number, norm and clipping, and gets the bytes it gets alone. */
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "cluster/comm/comm.h"
#include "data/tokenizer.h"
#include "trainer/model/sd.h"
#include "trainer/nn/flops.h"
#include "trainer/nn/plan.h"

/* Who encodes the texts of a pass. */
typedef enum {
    TEXT_ENCODED,               /* the pass: all of them depend on what moves */
    TEXT_SAID,                  /* samples say theirs: none does */
    TEXT_EITHER,                /* those that name a concept's own word, which alone moves, are encoded; the others are said where a
                                 * pass has no other. Passes of one sample each: the bits are the same then */
} step_text;

typedef struct {
    const char *const *moves;   /* trained parameters by their names in nn_params ("unet.….attn2.to_k.weight") */
    int n_moves;
    int batch;                  /* samples of one update, accumulation included, over the whole gang */
    int micro;                  /* samples a pass; divides batch */
    int64_t h, w;               /* latents */
    const nn_adapter *adapter;  /* what a method writes beside the weights; NULL: nothing */
    bool recompute;             /* what stands inside blocks is computed again on the way back: less memory, more time */
    bool moments8;              /* AdamW's moments of 8 bits; of a pack, nn_params_moments says it before the block is made */
    bool narrow;                /* what moves is kept in bf16, rounded by chance; never of a pack */
    bool detach_first;          /* Custom Diffusion: no gradient through K and V of the first token */
    step_text text;
    bool noise_given;           /* samples bring their noise instead of its address: for values made elsewhere */
    bool unmix;                 /* samples tell where words of two subjects stand (unmix.h) */
    bool table_decays;          /* the vocabulary's rows feel the weight decay of the modifier tokens' (diffusers' port) */
    dtype sums_in;              /* F32 or BF16: how gradients travel between the GPUs of a gang */
    int first, width;           /* slots of the pack; width 0: a concept alone. More than one: no gang */
} step_opts;

/* What the loss of one sample is made of; the pointers are buffers of the stepper to be filled. */
typedef struct {
    float *latents;             /* [h,w,c] clean and scaled */
    rng_stream noise;           /* where its noise [h,w,c] is looked up (nn_normal) */
    float *given;               /* [h,w,c]: its noise itself; NULL but with noise_given */
    float *mask;                /* [h,w] */
    int32_t *ids;               /* [TOKENS] */
    float *words;               /* [TOKENS,2] zeros, for unmix_watch; NULL: nobody looks */
    int timestep;
    float weight;               /* the loss is the sum over samples of weight * sum(mask * (prediction - target)^2) */
} step_sample;
typedef int step_fill(void *arg, int sample, step_sample *into, err *e);
/* text [TOKENS, width of the text]: what the encoder says of the sample's ids, as a pass would compute it. Asked where it is
 * not encoded in the pass, after the sample was filled. */
typedef int step_say(void *arg, int sample, float *text, err *e);

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    double clip;                /* most the gradient's norm may be; 0: as it is */
    uint64_t seed;              /* of the chance that rounds what is kept in bf16: stream "round" at step t */
} step_adamw;

typedef struct {
    double loss, grad_norm;     /* grad_norm before clipping */
    const float *losses;        /* [batch], each with its weight; the stepper's, until the next run */
    double joined;              /* seconds in which this rank waited for its gang and added up with it; 0 where devices do that
                                 * beside their work */
    bool stop;                  /* some rank asked for it before this step: the same on all of them */
} step_result;

/* One concept's part in a step. */
typedef struct {
    step_fill *fill;            /* asked for this rank's samples only, in order; NULL: nobody stands here */
    step_say *say;              /* NULL: with TEXT_ENCODED, and TEXT_EITHER where it always is to be */
    void *arg;
    uint64_t t;                 /* counts from 1 (AdamW's bias correction) */
    step_adamw how;
    step_result result;
    err why;                    /* a sample that could not be made, a number that is not finite: it alone has not moved */
} step_turn;

typedef struct stepper stepper;
/* Marks opts->moves as trained in the model's parameters where nothing is (nn_params_train_pack: for packs). The stepper's
 * plans must be freed before they are reset. */
int step_new(stepper **out, sd *model, comm *gang, const step_opts *opts, err *e);
void step_free(stepper *s);
/* Step number `t` counts from 1 (AdamW's bias correction). fill is asked for this rank's samples only, in order. Texts are
 * encoded. */
int step_run(stepper *s, uint64_t t, const step_adamw *how, step_fill *fill, void *arg, step_result *out, err *e);
/* turns [width]. An error is everybody's; a concept's own is in its turn. Steppers of one pack may run in several threads. */
int step_run_all(stepper *s, step_turn turns[], err *e);
/* The same in two parts. Where the device computes while its caller goes on, step_begin returns at once and up to step_most
 * steps may be begun before step_tell waits for all of them; elsewhere step_most is 1. turns [n][width]: of the steps begun, in
 * order; their losses stand until the next is begun. All ranks of a gang begin and tell alike. A step that is no number leaves
 * no weights to those behind it. */
enum { STEP_AHEAD = 8 };
int step_most(const stepper *s);
int step_begin(stepper *s, step_turn turns[], err *e);
int step_tell(stepper *s, step_turn turns[], int n, err *e);
/* How steps are carried out, for people; nothing where there is nothing to say. */
void step_describe(const stepper *s, str *to);
/* A new concept stands here: what decay has left of its table is all. */
void step_enter(stepper *s, int place);
/* The losses alone, nothing moves: for judging weights on fixed draws. Samples 0..n-1 (n a multiple of step_micro) of the
 * concept at this place, as `of` fills and says them, on this rank alone. Makes a plan at the first call. */
int step_judge(stepper *s, int place, int n, const step_turn *of, float *losses, err *e);
/* This rank would like to stop: the next run's result tells the whole gang, which so stops behind the same step. */
void step_ask_stop(stepper *s);

/* What further steps of a concept depend on, beside their number: w, m, v [step_weights] and what decay has left of the
 * table. Moments of 8 bits stand in m and v as they are (nn_moments8), and mean nothing as floats. */
size_t step_weights(const stepper *s);
int step_state_read(const stepper *s, int place, float *w, float *m, float *v, double *table, err *e);
int step_state_write(stepper *s, int place, const float *w, const float *m, const float *v, double table, err *e);
int step_width(const stepper *s);
int step_micro(const stepper *s);
step_text step_texts(const stepper *s);
size_t step_bytes(const stepper *s);
/* nn_plan_traffic of one pass with its gradient: no stepper and no plan is made, but what moves is marked as trained. *losses: those
 * whose node's id is greater belong to the way back; free(*each). The graph is nn_graph_free's, behind the last look at a node. */
int step_traffic(sd *model, comm *gang, const step_opts *opts, nn_traffic **each, int *n, nn_plan_size *size, nn_graph **graph, nn_tensor *losses, err *e);
int step_time(stepper *s, FILE *to, err *e); /* seconds of each call of one pass, for benchmarks */
int step_times(stepper *s, nn_timing **each, int *n, err *e);
nn_flops step_flops(const stepper *s);       /* what one pass needs, of all its samples */
#endif
