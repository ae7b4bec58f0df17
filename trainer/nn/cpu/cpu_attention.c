/* Attention and its gradient (formulas: op/attention.c), by tiles of queries against blocks of keys, so that nothing of
 * size tq * tk is ever written and what a tile works on stays in L2 (Dao et al. 2022, FlashAttention).
 *
 * Queries are the columns of every product here: 16 of them fill a vector however narrow a head is, keys and values
 * are rows as they lie, and softmax runs down the columns with no sum across lanes:
 *
 *   S' [keys][16] = K Q',  Y' [d][16] += V' P',  dP' = V dY',  dQ' += K' dS',  dV += P' dY,  dK += dS' Q
 *
 * The forward pass carries each query's greatest score and sum along and shrinks what it has when a greater one comes. So does
 * the gradient where the weights of a tile for all keys are not too many: they are made once, and each block's brought to the last
 * greatest score when it is used. Where they are, it finds greatest and sum of all queries first, and goes through blocks of
 * keys with all tiles: the scores are made twice. dK and dV, and dQ, are added to where they lie in cache.
 *
 * In bf16 a word of a product's sources is a pair of numbers that meet in its sum; everything else is the same.
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
    QUERIES = 64,        /* of a tile */
    PANELS = QUERIES / SIMD_LANES,
    KEYS = 256,          /* of a block: its scores, 64 KiB, and what is made of them stay in L2 */
    KEYS_KEPT = 4096,    /* up to here the weights of a tile for all keys, a mebibyte, are sooner kept than made again */
};

typedef struct {
    att_shape s;
    const cpu_simd *simd, *by;  /* by: whose tiles multiply */
    int64_t each;        /* numbers of a word: 1, or 2 of bf16 */
    int64_t words;       /* of a row of d numbers */
    float scale;
    int64_t tiles;       /* of all queries */
    int64_t parts, items, workers, worker_floats;
    bool grad, kept;     /* kept: the gradient makes scores once */
} att;

typedef struct { const att *m; const nn_call *c; } job;

/* A head of one sample, its scratch, and the tile and block it is at. [..] of words, the rest floats. */
typedef struct {
    const float *q, *k, *v, *y, *dy;
    float *out, *dk, *dv;               /* out: y, or dq */
    const float *k_rows, *v_rows;       /* K and V as left factors [tk][words]: as they lie, or in the scratch */
    int64_t row;                        /* from one of those to the next */
    float *k_narrow, *v_narrow;
    float *turned;                      /* [blocks][d][keys / each]: V' or K' */
    float *q_columns, *dy_columns;      /* Q' and dY' as right factors: [panels][words][16] */
    float *q_rows, *dy_rows;            /* Q and dY as right factors: [tiles][ceil(d / 16)][queries / each][16] */
    float *p, *dp;                      /* [panels][keys][16]; p of all blocks where they are kept */
    float *then;                        /* [blocks][QUERIES]: the greatest when a block was made, then what brings its weights to the last one */
    float *line;                        /* a row of words */
    float *narrow;                      /* of p or dp: what a product reads in bf16 */
    float *result;                      /* Y' of a tile or dQ' of all queries: [panels][d][16] */
    float *most, *sum, *less;           /* of each query; sum becomes its inverse */
    int64_t first, rows, panels;        /* of the tile */
    int64_t key, keys;                  /* of the block */
} head;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/* ---- sources laid out in words ---- */

static const float zeros[1 << 12]; /* beside the last row of an odd number */

/* Rows i.. of a word each, beside each other: to[j] is the word of b[i][j]; below the last row lie zeros. */
static void row_of_words(const att *m, float *to, const float *b, int64_t i, int64_t rows, int64_t n)
{
    const float *at = b + i * m->s.c;

    if (m->each == 1)
        memcpy(to, at, (size_t)n * sizeof *to);
    else
        m->by->pair(to, at, i + 1 < rows ? at + m->s.c : zeros, n);
}

/* A row of d numbers as words, a zero beside the last of an odd number. */
static void words_of_row(const att *m, float *to, const float *b)
{
    if (m->s.d % 2)
        to[m->words - 1] = 0;
    m->by->narrow((uint16_t *)to, b, m->s.d);
}

/* All queries of b as columns: [panels][words][16], zeros past the last. */
static void pack_columns(const att *m, head *h, float *to, const float *b)
{
    const int64_t panel = m->words * SIMD_LANES;

    memset(to + (tiles_panels(m->s.tq) - 1) * panel, 0, (size_t)panel * sizeof *to);
    for (int64_t i = 0; i < m->s.tq; i++) {
        const float *from = b + i * m->s.c;
        float *at = to + i / SIMD_LANES * panel + i % SIMD_LANES;
        if (m->each == 2) {
            words_of_row(m, h->line, from);
            from = h->line;
        }
        for (int64_t w = 0; w < m->words; w++)
            at[w * SIMD_LANES] = from[w];
    }
}

