#include "trainer/eval/judge_pixels.h"

#include <math.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "data/resize.h"

/* Python's round(): halves to even, of a whole number's half. */
static int half(int n)
{
    return (int)lrint(n / 2.0);
}

/* torchvision's Resize: int(size * long / short). */
static int in_proportion(int shorter, int longer_side, int shorter_side)
{
    return (int)((int64_t)shorter * longer_side / shorter_side);
}

static resize_from whole(const image *m)
{
    return (resize_from){m->rgb, m->h, m->w, (size_t)m->w * 3};
}

int judge_pixels_crop(float *out, const image *m, const judge_crop *how, err *e)
{
    int s = how->side, high = how->shorter, wide = how->shorter;

    if (m->h < m->w)
        wide = in_proportion(how->shorter, m->w, m->h);
    else
        high = in_proportion(how->shorter, m->h, m->w);
    uint8_t *rgb = NEW_N(uint8_t, s * s * 3);
    resize_to to = {.high = high, .wide = wide, .top = half(high - s), .left = half(wide - s), .h = s, .w = s};
    int rc = resize(rgb, to, whole(m), RESIZE_BICUBIC, e);
    for (int i = 0; rc == 0 && i < s * s * 3; i++)
        out[i] = ((float)rgb[i] / 255.0F - how->mean[i % 3]) / how->std[i % 3];
    free(rgb);
    return rc;
}

int judge_pixels_squash(float *out, const image *m, int side, float centre, err *e)
{
    TRY(resize_floats(out, side, side, whole(m), RESIZE_BICUBIC, e));
    for (int i = 0; i < side * side * 3; i++)
        out[i] = (fminf(fmaxf(out[i], 0), 255) - centre) / centre;
    return 0;
}
