/* Attention and its gradient through cuDNN, beside our own kernels (cuda_attend.c): taken first where CFARM_CUDA_ATTENTION=cudnn
 * asks for it. cuDNN knows attention by its graph: products, a scale, a mask, a softmax of its parts, each an operation of its own,
 * whose scores lie nowhere; one engine computes all of it. Engines are compiled for each shape when a plan is made, half a second each.
 *
 * Sources and results are bf16, rows of heads * d as they are: strides tell. A pass leaves the log-sums in scratch, which become ours
 * (cuda_attend.h); a gradient makes cuDNN's of those again.
 *
 * The gradient for q is where bits are lost: where it is f32, or comes by way of f32, it is added up by atomics, in any order, and no
 * note of an engine says so. Asked for it in bf16 an engine wants scratch of 2 bytes a score, and is taken to keep its bits (test_flash
 * looks, on a GPU). That is 2 GiB at 4096 tokens and 8 samples of 8 heads, which is more than we give (cuda_dnn.c); such a gradient is
 * ours. CFARM_CUDA_ATTENTION=atomics takes the other kind. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda_attend.h"
#include "trainer/nn/cuda/cuda_dnn.h"

/* cuDNN's names of what has a place; what has none is numbered from ID_NOWHERE on. */
enum { ID_Q = 1, ID_K, ID_V, ID_Y, ID_SUMS, ID_SCALE, ID_DY, ID_DOTS, ID_DQ, ID_DQ_F32, ID_DK, ID_DV, ID_ONE, ID_HIDDEN, ID_NOWHERE };
enum { PARTS = 96, OPS = 24 }; /* more than a graph has */

struct cuda_sdpa_key { int64_t back, atomics, n, heads, tq, tk, d, causal; };

/* What cuDNN gave for it. */
struct cuda_sdpa {
    struct cuda_sdpa *next;
    struct cuda_sdpa_key key;
    cudnnStatus_t rc;          /* the first refusal; nothing is made behind it */
    desc parts[PARTS], ops[OPS], plan; /* plan NULL: there is no engine for it */
    int part_n, op_n;
    int64_t scratch;
};

static void forget_parts(struct cuda_sdpa *v)
{
    while (v->part_n > 0)
        dnn_forget(&v->parts[--v->part_n]);
}

void cuda_sdpas_free(cuda *c)
{
    while (c->sdpas) {
        struct cuda_sdpa *v = c->sdpas;
        c->sdpas = v->next;
        dnn_forget(&v->plan);
        forget_parts(v);
        free(v);
    }
}

/* ---- the parts of a graph ---- */

static desc part(struct cuda_sdpa *v, cudnnBackendDescriptorType_t kind, const attribute *list, int n)
{
    CHECK(v->part_n < PARTS);
    desc *made = &v->parts[v->part_n++];

    *made = NULL;
    if (v->rc == CUDNN_STATUS_SUCCESS)
        v->rc = dnn_make(made, kind, list, n);
    return *made;
}

#define PART(v, kind, list) part(v, kind, list, (int)(sizeof(list) / sizeof *(list)))

static void operation(struct cuda_sdpa *v, cudnnBackendDescriptorType_t kind, const attribute *list, int n)
{
    CHECK(v->op_n < OPS);
    v->ops[v->op_n++] = part(v, kind, list, n);
}

/* Sample, head, row, column: how many, and how far apart. */
typedef struct { int64_t d[4], step[4]; } layout;

static layout rows_of(const struct cuda_sdpa_key *k, int64_t t)
{
    const int64_t c = k->heads * k->d;

    return (layout){{k->n, k->heads, t, k->d}, {t * c, k->d, c, 1}};
}

static layout scores_of(const struct cuda_sdpa_key *k)
{
    return (layout){{k->n, k->heads, k->tq, k->tk}, {k->heads * k->tq * k->tk, k->tq * k->tk, k->tk, 1}};
}

