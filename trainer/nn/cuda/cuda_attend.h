#ifndef CUDA_ATTEND_H
#define CUDA_ATTEND_H
/* What the kernels of attention share, whoever made them (cuda_attend.c, cuda_sdpa.c): sources in bf16, and the
 * log-sums that a pass keeps for its gradient. Those have one form, ours (k_flash), so that a pass and its gradient may be made by
 * different kernels. */
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

const char *cuda_takes_attention(const struct nn_node *y);

/* `wanted`, bit i: source i in bf16. Bytes of scratch for those that are not yet; what rounding them costs, told; and rounding
 * them, half: where they lie, in order. */
size_t cuda_rounded_bytes(const nn_call *c, unsigned wanted);
void cuda_tell_rounded(nn_call *c, unsigned wanted);
cudaError_t cuda_round_sources(nn_backend *b, const nn_call *c, unsigned wanted, uint16_t *half[CUDA_ROUNDINGS]);

/* What a pass keeps: found again by its node and the place of its result. */
struct cuda_kept {
    struct cuda_kept *next;
    nn_backend *on;
    const struct nn_node *y;
    const void *at;
    float *sums;
    int users; /* calls: the pass, and its gradients */
};

size_t cuda_kept_bytes(const nn_call *c);
/* A pass's, new or found: the same pass prepared once more finds it while a gradient still has it; and its gradient's. Either is let
 * go of once. */
int cuda_keep(nn_backend *b, struct cuda_kept **out, const nn_call *c, err *e);
int cuda_kept_by(nn_backend *b, struct cuda_kept **out, const nn_call *grad, err *e);
void cuda_let_go(struct cuda_kept *k);

/* Heads that our kernels on tensor cores have. */
bool cuda_has_head(int64_t d);
#endif
