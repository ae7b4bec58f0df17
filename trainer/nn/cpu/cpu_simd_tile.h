/* The tile of cpu_simd.h, for each number of rows and panels: sums stay in registers over the whole depth. Loops over
 * the rows and columns of a tile must be unrolled, or gcc lays its sums in memory. */

/* Lanes of v into n columns; a part of the columns, or none, may be left. */
static inline void put_columns(float *to, vec v, int64_t n, bool add)
{
    if (n >= LANES) {
        if (add)
            v += *(const vec *)to;
        *(vec *)to = v;
    } else if (n > 0) {
        if (add)
            v += load_lanes(to, n);
        store_lanes(to, v, n);
    }
}

#define UNROLL _Pragma("GCC unroll 16")

/* sum += a w, with one number a for all lanes; a build for words that are pairs of bf16 says what that means for them. */
#ifndef ADD_PRODUCT
#define ADD_PRODUCT(sum, a, w) ((sum) += (a) * (w))
#endif

/* A tile of R rows and P panels is R times V sums of LANES columns each. */
#define TILE(R, P)                                                                                           \
    static void tile_##R##_##P(const simd_tile *c)                                                           \
    {                                                                                                        \
        enum { V = (P) * SIMD_LANES / LANES, EACH = SIMD_LANES / LANES };                                    \
        vec sum[R][V];                                                                                       \
        const float *panel = c->panel;                                                                       \
        const int64_t next = c->next, step = c->step, depth = c->depth;                                      \
                                                                                                             \
        UNROLL for (int v = 0; v < V; v++)                                                                   \
            UNROLL for (int r = 0; r < (R); r++)                                                             \
                sum[r][v] = c->start ? *(const vec *)(c->start + v * LANES) : (vec){0};                      \
        for (int64_t t = 0; t < c->taps; t++) {                                                              \
            const float *a[R];                                                                               \
            UNROLL for (int r = 0; r < (R); r++)                                                             \
                a[r] = c->rows[r] + t * c->tap_step;                                                         \
            for (int64_t k = 0; k < depth; k++, panel += SIMD_LANES)                                         \
                UNROLL for (int v = 0; v < V; v++) {                                                         \
                    const vec w = *(const vec *)(panel + v / EACH * next + v % EACH * LANES);                \
                    UNROLL for (int r = 0; r < (R); r++)                                                     \
                        ADD_PRODUCT(sum[r][v], a[r][k * step], w);                                           \
                }                                                                                            \
        }                                                                                                    \
        UNROLL for (int r = 0; r < (R); r++)                                                                 \
            UNROLL for (int v = 0; v < V; v++)                                                               \
                put_columns(c->out + r * c->ld + v / EACH * c->out_next + v % EACH * LANES, sum[r][v],       \
                            c->columns - v * LANES, c->add);                                                 \
    }
