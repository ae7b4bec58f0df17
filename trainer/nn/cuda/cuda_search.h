#ifndef CUDA_SEARCH_H
#define CUDA_SEARCH_H
/* Which of the algorithms that cuBLASLt lists for a product is taken. */
#include "trainer/nn/cuda/cuda.h"

/* 32 MiB is what NVIDIA advises on Hopper; one piece is shared by all calls of a plan. */
enum { CUDA_LT_SCRATCH = 32 << 20, CUDA_LT_ALGOS = 8 };

/* A product as cuBLASLt is told of it: its matrices, and whatever the list of algorithms may depend on. */
typedef struct {
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t left, right, out; /* as cuBLASLt sees them: B', A', Y' */
    const void *bias;                        /* of the epilogue; NULL: none */
    struct cuda_product_key {
        int64_t half, narrow, biased, adds, ta, tb, batch, m, n, k, align[5];
    } key; /* half: sources in bf16; narrow: the result, too; adds: C to the result; align: of the places of B, A, Y, C and the bias */
} cuda_product;

/* What the heuristic lists, what it expects to be fastest first; all that may be run with CUDA_LT_SCRATCH bytes. */
typedef struct { cublasLtMatmulHeuristicResult_t list[CUDA_LT_ALGOS]; int n; } cuda_algos;

/* The fastest, by the clock, of those that make the first one's bits of made-up factors; so a choice changes no number, and
 * another run, another rank, a device without room for the trial or a search that is off (CFARM_CUDA_SEARCH=0) gives the same
 * bits. The first, untried: for small products, without room, while work is recorded. Each kind of product once for a device. */
int cuda_search(nn_backend *b, const cuda_product *p, const cuda_algos *from, cublasLtMatmulAlgo_t *best, err *e);
#endif
