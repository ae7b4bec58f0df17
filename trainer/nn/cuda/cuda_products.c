/* Products and convolutions: the lists of kernels, and the plain ones that take what the libraries decline. */
#include <limits.h>

#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

/* A grid has 65535 blocks in its second and third dimension; a block of the plain kernels makes 16 columns. */
enum { GRID_MOST = 65535, COLUMNS_MOST = 16 * GRID_MOST };

/* ---- matmul ---- */

static const char *takes_matmul(const struct nn_node *y)
{
    mat_shape s = mat_shape_of(y);

    return s.batch > GRID_MOST || s.n > COLUMNS_MOST ? "needs at most 65535 matrices of 1048560 columns"
                                                     : cuda_needs_f32(y);
}

static int run_matmul(nn_backend *b, const nn_call *c)
{
    mat_shape s = mat_shape_of(c->y);
    cuda_mat at = {s.batch, s.m, s.n, s.k, s.a_row, s.a_col, s.b_row, s.b_col};

    return cuda_ran(k_matmul(cuda_stream(b), at, c->out, c->in[0], c->in[1], c->in[2]));
}

static const nn_kernel plain_matmul = {.name = "cuda.matmul.plain", .takes = takes_matmul, .run = run_matmul};

const nn_kernel *const cuda_matmul[] = {&cuda_lt_matmul, &plain_matmul, NULL};
const nn_kernel *const cuda_matmul_bf16[] = {&cuda_lt_matmul_bf16, &cuda_lt_matmul, &plain_matmul, NULL};

/* ---- conv2d ---- */

static const char *takes_conv(const struct nn_node *y)
{
    conv_shape v = conv_shape_of(y);

    if (v.n * v.h * v.w > INT_MAX || v.n * v.oh * v.ow > INT_MAX || v.kh * v.kw * v.c > COLUMNS_MOST
        || v.o > COLUMNS_MOST)
        return "needs fewer than 2^31 pixels";
    return cuda_needs_f32(y);
}

static cuda_conv_at conv_of(const nn_call *c)
{
    conv_shape v = conv_shape_of(c->y);

    return (cuda_conv_at){(int)v.n,  (int)v.h,  (int)v.w,  (int)v.c,      (int)v.o,   (int)v.kh,
                          (int)v.kw, (int)v.oh, (int)v.ow, (int)v.stride, (int)v.top, (int)v.left};
}

static int run_conv2d(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_conv2d(cuda_stream(b), conv_of(c), c->out, c->in[0], c->in[1], c->in[2]));
}

static int run_conv2d_grad_x(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_conv2d_grad_x(cuda_stream(b), conv_of(c), c->out, c->in[0], c->in[1]));
}

static int run_conv2d_grad_w(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_conv2d_grad_w(cuda_stream(b), conv_of(c), c->out, c->in[0], c->in[1]));
}

#define CONV(NAME)                                                                                           \
    static const nn_kernel plain_##NAME = {                                                                  \
        .name = "cuda." #NAME ".plain", .takes = takes_conv, .run = run_##NAME};                             \
    const nn_kernel *const cuda_##NAME[] = {&cuda_dnn_##NAME, &plain_##NAME, NULL};                          \
    const nn_kernel *const cuda_##NAME##_bf16[] = {&cuda_lt_##NAME##_bf16, &cuda_dnn_##NAME##_bf16, &cuda_dnn_##NAME, &plain_##NAME, NULL};

CONV(conv2d)
CONV(conv2d_grad_x)
CONV(conv2d_grad_w)
