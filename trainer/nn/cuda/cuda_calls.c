/* Pointwise operations, sums, words, losses and updates: what a node says, as the arguments of our kernels. */
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"
#include "trainer/nn/cuda/cuda_sources.h"
#include "trainer/nn/cuda/cuda_walks.h"

static int64_t count(const nn_call *c)
{
    return nn_count(c->y->shape);
}

static int64_t last(nn_shape s)
{
    return s.d[s.n - 1];
}

/* ---- pointwise ---- */

static int run_binary(nn_backend *b, const nn_call *c, cuda_binary op)
{
    cuda_walk at = cuda_walk_in(&c->y->shape, &c->y->src[1]->shape);

    return cuda_ran(k_binary(cuda_stream(b), op, c->out, c->in[0], c->in[1], at, count(c)));
}

#define BINARY(NAME, OP)                                                                                     \
    static int run_##NAME(nn_backend *b, const nn_call *c)                                                   \
    {                                                                                                        \
        return run_binary(b, c, OP);                                                                         \
    }                                                                                                        \
    CUDA_LIST(NAME, .takes = cuda_needs_f32, .over = 3, .run = run_##NAME);

BINARY(add, CUDA_ADD)
BINARY(sub, CUDA_SUB)
BINARY(mul, CUDA_MUL)

static int run_scale(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_scale(cuda_stream(b), c->out, c->in[0], c->y->at.scale, count(c)));
}

CUDA_LIST(scale, .takes = cuda_needs_f32, .over = 1, .run = run_scale);

#define ACTIVATION(NAME, F)                                                                                  \
    static int run_##NAME(nn_backend *b, const nn_call *c)                                                   \
    {                                                                                                        \
        return cuda_ran(k_act(cuda_stream(b), F, c->out, c->narrow, cuda_source_of(c, 0), count(c), last(c->y->shape))); \
    }                                                                                                        \
    static int run_##NAME##_grad(nn_backend *b, const nn_call *c)                                            \
    {                                                                                                        \
        return cuda_ran(k_act_grad(cuda_stream(b), F, c->out, c->narrow, cuda_source_of(c, 0), cuda_source_of(c, 1), count(c), \
                                   last(c->y->shape)));                                                      \
    }                                                                                                        \
    CUDA_LIST(NAME, .takes = cuda_needs_f32, .over = 1, .takes_half = 1, .takes_late = NN_LATE_BIAS, .narrows = cuda_narrows, .run = run_##NAME); \
    CUDA_LIST(NAME##_grad, .takes = cuda_needs_f32, .over = 3, .takes_half = 3, .takes_late = NN_LATE_BIAS, .narrows = cuda_narrows, \
              .run = run_##NAME##_grad);

ACTIVATION(silu, CUDA_SILU)
ACTIVATION(gelu, CUDA_GELU)
ACTIVATION(quick_gelu, CUDA_QUICK_GELU)
ACTIVATION(relu, CUDA_RELU)

static int run_geglu(nn_backend *b, const nn_call *c)
{
    int64_t width = last(c->y->shape);

    return cuda_ran(k_geglu(cuda_stream(b), c->out, c->narrow, cuda_source_of(c, 0), count(c) / width, width));
}

static int run_geglu_grad(nn_backend *b, const nn_call *c)
{
    int64_t width = last(c->y->shape) / 2;

    return cuda_ran(k_geglu_grad(cuda_stream(b), c->out, c->narrow, cuda_source_of(c, 0), cuda_source_of(c, 1), count(c) / (2 * width), width));
}

CUDA_LIST(geglu, .takes = cuda_needs_f32, .takes_half = 1, .takes_late = NN_LATE_BIAS, .narrows = cuda_narrows, .run = run_geglu);
CUDA_LIST(geglu_grad, .takes = cuda_needs_f32, .over = 1, .takes_half = 3, .takes_late = NN_LATE_BIAS, .narrows = cuda_narrows, .run = run_geglu_grad);

static cuda_float kind_of(dtype t)
{
    return t == F32 ? CUDA_F32 : t == BF16 ? CUDA_BF16 : CUDA_F16; /* cast's shape rule lets no other through */
}

static int run_cast(nn_backend *b, const nn_call *c)
{
    return cuda_ran(
        k_cast(cuda_stream(b), c->out, kind_of(c->y->type), c->in[0], kind_of(c->y->src[0]->type), count(c)));
}

CUDA_LIST(cast, .run = run_cast);

/* ---- sums and repetitions ---- */

static int run_sum_to(nn_backend *b, const nn_call *c)
{
    cuda_walk kept, summed;
    int64_t many = cuda_walks_of_sum(&c->y->src[0]->shape, &c->y->shape, &kept, &summed);

    return cuda_ran(k_sum_to(cuda_stream(b), c->out, c->in[0], kept, count(c), summed, many));
}

static int run_expand(nn_backend *b, const nn_call *c)
{
    cuda_walk at = cuda_walk_in(&c->y->shape, &c->y->src[0]->shape);

    return cuda_ran(k_expand(cuda_stream(b), c->out, c->in[0], at, count(c)));
}

static int prepare_sum_squares(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)b, (void)frozen, (void)e;
    c->scratch_bytes = CUDA_PARTS * sizeof(double);
    return 0;
}

static int run_sum_squares(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_sum_squares(cuda_stream(b), c->out, c->in[0], nn_count(c->y->src[0]->shape), c->scratch));
}

