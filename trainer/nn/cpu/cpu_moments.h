#ifndef CPU_MOMENTS_H
#define CPU_MOMENTS_H
/* Moments of 8 bits: a row of `count` codes and, behind them, the largest magnitude of each block (nn_moments8). */
#include "trainer/nn/node.h"

/* What an adamw stores in fewer bits: its moments, its weights. */
static inline bool cpu_adamw_eight(const struct nn_node *y) { return !nn_same_shape(y->src[1]->shape, y->src[3]->shape); }
static inline bool cpu_adamw_narrow(const struct nn_node *y) { return !nn_same_shape(y->src[0]->shape, y->src[3]->shape); }

typedef struct {
    float value[256];            /* ascending; what a code stands for, as a share of its block's largest */
    float middle[255];           /* between neighbours: where the nearest changes */
} moment_map;
/* With sign for m, without for v. */
void moment_map_make(moment_map *map, bool with_sign);

/* Block `block` of a row, n numbers of it, to floats and back; scales: the row's floats behind its codes. */
void moments_unpack(float *to, const uint8_t *codes, float scale, const moment_map *map, int64_t n);
float moments_pack(uint8_t *codes, const float *from, const moment_map *map, int64_t n); /* returns the block's scale */
#endif
