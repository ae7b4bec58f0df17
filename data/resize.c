/* One axis at a time. The order of the floating-point operations in the weights is part of the promise: the same
 * doubles round to the same 22-bit integers as in Pillow's Resample.c. */
#include "data/resize.h"

#include <math.h>
#include <stdlib.h>

#include "cluster/base/mem.h"

enum { BITS = 22 }; /* 32 less 8 of the pixel less 2 for the sum of a filter's negative lobes */

/* Where output i looks: `n[i]` pixels from `first[i]`, with weights at weight[i * most], exact and in fixed point. */
typedef struct {
    int *first, *n, *weight;
    double *exact;
    int most;
} taps;

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static const struct {
    double (*at)(double);
    double half_width;
} filters[] = {[RESIZE_BILINEAR] = {triangle, 1.0}, [RESIZE_BICUBIC] = {cubic, 2.0}};

static int fixed(double w)
{
    return (int)(w * (1 << BITS) + (w < 0 ? -0.5 : 0.5));
}

/* Weights for outputs start .. start + count - 1 of an axis of `in` pixels scaled to `out`. */
static taps taps_new(int in, int out, int start, int count, resize_filter filter)
{
    double scale = (double)in / out, widen = scale < 1.0 ? 1.0 : scale;
    double reach = filters[filter].half_width * widen, shrink = 1.0 / widen;
    int most = (int)ceil(reach) * 2 + 1;
    taps t = {NEW_N(int, count), NEW_N(int, count), NEW_N(int, count * most), NEW_N(double, count * most), most};

    for (int i = 0; i < count; i++) {
        double centre = (start + i + 0.5) * scale, sum = 0.0, *w = t.exact + i * most;
        int low = (int)(centre - reach + 0.5), high = (int)(centre + reach + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in ? in : high;
        for (int k = 0; k < high - low; k++)
            sum += w[k] = filters[filter].at((k + low - centre + 0.5) * shrink);
        for (int k = 0; k < high - low; k++) {
            w[k] = sum != 0.0 ? w[k] / sum : w[k];
            t.weight[i * most + k] = fixed(w[k]);
        }
        t.first[i] = low;
        t.n[i] = high - low;
    }
    return t;
}

static void taps_free(taps *t)
{
    free(t->first);
    free(t->n);
    free(t->weight);
    free(t->exact);
}

static uint8_t rounded(int sum)
{
    int v = sum >> BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One output pixel of three channels: n taps, `step` bytes apart. */
static void gather(uint8_t *to, const uint8_t *from, size_t step, const int *weight, int n)
{
    int r = 1 << (BITS - 1), g = r, b = r;

    for (int k = 0; k < n; k++, from += step) {
        r += from[0] * weight[k];
        g += from[1] * weight[k];
        b += from[2] * weight[k];
    }
    to[0] = rounded(r);
    to[1] = rounded(g);
    to[2] = rounded(b);
}

/* [h, any, 3] -> [h, w, 3] */
static void along_rows(uint8_t *to, int h, int w, const uint8_t *from, size_t stride, const taps *t)
{
    for (int y = 0; y < h; y++, from += stride)
        for (int x = 0; x < w; x++, to += 3)
            gather(to, from + (size_t)t->first[x] * 3, 3, t->weight + x * t->most, t->n[x]);
}

/* [rows from `skipped` on, w, 3] -> [h, w, 3] */
static void along_columns(uint8_t *to, int h, int w, const uint8_t *from, int skipped, const taps *t)
{
    size_t row = (size_t)w * 3;

    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, to += 3)
            gather(to, from + (size_t)(t->first[y] - skipped) * row + (size_t)x * 3, row, t->weight + y * t->most,
                   t->n[y]);
}

/* Where a side keeps its length, every weight is 0 but one of exactly 1: the pass copies, as Pillow's left-out
 * pass does. */
int resize(uint8_t *to, resize_to size, resize_from from, resize_filter filter, err *e)
{
    CHECK(size.top >= 0 && size.left >= 0 && size.top + size.h <= size.high && size.left + size.w <= size.wide);
    taps across = taps_new(from.w, size.wide, size.left, size.w, filter);
    taps down = taps_new(from.h, size.high, size.top, size.h, filter);
    int first = down.first[0], rows = down.first[size.h - 1] + down.n[size.h - 1] - first;
    void *between;
    int rc = mem_big(&between, (size_t)rows * (size_t)size.w * 3, "a picture half resized", e);

    if (rc == 0) {
        along_rows(between, rows, size.w, from.at + (size_t)first * from.stride, from.stride, &across);
        along_columns(to, size.h, size.w, between, first, &down);
        free(between);
    }
    taps_free(&across);
    taps_free(&down);
    return rc;
}

/* ---- as floats ---- */

/* One output pixel of three channels, summed in double: n taps, `step` elements apart. */
static void gather_floats(float *to, const float *from, size_t step, const double *weight, int n)
{
    double r = 0, g = 0, b = 0;

    for (int k = 0; k < n; k++, from += step) {
        r += from[0] * weight[k];
        g += from[1] * weight[k];
        b += from[2] * weight[k];
    }
    to[0] = (float)r;
    to[1] = (float)g;
    to[2] = (float)b;
}

/* A row of bytes as floats, then across: [w of the source, 3] -> [wide, 3]. */
static void float_row(float *to, int wide, float *room, const uint8_t *from, int w, const taps *t)
{
    for (int i = 0; i < w * 3; i++)
        room[i] = from[i];
    for (int x = 0; x < wide; x++)
        gather_floats(to + x * 3, room + (size_t)t->first[x] * 3, 3, t->exact + x * t->most, t->n[x]);
}

int resize_floats(float *to, int high, int wide, resize_from from, resize_filter filter, err *e)
{
    size_t row = (size_t)wide * 3;
    void *between;

    TRY(mem_big(&between, (size_t)from.h * row * sizeof(float), "a picture half resized", e));
    taps across = taps_new(from.w, wide, 0, wide, filter), down = taps_new(from.h, high, 0, high, filter);
    float *rows = between, *room = NEW_N(float, from.w * 3);
    for (int y = 0; y < from.h; y++)
        float_row(rows + (size_t)y * row, wide, room, from.at + (size_t)y * from.stride, from.w, &across);
    for (int y = 0; y < high; y++)
        for (int x = 0; x < wide; x++, to += 3)
            gather_floats(to, rows + (size_t)down.first[y] * row + (size_t)x * 3, row, down.exact + y * down.most,
                          down.n[y]);
    free(room);
    free(between);
    taps_free(&across);
    taps_free(&down);
    return 0;
}
