/* matmul, and convolutions by 1x1, which are products of all pixels, through cuBLASLt, the bias in its epilogue where it has one for it, and what is added to the result (nn_call.more) as
 * cuBLASLt's C: f32 in and out, f32 sums (no TF32); or sources rounded to bf16, sums and results in f32. A frozen second factor
 * is rounded once, what changes in every run, into scratch.
 *
 * cuBLASLt's matrices lie by columns, ours by rows: a row-major M is its transpose to cuBLASLt. So it is asked for
 * Y' [n, m] = B' A', with B as the first factor; a factor that lies turned for us is then asked for transposed, and the
 * bias, one number a column of ours, is its one number a row. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_kernels.h"
#include "trainer/nn/cuda/cuda_search.h"
#include "trainer/nn/cuda/cuda_walks.h"

/* cuBLASLt reads a bias in vectors; where it lies otherwise, our own kernel adds it. */
enum { SCRATCH = CUDA_LT_SCRATCH, BIAS_ALIGN = 16 };

typedef struct {
    cuda_product p;
    cublasLtMatmulAlgo_t algo;
    bool biases;               /* the bias is added by our own kernel: no epilogue takes it */
    void *b;                   /* the frozen second factor in bf16, or NULL */
    const void *b_from;
    nn_backend *on;            /* whose b is */
    size_t a_bytes, b_bytes;   /* of scratch for the rounded ones */
} gemm;

static void gemm_free(gemm *g)
{
    if (!g)
        return;
    cublasLtMatrixLayoutDestroy(g->p.left);
    cublasLtMatrixLayoutDestroy(g->p.right);
    cublasLtMatrixLayoutDestroy(g->p.out);
    cublasLtMatmulDescDestroy(g->p.how);
    free(g);
}

/* Hands a refusal up, as TRY does. */
#define LT(call)                                                                                             \
    do {                                                                                                     \
        cublasStatus_t rc_ = (call);                                                                         \
        if (rc_ != CUBLAS_STATUS_SUCCESS)                                                                    \
            return rc_;                                                                                      \
    } while (0)

/* Of a convolution by 1x1: pixels times channels. */
static mat_shape pixels_of(nn_tensor y)
{
    const conv_shape v = conv_shape_of(y);
    const int64_t pixels = v.n * v.h * v.w;

    switch (y->op->id) {
    case NN_OP_conv2d_grad_x: return (mat_shape){.batch = 1, .m = pixels, .n = v.c, .k = v.o};             /* dy w */
    case NN_OP_conv2d_grad_w: return (mat_shape){.batch = 1, .m = v.o, .n = v.c, .k = pixels, .ta = true}; /* dy' x */
    default: return (mat_shape){.batch = 1, .m = pixels, .n = v.o, .k = v.c, .tb = true};                 /* x w' */
    }
}

static mat_shape shape_of(nn_tensor y)
{
    return y->op->id == NN_OP_matmul ? mat_shape_of(y) : pixels_of(y);
}

/* Which source is the first factor; the other one is the second. */
static int first_of(nn_tensor y)
{
    return y->op->id == NN_OP_conv2d_grad_w;
}

/* A forward pass's third source; gradients have none. */
static bool has_bias(nn_tensor y)
{
    return y->src[2] != NULL;
}

/* `count` matrices one behind the other, each rows x cols by columns with nothing between these. */
static cublasStatus_t layout(cublasLtMatrixLayout_t *out, bool half, int64_t rows, int64_t cols, int64_t count)
{
    int32_t batch = (int32_t)count;
    int64_t apart = rows * cols;

    LT(cublasLtMatrixLayoutCreate(out, half ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows, (uint64_t)cols, rows));
    LT(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    return cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &apart, sizeof apart);
}

