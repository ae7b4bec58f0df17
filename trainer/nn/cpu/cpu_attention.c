/* Attention and its gradient (formulas: op/attention.c), by tiles of queries against blocks of keys, so that nothing of
 * size tq * tk is ever written and what a tile works on stays in L2 (Dao et al. 2022, FlashAttention).
 *
 * Queries are the columns of every product here: 16 of them fill a vector however narrow a head is, keys and values
 * are rows as they lie, and softmax runs down the columns with no sum across lanes:
 *
 *   S' [keys][16] = K Q',  Y' [d][16] += V' P',  dP' = V dY',  dQ' += K' dS',  dV += P' dY,  dK += dS' Q
 *
 * A score becomes a weight, and dP' becomes dS', in the registers it was summed in (cpu_simd_scores.h): Q holds
 * scale / ln 2, so that P' = 2^S', and every sum of a column begins with what is subtracted from it. No greatest score is
 * looked for. P' is taken below the greatest of the first few keys, which cancels in the end; the block whose sum shows
 * that f32's room is going to be used up (FULL) is made again, below its own greatest, and what was there before is
 * brought to it.
 *
 * The gradient keeps the weights of a tile for all keys where they are not too many. Where they are, it finds the sums of
 * all queries first, and goes through blocks of keys with all tiles: the scores are made twice. What a sum divides is
 * divided where it is short: rows of dY, not weights. dK and dV, and dQ, are added to where they lie in cache.
 *
 * In bf16 a word of a product's sources is a pair of numbers that meet in its sum; everything else is the same.
 *
 * One item of work is a sample's head (forward: or a part of its queries). A worker has scratch of its own, and an item's
 * sums have their own order, so the number of workers does not change a bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cpu/cpu.h"
#include "trainer/nn/cpu/cpu_rows.h"
#include "trainer/nn/cpu/cpu_shapes.h"
#include "trainer/nn/cpu/cpu_tiles.h"

enum {
    QUERIES = 64,        /* of a tile */
    PANELS = QUERIES / SIMD_LANES,
    KEYS = 256,          /* of a block: its scores, 64 KiB, and what is made of them stay in L2 */
    KEYS_KEPT = 4096,    /* up to here the weights of a tile for all keys, a mebibyte, are sooner kept than made again */
    FIRST_KEYS = 8,      /* whose greatest score a query's weights begin below */
};

/* A query's weights of a block come to no more: f32 has room for 2^127, and they are multiplied by values and summed. */
static const float FULL = 4294967296.0f;

typedef struct {
    att_shape s;
    const cpu_simd *simd;
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
    float *out, *dk_out, *dv_out;       /* out: y, or dq */
    float *near;                        /* rows of d numbers, a row of c apart elsewhere: of all keys, or a tile's queries */
    float *line;                        /* words of a tile's or a block's rows */
    float *k_rows, *v_rows;             /* K and V as left factors: [tk][words] */
    float *turned;                      /* [blocks][d][keys / each]: V' or K' */
    float *q_columns, *dy_columns;      /* Q' and dY' as right factors: [panels][words][16] */
    float *q_rows, *dy_rows;            /* Q and dY as right factors: [tiles][ceil(d / 16)][queries / each][16] */
    float *p;                           /* [panels][keys][16]; of all blocks where they are kept */
    float *dp;                          /* [panels][keys][16], or words of queries: [panels][keys, made even][8] */
    float *p_narrow, *pairs;            /* bf16: P in words of queries; P or dS in words of keys, [panels][keys / 2][16] */
    float *result;                      /* Y' of a tile or dQ' of all queries: [panels][d][16] */
    float *dk, *dv;                     /* [tk][d] */
    float *start;                       /* of each query: minus what its weights are below */
    float *sum;                         /* of them; becomes its inverse */
    float *less;                        /* of each query: -D / sum, D = sum(dY * Y) */
    int64_t first, rows, panels;        /* of the tile */
    int64_t key, keys;                  /* of the block */
} head;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/* ---- sources laid out in words ---- */

static const float zeros[1 << 12]; /* beside the last row of an odd number */

/* Words of neighbouring rows of b [rows][d]: [rows / each][d]; beside the last row lie zeros. */
static const float *words_of_rows(const att *m, float *to, const float *b, int64_t rows)
{
    if (m->each == 1)
        return b;
    for (int64_t i = 0; i < rows; i += 2)
        m->simd->pair(to + i / 2 * m->s.d, b + i * m->s.d, i + 1 < rows ? b + (i + 1) * m->s.d : zeros, m->s.d);
    return to;
}