/* A number for each query of each head. */
static layout column_of(const struct cuda_sdpa_key *k)
{
    return (layout){{k->n, k->heads, k->tq, 1}, {k->heads * k->tq, k->tq, 1, 1}};
}

static layout turned(layout a)
{
    return (layout){{a.d[0], a.d[1], a.d[3], a.d[2]}, {a.step[0], a.step[1], a.step[3], a.step[2]}};
}

/* Sums of q's gradient: head by head. */
static layout heads_of(const struct cuda_sdpa_key *k)
{
    return (layout){{k->n, k->heads, k->tq, k->d}, {k->heads * k->tq * k->d, k->tq * k->d, k->d, 1}};
}

static const layout NUMBER = {{1, 1, 1, 1}, {1, 1, 1, 1}};

static desc tensor(struct cuda_sdpa *v, cudnnDataType_t type, layout at, int64_t id)
{
    const bool nowhere = id == ID_NOWHERE, by_value = id == ID_SCALE || id == ID_ONE || id == ID_HIDDEN;
    const int64_t name = nowhere ? id + v->part_n : id, align = by_value ? sizeof(float) : DNN_ALIGN;
    const attribute list[] = {
        {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type},
        {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, at.d},
        {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, at.step},
        {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name},
        {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align},
        {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &nowhere},
        {CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value},
    };

    return PART(v, CUDNN_BACKEND_TENSOR_DESCRIPTOR, list);
}

static desc bf16_tensor(struct cuda_sdpa *v, layout at, int64_t id)
{
    return tensor(v, CUDNN_DATA_BFLOAT16, at, id);
}

static desc f32_tensor(struct cuda_sdpa *v, layout at, int64_t id)
{
    return tensor(v, CUDNN_DATA_FLOAT, at, id);
}

/* c = a b; gives c, as the others give their result */
static desc matmul(struct cuda_sdpa *v, desc a, desc b, desc c)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const attribute how[] = {{CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type}};
    const desc product = PART(v, CUDNN_BACKEND_MATMUL_DESCRIPTOR, how);
    const attribute list[] = {
        {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &a},
        {CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b},
        {CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c},
        {CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &product},
    };

    operation(v, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, list, 4);
    return c;
}

/* y = f(x), f(x, b), or x where t holds and b elsewhere; axis: of indices. In the type of y, but comparisons. */
static desc pointwise(struct cuda_sdpa *v, cudnnPointwiseMode_t f, cudnnDataType_t type, int64_t axis, desc x, desc b, desc t, desc y)
{
    const attribute how[] = {{CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &f},
                             {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type},
                             {CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis}};
    const desc each = part(v, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, how, f == CUDNN_POINTWISE_GEN_INDEX ? 3 : 2);
    attribute list[5] = {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &each},
                         {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x},
                         {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y}};
    int n = 3;

    if (b)
        list[n++] = (attribute){CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b};
    if (t)
        list[n++] = (attribute){CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t};
    operation(v, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, list, n);
    return y;
}

static desc each(struct cuda_sdpa *v, cudnnPointwiseMode_t f, desc x, desc b, desc y)
{
    return pointwise(v, f, CUDNN_DATA_FLOAT, 0, x, b, NULL, y);
}

static desc reduce(struct cuda_sdpa *v, cudnnReduceTensorOp_t f, desc x, desc y)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const attribute how[] = {{CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &f},
                             {CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type}};
    const desc sum = PART(v, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, how);
    const attribute list[] = {{CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &sum},
                              {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x},
                              {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y}};

    operation(v, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, list, 3);
    return y;
}

/* The same numbers in y's layout and type. */
static desc reshape(struct cuda_sdpa *v, desc x, desc y)
{
    const attribute list[] = {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x},
                              {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y}};

    operation(v, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, list, 2);
    return y;
}

/* ---- the two graphs: cuDNN finds its engines by this very order of operations ---- */

