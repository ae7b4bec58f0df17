#ifndef NN_FLOPS_H
#define NN_FLOPS_H
/* Exact counts of the arithmetic an algorithm needs: products, convolutions and attention, two operations a product and
 * sum, no padding, nothing computed twice. Norms and pointwise operations are not counted. */
#include "trainer/nn/node.h"

typedef struct {
    double forward;
    double rows;      /* backward, for what flows on: gradients of activations */
    double weights;   /* backward, for what is trained */
} nn_flops;

/* Of everything `out` depends on, when wrt[] is trained (n 0: nothing is). Where tensors are concatenated and only one
 * needs a gradient, its share of the channels counts. Call before nn_backward adds to the graph. scope: only nodes
 * written in it ("unet"); NULL: all. */
nn_flops nn_flops_of(const nn_graph *g, nn_tensor out, const nn_tensor wrt[], int n, const char *scope);
/* Of one call as a plan makes it, a gradient's whole arithmetic included; attention's gradient is twice its forward. */
double nn_flops_of_call(nn_tensor y);
#endif
