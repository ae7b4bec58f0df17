#ifndef CUDA_KERNELS_H
#define CUDA_KERNELS_H
/* The launchers of our own kernels: what the host's C calls and the .cu files define. Pointers are the device's,
 * tensors lie as nn.h says, results are complete: nothing of what lay in `out` remains. Every launcher gives the error
 * of its launch; an error while a kernel runs appears when the stream is waited for.
 *
 * Sums have one fixed order for one shape and use no atomics: the same input gives the same bits. */
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A walk over n dimensions d: step i lies at the sum of i's digits times `step` (0 where a tensor is repeated). No
 * dimensions: one element, at 0. */
enum { CUDA_WALK_DIM = 5 };
typedef struct {
    int n;
    int64_t d[CUDA_WALK_DIM], step[CUDA_WALK_DIM];
} cuda_walk;

/* A source in f32 or in bf16 (half). To one in bf16 there may be yet to add: `bias`, a number a channel, and `more`, one of each sample
 * a channel; NULL: nothing. */
typedef struct { const void *at; bool half; const float *bias, *more; } cuda_source;

/* ---- pointwise (cuda_pointwise.cu): out may be one of the sources where the backend's list says so ---- */

typedef enum { CUDA_ADD, CUDA_SUB, CUDA_MUL } cuda_binary;
typedef enum { CUDA_SILU, CUDA_GELU, CUDA_QUICK_GELU, CUDA_RELU } cuda_act;

/* out[i] = a[i] OP b[walk of i], n of them */
cudaError_t k_binary(cudaStream_t s, cuda_binary op, float *out, const float *a, const float *b, cuda_walk at,
                     int64_t n);
/* out[i] = a[i] + b[i % width] + c[walk of i], n of them, added in this order; b NULL: nothing */
cudaError_t k_add_two(cudaStream_t s, float *out, const float *a, const float *b, int64_t width, const float *c, cuda_walk at,
                      int64_t n);
/* The same of an `a` in bf16 (its bits); c NULL: nothing. */
cudaError_t k_widen(cudaStream_t s, float *out, const uint16_t *a, const float *b, int64_t width, const float *c, cuda_walk at,
                    int64_t n);
cudaError_t k_scale(cudaStream_t s, float *out, const float *x, float by, int64_t n);
/* half: out is of bf16; rows of `width` */
cudaError_t k_act(cudaStream_t s, cuda_act f, void *out, bool half, cuda_source x, int64_t n, int64_t width);
/* out = dy * f'(x) */
cudaError_t k_act_grad(cudaStream_t s, cuda_act f, void *out, bool half, cuda_source x, cuda_source dy, int64_t n, int64_t width);
/* x [rows, 2 width] = [a | b] -> out [rows, width] = a gelu(b); half: out is of bf16 */
cudaError_t k_geglu(cudaStream_t s, void *out, bool half, cuda_source x, int64_t rows, int64_t width);
cudaError_t k_geglu_grad(cudaStream_t s, void *out, bool half, cuda_source x, cuda_source dy, int64_t rows, int64_t width);
typedef enum { CUDA_F32, CUDA_BF16, CUDA_F16 } cuda_float;
/* f32 to bf16 (its bits), several in one launch; where it goes lies at multiples of 16 */
enum { CUDA_ROUNDINGS = 5 };
typedef struct {
    int count;
    const float *from[CUDA_ROUNDINGS];
    uint16_t *to[CUDA_ROUNDINGS];
    int64_t n[CUDA_ROUNDINGS];
} cuda_roundings;
cudaError_t k_round(cudaStream_t s, cuda_roundings r);
cudaError_t k_cast(cudaStream_t s, void *out, cuda_float to, const void *x, cuda_float from, int64_t n);

/* ---- copies (cuda_shape.cu): elements of `size` bytes, 2 or 4 ---- */

/* Rows of `width` elements: row r goes from in + in_at + r * in_step to out + out_at + r * out_step (elements). */
typedef struct { int64_t rows, width, out_at, out_step, in_at, in_step; } cuda_rows;
cudaError_t k_copy_rows(cudaStream_t s, void *out, const void *in, cuda_rows r, int size);
/* The same from f32 to bf16. */
cudaError_t k_round_rows(cudaStream_t s, void *out, const float *in, cuda_rows r);
/* A piece of f32 to f32 or bf16 (half), without gaps there; add: like it, is added, or NULL; twin: where it goes in bf16, too, or NULL */
cudaError_t k_cut_rows(cudaStream_t s, void *out, bool half, const float *in, cuda_rows r, const float *add, void *twin);
/* x [n, t, c]: the first `zeros` of t become 0; out may be x */
cudaError_t k_zero_rows(cudaStream_t s, void *out, const void *x, int64_t n, int64_t t, int64_t c, int64_t zeros,
                        int size);
