/* Attention and its gradient (formulas: op/attention.c), by tiles of some queries against all keys, so that nothing of
 * size tq * tk is ever written and the softmax of a query is exact, not running.
 *
 * Queries are the columns of every product here: 16 of them fill a vector however narrow a head is, keys and values
 * are rows as they lie, and softmax runs down the columns with no sum across lanes:
 *
 *   S' [tk][16] = K Q',  Y' [d][16] = V' P',  dP' = V dY',  dQ' = K' dS',  dV += P' dY,  dK += dS' Q
 *
 * One item of work is a sample's head (forward: or a part of its queries). A worker has scratch of its own; worker w
 * does items w, w + workers, ..., and an item's sums have their own order, so the number of workers does not change a
 * bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_tiles.h"

enum {
    QUERIES = 128,       /* the most of a tile */
    FEW_QUERIES = 64,    /* the least, scores in L2 or not: K and V (and dK, dV) are read (and written) once a tile */
    SCORES = 65536,      /* numbers in a tile of scores, 256 KiB, which stay in L2 */
};

typedef struct {
    att_shape s;
    const cpu_simd *simd;
    float scale;
    int64_t queries;     /* of a tile, whole panels */
    int64_t parts, items, workers, worker_floats;
} att;

typedef struct { const att *m; const nn_call *c; } job;

/* A head of one sample, its scratch, and the tile of queries it is at. */
typedef struct {
    const float *q, *k, *v, *y, *dy;
    float *out, *dk, *dv;               /* out: y, or dq */
    float *turned;                      /* [d][tk]: V' or K' */
    float *q_panels, *dy_panels;        /* Q' and dY' as right factors: [panels][d][16] */
    float *q_rows, *dy_rows;            /* Q and dY as right factors: [ceil(d / 16)][queries][16] */
    float *p, *dp;                      /* [panels][tk][16] */
    float *result;                      /* [panels][d][16]: Y' or dQ' */
    float inverse[QUERIES], less[QUERIES];
    int64_t first, rows, panels;        /* of the tile */
} head;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/* ---- the pieces ---- */

/* b [rows][d], c apart, turned: [d][rows]. */
static void turn(const att *m, float *to, const float *b, int64_t rows)
{
    for (int64_t x = 0; x < m->s.d; x++)
        for (int64_t j = 0; j < rows; j++)
            to[x * rows + j] = b[j * m->s.c + x];
}

/* The tile's rows of b as columns: [panels][d][16], zeros past the last. */
static void pack_columns(const att *m, const head *h, float *to, const float *b)
{
    tiles_pack(to, b + h->first * m->s.c, m->s.d, h->rows, 1, m->s.c, 0, h->panels);
}

/* The tile's rows of b as rows: [ceil(d / 16)][16 panels][16], zeros past the last. */
static void pack_rows(const att *m, const head *h, float *to, const float *b)
{
    const int64_t d = m->s.d, k = h->panels * SIMD_LANES;

    memset(to, 0, (size_t)tiles_floats(k, d) * sizeof *to);
    for (int64_t x = 0; x < d; x += SIMD_LANES, to += k * SIMD_LANES) {
        const float *from = b + h->first * m->s.c + x;
        const int64_t wide = least(SIMD_LANES, d - x);
        for (int64_t i = 0; i < h->rows; i++)
            for (int64_t l = 0; l < wide; l++)
                to[i * SIMD_LANES + l] = from[i * m->s.c + l];
    }
}

static void product(const tiles *t)
{
    tiles_run(t, 0, t->m, 0, tiles_panels(t->n));
}

/* scores [panels][tk][16] = keys [tk][d] times panels of queries. */
static void scores(const att *m, const head *h, float *to, const float *keys, const float *panels)
{
    product(&(tiles){.simd = m->simd, .m = m->s.tk, .n = h->panels * SIMD_LANES, .a = keys, .row = m->s.c, .taps = 1,
                     .depth = m->s.d, .step = 1, .panels = panels, .out = to, .ld = SIMD_LANES,
                     .out_next = m->s.tk * SIMD_LANES});
}

