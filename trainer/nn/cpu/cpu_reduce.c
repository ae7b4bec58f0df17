/* Kernels of sums over dimensions and of repetition, in order of preference.
 *
 * Sums: dimensions that go lie together, so the source is [outer, gone, inner]. What goes is cut into blocks of a
 * fixed number of rows; each block is summed in f32, the blocks of one result in double and in order. So a sum has
 * one order whatever the number of threads, and an error that grows with a block's length only. */
#include <string.h>

#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_simd.h"

typedef struct {
    int64_t outer, gone, inner;
    int64_t rows, blocks; /* of one outer: rows of a block, and how many blocks */
} folding;

static bool goes(nn_shape whole, nn_shape part, int w)
{
    int k = w - (whole.n - part.n);

    return whole.d[w] > 1 && (k < 0 || part.d[k] == 1);
}

/* False when what goes lies apart. */
static bool fold(folding *f, nn_shape whole, nn_shape part)
{
    int stage = 0; /* 0: outer, 1: gone, 2: inner */

    *f = (folding){1, 1, 1, 1, 1};
    for (int w = 0; w < whole.n; w++) {
        bool g = goes(whole, part, w);
        if (whole.d[w] > 1 && ((stage == 0 && g) || (stage == 1 && !g)))
            stage++;
        if (stage == 2 && g)
            return false;
        *(stage == 0 ? &f->outer : stage == 1 ? &f->gone : &f->inner) *= whole.d[w];
    }
    /* About a page of numbers a block: short enough for f32, long enough to be worth a call. */
    f->rows = f->inner < 256 ? 4096 / f->inner : 16;
    f->blocks = (f->gone + f->rows - 1) / f->rows;
    return true;
}

static const char *takes_sum_to(const struct nn_node *y)
{
    folding f;

    return fold(&f, y->src[0]->shape, y->shape) ? cpu_needs_f32(y) : "what is summed lies apart";
}

/* partial[block][inner], the blocks of one outer behind each other. */
static void sum_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    const cpu_simd *s = cpu_simd_best();
    folding f;

    fold(&f, c->y->src[0]->shape, c->y->shape);
    for (int64_t i = from; i < to; i++) {
        int64_t first = i % f.blocks * f.rows, rows = f.gone - first < f.rows ? f.gone - first : f.rows;
        const float *x = (const float *)c->in[0] + (i / f.blocks * f.gone + first) * f.inner;
        float *partial = (float *)c->scratch + i * f.inner;
        if (f.inner == 1) {
            *partial = s->sum(x, rows);
        } else {
            memset(partial, 0, (size_t)f.inner * sizeof *partial);
            s->column_sums(partial, x, rows, f.inner, f.inner);
        }
    }
}

static int prepare_sum_to(nn_backend *on, nn_call *c, const bool frozen[], err *e)
{
    folding f;

    (void)on;
    (void)frozen;
    (void)e;
    fold(&f, c->y->src[0]->shape, c->y->shape);
    c->scratch_bytes = (size_t)(f.outer * f.blocks * f.inner) * sizeof(float);
    return 0;
}

static int run_sum_to(nn_backend *on, const nn_call *c)
{
    folding f;
    float *out = c->out;

    (void)on;
    fold(&f, c->y->src[0]->shape, c->y->shape);
    cpu_for(f.outer * f.blocks, f.rows * f.inner, sum_part, c);
    for (int64_t o = 0; o < f.outer; o++)
        for (int64_t i = 0; i < f.inner; i++) {
            const float *partial = (const float *)c->scratch + o * f.blocks * f.inner + i;
            double sum = 0.0;
            for (int64_t b = 0; b < f.blocks; b++)
                sum += (double)partial[b * f.inner];
            out[o * f.inner + i] = (float)sum;
        }
    return 0;
}

/* ---- expand: the same three, read backwards ---- */

static const char *takes_expand(const struct nn_node *y)
{
    folding f;

    return fold(&f, y->shape, y->src[0]->shape) ? cpu_needs_f32(y) : "what is repeated lies apart";
}

static void fill(float *out, float value, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = value;
}

/* Rows of inner numbers, `gone` of them alike. */
static void expand_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    folding f;

    fold(&f, c->y->shape, c->y->src[0]->shape);
    for (int64_t o = from; o < to; o++) {
        const float *x = (const float *)c->in[0] + o * f.inner;
        float *out = (float *)c->out + o * f.gone * f.inner;
        if (f.inner == 1)
            fill(out, *x, f.gone);
        for (int64_t g = 0; g < f.gone && f.inner > 1; g++)
            memcpy(out + g * f.inner, x, (size_t)f.inner * sizeof *out);
    }
}

static int run_expand(nn_backend *on, const nn_call *c)
{
    folding f;

    (void)on;
    fold(&f, c->y->shape, c->y->src[0]->shape);
    cpu_for(f.outer, f.gone * f.inner, expand_part, c);
    return 0;
}

/* ---- sum of squares ---- */

enum { BLOCK = 4096 };

static int64_t square_blocks(const nn_call *c)
{
    return (nn_count(c->y->src[0]->shape) + BLOCK - 1) / BLOCK;
}

static void squares_part(const void *arg, int64_t from, int64_t to)
{
    const nn_call *c = arg;
    int64_t count = nn_count(c->y->src[0]->shape);

    for (int64_t i = from; i < to; i++) {
        int64_t n = count - i * BLOCK < BLOCK ? count - i * BLOCK : BLOCK;
        ((float *)c->scratch)[i] = cpu_simd_best()->sum_squares((const float *)c->in[0] + i * BLOCK, n);
    }
}

static int prepare_squares(nn_backend *on, nn_call *c, const bool frozen[], err *e)
{
    (void)on;
    (void)frozen;
    (void)e;
    c->scratch_bytes = (size_t)square_blocks(c) * sizeof(float);
    return 0;
}

static int run_squares(nn_backend *on, const nn_call *c)
{
    double sum = 0.0;

    (void)on;
    cpu_for(square_blocks(c), BLOCK, squares_part, c);
    for (int64_t i = 0; i < square_blocks(c); i++)
        sum += (double)((const float *)c->scratch)[i];
    *(float *)c->out = (float)sum;
    return 0;
}

static const nn_kernel folded_sum_to = {
    .name = "cpu.sum_to.folded", .takes = takes_sum_to, .prepare = prepare_sum_to, .run = run_sum_to};
static const nn_kernel folded_expand = {.name = "cpu.expand.folded", .takes = takes_expand, .run = run_expand};
static const nn_kernel simd_squares = {
    .name = "cpu.sum_squares.simd", .takes = cpu_needs_f32, .prepare = prepare_squares, .run = run_squares};

const nn_kernel *const cpu_sum_to[] = {&folded_sum_to, &cpu_ref_sum_to, NULL};
const nn_kernel *const cpu_expand[] = {&folded_expand, &cpu_ref_expand, NULL};
const nn_kernel *const cpu_sum_squares[] = {&simd_squares, &cpu_ref_sum_squares, NULL};
