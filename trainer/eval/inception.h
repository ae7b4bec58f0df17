#ifndef INCEPTION_H
#define INCEPTION_H
/* Inception-v3 (Szegedy et al. 2016) up to its last pooling: the 2048 features that FID and KID are measured on. Its
 * weights are named as torchvision and pytorch-fid name them; two graphs wear these names, and the classifier's width
 * tells which one a file was made for:
 *
 *   1008 classes   the graph of 2015 that FID and KID mean: means leave the padding out, the last block pools by maxima
 *   1000 classes   torchvision's: means count the padding, the last block pools by means. Not the published scores */
#include "data/safetensors.h"
#include "trainer/nn/params.h"

typedef struct {
    const safetensors *file;  /* borrowed: the widths of the layers are read off its weights */
    bool of_fid;              /* else torchvision's */
    int features;
} inception_shape;
enum { INCEPTION_SIDE = 299 };

/* ERR_INPUT where the classifier is missing or of another width. */
int inception_shape_from(inception_shape *out, const safetensors *f, err *e);
/* x [n,h,w,3] in -1..1 -> [n,features]. */
nn_tensor inception_write(nn_graph *g, const inception_shape *s, nn_tensor x);
/* The batch norms of g's convolutions, as they stand in the file, become part of their weights and biases in p: a
 * convolution that is normalised by running figures is another convolution. */
int inception_fold(nn_params *p, const nn_graph *g, const inception_shape *s, err *e);
#endif