/* All queries of b as rows, a tile behind the other: [ceil(d / 16)][queries of its panels / each][16], zeros around. */
static void pack_rows(const att *m, float *to, const float *b)
{
    for (int64_t i = 0; i < m->s.tq; i += QUERIES) {
        const int64_t rows = least(QUERIES, m->s.tq - i), deep = up(rows, SIMD_LANES) / m->each * SIMD_LANES;
        memset(to, 0, (size_t)(tiles_panels(m->s.d) * deep) * sizeof *to);
        for (int64_t x = 0; x < m->s.d; x += SIMD_LANES, to += deep)
            for (int64_t r = 0; r < rows; r += m->each)
                row_of_words(m, to + r / m->each * SIMD_LANES, b + i * m->s.c + x, r, rows, least(SIMD_LANES, m->s.d - x));
    }
}

/* b [tk][d] turned, a block of keys behind the other: [d][keys / each]. */
static void turn(const att *m, head *h, float *to, const float *b)
{
    for (int64_t key = 0; key < m->s.tk; key += KEYS) {
        const int64_t keys = least(KEYS, m->s.tk - key), row = (keys + m->each - 1) / m->each;
        for (int64_t j = 0; j < row; j++) {
            row_of_words(m, h->line, b + key * m->s.c, j * m->each, keys, m->s.d);
            for (int64_t x = 0; x < m->s.d; x++)
                to[x * row + j] = h->line[x];
        }
        to += m->s.d * row;
    }
}

/* b [tk][d] as a left factor over d. */
static const float *left(const att *m, float *to, const float *b)
{
    if (m->each == 1)
        return b;
    for (int64_t j = 0; j < m->s.tk; j++)
        words_of_row(m, to + j * m->words, b + j * m->s.c);
    return to;
}

/* ---- products ---- */

static void product(const tiles *t)
{
    tiles_run(t, 0, t->m, 0, tiles_panels(t->n));
}

/* to [panels][keys][16] = rows of the block's keys times columns of the tile's queries. */
static void scores(const att *m, const head *h, float *to, const float *rows, const float *columns)
{
    product(&(tiles){.simd = m->by, .m = h->keys, .n = h->panels * SIMD_LANES, .a = rows + h->key * h->row, .row = h->row,
                     .taps = 1, .depth = m->words, .step = 1, .panels = columns + h->first * m->words, .out = to,
                     .ld = SIMD_LANES, .out_next = h->keys * SIMD_LANES});
}

/* result [panels][d][16] += turned times scores: what is summed over keys. */
static void over_keys(const att *m, const head *h, float *result, const float *from, bool add)
{
    const int64_t deep = (h->keys + m->each - 1) / m->each;

    for (int64_t v = 0; m->each == 2 && v < h->panels; v++)
        for (int64_t j = 0; j < deep; j++) {
            const float *row = from + (v * h->keys + 2 * j) * SIMD_LANES;
            m->by->pair(h->narrow + (v * deep + j) * SIMD_LANES, row, 2 * j + 1 < h->keys ? row + SIMD_LANES : zeros, SIMD_LANES);
        }
    product(&(tiles){.simd = m->by, .m = m->s.d, .n = h->panels * SIMD_LANES,
                     .a = h->turned + h->key / m->each * m->s.d, .row = deep, .taps = 1, .depth = deep, .step = 1,
                     .panels = m->each == 2 ? h->narrow : from, .out = result, .ld = SIMD_LANES,
                     .out_next = m->s.d * SIMD_LANES, .add = add});
}

/* to [keys][c] += scores times rows of queries: what is summed over queries. Each panel of queries is a tap. */
static void over_queries(const att *m, const head *h, float *to, const float *from, const float *rows, bool add)
{
    const int64_t deep = SIMD_LANES / m->each;

    if (m->each == 2)
        m->by->narrow((uint16_t *)h->narrow, from, h->panels * h->keys * SIMD_LANES);
    product(&(tiles){.simd = m->by, .m = h->keys, .n = m->s.d, .a = m->each == 2 ? h->narrow : from, .row = deep,
                     .taps = h->panels, .tap_step = h->keys * deep, .depth = deep, .step = 1,
                     .panels = rows + h->first / m->each * tiles_panels(m->s.d) * SIMD_LANES, .out = to + h->key * m->s.c,
                     .ld = m->s.c, .out_next = SIMD_LANES, .add = add});
}

