/* How tiles are laid over a product and shared out among threads. */
#include "trainer/nn/cpu/cpu_tiles.h"

#include <string.h>

#include <omp.h>

#include "trainer/nn/cpu/cpu.h"

enum {
    DEEP = 192,      /* numbers of a slice: two panels' slices are 24 KiB and stay in L1 */
    APART = 512,     /* from here on (half a page) a turned factor is brought together first */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void tiles_pack(float *panels, const float *b, int64_t k, int64_t n, int64_t row, int64_t col, int64_t first,
                int64_t last)
{
    for (int64_t p = first; p < last; p++) {
        float *to = panels + p * k * SIMD_LANES;
        const float *from = b + p * SIMD_LANES * col;
        int64_t columns = least(SIMD_LANES, n - p * SIMD_LANES);
        if (columns < SIMD_LANES)
            memset(to, 0, (size_t)(k * SIMD_LANES) * sizeof *to);
        if (col == 1)
            for (int64_t i = 0; i < k; i++)
                memcpy(to + i * SIMD_LANES, from + i * row, (size_t)columns * sizeof *to);
        else
            for (int64_t i = 0; i < k; i++)
                for (int64_t j = 0; j < columns; j++)
                    to[i * SIMD_LANES + j] = from[i * row + j * col];
    }
}

/* A block of rows while it is worked on. */
typedef struct {
    const float *rows[TILES_BLOCK];  /* where each begins */
    int64_t first, m;
    float near[TILES_BLOCK / SIMD_LANES][DEEP][SIMD_LANES]; /* a slice of a turned factor, 16 rows side by side */
} block;

/* Taps from..to-1 (of several), or numbers from..to-1 of the only run, of every row: what a panel's slice is for. */
typedef struct { int64_t from, to; } slice;

static int64_t slice_size(const tiles *t)
{
    return t->taps > 1 ? (DEEP + t->depth - 1) / t->depth : DEEP;
}

/* A turned factor's numbers lie a row apart, each on a page of its own: brings a slice of them together. */
static void gather(simd_tile *c, const tiles *t, block *b)
{
    for (int64_t k = 0; k < c->depth; k++)
        for (int64_t r = 0; r < b->m; r += SIMD_LANES)
            memcpy(b->near[r / SIMD_LANES][k], b->rows[r] + k * t->step,
                   (size_t)least(SIMD_LANES, b->m - r) * sizeof(float));
    for (int64_t r = 0; r < b->m; r++)
        b->rows[r] = &b->near[r / SIMD_LANES][0][r % SIMD_LANES];
    c->step = SIMD_LANES;
}

/* Where tile c reads the slice of its rows and panels. */
static void aim(simd_tile *c, const tiles *t, block *b, slice s)
{
    int64_t before = t->taps > 1 ? s.from * t->depth : s.from;

    c->taps = t->taps > 1 ? s.to - s.from : 1;
    c->depth = t->taps > 1 ? t->depth : s.to - s.from;
    c->step = t->step;
    c->tap_step = t->tap_step;
    c->panel = t->panels + before * SIMD_LANES;
    for (int64_t r = 0; r < b->m; r++)
        b->rows[r] = t->a + (t->at ? t->at[b->first + r] : (b->first + r) * t->row)
                     + (t->taps > 1 ? s.from * t->tap_step : s.from * t->step);
    if (t->step >= APART && t->taps == 1 && !t->at && t->row == 1)
        gather(c, t, b);
}

/* All rows of a block, with one slice of their numbers, through panels panel..panel_end-1. */
static void run_slice(const tiles *t, const block *b, const simd_tile *slice_of, bool first, int64_t panel,
                      int64_t panel_end)
{
    const cpu_simd *s = t->simd;
    const int64_t next = t->taps * t->depth * SIMD_LANES;
    simd_tile c = *slice_of;

    for (int64_t p = panel, wide; p < panel_end; p += wide) {
        const int64_t left = t->n - p * SIMD_LANES;
        wide = left > SIMD_LANES * 3 / 2 ? least(s->panels, panel_end - p) : 1;
        const int64_t kind = left <= SIMD_LANES / 2 ? 0 : wide;
        c.panel = slice_of->panel + p * next;
        c.start = first && t->start ? t->start + p * SIMD_LANES : NULL;
        c.columns = least(left, wide * SIMD_LANES);
        for (int64_t i = 0, size = 0; i < b->m; i += s->sizes[size]) {
            while (s->sizes[size] > b->m - i)
                size++;
            c.rows = b->rows + i;
            c.out = t->out + (b->first + i) * t->ld + p * t->out_next;
            s->tile[size][kind](&c);
        }
    }
}

void tiles_run(const tiles *t, int64_t row, int64_t row_end, int64_t panel, int64_t panel_end)
{
    const int64_t all = t->taps > 1 ? t->taps : t->depth, each = slice_size(t);
    block b;
    simd_tile c = {.next = t->taps * t->depth * SIMD_LANES, .ld = t->ld, .out_next = t->out_next};

    for (b.first = row; b.first < row_end; b.first += TILES_BLOCK) {
        b.m = least(TILES_BLOCK, row_end - b.first);
        for (int64_t k = 0; k < all; k += each) {
            aim(&c, t, &b, (slice){k, least(k + each, all)});
            c.add = t->add || k > 0;
            run_slice(t, &b, &c, k == 0, panel, panel_end);
        }
    }
}

/* ---- shared out ---- */

enum {
    GROUP = 8,  /* the most panels of one item of work */
    EASE = 16,  /* products that take as long as one simple element operation, cpu_for's unit */
};

typedef struct { float *panels; const float *b; int64_t k, n, row, col; } pack_job;

static void pack_part(const void *arg, int64_t from, int64_t to)
{
    const pack_job *j = arg;

    tiles_pack(j->panels, j->b, j->k, j->n, j->row, j->col, from, to);
}

void tiles_pack_all(float *panels, const float *b, int64_t k, int64_t n, int64_t row, int64_t col)
{
    const pack_job j = {panels, b, k, n, row, col};

    cpu_for(tiles_panels(n), k * SIMD_LANES, pack_part, &j);
}

typedef struct { const tiles *t; int64_t group; } run_job; /* group: panels of one item of work */

/* Item i of the work is one block of rows and one group of panels. */
static void run_part(const void *arg, int64_t from, int64_t to)
{
    const run_job *j = arg;
    const tiles *t = j->t;
    int64_t panels = tiles_panels(t->n), groups = (panels + j->group - 1) / j->group;

    for (int64_t i = from; i < to; i++) {
        int64_t row = i / groups * TILES_BLOCK, panel = i % groups * j->group;
        tiles_run(t, row, least(row + TILES_BLOCK, t->m), panel, least(panel + j->group, panels));
    }
}

/* Few rows are shared out by smaller groups. */
void tiles_run_all(const tiles *t)
{
    const int64_t blocks = (t->m + TILES_BLOCK - 1) / TILES_BLOCK, panels = tiles_panels(t->n);
    run_job j = {t, GROUP};

    while (j.group > SIMD_PANELS && blocks * panels < 2 * j.group * omp_get_max_threads())
        j.group /= 2;
    int64_t products = least(t->m, TILES_BLOCK) * least(t->n, j.group * SIMD_LANES) * t->taps * t->depth;
    cpu_for(blocks * ((panels + j.group - 1) / j.group), products / EASE, run_part, &j);
}

/* ---- pairs ---- */

typedef struct { float *to; const float *b; int64_t taps, depth, n; } pair_job;

/* n words of two rows; high NULL: zeros. */
static void pair_rows(float *to, const float *low, const float *high, int64_t n)
{
    static const float zeros[256];
    const cpu_simd *s = cpu_simd_pairs();

    for (int64_t i = 0, some; i < n; i += some) {
        some = high ? n : least(n - i, (int64_t)(sizeof zeros / sizeof *zeros));
        s->pair(to + i, low + i, high ? high : zeros, some);
    }
}

static void pair_part(const void *arg, int64_t from, int64_t to)
{
    const pair_job *j = arg;

    for (int64_t i = from; i < to; i++) {
        const float *low = j->b + 2 * i * j->n;
        pair_rows(j->to + i * j->n, low, 2 * i + 1 < j->depth ? low + j->n : NULL, j->n);
    }
}

void tiles_pair_all(float *to, const float *b, int64_t k, int64_t n)
{
    const pair_job j = {to, b, 1, k, n};

    cpu_for(tiles_words(k), n / 2, pair_part, &j);
}

/* Panels from..to-1. */
static void pack_pairs_part(const void *arg, int64_t from, int64_t to)
{
    const pair_job *j = arg;
    const int64_t words = tiles_words(j->depth), size = j->taps * words * SIMD_LANES;

    for (int64_t p = from; p < to; p++) {
        const int64_t columns = least(SIMD_LANES, j->n - p * SIMD_LANES);
        float *word = j->to + p * size;
        if (columns < SIMD_LANES)
            memset(word, 0, (size_t)size * sizeof *word);
        for (int64_t t = 0; t < j->taps; t++)
            for (int64_t i = 0; i < words; i++, word += SIMD_LANES) {
                const float *low = j->b + (t * j->depth + 2 * i) * j->n + p * SIMD_LANES;
                pair_rows(word, low, 2 * i + 1 < j->depth ? low + j->n : NULL, columns);
            }
    }
}

void tiles_pack_pairs_all(float *panels, const float *b, int64_t taps, int64_t depth, int64_t n)
{
    const pair_job j = {panels, b, taps, depth, n};

    cpu_for(tiles_panels(n), taps * depth * SIMD_LANES / 2, pack_pairs_part, &j);
}
