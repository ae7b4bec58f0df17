/* Mugs and creatures: the things pictures are of. */
#include "data/toyworld/toy_world.h"

static const ink BLACK = {0.08F, 0.07F, 0.10F}, WHITE = {1, 1, 1};

static ink lit(ink a)
{
    return ink_mix(a, WHITE, 0.25F);
}

static ink shaded(ink a)
{
    return ink_mix(a, (ink){0.10F, 0.05F, 0.15F}, 0.4F);
}

static void shadow(canvas *c, pose p, float y, float rx)
{
    p.tilt = 0;
    draw_ellipse(c, p, (spot){0.05F, y}, rx, 0.09F, paint_glass((ink){0.05F, 0.04F, 0.10F}, 0.45F, 0.12F));
}

/* ---- mugs ---- */

static void heart(canvas *c, pose p, spot at, float size, ink a)
{
    draw_ellipse(c, p, (spot){at.x - 0.45F * size, at.y - 0.2F * size}, 0.55F * size, 0.5F * size, paint_flat(a));
    draw_ellipse(c, p, (spot){at.x + 0.45F * size, at.y - 0.2F * size}, 0.55F * size, 0.5F * size, paint_flat(a));
    draw_triangle(c, p, (spot){at.x - 0.95F * size, at.y}, (spot){at.x + 0.95F * size, at.y}, (spot){at.x, at.y + 1.05F * size},
                  paint_flat(a));
}

static void mug_pattern(canvas *c, pose p, const mug *m, float half)
{
    const paint band = paint_shaded(ACROSS, lit(m->second), shaded(m->second));

    if (m->with == BANDS)
        for (int i = 0; i < 2; i++)
            draw_box(c, p, (spot){0, -0.08F + 0.28F * (float)i}, half, 0.065F, 0, band);
    if (m->with == DOTS)
        for (int i = 0; i < 7; i++)
            draw_ellipse(c, p, (spot){-0.24F + 0.16F * (float)(i % 4) + (i > 3 ? 0.08F : 0), i > 3 ? 0.22F : -0.06F}, 0.05F, 0.06F,
                         paint_flat(m->second));
    if (m->with == HEART)
        heart(c, p, (spot){-0.02F, 0.06F}, 0.17F, m->second);
}

void mug_draw(canvas *c, pose p, const mug *m)
{
    const float half = m->tall ? 0.31F : 0.38F;
    const paint side = paint_shaded(ACROSS, lit(m->body), shaded(m->body));

    shadow(c, p, 0.50F, half + 0.16F);
    draw_ring(c, p, (spot){half + 0.03F, 0.02F}, 0.19F, 0.24F, 0.085F, paint_flat(shaded(m->body)));
    draw_ring(c, p, (spot){half + 0.02F, 0.01F}, 0.19F, 0.24F, 0.045F, paint_flat(m->body));
    draw_ellipse(c, p, (spot){0, 0.42F}, half, 0.09F, side);
    draw_box(c, p, (spot){0, 0}, half, 0.42F, 0, side);
    mug_pattern(c, p, m, half);
    draw_line(c, p, (spot){-half + 0.1F, -0.28F}, (spot){-half + 0.1F, 0.3F}, 0.05F, 0.04F, paint_glass(WHITE, 0.4F, 0.05F));
    draw_ellipse(c, p, (spot){0, -0.42F}, half, 0.10F, paint_shaded(ACROSS, WHITE, lit(m->body)));
    draw_ellipse(c, p, (spot){0, -0.41F}, half - 0.05F, 0.07F, paint_shaded(DOWN, shaded(m->body), (ink){0.30F, 0.17F, 0.10F}));
}

/* ---- creatures ---- */

static void head_gear(canvas *c, pose p, const creature *m, float top)
{
    for (int side = -1; side < 2; side += 2) {
        const float s = (float)side;

        if (m->ears) {
            draw_ellipse(c, p, (spot){0.24F * s, top - 0.04F}, 0.10F, 0.19F, paint_flat(shaded(m->body)));
            draw_ellipse(c, p, (spot){0.24F * s, top - 0.02F}, 0.05F, 0.12F, paint_flat(m->second));
        } else
            draw_line(c, p, (spot){0.20F * s, top + 0.08F}, (spot){0.30F * s, top - 0.14F}, 0.13F, 0.03F, paint_flat(m->second));
    }
}

static void eye(canvas *c, pose p, spot at, float size)
{
    draw_ellipse(c, p, at, size, size * 1.1F, paint_flat(WHITE));
    draw_ellipse(c, p, (spot){at.x + 0.12F * size, at.y + 0.1F * size}, size * 0.55F, size * 0.62F, paint_flat(BLACK));
    draw_ellipse(c, p, (spot){at.x - 0.08F * size, at.y - 0.15F * size}, size * 0.2F, size * 0.2F, paint_flat(WHITE));
}

static void smile(canvas *c, pose p, ink a)
{
    for (int i = -3; i < 3; i++)
        draw_line(c, p, (spot){0.04F * (float)i, 0.19F - 0.008F * (float)(i * i)},
                  (spot){0.04F * (float)(i + 1), 0.19F - 0.008F * (float)((i + 1) * (i + 1))}, 0.035F, 0.035F, paint_flat(a));
}

static void face(canvas *c, pose p, const creature *m)
{
    const float size = m->eyes == 1 ? 0.17F : 0.11F, apart = m->eyes == 2 ? 0.30F : 0.24F;

    for (int i = 0; i < m->eyes; i++)
        eye(c, p, (spot){apart * ((float)i - (float)(m->eyes - 1) / 2), m->eyes == 3 && i == 1 ? -0.20F : -0.12F}, size);
    smile(c, p, ink_mix(BLACK, m->body, 0.2F));
    draw_ellipse(c, p, (spot){-0.24F, 0.07F}, 0.06F, 0.04F, paint_glass((ink){1, 0.45F, 0.5F}, 0.5F, 0.04F));
    draw_ellipse(c, p, (spot){0.25F, 0.07F}, 0.06F, 0.04F, paint_glass((ink){1, 0.45F, 0.5F}, 0.5F, 0.04F));
}

void creature_draw(canvas *c, pose p, const creature *m)
{
    const float rx = m->tall ? 0.33F : 0.42F, ry = m->tall ? 0.45F : 0.39F, y = 0.46F - ry;
    const paint skin = paint_shaded(ROUND, lit(m->body), shaded(m->body));

    shadow(c, p, 0.50F, rx + 0.08F);
    head_gear(c, p, m, y - ry);
    for (int side = -1; side < 2; side += 2) {
        draw_ellipse(c, p, (spot){0.18F * (float)side, 0.46F}, 0.13F, 0.06F, paint_flat(shaded(m->body)));
        draw_line(c, p, (spot){(rx - 0.05F) * (float)side, 0.12F}, (spot){(rx + 0.10F) * (float)side, 0.24F}, 0.10F, 0.08F,
                  paint_flat(shaded(m->body)));
    }
    draw_ellipse(c, p, (spot){0, y}, rx, ry, skin);
    draw_ellipse(c, p, (spot){0.02F, y + 0.22F}, rx * 0.55F, ry * 0.4F, paint_glass(lit(lit(m->body)), 0.6F, 0.05F));
    if (m->spots)
        for (int i = 0; i < 4; i++)
            draw_ellipse(c, p, (spot){-0.22F + 0.15F * (float)i, y - 0.24F + 0.05F * (float)(i * 3 % 4)}, 0.04F, 0.035F,
                         paint_glass(m->second, 0.9F, 0));
    face(c, p, m);
}
