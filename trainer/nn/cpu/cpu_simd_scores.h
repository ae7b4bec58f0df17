/* Scores of attention, and what becomes of them before they leave the registers they were summed in (simd_scores in cpu_simd.h):
 * a tile is SIMD_MOST keys by SIMD_WIDE panels of queries. In a build of pairs what products read is written as bf16, too. */

#define ALWAYS static inline __attribute__((always_inline))

#ifdef SCORES_IN_PAIRS
enum { SIMD_EACH = 2 }; /* numbers of a word */
#else
enum { SIMD_EACH = 1 };
#endif

enum {
    KEY_ROWS = SIMD_MOST,
    PER_PANEL = SIMD_LANES / LANES,         /* vectors */
    KEY_VECS = SIMD_WIDE * PER_PANEL,       /* of the widest tile */
};

/* Rows j.. of the keys times n vectors of columns from panel on. Below the last key lies the last key once more. */
ALWAYS void score_tile(vec sum[KEY_ROWS][KEY_VECS], const simd_scores *s, int64_t j, int64_t panel, const int n)
{
    const float *columns = s->columns + panel * s->words * SIMD_LANES, *start = s->start + panel * SIMD_LANES;
    const float *rows[KEY_ROWS];
    const int64_t next = s->words * SIMD_LANES, words = s->words, last = s->keys - 1 - j;

    UNROLL for (int r = 0; r < KEY_ROWS; r++)
        rows[r] = s->rows + (j + (r < last ? r : last)) * words;
    UNROLL for (int v = 0; v < n; v++)
        UNROLL for (int r = 0; r < KEY_ROWS; r++)
            sum[r][v] = *(const vec *)(start + v * LANES);
    for (int64_t k = 0; k < words; k++, columns += SIMD_LANES)
        UNROLL for (int v = 0; v < n; v++) {
            const vec w = *(const vec *)(columns + v / PER_PANEL * next + v % PER_PANEL * LANES);
            UNROLL for (int r = 0; r < KEY_ROWS; r++)
                ADD_PRODUCT(sum[r][v], rows[r][k], w);
        }
}

/* Whether there is something in a tile that some query of it does not see, or that is no key. */
ALWAYS bool hides(const simd_scores *s, int64_t j, int64_t panel)
{
    return j + KEY_ROWS > s->keys || j + KEY_ROWS - 1 > s->first + panel * SIMD_LANES;
}

/* to where key j is one that vector v's queries see, else other. */
ALWAYS vec where_seen(const simd_scores *s, int64_t j, int64_t panel, int v, vec to, float other)
{
    const ivec hidden = first_lanes(j < s->keys ? j - s->first - panel * SIMD_LANES - v * LANES : LANES);

    return (vec)(((ivec)to & ~hidden) | ((ivec)lanes(other) & hidden));
}

/* Where row j of vector v is in an array [panels][keys][16]. */
ALWAYS int64_t score_at(const simd_scores *s, int64_t j, int64_t panel, int v)
{
    return ((panel + v / PER_PANEL) * s->keys + j) * SIMD_LANES + v % PER_PANEL * LANES;
}

ALWAYS void put_scores(float *to, const simd_scores *s, int64_t j, int64_t panel, const int n, vec sum[KEY_ROWS][KEY_VECS])
{
    UNROLL for (int r = 0; r < KEY_ROWS; r++)
        UNROLL for (int v = 0; v < n; v++)
            if (j + r < s->keys)
                *(vec *)(to + score_at(s, j + r, panel, v)) = sum[r][v];
}

#ifdef SCORES_IN_PAIRS
/* Rows j and j + 1 of a panel, where an array [panels][keys / 2][16] of words has them. */
ALWAYS int64_t pair_at(const simd_scores *s, int64_t j, int64_t panel, int v)
{
    return ((panel + v) * ((s->keys + 1) / 2) + j / 2) * SIMD_LANES;
}

/* Words whose two numbers are of neighbouring keys. */
ALWAYS void put_pairs(const simd_scores *s, int64_t j, int64_t panel, const int n, vec sum[KEY_ROWS][KEY_VECS])
{
    UNROLL for (int r = 0; r < KEY_ROWS; r += 2)
        UNROLL for (int v = 0; v < n; v++)
            if (j + r < s->keys)
                *(vec *)(s->pairs + pair_at(s, j + r, panel, v)) = paired(sum[r][v], sum[r + 1][v]);
}

/* Words whose two numbers are of neighbouring queries: [panels][keys, made even][8]. */
ALWAYS void put_narrow(float *to, const simd_scores *s, int64_t j, int64_t panel, const int n, vec sum[KEY_ROWS][KEY_VECS])
{
    UNROLL for (int r = 0; r < KEY_ROWS; r += 2)
        UNROLL for (int v = 0; v < n; v++)
            if (j + r < s->keys) {
                const __m512bh both = _mm512_cvtne2ps_pbh((__m512)sum[r + 1][v], (__m512)sum[r][v]);
                memcpy(to + pair_at(s, j + r, panel, v), &both, sizeof both);
            }
}
#endif

/* ---- weights ---- */