/* Words of neighbours in rows of b [rows][d]: [rows][words]; beside the last of an odd number lies a zero. */
static const float *words_of_each(const att *m, float *to, const float *b, int64_t rows)
{
    if (m->each == 1)
        return b;
    if (m->s.d % 2 == 0)
        m->simd->narrow((uint16_t *)to, b, rows * m->s.d);
    else
        for (int64_t i = 0; i < rows; i++) {
            to[(i + 1) * m->words - 1] = 0;
            m->simd->narrow((uint16_t *)(to + i * m->words), b + i * m->s.d, m->s.d);
        }
    return to;
}

/* The tile's rows of b [rows][d] as columns: [panels][words][16], zeros past the last. */
static void pack_columns(const att *m, head *h, float *all, const float *b)
{
    const float *from = words_of_each(m, h->line, b, h->rows);
    float *to = all + h->first * m->words;

    if (h->rows % SIMD_LANES)
        memset(to, 0, (size_t)(h->panels * SIMD_LANES * m->words) * sizeof *to);
    for (int64_t i = 0; i < h->rows; i += SIMD_LANES)
        rows_turn(to + i * m->words, SIMD_LANES, from + i * m->words, m->words, least(SIMD_LANES, h->rows - i), m->words);
}

/* The tile's rows of b [rows][d] as rows: [ceil(d / 16)][queries of its panels / each][16], zeros around. */
static void pack_rows(const att *m, head *h, float *all, const float *b)
{
    const int64_t wide = tiles_panels(m->s.d), deep = h->panels * SIMD_LANES / m->each * SIMD_LANES;
    const float *from = words_of_rows(m, h->line, b, h->rows);
    float *to = all + h->first / m->each * wide * SIMD_LANES;

    if (m->s.d % SIMD_LANES || h->rows % SIMD_LANES)
        memset(to, 0, (size_t)(wide * deep) * sizeof *to);
    for (int64_t x = 0; x < m->s.d; x += SIMD_LANES, to += deep)
        rows_copy(to, SIMD_LANES, from + x, m->s.d, (h->rows + m->each - 1) / m->each, least(SIMD_LANES, m->s.d - x), NULL);
}

/* b [tk][d] turned, a block of keys behind the other: [d][keys / each]. */
static void turn(const att *m, head *h, const float *b)
{
    float *to = h->turned;

    for (int64_t key = 0; key < m->s.tk; key += KEYS) {
        const int64_t keys = least(KEYS, m->s.tk - key), row = (keys + m->each - 1) / m->each;
        rows_turn(to, row, words_of_rows(m, h->line, b + key * m->s.d, keys), m->s.d, row, m->s.d);
        to += m->s.d * row;
    }
}

/* ---- products ---- */

static void product(const tiles *t)
{
    tiles_run(t, 0, t->m, 0, tiles_panels(t->n));
}

/* Rows of the block's keys and columns of the tile's queries. */
static simd_scores scores_of(const att *m, const head *h, const float *rows, const float *columns, const float *start)
{
    return (simd_scores){.rows = rows + h->key * m->words, .keys = h->keys, .words = m->words, .panels = h->panels,
                         .columns = columns + h->first * m->words, .start = start,
                         .first = m->s.causal ? h->first - h->key : KEYS};
}

/* result [panels][d][16] += turned times scores: what is summed over keys. */
static void over_keys(const att *m, const head *h, float *result, const float *from, bool add)
{
    const int64_t deep = (h->keys + m->each - 1) / m->each;

    product(&(tiles){.simd = m->simd, .m = m->s.d, .n = h->panels * SIMD_LANES,
                     .a = h->turned + h->key / m->each * m->s.d, .row = deep, .taps = 1, .depth = deep, .step = 1,
                     .panels = from, .out = result, .ld = SIMD_LANES, .out_next = m->s.d * SIMD_LANES, .add = add});
}

