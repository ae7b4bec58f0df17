#ifndef CPU_SIMD_H
#define CPU_SIMD_H
/* The inner loops of our own kernels, built once per kind of processor (cpu_simd_*.c) from one text (cpu_simd_*.h) and
 * chosen once, at run time. Sums have one order for one kind of processor; between kinds the bits differ. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIMD_LANES = 16,   /* columns of a panel, on every processor */
    SIMD_ROWS = 8,     /* the most rows of a tile */
    SIMD_PANELS = 2,   /* the most panels of a tile */
};

/* One tile of a product: out[r][j] = start[j] + sum over t < taps, k < depth of
 *     rows[r][t * tap_step + k * step] * panel[j / 16][t * depth + k][j % 16],
 * for all j < columns. Rows are found through pointers, so the same loop multiplies matrices (one tap), convolves (a
 * tap per kernel row) and reads a transposed factor (step). */
typedef struct {
    const float *const *rows;
    int64_t taps, tap_step, depth, step;
    const float *panel;
    int64_t next;            /* from one panel to the one beside it */
    const float *start;      /* whole panels wide; NULL: 0 */
    float *out;
    int64_t ld, out_next;    /* in out: between rows, and from 16 columns to the 16 beside them */
    int64_t columns;         /* from 1 on, as many as the tile is wide */
    bool add;                /* to what is in out */
} simd_tile;

/* Scores of attention: of a block's keys and the queries of a tile,
 *     start[q] + sum over w < words of rows[key][w] * columns[q / 16][w][q % 16].
 * weights: p becomes 2^score, sum their sums over the block's keys (infinite or not-a-number where one is too large);
 * most: takes the block's scores into each query's greatest; slopes: dp becomes p * score. What a query does not see is 0,
 * or not taken. */
typedef struct {
    const float *rows;             /* [keys][words] */
    int64_t keys, words;
    const float *columns;          /* [panels][words][16] */
    int64_t panels;
    const float *start;            /* [panels][16] */
    int64_t first;                 /* query q sees keys 0..first + q of the block; may be negative */
    float *sum, *most;             /* [panels][16] */
    float *p, *dp;                 /* [panels][keys][16] */
    /* In pairs dp and p_narrow are words of neighbouring queries, [panels][keys, made even][8], and slopes write words of
     * neighbouring keys, too: pairs [panels][keys / 2][16]. So do weights, instead of p, where pairs is not NULL. */
    float *p_narrow, *pairs;
} simd_scores;

/* to [keys][columns], eight or fewer, = sum over queries p[q / 16][key][q % 16] * rows[q][column], by words of neighbouring
 * queries in pairs; rows lie 16 numbers apart. */
typedef struct {
    const float *p;                /* or dp; a tile may read some rows of it behind the last */
    int64_t keys, panels;
    const float *rows;             /* [panels][16 or 8 words][16] */
    float *to;
    int64_t columns;
    bool add;                      /* to what is there */
} simd_sums;

typedef void simd_tile_fn(const simd_tile *t);
typedef void simd_scores_fn(const simd_scores *s);
typedef void simd_map(float *out, const float *x, int64_t n);
typedef void simd_slope(float *out, const float *x, const float *dy, int64_t n);
typedef void simd_pair(float *out, const float *a, const float *b, bool one, int64_t n);

typedef struct {
    const char *name;                         /* "avx512" */
    int sizes[4];                             /* tiles there are, in rows: the largest first, 1 last */
    int panels;                               /* 1 or 2: panels of the widest tile */
    simd_tile_fn *tile[4][SIMD_PANELS + 1];   /* [size][panels]; 0: the first half of one */

    simd_scores_fn *score_weights, *score_most, *score_slopes;
    void (*score_sums)(const simd_sums *s);

    /* The loops of the norms: cpu_simd_norm.h says what each computes. */
    void (*column_sums)(float *sum, const float *x, int64_t rows, int64_t ld, int64_t columns);
    void (*column_squares)(float *sum, const float *x, const float *mean, int64_t rows, int64_t ld, int64_t columns);
    void (*column_dots)(float *sum, float *with_x, const float *x, const float *dy, const float *mean, int64_t rows,
                        int64_t ld, int64_t columns);
    void (*norm_apply)(float *y, const float *x, const float *mean, const float *scale, const float *bias,
                       int64_t rows, int64_t ld, int64_t columns);
    void (*norm_grad)(float *dx, const float *x, const float *dy, const float *mean, const float *scale,
                      const float *slope, const float *level, int64_t rows, int64_t ld, int64_t columns);
    void (*layer_norm)(float *y, const float *x, const float *w, const float *bias, int64_t rows, int64_t c, float eps);
    void (*layer_norm_grad_x)(float *dx, const float *x, const float *w, const float *dy, int64_t rows, int64_t c,
                              float eps);
    void (*layer_norm_grad_w)(float *dw, float *dbias, const float *x, const float *dy, int64_t rows, int64_t c,
                              float eps);

    /* The loops of pointwise operations (cpu_simd_pointwise.h): n elements that lie in a row; out may be x, dy or b.
     * Each element's result depends on its own value alone, wherever a range is cut. */
    simd_pair *add, *sub, *mul;               /* b: as many numbers, or one for all */
    simd_map *silu, *gelu, *quick_gelu;
    simd_slope *silu_grad, *gelu_grad, *quick_gelu_grad;
    void (*scale)(float *out, const float *x, float by, int64_t n);
    void (*geglu)(float *out, const float *a, const float *b, int64_t n);
    void (*geglu_grad)(float *da, float *db, const float *a, const float *b, const float *dy, int64_t n);
    void (*narrow)(uint16_t *out, const float *x, int64_t n); /* to bf16: to nearest, ties to even; NaN stays NaN */
    void (*pair)(float *to, const float *low, const float *high, int64_t n); /* words of two in bf16; of cpu_simd_pairs */
    float (*sum)(const float *x, int64_t n);
    float (*sum_squares)(const float *x, int64_t n);
    /* To bf16, up with the chance of what lies between: element i of x by the 16 bits first + i of a stream (nn_adamw); first a
     * multiple of 8. */
    void (*round)(uint16_t *out, const float *x, const float stream[4], uint64_t first, int64_t n);
    void (*adamw)(float *w, float *m, float *v, const float *d, const float *h, const float *base, int64_t n);
} cpu_simd;

const cpu_simd *cpu_simd_best(void);          /* what this processor has */

/* Tiles whose words are pairs of bf16 that lie side by side in k, sums in f32; NULL where the processor has no such
 * product. Of the table only sizes, panels, tile, the scores, narrow and pair are set. */
const cpu_simd *cpu_simd_pairs(void);
extern const cpu_simd cpu_simd_avx512_bf16;
bool cpu_simd_runs(const cpu_simd *s);        /* whether this processor can */
void cpu_simd_use(const cpu_simd *s);         /* for tests: what cpu_simd_best answers from now on; NULL: as ever */
extern const cpu_simd cpu_simd_plain, cpu_simd_avx2, cpu_simd_avx512;
#endif
