#ifndef CUDA_WALKS_H
#define CUDA_WALKS_H
/* Shapes that are repeated or summed, as walks: the fewest dimensions that say the same, since each costs a division an
 * element. */
#include "trainer/nn/cuda/cuda_kernels.h"
#include "trainer/nn/node.h"

/* Where element i of `whole` lies in `part`, whose dimensions, aligned at the right, are whole's, 1 or missing. */
cuda_walk cuda_walk_in(const nn_shape *whole, const nn_shape *part);
/* x summed to y: where a result's first term lies in x, and where its terms lie from there; gives how many they are. */
int64_t cuda_walks_of_sum(const nn_shape *x, const nn_shape *y, cuda_walk *kept, cuda_walk *summed);
#endif
