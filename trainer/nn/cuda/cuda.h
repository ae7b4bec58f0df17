#ifndef NN_CUDA_H
#define NN_CUDA_H
/* What the host side of the CUDA backend shares. Every operation with a kernel has one list, cuda_NAME: preferred
 * kernels first, ended by NULL; a list that is missing does not link. Host logic is C and knows nodes; our kernels
 * (.cu) know pointers and sizes (cuda_kernels.h) and no nodes. */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <pthread.h>

#include "trainer/nn/backend.h"

#define NN_NAME(name)
#define NN_OP(name) extern const nn_kernel *const cuda_##name[];
#include "trainer/nn/ops.def"
#undef NN_OP

/* One device with one stream: everything it is asked for happens in the order of asking, but for loads that cross beside it
 * (cuda_ferry.c) and a gang's sums (cuda_gang.c). */
typedef struct {
    int device;
    char name[24];             /* "cuda:3" */
    char kind[96];             /* what its bits depend on */
    size_t most, taken;        /* bytes of its memory that may be taken, and are */
    struct cuda_piece { void *mem; size_t bytes; } *pieces;
    size_t piece_n;
    struct cuda_rounded { const void *from; void *to; int users; } *rounded; /* frozen weights in bf16 */
    size_t rounded_n;
    enum { CUDA_SEARCH_ON, CUDA_SEARCH_OFF, CUDA_SEARCH_SHOWN } search; /* for cuBLASLt's algorithms (cuda_search.c) */
    struct cuda_found *found;  /* what it has found */
    size_t found_n;
    struct cuda_asked *asked;  /* kinds of products that cuBLASLt was asked for (cuda_gemm.c) */
    size_t asked_n;
    enum { CUDA_ATTENTION_OWN, CUDA_ATTENTION_DNN, CUDA_ATTENTION_ATOMICS, CUDA_ATTENTION_WGMMA } attention; /* whose comes first in bf16; with what adds in any order; ours by wgmma */
    bool compiles;             /* cuDNN's engines may be compiled where one is listed first (cuda_conv.c) */
    struct cuda_conv *convs;   /* what cuDNN has for the shapes that were asked for */
    struct cuda_sdpa *sdpas;    /* the same for attention (cuda_sdpa.c) */
    struct cuda_kept *kept;     /* what passes of attention keep for their gradients (cuda_attend.c) */
    struct cuda_joined *joined; /* communicators of gangs, kept (cuda_gang.c) */
    size_t joined_n;
    pthread_mutex_t turn;      /* whose thread asks the device */
    cudaStream_t stream, copies;
    cublasLtHandle_t gemm;
    cudnnHandle_t conv;
} cuda;

static inline cuda *cuda_of(const nn_backend *b)
{
    return b->self;
}

static inline cudaStream_t cuda_stream(const nn_backend *b)
{
    return cuda_of(b)->stream;
}

/* The one whose begin() this thread called last, as CUDA has a current device; for takes(), which must ask a library
 * and is given no backend. NULL: none. */
cuda *cuda_current(void);

/* 0, or ERR_DEVICE with a sentence of what the device did not do. */
int cuda_told(const cuda *c, cudaError_t rc, const char *what, err *e);
extern const nn_crossing cuda_crossing;

/* A kernel's answer: from its launch's; from a library's, `why` NULL where that took it. The reason of a refusal is told by the
 * backend's wait, which its caller calls next. */
int cuda_ran(cudaError_t rc);
int cuda_took(const char *library, const char *why);
/* Whether what it is asked is being recorded. */
bool cuda_recording(const cuda *c);

/* For takes(): NULL when the result and all float sources are F32, else the reason. */
const char *cuda_needs_f32(const struct nn_node *y);

/* nn_kernel.narrows of kernels that always may. */
bool cuda_narrows(const struct nn_node *y);

/* How many devices this process sees, at least one; and nn_cuda_links. */
int cuda_count(int *n, err *e);
int cuda_links(int group[], int most, int *n, err *e);

/* nn_backend's join; and the end of all that were joined. */
int cuda_join(nn_backend *b, struct comm **gang, double timeout_s, err *e);
void cuda_part(cuda *c);

/* A frozen weight that is leaf[1] in bf16, the one copy of it on the device, for all plans; where the call is only sized, what it
 * would take. */
int cuda_half_leaf(nn_backend *b, nn_call *c, void **mem, err *e);
/* What is a piece of one: its `n` f32 values in bf16, made once for all calls that read it; each that has it gives it back by
 * its `from`. */
int cuda_round(nn_backend *b, void **to, const void *from, int64_t n, err *e);
void cuda_round_done(nn_backend *b, const void *from);

/* Forgets all convolutions, all attention; before cuDNN is closed. */
void cuda_convs_free(cuda *c);
void cuda_sdpas_free(cuda *c);

/* What is told of a call for nn_plan_traffic: a source of n numbers in f32 is rounded into scratch first, by one more launch; so its
 * product reads it from there. */
static inline void cuda_tell_rounding(nn_call *c, int64_t n)
{
    c->beside += 4.0 * (double)n;
    c->launches++;
}

/* Pieces of a call's scratch begin at multiples of what every library likes. */
static inline size_t cuda_aligned(int64_t bytes)
{
    return ((size_t)bytes + 255) / 256 * 256;
}

/* A list of the one kernel we have for an operation. __VA_ARGS__: further members of nn_kernel. */
#define CUDA_LIST(NAME, ...)                                                                                 \
    static const nn_kernel NAME##_plain = {.name = "cuda." #NAME ".plain", __VA_ARGS__};                     \
    const nn_kernel *const cuda_##NAME[] = {&NAME##_plain, NULL}

/* Kernels of the libraries, and the plain ones that take what those decline. */
extern const nn_kernel cuda_lt_matmul, cuda_dnn_conv2d, cuda_dnn_conv2d_grad_x, cuda_dnn_conv2d_grad_w;
/* The same with sources rounded to bf16, sums and results in f32; and lists that begin with them. */
extern const nn_kernel cuda_dnn_attention, cuda_dnn_attention_grad;
extern const nn_kernel cuda_lt_matmul_bf16, cuda_lt_conv2d_bf16, cuda_lt_conv2d_grad_x_bf16, cuda_lt_conv2d_grad_w_bf16, cuda_dnn_conv2d_bf16,
    cuda_dnn_conv2d_grad_x_bf16, cuda_dnn_conv2d_grad_w_bf16;
/* cuDNN's attention before ours, where that is asked for. */
extern const nn_kernel *const cuda_attention_dnn[], *const cuda_attention_grad_dnn[];
extern const nn_kernel *const cuda_attention_bf16[], *const cuda_attention_wgmma[], *const cuda_attention_grad_wgmma[], *const cuda_attention_grad_bf16[], *const cuda_matmul_bf16[],
    *const cuda_conv2d_bf16[], *const cuda_conv2d_grad_x_bf16[],
    *const cuda_conv2d_grad_w_bf16[];
#endif