/* to [tk][d] += scores times rows of queries: what is summed over queries. Each panel of queries is a tap. */
static void over_queries(const att *m, const head *h, float *to, const float *from, const float *rows, bool add)
{
    const int64_t deep = SIMD_LANES / m->each;

    rows += h->first / m->each * tiles_panels(m->s.d) * SIMD_LANES;
    to += h->key * m->s.d;
    if (m->s.d <= 8) {
        m->simd->score_sums(&(simd_sums){from, h->keys, h->panels, rows, to, m->s.d, add});
        return;
    }
    product(&(tiles){.simd = m->simd, .m = h->keys, .n = m->s.d, .a = from, .row = deep,
                     .taps = h->panels, .tap_step = up(h->keys, m->each) * deep, .depth = deep, .step = 1,
                     .panels = rows, .out = to, .ld = m->s.d, .out_next = SIMD_LANES, .add = add});
}

/* a [n][16] times a number of each query. */
static void times_each(float *a, int64_t n, const float *by)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < SIMD_LANES; l++)
            a[i * SIMD_LANES + l] *= by[l];
}

/* The tile's rows of what the call makes = result'. */
static void turn_back(const att *m, const head *h, const float *result)
{
    for (int64_t i = 0; i < h->rows; i += SIMD_LANES)
        rows_turn(h->out + (h->first + i) * m->s.c, m->s.c, result + i * m->s.d, SIMD_LANES, m->s.d,
                  least(SIMD_LANES, h->rows - i));
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

/* What a tile or a head has of dQ' or Y'. */
static float *result_of(const att *m, const head *h)
{
    return h->result + (m->grad ? h->first * m->s.d : 0);
}

/* The block's weights, of those that are kept. */
static float *weights_at(const att *m, const head *h, int64_t key)
{
    return h->p + (m->kept ? key * QUERIES : 0);
}

/* ---- weights ---- */

/* What a tile's weights begin below. The first key is one that every query sees. */
static void begin(const att *m, head *h)
{
    float most[QUERIES];
    simd_scores s = scores_of(m, h, h->k_rows, h->q_columns, zeros);

    for (int64_t i = 0; i < QUERIES; i++)
        most[i] = -INFINITY;
    s.keys = least(FIRST_KEYS, h->keys);
    s.most = most;
    m->simd->score_most(&s);
    for (int64_t i = 0; i < h->panels * SIMD_LANES; i++) {
        h->start[h->first + i] = -most[i];
        h->sum[h->first + i] = 0;
    }
}

/* The tile's weights are brought below the greatest scores of this block, where these are greater. */
static void sink(const att *m, head *h)
{
    float most[QUERIES], by[QUERIES], *start = h->start + h->first;
    simd_scores s = scores_of(m, h, h->k_rows, h->q_columns, zeros);

    for (int64_t i = 0; i < h->panels * SIMD_LANES; i++)
        most[i] = -start[i];
    s.most = most;
    m->simd->score_most(&s);
    for (int64_t i = 0; i < h->panels * SIMD_LANES; i++) {
        by[i] = exp2f(-start[i] - most[i]);
        start[i] = -most[i];
        h->sum[h->first + i] *= by[i];
    }
    for (int64_t v = 0; v < h->panels && h->key > 0; v++) {
        for (int64_t key = 0; key < h->key && m->kept; key += KEYS)
            times_each(weights_at(m, h, key) + v * KEYS * SIMD_LANES, KEYS, by + v * SIMD_LANES);
        if (!m->grad)
            times_each(h->result + v * m->s.d * SIMD_LANES, m->s.d, by + v * SIMD_LANES);
    }
}

static bool are_full(const float *sum, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(sum[i] <= FULL)) /* or not-a-number */
            return true;
    return false;
}

/* Weights of the tile and block, for the product over keys or else as numbers; sum: theirs. */
static void weigh(const att *m, const head *h, float *sum)
{
    simd_scores s = scores_of(m, h, h->k_rows, h->q_columns, h->start + h->first);

    s.sum = sum;
    s.p = weights_at(m, h, h->key);
    s.pairs = m->grad ? NULL : h->pairs;
    m->simd->score_weights(&s);
}

/* The same, and into the tile's sums. */
static void more_keys(const att *m, head *h)
{
    const int64_t n = h->panels * SIMD_LANES;
    float sum[QUERIES];

    if (h->key == 0)
        begin(m, h);
    weigh(m, h, sum);
    if (are_full(sum, n)) {
        sink(m, h);
        weigh(m, h, sum);
    }
    for (int64_t i = 0; i < n; i++)
        h->sum[h->first + i] += sum[i];
}

