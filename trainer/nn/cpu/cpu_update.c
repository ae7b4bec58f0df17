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

static const char *needs_32_bits(const struct nn_node *y)
{
    return !cpu_adamw_eight(y) && !cpu_adamw_narrow(y) ? cpu_needs_f32(y) : "needs weights and moments of 32 bits";
}

/* ---- weights of 16 bits, moments of 8 ---- */

typedef struct {
    const nn_call *c;
    bool eight, narrow;
    moment_map m, v;
} blocks;

/* n numbers of concept's block `block`, the first of them element `first`. */
static void move_block(const blocks *k, int64_t concept, int64_t block, int64_t count)
{
    const nn_call *c = k->c;
    float wide_w[NN_MOMENT_BLOCK], wide_m[NN_MOMENT_BLOCK], wide_v[NN_MOMENT_BLOCK];
    int64_t first = block * NN_MOMENT_BLOCK, at = concept * count + first, row = k->eight ? nn_moments8(count) : count;
    int64_t n = count - first < NN_MOMENT_BLOCK ? count - first : NN_MOMENT_BLOCK, scale = count / 4 + block;
    const float *h = (const float *)c->in[4] + concept * NN_ADAMW_HYPER;
    float *m = (float *)(uintptr_t)c->in[1] + concept * row, *v = (float *)(uintptr_t)c->in[2] + concept * row;
    float *w = k->narrow ? wide_w : (float *)c->out + at;
    uint16_t *half = (uint16_t *)c->out + at;

    if (k->narrow)
        f32_from(wide_w, half, BF16, (size_t)n);
    if (k->eight) {
        moments_unpack(wide_m, (uint8_t *)m + first, m[scale], &k->m, n);
        moments_unpack(wide_v, (uint8_t *)v + first, v[scale], &k->v, n);
    }
    cpu_simd_best()->adamw(w, k->eight ? wide_m : m + first, k->eight ? wide_v : v + first, (const float *)c->in[3] + at, h,
                           c->in[5] ? (const float *)c->in[5] + at : NULL, n);
    if (k->narrow)
        cpu_simd_best()->round(half, wide_w, h + ADAMW_ROUND, (uint64_t)first, n);
    if (k->eight) {
        m[scale] = moments_pack((uint8_t *)m + first, wide_m, &k->m, n);
        v[scale] = moments_pack((uint8_t *)v + first, wide_v, &k->v, n);
    }
}

static void blocks_part(const void *arg, int64_t from, int64_t to)
{
    const blocks *k = arg;
    int64_t count = k->c->y->src[3]->shape.d[1], each = (count + NN_MOMENT_BLOCK - 1) / NN_MOMENT_BLOCK;

    for (int64_t i = from; i < to; i++)
        move_block(k, i / each, i % each, count);
}

static int run_blocks(nn_backend *on, const nn_call *c)
{
    int64_t count = c->y->src[3]->shape.d[1];
    blocks k = {.c = c, .eight = cpu_adamw_eight(c->y), .narrow = cpu_adamw_narrow(c->y)};

    (void)on;
    moment_map_make(&k.m, true);
    moment_map_make(&k.v, false);
    cpu_for(c->y->src[3]->shape.d[0] * ((count + NN_MOMENT_BLOCK - 1) / NN_MOMENT_BLOCK), 16 * NN_MOMENT_BLOCK, blocks_part, &k);
    return 0;
}

static const nn_kernel simd_adamw = {.name = "cpu.adamw.simd", .takes = needs_32_bits, .run = run_adamw};
static const nn_kernel blocks_adamw = {.name = "cpu.adamw.blocks", .takes = cpu_needs_f32, .run = run_blocks};
const nn_kernel *const cpu_adamw[] = {&simd_adamw, &blocks_adamw, &cpu_ref_adamw, NULL};
const nn_kernel *const cpu_clip[] = {&cpu_ref_clip, NULL};
