/* matmul by oneDNN, where its bits do not depend on the number of threads: its AVX-512 kernel with the left factor as
 * it lies never divides a sum (measured with 1 to 96 threads); with that factor turned, and on lesser processors, it
 * does. */
#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"

typedef struct { dnnl_memory_desc_t a, b, b_any, bias, y; } descs;

/* t: of a and b as they are multiplied. */
static descs descs_of(const nn_call *c, bool frozen, dnnl_data_type_t t)
{
    const mat_shape s = mat_shape_of(c->y);
    int64_t batch = c->y->shape.n == 3 ? s.batch : 0;
    descs m = {.a = dnn_matrix(batch, s.m, s.k, s.a_row, s.a_col, t),
               .b = dnn_matrix(batch, s.k, s.n, s.b_row, s.b_col, dnnl_f32),
               .bias = batch ? dnn_matrix(1, 1, s.n, s.n, 1, dnnl_f32) : dnn_matrix(0, 1, s.n, s.n, 1, dnnl_f32),
               .y = dnn_matrix(batch, s.m, s.n, s.n, 1, dnnl_f32)};

    /* A layout of its own pays where it is made once, and in bf16, where b has to be written anew anyway. */
    m.b_any = frozen || t != dnnl_f32 ? dnn_any(&m.b, t) : m.b;
    return m;
}

static int prepare_as(nn_call *c, bool frozen, dnnl_data_type_t t, err *e)
{
    dnn *d = NEW(dnn);
    const descs m = descs_of(c, frozen, t);
    dnnl_matmul_desc_t desc;

    c->state = d;
    DNN_TRY(dnnl_matmul_desc_init(&desc, &m.a, &m.b_any, c->y->src[2] ? &m.bias : NULL, &m.y), "describing a product",
            e);
    TRY(dnn_plan(d, c, &desc, NULL, t == dnnl_f32 ? 0 : nn_count(c->y->src[0]->shape), e));
    if (c->sizing)
        return dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.b, &m.b, frozen}, e);
    TRY(dnn_make(d, e));
    TRY(dnn_source(d, DNNL_ARG_SRC, &m.a, c->in[0], e));
    TRY(dnn_second(d, c, DNNL_ARG_WEIGHTS, &(dnn_weight){&m.b, &m.b, frozen}, e));
    if (c->y->src[2])
        TRY(dnn_arg(d, DNNL_ARG_BIAS, &m.bias, c->in[2], e));
    return dnn_arg(d, DNNL_ARG_DST, &m.y, c->out, e);
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return prepare_as(c, frozen[1], dnnl_f32, e);
}

static int prepare_bf16(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on;
    return prepare_as(c, frozen[1], dnnl_bf16, e);
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

static const char *takes_bf16(const struct nn_node *y)
{
    return y->at.mat.ta ? "oneDNN would add in an order that depends on the number of threads" : cpu_needs_f32(y);
}

const nn_kernel cpu_dnnl_matmul = {
    .name = "cpu.matmul.dnnl", .forms = 2, .takes = takes, .prepare = prepare, .run = run, .done = done};
const nn_kernel cpu_dnnl_matmul_bf16 = {
    .name = "cpu.matmul.bf16", .forms = 2, .takes = takes_bf16, .prepare = prepare_bf16, .run = run, .done = done};