/* to [rows][c] = (turned scores)': what is summed over keys, times each query's number where there is one. */
static void over_keys(const att *m, const head *h, float *to, const float *panels, const float *times)
{
    const int64_t d = m->s.d;

    product(&(tiles){.simd = m->simd, .m = d, .n = h->panels * SIMD_LANES, .a = h->turned, .row = m->s.tk, .taps = 1,
                     .depth = m->s.tk, .step = 1, .panels = panels, .out = h->result, .ld = SIMD_LANES,
                     .out_next = d * SIMD_LANES});
    for (int64_t i = 0; i < h->rows; i++) {
        const float *from = h->result + i / SIMD_LANES * d * SIMD_LANES + i % SIMD_LANES;
        const float by = times ? times[i] : 1.0f;
        for (int64_t x = 0; x < d; x++)
            to[(h->first + i) * m->s.c + x] = from[x * SIMD_LANES] * by;
    }
}

/* to [tk][c] += scores times rows: what is summed over queries. Each panel of queries is a tap. */
static void over_queries(const att *m, const head *h, float *to, const float *panels, const float *rows)
{
    product(&(tiles){.simd = m->simd, .m = m->s.tk, .n = m->s.d, .a = panels, .row = SIMD_LANES, .taps = h->panels,
                     .tap_step = m->s.tk * SIMD_LANES, .depth = SIMD_LANES, .step = 1, .panels = rows, .out = to,
                     .ld = m->s.c, .out_next = SIMD_LANES, .add = h->first > 0});
}

/* p: weights of the tile's queries, their sums still to be divided by. */
static void weights(const att *m, head *h)
{
    pack_columns(m, h, h->q_panels, h->q);
    scores(m, h, h->p, h->k, h->q_panels);
    for (int64_t v = 0; v < h->panels; v++)
        m->simd->softmax(h->p + v * m->s.tk * SIMD_LANES, m->s.tk,
                         m->s.causal ? h->first + v * SIMD_LANES : m->s.tk, m->scale, h->inverse + v * SIMD_LANES);
}

static void tile_at(const att *m, head *h, int64_t first)
{
    h->first = first;
    h->rows = least(m->queries, m->s.tq - first);
    h->panels = tiles_panels(h->rows);
}

/* ---- items ---- */

/* Hands out pieces of a worker's scratch, which has room for all of them (head_floats). */
static float *take(float **room, int64_t floats)
{
    float *at = *room;

    *room += up(floats, SIMD_LANES);
    return at;
}

static head head_of(const att *m, float *room, bool grad)
{
    const att_shape *s = &m->s;
    head h = {.turned = take(&room, s->d * s->tk), .q_panels = take(&room, m->queries * s->d),
              .p = take(&room, m->queries * s->tk), .result = take(&room, m->queries * s->d)};

    if (!grad)
        return h;
    h.dy_panels = take(&room, m->queries * s->d);
    h.dp = take(&room, m->queries * s->tk);
    h.q_rows = take(&room, tiles_floats(m->queries, s->d));
    h.dy_rows = take(&room, tiles_floats(m->queries, s->d));
    return h;
}

static int64_t head_floats(const att *m, bool grad)
{
    const att_shape *s = &m->s;
    int64_t narrow = up(m->queries * s->d, SIMD_LANES), scored = up(m->queries * s->tk, SIMD_LANES);
    int64_t forward = up(s->d * s->tk, SIMD_LANES) + 2 * narrow + scored;

    return grad ? forward + narrow + scored + 2 * up(tiles_floats(m->queries, s->d), SIMD_LANES) : forward;
}

static void look_at(const att *m, head *h, const nn_call *c, int64_t item)
{
    const att_shape *s = &m->s;
    int64_t n = item / s->heads, first = item % s->heads * s->d;
    int64_t qs = n * s->tq * s->c + first, ks = n * s->tk * s->c + first;

    h->q = (const float *)c->in[0] + qs;
    h->k = (const float *)c->in[1] + ks;
    h->v = (const float *)c->in[2] + ks;
    h->out = (float *)c->out + qs;
    if (!h->dp)
        return;
    h->y = (const float *)c->in[3] + qs;
    h->dy = (const float *)c->in[4] + qs;
    h->dk = (float *)c->out + s->n * s->tq * s->c + ks;
    h->dv = h->dk + s->n * s->tk * s->c;
}

static void forward_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    const int64_t tiles_all = (m->s.tq + m->queries - 1) / m->queries, part = item % m->parts;

    look_at(m, h, c, item / m->parts);
    turn(m, h->turned, h->v, m->s.tk);
    for (int64_t t = tiles_all * part / m->parts; t < tiles_all * (part + 1) / m->parts; t++) {
        tile_at(m, h, t * m->queries);
        weights(m, h);
        over_keys(m, h, h->out, h->p, h->inverse);
    }
}