/* Scores of keys that a query may not see become what is hidden. */
static desc hide(struct cuda_sdpa *v, desc s)
{
    const layout at = scores_of(&v->key);
    desc row, col, seen;

    if (!v->key.causal)
        return s;
    row = pointwise(v, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, 2, s, NULL, NULL, tensor(v, CUDNN_DATA_INT32, at, ID_NOWHERE));
    col = pointwise(v, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, 3, s, NULL, NULL, tensor(v, CUDNN_DATA_INT32, at, ID_NOWHERE));
    seen = pointwise(v, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, 0, row, col, NULL, tensor(v, CUDNN_DATA_BOOLEAN, at, ID_NOWHERE));
    return pointwise(v, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, 0, s, f32_tensor(v, NUMBER, ID_HIDDEN), seen,
                     f32_tensor(v, at, ID_NOWHERE));
}

/* y = softmax(scale q k^T) v; sums = log of the sum of exp(scores) */
static void describe_pass(struct cuda_sdpa *v)
{
    const layout q = rows_of(&v->key, v->key.tq), k = rows_of(&v->key, v->key.tk), at = scores_of(&v->key), column = column_of(&v->key);
    desc s, most, e, sum, log_sum, p;

    s = matmul(v, bf16_tensor(v, q, ID_Q), bf16_tensor(v, turned(k), ID_K), f32_tensor(v, at, ID_NOWHERE));
    s = each(v, CUDNN_POINTWISE_MUL, s, f32_tensor(v, NUMBER, ID_SCALE), f32_tensor(v, at, ID_NOWHERE));
    s = hide(v, s);
    most = reduce(v, CUDNN_REDUCE_TENSOR_MAX, s, f32_tensor(v, column, ID_NOWHERE));
    e = each(v, CUDNN_POINTWISE_SUB, s, most, f32_tensor(v, at, ID_NOWHERE));
    e = each(v, CUDNN_POINTWISE_EXP, e, NULL, f32_tensor(v, at, ID_NOWHERE));
    sum = reduce(v, CUDNN_REDUCE_TENSOR_ADD, e, f32_tensor(v, column, ID_NOWHERE));
    log_sum = each(v, CUDNN_POINTWISE_LOG, sum, NULL, f32_tensor(v, column, ID_NOWHERE));
    each(v, CUDNN_POINTWISE_ADD, most, log_sum, f32_tensor(v, column, ID_SUMS));
    p = each(v, CUDNN_POINTWISE_DIV, e, sum, bf16_tensor(v, at, ID_NOWHERE));
    matmul(v, p, bf16_tensor(v, k, ID_V), bf16_tensor(v, q, ID_Y));
}

/* The gradient for q, ds times k: in bf16 at once, or by way of f32, which is added up by atomics. */
static void describe_dq(struct cuda_sdpa *v, desc ds, desc k, desc dq)
{
    desc sum;

    k = reshape(v, k, bf16_tensor(v, rows_of(&v->key, v->key.tk), ID_NOWHERE));
    if (!v->key.atomics) {
        matmul(v, ds, k, dq);
        return;
    }
    sum = matmul(v, ds, k, f32_tensor(v, heads_of(&v->key), ID_DQ_F32));
    each(v, CUDNN_POINTWISE_IDENTITY, sum, NULL, dq);
}

