/* conv2d and its gradient for maps by oneDNN: activations nhwc as they lie, kernels in the library's own layout. */
#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"

typedef struct {
    dnnl_memory_desc_t x, w, w_any, bias, y;
    dnnl_dims_t stride, no_gap, before, after;
} descs;

static descs descs_of(const nn_call *c)
{
    const conv_shape v = conv_shape_of(c->y);
    descs m = {.x = dnn_map(v.n, v.h, v.w, v.c), .w = dnn_kernels(v.o, v.kh, v.kw, v.c), .bias = dnn_vector(v.o),
               .y = dnn_map(v.n, v.oh, v.ow, v.o), .stride = {v.stride, v.stride}, .before = {v.top, v.left},
               .after = {v.bottom, v.right}};

    m.w_any = dnn_any(&m.w);
    return m;
}

static int describe_forward(dnnl_convolution_desc_t *desc, const descs *m, bool bias, err *e)
{
    DNN_TRY(dnnl_dilated_convolution_forward_desc_init(desc, dnnl_forward_inference, dnnl_convolution_direct, &m->x,
                                                       &m->w_any, bias ? &m->bias : NULL, &m->y, m->stride,
                                                       m->no_gap, m->before, m->after),
            "describing a convolution", e);
    return 0;
}

static int prepare_forward(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c);
    bool bias = c->y->src[2] != NULL;
    dnnl_convolution_desc_t desc;

    (void)on;
    c->state = d;
    TRY(describe_forward(&desc, &m, bias, e));
    TRY(dnn_plan(d, c, &desc, NULL, e));
    if (c->sizing)
        return 0;
    TRY(dnn_make(d, e));
    TRY(dnn_arg(d, DNNL_ARG_SRC, &m.x, c->in[0], e));
    TRY(dnn_weights(d, DNNL_ARG_WEIGHTS, &m.w, dnn_wants(d, dnnl_query_weights_md), c->in[1], frozen[1], e));
    if (bias)
        TRY(dnn_arg(d, DNNL_ARG_BIAS, &m.bias, c->in[2], e));
    return dnn_arg(d, DNNL_ARG_DST, &m.y, c->out, e);
}

/* A gradient is planned with its forward's primitive as a hint, which is not needed after. */
static int plan_grad(dnn *d, nn_call *c, const descs *m, dnnl_convolution_desc_t *desc, err *e)
{
    dnnl_convolution_desc_t forward;
    dnn hint = {0};
    nn_call aside = *c;

    TRY(describe_forward(&forward, m, false, e));
    TRY(dnn_plan(&hint, &aside, &forward, NULL, e));
    int rc = dnn_plan(d, c, desc, hint.pd, e);
    dnnl_primitive_desc_destroy(hint.pd);
    return rc;
}

static int prepare_grad_x(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c);
    dnnl_convolution_desc_t desc;

    (void)on;
    c->state = d;
    DNN_TRY(dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &m.x, &m.w_any, &m.y,
                                                             m.stride, m.no_gap, m.before, m.after),
            "describing a gradient of maps", e);
    TRY(plan_grad(d, c, &m, &desc, e));
    if (c->sizing)
        return 0;
    TRY(dnn_make(d, e));
    TRY(dnn_arg(d, DNNL_ARG_DIFF_DST, &m.y, c->in[0], e));
    TRY(dnn_weights(d, DNNL_ARG_WEIGHTS, &m.w, dnn_wants(d, dnnl_query_weights_md), c->in[1], frozen[1], e));
    return dnn_arg(d, DNNL_ARG_DIFF_SRC, &m.x, c->out, e);
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

const nn_kernel cpu_dnnl_conv2d = {
    .name = "cpu.conv2d.dnnl", .takes = cpu_needs_f32, .prepare = prepare_forward, .run = run, .done = done};
const nn_kernel cpu_dnnl_conv2d_grad_x = {
    .name = "cpu.conv2d_grad_x.dnnl", .takes = cpu_needs_f32, .prepare = prepare_grad_x, .run = run, .done = done};
