/* Kernels of updates, in order of preference. Ranges are cut at whole blocks, counted from a concept's first element:
 * a concept gets the same bits alone and in a pack, with one thread and with many. */
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_moments.h"
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

static const char *needs_wide_moments(const struct nn_node *y)
{
    return nn_same_shape(y->src[1]->shape, y->shape) ? cpu_needs_f32(y) : "needs moments of 32 bits";
}

/* ---- moments of 8 bits ---- */

typedef struct {
    const nn_call *c;
    moment_map m, v;
} packed;

static void packed_part(const void *arg, int64_t from, int64_t to)
{
    const packed *k = arg;
    const nn_call *c = k->c;
    int64_t count = c->y->shape.d[1], each = (count + NN_MOMENT_BLOCK - 1) / NN_MOMENT_BLOCK, row = nn_moments8(count);

    for (int64_t i = from; i < to; i++) {
        float wide_m[NN_MOMENT_BLOCK], wide_v[NN_MOMENT_BLOCK];
        int64_t concept = i / each, block = i % each, first = block * NN_MOMENT_BLOCK, at = concept * count + first;
        int64_t n = count - first < NN_MOMENT_BLOCK ? count - first : NN_MOMENT_BLOCK;
        float *m = (float *)(uintptr_t)c->in[1] + concept * row, *v = (float *)(uintptr_t)c->in[2] + concept * row;
        moments_unpack(wide_m, (uint8_t *)m + first, m[count / 4 + block], &k->m, n);
        moments_unpack(wide_v, (uint8_t *)v + first, v[count / 4 + block], &k->v, n);
        cpu_simd_best()->adamw((float *)c->out + at, wide_m, wide_v, (const float *)c->in[3] + at,
                               (const float *)c->in[4] + concept * NN_ADAMW_HYPER,
                               c->in[5] ? (const float *)c->in[5] + at : NULL, n);
        m[count / 4 + block] = moments_pack((uint8_t *)m + first, wide_m, &k->m, n);
        v[count / 4 + block] = moments_pack((uint8_t *)v + first, wide_v, &k->v, n);
    }
}

static int run_packed(nn_backend *on, const nn_call *c)
{
    int64_t count = c->y->shape.d[1];
    packed k = {.c = c};

    (void)on;
    moment_map_make(&k.m, true);
    moment_map_make(&k.v, false);
    cpu_for(c->y->shape.d[0] * ((count + NN_MOMENT_BLOCK - 1) / NN_MOMENT_BLOCK), 16 * NN_MOMENT_BLOCK, packed_part, &k);
    return 0;
}

static const nn_kernel simd_adamw = {.name = "cpu.adamw.simd", .takes = needs_wide_moments, .run = run_adamw};
static const nn_kernel packed_adamw = {.name = "cpu.adamw.8bit", .takes = cpu_needs_f32, .run = run_packed};
const nn_kernel *const cpu_adamw[] = {&simd_adamw, &packed_adamw, &cpu_ref_adamw, NULL};
