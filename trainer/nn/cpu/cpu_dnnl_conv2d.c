/* conv2d and its gradient for maps by oneDNN: activations nhwc as they lie, kernels in the library's own layout. */
#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"

typedef struct {
    dnnl_memory_desc_t x, w, filed, w_any, bias, y;
    dnnl_dims_t stride, no_gap, before, after;
} descs;

/* tx, ty: of maps as they are multiplied or written; t: of kernels. */
static descs descs_of(const nn_call *c, dnnl_data_type_t tx, dnnl_data_type_t ty, dnnl_data_type_t t)
{
    const conv_shape v = conv_shape_of(c->y);
    descs m = {.x = dnn_map(v.n, v.h, v.w, v.c, tx), .w = dnn_kernels(v.o, v.kh, v.kw, v.c),
               .filed = dnn_kernels_filed(v.o, v.kh, v.kw, v.c), .bias = dnn_vector(v.o),
               .y = dnn_map(v.n, v.oh, v.ow, v.o, ty), .stride = {v.stride, v.stride}, .before = {v.top, v.left},
               .after = {v.bottom, v.right}};

    m.w_any = dnn_any(&m.w, t);
    return m;
}

/* Numbers that are narrowed before a run. */
static int64_t wide_n(const nn_call *c, dnnl_data_type_t t)
{
    return t == dnnl_f32 ? 0 : nn_count(c->y->src[0]->shape);
}

static int describe_forward(dnnl_convolution_desc_t *desc, const descs *m, bool bias, err *e)
{
    DNN_TRY(dnnl_dilated_convolution_forward_desc_init(desc, dnnl_forward_inference, dnnl_convolution_direct, &m->x,
                                                       &m->w_any, bias ? &m->bias : NULL, &m->y, m->stride,
                                                       m->no_gap, m->before, m->after),
            "describing a convolution", e);
    return 0;
}

static int forward_as(nn_call *c, bool frozen, dnnl_data_type_t t, err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c, t, dnnl_f32, t);
    bool bias = c->y->src[2] != NULL;
    dnnl_convolution_desc_t desc;

    c->state = d;
    TRY(describe_forward(&desc, &m, bias, e));
    TRY(dnn_plan(d, c, &desc, NULL, wide_n(c, t), e));
    if (c->sizing)
        return dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.w, &m.filed, frozen}, e);
    TRY(dnn_make(d, e));
    TRY(dnn_source(d, DNNL_ARG_SRC, &m.x, c->in[0], e));
    TRY(dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.w, &m.filed, frozen}, e));
    if (bias)
        TRY(dnn_arg(d, DNNL_ARG_BIAS, &m.bias, c->in[2], e));
    return dnn_arg(d, DNNL_ARG_DST, &m.y, c->out, e);
}

/* A gradient is planned with its forward's primitive as a hint, which is not needed after. */
static int plan_grad(dnn *d, nn_call *c, dnnl_data_type_t t, dnnl_convolution_desc_t *desc, err *e)
{
    dnnl_convolution_desc_t forward;
    dnn hint = {0};
    nn_call aside = *c;
    const descs first = descs_of(c, t, t, t);

    TRY(describe_forward(&forward, &first, false, e));
    TRY(dnn_plan(&hint, &aside, &forward, NULL, 0, e));
    int rc = dnn_plan(d, c, desc, hint.pd, wide_n(c, t), e);
    dnnl_primitive_desc_destroy(hint.pd);
    return rc;
}

static int grad_x_as(nn_call *c, bool frozen, dnnl_data_type_t t, err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c, dnnl_f32, t, t);
    dnnl_convolution_desc_t desc;

    c->state = d;
    DNN_TRY(dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &m.x, &m.w_any, &m.y,
                                                             m.stride, m.no_gap, m.before, m.after),
            "describing a gradient of maps", e);
    TRY(plan_grad(d, c, t, &desc, e));
    if (c->sizing)
        return dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.w, &m.filed, frozen}, e);
    TRY(dnn_make(d, e));
    TRY(dnn_source(d, DNNL_ARG_DIFF_DST, &m.y, c->in[0], e));
    TRY(dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.w, &m.filed, frozen}, e));
    return dnn_arg(d, DNNL_ARG_DIFF_SRC, &m.x, c->out, e);
}

static int prepare_forward(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return forward_as(c, frozen[1], dnnl_f32, e);
}

static int prepare_forward_bf16(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return forward_as(c, frozen[1], dnnl_bf16, e);
}

static int prepare_grad_x(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return grad_x_as(c, frozen[1], dnnl_f32, e);
}

static int prepare_grad_x_bf16(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return grad_x_as(c, frozen[1], dnnl_bf16, e);
}

static int run(nn_backend *on, const nn_call *c)
{
    (void)on;
    return dnn_run(c->state, c->scratch);
}

static void done(nn_call *c)
{
    dnn_free(c->state);
}

/* Found by test_kernels: with 1 x 1 kernels and an odd number of channels in dy its sums are wrong. */
static const char *takes_grad_x_bf16(const struct nn_node *y)
{
    const conv_shape v = conv_shape_of(y);

    return v.kh == 1 && v.kw == 1 && v.o % 2 ? "oneDNN 2.6 is wrong about odd channels" : cpu_needs_f32(y);
}

const nn_kernel cpu_dnnl_conv2d = {.name = "cpu.conv2d.dnnl", .forms = 2, .takes = cpu_needs_f32,
                                   .prepare = prepare_forward, .run = run, .done = done};
const nn_kernel cpu_dnnl_conv2d_grad_x = {.name = "cpu.conv2d_grad_x.dnnl", .forms = 2, .takes = cpu_needs_f32,
                                          .prepare = prepare_grad_x, .run = run, .done = done};
const nn_kernel cpu_dnnl_conv2d_bf16 = {.name = "cpu.conv2d.bf16", .forms = 2, .takes = cpu_needs_f32,
                                        .prepare = prepare_forward_bf16, .run = run, .done = done};
const nn_kernel cpu_dnnl_conv2d_grad_x_bf16 = {.name = "cpu.conv2d_grad_x.bf16", .forms = 2, .takes = takes_grad_x_bf16,
                                               .prepare = prepare_grad_x_bf16, .run = run, .done = done};
