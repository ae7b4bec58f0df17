/* conv2d and its two gradients through cuDNN's graph API (its C backend of descriptors): NHWC maps, kernels
 * [o, kh, kw, c], padding that may differ from side to side. A convolution is one operation in a graph of its own;
 * of the engines that compute as is promised, in f32 or of sources rounded to bf16 with sums in f32, the first is taken (cuda_dnn.c).
 *
 * Bias and what else is added to the result (nn_call.more) are further operations of that graph where an engine takes it whole;
 * else our own kernel adds both in one pass. Engines that are compiled when a plan is made, for each shape, which takes seconds,
 * come last, and are not taken for a whole graph at all; CFARM_CUDA_COMPILE=1 lets them come where cuDNN lists them.
 *
 * In bf16 frozen weights are rounded once, what changes in every run, into scratch. cuDNN makes no f32 of bf16 (but by an engine
 * that it compiles): results are bf16 in scratch and widened in the pass that adds bias and the rest. What is found for a shape is
 * kept for the device: plans ask for the same convolutions again and again. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cuda/cuda.h"
#include "trainer/nn/cuda/cuda_dnn.h"
#include "trainer/nn/cuda/cuda_kernels.h"
#include "trainer/nn/cuda/cuda_walks.h"

/* cuDNN's names of a convolution's three tensors, in all three operations. */
enum { ID_X = 'x', ID_W = 'w', ID_Y = 'y', ID_BIAS = 'b', ID_MORE = 'm', ID_BARE = 't', ID_BIASED = 'u' };

/* What is asked, and what an engine must be for it: on tensor cores, or whatever; a result in bf16; one
 * that is compiled first. */
typedef struct { bool cores, narrow, compiled; } attempt;

/* A convolution, and whether a bias and a sum are added behind it. */
struct cuda_conv_key {
    int64_t op;
    conv_shape at;
    int64_t half, biased, more;
};

/* What it gave. */
struct cuda_conv {
    struct cuda_conv *next;
    struct cuda_conv_key key;
    desc x, w, y, how, op, graph, plan;         /* plan NULL: there is no engine for it */
    desc bias, more, bare, biased, add, ops[2]; /* where the graph adds: bare and biased are on the way to y */
    int op_n;                                   /* of ops */
    attempt as;
    int64_t scratch;
};

/* A call's own. */
typedef struct {
    const struct cuda_conv *of;
    void *w_rounded;        /* the frozen kernel in bf16, or NULL */
    const void *w_from;
    nn_backend *on;         /* whose it is */
    size_t bytes[3];        /* of scratch for what is rounded: first source, second, result */
} conv;

/* What describes it; the key stays. */
static void forget_all(struct cuda_conv *v)
{
    desc *const all[] = {&v->plan, &v->graph, &v->ops[1], &v->ops[0], &v->op, &v->add, &v->biased, &v->bare,
                         &v->more, &v->bias,  &v->how,    &v->y,      &v->w,  &v->x};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dnn_forget(all[i]);
    v->op_n = 0;
}

void cuda_convs_free(cuda *c)
{
    while (c->convs) {
        struct cuda_conv *v = c->convs;
        c->convs = v->next;
        forget_all(v);
        free(v);
    }
}

/* ---- the graph ---- */

/* [n, h, w, c] in memory; cuDNN names the dimensions n, c, h, w whatever their order there. Half: of bf16. Those on the way lie
 * nowhere. */
static cudnnStatus_t tensor(desc *out, int64_t id, bool half, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const bool nowhere = id == ID_BARE || id == ID_BIASED;
    const int64_t dims[] = {n, c, h, w}, steps[] = {h * w * c, 1, w * c, c}, align = DNN_ALIGN;
    const cudnnDataType_t type = half ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const attribute list[] = {
        {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type},
        {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims},
        {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, steps},
        {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id},
        {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align},
        {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &nowhere},
    };

    return MAKE(out, CUDNN_BACKEND_TENSOR_DESCRIPTOR, list);
}