/* x [n, h, w, c] -> out [n, oh, ow, c], pixel (i, j) from (i h / oh, j w / ow), rounded down; half: of f32 bf16 is made */
typedef struct { int64_t n, h, w, oh, ow, c; } cuda_zoom;
cudaError_t k_upsample(cudaStream_t s, void *out, bool half, const void *x, cuda_zoom z, int size);
/* dy [n, oh, ow, c], of bf16 where half -> out [n, h, w, c]: the sum of what was copied */
cudaError_t k_upsample_grad(cudaStream_t s, float *out, const void *dy, bool half, cuda_zoom z);
/* out[i] = x[walk of i] */
cudaError_t k_expand(cudaStream_t s, float *out, const float *x, cuda_walk at, int64_t n);

/* ---- sums (cuda_reduce.cu) ---- */

/* out[i] = sum over k < many of x[walk i of `kept` + walk k of `summed`] */
cudaError_t k_sum_to(cudaStream_t s, float *out, const float *x, cuda_walk kept, int64_t n, cuda_walk summed,
                     int64_t many);
enum { CUDA_PARTS = 512 }; /* partial sums of k_sum_squares: enough blocks for every GPU, few enough to add in one */
/* out[0] = sum of squares; parts: CUDA_PARTS doubles of scratch */
cudaError_t k_sum_squares(cudaStream_t s, float *out, const float *x, int64_t n, double *parts);
/* a, b [n, count]; mask NULL or [n, count / width] -> out [n] */
cudaError_t k_squared_error(cudaStream_t s, float *out, const float *a, const float *b, const float *mask, int64_t n,
                            int64_t count, int64_t width);
/* dy [n] -> out [n, count] = 2 mask (a - b) dy; out may be a or b */
cudaError_t k_squared_error_grad(cudaStream_t s, float *out, const float *a, const float *b, const float *mask,
                                 const float *dy, int64_t n, int64_t count, int64_t width);

/* ---- words and time (cuda_embed.cu) ---- */

/* table [rows, c], ids [n] -> out [n, c]: row id - first, or zeros */
cudaError_t k_embedding(cudaStream_t s, float *out, const float *table, const int32_t *ids, int64_t n, int64_t c,
                        int64_t first, int64_t rows);
/* ids [n], dy [n, c] -> out [rows, c] */
cudaError_t k_embedding_grad(cudaStream_t s, float *out, const int32_t *ids, const float *dy, int64_t n, int64_t c,
                             int64_t first, int64_t rows);
/* t [n] -> out [n, dim] */
cudaError_t k_timestep_embedding(cudaStream_t s, float *out, const float *t, int64_t n, int64_t dim, bool flip,
                                 float shift);

/* ---- random numbers by their address (cuda_normal.cu) ---- */

/* at [n, 4]: words of an rng_stream -> out [n, count], as rng_normal */
cudaError_t k_normal(cudaStream_t s, float *out, const uint32_t *at, int64_t n, int64_t count);

/* ---- norms (cuda_norm.cu): x [samples, pixels, c], a group is c / groups neighbouring channels of one sample ---- */

typedef struct { int64_t samples, pixels, c, groups; float eps; bool silu; } cuda_norm; /* silu: of the norm */
/* half: out is of bf16 */
cudaError_t k_norm(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, const float *bias);
/* bias: for silu only; add: like out, or NULL; twin: where out, of f32 then, goes in bf16, too, or NULL. A layer norm's x is of f32. */
cudaError_t k_norm_grad_x(cudaStream_t s, cuda_norm at, void *out, bool half, cuda_source x, const float *w, cuda_source dy, const float *bias,
                          const float *add, void *twin);
/* out [2, c] = dw, dbias; stats: 2 * samples * groups floats of scratch */
cudaError_t k_norm_grad_w(cudaStream_t s, cuda_norm at, float *out, const float *x, const float *dy, float *stats);

/* ---- windows (cuda_pool.cu): x [n, h, w, c], out [n, oh, ow, c], windows of k x k ---- */

typedef enum { CUDA_POOL_MAX, CUDA_POOL_MEAN, CUDA_POOL_MEAN_WHOLE } cuda_pooled;
typedef struct { int64_t n, h, w, c, oh, ow; int k, stride, top, left; } cuda_windows;
cudaError_t k_pool2d(cudaStream_t s, cuda_pooled how, float *out, const float *x, cuda_windows at);

/* ---- attention (cuda_attention.cu): q, y [n, tq, c], k, v [n, tk, c], head h owns channels h d .. (h+1) d - 1 ---- */

enum { CUDA_HEAD_MOST = 512, CUDA_ATT_GRID_MOST = 65535 }; /* the widest head; the most n * heads */
typedef struct { int n, heads, tq, tk, d, c; bool causal; } cuda_att;
cudaError_t k_attention(cudaStream_t s, cuda_att at, float *y, const float *q, const float *k, const float *v);
enum { CUDA_ATT_STATS = 3 }; /* floats of scratch for each query of each head: maximum, 1 / sum, dy . y */
/* dq like q, dk and dv like k; stats: CUDA_ATT_STATS * n * heads * tq floats of scratch */
cudaError_t k_attention_grad(cudaStream_t s, cuda_att at, float *dq, float *dk, float *dv, const float *q,
                             const float *k, const float *v, const float *y, const float *dy, float *stats);