static void invert(head *h)
{
    for (int64_t i = h->first; i < h->first + h->panels * SIMD_LANES; i++)
        h->sum[i] = 1 / h->sum[i];
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
    const int64_t all = tiles_panels(s->tq) * SIMD_LANES, block = QUERIES * KEYS;
    const int64_t wide = tiles_panels(s->d) * all / m->each * SIMD_LANES;
    head h = {0};

    h.near = take(&room, taken, (s->tk > QUERIES ? s->tk : QUERIES) * s->d);
    h.line = m->each == 2 ? take(&room, taken, (KEYS / 2 + 1) * (s->d + 1)) : NULL;
    h.k_rows = take(&room, taken, s->tk * m->words);
    h.turned = take(&room, taken, s->d * (s->tk + 1) / m->each + s->d * (s->tk / KEYS + 1));
    h.q_columns = take(&room, taken, all * m->words);
    h.p = take(&room, taken, m->kept ? QUERIES * up(s->tk, KEYS) : block);
    h.pairs = m->each == 2 ? take(&room, taken, block / 2) : NULL;
    h.result = take(&room, taken, (m->grad ? all : QUERIES) * s->d);
    h.start = take(&room, taken, all);
    h.sum = take(&room, taken, all);
    if (!m->grad)
        return h;
    h.v_rows = take(&room, taken, s->tk * m->words);
    h.dy_columns = take(&room, taken, all * m->words);
    h.q_rows = take(&room, taken, wide);
    h.dy_rows = take(&room, taken, wide);
    h.dp = take(&room, taken, block / m->each);
    h.p_narrow = m->each == 2 ? take(&room, taken, block / 2) : NULL;
    h.dk = take(&room, taken, s->tk * s->d);
    h.dv = take(&room, taken, s->tk * s->d);
    h.less = take(&room, taken, all);
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
    if (!m->grad)
        return;
    h->y = (const float *)c->in[3] + qs;
    h->dy = (const float *)c->in[4] + qs;
    h->dk_out = (float *)c->out + s->n * s->tq * s->c + ks;
    h->dv_out = h->dk_out + s->n * s->tk * s->c;
}

/* Rows of b, a row of c apart, beside each other, in words. */
static void lay_out_rows(const att *m, head *h, float *to, const float *b)
{
    float *near = m->each == 1 ? to : h->near;

    rows_copy(near, m->s.d, b, m->s.c, m->s.tk, m->s.d, NULL);
    words_of_each(m, to, near, m->s.tk);
}

/* Keys, and values: what is summed over keys is of one of them. */
static void lay_out_keys(const att *m, head *h)
{
    lay_out_rows(m, h, h->k_rows, h->k);
    if (m->grad) {
        turn(m, h, m->each == 1 ? h->k_rows : h->near);
        lay_out_rows(m, h, h->v_rows, h->v);
    } else {
        rows_copy(h->near, m->s.d, h->v, m->s.c, m->s.tk, m->s.d, NULL);
        turn(m, h, h->near);
    }
}

/* Q times scale / ln 2. */
static void lay_out_queries(const att *m, head *h)
{
    float by[QUERIES];

    for (int64_t i = 0; i < h->rows; i++)
        by[i] = m->scale * 1.44269504f;
    rows_copy(h->near, m->s.d, h->q + h->first * m->s.c, m->s.c, h->rows, m->s.d, by);
    pack_columns(m, h, h->q_columns, h->near);
    if (m->grad)
        pack_rows(m, h, h->q_rows, h->near);
}

static void forward_tile(const att *m, head *h)
{
    lay_out_queries(m, h);
    for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS) {
        more_keys(m, h);
        over_keys(m, h, h->result, m->each == 2 ? h->pairs : h->p, key > 0);
    }
    invert(h);
    for (int64_t v = 0; v < h->panels; v++)
        times_each(h->result + v * m->s.d * SIMD_LANES, m->s.d, h->sum + h->first + v * SIMD_LANES);
    turn_back(m, h, h->result);
}

static void forward_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    const int64_t part = item % m->parts;

    look_at(m, h, c, item / m->parts);
    lay_out_keys(m, h);
    for (int64_t t = m->tiles * part / m->parts; t < m->tiles * (part + 1) / m->parts; t++) {
        tile_at(m, h, t);
        forward_tile(m, h);
    }
}

