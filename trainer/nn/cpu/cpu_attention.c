/* Attention and its gradient (formulas: op/attention.c), by tiles of queries: the scores of some queries against all keys
 * stay in the cache, so nothing of size tq * tk is ever written. The softmax of a row is therefore exact, not
 * running.
 *
 * One item of work is a sample's head (forward: a part of its queries). A lane is one worker with scratch of its own; lane
 * l does items l, l + lanes, ... and an item's sums have their own order, so lanes do not change a bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_tiles.h"

enum {
    SCORES = 65536,      /* numbers in a tile of scores: 256 KiB */
    LEAST_QUERIES = 8, MOST_QUERIES = 64,
};

typedef struct {
    att_shape s;
    const cpu_simd *simd;
    float scale;
    int64_t keys;        /* tk rounded up to whole panels: the width of a row of scores */
    int64_t queries;     /* rows of a tile of scores */
    int64_t parts, items, lanes;
    int64_t lane_floats;
} att;

typedef struct { const att *m; const nn_call *c; } job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/* rows x columns = rows of `width` numbers times panels. */
static void product(const att *m, float *out, int64_t ld, int64_t rows, int64_t columns, const float *a, int64_t row,
                    int64_t step, int64_t depth, const float *panels, bool add)
{
    const tiles t = {.simd = m->simd, .m = rows, .n = columns, .a = a, .row = row, .taps = 1, .depth = depth,
                     .step = step, .panels = panels, .out = out, .ld = ld, .add = add};

    tiles_run(&t, 0, rows, 0, tiles_panels(columns));
}

/* b [rows][width], rows c apart, as the right factor [rows, width], or turned: [width, rows]. */
static void pack(const att *m, float *panels, const float *b, int64_t rows, bool turned)
{
    if (turned)
        tiles_pack(panels, b, m->s.d, rows, 1, m->s.c, 0, tiles_panels(rows));
    else
        tiles_pack(panels, b, rows, m->s.d, m->s.c, 1, 0, tiles_panels(m->s.d));
}

/* How many keys query i sees. */
static int64_t seen(const att *m, int64_t i)
{
    return m->s.causal ? i + 1 : m->s.tk;
}

/* Unnormalised weights of queries first..first+n-1 into p [n][keys], and 1 / their sums. */
static void weights(const att *m, float *p, float *inverse, const float *q, const float *k_panels, int64_t first,
                    int64_t n)
{
    product(m, p, m->keys, n, m->s.tk, q + first * m->s.c, m->s.c, 1, m->s.d, k_panels, false);
    for (int64_t i = 0; i < n; i++)
        inverse[i] = m->simd->softmax(p + i * m->keys, seen(m, first + i), m->keys, m->scale);
}

/* ---- forward ---- */

/* Scratch of a lane: K' as panels, V as panels, a tile of scores, its inverse sums. */
static int64_t forward_floats(const att *m)
{
    return tiles_floats(m->s.d, m->s.tk) + tiles_floats(m->s.tk, m->s.d) + m->queries * (m->keys + 1);
}

static void forward_item(const att *m, const nn_call *c, float *room, int64_t item)
{
    const att_shape *s = &m->s;
    int64_t part = item % m->parts, head = item / m->parts, n = head / s->heads, h = head % s->heads;
    const float *q = (const float *)c->in[0] + n * s->tq * s->c + h * s->d;
    int64_t keys = n * s->tk * s->c + h * s->d, each = up((s->tq + m->parts - 1) / m->parts, m->queries);
    float *y = (float *)c->out + (q - (const float *)c->in[0]);
    float *k_panels = room, *v_panels = k_panels + tiles_floats(s->d, s->tk);
    float *p = v_panels + tiles_floats(s->tk, s->d), *inverse = p + m->queries * m->keys;

    if (part * each >= s->tq)
        return;
    pack(m, k_panels, (const float *)c->in[1] + keys, s->tk, true);
    pack(m, v_panels, (const float *)c->in[2] + keys, s->tk, false);
    for (int64_t i = part * each; i < least(s->tq, (part + 1) * each); i += m->queries) {
        int64_t rows = least(m->queries, s->tq - i);
        weights(m, p, inverse, q, k_panels, i, rows);
        product(m, y + i * s->c, s->c, rows, s->d, p, m->keys, 1, s->tk, v_panels, false);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t x = 0; x < s->d; x++)
                y[(i + r) * s->c + x] *= inverse[r];
    }
}

static void forward_lanes(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const att *m = j->m;

    for (int64_t l = from; l < to; l++)
        for (int64_t i = l; i < m->items; i += m->lanes)
            forward_item(m, j->c, (float *)j->c->scratch + l * m->lane_floats, i);
}

static int run(nn_backend *on, const nn_call *c)
{
    const att *m = c->state;
    const job j = {m, c};

    (void)on;
    cpu_for(m->lanes, m->s.n * m->s.heads * m->s.tq * m->s.tk * m->s.d / m->lanes / 8, forward_lanes, &j);
    return 0;
}

/* ---- gradient ---- */

/* Scratch of a lane: K', V' and K as panels; of a tile of queries: weights, gradient of scores, inverse sums, and Q or
 * dY as panels. */
static int64_t grad_floats(const att *m)
{
    return 2 * tiles_floats(m->s.d, m->s.tk) + tiles_floats(m->s.tk, m->s.d) + m->queries * (2 * m->keys + 1)
           + tiles_floats(m->queries, m->s.d);
}

typedef struct {
    const float *q, *k, *v, *y, *dy;
    float *dq, *dk, *dv;
    float *kt, *vt, *k_panels, *p, *dp, *inverse, *turned;
} grad_item;

