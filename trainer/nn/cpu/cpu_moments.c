/* Block-wise dynamic quantisation (Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
 * ICLR 2022, sections 2 and 3): a code is a decade and a place in it. Decade i of seven, 10^(i-6) its upper end, has the
 * centres of 2^i equal parts of [0.1, 1] with a sign, of 2^(i+1) parts without; 0 and 1 complete the 256. So the largest
 * number of a block is exact and small ones keep their order of magnitude down to a millionth of it. */
#include "trainer/nn/cpu/cpu_moments.h"

#include <math.h>
#include <stdlib.h>

enum {
    DECADES = 7,
    CODES = 256,
    AT_ONCE = 16, /* searches side by side: each halving waits for the one before, but not for its neighbours' */
};

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

void moment_map_make(moment_map *map, bool with_sign)
{
    int n = 0;

    for (int i = 0; i < DECADES; i++) {
        int parts = 1 << (with_sign ? i : i + 1);
        double top = pow(10, i - (DECADES - 1));
        for (int k = 0; k < parts; k++) {
            float x = (float)(top * (0.1 + 0.9 * (k + 0.5) / parts));
            map->value[n++] = x;
            if (with_sign)
                map->value[n++] = -x;
        }
    }
    map->value[n++] = 0;
    map->value[n++] = 1;
    CHECK(n == CODES);
    qsort(map->value, CODES, sizeof *map->value, ascending);
    for (int i = 0; i < CODES - 1; i++)
        map->middle[i] = 0.5f * (map->value[i] + map->value[i + 1]);
}

void moments_unpack(float *to, const uint8_t *codes, float scale, const moment_map *map, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = scale * map->value[codes[i]];
}

/* How many middles lie below each x: the codes of the nearest values. Eight halvings of 256. */
static void nearest(uint8_t *codes, const moment_map *map, const float x[AT_ONCE], int64_t n)
{
    int at[AT_ONCE] = {0};

    for (int step = CODES / 2; step > 0; step /= 2)
        for (int i = 0; i < AT_ONCE; i++)
            at[i] += (x[i] > map->middle[at[i] + step - 1]) * step;
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint8_t)at[i];
}

float moments_pack(uint8_t *codes, const float *from, const moment_map *map, int64_t n)
{
    float scale = 0;

    for (int64_t i = 0; i < n; i++)
        scale = fmaxf(scale, fabsf(from[i]));
    float by = scale > 0 ? 1 / scale : 0;
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        float x[AT_ONCE] = {0};
        int64_t some = n - i < AT_ONCE ? n - i : AT_ONCE;
        for (int64_t k = 0; k < some; k++)
            x[k] = from[i + k] * by;
        nearest(codes + i, map, x, some);
    }
    return scale;
}