/* to [rows][c] = result', times each query's number where there is one. */
static void turn_back(const att *m, const head *h, float *to, const float *result, const float *times)
{
    for (int64_t i = 0; i < h->rows; i++) {
        const float *from = result + i / SIMD_LANES * m->s.d * SIMD_LANES + i % SIMD_LANES;
        const float by = times ? times[i] : 1.0f;
        for (int64_t x = 0; x < m->s.d; x++)
            to[(h->first + i) * m->s.c + x] = from[x * SIMD_LANES] * by;
    }
}

/* ---- where a head is ---- */

static void tile_at(const att *m, head *h, int64_t tile)
{
    h->first = tile * QUERIES;
    h->rows = least(QUERIES, m->s.tq - h->first);
    h->panels = tiles_panels(h->rows);
}

/* False where no query of the tile sees a key of the block. */
static bool block_at(const att *m, head *h, int64_t key)
{
    h->key = key;
    h->keys = least(KEYS, m->s.tk - key);
    return !m->s.causal || key < h->first + h->rows;
}

/* The last key of the block that the first query of panel v sees. */
static int64_t sees(const att *m, const head *h, int64_t v)
{
    return m->s.causal ? h->first + v * SIMD_LANES - h->key : KEYS;
}

/* Scores of the tile and block into the greatest and the sums; keep: they become weights; result: what is shrunk, or
 * NULL. */
static void more_keys(const att *m, head *h, float *p, float *most, float *sum, bool keep, float *result)
{
    float shrink[SIMD_LANES];

    scores(m, h, p, h->k_rows, h->q_columns);
    for (int64_t v = 0; v < h->panels; v++) {
        float *y = result ? result + v * m->s.d * SIMD_LANES : NULL;
        m->simd->softmax_more(p + v * h->keys * SIMD_LANES, h->keys, sees(m, h, v), m->scale, most + v * SIMD_LANES,
                              sum + v * SIMD_LANES, shrink, keep);
        for (int64_t x = 0; y && h->key > 0 && x < m->s.d; x++)
            for (int64_t l = 0; l < SIMD_LANES; l++)
                y[x * SIMD_LANES + l] *= shrink[l];
    }
}

static void begin(float *most, float *sum, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        most[i] = -INFINITY;
        sum[i] = 0;
    }
}

static void invert(float *sum, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] = 1 / sum[i];
}

/* ---- items ---- */

/* Hands out pieces of a worker's scratch; with room NULL only counts, so that one text says both. */
static float *take(float **room, int64_t *taken, int64_t floats)
{
    float *at = *room ? *room + *taken : NULL;

    *taken += up(floats, SIMD_LANES);
    return at;
}

static head head_of(const att *m, float *room, int64_t *taken)
{
    const att_shape *s = &m->s;
    const int64_t all = tiles_panels(s->tq), rows = m->each == 2 ? s->tk * m->words : 0;
    const int64_t wide = tiles_panels(s->d) * up(s->tq, SIMD_LANES) / m->each * SIMD_LANES;
    head h = {.row = m->each == 2 ? m->words : s->c};

    h.line = take(&room, taken, s->d + 1);
    h.k_narrow = take(&room, taken, rows);
    h.turned = take(&room, taken, s->d * (s->tk + 1) / m->each + s->d * (s->tk / KEYS + 1));
    h.q_columns = take(&room, taken, all * m->words * SIMD_LANES);
    h.p = take(&room, taken, QUERIES * (m->kept ? up(s->tk, KEYS) : KEYS));
    h.narrow = take(&room, taken, m->each == 2 ? QUERIES * KEYS / 2 : 0);
    h.result = take(&room, taken, (m->grad ? all : PANELS) * s->d * SIMD_LANES);
    h.most = take(&room, taken, (m->grad ? all : PANELS) * SIMD_LANES);
    h.sum = take(&room, taken, (m->grad ? all : PANELS) * SIMD_LANES);
    if (!m->grad)
        return h;
    h.v_narrow = take(&room, taken, rows);
    h.dy_columns = take(&room, taken, all * m->words * SIMD_LANES);
    h.q_rows = take(&room, taken, wide);
    h.dy_rows = take(&room, taken, wide);
    h.dp = take(&room, taken, QUERIES * KEYS);
    h.less = take(&room, taken, all * SIMD_LANES);
    h.then = take(&room, taken, m->kept ? up(s->tk, KEYS) / KEYS * QUERIES : 0);
    return h;
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
    h->k_rows = left(m, h->k_narrow, h->k);
    if (!m->grad)
        return;
    h->v_rows = left(m, h->v_narrow, h->v);
    h->y = (const float *)c->in[3] + qs;
    h->dy = (const float *)c->in[4] + qs;
    h->dk = (float *)c->out + s->n * s->tq * s->c + ks;
    h->dv = h->dk + s->n * s->tk * s->c;
}

