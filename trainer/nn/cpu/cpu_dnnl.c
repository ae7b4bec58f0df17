/* oneDNN behind cpu_dnnl.h: one engine and one stream for the process, made at first use. */
#include "trainer/nn/cpu/cpu_dnnl.h"

#include <pthread.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

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
static dnnl_memory_desc_t described(int n, const dnnl_dims_t dims, const dnnl_dims_t strides, dnnl_data_type_t t)
{
    dnnl_memory_desc_t m;

    CHECK(dnnl_memory_desc_init_by_strides(&m, n, dims, t, strides) == dnnl_success);
    return m;
}

dnnl_memory_desc_t dnn_map(int64_t n, int64_t h, int64_t w, int64_t c, dnnl_data_type_t t)
{
    return described(4, (const dnnl_dims_t){n, c, h, w}, (const dnnl_dims_t){h * w * c, 1, w * c, c}, t);
}

dnnl_memory_desc_t dnn_kernels(int64_t o, int64_t kh, int64_t kw, int64_t c)
{
    return described(4, (const dnnl_dims_t){o, c, kh, kw}, (const dnnl_dims_t){kh * kw * c, 1, kw * c, c}, dnnl_f32);
}

dnnl_memory_desc_t dnn_kernels_filed(int64_t o, int64_t kh, int64_t kw, int64_t c)
{
    return described(4, (const dnnl_dims_t){o, c, kh, kw}, (const dnnl_dims_t){kh * kw * c, kh * kw, kw, 1}, dnnl_f32);
}

dnnl_memory_desc_t dnn_vector(int64_t n)
{
    return described(1, (const dnnl_dims_t){n}, (const dnnl_dims_t){1}, dnnl_f32);
}

dnnl_memory_desc_t dnn_matrix(int64_t batch, int64_t rows, int64_t columns, int64_t row, int64_t column, dnnl_data_type_t t)
{
    if (batch)
        return described(3, (const dnnl_dims_t){batch, rows, columns},
                         (const dnnl_dims_t){rows * columns, row, column}, t);
    return described(2, (const dnnl_dims_t){rows, columns}, (const dnnl_dims_t){row, column}, t);
}

dnnl_memory_desc_t dnn_any(const dnnl_memory_desc_t *like, dnnl_data_type_t t)
{
    dnnl_memory_desc_t m;

    CHECK(dnnl_memory_desc_init_by_tag(&m, like->ndims, like->dims, t, dnnl_format_tag_any) == dnnl_success);
    return m;
}

/* ---- preparing ---- */

static size_t lined_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* What a source in bf16 takes at the head of the scratch. */
static size_t narrow_bytes(int64_t n)
{
    return lined_up((size_t)n * sizeof(uint16_t));
}

int dnn_plan(dnn *d, nn_call *c, const_dnnl_op_desc_t desc, const_dnnl_primitive_desc_t hint, int64_t wide_n, err *e)
{
    dnnl_primitive_attr_t attr;

    TRY(open_engine(e));
    DNN_TRY(dnnl_primitive_attr_create(&attr), "making an attribute", e);
    dnnl_status_t s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&d->pd, desc, attr, engine, hint);
    dnnl_primitive_attr_destroy(attr);
    DNN_TRY(s, "planning a primitive", e);
    d->wide_n = wide_n;
    c->scratch_bytes = narrow_bytes(wide_n) + dnnl_memory_desc_get_size(dnn_wants(d, dnnl_query_scratchpad_md));
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