/* p = exp(scale q k^T - sums), dv = p^T dy, ds = scale p (dy v^T - dots), dk = ds^T q, dq = ds k; dots = dy . y of each query */
static void describe_gradient(struct cuda_sdpa *v)
{
    const layout rows = rows_of(&v->key, v->key.tq), keys = rows_of(&v->key, v->key.tk), at = scores_of(&v->key), column = column_of(&v->key);
    const desc q = bf16_tensor(v, rows, ID_Q), k = bf16_tensor(v, turned(keys), ID_K), values = bf16_tensor(v, turned(keys), ID_V),
               dy = bf16_tensor(v, rows, ID_DY), scale = f32_tensor(v, NUMBER, ID_SCALE);
    desc dots, s, p, ds;

    dots = each(v, CUDNN_POINTWISE_MUL, dy, bf16_tensor(v, rows, ID_Y), f32_tensor(v, rows, ID_NOWHERE));
    dots = reduce(v, CUDNN_REDUCE_TENSOR_ADD, dots, f32_tensor(v, column, ID_NOWHERE));
    dots = each(v, CUDNN_POINTWISE_MUL, dots, f32_tensor(v, NUMBER, ID_ONE), f32_tensor(v, column, ID_DOTS));
    s = matmul(v, q, k, f32_tensor(v, at, ID_NOWHERE));
    s = each(v, CUDNN_POINTWISE_MUL, s, scale, f32_tensor(v, at, ID_NOWHERE));
    s = each(v, CUDNN_POINTWISE_SUB, s, f32_tensor(v, column, ID_SUMS), f32_tensor(v, at, ID_NOWHERE));
    s = hide(v, s);
    p = each(v, CUDNN_POINTWISE_EXP, s, NULL, f32_tensor(v, at, ID_NOWHERE));
    matmul(v, reshape(v, p, bf16_tensor(v, turned(at), ID_NOWHERE)), dy, bf16_tensor(v, keys, ID_DV));
    ds = matmul(v, dy, values, f32_tensor(v, at, ID_NOWHERE));
    ds = each(v, CUDNN_POINTWISE_SUB, ds, dots, f32_tensor(v, at, ID_NOWHERE));
    ds = each(v, CUDNN_POINTWISE_MUL, ds, p, f32_tensor(v, at, ID_NOWHERE));
    ds = each(v, CUDNN_POINTWISE_MUL, ds, scale, f32_tensor(v, at, ID_NOWHERE));
    matmul(v, reshape(v, ds, bf16_tensor(v, turned(at), ID_NOWHERE)), q, bf16_tensor(v, keys, ID_DK));
    describe_dq(v, ds, k, bf16_tensor(v, rows, ID_DQ));
}

static void search(struct cuda_sdpa *v, cudnnHandle_t handle)
{
    const dnn_wanted wanted = {.half = true, .cores = true, .compiled = true};
    desc graph;

    if (v->key.back)
        describe_gradient(v);
    else
        describe_pass(v);
    const attribute list[] = {{CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle},
                              {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, v->op_n, v->ops}};
    graph = PART(v, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, list);
    if (v->rc == CUDNN_STATUS_SUCCESS)
        v->rc = dnn_plan(&v->plan, &v->scratch, graph, handle, wanted);
    if (v->rc != CUDNN_STATUS_SUCCESS)
        forget_parts(v);
}

/* What cuDNN has for it, looked for once; NULL: nothing. */
static const struct cuda_sdpa *find(cuda *on, const struct cuda_sdpa_key *key)
{
    struct cuda_sdpa *v = on->sdpas;

    while (v && memcmp(&v->key, key, sizeof *key) != 0)
        v = v->next;
    if (!v) {
        v = NEW(struct cuda_sdpa);
        *v = (struct cuda_sdpa){.next = on->sdpas, .key = *key};
        on->sdpas = v;
        search(v, on->conv);
    }
    return v->plan ? v : NULL;
}

static struct cuda_sdpa_key key_of(const struct nn_node *y, bool back, const cuda *on)
{
    const att_shape s = att_shape_of(y);

    return (struct cuda_sdpa_key){back, back && on->attention == CUDA_ATTENTION_ATOMICS, s.n, s.heads, s.tq, s.tk, s.d, s.causal};
}

/* ---- what is taken ---- */

