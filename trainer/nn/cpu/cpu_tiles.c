/* How tiles are laid over a product and shared out among threads. */
#include "trainer/nn/cpu/cpu_tiles.h"

#include <string.h>

#include "trainer/nn/cpu/cpu.h"

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

/* All rows of a block through panels panel..panel_end-1; rows[] says where each begins. */
static void run_block(const tiles *t, const float *const *rows, int64_t first, int64_t m, int64_t panel,
                      int64_t panel_end)
{
    const cpu_simd *s = t->simd;
    const int64_t next = t->taps * t->depth * SIMD_LANES;
    simd_tile c = {.taps = t->taps, .tap_step = t->tap_step, .depth = t->depth, .step = t->step, .next = next,
                   .ld = t->ld, .add = t->add};

    for (int64_t p = panel, wide; p < panel_end; p += wide) {
        wide = least(s->panels, panel_end - p);
        c.panel = t->panels + p * next;
        c.start = t->start ? t->start + p * SIMD_LANES : NULL;
        c.columns = least(t->n - p * SIMD_LANES, wide * SIMD_LANES);
        for (int64_t i = 0, size = 0; i < m; i += s->sizes[size]) {
            while (s->sizes[size] > m - i)
                size++;
            c.rows = rows + i;
            c.out = t->out + (first + i) * t->ld + p * SIMD_LANES;
            s->tile[size][wide - 1](&c);
        }
    }
}

void tiles_run(const tiles *t, int64_t row, int64_t row_end, int64_t panel, int64_t panel_end)
{
    const float *rows[TILES_BLOCK];

    for (int64_t i = row; i < row_end; i += TILES_BLOCK) {
        int64_t m = least(TILES_BLOCK, row_end - i);
        for (int64_t r = 0; r < m; r++)
            rows[r] = t->a + (t->at ? t->at[i + r] : (i + r) * t->row);
        run_block(t, rows, i, m, panel, panel_end);
    }
}

/* ---- shared out ---- */

enum {
    GROUP = 8,  /* panels of one item of work */
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

/* Item i of the work is one block of rows and one group of panels. */
static void run_part(const void *arg, int64_t from, int64_t to)
{
    const tiles *t = arg;
    int64_t panels = tiles_panels(t->n), groups = (panels + GROUP - 1) / GROUP;

    for (int64_t i = from; i < to; i++) {
        int64_t row = i / groups * TILES_BLOCK, panel = i % groups * GROUP;
        tiles_run(t, row, least(row + TILES_BLOCK, t->m), panel, least(panel + GROUP, panels));
    }
}

void tiles_run_all(const tiles *t)
{
    int64_t blocks = (t->m + TILES_BLOCK - 1) / TILES_BLOCK, groups = (tiles_panels(t->n) + GROUP - 1) / GROUP;
    int64_t products = least(t->m, TILES_BLOCK) * least(t->n, GROUP * SIMD_LANES) * t->taps * t->depth;

    cpu_for(blocks * groups, products / EASE, run_part, t);
}
