/* Kernels of updates, in order of preference. Ranges are cut at whole blocks, counted from a concept's first element:
 * a concept gets the same bits alone and in a pack, with one thread and with many. */
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

enum { BLOCK = 4096 };

static int64_t blocks_of(int64_t count)
{
    return (count + BLOCK - 1) / BLOCK;
}

static void adamw_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    int64_t count = c->y->shape.d[1], each = blocks_of(count);

    for (int64_t i = from; i < to; i++) {
        int64_t concept = i / each, first = i % each * BLOCK, at = concept * count + first;
        int64_t n = count - first < BLOCK ? count - first : BLOCK;
        const float *base = c->in[5] ? (const float *)c->in[5] + at : NULL;
        cpu_simd_best()->adamw((float *)c->out + at, (float *)(uintptr_t)c->in[1] + at,
                               (float *)(uintptr_t)c->in[2] + at, (const float *)c->in[3] + at,
                               (const float *)c->in[4] + concept * NN_ADAMW_HYPER, base, n);
    }
}

static int run_adamw(nn_backend *on, const nn_call *c)
{
    (void)on;
    cpu_for(c->y->shape.d[0] * blocks_of(c->y->shape.d[1]), 4 * BLOCK, adamw_part, c);
    return 0;
}

static const nn_kernel simd_adamw = {.name = "cpu.adamw.simd", .takes = cpu_needs_f32, .run = run_adamw};
const nn_kernel *const cpu_adamw[] = {&simd_adamw, &cpu_ref_adamw, NULL};
