/* A shape is a signed distance; half a pixel around its edge is where it fades. Distances: I. Quilez, "2D distance
 * functions" (ellipse: to first order). */
#include "data/toyworld/toy_draw.h"

#include <math.h>
#include <stdlib.h>

#include "cluster/base/mem.h"

typedef struct {
    enum { ELLIPSE, BOX, LINE, RING, TRIANGLE } kind;
    spot at, to, third; /* the middle of an ellipse, box or ring; else corners */
    float rx, ry, width, width_to;
} shape;

canvas canvas_new(int w, int h)
{
    return (canvas){w, h, NEW_N(float, (size_t)w * (size_t)h * 3)};
}

void canvas_free(canvas *c)
{
    free(c->rgb);
    *c = (canvas){0};
}

void canvas_to_bytes(const canvas *c, uint8_t *rgb)
{
    for (int i = 0; i < c->w * c->h * 3; i++)
        rgb[i] = (uint8_t)(fminf(fmaxf(c->rgb[i], 0), 1) * 255 + 0.5F);
}

ink ink_mix(ink a, ink b, float t)
{
    return (ink){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

paint paint_flat(ink a)
{
    return (paint){.a = a, .b = a, .kind = FLAT, .alpha = 1};
}

paint paint_shaded(shading kind, ink a, ink b)
{
    return (paint){.a = a, .b = b, .kind = kind, .alpha = 1};
}

paint paint_glass(ink a, float alpha, float soft)
{
    return (paint){.a = a, .b = a, .kind = FLAT, .alpha = alpha, .soft = soft};
}

/* ---- distances ---- */

static float length(float x, float y)
{
    return sqrtf(x * x + y * y);
}

static float to_ellipse(float x, float y, float rx, float ry)
{
    const float near = length(x / rx, y / ry), slope = length(x / (rx * rx), y / (ry * ry));

    return slope == 0 ? -fminf(rx, ry) : near * (near - 1) / slope;
}

static float to_box(float x, float y, float half_w, float half_h, float round)
{
    const float dx = fabsf(x) - half_w + round, dy = fabsf(y) - half_h + round;

    return length(fmaxf(dx, 0), fmaxf(dy, 0)) + fminf(fmaxf(dx, dy), 0) - round;
}

static float to_line(spot p, const shape *s)
{
    const float bx = s->to.x - s->at.x, by = s->to.y - s->at.y, px = p.x - s->at.x, py = p.y - s->at.y;
    const float along = fminf(fmaxf((px * bx + py * by) / (bx * bx + by * by), 0), 1);

    return length(px - along * bx, py - along * by) - (s->width + along * (s->width_to - s->width)) / 2;
}

/* Distance beyond the line from a to b, on its left where y grows downwards. */
static float beyond(spot p, spot a, spot b)
{
    const float dx = b.x - a.x, dy = b.y - a.y;

    return (dy * (p.x - a.x) - dx * (p.y - a.y)) / length(dx, dy);
}

static float to_triangle(spot p, const shape *s)
{
    const float turn = beyond(s->third, s->at, s->to) < 0 ? 1 : -1;
    const float a = turn * beyond(p, s->at, s->to), b = turn * beyond(p, s->to, s->third);

    return fmaxf(fmaxf(a, b), turn * beyond(p, s->third, s->at));
}

static float distance(spot p, const shape *s)
{
    const float x = p.x - s->at.x, y = p.y - s->at.y;

    switch (s->kind) {
    case ELLIPSE: return to_ellipse(x, y, s->rx, s->ry);
    case BOX: return to_box(x, y, s->rx, s->ry, s->width);
    case RING: return fabsf(to_ellipse(x, y, s->rx, s->ry)) - s->width / 2;
    case LINE: return to_line(p, s);
    case TRIANGLE: return to_triangle(p, s);
    }
    return 1;
}

/* ---- painting ---- */

/* How far x is from the middle between two whole numbers, 0 to 1. */
static float wave(float x)
{
    return fabsf(2 * (x - floorf(x)) - 1);
}

/* The second ink's share: a pattern of period 1/4, with edges a few hundredths of a unit soft. */
static float woven(shading kind, spot p)
{
    const float x = wave(4 * p.x), y = wave(4 * p.y + 0.5F);
    const float inside = kind == STRIPES ? y - 0.5F : kind == SPOTS ? length(x, y) - 0.85F : (x - 0.5F) * (y - 0.5F) * 4;

    return fminf(fmaxf(0.5F + 4 * inside, 0), 1);
}

static ink colour(const paint *with, const shape *s, spot p)
{
    if (with->kind >= STRIPES)
        return ink_mix(with->a, with->b, woven(with->kind, p));
    const float x = (p.x - s->at.x) / s->rx, y = (p.y - s->at.y) / s->ry;
    const float t = with->kind == ACROSS ? (x + 1) / 2
                    : with->kind == DOWN ? (y + 1) / 2
                    : with->kind == ROUND ? length(x + 0.35F, y + 0.4F) / 1.5F : 0;

    return ink_mix(with->a, with->b, fminf(fmaxf(t, 0), 1));
}

static spot far_corner(const shape *s)
{
    const float to = length(s->to.x - s->at.x, s->to.y - s->at.y);
    const float third = s->kind == TRIANGLE ? length(s->third.x - s->at.x, s->third.y - s->at.y) : 0;

    return s->kind == LINE || s->kind == TRIANGLE ? (spot){fmaxf(to, third), 0} : (spot){s->rx, s->ry};
}

/* Pixels a shape can touch: rows and columns around its middle, first and end. */
static void bounds(const canvas *c, pose p, const shape *s, float sine, float cosine, float soft, int rows[2], int columns[2])
{
    const spot corner = far_corner(s);
    const float reach = (length(corner.x, corner.y) + s->width + s->width_to + soft) * p.size + 1;
    const float x = p.mirror ? -s->at.x : s->at.x;
    const float middle_x = p.x + p.size * (cosine * x - sine * s->at.y), middle_y = p.y + p.size * (sine * x + cosine * s->at.y);

    rows[0] = (int)fmaxf(middle_y - reach, 0);
    rows[1] = (int)fminf(fmaxf(middle_y + reach + 1, 0), (float)c->h);
    columns[0] = (int)fmaxf(middle_x - reach, 0);
    columns[1] = (int)fminf(fmaxf(middle_x + reach + 1, 0), (float)c->w);
}

static void draw(canvas *c, pose p, const shape *s, paint with)
{
    const float cosine = 1 / sqrtf(1 + p.tilt * p.tilt), sine = p.tilt * cosine;
    const float soft = fmaxf(with.soft, 1 / p.size);
    int rows[2], columns[2];

    bounds(c, p, s, sine, cosine, soft, rows, columns);
    for (int i = rows[0]; i < rows[1]; i++)
        for (int k = columns[0]; k < columns[1]; k++) {
            const float dx = ((float)k + 0.5F - p.x) / p.size, dy = ((float)i + 0.5F - p.y) / p.size;
            const float x = cosine * dx + sine * dy;
            const spot at = {p.mirror ? -x : x, cosine * dy - sine * dx};
            const float cover = with.alpha * fminf(fmaxf(0.5F - distance(at, s) / soft, 0), 1);
            float *rgb = c->rgb + ((size_t)i * (size_t)c->w + (size_t)k) * 3;

            if (cover > 0) {
                const ink over = ink_mix((ink){rgb[0], rgb[1], rgb[2]}, colour(&with, s, at), cover);
                rgb[0] = over.r, rgb[1] = over.g, rgb[2] = over.b;
            }
        }
}

void draw_ellipse(canvas *c, pose p, spot at, float rx, float ry, paint with)
{
    draw(c, p, &(shape){.kind = ELLIPSE, .at = at, .rx = rx, .ry = ry}, with);
}

void draw_box(canvas *c, pose p, spot at, float half_w, float half_h, float round, paint with)
{
    draw(c, p, &(shape){.kind = BOX, .at = at, .rx = half_w, .ry = half_h, .width = round}, with);
}

void draw_line(canvas *c, pose p, spot a, spot b, float width_a, float width_b, paint with)
{
    draw(c, p, &(shape){.kind = LINE, .at = a, .to = b, .rx = 1, .ry = 1, .width = width_a, .width_to = width_b}, with);
}

void draw_ring(canvas *c, pose p, spot at, float rx, float ry, float width, paint with)
{
    draw(c, p, &(shape){.kind = RING, .at = at, .rx = rx, .ry = ry, .width = width}, with);
}

void draw_triangle(canvas *c, pose p, spot a, spot b, spot d, paint with)
{
    draw(c, p, &(shape){.kind = TRIANGLE, .at = a, .to = b, .third = d, .rx = 1, .ry = 1}, with);
}
