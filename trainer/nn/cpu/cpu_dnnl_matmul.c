/* matmul by oneDNN, where its bits do not depend on the number of threads: its AVX-512 kernel with the left factor as
 * it lies never divides a sum (measured with 1 to 96 threads); with that factor turned, and on lesser processors, it
 * does. */
#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"

typedef struct { dnnl_memory_desc_t a, b, b_any, bias, y; } descs;

static descs descs_of(const nn_call *c, bool frozen)
{
    const mat_shape s = mat_shape_of(c->y);
    int64_t batch = c->y->shape.n == 3 ? s.batch : 0;
    descs m = {.a = dnn_matrix(batch, s.m, s.k, s.a_row, s.a_col), .b = dnn_matrix(batch, s.k, s.n, s.b_row, s.b_col),
               .bias = batch ? dnn_matrix(1, 1, s.n, s.n, 1) : dnn_matrix(0, 1, s.n, s.n, 1),
               .y = dnn_matrix(batch, s.m, s.n, s.n, 1)};

    m.b_any = frozen ? dnn_any(&m.b) : m.b; /* a layout of its own pays where it is made once */
    return m;
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c, frozen[1]);
    dnnl_matmul_desc_t desc;

    (void)on;
    c->state = d;
    DNN_TRY(dnnl_matmul_desc_init(&desc, &m.a, &m.b_any, c->y->src[2] ? &m.bias : NULL, &m.y), "describing a product",
            e);
    TRY(dnn_plan(d, c, &desc, NULL, e));
    if (c->sizing)
        return 0;
    TRY(dnn_make(d, e));
    TRY(dnn_arg(d, DNNL_ARG_SRC, &m.a, c->in[0], e));
    TRY(dnn_weights(d, DNNL_ARG_WEIGHTS, &m.b, dnn_wants(d, dnnl_query_weights_md), c->in[1], frozen[1], e));
    if (c->y->src[2])
        TRY(dnn_arg(d, DNNL_ARG_BIAS, &m.bias, c->in[2], e));
    return dnn_arg(d, DNNL_ARG_DST, &m.y, c->out, e);
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

static const char *takes(const struct nn_node *y)
{
    const unsigned avx512 = dnnl_cpu_isa_avx512_core, has = dnnl_get_effective_cpu_isa();

    if (y->at.mat.ta || (has & avx512) != avx512)
        return "oneDNN would add in an order that depends on the number of threads";
    return cpu_needs_f32(y);
}

const nn_kernel cpu_dnnl_matmul = {
    .name = "cpu.matmul.dnnl", .takes = takes, .prepare = prepare, .run = run, .done = done};
