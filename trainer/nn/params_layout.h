#ifndef PARAMS_LAYOUT_H
#define PARAMS_LAYOUT_H
/* Weights of convolutions lie as [o,i,h,w] in files and as [o,h,w,i] in graphs; all others lie alike. */
#include "trainer/nn/nn.h"

/* Whether the two layouts of this file shape differ in memory. */
bool nn_layout_turns(nn_shape file);
void nn_layout_to_graph(float *graph, const float *file, nn_shape shape);
void nn_layout_to_file(float *file, const float *graph, nn_shape shape);
/* Whether a graph's shape is the file's, turned, when dimensions of 1 are left out: a 1x1 convolution [o,i,1,1] may
 * be asked for as the linear layer [o,i]. */
bool nn_layout_fits(nn_shape graph, nn_shape file);
#endif
