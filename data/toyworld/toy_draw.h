#ifndef TOY_DRAW_H
#define TOY_DRAW_H
/* A small painter: shapes with soft edges, shaded, on a canvas. Only + - * / and sqrt are used, which round the same
 * everywhere, so a picture is the same on every machine. */
#include <stdbool.h>
#include <stdint.h>

typedef struct { float r, g, b; } ink;           /* 0..1 */
typedef struct { int w, h; float *rgb; } canvas; /* [h, w, 3] */

canvas canvas_new(int w, int h);
void canvas_free(canvas *c);
void canvas_to_bytes(const canvas *c, uint8_t *rgb); /* [h, w, 3] */

/* Where local coordinates lie: (0,0) at pixel (x,y), a unit is `size` pixels; tilt: tangent of the angle, clockwise. */
typedef struct { float x, y, size, tilt; bool mirror; } pose;

typedef enum { FLAT, ACROSS, DOWN, ROUND, STRIPES, SPOTS, CHECKS } shading;
/* From `a` to `b` over the shape's box: left to right, top to bottom, or out of its upper left third. Woven kinds: `a` with
 * stripes, spots or squares of `b`, an eighth of a unit wide, lying alike in every shape of a thing. */
typedef struct {
    ink a, b;
    shading kind;
    float alpha;     /* 1: covers */
    float soft;      /* width of the edge in local units; at least a pixel */
} paint;
paint paint_flat(ink a);
paint paint_shaded(shading kind, ink a, ink b);
paint paint_glass(ink a, float alpha, float soft);
ink ink_mix(ink a, ink b, float t);              /* a + t (b - a) */

/* All in local units. */
typedef struct { float x, y; } spot;
void draw_ellipse(canvas *c, pose p, spot at, float rx, float ry, paint with);
void draw_box(canvas *c, pose p, spot at, float half_w, float half_h, float round, paint with);
void draw_line(canvas *c, pose p, spot a, spot b, float width_a, float width_b, paint with); /* round ends */
void draw_ring(canvas *c, pose p, spot at, float rx, float ry, float width, paint with);
void draw_triangle(canvas *c, pose p, spot a, spot b, spot d, paint with);
#endif
