/* Operations that copy elements: what a node says, as the arguments of our kernels. */
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"

static int64_t product(nn_shape s, int from, int to)
{
    int64_t n = 1;

    for (int i = from; i < to; i++)
        n *= s.d[i];
    return n;
}

static int size_of(nn_tensor t)
{
    return (int)dtype_bytes(t->type);
}

static const char *needs_two_or_four_bytes(const struct nn_node *y)
{
    return size_of(y) == 2 || size_of(y) == 4 ? NULL : "needs f32, bf16, f16 or i32";
}

/* The rows that a part takes of a whole: `step` elements a row of the whole, the part's from `at`. */
typedef struct { int64_t rows, width, at, step; } stretch;

static stretch stretch_of(nn_tensor whole, nn_tensor y)
{
    int dim = y->at.part.dim;
    int64_t after = product(whole->shape, dim + 1, whole->shape.n);

    return (stretch){.rows = product(whole->shape, 0, dim), .width = y->at.part.count * after,
                     .at = y->at.part.from * after, .step = whole->shape.d[dim] * after};
}

static int run_slice(nn_backend *b, const nn_call *c)
{
    stretch s = stretch_of(c->y->src[0], c->y);
    cuda_rows r = {.rows = s.rows, .width = s.width, .out_step = s.width, .in_at = s.at, .in_step = s.step};

    if (c->y->type == F32)
        return cuda_ran(k_cut_rows(cuda_stream(b), c->out, c->narrow, c->in[0], r, c->more, c->twin));
    return cuda_ran(k_copy_rows(cuda_stream(b), c->out, c->in[0], r, size_of(c->y)));
}

static int run_pad(nn_backend *b, const nn_call *c)
{
    stretch s = stretch_of(c->y, c->y);
    cuda_rows r = {.rows = s.rows, .width = s.width, .out_at = s.at, .out_step = s.step, .in_step = s.width};
    cudaError_t rc = cudaMemsetAsync(c->out, 0, (size_t)nn_bytes(c->y), cuda_stream(b));

    return cuda_ran(rc == cudaSuccess ? k_copy_rows(cuda_stream(b), c->out, c->in[0], r, size_of(c->y)) : rc);
}

static cudaError_t copy_rows(nn_backend *b, const nn_call *c, const void *in, cuda_rows r)
{
    return c->narrow ? k_round_rows(cuda_stream(b), c->out, in, r) : k_copy_rows(cuda_stream(b), c->out, in, r, size_of(c->y));
}

static int prepare_concat(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)b, (void)frozen, (void)e;
    c->launches = 1;
    return 0;
}

static int run_concat(nn_backend *b, const nn_call *c)
{
    int last = c->y->shape.n - 1;
    int64_t p = c->y->src[0]->shape.d[last], q = c->y->src[1]->shape.d[last];
    cuda_rows left = {.rows = product(c->y->shape, 0, last), .width = p, .out_step = p + q, .in_step = p};
    cuda_rows right = {.rows = left.rows, .width = q, .out_at = p, .out_step = p + q, .in_step = q};
    cudaError_t rc = copy_rows(b, c, c->in[0], left);

    return cuda_ran(rc == cudaSuccess ? copy_rows(b, c, c->in[1], right) : rc);
}

static int run_zero_rows(nn_backend *b, const nn_call *c)
{
    nn_shape s = c->y->shape;
    const bool half = c->narrow_in & 1, changes = half != c->narrow;
    cudaError_t rc = cudaSuccess;

    if (changes)
        rc = k_cast(cuda_stream(b), c->out, c->narrow ? CUDA_BF16 : CUDA_F32, c->in[0], half ? CUDA_BF16 : CUDA_F32, nn_count(s));
    return cuda_ran(rc == cudaSuccess ? k_zero_rows(cuda_stream(b), c->out, changes ? c->out : c->in[0], s.d[0], s.d[1], s.d[2],
                                                    c->y->at.part.count, c->narrow ? 2 : size_of(c->y)) : rc);
}

static cuda_zoom zoom_of(nn_shape small, nn_shape large)
{
    return (cuda_zoom){.n = small.d[0], .h = small.d[1], .w = small.d[2], .oh = large.d[1], .ow = large.d[2],
                       .c = small.d[3]};
}

static int run_upsample(nn_backend *b, const nn_call *c)
{
    cuda_zoom z = zoom_of(c->y->src[0]->shape, c->y->shape);

    return cuda_ran(k_upsample(cuda_stream(b), c->out, c->narrow, c->in[0], z, size_of(c->y)));
}

static int run_upsample_grad(nn_backend *b, const nn_call *c)
{
    cuda_zoom z = zoom_of(c->y->shape, c->y->src[0]->shape);

    return cuda_ran(k_upsample_grad(cuda_stream(b), c->out, c->in[0], c->narrow_in & 1, z));
}

CUDA_LIST(slice, .takes = needs_two_or_four_bytes, .adds = NN_ADDS_LIKE, .narrow_sum = NN_SUM_ROUNDED, .narrows = cuda_narrows, .twins = true,
          .run = run_slice);
CUDA_LIST(pad, .takes = needs_two_or_four_bytes, .run = run_pad);
CUDA_LIST(concat, .takes = needs_two_or_four_bytes, .narrows = cuda_narrows, .prepare = prepare_concat, .run = run_concat);
CUDA_LIST(zero_rows, .takes = needs_two_or_four_bytes, .over = 1, .takes_half = 1, .narrows = cuda_narrows, .run = run_zero_rows);
CUDA_LIST(upsample, .takes = needs_two_or_four_bytes, .narrows = cuda_narrows, .run = run_upsample);
CUDA_LIST(upsample_grad, .takes = cuda_needs_f32, .takes_half = 1, .run = run_upsample_grad);