ALWAYS void weights_of(const simd_scores *s, int64_t panel, const int n, const bool pairs)
{
    vec total[KEY_VECS];

    UNROLL for (int v = 0; v < n; v++)
        total[v] = lanes(0);
    for (int64_t j = 0; j < s->keys; j += KEY_ROWS) {
        vec sum[KEY_ROWS][KEY_VECS];
        score_tile(sum, s, j, panel, n);
        UNROLL for (int r = 0; r < KEY_ROWS; r++)
            UNROLL for (int v = 0; v < n; v++)
                sum[r][v] = exp2_any(sum[r][v]);
        if (hides(s, j, panel))
            UNROLL for (int r = 0; r < KEY_ROWS; r++)
                UNROLL for (int v = 0; v < n; v++)
                    sum[r][v] = where_seen(s, j + r, panel, v, sum[r][v], 0);
        UNROLL for (int r = 0; r < KEY_ROWS; r++)
            UNROLL for (int v = 0; v < n; v++)
                total[v] += sum[r][v];
#ifdef SCORES_IN_PAIRS
        if (pairs) {
            put_pairs(s, j, panel, n, sum);
            continue;
        }
#else
        (void)pairs;
#endif
        put_scores(s->p, s, j, panel, n, sum);
    }
    UNROLL for (int v = 0; v < n; v++)
        *(vec *)(s->sum + panel * SIMD_LANES + v * LANES) = total[v];
}

/* A function for the widest tile, one for a panel that is left over, and one that lays them over a block. */
#define OVER_PANELS(NAME, OF, ...)                                                                           \
    static void NAME(const simd_scores *s)                                                                   \
    {                                                                                                        \
        int64_t panel = 0;                                                                                   \
                                                                                                             \
        for (; panel + SIMD_WIDE <= s->panels; panel += SIMD_WIDE)                                           \
            OF(s, panel, KEY_VECS, ##__VA_ARGS__);                                                           \
        for (; panel < s->panels; panel++)                                                                   \
            OF(s, panel, PER_PANEL, ##__VA_ARGS__);                                                          \
    }

/* ---- the greatest ---- */

ALWAYS void most_of(const simd_scores *s, int64_t panel, const int n)
{
    vec now[KEY_VECS], *most = (vec *)(s->most + panel * SIMD_LANES);

    UNROLL for (int v = 0; v < n; v++)
        now[v] = most[v];
    for (int64_t j = 0; j < s->keys; j += KEY_ROWS) {
        vec sum[KEY_ROWS][KEY_VECS];
        score_tile(sum, s, j, panel, n);
        UNROLL for (int r = 0; r < KEY_ROWS; r++)
            UNROLL for (int v = 0; v < n; v++)
                now[v] = larger(where_seen(s, j + r, panel, v, sum[r][v], -INFINITY), now[v]);
    }
    UNROLL for (int v = 0; v < n; v++)
        most[v] = now[v];
}

/* ---- slopes ---- */

ALWAYS void slopes_of(const simd_scores *s, int64_t panel, const int n)
{
    for (int64_t j = 0; j < s->keys; j += KEY_ROWS) {
        vec sum[KEY_ROWS][KEY_VECS], p[KEY_ROWS][KEY_VECS];
        score_tile(sum, s, j, panel, n);
        UNROLL for (int r = 0; r < KEY_ROWS; r++)
            UNROLL for (int v = 0; v < n; v++) {
                p[r][v] = lanes(0);
                if (j + r < s->keys)
                    p[r][v] = *(const vec *)(s->p + score_at(s, j + r, panel, v));
                sum[r][v] *= p[r][v];
            }
#ifdef SCORES_IN_PAIRS
        put_narrow(s->p_narrow, s, j, panel, n, p);
        put_narrow(s->dp, s, j, panel, n, sum);
        put_pairs(s, j, panel, n, sum);
#else
        put_scores(s->dp, s, j, panel, n, sum);
#endif
    }
}

OVER_PANELS(score_most, most_of)
OVER_PANELS(score_slopes, slopes_of)
#ifdef SCORES_IN_PAIRS
OVER_PANELS(weights_as_f32, weights_of, false)
OVER_PANELS(weights_as_pairs, weights_of, true)

static void score_weights(const simd_scores *s)
{
    (s->pairs ? weights_as_pairs : weights_as_f32)(s);
}
#else
OVER_PANELS(score_weights, weights_of, false)
#endif

/* ---- sums over queries ---- */

enum {
    SUM_DEEP = SIMD_LANES / SIMD_EACH,                                /* words of a panel's queries */
    SUM_VECS = 8 / HALF_LANES,
    SUM_ROWS = SIMD_BYTES == 64 ? 16 : SIMD_BYTES == 32 ? 12 : 6,     /* keys of a tile: sums enough to hide how long one takes */
};

/* Below the last key a tile reads what lies there, and writes nothing. */
static void score_sums(const simd_sums *s)
{
    const int64_t panel = (s->keys + SIMD_EACH - 1) / SIMD_EACH * SIMD_LANES;

    for (int64_t j = 0; j < s->keys; j += SUM_ROWS) {
        half_vec sum[SUM_ROWS][SUM_VECS];
        UNROLL for (int r = 0; r < SUM_ROWS; r++)
            UNROLL for (int v = 0; v < SUM_VECS; v++)
                sum[r][v] = (half_vec){0};
        for (int64_t t = 0; t < s->panels; t++) {
            const float *a = s->p + t * panel + j * SUM_DEEP, *rows = s->rows + t * SUM_DEEP * SIMD_LANES;
            for (int64_t q = 0; q < SUM_DEEP; q++, a++, rows += SIMD_LANES)
                UNROLL for (int v = 0; v < SUM_VECS; v++) {
                    const half_vec w = *(const half_vec *)(rows + v * HALF_LANES);
                    UNROLL for (int r = 0; r < SUM_ROWS; r++)
                        ADD_HALF_PRODUCT(sum[r][v], a[r * SUM_DEEP], w);
                }
        }
        UNROLL for (int r = 0; r < SUM_ROWS; r++)
            UNROLL for (int v = 0; v < SUM_VECS; v++)
                if (j + r < s->keys)
                    put_half_columns(s->to + (j + r) * s->columns + v * HALF_LANES, sum[r][v], s->columns - v * HALF_LANES,
                                     s->add);
    }
}