static cublasStatus_t set_epilogue(cuda_product *p)
{
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = CUDA_R_32F;

    LT(cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
    LT(cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    return cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
}

static cublasStatus_t describe(cuda_product *p, const mat_shape *s)
{
    cublasOperation_t left = s->tb ? CUBLAS_OP_T : CUBLAS_OP_N, right = s->ta ? CUBLAS_OP_T : CUBLAS_OP_N;

    LT(cublasLtMatmulDescCreate(&p->how, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left));
    LT(cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right));
    if (p->bias)
        LT(set_epilogue(p));
    LT(layout(&p->left, p->key.half, s->tb ? s->k : s->n, s->tb ? s->n : s->k, s->batch));
    LT(layout(&p->right, p->key.half, s->ta ? s->m : s->k, s->ta ? s->k : s->m, s->batch));
    return layout(&p->out, p->key.narrow, s->n, s->m, s->batch);
}

/* The largest power of two up to 256 that divides the place. */
static uint32_t alignment(const void *mem)
{
    uintptr_t at = (uintptr_t)mem | 256;

    return (uint32_t)(at & -at);
}

/* The heuristic's answers that can be run here. How many are asked for is always the same, since what comes first may depend
 * on it. */
static cublasStatus_t list(const cuda_product *p, cublasLtHandle_t handle, cuda_algos *out)
{
    const size_t scratch = SCRATCH;
    const uint32_t a = (uint32_t)p->key.align[0], b = (uint32_t)p->key.align[1], d = (uint32_t)p->key.align[2],
                   c = (uint32_t)p->key.align[3];
    cublasLtMatmulHeuristicResult_t found[CUDA_LT_ALGOS];
    cublasLtMatmulPreference_t want;
    int n = 0;

    LT(cublasLtMatmulPreferenceCreate(&want));
    const struct { cublasLtMatmulPreferenceAttributes_t which; const void *value; size_t size; } set[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch, sizeof scratch},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d},
    };
    cublasStatus_t rc = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof set / sizeof *set && rc == CUBLAS_STATUS_SUCCESS; i++)
        rc = cublasLtMatmulPreferenceSetAttribute(want, set[i].which, set[i].value, set[i].size);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = cublasLtMatmulAlgoGetHeuristic(handle, p->how, p->left, p->right, p->out, p->out, want, CUDA_LT_ALGOS, found, &n);
    cublasLtMatmulPreferenceDestroy(want);
    out->n = 0;
    for (int i = 0; i < n && rc == CUBLAS_STATUS_SUCCESS; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= SCRATCH)
            out->list[out->n++] = found[i];
    return rc == CUBLAS_STATUS_SUCCESS && out->n == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : rc;
}

/* Where things lie, which decides what loads an algorithm may use. bias, more: NULL where there is none; any place while only the
 * list is wanted. narrow: the result is in bf16. */
typedef struct { const void *b, *a, *y, *more, *bias; bool narrow; } gemm_at;

static struct cuda_product_key key_of(const mat_shape *s, bool half, gemm_at p)
{
    return (struct cuda_product_key){half, p.narrow, p.bias != NULL, p.more != NULL, s->ta, s->tb, s->batch, s->m, s->n, s->k,
                                     {alignment(p.b), alignment(p.a), alignment(p.y), alignment(p.more ? p.more : p.y),
                                      p.bias ? alignment(p.bias) : 0}};
}

static cublasStatus_t try_make(gemm **out, cuda_algos *algos, const cuda *on, nn_tensor y, bool half, gemm_at p)
{
    const mat_shape s = shape_of(y);
    gemm *g = NEW(gemm);

    g->p.bias = p.bias;
    g->p.key = key_of(&s, half, p);
    cublasStatus_t rc = describe(&g->p, &s);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = list(&g->p, on->gemm, algos);
    if (rc == CUBLAS_STATUS_SUCCESS)
        *out = g;
    else
        gemm_free(g);
    return rc;
}

static cublasStatus_t gemm_make(gemm **out, cuda_algos *algos, const cuda *on, nn_tensor y, bool half, gemm_at p)
{
    const bool epilogue = !p.bias || (uintptr_t)p.bias % BIAS_ALIGN == 0;

    cublasStatus_t rc = epilogue ? try_make(out, algos, on, y, half, p) : CUBLAS_STATUS_NOT_SUPPORTED;

    if (rc == CUBLAS_STATUS_SUCCESS || !p.bias)
        return rc;
    p.bias = NULL;
    LT(try_make(out, algos, on, y, half, p));
    (*out)->biases = true;
    return CUBLAS_STATUS_SUCCESS;
}

/* A place that is only a multiple of 4 bytes: what is found for it is found for every f32 tensor. Scratch lies better. */
static const void *const ANYWHERE = (const void *)4, *const IN_SCRATCH = (const void *)256;

/* Where a plan puts what is in bf16. */
static const void *const IN_ARENA = (const void *)64;