int dnn_source(dnn *d, int id, const dnnl_memory_desc_t *like, const void *p, err *e)
{
    if (like->data_type == dnnl_f32)
        return dnn_arg(d, id, like, p, e);
    TRY(add_memory(d, id, like, DNNL_MEMORY_NONE, e));
    d->narrow = d->args[d->n - 1].memory;
    d->wide = p;
    return 0;
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

/* What lies at p, which is not of a file. */
static int add_weights(dnn *d, int id, const dnn_weight *w, const dnnl_memory_desc_t *wants, const void *p, err *e)
{
    union { const void *in; void *out; } at = {.in = p};
    dnnl_memory_t from;

    if (dnnl_memory_desc_equal(w->ours, wants))
        return add_memory(d, id, w->ours, at.out, e);
    TRY(add_memory(d, id, wants, w->frozen ? DNNL_MEMORY_ALLOCATE : DNNL_MEMORY_NONE, e));
    DNN_TRY(dnnl_memory_create(&from, w->ours, engine, at.out), "weights", e);
    TRY(make_turn(&d->turn, from, d->args[d->n - 1].memory, e));
    if (!w->frozen) {
        d->laid = d->args[d->n - 1].memory;
        return 0;
    }
    dnnl_status_t s = turn(&d->turn);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    drop_turn(&d->turn, from);
    DNN_TRY(s, "laying out weights", e);
    return 0;
}

/* ---- weights that plans share ---- */

/* Both are the key: a square matrix and its transpose want one layout. */
typedef struct { dnnl_memory_desc_t filed, wants; } lay;

static int lay_weights(void *to, const float *values, const void *arg, err *e)
{
    const lay *l = arg;
    union { const void *in; void *out; } at = {.in = values};
    dnnl_memory_t ours = NULL, theirs = NULL;
    dnn_turn t = {0};
    int rc = 0;

    dnnl_status_t s = dnnl_memory_create(&ours, &l->filed, engine, at.out);
    if (s == dnnl_success)
        s = dnnl_memory_create(&theirs, &l->wants, engine, to);
    if (s == dnnl_success) {
        rc = make_turn(&t, ours, theirs, e);
        if (rc == 0)
            s = turn(&t);
        if (rc == 0 && s == dnnl_success)
            s = dnnl_stream_wait(stream);
    }
    drop_turn(&t, ours);
    if (theirs)
        dnnl_memory_destroy(theirs);
    TRY(rc);
    DNN_TRY(s, "laying out weights", e);
    return 0;
}

/* What dnn_second would take. */
static void weigh_second(dnn *d, nn_call *c, const dnn_weight *w, const dnnl_memory_desc_t *wants)
{
    size_t bytes = dnnl_memory_desc_get_size(wants);

    if (!c->leaf[1]) {
        bool lies = dnnl_memory_desc_equal(w->ours, wants);
        c->own_bytes = w->frozen && !lies ? bytes : 0;
        d->laid_bytes = w->frozen || lies ? 0 : lined_up(bytes);
        c->scratch_bytes += d->laid_bytes;
        return;
    }
    lay l = {.filed = *w->filed, .wants = *wants};
    c->form_key = d->key = mem_copy(&l, sizeof l);
    c->form_key_bytes = sizeof l;
    c->form_bytes = bytes;
}

int dnn_second(dnn *d, nn_call *c, int id, const dnn_weight *w, err *e)
{
    const dnnl_memory_desc_t *wants = dnn_wants(d, dnnl_query_weights_md);
    void *mem;

    if (c->sizing || !c->leaf[1])
        weigh_second(d, c, w, wants);
    if (c->sizing)
        return 0;
    if (c->leaf[1]) {
        lay l = {.filed = *w->filed, .wants = *wants};
        nn_form f = {.key = &l, .key_bytes = sizeof l, .bytes = dnnl_memory_desc_get_size(wants),
                     .make = lay_weights, .arg = &l};
        TRY(nn_params_form(c->params, c->leaf[1], &f, &mem, e));
        return add_memory(d, id, wants, mem, e);
    }
    return add_weights(d, id, w, wants, c->in[1], e);
}

/* ---- running ---- */

typedef struct { uint16_t *to; const float *from; void (*narrow)(uint16_t *to, const float *from, int64_t n); } narrowing;

enum { NARROW_PIECE = 4096 };

static void narrow_part(const void *arg, int64_t from, int64_t to)
{
    const narrowing *j = arg;

    j->narrow(j->to + from * NARROW_PIECE, j->from + from * NARROW_PIECE, (to - from) * NARROW_PIECE);
}

/* What is left of whole pieces goes last. */
static void narrow_all(uint16_t *to, const float *from, int64_t n)
{
    const cpu_simd *pairs = cpu_simd_pairs(); /* has an instruction for it */
    const narrowing j = {to, from, (pairs ? pairs : cpu_simd_best())->narrow};
    int64_t whole = n / NARROW_PIECE;

    cpu_for(whole, NARROW_PIECE / 4, narrow_part, &j);
    j.narrow(to + whole * NARROW_PIECE, from + whole * NARROW_PIECE, n - whole * NARROW_PIECE);
}

/* Scratch holds a source in bf16, weights laid out, and what the primitive asks for. */
int dnn_run(const dnn *d, void *scratch)
{
    dnnl_status_t s = dnnl_success;
    char *laid = (char *)scratch + narrow_bytes(d->wide_n);

    if (d->narrow) {
        narrow_all(scratch, d->wide, d->wide_n);
        s = dnnl_memory_set_data_handle(d->narrow, scratch);
    }
    if (d->laid && s == dnnl_success)
        s = dnnl_memory_set_data_handle(d->laid, laid);
    if (d->scratch && s == dnnl_success)
        s = dnnl_memory_set_data_handle(d->scratch, laid + d->laid_bytes);
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
    free(d->key);
    free(d);
}
