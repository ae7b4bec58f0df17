#ifndef STEP_INSIDE_H
#define STEP_INSIDE_H
/* A stepper as its own files see it: step.c, a step that is over when it returns; step_flight.c, steps that are begun and told
 * of later. */
#include "cluster/base/str.h"
#include "trainer/step.h"

enum { MOST_LEVELS = 24 }; /* of the tree over leaves: 2^24 passes a step are enough */

typedef struct { nn_tensor latents, noise, alpha, sigma, t, ids, text, mask, weight, table, words, seat, flags; } inputs;

typedef struct flight flight;

/* What is run for the samples of a pass. */
typedef struct {
    nn_graph *graph;
    nn_plan *plan;               /* NULL: not asked for yet */
    inputs in;
    nn_tensor losses, spread;    /* spread: among the losses of a gang's other ranks; NULL: alone */
    nn_chain *chain;             /* the plan and what moves the weights behind it, where steps fly; NULL: not yet */
} pass;

struct stepper {
    sd *model;
    comm *gang;
    step_opts opts;
    nn_adapter adapter;
    const char **moves;
    int64_t channels;
    size_t weights;              /* trained floats of one concept */
    int vocabulary, words;       /* ids from `vocabulary` on are a concept's own `words` rows */
    double *table;               /* [width]: what decay has left of the vocabulary's rows */
    bool stop;                   /* asked for by this rank */
    double joined;               /* of the last step: step_result's */
    pass grad, said, judge;      /* said: the gradient where all texts are said and not all have to be; judge: losses alone */
    nn_graph *norm_graph, *update_graph;
    nn_plan *norm, *update;
    nn_flops flops;              /* of one pass */
    nn_tensor *norm2, hyper;
    float *latents, *given, *mask, *alpha, *sigma, *t, *weight, *scale; /* [width, micro, ...] as the plans want them */
    rng_stream *noise;           /* [width, micro]; given: instead of it, or NULL */
    int32_t *ids;
    float *text;                 /* [width, micro, TOKENS, width of the text], where any is said */
    float *marks;                /* [width, micro, TOKENS, 2], where words of two subjects stand; NULL: nobody looks */
    float *lost;                 /* [width, micro]: the losses of one pass */
    float *only;                 /* [width, batch]: the losses of a step that is one leaf */
    float *level[MOST_LEVELS];   /* partial sums of 2^k leaves: weights and losses [width, ...] each, then who would stop */
    bool full[MOST_LEVELS];
    flight *flight;              /* steps that nobody waits for; NULL: the backend has done all when it returns */
};

/* Of one pass. */
static inline int step_samples(const stepper *s)
{
    return s->opts.width * s->opts.micro;
}

static inline bool step_stands(const step_turn *of)
{
    return of->fill && of->why.code == ERR_NONE;
}

/* Writes a pass's graph with its gradients. keep: what it is for, n_moves + STEP_KEEPS at most. */
enum { STEP_KEEPS = 3 };
int step_write_grad(stepper *s, pass *p, bool said, nn_tensor *keep, int *kept, err *e);
/* A stepper that has no plan yet; *out is to be freed after an error, too, and NULL where nothing is. */
int step_new_bare(stepper **out, sd *model, comm *gang, const step_opts *opts, err *e);
/* ERR_MEMORY where a device has not what a pass will take; told with what would fit. Nothing is taken. (step_room.c) */
int step_fits(stepper *s, err *e);
/* The samples of the pass from number `first` on, made, and what to run for them; its plan is made if it has none. */
int step_make_pass(stepper *s, int first, step_turn turns[], pass **out, err *e);
/* The pass's samples to where it reads them. */
int step_write_pass(stepper *s, const pass *of, err *e);
/* AdamW's numbers for one concept, its gradient's scale 1; and what the step does to its table. */
void step_set_hyper(const step_turn *of, float h[NN_ADAMW_HYPER]);
void step_decay_tables(stepper *s, const step_turn turns[]);
/* Whether what came of it are numbers; else the turn says so. */
void step_judge_numbers(step_turn *of);
/* A piece of a state that some concepts have. */
nn_tensor step_part_of(nn_graph *g, const stepper *s, const char *state, int64_t count, int place, int width);

/* ---- step_flight.c ---- */

/* Makes s->flight where the backend and the gang can; before any plan. */
int flight_new(stepper *s, err *e);
/* After the first plan. */
int flight_plan(stepper *s, err *e);
void flight_free(flight *f);
/* What the gradient's plan is to keep so that a flight can tell its losses, at most 2. */
int flight_keeps(const stepper *s, pass *p, nn_tensor keep[2]);
int flight_lands(const stepper *s, const pass *p, err *e);   /* ... once that plan is made: where they go */
int flight_begin(stepper *s, step_turn turns[], err *e);
int flight_tell(stepper *s, step_turn turns[], int n, err *e);
size_t flight_bytes(const flight *f);
void flight_describe(const stepper *s, str *to);
#endif
