/* matmul by tiles. The right factor is laid out in panels once where it is frozen, else in every run (1 / m of the
 * work). Also the list of all matmul kernels, with the sizes at which oneDNN is the better one. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_dnnl.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_tiles.h"

typedef struct {
    mat_shape s;
    float *panels;   /* frozen right factor, every batch item's behind the other; NULL: made in scratch */
    tiles t;
} matmul;

static void pack(const matmul *m, float *panels, const float *b)
{
    tiles_pack_all(panels, b, m->s.k, m->s.n, m->s.b_row, m->s.b_col);
}

static int pack_frozen(matmul *m, const float *b, err *e)
{
    int64_t each = tiles_floats(m->s.k, m->s.n);
    void *mem;

    TRY(mem_big(&mem, (size_t)(m->s.batch * each) * sizeof(float), "weights laid out for products", e));
    m->panels = mem;
    for (int64_t i = 0; i < m->s.batch; i++)
        pack(m, m->panels + i * each, b + i * m->s.k * m->s.n);
    return 0;
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    matmul *m = NEW(matmul);
    mat_shape s = mat_shape_of(c->y);
    int64_t wide = tiles_panels(s.n) * SIMD_LANES;

    (void)on;
    c->state = m;
    m->s = s;
    m->t = (tiles){.simd = cpu_simd_best(), .m = s.m, .n = s.n, .row = s.a_row, .taps = 1, .depth = s.k,
                   .step = s.a_col, .ld = s.n, .out_next = SIMD_LANES};
    c->scratch_bytes = (size_t)(wide + (frozen[1] ? 0 : tiles_floats(s.k, s.n))) * sizeof(float);
    c->own_bytes = frozen[1] ? (size_t)(s.batch * tiles_floats(s.k, s.n)) * sizeof(float) : 0;
    return frozen[1] && !c->sizing ? pack_frozen(m, c->in[1], e) : 0;
}

static int run(nn_backend *on, const nn_call *c)
{
    const matmul *m = c->state;
    const mat_shape *s = &m->s;
    float *start = c->scratch, *panels = start + tiles_panels(s->n) * SIMD_LANES;
    tiles t = m->t;

    (void)on;
    if (c->in[2])
        t.start = memcpy(start, c->in[2], (size_t)s->n * sizeof *start);
    for (int64_t i = 0; i < s->batch; i++) {
        if (!m->panels)
            pack(m, panels, (const float *)c->in[1] + i * s->k * s->n);
        t.a = (const float *)c->in[0] + i * s->m * s->k;
        t.panels = m->panels ? m->panels + i * tiles_floats(s->k, s->n) : panels;
        t.out = (float *)c->out + i * s->m * s->n;
        tiles_run_all(&t);
    }
    return 0;
}

static void done(nn_call *c)
{
    matmul *m = c->state;

    free(m->panels);
    free(m);
}

/* ---- the left factor turned, in pairs of bf16: gradients of weights ---- */

static int prepare_pairs(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    matmul *m = NEW(matmul);
    const mat_shape s = mat_shape_of(c->y);

    (void)on, (void)frozen, (void)e;
    c->state = m;
    m->s = s;
    m->t = (tiles){.simd = cpu_simd_pairs(), .m = s.m, .n = s.n, .row = 1, .taps = 1, .depth = tiles_words(s.k), .step = s.m,
                   .ld = s.n, .out_next = SIMD_LANES};
    c->scratch_bytes = (size_t)(tiles_floats(tiles_words(s.k), s.n) + tiles_words(s.k) * s.m) * sizeof(float);
    return 0;
}

static int run_pairs(nn_backend *on, const nn_call *c)
{
    const matmul *m = c->state;
    const mat_shape *s = &m->s;
    float *panels = c->scratch, *left = panels + tiles_floats(tiles_words(s->k), s->n);
    tiles t = m->t;

    (void)on;
    t.panels = panels;
    t.a = left;
    for (int64_t i = 0; i < s->batch; i++) {
        tiles_pair_all(left, (const float *)c->in[0] + i * s->m * s->k, s->k, s->m);
        tiles_pack_pairs_all(panels, (const float *)c->in[1] + i * s->k * s->n, 1, s->k, s->n);
        t.out = (float *)c->out + i * s->m * s->n;
        tiles_run_all(&t);
    }
    return 0;
}

static const char *takes_pairs(const struct nn_node *y)
{
    if (!y->at.mat.ta || y->at.mat.tb || y->src[2])
        return "takes a gradient of weights only";
    if (!cpu_simd_pairs())
        return "this processor, or the compiler this was built by, has no products of bf16";
    return cpu_needs_f32(y);
}

/* ---- */

static const char *takes(const struct nn_node *y)
{
    const mat_shape s = mat_shape_of(y);

    if (s.batch * s.m * s.n * s.k / y->pack >= TILES_MOST && !cpu_dnnl_matmul.takes(y))
        return "oneDNN is faster from a million products on";
    return cpu_needs_f32(y);
}

static const nn_kernel by_tiles = {
    .name = "cpu.matmul.tiles", .takes = takes, .prepare = prepare, .run = run, .done = done};
static const nn_kernel by_tiles_at_any_size = {
    .name = "cpu.matmul.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run, .done = done};

static const nn_kernel turned_by_pairs = {
    .name = "cpu.matmul.pairs", .takes = takes_pairs, .prepare = prepare_pairs, .run = run_pairs, .done = done};

const nn_kernel *const cpu_matmul[] = {&by_tiles, &cpu_dnnl_matmul, &by_tiles_at_any_size, &cpu_ref_matmul, NULL};
const nn_kernel *const cpu_matmul_in_bf16[] = {&turned_by_pairs, &by_tiles, &cpu_dnnl_matmul_bf16, &by_tiles_at_any_size, &cpu_ref_matmul, NULL};