struct cuda_asked {
    struct cuda_product_key key;
    bool has;
};

/* Whether cuBLASLt has an algorithm for it, asked once for each kind: plans ask again and again. */
static bool has(cuda *on, nn_tensor y, bool half, gemm_at p)
{
    const mat_shape s = shape_of(y);
    struct cuda_asked one = {key_of(&s, half, p), false};
    cuda_algos algos;
    gemm *g;

    for (size_t i = 0; i < on->asked_n; i++)
        if (memcmp(&on->asked[i].key, &one.key, sizeof one.key) == 0)
            return on->asked[i].has;
    one.has = gemm_make(&g, &algos, on, y, half, p) == CUBLAS_STATUS_SUCCESS;
    if (one.has)
        gemm_free(g);
    on->asked = mem_grow(on->asked, on->asked_n + 1, sizeof *on->asked);
    on->asked[on->asked_n++] = one;
    return one.has;
}

static const char *takes_as(const struct nn_node *y, bool half)
{
    const void *const from = half ? IN_SCRATCH : ANYWHERE;
    const gemm_at places = {from, from, ANYWHERE, NULL, has_bias(y) ? ANYWHERE : NULL, false};
    const mat_shape s = shape_of(y);

    if (cuda_needs_f32(y))
        return cuda_needs_f32(y);
    if (!cuda_current())
        return "no device is in use";
    if (s.batch > INT32_MAX || s.k == 0)
        return "needs columns to multiply, and fewer than 2^31 matrices";
    return has(cuda_current(), y, half, places) ? NULL : "cuBLASLt has no algorithm for it";
}

static const char *takes(const struct nn_node *y)
{
    return takes_as(y, false);
}

static const char *takes_bf16(const struct nn_node *y)
{
    return takes_as(y, true);
}

static const char *takes_pixels(const struct nn_node *y)
{
    const conv_shape v = conv_shape_of(y);

    if (v.kh != 1 || v.kw != 1 || v.stride != 1 || v.h != v.oh || v.w != v.ow || v.top != 0 || v.left != 0)
        return "needs kernels of 1x1 that look at every pixel";
    return takes_as(y, true);
}

static int made(nn_backend *b, nn_call *c, bool half, gemm_at places, err *e)
{
    cuda_algos algos;
    gemm *g = NULL;
    cublasStatus_t rc = gemm_make(&g, &algos, cuda_of(b), c->y, half, places);

    if (rc != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ERR_DEVICE, "cuBLASLt: %s", cublasLtGetStatusString(rc));
    c->state = g;
    return cuda_search(b, &g->p, &algos, &g->algo, e);
}

static int prepare(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    const gemm_at places = {c->in[1], c->in[0], c->out, c->more, c->in[2], false};

    (void)frozen;
    c->scratch_bytes = SCRATCH;
    return c->sizing ? 0 : made(b, c, false, places, e);
}

/* A bias is of the result's type for cuBLASLt, and ours is f32. */
static bool has_narrow(const struct nn_node *y)
{
    const gemm_at places = {IN_SCRATCH, IN_SCRATCH, IN_ARENA, NULL, NULL, true};

    return cuda_current() && has(cuda_current(), y, true, places);
}

static bool narrows(const struct nn_node *y)
{
    return !has_bias(y) && has_narrow(y);
}

static bool leaves(const struct nn_node *y)
{
    return has_bias(y) && has_narrow(y);
}

static int prepare_bf16(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    const int first = first_of(c->y), second = 1 - first;
    const bool a_there = c->narrow_in >> first & 1, b_there = c->narrow_in >> second & 1;
    const gemm_at places = {b_there ? c->in[second] : IN_SCRATCH, a_there ? c->in[first] : IN_SCRATCH, c->out, c->more, c->in[2], c->narrow};
    int64_t an = nn_count(c->y->src[first]->shape), bn = nn_count(c->y->src[second]->shape);
    size_t a_bytes = a_there ? 0 : cuda_aligned(2 * an), b_bytes = frozen[second] || b_there ? 0 : cuda_aligned(2 * bn);

    void *leaf = NULL;

    c->scratch_bytes = SCRATCH + a_bytes + b_bytes;
    if (a_bytes)
        cuda_tell_rounding(c, an);
    if (b_bytes)
        cuda_tell_rounding(c, bn);
    c->own_bytes = frozen[second] && !c->leaf[1] ? 2 * (size_t)bn : 0;
    c->beside -= (double)c->own_bytes;
    if (c->leaf[1])
        TRY(cuda_half_leaf(b, c, &leaf, e));
    if (c->sizing)
        return 0;
    TRY(made(b, c, true, places, e));
    gemm *g = c->state;
    g->a_bytes = a_bytes;
    g->b_bytes = b_bytes;
    g->b = leaf;
    if (!frozen[second] || leaf)
        return 0;
    TRY(cuda_round(b, &g->b, c->in[second], bn, e));
    g->on = b;
    g->b_from = c->in[second];
    return 0;
}

