#ifndef NN_BACKEND_H
#define NN_BACKEND_H
/* A backend is memory, copies and, per operation, kernels in order of preference. Everything that may fail,
 * search or allocate happens in prepare(), once; run() is what is left and is called every step. */
#include "trainer/nn/node.h"

typedef struct nn_backend nn_backend;
typedef struct nn_ferry nn_ferry;
struct nn_params;
struct comm;

/* A frozen weight in a layout of a kernel's own (nn_params_form): make fills `to`, in the machine's memory, from values in the
 * file's layout. */
typedef struct {
    const void *key;             /* what tells this layout from others */
    size_t key_bytes, bytes;
    int (*make)(void *to, const float *values, const void *arg, err *e);
    const void *arg;
} nn_form;

typedef struct {
    const struct nn_node *y;         /* shapes, types, attributes; sources' nodes through y->src */
    void *out;                       /* where the result goes (backend memory) */
    const void *in[NN_MAX_SRC];      /* NULL where the source is */
    nn_tensor sum, added;            /* an add that is made with y (nn_kernel.adds) and its other source: out is sum's value. NULL: y's */
    const void *more;                /* where `added` lies, never in out; in bf16 where the kernel says so (NN_SUM_HALVES) */
    struct nn_params *params;        /* for nn_params_form of leaf[]; set in prepare */
    nn_tensor leaf[NN_MAX_SRC];      /* a frozen weight that is a source itself, where the kernel `forms` it; else NULL */
    void *scratch;                   /* scratch_bytes, shared by all calls of a plan; set before the first run */
    bool narrow;                     /* the result is wanted in bf16 (nn_kernel.narrows) */
    void *twin;                      /* where the result goes in bf16, too (nn_kernel.twins); NULL: nowhere */
    bool bare;                       /* narrow, and without its bias and `added` (nn_kernel.leaves): in[2] and more are NULL */
    const void *late_bias, *late_more; /* what is yet to be added to in[0], which was made so: one number a channel; one of each
                                      * sample a channel. NULL: nothing */
    unsigned narrow_in;              /* bit i: in[i] is in bf16 (nn_kernel.takes_narrow) */
    size_t scratch_bytes;            /* asked for in prepare */
    size_t own_bytes;                /* of weights that prepare lays out for this call alone */
    double beside;                   /* prepare says, for nn_plan_traffic: bytes that a run moves beside reading each source and */
    int launches;                    /* writing the result once, and its launches beside one */
    const void *form_key;            /* sizing: the layout that prepare would ask for leaf[1] in (nn_form), until done */
    size_t form_key_bytes, form_bytes;
    bool sizing;                     /* prepare is only asked for bytes: in[] and out are NULL, nothing may be read or
                                      * reordered; done is called next */
    void *state;                     /* the kernel's own, made in prepare, freed in done */
} nn_call;

typedef struct nn_kernel {
    const char *name;                                        /* "cpu.conv2d.dnnl", as profiles show it */
    unsigned over;                                           /* bit i: out may be the very memory of in[i] */
    enum { NN_ADDS_NONE, NN_ADDS_LIKE, NN_ADDS_ANY } adds;   /* what may be added to the result on its way out, so that the add
                                                              * behind it is no call of its own: like it, or repeated to it */
    unsigned forms;                                          /* bit i: where leaf[i] is set, prepare takes it in a layout
                                                              * of its own and in[i] is NULL */
    unsigned takes_narrow;                                   /* bit i: it rounds src[i] to bf16, and takes it rounded */
    bool (*narrows)(const struct nn_node *y);                /* whether it may be asked for its result rounded to bf16: where all
                                                              * who read that would round it, no f32 of it is ever written */
    enum { NN_SUM_F32, NN_SUM_ROUNDED, NN_SUM_HALVES } narrow_sum; /* whether a result with an add may be in bf16: not; of an add in f32;
                                                              * of one in bf16 */
    bool twins;                                              /* it can make its result in f32 and once more in bf16 (nn_call.twin), for
                                                              * those who round it */
    bool halves;                                             /* ... also where those who read it do not round it, but take it in */
    unsigned takes_half;                                     /* bf16 (bit i: src[i]): one more rounding, of an activation */
    bool (*leaves)(const struct nn_node *y);                 /* whether such a result may be made without its bias and an add that */
    enum { NN_LATE_NONE, NN_LATE_BIAS, NN_LATE_BOTH } takes_late; /* repeats over pixels, since all who read it as src[0] add them */
    /* NULL: takes everything. Otherwise the reason it declines ("needs f32"), or NULL to take it. */
    const char *(*takes)(const struct nn_node *y);
    /* in[] and out are set and stay; frozen[i]: src[i] is a weight that never changes while this plan lives, so it
     * may be reordered here once. NULL: nothing to prepare. */
    int (*prepare)(nn_backend *b, nn_call *c, const bool frozen[NN_MAX_SRC], err *e);
    int (*run)(nn_backend *b, const nn_call *c);             /* no allocation, no search; 0 or an err_code */
    void (*done)(nn_call *c); /* once for each prepare, a failed one too; NULL: nothing to free */
} nn_kernel;

