/* oneDNN behind cpu_dnnl.h: one engine and one stream for the process, made at first use. */
#include "trainer/nn/cpu/cpu_dnnl.h"

#include <pthread.h>
#include <stdlib.h>

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static dnnl_status_t opened;

static void open_once(void)
{
    opened = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (opened == dnnl_success)
        opened = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
}

static int open_engine(err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, open_once);
    DNN_TRY(opened, "opening the processor", e);
    return 0;
}

int dnn_fail(dnnl_status_t s, const char *what, err *e)
{
    if (s == dnnl_out_of_memory)
        return err_set(e, ERR_MEMORY, "oneDNN had no memory for %s", what);
    return err_set(e, ERR_DEVICE, "oneDNN answered %d to %s", (int)s, what);
}

/* ---- shapes ---- */

/* Only sizes that no memory can have are refused; ours were checked when the graph was written. */
static dnnl_memory_desc_t described(int n, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    dnnl_memory_desc_t m;

    CHECK(dnnl_memory_desc_init_by_strides(&m, n, dims, dnnl_f32, strides) == dnnl_success);
    return m;
}

dnnl_memory_desc_t dnn_map(int64_t n, int64_t h, int64_t w, int64_t c)
{
    return described(4, (const dnnl_dims_t){n, c, h, w}, (const dnnl_dims_t){h * w * c, 1, w * c, c});
}

dnnl_memory_desc_t dnn_kernels(int64_t o, int64_t kh, int64_t kw, int64_t c)
{
    return described(4, (const dnnl_dims_t){o, c, kh, kw}, (const dnnl_dims_t){kh * kw * c, 1, kw * c, c});
}

dnnl_memory_desc_t dnn_vector(int64_t n)
{
    return described(1, (const dnnl_dims_t){n}, (const dnnl_dims_t){1});
}

dnnl_memory_desc_t dnn_matrix(int64_t batch, int64_t rows, int64_t columns, int64_t row, int64_t column)
{
    if (batch)
        return described(3, (const dnnl_dims_t){batch, rows, columns},
                         (const dnnl_dims_t){rows * columns, row, column});
    return described(2, (const dnnl_dims_t){rows, columns}, (const dnnl_dims_t){row, column});
}

dnnl_memory_desc_t dnn_any(const dnnl_memory_desc_t *like)
{
    dnnl_memory_desc_t m;

    CHECK(dnnl_memory_desc_init_by_tag(&m, like->ndims, like->dims, like->data_type, dnnl_format_tag_any)
          == dnnl_success);
    return m;
}

/* ---- preparing ---- */

int dnn_plan(dnn *d, nn_call *c, const_dnnl_op_desc_t desc, const_dnnl_primitive_desc_t hint, err *e)
{
    dnnl_primitive_attr_t attr;

    TRY(open_engine(e));
    DNN_TRY(dnnl_primitive_attr_create(&attr), "making an attribute", e);
    dnnl_status_t s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&d->pd, desc, attr, engine, hint);
    dnnl_primitive_attr_destroy(attr);
    DNN_TRY(s, "planning a primitive", e);
    c->scratch_bytes = dnnl_memory_desc_get_size(dnn_wants(d, dnnl_query_scratchpad_md));
    return 0;
}

const dnnl_memory_desc_t *dnn_wants(const dnn *d, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(d->pd, what, 0);
}

static int add_memory(dnn *d, int id, const dnnl_memory_desc_t *md, void *p, err *e)
{
    dnnl_memory_t m;

    CHECK(d->n < DNN_ARGS);
    DNN_TRY(dnnl_memory_create(&m, md, engine, p), "a tensor", e);
    d->args[d->n++] = (dnnl_exec_arg_t){id, m};
    return 0;
}

int dnn_make(dnn *d, err *e)
{
    const dnnl_memory_desc_t *scratch = dnn_wants(d, dnnl_query_scratchpad_md);

    DNN_TRY(dnnl_primitive_create(&d->primitive, d->pd), "making a primitive", e);
    if (dnnl_memory_desc_get_size(scratch) == 0)
        return 0;
    TRY(add_memory(d, DNNL_ARG_SCRATCHPAD, scratch, DNNL_MEMORY_NONE, e));
    d->scratch = d->args[d->n - 1].memory;
    return 0;
}

/* The handle takes no const; what is an input to the primitive is only read. */
int dnn_arg(dnn *d, int id, const dnnl_memory_desc_t *ours, const void *p, err *e)
{
    union { const void *in; void *out; } at = {.in = p};

    return add_memory(d, id, ours, at.out, e);
}

static int make_turn(dnn_turn *t, dnnl_memory_t from, dnnl_memory_t to, err *e)
{
    const dnnl_memory_desc_t *a, *b;
    dnnl_primitive_desc_t pd;

    *t = (dnn_turn){.from = from, .to = to};
    DNN_TRY(dnnl_memory_get_memory_desc(from, &a), "reading a layout", e);
    DNN_TRY(dnnl_memory_get_memory_desc(to, &b), "reading a layout", e);
    DNN_TRY(dnnl_reorder_primitive_desc_create(&pd, a, engine, b, engine, NULL), "planning a reorder", e);
    dnnl_status_t s = dnnl_primitive_create(&t->reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    DNN_TRY(s, "making a reorder", e);
    return 0;
}

static dnnl_status_t turn(const dnn_turn *t)
{
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, t->from}, {DNNL_ARG_TO, t->to}};

    return t->reorder ? dnnl_primitive_execute(t->reorder, stream, 2, args) : dnnl_success;
}

/* Destroys the primitive and the memory `ours`, which no argument list owns. */
static void drop_turn(dnn_turn *t, dnnl_memory_t ours)
{
    if (t->reorder)
        dnnl_primitive_destroy(t->reorder);
    if (ours)
        dnnl_memory_destroy(ours);
    *t = (dnn_turn){0};
}

int dnn_weights(dnn *d, int id, const dnnl_memory_desc_t *ours, const dnnl_memory_desc_t *wants, const void *p,
                bool frozen, err *e)
{
    union { const void *in; void *out; } at = {.in = p};
    dnnl_memory_t from;

    if (dnnl_memory_desc_equal(ours, wants))
        return add_memory(d, id, ours, at.out, e);
    TRY(add_memory(d, id, wants, DNNL_MEMORY_ALLOCATE, e));
    DNN_TRY(dnnl_memory_create(&from, ours, engine, at.out), "weights", e);
    TRY(make_turn(&d->turn, from, d->args[d->n - 1].memory, e));
    if (!frozen)
        return 0;
    dnnl_status_t s = turn(&d->turn);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    drop_turn(&d->turn, from);
    DNN_TRY(s, "laying out weights", e);
    return 0;
}

/* ---- running ---- */

int dnn_run(const dnn *d, void *scratch)
{
    dnnl_status_t s = d->scratch ? dnnl_memory_set_data_handle(d->scratch, scratch) : dnnl_success;

    if (s == dnnl_success)
        s = turn(&d->turn);
    if (s == dnnl_success)
        s = dnnl_primitive_execute(d->primitive, stream, d->n, d->args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    return s == dnnl_success ? 0 : ERR_DEVICE;
}

void dnn_free(dnn *d)
{
    if (!d)
        return;
    drop_turn(&d->turn, d->turn.from);
    for (int i = 0; i < d->n; i++)
        dnnl_memory_destroy(d->args[i].memory);
    if (d->primitive)
        dnnl_primitive_destroy(d->primitive);
    if (d->pd)
        dnnl_primitive_desc_destroy(d->pd);
    free(d);
}
