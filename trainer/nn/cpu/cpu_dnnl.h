#ifndef CPU_DNNL_H
#define CPU_DNNL_H
/* One oneDNN primitive (C API, 2.x) as a kernel needs it: made with its memories in prepare, run without search or
 * allocation of ours, freed in done. Activations keep their layout (nhwc); weights take the library's own, once where
 * they are frozen. Its own cache makes a repeated shape cheap.
 *
 * Pitfalls kept out here: every primitive descriptor, memory and primitive is destroyed; scratch is the plan's; nothing
 * is called inside a parallel region, where oneDNN hangs. */
#include <dnnl.h>

#include "trainer/nn/params.h"

enum { DNN_ARGS = 6 };

/* A memory in another layout than ours, and the primitive that turns one into the other. */
typedef struct { dnnl_primitive_t reorder; dnnl_memory_t from, to; } dnn_turn;

typedef struct {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[DNN_ARGS];
    int n;
    dnnl_memory_t scratch;            /* in nn_call.scratch; one of args */
    dnnl_memory_t narrow;             /* before it in nn_call.scratch: a source in bf16; one of args, or NULL */
    const float *wide;                /* what is narrowed before each run */
    int64_t wide_n;
    dnn_turn turn;                    /* before each run: weights that move into the library's layout */
    dnnl_memory_t laid;               /* that layout, behind narrow in nn_call.scratch; one of args, or NULL */
    size_t laid_bytes;
    void *key;                        /* of a call that is only sizing: the layout its frozen weight would have */
} dnn;

/* [n,h,w,c] for oneDNN, which names dimensions n,c,h,w; kernels [o,kh,kw,c] as o,c,kh,kw, or as they lie in files. */
dnnl_memory_desc_t dnn_map(int64_t n, int64_t h, int64_t w, int64_t c, dnnl_data_type_t t);
dnnl_memory_desc_t dnn_kernels(int64_t o, int64_t kh, int64_t kw, int64_t c);
dnnl_memory_desc_t dnn_kernels_filed(int64_t o, int64_t kh, int64_t kw, int64_t c);
dnnl_memory_desc_t dnn_vector(int64_t n);
/* [batch, rows, columns] with these distances between elements; batch 0: no such dimension. */
dnnl_memory_desc_t dnn_matrix(int64_t batch, int64_t rows, int64_t columns, int64_t row, int64_t column, dnnl_data_type_t t);
/* The same sizes in this type; any: in whatever layout oneDNN chooses. */
dnnl_memory_desc_t dnn_any(const dnnl_memory_desc_t *like, dnnl_data_type_t t);

/* The steps of a prepare. plan: desc is any operation's descriptor, hint the forward's for a gradient, or NULL; says
 * the scratch c needs, that of a source of wide_n numbers in bf16 included (0: there is none). make: the primitive
 * itself, not for a call that is only sizing. */
int dnn_plan(dnn *d, nn_call *c, const_dnnl_op_desc_t desc, const_dnnl_primitive_desc_t hint, int64_t wide_n, err *e);
int dnn_make(dnn *d, err *e);
const dnnl_memory_desc_t *dnn_wants(const dnn *d, dnnl_query_t what);   /* dnnl_query_weights_md, ... */
/* An argument as it lies at p. */
int dnn_arg(dnn *d, int id, const dnnl_memory_desc_t *ours, const void *p, err *e);
/* A source of f32 numbers at p that the primitive takes as `like`: as it lies, or narrowed before each run where that is
 * bf16. */
int dnn_source(dnn *d, int id, const dnnl_memory_desc_t *like, const void *p, err *e);

/* Source 1 of a call, whichever of these it is: a frozen weight of a file's layout `filed`, which all plans share in the
 * layout wanted, or what lies at in[1] as `ours`, turned into the layout wanted now if it is frozen, else into scratch before
 * each run: a copy of every weight that moves would be a second model. Says the bytes. */
typedef struct { const dnnl_memory_desc_t *ours, *filed; bool frozen; } dnn_weight;
int dnn_second(dnn *d, nn_call *c, int id, const dnn_weight *w, err *e);

int dnn_run(const dnn *d, void *scratch);   /* 0 or ERR_DEVICE */
void dnn_free(dnn *d);                      /* what it holds, in any state of preparation; NULL is fine */

extern const nn_kernel cpu_dnnl_matmul, cpu_dnnl_conv2d, cpu_dnnl_conv2d_grad_x;
/* Sources and weights in bf16, sums and results in f32. */
extern const nn_kernel cpu_dnnl_matmul_bf16, cpu_dnnl_conv2d_bf16, cpu_dnnl_conv2d_grad_x_bf16;

/* Turns a status into an error that says what was being done. */
int dnn_fail(dnnl_status_t s, const char *what, err *e);
#define DNN_TRY(call, what, e)                                                                                \
    do {                                                                                                     \
        dnnl_status_t s_ = (call);                                                                           \
        if (s_ != dnnl_success)                                                                              \
            return dnn_fail(s_, what, e);                                                                    \
    } while (0)
#endif
