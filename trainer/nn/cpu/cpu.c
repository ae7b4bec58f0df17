/* The CPU as a backend: host memory, memcpy and two tables of kernels (the preferred ones, or references only). */
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

typedef struct {
    nn_backend base;
    int threads;
} cpu;

static const nn_kernel *const *const preferred[NN_OP_COUNT] = {
#define NN_NAME(name)
#define NN_OP(name) [NN_OP_##name] = cpu_##name,
#include "trainer/nn/ops.def"
#undef NN_OP
};

static const nn_kernel *const references[NN_OP_COUNT][2] = {
#define NN_NAME(name)
#define NN_OP(name) [NN_OP_##name] = {&cpu_ref_##name, NULL},
#include "trainer/nn/ops.def"
#undef NN_OP
};

static const nn_kernel *const *preferred_kernels(nn_op_id op)
{
    return preferred[op];
}

static const nn_kernel *const *bf16_kernels(nn_op_id op)
{
    switch (op) {
    case NN_OP_matmul: return cpu_matmul_in_bf16;
    case NN_OP_conv2d: return cpu_conv2d_in_bf16;
    case NN_OP_conv2d_grad_x: return cpu_conv2d_grad_x_in_bf16;
    case NN_OP_conv2d_grad_w: return cpu_conv2d_grad_w_in_bf16;
    case NN_OP_attention: return cpu_attention_in_bf16;
    case NN_OP_attention_grad: return cpu_attention_grad_in_bf16;
    default: return preferred[op];
    }
}

static const nn_kernel *const *reference_kernels(nn_op_id op)
{
    return references[op];
}

static int cpu_alloc(nn_backend *b, void **mem, size_t bytes, err *e)
{
    (void)b;
    return mem_big(mem, bytes, "tensors", e);
}

static void cpu_release(nn_backend *b, void *mem)
{
    (void)b;
    free(mem);
}

static int cpu_move(nn_backend *b, void *to, const void *from, size_t bytes, err *e)
{
    (void)b;
    (void)e;
    memcpy(to, from, bytes);
    return 0;
}

static int cpu_copy(nn_backend *b, void *to, const void *from, size_t bytes)
{
    return cpu_move(b, to, from, bytes, NULL);
}

/* The thread count of OpenMP belongs to the calling thread, and oneDNN asks it as well. */
static void cpu_begin(nn_backend *b)
{
    int threads = ((const cpu *)b)->threads / (b->lanes > 1 ? b->lanes : 1);

    omp_set_dynamic(0); /* a team smaller than oneDNN laid its work out for gives wrong numbers */
    omp_set_num_threads(threads > 1 ? threads : 1);
}

static int cpu_wait(nn_backend *b, err *e)
{
    (void)b;
    (void)e;
    return 0;
}

static int cpu_compute(nn_backend *b, nn_compute c, err *e)
{
    if (c == NN_BF16 && !cpu_has_bf16())
        return err_set(e, ERR_DEVICE, "this processor has no products of bf16 (AVX512_BF16); compute in f32");
    const nn_kernel *const *(*chosen)(nn_op_id) = c == NN_BF16 ? bf16_kernels : preferred_kernels;

    if (b->kernels == chosen) /* the same again is asked for while others make plans: packs */
        return 0;
    b->kernels = chosen;
    b->computes = c;
    return 0;
}

static void cpu_close(nn_backend *b)
{
    free(b);
}

const char *nn_cpu_kind(void)
{
    return cpu_simd_best()->name;
}

int nn_cpu_open(nn_backend **out, int threads, bool reference, err *e)
{
    if (threads < 0)
        return err_set(e, ERR_INPUT, "%d threads; give 0 for as many as the machine lends", threads);
    cpu *c = NEW(cpu);
    c->threads = threads ? threads : omp_get_max_threads();
    if (c->threads > omp_get_thread_limit()) /* OMP_THREAD_LIMIT: no larger team would come */
        c->threads = omp_get_thread_limit();
    c->base = (nn_backend){.name = "cpu",
                           .kernels = reference ? reference_kernels : preferred_kernels,
                           .alloc = cpu_alloc,
                           .release = cpu_release,
                           .write = cpu_move,
                           .read = cpu_move,
                           .copy = cpu_copy,
                           .begin = cpu_begin,
                           .wait = cpu_wait,
                           .close = cpu_close,
                           .compute = reference ? NULL : cpu_compute,
                           .exact = reference ? NULL : preferred_kernels};
    *out = &c->base;
    return 0;
}

/* ---- what kernels share ---- */

const char *cpu_needs_f32(const struct nn_node *y)
{
    bool all = y->type == F32;

    for (int i = 0; i < NN_MAX_SRC; i++)
        all = all && (!y->src[i] || y->src[i]->type == F32 || y->src[i]->type == I32);
    return all ? NULL : "needs f32";
}

int64_t cpu_place(int64_t i, const nn_shape *whole, const nn_shape *part)
{
    int64_t at = 0, stride = 1;

    for (int k = part->n - 1, w = whole->n - 1; k >= 0; k--, w--) {
        at += part->d[k] == 1 ? 0 : i % whole->d[w] * stride;
        stride *= part->d[k];
        i /= whole->d[w];
    }
    return at;
}

/* Waking threads costs some microseconds: as long as 20,000 simple element operations. */
enum { WORTH_A_TEAM = 20000 };

void cpu_for(int64_t n, int64_t work, cpu_part *part, const void *arg)
{
    int64_t team = omp_get_max_threads();

    if (team == 1 || n * work < WORTH_A_TEAM || n < 2) {
        part(arg, 0, n);
        return;
    }
    if (team > n)
        team = n;
#pragma omp parallel num_threads((int)team)
    {
        int64_t k = omp_get_num_threads(), t = omp_get_thread_num();
        part(arg, n * t / k, n * (t + 1) / k);
    }
}
