#ifndef CPU_ROWS_H
#define CPU_ROWS_H
/* Small matrices moved about: rows of n numbers that lie a row apart, four by four numbers at a time. */
#include <stdint.h>

typedef float rows_four __attribute__((vector_size(16), aligned(4), may_alias));

/* to = from, each row times its number where there is one. */
static inline void rows_copy(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t n,
                             const float *times)
{
    for (int64_t i = 0; i < rows; i++, to += to_row, from += from_row) {
        const float by = times ? times[i] : 1.0f;
        int64_t x = 0;
        for (; x + 4 <= n; x += 4)
            *(rows_four *)(to + x) = *(const rows_four *)(from + x) * by;
        for (; x < n; x++)
            to[x] = from[x] * by;
    }
}

static inline float rows_dot(const float *a, const float *b, int64_t n)
{
    rows_four fours = {0};
    float sum = 0;
    int64_t x = 0;

    for (; x + 4 <= n; x += 4)
        fours += *(const rows_four *)(a + x) * *(const rows_four *)(b + x);
    for (; x < n; x++)
        sum += a[x] * b[x];
    return (fours[0] + fours[1]) + (fours[2] + fours[3]) + sum;
}

static inline void rows_turn_four(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    typedef int32_t pick __attribute__((vector_size(16)));
    const rows_four a = *(const rows_four *)from, b = *(const rows_four *)(from + from_row);
    const rows_four c = *(const rows_four *)(from + 2 * from_row), d = *(const rows_four *)(from + 3 * from_row);
    const rows_four ab = __builtin_shuffle(a, b, (pick){0, 4, 1, 5}), cd = __builtin_shuffle(c, d, (pick){0, 4, 1, 5});
    const rows_four ab2 = __builtin_shuffle(a, b, (pick){2, 6, 3, 7}), cd2 = __builtin_shuffle(c, d, (pick){2, 6, 3, 7});

    *(rows_four *)to = __builtin_shuffle(ab, cd, (pick){0, 1, 4, 5});
    *(rows_four *)(to + to_row) = __builtin_shuffle(ab, cd, (pick){2, 3, 6, 7});
    *(rows_four *)(to + 2 * to_row) = __builtin_shuffle(ab2, cd2, (pick){0, 1, 4, 5});
    *(rows_four *)(to + 3 * to_row) = __builtin_shuffle(ab2, cd2, (pick){2, 3, 6, 7});
}

/* to [n][rows] = from [rows][n] turned. */
static inline void rows_turn(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t n)
{
    int64_t i = 0;

    for (; i + 4 <= rows; i += 4) {
        int64_t x = 0;
        for (; x + 4 <= n; x += 4)
            rows_turn_four(to + x * to_row + i, to_row, from + i * from_row + x, from_row);
        for (; x < n; x++)
            for (int64_t l = 0; l < 4; l++)
                to[x * to_row + i + l] = from[(i + l) * from_row + x];
    }
    for (; i < rows; i++)
        for (int64_t x = 0; x < n; x++)
            to[x * to_row + i] = from[i * from_row + x];
}
#endif
