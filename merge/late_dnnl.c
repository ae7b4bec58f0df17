/* oneDNN by its own names, looked up when they are first called: only models need it, and with what it brings (C++, OpenCL) it
 * took 2 ms of every start, a tenth of a small merge. A function that is not here is linked as ever, and the library with it. */
#include <dlfcn.h>
#include <dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_OF(x) #x
#define FILE_OF(major) "libdnnl.so." TEXT_OF(major)
#define LIBRARY FILE_OF(DNNL_VERSION_MAJOR)

static void *library;

static void open_library(void)
{
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

static void *late(const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    void *at;
    pthread_once(&once, open_library);
    at = library ? dlsym(library, name) : NULL;
    if (!at) {
        fprintf(stderr, "cfarm-merge: models are computed by oneDNN, which cannot be loaded: %s\n", dlerror());
        exit(1);
    }
    return at;
}

#define LATE(type, name, taken, given)                                                                                      \
    type name taken                                                                                                         \
    {                                                                                                                       \
        static _Atomic(__typeof__(name) *) at;                                                                              \
        if (!at)                                                                                                            \
            at = (__typeof__(name) *)late(#name);                                                                           \
        return at given;                                                                                                    \
    }

typedef const dnnl_memory_desc_t *desc;

LATE(dnnl_cpu_isa_t, dnnl_get_effective_cpu_isa, (void), ())
LATE(dnnl_status_t, dnnl_engine_create, (dnnl_engine_t * e, dnnl_engine_kind_t kind, size_t i), (e, kind, i))
LATE(dnnl_status_t, dnnl_stream_create, (dnnl_stream_t * s, dnnl_engine_t e, unsigned flags), (s, e, flags))
LATE(dnnl_status_t, dnnl_stream_wait, (dnnl_stream_t s), (s))

LATE(dnnl_status_t, dnnl_memory_create, (dnnl_memory_t * m, desc d, dnnl_engine_t e, void *p), (m, d, e, p))
LATE(dnnl_status_t, dnnl_memory_destroy, (dnnl_memory_t m), (m))
LATE(dnnl_status_t, dnnl_memory_set_data_handle, (dnnl_memory_t m, void *p), (m, p))
LATE(dnnl_status_t, dnnl_memory_get_memory_desc, (const_dnnl_memory_t m, desc *d), (m, d))
LATE(int, dnnl_memory_desc_equal, (desc a, desc b), (a, b))
LATE(size_t, dnnl_memory_desc_get_size, (desc d), (d))
LATE(dnnl_status_t, dnnl_memory_desc_init_by_strides,
     (dnnl_memory_desc_t * d, int n, const dnnl_dims_t dims, dnnl_data_type_t t, const dnnl_dims_t strides),
     (d, n, dims, t, strides))
LATE(dnnl_status_t, dnnl_memory_desc_init_by_tag,
     (dnnl_memory_desc_t * d, int n, const dnnl_dims_t dims, dnnl_data_type_t t, dnnl_format_tag_t tag), (d, n, dims, t, tag))

LATE(dnnl_status_t, dnnl_primitive_attr_create, (dnnl_primitive_attr_t * a), (a))
LATE(dnnl_status_t, dnnl_primitive_attr_destroy, (dnnl_primitive_attr_t a), (a))
LATE(dnnl_status_t, dnnl_primitive_attr_set_scratchpad_mode, (dnnl_primitive_attr_t a, dnnl_scratchpad_mode_t mode), (a, mode))
LATE(dnnl_status_t, dnnl_primitive_desc_create,
     (dnnl_primitive_desc_t * p, const_dnnl_op_desc_t op, const_dnnl_primitive_attr_t a, dnnl_engine_t e,
      const_dnnl_primitive_desc_t hint),
     (p, op, a, e, hint))
LATE(dnnl_status_t, dnnl_primitive_desc_destroy, (dnnl_primitive_desc_t p), (p))
LATE(desc, dnnl_primitive_desc_query_md, (const_dnnl_primitive_desc_t p, dnnl_query_t what, int i), (p, what, i))
LATE(dnnl_status_t, dnnl_primitive_create, (dnnl_primitive_t * p, const_dnnl_primitive_desc_t d), (p, d))
LATE(dnnl_status_t, dnnl_primitive_destroy, (dnnl_primitive_t p), (p))
LATE(dnnl_status_t, dnnl_primitive_execute, (const_dnnl_primitive_t p, dnnl_stream_t s, int n, const dnnl_exec_arg_t *arg),
     (p, s, n, arg))
LATE(dnnl_status_t, dnnl_reorder_primitive_desc_create,
     (dnnl_primitive_desc_t * p, desc from, dnnl_engine_t e, desc to, dnnl_engine_t f, const_dnnl_primitive_attr_t a),
     (p, from, e, to, f, a))
LATE(dnnl_status_t, dnnl_matmul_desc_init, (dnnl_matmul_desc_t * m, desc x, desc w, desc bias, desc y), (m, x, w, bias, y))
LATE(dnnl_status_t, dnnl_dilated_convolution_forward_desc_init,
     (dnnl_convolution_desc_t * c, dnnl_prop_kind_t prop, dnnl_alg_kind_t how, desc x, desc w, desc bias, desc y,
      const dnnl_dims_t strides, const dnnl_dims_t holes, const dnnl_dims_t left, const dnnl_dims_t right),
     (c, prop, how, x, w, bias, y, strides, holes, left, right))
LATE(dnnl_status_t, dnnl_dilated_convolution_backward_data_desc_init,
     (dnnl_convolution_desc_t * c, dnnl_alg_kind_t how, desc x, desc w, desc y, const dnnl_dims_t strides,
      const dnnl_dims_t holes, const dnnl_dims_t left, const dnnl_dims_t right),
     (c, how, x, w, y, strides, holes, left, right))