static void forward_tile(const att *m, head *h)
{
    begin(h->most, h->sum, QUERIES);
    for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS) {
        more_keys(m, h, h->p, h->most, h->sum, true, h->result);
        over_keys(m, h, h->result, h->p, key > 0);
    }
    invert(h->sum, QUERIES);
    turn_back(m, h, h->out, h->result, h->sum);
}

static void forward_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    const int64_t part = item % m->parts;

    look_at(m, h, c, item / m->parts);
    turn(m, h, h->turned, h->v);
    pack_columns(m, h, h->q_columns, h->q);
    for (int64_t t = m->tiles * part / m->parts; t < m->tiles * (part + 1) / m->parts; t++) {
        tile_at(m, h, t);
        forward_tile(m, h);
    }
}

/* D = sum(dY * Y) of each query, 0 past the last. */
static void find_less(const att *m, head *h)
{
    memset(h->less, 0, (size_t)up(m->s.tq, SIMD_LANES) * sizeof *h->less);
    for (int64_t i = 0; i < m->s.tq; i++)
        for (int64_t x = 0; x < m->s.d; x++)
            h->less[i] += h->y[i * m->s.c + x] * h->dy[i * m->s.c + x];
}

static void find_sums(const att *m, head *h)
{
    begin(h->most, h->sum, up(m->s.tq, SIMD_LANES));
    for (int64_t t = 0; t < m->tiles; t++) {
        tile_at(m, h, t);
        for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS)
            more_keys(m, h, h->p, h->most + h->first, h->sum + h->first, false, NULL);
    }
    invert(h->sum, up(m->s.tq, SIMD_LANES));
}

/* p: exponentials of the tile and block, by[]: what makes weights of them; add: some tile came to this block before. */
static void grad_block(const att *m, head *h, float *p, const float *by, bool add)
{
    const int64_t panel = h->keys * SIMD_LANES;

    scores(m, h, h->dp, h->v_rows, h->dy_columns);
    for (int64_t v = 0; v < h->panels; v++)
        m->simd->softmax_grad(p + v * panel, h->dp + v * panel, h->keys, by + v * SIMD_LANES, h->less + h->first + v * SIMD_LANES,
                              m->scale);
    over_queries(m, h, h->dv, p, h->dy_rows, add);
    over_queries(m, h, h->dk, h->dp, h->q_rows, add);
    over_keys(m, h, h->result + h->first * m->s.d, h->dp, h->key > 0);
}

/* Blocks of keys, and all tiles for each: what a block's keys get stays where it is added up. */
static void by_blocks(const att *m, head *h)
{
    find_sums(m, h);
    for (int64_t key = 0; key < m->s.tk; key += KEYS)
        for (int64_t t = 0, met = 0; t < m->tiles; t++) {
            tile_at(m, h, t);
            if (!block_at(m, h, key))
                continue;
            scores(m, h, h->p, h->k_rows, h->q_columns);
            for (int64_t v = 0; v < h->panels; v++)
                m->simd->softmax_again(h->p + v * h->keys * SIMD_LANES, h->keys, sees(m, h, v), m->scale,
                                       h->most + h->first + v * SIMD_LANES);
            grad_block(m, h, h->p, h->sum + h->first, met++ > 0);
        }
}

/* exp(scale * (then - greatest)) / sum: then becomes it. */
static void bring(const att *m, const head *h, float *then)
{
    for (int64_t i = 0; i < h->panels * SIMD_LANES; i++)
        then[i] = expf((then[i] - h->most[h->first + i]) * m->scale) * h->sum[h->first + i];
}

/* Tiles, and all blocks for each, whose exponentials are kept. met: blocks that some tile came to. */
static void by_tiles_kept(const att *m, head *h)
{
    bool met[KEYS_KEPT / KEYS] = {false};

    begin(h->most, h->sum, up(m->s.tq, SIMD_LANES));
    for (int64_t t = 0; t < m->tiles; t++) {
        tile_at(m, h, t);
        float *most = h->most + h->first, *sum = h->sum + h->first;
        for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS) {
            more_keys(m, h, h->p + key * QUERIES, most, sum, true, NULL);
            memcpy(h->then + key / KEYS * QUERIES, most, (size_t)(h->panels * SIMD_LANES) * sizeof *most);
        }
        invert(sum, h->panels * SIMD_LANES);
        for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS) {
            float *then = h->then + key / KEYS * QUERIES;
            bring(m, h, then);
            grad_block(m, h, h->p + key * QUERIES, then, met[key / KEYS]);
            met[key / KEYS] = true;
        }
    }
}

