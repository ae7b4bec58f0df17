#ifndef NN_H
#define NN_H
/* Write first, run later. Writing a graph computes nothing and cannot fail at the call: the first
 * mistake is kept with the scope it was made in, and nn_check() tells it. So a model reads as the
 * mathematics it is.
 *
 * Maps are [n, h, w, c], words [n, tokens, c]; the last dimension is contiguous. A map flattens into
 * tokens by nn_reshape, which is free. Weights of linear layers are [out, in] as in files; weights of
 * convolutions are [out, kh, kw, in] (files hold [out, in, kh, kw]; params.c turns them at load and
 * back at save). Norms and biases run along the last dimension. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/dtype.h"
#include "cluster/base/err.h"

enum { NN_MAX_DIM = 5 };
typedef struct { int n; int64_t d[NN_MAX_DIM]; } nn_shape;
typedef struct nn_graph nn_graph;
typedef const struct nn_node *nn_tensor;                 /* owned by its graph */

#define NN_SHAPE(...) nn_shape_of((const int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
nn_shape nn_shape_of(const int64_t *d, size_t n);
int64_t nn_count(nn_shape s);
bool nn_same_shape(nn_shape a, nn_shape b);
const char *nn_shape_text(nn_shape s, char buf[64]);     /* "[2,77,768]" */
nn_shape nn_shape_get(nn_tensor t);

