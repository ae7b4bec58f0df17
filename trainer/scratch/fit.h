#ifndef FIT_H
#define FIT_H
/* All weights of a graph, trained from nothing: gradient, AdamW with a warm-up, a running mean of the weights, and a file to go
 * on from. The caller writes the graph and its inputs. */
#include "trainer/nn/plan.h"

typedef struct {
    double lr, weight_decay, clip;
    double mean;              /* of the running mean: what stays of it at each step, 0.999 say; less at the beginning */
    int warmup;               /* steps */
    int64_t until;            /* steps in all, over whose last fifth the rate falls to zero; 0: it stays */
    const char *only;         /* what moves: names that begin so; NULL: everything the graph uses */
} fit_opts;

typedef struct fit fit;
/* result: the scalar loss [1]; or, where seed is not NULL, any tensor whose loss
 * the caller works out: then seed is an input of its shape, the loss's gradient. The graph and weights are borrowed. */
int fit_new(fit **out, nn_params *weights, nn_graph *g, nn_tensor result, nn_tensor seed, const fit_opts *how, err *e);
void fit_free(fit *f);

/* Writes an input, for the forward pass and the gradient alike. */
int fit_write(fit *f, nn_tensor input, const void *from, err *e);
/* With seed: the forward pass alone, its result. */
int fit_forward(fit *f, float *result, err *e);
/* One step. loss: of a scalar graph, else untouched. */
int fit_step(fit *f, float *loss, err *e);
int64_t fit_steps(const fit *f);

/* The state as a file; loading one that is not there is no error and says so in *found. */
int fit_save(const fit *f, const char *path, err *e);
int fit_load(fit *f, const char *path, bool *found, err *e);

/* Exchanges the weights with their running mean; twice: as before. */
int fit_swap(fit *f, err *e);
/* A safetensors file, in f16, of the weights called scope + name where name begins with `begin`; the scope is left out. */
int fit_write_model(nn_params *weights, const char *scope, const char *begin, const char *path, err *e);
#endif