static grad_item grad_item_of(const att *m, const nn_call *c, float *room, int64_t item)
{
    const att_shape *s = &m->s;
    int64_t n = item / s->heads, h = item % s->heads;
    int64_t qs = n * s->tq * s->c + h * s->d, ks = n * s->tk * s->c + h * s->d;
    int64_t all_q = s->n * s->tq * s->c, all_k = s->n * s->tk * s->c;
    grad_item g = {
        .q = (const float *)c->in[0] + qs, .k = (const float *)c->in[1] + ks, .v = (const float *)c->in[2] + ks,
        .y = (const float *)c->in[3] + qs, .dy = (const float *)c->in[4] + qs,
        .dq = (float *)c->out + qs, .dk = (float *)c->out + all_q + ks, .dv = (float *)c->out + all_q + all_k + ks,
        .kt = room};

    g.vt = g.kt + tiles_floats(s->d, s->tk);
    g.k_panels = g.vt + tiles_floats(s->d, s->tk);
    g.p = g.k_panels + tiles_floats(s->tk, s->d);
    g.dp = g.p + m->queries * m->keys;
    g.inverse = g.dp + m->queries * m->keys;
    g.turned = g.inverse + m->queries;
    return g;
}

/* P, dP = dY V', D = sum(dY * Y), dS = P * (dP - D) / sqrt(d), for one tile of queries. */
static void grad_scores(const att *m, const grad_item *g, int64_t first, int64_t rows)
{
    const att_shape *s = &m->s;

    weights(m, g->p, g->inverse, g->q, g->kt, first, rows);
    product(m, g->dp, m->keys, rows, s->tk, g->dy + first * s->c, s->c, 1, s->d, g->vt, false);
    for (int64_t r = 0; r < rows; r++) {
        const float *y = g->y + (first + r) * s->c, *dy = g->dy + (first + r) * s->c;
        float *dp = g->dp + r * m->keys, D = 0.0f;
        for (int64_t x = 0; x < s->d; x++)
            D += y[x] * dy[x];
        for (int64_t k = s->tk; k < m->keys; k++)
            dp[k] = 0.0f;
        m->simd->softmax_grad(g->p + r * m->keys, dp, m->keys, g->inverse[r], D, m->scale);
    }
}

/* dQ = dS K;  dV += P' dY, dK += dS' Q, over the tiles of queries in their order. */
static void grad_one(const att *m, const grad_item *g)
{
    const att_shape *s = &m->s;

    pack(m, g->kt, g->k, s->tk, true);
    pack(m, g->vt, g->v, s->tk, true);
    pack(m, g->k_panels, g->k, s->tk, false);
    for (int64_t i = 0; i < s->tq; i += m->queries) {
        int64_t rows = least(m->queries, s->tq - i), at = i * s->c;
        grad_scores(m, g, i, rows);
        product(m, g->dq + at, s->c, rows, s->d, g->dp, m->keys, 1, s->tk, g->k_panels, false);
        pack(m, g->turned, g->dy + at, rows, false);
        product(m, g->dv, s->c, s->tk, s->d, g->p, 1, m->keys, rows, g->turned, i > 0);
        pack(m, g->turned, g->q + at, rows, false);
        product(m, g->dk, s->c, s->tk, s->d, g->dp, 1, m->keys, rows, g->turned, i > 0);
    }
}

static void grad_lanes(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const att *m = j->m;

    for (int64_t l = from; l < to; l++)
        for (int64_t i = l; i < m->items; i += m->lanes) {
            const grad_item g = grad_item_of(m, j->c, (float *)j->c->scratch + l * m->lane_floats, i);
            grad_one(m, &g);
        }
}

static int run_grad(nn_backend *on, const nn_call *c)
{
    const att *m = c->state;
    const job j = {m, c};

    (void)on;
    cpu_for(m->lanes, m->s.n * m->s.heads * m->s.tq * m->s.tk * m->s.d / m->lanes / 3, grad_lanes, &j);
    return 0;
}

/* ---- */

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    att *m = NEW(att);
    const att_shape *s = &m->s;
    bool grad = c->y->op->id == NN_OP_attention_grad;
    int64_t threads = omp_get_max_threads(), heads, queries;

    (void)on, (void)frozen, (void)e;
    c->state = m;
    m->s = att_shape_of(c->y);
    m->simd = cpu_simd_best();
    m->scale = (float)(1.0 / sqrt((double)s->d));
    m->keys = up(s->tk, SIMD_LANES);
    queries = SCORES / m->keys / LEAST_QUERIES * LEAST_QUERIES;
    m->queries = queries < LEAST_QUERIES ? LEAST_QUERIES : least(queries, MOST_QUERIES);
    heads = s->n * s->heads;
    /* Too few heads for all threads: a head's queries are shared out too (its sums over queries, in dK and dV, not). */
    m->parts = grad || heads >= threads ? 1 : least((threads + heads - 1) / heads, (s->tq + m->queries - 1) / m->queries);
    m->items = heads * m->parts;
    m->lanes = least(threads, m->items);
    m->lane_floats = up(grad ? grad_floats(m) : forward_floats(m), SIMD_LANES);
    c->scratch_bytes = (size_t)(m->lanes * m->lane_floats) * sizeof(float);
    return 0;
}

static void done(nn_call *c)
{
    free(c->state);
}

static const nn_kernel by_tiles = {
    .name = "cpu.attention.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run, .done = done};
static const nn_kernel grad_by_tiles = {
    .name = "cpu.attention_grad.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run_grad, .done = done};

const nn_kernel *const cpu_attention[] = {&by_tiles, &cpu_ref_attention, NULL};
const nn_kernel *const cpu_attention_grad[] = {&grad_by_tiles, &cpu_ref_attention_grad, NULL};
