/* The tile of cpu_simd.h, for each number of rows and panels: sums stay in registers over the whole depth. Loops over
 * the rows and columns of a tile must be unrolled, or gcc lays its sums in memory. */

/* Lanes of v into n columns; a part of the columns, or none, may be left. */
#define PUT_COLUMNS(NAME, VEC, N, LOAD, STORE)                                                               \
    static inline void NAME(float *to, VEC v, int64_t n, bool add)                                           \
    {                                                                                                        \
        if (n >= (N)) {                                                                                      \
            if (add)                                                                                         \
                v += *(const VEC *)to;                                                                       \
            *(VEC *)to = v;                                                                                  \
        } else if (n > 0) {                                                                                  \
            if (add)                                                                                         \
                v += LOAD(to, n);                                                                            \
            STORE(to, v, n);                                                                                 \
        }                                                                                                    \
    }
PUT_COLUMNS(put_columns, vec, LANES, load_lanes, store_lanes)
PUT_COLUMNS(put_half_columns, half_vec, HALF_LANES, load_half, store_half)

#define UNROLL _Pragma("GCC unroll 16")

/* sum += a w, with one number a for all lanes; a build for words that are pairs of bf16 says what that means for them. */
#ifndef ADD_PRODUCT
#define ADD_PRODUCT(sum, a, w) ((sum) += (a) * (w))
#define ADD_HALF_PRODUCT ADD_PRODUCT
#endif

/* A tile of R rows and C columns, 8, 16 or 32, is R times V sums in vectors VEC of N numbers each. */
#define TILE(R, C, VEC, N, PRODUCT, PUT)                                                                     \
    static void tile_##R##_##C(const simd_tile *c)                                                           \
    {                                                                                                        \
        enum { V = (C) / (N), EACH = SIMD_LANES / (N) };                                                     \
        VEC sum[R][V];                                                                                       \
        const float *panel = c->panel;                                                                       \
        const int64_t next = c->next, step = c->step, depth = c->depth;                                      \
                                                                                                             \
        UNROLL for (int v = 0; v < V; v++)                                                                   \
            UNROLL for (int r = 0; r < (R); r++)                                                             \
                sum[r][v] = c->start ? *(const VEC *)(c->start + v * (N)) : (VEC){0};                        \
        for (int64_t t = 0; t < c->taps; t++) {                                                              \
            const float *a[R];                                                                               \
            UNROLL for (int r = 0; r < (R); r++)                                                             \
                a[r] = c->rows[r] + t * c->tap_step;                                                         \
            for (int64_t k = 0; k < depth; k++, panel += SIMD_LANES)                                         \
                UNROLL for (int v = 0; v < V; v++) {                                                         \
                    const VEC w = *(const VEC *)(panel + v / EACH * next + v % EACH * (N));                  \
                    UNROLL for (int r = 0; r < (R); r++)                                                     \
                        PRODUCT(sum[r][v], a[r][k * step], w);                                               \
                }                                                                                            \
        }                                                                                                    \
        UNROLL for (int r = 0; r < (R); r++)                                                                 \
            UNROLL for (int v = 0; v < V; v++)                                                               \
                PUT(c->out + r * c->ld + v / EACH * c->out_next + v % EACH * (N), sum[r][v],                 \
                    c->columns - v * (N), c->add);                                                           \
    }
