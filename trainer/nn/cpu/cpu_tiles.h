#ifndef CPU_TILES_H
#define CPU_TILES_H
/* Products by tiles (cpu_simd.h): matmul, conv2d and attention are this with different ways of finding their rows.
 *
 * The right factor is laid out in panels: [ceil(n / 16)][k][16], zeros past column n. Every sum runs over k in one
 * order in one register, so the result does not depend on how rows and columns are shared out. */
#include "trainer/nn/cpu/cpu_simd.h"

enum {
    TILES_BLOCK = 64,          /* rows that go through a panel together: they stay in L2, the panel in L1 */
    TILES_MOST = 1 << 20,      /* products from which on oneDNN is faster (tests/bench/ops.csv) */
};

typedef struct {
    const cpu_simd *simd;
    int64_t m, n;              /* rows and columns of the result */
    const float *a;            /* row i begins at a + at[i], or at a + i * row where `at` is NULL */
    const int64_t *at;
    int64_t row;
    int64_t taps, tap_step;    /* a row is taps runs of depth numbers: k = taps * depth */
    int64_t depth, step;
    const float *panels;
    const float *start;        /* n rounded up to whole panels, what the sums begin with; NULL: 0 */
    float *out;                /* [m][ld], n columns of it */
    int64_t ld, out_next;      /* out_next: from 16 columns to the 16 beside them, SIMD_LANES where they touch */
    bool add;                  /* to what is in out */
} tiles;

static inline int64_t tiles_panels(int64_t n) { return (n + SIMD_LANES - 1) / SIMD_LANES; }
static inline int64_t tiles_floats(int64_t k, int64_t n) { return tiles_panels(n) * k * SIMD_LANES; }

/* Panels first..last-1 of b [k,n], whose element (i,j) lies at i * row + j * col. */
void tiles_pack(float *panels, const float *b, int64_t k, int64_t n, int64_t row, int64_t col, int64_t first,
                int64_t last);
/* A part of the result, by the calling thread. */
void tiles_run(const tiles *t, int64_t row, int64_t row_end, int64_t panel, int64_t panel_end);
/* Both, by as many threads as it is worth. */
void tiles_pack_all(float *panels, const float *b, int64_t k, int64_t n, int64_t row, int64_t col);
void tiles_run_all(const tiles *t);

/* Words of two bf16 that stand side by side in k (cpu_simd_pairs); beside the last of an odd run lies a zero. */
static inline int64_t tiles_words(int64_t k) { return (k + 1) / 2; }
/* to [words of k][n] of b [k,n]. */
void tiles_pair_all(float *to, const float *b, int64_t k, int64_t n);
/* Panels of b [taps][depth][n], the words of each tap behind each other: k = taps * words of depth. */
void tiles_pack_pairs_all(float *panels, const float *b, int64_t taps, int64_t depth, int64_t n);
#endif