/* Of a device that computes while its caller goes on: what crosses to it and from it meanwhile. */
typedef struct {
    /* Two places of `bytes`, taken in turns: one is filled, or crosses, while the device works on what the other brought. */
    int (*open)(nn_backend *b, nn_ferry **out, size_t bytes, err *e);
    int (*fill)(nn_ferry *f, void **place, err *e);   /* the next place, to be written; waits while its last load is crossing */
    int (*cross)(nn_ferry *f, void **there, err *e);  /* its load, to the device: what that is asked from here on finds it there */
    int (*over)(nn_ferry *f, err *e);                 /* ... and what it is asked from here on does not look there any more */
    void (*close)(nn_ferry *f);
    /* Memory of the machine that `tell` may write to: in order with the kernels, and there when wait() has returned. */
    int (*pin)(nn_backend *b, void **mem, size_t bytes, err *e);
    void (*unpin)(nn_backend *b, void *mem);
    int (*tell)(nn_backend *b, void *pinned, const void *from, size_t bytes, err *e);
} nn_crossing;

/* What sources and frozen weights of products are rounded to; sums, results, norms and losses are f32 always. */
typedef enum { NN_F32, NN_BF16 } nn_compute;

struct nn_backend {
    const char *name;                                        /* "cpu", "cuda:3" */
    void *self;                                              /* its own, NULL: needs none. A backend copied and changed
                                                              * in part (as tests do) still finds it */
    const nn_kernel *const *(*kernels)(nn_op_id op);         /* ended by NULL; the CPU's last is its reference */
    int (*alloc)(nn_backend *b, void **mem, size_t bytes, err *e); /* 64-byte aligned */
    void (*release)(nn_backend *b, void *mem);
    int (*write)(nn_backend *b, void *to, const void *host, size_t bytes, err *e);
    int (*read)(nn_backend *b, void *host, const void *from, size_t bytes, err *e);
    /* Between two places of the backend's memory, in order with the kernels. */
    int (*copy)(nn_backend *b, void *to, const void *from, size_t bytes);
    /* Makes the calling thread the one that computes (device, thread count): before a plan prepares or runs. */
    void (*begin)(nn_backend *b);
    /* Of a device that several threads ask: from true to false of one thread the others wait, so that nothing of theirs comes
     * between, or into what is recorded. May be nested. NULL: they do not disturb each other. */
    void (*turn)(nn_backend *b, bool mine);
    int (*wait)(nn_backend *b, err *e);                      /* the only place where a device's late error appears */
    void (*close)(nn_backend *b);
    /* Work that is done again and again, as one piece (a CUDA graph): between record and recorded kernels and copies are
     * noted and not carried out; replay does all that was noted, in order with the rest. recorded must follow record, also
     * after an error. NULL: there is no such thing. */
    int (*record)(nn_backend *b, err *e);
    int (*recorded)(nn_backend *b, void **list, err *e);
    int (*replay)(nn_backend *b, void *list, err *e);
    void (*forget)(nn_backend *b, void *list);
    /* Part of the device's memory that may be taken at most, 0 to 1. NULL: its memory is the machine's. */
    int (*limit)(nn_backend *b, double share, err *e);
    /* Collective: makes of a gang one that also joins these backends' devices (comm_sum_devices) and takes *gang over; after
     * an error, and where ranks share a device, *gang is as it was. timeout_s: without the others. NULL: it cannot. */
    int (*join)(nn_backend *b, struct comm **gang, double timeout_s, err *e);
    const nn_crossing *crossing;                             /* NULL: a run is over when nn_run returns */
    int (*left)(nn_backend *b, size_t *bytes, err *e);       /* of its memory, that may be taken yet; NULL: as limit */
    /* nn_params_form, which a plugin is not linked with; set by who opens one. */
    int (*form)(struct nn_params *p, nn_tensor leaf, const nn_form *form, void **mem, err *e);
    const char *kind;                                        /* of device, as far as its bits depend on it; NULL: the
                                                              * processor's, nn_cpu_kind */
    int lanes;                                               /* threads of the caller's that run plans at the same time
                                                              * and share out the backend's; 0: one */
    /* For plans made from now on; NULL: there is no choice. ERR_DEVICE where the processor cannot. */
    int (*compute)(nn_backend *b, nn_compute c, err *e);
    nn_compute computes;                                     /* what plans made now compute in */
    const nn_kernel *const *(*exact)(nn_op_id op);           /* kernels of exact nodes; NULL: the same */
};

/* What is faster on this processor, and why, in one sentence (why may be NULL); and on a backend. */
nn_compute nn_cpu_best_compute(const char **why);
nn_compute nn_best_compute(const nn_backend *b, const char **why);

/* threads 0: what OMP_NUM_THREADS or the affinity mask gives. reference: plain kernels only (for tests). */
int nn_cpu_open(nn_backend **out, int threads, bool reference, err *e);
/* The kind of processor as far as the CPU's bits depend on it: "avx512". */
const char *nn_cpu_kind(void);
/* The CUDA device of this number, as CUDA_VISIBLE_DEVICES leaves them. Its code is a plugin, cfarm_cuda.so beside the
 * program or in ../lib, or the file that CFARM_CUDA_PLUGIN names. ERR_DEVICE with one sentence where there is no plugin, none of its libraries, no driver or no
 * such device. */
int nn_cuda_open(nn_backend **out, int device, err *e);
/* Which of the n CUDA devices that this process sees (at most `most`) reach each other by the machine's best links, NVLink where it
 * has it: those have one number in group[], from 0 on; one that is linked to no other is a group of its own. */
int nn_cuda_links(int group[], int most, int *n, err *e);
/* Whether such a plugin and its libraries are there; no device is looked for. */
int nn_cuda_built(err *e);
/* By name: "cpu", "cuda" (device 0) or "cuda:N"; threads are the CPU's. ERR_INPUT for another name. */
int nn_open(nn_backend **out, const char *name, int threads, err *e);
#endif