nn_graph *nn_graph_new(void);
void nn_graph_free(nn_graph *g);
/* The first mistake: "unet.mid_block.attn2: matmul: [4,320] times [768,320]". */
int nn_check(const nn_graph *g, err *e);
/* A mistake of the writer's own (a size the config gives that no block can have); kept like any other. */
nn_tensor nn_mistake(nn_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Names opened here are joined with dots into the names weights have in a file. */
void nn_enter(nn_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void nn_leave(nn_graph *g);

/* Leaves. input: written by nn_write before each run. param: a weight by its scoped name, found in nn_params when
 * a plan is made; asking twice for one name gives one node. state: a buffer of nn_params under exactly this name
 * (no scope), which adamw may change. */
nn_tensor nn_input(nn_graph *g, const char *name, dtype t, nn_shape s);
nn_tensor nn_param(nn_graph *g, const char *name, nn_shape s);
nn_tensor nn_param_find(const nn_graph *g, const char *name); /* what nn_param gave for this full name; NULL: nothing */
nn_tensor nn_state(nn_graph *g, const char *name, nn_shape s);
nn_tensor nn_fill(nn_graph *g, nn_shape s, float value); /* a constant, f32 */
nn_tensor nn_zeros(nn_graph *g, nn_shape s);

/* Methods that train something beside a model's weights (low-rank factors, shifts of singular values) change what a
 * model's code writes, not the code: while an adapter is set, its layers ask it. What it adds stands in the layer's scope. */
typedef struct {
    const void *arg;
    nn_tensor (*weight)(const void *arg, nn_graph *g, nn_tensor w, const char *name);  /* what stands for w; NULL: w */
    nn_tensor (*linear)(const void *arg, nn_graph *g, nn_tensor y, nn_tensor x, const char *layer); /* for y = W x + b */
} nn_adapter;
void nn_adapt(nn_graph *g, const nn_adapter *by);        /* copied; NULL: none */
nn_tensor nn_weight(nn_graph *g, const char *name, nn_shape s); /* nn_param of a weight, or what stands for it */
nn_tensor nn_beside(nn_graph *g, nn_tensor y, nn_tensor x);     /* y = W x + b of the layer whose scope is open, or more */

/* A loss that looks inside a model: while a watcher is set, it is told of each cross-attention when the model writes it. q
 * [n,h*w,c] asks, k [n,tokens,c] answers. */
typedef struct {
    void *arg;
    void (*cross)(void *arg, nn_graph *g, nn_tensor q, nn_tensor k, int heads, int64_t h, int64_t w);
} nn_watcher;
void nn_watch(nn_graph *g, const nn_watcher *by);        /* copied; NULL: none */
void nn_cross(nn_graph *g, nn_tensor q, nn_tensor k, int heads, int64_t h, int64_t w); /* the model says it */

/* Packs: `width` concepts go through one graph over shared frozen weights. Samples are theirs in order, as many each; what
 * is trained stands width times over. While this is set, nn_param of a name that `at` knows gives [width, ...] of it, cut
 * out of the slots first .. first + width - 1 of the state "train.w" [slots, count], and nn_linear multiplies each concept's
 * rows by its own matrix. width 1, or nothing set: as it stands in nn_params. nn_params_pack makes it. */
typedef struct {
    const void *arg;
    bool (*at)(const void *arg, const char *name, size_t *offset); /* where in a slot it lies; false: it is shared */
    int slots, first, width;
    int64_t count;                                       /* elements of a slot */
    bool narrow;                                         /* of bf16 (width 1): nn_param widens it wherever it is read */
} nn_pack;
void nn_pack_set(nn_graph *g, const nn_pack *by);        /* copied; before anything is written */

/* Pointwise. b's dimensions, aligned at the right, are a's or 1 (or missing). */
nn_tensor nn_add(nn_graph *g, nn_tensor a, nn_tensor b);
nn_tensor nn_sub(nn_graph *g, nn_tensor a, nn_tensor b);
nn_tensor nn_mul(nn_graph *g, nn_tensor a, nn_tensor b);
nn_tensor nn_scale(nn_graph *g, nn_tensor x, float by);
nn_tensor nn_silu(nn_graph *g, nn_tensor x);             /* x * sigmoid(x) */
nn_tensor nn_gelu(nn_graph *g, nn_tensor x);             /* x * Phi(x), the erf form */
nn_tensor nn_quick_gelu(nn_graph *g, nn_tensor x);       /* x * sigmoid(1.702 x) */
nn_tensor nn_relu(nn_graph *g, nn_tensor x);             /* x where positive, else 0 (slope 0 at 0) */
nn_tensor nn_geglu(nn_graph *g, nn_tensor x);            /* [..., 2c] -> [..., c]: first half * gelu(second half) */

/* Matrix products. linear: x [..., in], w [out, in], bias [out] or NULL -> [..., out]; w [p, out, in]: x's rows are p
 * neighbouring parts, each with a matrix of its own.
 * matmul: a [m,k], b [k,n] -> [m,n], or both with one leading batch dimension; ta/tb: that operand lies transposed. */
nn_tensor nn_linear(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias);
nn_tensor nn_matmul(nn_graph *g, nn_tensor a, nn_tensor b, bool ta, bool tb);

/* x [n,h,w,c], w [o,kh,kw,c], bias [o] or NULL. pad: zeros at {top, left, bottom, right}. */
typedef struct { int stride; int pad[4]; } nn_conv;
nn_tensor nn_conv2d(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, nn_conv at);

/* The largest, or the mean, of each k x k window of x [n,h,w,c]. What lies outside x is left out of it; for MEAN_WHOLE
 * it counts as zeros. For measuring models, which are not trained: no gradient has a rule. */
typedef enum { NN_POOL_MAX, NN_POOL_MEAN, NN_POOL_MEAN_WHOLE } nn_pool;
nn_tensor nn_pool2d(nn_graph *g, nn_tensor x, nn_pool how, int k, nn_conv at);

nn_tensor nn_group_norm(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, int groups, float eps); /* x [n,h,w,c] */
nn_tensor nn_group_norm_silu(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, int groups, float eps); /* in one pass */
nn_tensor nn_layer_norm(nn_graph *g, nn_tensor x, nn_tensor w, nn_tensor bias, float eps);             /* last dim */

/* softmax(scale q k') v per head, scale = 1/sqrt(c/heads); q [n,tq,c], k, v [n,tk,c] -> [n,tq,c]. causal: tq == tk. */
nn_tensor nn_attention(nn_graph *g, nn_tensor q, nn_tensor k, nn_tensor v, int heads, bool causal);

/* Shapes. reshape and detach are names for the same memory. */
nn_tensor nn_reshape(nn_graph *g, nn_tensor x, nn_shape s);
nn_tensor nn_detach(nn_graph *g, nn_tensor x);           /* no gradient flows back */
nn_tensor nn_detach_rows(nn_graph *g, nn_tensor x, int rows);         /* x [n,t,c]: none through the first rows of t */
nn_tensor nn_slice(nn_graph *g, nn_tensor x, int dim, int64_t from, int64_t count);
nn_tensor nn_concat(nn_graph *g, nn_tensor a, nn_tensor b);           /* along the last dimension */
nn_tensor nn_upsample(nn_graph *g, nn_tensor x, int64_t h, int64_t w); /* nearest: source row = y * h_in / h (floor) */
nn_tensor nn_sum_to(nn_graph *g, nn_tensor x, nn_shape s);            /* sums where s has 1 or nothing */
nn_tensor nn_expand(nn_graph *g, nn_tensor x, nn_shape s);            /* repeats where x has 1 or nothing */

/* table [rows, c], ids I32 [n,t] -> [n,t,c]; id i reads row i - first, and gives zeros outside 0..rows-1: the sum of
 * a frozen vocabulary (first 0) and the modifier tokens' rows (first = vocabulary size) is one embedding. */
nn_tensor nn_embedding(nn_graph *g, nn_tensor table, nn_tensor ids, int64_t first);
/* Sinusoids of t F32 [n] -> [n, dim] (Ho 2020; flip: cosines first; shift: diffusers' freq_shift). */
nn_tensor nn_timestep_embedding(nn_graph *g, nn_tensor t, int64_t dim, bool flip_sin_to_cos, float freq_shift);

/* at I32 [n, NN_STREAM] -> [n, ...one] of N(0, 1): number i of row k is rng_normal(stream k, i), the four words of an
 * rng_stream (cluster/base/rng.h) being as they are. So noise is made where it is used, and a seed's is the same everywhere. */
enum { NN_STREAM = 4 };
nn_tensor nn_normal(nn_graph *g, nn_tensor at, nn_shape one);

/* Per sample: sum over the rest of mask * (a - b)^2. a, b [n,h,w,c]; mask [n,h,w] or NULL -> [n]. A loss is
 * sum_to(mul(squared_error, weight), [1]) with the weight of each sample, means included, written by the caller. */
nn_tensor nn_squared_error(nn_graph *g, nn_tensor a, nn_tensor b, nn_tensor mask);
nn_tensor nn_sum_squares(nn_graph *g, nn_tensor x);      /* -> [1], in a fixed order; for gradient norms */

/* AdamW (Loshchilov, Hutter 2019) in place on states w, m, v [p, count] (p: concepts of a pack) with gradient d.
 * hyper F32 [p, NN_ADAMW_HYPER]. base [p, count] or NULL: decay pulls toward it instead of toward 0. Returns w. */
enum {
    ADAMW_LR,
    ADAMW_BETA1,
    ADAMW_BETA2,
    ADAMW_EPS,
    ADAMW_DECAY,
    ADAMW_CORRECT1,   /* 1 - beta1^t, t counted from 1 */
    ADAMW_CORRECT2,   /* 1 - beta2^t */
    ADAMW_GRAD_SCALE, /* multiplies d first: a clipping coefficient, or 1 */
    ADAMW_ROUND,      /* for w of 16 bits: the four words of an rng_stream, as they are */
    NN_ADAMW_HYPER = ADAMW_ROUND + 4
};
/* m and v may be of 8 bits: states [p, nn_moments8(count)], count a multiple of 4, of codes packed four to an element and one
 * scale for each NN_MOMENT_BLOCK of them (Dettmers et al. 2022). Zeros are zeros in this form, too. */
enum { NN_MOMENT_BLOCK = 2048 };
int64_t nn_moments8(int64_t count);
/* w may be of 16 bits: a state [p, count / 2], count even, of bf16, two to an element. Element i is then rounded up with the
 * chance that its value says, by the 16 bits i of the stream (half i % 2 of its number i / 2), so that small updates are
 * kept in the mean, and the same ones come again (Gupta, Agrawal, Gopalakrishnan, Narayanan 2015). */
nn_tensor nn_adamw(nn_graph *g, nn_tensor w, nn_tensor m, nn_tensor v, nn_tensor d, nn_tensor hyper, nn_tensor base);
/* hyper [p, NN_ADAMW_HYPER] with, in ADAMW_GRAD_SCALE, the most that a gradient's norm may be (0: any); norm2 [p] its square,
 * losses [p, n] -> hyper with the scale that makes it so, as torch's clip_grad_norm_; a concept of which any of these is no
 * finite number has lr 0 and does not move. */
nn_tensor nn_clip(nn_graph *g, nn_tensor hyper, nn_tensor norm2, nn_tensor losses);

nn_tensor nn_cast(nn_graph *g, nn_tensor x, dtype t);

/* What is written from here on is computed in f32, whatever the backend computes in: for numbers that programs compare with
 * each other (the features of words, which a training writes down and a merge works out again). */
void nn_exact(nn_graph *g);

/* Memory for time: what stands in a unit is computed again on the way back, from what came into the unit, instead of being
 * kept from the way there (Chen, Xu, Zhang, Guestrin 2016). unit tells how many of a scope's first characters name the
 * unit it is in; 0: in none. Said before nn_backward; every number stays the same to the last bit. */
typedef size_t nn_unit(const char *scope);
void nn_recompute(nn_graph *g, nn_unit *unit);

/* Writes d(loss)/d(wrt[i]) as more graph and returns it in grad[i] (zeros where the loss does not depend on it).
 * Only what lies between wrt and the loss gets a gradient. seed: d(loss)/d(loss), or NULL for 1; where seed is given
 * loss may have any shape and seed has the same (a cotangent). */
int nn_backward(nn_graph *g, nn_tensor loss, nn_tensor seed, const nn_tensor wrt[], nn_tensor grad[], int n, err *e);
#endif