/* D = sum(dY * Y) of each query, 0 where the tile has none. */
static void find_less(const att *m, head *h)
{
    memset(h->less, 0, sizeof h->less);
    for (int64_t i = 0; i < h->rows; i++) {
        const float *y = h->y + (h->first + i) * m->s.c, *dy = h->dy + (h->first + i) * m->s.c;
        for (int64_t x = 0; x < m->s.d; x++)
            h->less[i] += y[x] * dy[x];
    }
}

static void grad_tile(const att *m, head *h)
{
    const int64_t panel = m->s.tk * SIMD_LANES;

    weights(m, h);
    pack_columns(m, h, h->dy_panels, h->dy);
    scores(m, h, h->dp, h->v, h->dy_panels);
    find_less(m, h);
    for (int64_t v = 0; v < h->panels; v++)
        m->simd->softmax_grad(h->p + v * panel, h->dp + v * panel, m->s.tk, h->inverse + v * SIMD_LANES,
                              h->less + v * SIMD_LANES, m->scale);
    over_keys(m, h, h->out, h->dp, NULL);
    pack_rows(m, h, h->dy_rows, h->dy);
    over_queries(m, h, h->dv, h->p, h->dy_rows);
    pack_rows(m, h, h->q_rows, h->q);
    over_queries(m, h, h->dk, h->dp, h->q_rows);
}

static void grad_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    look_at(m, h, c, item);
    turn(m, h->turned, h->k, m->s.tk);
    for (int64_t i = 0; i < m->s.tq; i += m->queries) {
        tile_at(m, h, i);
        grad_tile(m, h);
    }
}

/* ---- */

static void run_workers(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const att *m = j->m;
    bool grad = j->c->y->op->id == NN_OP_attention_grad;

    for (int64_t w = from; w < to; w++) {
        head h = head_of(m, (float *)j->c->scratch + w * m->worker_floats, grad);
        for (int64_t i = w; i < m->items; i += m->workers)
            (grad ? grad_item : forward_item)(m, j->c, &h, i);
    }
}

static int run(nn_backend *on, const nn_call *c)
{
    const att *m = c->state;
    const job j = {m, c};
    /* Per score: an exponential and d products; one simple operation takes as long as 16 products. */
    int64_t work = m->s.n * m->s.heads * m->s.tq * m->s.tk * (8 + m->s.d / 8);

    (void)on;
    cpu_for(m->workers, work / m->workers, run_workers, &j);
    return 0;
}

static int64_t queries_of(const att_shape *s)
{
    int64_t fit = SCORES / s->tk / SIMD_LANES * SIMD_LANES;

    return least(fit < FEW_QUERIES ? FEW_QUERIES : least(fit, QUERIES), up(s->tq, SIMD_LANES));
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    att *m = NEW(att);
    const att_shape *s = &m->s;
    bool grad = c->y->op->id == NN_OP_attention_grad;
    int64_t threads = omp_get_max_threads(), heads, all;

    (void)on, (void)frozen, (void)e;
    c->state = m;
    m->s = att_shape_of(c->y);
    m->simd = cpu_simd_best();
    m->scale = (float)(1.0 / sqrt((double)s->d));
    m->queries = queries_of(s);
    heads = s->n * s->heads;
    all = (s->tq + m->queries - 1) / m->queries;
    /* Too few heads for all threads: a head's queries are shared out too. (Not the sums over queries, in dK and dV.) */
    m->parts = grad || heads >= threads ? 1 : least((threads + heads - 1) / heads, all);
    m->items = heads * m->parts;
    m->workers = least(threads, m->items);
    m->worker_floats = head_floats(m, grad);
    c->scratch_bytes = (size_t)(m->workers * m->worker_floats) * sizeof(float);
    return 0;
}

static void done(nn_call *c)
{
    free(c->state);
}

static const nn_kernel by_tiles = {.name = "cpu.attention.tiles", .over = 1, .takes = cpu_needs_f32,
                                   .prepare = prepare, .run = run, .done = done};
static const nn_kernel grad_by_tiles = {
    .name = "cpu.attention_grad.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run, .done = done};

const nn_kernel *const cpu_attention[] = {&by_tiles, &cpu_ref_attention, NULL};
const nn_kernel *const cpu_attention_grad[] = {&grad_by_tiles, &cpu_ref_attention_grad, NULL};