/* What NVIDIA's own front end refuses for, of releases whose answers are known to be wrong. */
static const char *wrong_before(const struct cuda_sdpa_key *k)
{
    const size_t version = cudnnGetVersion();

    if (version < 90100)
        return "needs cuDNN 9.1";
    if (version == 91000 || version == 91001)
        return "needs another cuDNN than 9.10.0 and 9.10.1, which compute it wrongly";
    if (k->back && k->tk % 128 != 0 && version <= 91500)
        return "needs a cuDNN after 9.15 for a gradient of keys that fill no tile of 128";
    if (k->atomics && version < 90600)
        return "needs cuDNN 9.6, which clears what it adds to";
    return NULL;
}

static const char *takes_as(const struct nn_node *y, bool back)
{
    if (cuda_takes_attention(y))
        return cuda_takes_attention(y);
    if (att_shape_of(y).d % 8 != 0)
        return "needs heads of a multiple of 8";
    if (!cuda_current())
        return "no device is in use";
    const struct cuda_sdpa_key key = key_of(y, back, cuda_current());
    if (wrong_before(&key))
        return wrong_before(&key);
    if (back && key.tq == 1 && key.tk == 1)
        return "needs more than one query or key";
    return find(cuda_current(), &key) ? NULL : "cuDNN has no engine for it that keeps its bits in a GiB of scratch";
}

static const char *takes(const struct nn_node *y)
{
    return takes_as(y, false);
}

/* Its pass has kept log-sums if it is ours or cuDNN's. */
static const char *takes_grad(const struct nn_node *y)
{
    const struct nn_node *pass = y->src[3];

    if (pass->op->id != NN_OP_attention || pass->exact || (!cuda_has_head(att_shape_of(y).d) && takes_as(pass, false)))
        return "needs a pass in bf16 before it";
    return takes_as(y, true);
}

/* ---- the calls: scratch is what is rounded, results in bf16, numbers of queries, the engine's own ---- */

enum { PASS_WANTS = 1 | 2 | 4, GRAD_WANTS = PASS_WANTS | 8 | 16 };

typedef struct {
    const struct cuda_sdpa *of;
    struct cuda_kept *kept;
    size_t rounded, results, column, sums_f32; /* bytes */
    float scale, one, hidden;                  /* what cuDNN takes by value */
} sdpa;

static int made(nn_backend *b, nn_call *c, bool back, err *e)
{
    const struct cuda_sdpa_key key = key_of(c->y, back, cuda_of(b));
    const struct cuda_sdpa *of = find(cuda_of(b), &key);
    const int64_t queries = key.n * key.heads * key.tq, results = nn_count(c->y->shape);

    if (!of)
        return err_set(e, ERR_DEVICE, "cuDNN has no engine for it any more");
    sdpa *v = NEW(sdpa);
    *v = (sdpa){.of = of,
                .rounded = cuda_rounded_bytes(c, back ? GRAD_WANTS : PASS_WANTS),
                .results = c->narrow ? 0 : cuda_aligned(2 * results),
                .column = cuda_aligned((int64_t)sizeof(float) * queries),
                .sums_f32 = key.atomics ? cuda_aligned((int64_t)sizeof(float) * queries * key.d) : 0,
                .scale = (float)(1.0 / sqrt((double)key.d)),
                .one = 1.0f,
                .hidden = cudnnGetVersion() < 91000 ? -3.402823466e38f : -INFINITY};
    c->state = v;
    c->scratch_bytes = v->rounded + v->results + (back ? 2 : 1) * v->column + v->sums_f32 + (size_t)of->scratch;
    cuda_tell_rounded(c, back ? GRAD_WANTS : PASS_WANTS);
    c->launches += 1 + !c->narrow;
    c->beside += c->narrow ? 0.0 : 4.0 * (double)results;
    return 0;
}

static int prepare(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)frozen;
    TRY(made(b, c, false, e));
    c->own_bytes = cuda_kept_bytes(c);
    return c->sizing ? 0 : cuda_keep(b, &((sdpa *)c->state)->kept, c, e);
}

static int prepare_grad(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)frozen;
    TRY(made(b, c, true, e));
    return c->sizing ? 0 : cuda_kept_by(b, &((sdpa *)c->state)->kept, c, e);
}