static cudnnStatus_t convolution(desc *out, const conv_shape *s)
{
    const int64_t two = 2, dilation[] = {1, 1}, stride[] = {s->stride, s->stride}, before[] = {s->top, s->left},
                  after[] = {s->bottom, s->right};
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const attribute list[] = {
        {CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type},
        {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode},
        {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride},
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after},
    };

    return MAKE(out, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, list);
}

/* How cuDNN calls one of the three operations and its parts. */
typedef struct {
    cudnnBackendDescriptorType_t kind;
    cudnnBackendAttributeName_t alpha, beta, how, x, w, y;
} naming;

static naming naming_of(nn_op_id op)
{
    switch (op) {
    case NN_OP_conv2d_grad_x:
        return (naming){CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
    case NN_OP_conv2d_grad_w:
        return (naming){CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};
    default:
        return (naming){CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    }
}

static cudnnStatus_t operation(struct cuda_conv *v, const desc *y)
{
    const naming at = naming_of((nn_op_id)v->key.op);
    const float one = 1.0f, zero = 0.0f;
    const attribute list[] = {
        {at.how, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->how}, {at.x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->x},
        {at.w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->w},     {at.y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, y},
        {at.alpha, CUDNN_TYPE_FLOAT, 1, &one},               {at.beta, CUDNN_TYPE_FLOAT, 1, &zero},
    };

    return MAKE(&v->op, at.kind, list);
}

/* to = from + by */
static cudnnStatus_t add(struct cuda_conv *v, const desc *to, const desc *from, const desc *by)
{
    const attribute list[] = {
        {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v->add},
        {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, from},
        {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, by},
        {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, to},
    };

    return MAKE(&v->ops[v->op_n++], CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, list);
}

/* What a forward pass adds on the way to y: nothing of it has memory but bias, more and y. */
static cudnnStatus_t adds(struct cuda_conv *v)
{
    const conv_shape *s = &v->key.at;
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const attribute list[] = {
        {CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode},
        {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type},
    };

    DNN(MAKE(&v->add, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, list));
    DNN(tensor(&v->bare, ID_BARE, false, s->n, s->oh, s->ow, s->o));
    if (v->key.more)
        DNN(tensor(&v->more, ID_MORE, false, s->n, s->oh, s->ow, s->o));
    if (!v->key.biased)
        return add(v, &v->y, &v->bare, &v->more);
    DNN(tensor(&v->bias, ID_BIAS, false, 1, 1, 1, s->o));
    if (!v->key.more)
        return add(v, &v->y, &v->bare, &v->bias);
    DNN(tensor(&v->biased, ID_BIASED, false, s->n, s->oh, s->ow, s->o));
    DNN(add(v, &v->biased, &v->bare, &v->bias));
    return add(v, &v->y, &v->biased, &v->more);
}

static cudnnStatus_t describe(struct cuda_conv *v, cudnnHandle_t handle)
{
    const conv_shape *s = &v->key.at;
    const int64_t op = v->key.op; /* whose result is x, w or y; the others are sources */
    const bool half = v->key.half;

    DNN(tensor(&v->x, ID_X, op == NN_OP_conv2d_grad_x ? v->as.narrow : half, s->n, s->h, s->w, s->c));
    DNN(tensor(&v->w, ID_W, op == NN_OP_conv2d_grad_w ? v->as.narrow : half, s->o, s->kh, s->kw, s->c));
    DNN(tensor(&v->y, ID_Y, op == NN_OP_conv2d ? v->as.narrow : half, s->n, s->oh, s->ow, s->o));
    DNN(convolution(&v->how, s));
    if (v->key.biased || v->key.more)
        DNN(adds(v));
    DNN(operation(v, v->op_n ? &v->bare : &v->y));
    const desc ops[] = {v->op, v->ops[0], v->ops[1]};
    const attribute list[] = {
        {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle},
        {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 + v->op_n, ops},
    };
    return MAKE(&v->graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, list);
}

/* ---- the search ---- */

/* In order of preference. */
static const attempt WHOLE[] = {{0}}, IN_F32[] = {{0}, {.compiled = true}},
                     IN_BF16[] = {{.cores = true},  {.cores = true, .narrow = true},   {.narrow = true},
                                  {0},              {.narrow = true, .compiled = true}, {.compiled = true}};

static bool try_make(struct cuda_conv *v, const cuda *on, attempt a)
{
    a.compiled = a.compiled || on->compiles;
    v->as = a;
    const dnn_wanted wanted = {.half = v->key.half, .cores = a.cores, .compiled = a.compiled};
    cudnnStatus_t rc = describe(v, on->conv);
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = dnn_plan(&v->plan, &v->scratch, v->graph, on->conv, wanted);
    if (rc != CUDNN_STATUS_SUCCESS)
        forget_all(v);
    return rc == CUDNN_STATUS_SUCCESS;
}

static void search(struct cuda_conv *v, const cuda *on)
{
    const bool whole = v->key.biased || v->key.more;
    const attempt *list = whole ? WHOLE : v->key.half ? IN_BF16 : IN_F32;
    const size_t n = (whole ? sizeof WHOLE : v->key.half ? sizeof IN_BF16 : sizeof IN_F32) / sizeof *list;

    for (size_t i = 0; i < n; i++)
        if (try_make(v, on, list[i]))
            return;
}

/* What cuDNN has for it, looked for once; NULL: nothing. */
static const struct cuda_conv *find(cuda *on, const struct cuda_conv_key *key)
{
    struct cuda_conv *v = on->convs;

    while (v && memcmp(&v->key, key, sizeof *key) != 0)
        v = v->next;
    if (!v) {
        v = NEW(struct cuda_conv);
        *v = (struct cuda_conv){.next = on->convs, .key = *key};
        on->convs = v;
        search(v, on);
    }
    return v->plan ? v : NULL;
}

/* The convolution alone. */
static struct cuda_conv_key key_of(nn_tensor y, bool half)
{
    return (struct cuda_conv_key){.op = y->op->id, .at = conv_shape_of(y), .half = half};
}

/* ---- the kernels ---- */

static const char *takes_as(const struct nn_node *y, bool half)
{
    const struct cuda_conv_key key = key_of(y, half);

    if (cuda_needs_f32(y))
        return cuda_needs_f32(y);
    if (!cuda_current())
        return "no device is in use";
    if (find(cuda_current(), &key))
        return NULL;
    return half ? "cuDNN has no engine for it in bf16 that keeps its bits" : "cuDNN has no engine for it that keeps f32 and its bits";
}

static const char *takes(const struct nn_node *y)
{
    return takes_as(y, false);
}

static const char *takes_bf16(const struct nn_node *y)
{
    return takes_as(y, true);
}

/* Whether its own engine's result is in bf16. */
static bool is_narrow(const struct nn_node *y)
{
    const struct cuda_conv_key key = key_of(y, true);
    const struct cuda_conv *v = find(cuda_current(), &key);

    return v && v->as.narrow;
}

static bool narrows(const struct nn_node *y)
{
    return !(y->op->id == NN_OP_conv2d && y->src[2]) && is_narrow(y);
}

static bool aligned(const void *mem)
{
    return (uintptr_t)mem % DNN_ALIGN == 0;
}

/* The whole graph where an engine may add what there is, else the convolution alone: a result of another shape is our kernel's
 * to repeat. */
static const struct cuda_conv *find_for(cuda *on, const nn_call *c, bool half)
{
    const bool forward = c->y->op->id == NN_OP_conv2d, like = c->sum && nn_same_shape(c->added->shape, c->sum->shape);
    const struct cuda_conv_key alone = key_of(c->y, half);
    struct cuda_conv_key whole = alone;
    const struct cuda_conv *v = NULL;

    whole.biased = c->y->src[2] != NULL;
    if (c->narrow) /* nothing is added to what is left in bf16 */
        return find(on, &alone);
    whole.more = c->sum != NULL;
    if (forward && (whole.biased || like) && (!c->sum || like) && aligned(c->in[2]) && aligned(c->more))
        v = find(on, &whole);
    return v ? v : find(on, &alone);
}

static int made(nn_backend *b, nn_call *c, bool half, err *e)
{
    if (!aligned(c->in[0]) || !aligned(c->in[1]) || !aligned(c->out))
        return err_set(e, ERR_DEVICE, "a tensor of a convolution does not begin at a multiple of %d bytes", DNN_ALIGN);
    const struct cuda_conv *of = find_for(cuda_of(b), c, half);
    if (!of)
        return err_set(e, ERR_DEVICE, "cuDNN has no engine for it any more");
    conv *v = NEW(conv);
    v->of = of;
    c->state = v;
    c->scratch_bytes = (size_t)of->scratch;
    return 0;
}

/* Of what add_rest does: a pass over the result, unless the engine added all. */
static void tell_rest(nn_call *c)
{
    const conv *v = c->state;
    const bool rest = c->sum || (c->y->op->id == NN_OP_conv2d && c->y->src[2]);
    const double n = (double)nn_count(c->y->shape);

    if (c->narrow)
        return;
    if (v->of->as.narrow)
        c->beside += 4 * n;
    else if (rest && v->of->op_n == 0)
        c->beside += 8 * n;
    c->launches += v->of->as.narrow || (rest && v->of->op_n == 0);
}

static int prepare(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)frozen;
    TRY(made(b, c, false, e));
    tell_rest(c);
    return 0;
}

static int prepare_bf16(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    int64_t n[3] = {nn_count(c->y->src[0]->shape), nn_count(c->y->src[1]->shape), nn_count(c->y->shape)};

    TRY(made(b, c, true, e));
    conv *v = c->state;
    v->bytes[0] = c->narrow_in & 1 ? 0 : cuda_aligned(2 * n[0]);
    v->bytes[1] = frozen[1] || c->narrow_in & 2 ? 0 : cuda_aligned(2 * n[1]);
    v->bytes[2] = v->of->as.narrow && !c->narrow ? cuda_aligned(2 * n[2]) : 0;
    c->scratch_bytes += v->bytes[0] + v->bytes[1] + v->bytes[2];
    c->own_bytes = frozen[1] && !c->leaf[1] ? 2 * (size_t)n[1] : 0;
    c->beside -= (double)c->own_bytes;
    for (int k = 0; k < 2; k++)
        if (v->bytes[k])
            cuda_tell_rounding(c, n[k]);
    tell_rest(c);
    if (c->leaf[1])
        return cuda_half_leaf(b, c, &v->w_rounded, e);
    if (!frozen[1] || c->sizing)
        return 0;
    TRY(cuda_round(b, &v->w_rounded, c->in[1], n[1], e));
    v->on = b;
    v->w_from = c->in[1];
    return 0;
}

static void done(nn_call *c)
{
    conv *v = c->state;

    if (v && v->w_from)
        cuda_round_done(v->on, v->w_from);
    free(v);
    c->state = NULL;
}

static cudnnStatus_t execute(nn_backend *b, const nn_call *c, const void *x, const void *w, const void *y, void *scratch)
{
    const struct cuda_conv *v = ((const conv *)c->state)->of;
    int64_t ids[5] = {ID_X, ID_W, ID_Y}, n = 3;
    const void *places[5] = {x, w, y};

    if (v->bias) {
        ids[n] = ID_BIAS;
        places[n++] = c->in[2];
    }
    if (v->more) {
        ids[n] = ID_MORE;
        places[n++] = c->more;
    }
    return dnn_execute(cuda_of(b)->conv, v->plan, ids, places, n, scratch);
}

/* The two sources and the result, whichever of x, w and y they are. */
static int convolve(nn_backend *b, const nn_call *c, const void *first, const void *second, void *out, void *scratch)
{
    const void *const in[] = {first, second};
    cudnnStatus_t rc;

    switch (c->y->op->id) {
    case NN_OP_conv2d_grad_x: rc = execute(b, c, out, in[1], in[0], scratch); break; /* dy, w */
    case NN_OP_conv2d_grad_w: rc = execute(b, c, in[0], out, in[1], scratch); break; /* x, dy */
    default: rc = execute(b, c, in[0], in[1], out, scratch);                         /* x, w */
    }
    return dnn_took(rc);
}

/* Behind the engine: the bias of a forward pass, what is added, and f32 of a result in bf16 (wide: where that lies, or NULL). */
static int add_rest(nn_backend *b, const nn_call *c, const void *wide)
{
    const float *bias = c->y->op->id == NN_OP_conv2d ? c->in[2] : NULL;
    const cuda_walk more = c->more ? cuda_walk_in(&c->sum->shape, &c->added->shape) : (cuda_walk){0};
    const int64_t n = nn_count(c->y->shape), width = c->y->shape.d[3];

    if (wide)
        return cuda_ran(k_widen(cuda_stream(b), c->out, wide, bias, width, c->more, more, n));
    if (((const conv *)c->state)->of->op_n > 0)
        return 0;
    if (c->more)
        return cuda_ran(k_add_two(cuda_stream(b), c->out, c->out, bias, width, c->more, more, n));
    if (!bias)
        return 0;
    cuda_walk at = cuda_walk_in(&c->y->shape, &c->y->src[2]->shape);
    return cuda_ran(k_binary(cuda_stream(b), CUDA_ADD, c->out, c->out, bias, at, n));
}

static int run(nn_backend *b, const nn_call *c)
{
    TRY(convolve(b, c, c->in[0], c->in[1], c->out, c->scratch));
    return add_rest(b, c, NULL);
}

/* Scratch: what is rounded, then the engine's own. */
static int run_bf16(nn_backend *b, const nn_call *c)
{
    const conv *v = c->state;
    char *at = c->scratch, *out = at + v->bytes[0] + v->bytes[1], *rest = out + v->bytes[2];
    const void *first = c->in[0], *second = v->w_rounded ? v->w_rounded : c->in[1];

    if (!(c->narrow_in & 1)) {
        TRY(cuda_ran(k_cast(cuda_stream(b), at, CUDA_BF16, first, CUDA_F32, nn_count(c->y->src[0]->shape))));
        first = at;
    }
    if (!v->w_rounded && !(c->narrow_in & 2)) {
        TRY(cuda_ran(k_cast(cuda_stream(b), at + v->bytes[0], CUDA_BF16, second, CUDA_F32, nn_count(c->y->src[1]->shape))));
        second = at + v->bytes[0];
    }
    TRY(convolve(b, c, first, second, v->bytes[2] ? out : c->out, rest));
    return c->narrow ? 0 : add_rest(b, c, v->bytes[2] ? out : NULL);
}

#define CONV(NAME, ADDS, LEAVES)                                                                                     \
    const nn_kernel cuda_dnn_##NAME = {                                                                      \
        .name = "cuda." #NAME ".cudnn", .adds = ADDS, .takes = takes, .prepare = prepare, .run = run, .done = done}; \
    const nn_kernel cuda_dnn_##NAME##_bf16 = {.name = "cuda." #NAME ".cudnn_bf16", .adds = ADDS, .forms = 2, .takes_narrow = 3, .narrows = narrows, \
                                              .halves = true, .leaves = LEAVES, .takes = takes_bf16, \
                                              .prepare = prepare_bf16, .run = run_bf16, .done = done};

CONV(conv2d, NN_ADDS_ANY, is_narrow)
CONV(conv2d_grad_x, NN_ADDS_LIKE, NULL)
CONV(conv2d_grad_w, NN_ADDS_NONE, NULL)