static int multiply(nn_backend *b, const nn_call *c, const void *left, const void *right, void *scratch)
{
    const gemm *g = c->state;
    const float one = 1.0f, by = c->more ? 1.0f : 0.0f;
    const void *more = c->more ? c->more : c->out;
    cublasStatus_t rc = cublasLtMatmul(cuda_of(b)->gemm, g->p.how, &one, right, g->p.left, left, g->p.right, &by, more,
                                       g->p.out, c->out, g->p.out, &g->algo, scratch, SCRATCH, cuda_stream(b));

    TRY(cuda_took("cuBLASLt", rc == CUBLAS_STATUS_SUCCESS ? NULL : cublasLtGetStatusString(rc)));
    if (!g->biases)
        return 0;
    cuda_walk at = cuda_walk_in(&c->y->shape, &c->y->src[2]->shape);
    return cuda_ran(k_binary(cuda_stream(b), CUDA_ADD, c->out, c->out, c->in[2], at, nn_count(c->y->shape)));
}

static int run(nn_backend *b, const nn_call *c)
{
    return multiply(b, c, c->in[0], c->in[1], c->scratch);
}

/* Scratch: the workspace, then the rounded factors. */
static int run_bf16(nn_backend *b, const nn_call *c)
{
    const gemm *g = c->state;
    const int first = first_of(c->y), second = 1 - first;
    const void *left = c->in[first], *right = g->b ? g->b : c->in[second];
    char *at = (char *)c->scratch + SCRATCH;

    if (!(c->narrow_in >> first & 1)) {
        TRY(cuda_ran(k_cast(cuda_stream(b), at, CUDA_BF16, left, CUDA_F32, nn_count(c->y->src[first]->shape))));
        left = at;
    }
    if (!g->b && !(c->narrow_in >> second & 1)) {
        TRY(cuda_ran(k_cast(cuda_stream(b), at + g->a_bytes, CUDA_BF16, right, CUDA_F32, nn_count(c->y->src[second]->shape))));
        right = at + g->a_bytes;
    }
    return multiply(b, c, left, right, c->scratch);
}

static void done(nn_call *c)
{
    gemm *g = c->state;

    if (g && g->b_from)
        cuda_round_done(g->on, g->b_from);
    gemm_free(g);
    c->state = NULL;
}

const nn_kernel cuda_lt_matmul = {
    .name = "cuda.matmul.cublaslt", .adds = NN_ADDS_LIKE, .takes = takes, .prepare = prepare, .run = run, .done = done};
const nn_kernel cuda_lt_matmul_bf16 = {.name = "cuda.matmul.cublaslt_bf16", .adds = NN_ADDS_LIKE, .forms = 2, .takes_narrow = 3, .narrows = narrows, .halves = true,
                                       .narrow_sum = NN_SUM_HALVES,
                                       .leaves = leaves,
                                       .takes = takes_bf16, .prepare = prepare_bf16, .run = run_bf16, .done = done};

#define OF_PIXELS(NAME, LEAVES)                                                                              \
    const nn_kernel cuda_lt_##NAME##_bf16 = {.name = "cuda." #NAME ".cublaslt_bf16", .adds = NN_ADDS_LIKE, .forms = 2, .takes_narrow = 3, \
                                             .narrows = narrows, .halves = true, .narrow_sum = NN_SUM_HALVES, .leaves = LEAVES,           \
                                             .takes = takes_pixels, .prepare = prepare_bf16, .run = run_bf16, .done = done};

OF_PIXELS(conv2d, leaves)
OF_PIXELS(conv2d_grad_x, NULL)
OF_PIXELS(conv2d_grad_w, NULL)