static void done(nn_call *c)
{
    sdpa *v = c->state;

    if (v)
        cuda_let_go(v->kept);
    free(v);
    c->state = NULL;
}

/* bf16 results where f32 is wanted. */
static int widen(nn_backend *b, const nn_call *c, const void *results)
{
    if (c->narrow)
        return 0;
    return cuda_ran(k_cast(cuda_stream(b), c->out, CUDA_F32, results, CUDA_BF16, nn_count(c->y->shape)));
}

static int run(nn_backend *b, const nn_call *c)
{
    const sdpa *v = c->state;
    const struct cuda_sdpa_key *k = &v->of->key;
    char *at = (char *)c->scratch + v->rounded, *column = at + v->results, *rest = column + v->column;
    uint16_t *half[CUDA_ROUNDINGS];
    void *y = c->narrow ? c->out : at;

    TRY(cuda_ran(cuda_round_sources(b, c, PASS_WANTS, half)));
    const int64_t ids[] = {ID_Q, ID_K, ID_V, ID_Y, ID_SUMS, ID_SCALE, ID_HIDDEN};
    const void *const places[] = {half[0], half[1], half[2], y, column, &v->scale, &v->hidden};
    TRY(dnn_took(dnn_execute(cuda_of(b)->conv, v->of->plan, ids, places, k->causal ? 7 : 6, rest)));
    TRY(cuda_ran(k_sums_of_logs(cuda_stream(b), v->kept->sums, (const float *)column, k->n * k->heads, k->tq)));
    return widen(b, c, at);
}

static int run_grad(nn_backend *b, const nn_call *c)
{
    const sdpa *v = c->state;
    const struct cuda_sdpa_key *k = &v->of->key;
    char *at = (char *)c->scratch + v->rounded, *sums = at + v->results, *dots = sums + v->column, *dq_f32 = dots + v->column,
         *rest = dq_f32 + v->sums_f32;
    uint16_t *half[CUDA_ROUNDINGS], *dq = c->narrow ? c->out : (uint16_t *)at, *dk = dq + nn_count(c->y->src[0]->shape),
                                    *dv = dk + nn_count(c->y->src[1]->shape);
    int64_t n = 11;

    TRY(cuda_ran(cuda_round_sources(b, c, GRAD_WANTS, half)));
    TRY(cuda_ran(k_logs_of_sums(cuda_stream(b), (float *)sums, v->kept->sums, k->n * k->heads, k->tq)));
    int64_t ids[14] = {ID_Q, ID_K, ID_V, ID_Y, ID_DY, ID_SUMS, ID_DOTS, ID_DQ, ID_DK, ID_DV, ID_SCALE};
    const void *places[14] = {half[0], half[1], half[2], half[3], half[4], sums, dots, dq, dk, dv, &v->scale};
    ids[n] = ID_ONE;
    places[n++] = &v->one;
    if (k->atomics) {
        ids[n] = ID_DQ_F32;
        places[n++] = dq_f32;
    }
    if (k->causal) {
        ids[n] = ID_HIDDEN;
        places[n++] = &v->hidden;
    }
    TRY(dnn_took(dnn_execute(cuda_of(b)->conv, v->of->plan, ids, places, n, rest)));
    return widen(b, c, at);
}

const nn_kernel cuda_dnn_attention = {.name = "cuda.attention.cudnn_bf16", .takes_narrow = PASS_WANTS, .narrows = cuda_narrows, .halves = true,
                                      .takes = takes,
                                      .prepare = prepare, .run = run, .done = done};
const nn_kernel cuda_dnn_attention_grad = {.name = "cuda.attention_grad.cudnn_bf16", .takes_narrow = GRAD_WANTS, .narrows = cuda_narrows, .halves = true,
                                           .takes = takes_grad, .prepare = prepare_grad, .run = run_grad, .done = done};