CUDA_LIST(sum_to, .takes = cuda_needs_f32, .run = run_sum_to);
CUDA_LIST(expand, .takes = cuda_needs_f32, .run = run_expand);
CUDA_LIST(sum_squares, .takes = cuda_needs_f32, .prepare = prepare_sum_squares, .run = run_sum_squares);

/* ---- words and time ---- */

static int run_embedding(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_embedding(cuda_stream(b), c->out, c->in[0], c->in[1], nn_count(c->y->src[1]->shape),
                                last(c->y->shape), c->y->at.embed.first, c->y->at.embed.rows));
}

static int run_embedding_grad(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_embedding_grad(cuda_stream(b), c->out, c->in[0], c->in[1], nn_count(c->y->src[0]->shape),
                                     last(c->y->shape), c->y->at.embed.first, c->y->at.embed.rows));
}

static int run_timestep_embedding(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_timestep_embedding(cuda_stream(b), c->out, c->in[0], c->y->shape.d[0], c->y->at.wave.dim,
                                         c->y->at.wave.flip, c->y->at.wave.shift));
}

CUDA_LIST(embedding, .takes = cuda_needs_f32, .run = run_embedding);
CUDA_LIST(embedding_grad, .takes = cuda_needs_f32, .run = run_embedding_grad);
CUDA_LIST(timestep_embedding, .takes = cuda_needs_f32, .run = run_timestep_embedding);

static int run_normal(nn_backend *b, const nn_call *c)
{
    int64_t n = c->y->shape.d[0];

    return cuda_ran(k_normal(cuda_stream(b), c->out, c->in[0], n, count(c) / n));
}

CUDA_LIST(normal, .takes = cuda_needs_f32, .run = run_normal);

/* ---- losses and updates ---- */

static int run_squared_error(nn_backend *b, const nn_call *c)
{
    nn_shape s = c->y->src[0]->shape;

    return cuda_ran(k_squared_error(cuda_stream(b), c->out, c->in[0], c->in[1], c->in[2], s.d[0], nn_count(s) / s.d[0],
                                    last(s)));
}

static int run_squared_error_grad(nn_backend *b, const nn_call *c)
{
    nn_shape s = c->y->shape;

    return cuda_ran(k_squared_error_grad(cuda_stream(b), c->out, c->in[0], c->in[1], c->in[2], c->in[3], s.d[0],
                                         nn_count(s) / s.d[0], last(s)));
}

CUDA_LIST(squared_error, .takes = cuda_needs_f32, .run = run_squared_error);
CUDA_LIST(squared_error_grad, .takes = cuda_needs_f32, .over = 3, .run = run_squared_error_grad);

/* cuda_update.cu cannot include nn.h and has this order of its own. */
_Static_assert(ADAMW_LR == 0 && ADAMW_BETA1 == 1 && ADAMW_BETA2 == 2 && ADAMW_EPS == 3 && ADAMW_DECAY == 4
                   && ADAMW_CORRECT1 == 5 && ADAMW_CORRECT2 == 6 && ADAMW_GRAD_SCALE == 7 && NN_ADAMW_HYPER == 12,
               "cuda_update.cu reads AdamW's numbers in another order");

/* The states are the kernel's to change: a graph gives no other way to write through a source. */
static int run_adamw(nn_backend *b, const nn_call *c)
{
    float *m = (float *)(uintptr_t)c->in[1], *v = (float *)(uintptr_t)c->in[2];

    return cuda_ran(k_adamw(cuda_stream(b), c->out, m, v, c->in[3], c->in[4], c->in[5], c->y->shape.d[0],
                            c->y->shape.d[1]));
}

static const char *needs_32_bits(const struct nn_node *y)
{
    nn_shape s = y->src[3]->shape;

    return nn_same_shape(y->src[0]->shape, s) && nn_same_shape(y->src[1]->shape, s) ? cuda_needs_f32(y)
                                                                                     : "needs weights and moments of 32 bits";
}

CUDA_LIST(adamw, .takes = needs_32_bits, .run = run_adamw);

static int run_clip(nn_backend *b, const nn_call *c)
{
    return cuda_ran(k_clip(cuda_stream(b), c->out, c->in[0], c->in[1], c->in[2], c->y->shape.d[0], c->y->src[2]->shape.d[1]));
}

CUDA_LIST(clip, .takes = cuda_needs_f32, .run = run_clip);