/* The same on tensor cores (cuda_flash.cu, cuda_flash_grad.cu), sources rounded to bf16 (their bits as uint16_t), for heads
 * of 8, 16, 32, 40, 64, 80, 160 and, forward only, 512. What is in bf16, sums and dots lie at multiples of 16. */
/* Floats of a table of a number for each query of a head: whole tiles. */
#define CUDA_FLASH_ROWS(tq) (((int64_t)(tq) + 63) / 64 * 64)
/* sums [n * heads, CUDA_FLASH_ROWS(tq)]: log2 of a query's sum of exp(scores), infinite behind the last one; may be NULL */
/* half: y is of bf16 */
cudaError_t k_flash(cudaStream_t s, cuda_att at, void *y, bool half, float *sums, const uint16_t *q, const uint16_t *k, const uint16_t *v);
/* The same by wgmma (cuda_flash_hopper.cu), for devices of compute capability 9.0 alone and heads that it `has`: none where it is
 * not built for them. */
bool k_flash_hopper_has(int64_t d);
cudaError_t k_flash_hopper(cudaStream_t s, cuda_att at, void *y, bool half, float *sums, const uint16_t *q, const uint16_t *k,
                           const uint16_t *v);
/* half: dq, dk and dv are of bf16; dots: scratch of the size of sums; dy_wide: dy itself, or the same in f32 */
cudaError_t k_flash_grad(cudaStream_t s, cuda_att at, void *dq, void *dk, void *dv, bool half, const uint16_t *q,
                         const uint16_t *k, const uint16_t *v, const uint16_t *dy, cuda_source y, cuda_source dy_wide, const float *sums,
                         float *dots);
/* Its first part: dots = y . dy of every query. */
cudaError_t k_flash_dots(cudaStream_t s, cuda_att at, float *dots, cuda_source y, cuda_source dy);
/* The whole by wgmma, for the devices of k_flash_hopper (cuda_flash_hopper_grad.cu). */
bool k_flash_hopper_grad_has(int64_t d);
cudaError_t k_flash_hopper_grad(cudaStream_t s, cuda_att at, void *dq, void *dk, void *dv, bool half, const uint16_t *q,
                                const uint16_t *k, const uint16_t *v, const uint16_t *dy, cuda_source y, cuda_source dy_wide,
                                const float *sums, float *dots);

/* cuDNN's log-sums, [heads, tq] natural logarithms, as those sums (cuda_sdpa.cu), and back */
cudaError_t k_sums_of_logs(cudaStream_t s, float *out, const float *logs, int64_t heads, int64_t tq);
cudaError_t k_logs_of_sums(cudaStream_t s, float *out, const float *sums, int64_t heads, int64_t tq);

/* ---- products (cuda_product.cu): plain tiles, for what the libraries decline ---- */

/* out [batch, m, n] = a b + bias; element (i, k) of an a at i * a_row + k * a_col, (k, j) of a b likewise */
typedef struct { int64_t batch, m, n, k, a_row, a_col, b_row, b_col; } cuda_mat;
cudaError_t k_matmul(cudaStream_t s, cuda_mat at, float *out, const float *a, const float *b, const float *bias);
/* x [n, h, w, c], w [o, kh, kw, c], y [n, oh, ow, o] */
typedef struct { int n, h, w, c, o, kh, kw, oh, ow, stride, top, left; } cuda_conv_at;
cudaError_t k_conv2d(cudaStream_t s, cuda_conv_at at, float *y, const float *x, const float *w, const float *bias);
cudaError_t k_conv2d_grad_x(cudaStream_t s, cuda_conv_at at, float *dx, const float *dy, const float *w);
cudaError_t k_conv2d_grad_w(cudaStream_t s, cuda_conv_at at, float *dw, const float *x, const float *dy);

/* ---- updates (cuda_update.cu) ---- */

/* w, m, v, d [concepts, count], hyper [concepts, NN_ADAMW_HYPER], base like w or NULL; w, m, v are changed */
cudaError_t k_adamw(cudaStream_t s, float *w, float *m, float *v, const float *d, const float *hyper,
                    const float *base, int64_t concepts, int64_t count);
/* hyper, out [concepts, NN_ADAMW_HYPER], norm2 [concepts], losses [concepts, n]: nn_clip */
cudaError_t k_clip(cudaStream_t s, float *out, const float *hyper, const float *norm2, const float *losses, int64_t concepts,
                   int64_t n);

/* ---- the choice among algorithms (cuda_search.cu) ---- */

/* n words of two numbers of bf16 each, which are numbers of f32, too: of both signs, between 2^-8 and 1 */
cudaError_t k_made_up(cudaStream_t s, uint32_t *out, int64_t n);
enum { CUDA_SUMS = 128 };
/* sums [CUDA_SUMS], whose sum (of 64 bits, in any order) stands for the n words and their places */
cudaError_t k_sum_words(cudaStream_t s, uint64_t *sums, const uint32_t *x, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