/* A tile whose sums are known: dY divided by them, and D. */
static void lay_out_slopes(const att *m, head *h)
{
    const float *y = h->y + h->first * m->s.c;
    float *less = h->less + h->first;

    rows_copy(h->near, m->s.d, h->dy + h->first * m->s.c, m->s.c, h->rows, m->s.d, h->sum + h->first);
    pack_columns(m, h, h->dy_columns, h->near);
    pack_rows(m, h, h->dy_rows, h->near);
    memset(less, 0, (size_t)(h->panels * SIMD_LANES) * sizeof *less);
    for (int64_t i = 0; i < h->rows; i++)
        less[i] = -rows_dot(y + i * m->s.c, h->near + i * m->s.d, m->s.d);
}

/* A tile and block whose weights are there; add: some tile came to this block before. */
static void grad_block(const att *m, head *h, bool add)
{
    simd_scores s = scores_of(m, h, h->v_rows, h->dy_columns, h->less + h->first);

    s.p = weights_at(m, h, h->key);
    s.dp = h->dp;
    s.p_narrow = h->p_narrow;
    s.pairs = h->pairs;
    m->simd->score_slopes(&s);
    over_queries(m, h, h->dv, m->each == 2 ? h->p_narrow : s.p, h->dy_rows, add);
    over_queries(m, h, h->dk, h->dp, h->q_rows, add);
    over_keys(m, h, result_of(m, h), m->each == 2 ? h->pairs : h->dp, h->key > 0);
}

/* A tile meets all keys: its sums are known then, and what is divided by them. */
static void sum_tile(const att *m, head *h, int64_t t)
{
    tile_at(m, h, t);
    lay_out_queries(m, h);
    for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS)
        more_keys(m, h);
    invert(h);
    lay_out_slopes(m, h);
}

/* Blocks of keys, and all tiles for each: what a block's keys get stays where it is added up. */
static void by_blocks(const att *m, head *h)
{
    float sum[QUERIES];

    for (int64_t t = 0; t < m->tiles; t++)
        sum_tile(m, h, t);
    for (int64_t key = 0; key < m->s.tk; key += KEYS)
        for (int64_t t = 0, met = 0; t < m->tiles; t++) {
            tile_at(m, h, t);
            if (!block_at(m, h, key))
                continue;
            weigh(m, h, sum);
            grad_block(m, h, met++ > 0);
        }
}

/* Tiles, and all blocks for each, whose weights are kept. met: blocks that some tile came to. */
static void by_tiles_kept(const att *m, head *h)
{
    bool met[KEYS_KEPT / KEYS] = {false};

    for (int64_t t = 0; t < m->tiles; t++) {
        sum_tile(m, h, t);
        for (int64_t key = 0; key < m->s.tk && block_at(m, h, key); key += KEYS) {
            grad_block(m, h, met[key / KEYS]);
            met[key / KEYS] = true;
        }
    }
}

/* dS is without scale: dQ gets it here, and dK, summed up of Q times scale / ln 2, ln 2. */
static void bring_back(const att *m, head *h)
{
    for (int64_t i = 0; i < tiles_panels(m->s.tq) * SIMD_LANES * m->s.d; i++)
        h->result[i] *= m->scale;
    for (int64_t t = 0; t < m->tiles; t++) {
        tile_at(m, h, t);
        turn_back(m, h, result_of(m, h));
    }
    for (int64_t i = 0; i < m->s.tk * m->s.d; i++)
        h->dk[i] *= 0.693147181f;
    rows_copy(h->dk_out, m->s.c, h->dk, m->s.d, m->s.tk, m->s.d, NULL);
    rows_copy(h->dv_out, m->s.c, h->dv, m->s.d, m->s.tk, m->s.d, NULL);
}

static void grad_item(const att *m, const nn_call *c, head *h, int64_t item)
{
    look_at(m, h, c, item);
    lay_out_keys(m, h);
    (m->kept ? by_tiles_kept : by_blocks)(m, h);
    bring_back(m, h);
}

/* ---- */

static void run_workers(const void *arg, int64_t from, int64_t to)
{
    const job *j = arg;
    const att *m = j->m;

    for (int64_t w = from; w < to; w++) {
        int64_t taken = 0;
        head h = head_of(m, (float *)j->c->scratch + w * m->worker_floats, &taken);
        for (int64_t i = m->items * w / m->workers; i < m->items * (w + 1) / m->workers; i++)
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
    m->simd = pairs ? cpu_simd_pairs() : cpu_simd_best();
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