static void grad_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    look_at(m, h, c, item);
    turn(m, h, h->turned, h->k);
    pack_columns(m, h, h->q_columns, h->q);
    pack_columns(m, h, h->dy_columns, h->dy);
    pack_rows(m, h->q_rows, h->q);
    pack_rows(m, h->dy_rows, h->dy);
    find_less(m, h);
    (m->kept ? by_tiles_kept : by_blocks)(m, h);
    for (int64_t t = 0; t < m->tiles; t++) {
        tile_at(m, h, t);
        turn_back(m, h, h->out, h->result + h->first * m->s.d, NULL);
    }
}

/* ---- */

static void run_workers(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const att *m = j->m;

    for (int64_t w = from; w < to; w++) {
        int64_t taken = 0;
        head h = head_of(m, (float *)j->c->scratch + w * m->worker_floats, &taken);
        for (int64_t i = w; i < m->items; i += m->workers)
            (m->grad ? grad_item : forward_item)(m, j->c, &h, i);
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

static int prepare_as(nn_call *c, bool pairs)
{
    att *m = NEW(att);
    const att_shape *s = &m->s;
    int64_t threads = omp_get_max_threads(), heads;

    c->state = m;
    m->s = att_shape_of(c->y);
    m->grad = c->y->op->id == NN_OP_attention_grad;
    m->kept = m->grad && s->tk <= KEYS_KEPT;
    m->simd = cpu_simd_best();
    m->by = pairs ? cpu_simd_pairs() : m->simd;
    m->each = pairs ? 2 : 1;
    m->words = (s->d + m->each - 1) / m->each;
    m->scale = (float)(1.0 / sqrt((double)s->d));
    m->tiles = (s->tq + QUERIES - 1) / QUERIES;
    heads = s->n * s->heads;
    /* Too few heads for all threads: a head's queries are shared out too. (Not the sums over queries, in dK and dV.) */
    m->parts = m->grad || heads >= threads ? 1 : least((threads + heads - 1) / heads, m->tiles);
    m->items = heads * m->parts;
    m->workers = least(threads, m->items);
    head_of(m, NULL, &m->worker_floats);
    c->scratch_bytes = (size_t)(m->workers * m->worker_floats) * sizeof(float);
    return 0;
}

static int prepare(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on, (void)frozen, (void)e;
    return prepare_as(c, false);
}

static int prepare_bf16(nn_backend *on, nn_call *c, const bool frozen[NN_MAX_SRC], err *e)
{
    (void)on, (void)frozen, (void)e;
    return prepare_as(c, true);
}

static void done(nn_call *c)
{
    free(c->state);
}

static const char *takes_bf16(const struct nn_node *y)
{
    if (att_shape_of(y).d > (int64_t)(sizeof zeros / sizeof *zeros))
        return "a head is wider than 4096";
    if (!cpu_simd_pairs())
        return "this processor, or the compiler this was built by, has no products of bf16";
    return cpu_needs_f32(y);
}

static const nn_kernel by_tiles = {
    .name = "cpu.attention.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run, .done = done};
static const nn_kernel grad_by_tiles = {
    .name = "cpu.attention_grad.tiles", .takes = cpu_needs_f32, .prepare = prepare, .run = run, .done = done};
static const nn_kernel by_bf16 = {
    .name = "cpu.attention.bf16", .takes = takes_bf16, .prepare = prepare_bf16, .run = run, .done = done};
static const nn_kernel grad_by_bf16 = {
    .name = "cpu.attention_grad.bf16", .takes = takes_bf16, .prepare = prepare_bf16, .run = run, .done = done};

const nn_kernel *const cpu_attention[] = {&by_tiles, &cpu_ref_attention, NULL};
const nn_kernel *const cpu_attention_grad[] = {&grad_by_tiles, &cpu_ref_attention_grad, NULL};
const nn_kernel *const cpu_attention_in_bf16[] = {&by_bf16, &by_tiles, &cpu_ref_attention, NULL};
const nn_kernel *const cpu_attention_grad_in_bf16[] = {&grad_by_bf16, &grad_by_tiles, &cpu_ref_attention_grad, NULL};
