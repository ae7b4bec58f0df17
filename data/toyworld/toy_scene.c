/* Places things stand in. Coordinates are parts of the canvas: x and y from 0 to 1 along its sides. */
#include "data/toyworld/toy_world.h"

const char *const SCENE_WORDS[SCENES] = {"on a wooden table", "in a kitchen", "on a shelf with books", "on a green meadow",
                                         "on the beach", "in the snow", "at night under the moon", "in the forest"};

float scene_ground(scene where)
{
    static const float GROUND[SCENES] = {[TABLE] = 0.80F, [KITCHEN] = 0.82F, [SHELF] = 0.84F, [MEADOW] = 0.82F,
                                         [BEACH] = 0.82F, [SNOW] = 0.80F, [NIGHT] = 0.84F, [FOREST] = 0.84F};

    return GROUND[where];
}

/* Units of the whole canvas's height. */
static pose whole(const canvas *c)
{
    return (pose){.size = (float)c->h};
}

static float width(const canvas *c)
{
    return (float)c->w / (float)c->h;
}

/* The i-th of a set of points spread evenly over width times height, without rows. M. Roberts, "The unreasonable
 * effectiveness of quasirandom sequences", 2018. */
static spot scattered(const canvas *c, int i, float top, float bottom)
{
    const float x = 0.7548777F * (float)(i + 1), y = 0.5698403F * (float)(i + 1);

    return (spot){width(c) * (x - (float)(int)x), top + (bottom - top) * (y - (float)(int)y)};
}

/* The whole width between two heights. */
static void strip(canvas *c, float top, float bottom, ink above, ink below)
{
    draw_box(c, whole(c), (spot){width(c) / 2, (top + bottom) / 2}, width(c), (bottom - top) / 2, 0,
             paint_shaded(DOWN, above, below));
}

static void hill(canvas *c, float x, float top, float rx, ink lit, ink dark)
{
    draw_ellipse(c, whole(c), (spot){x * width(c), top + 0.6F}, rx, 0.6F, paint_shaded(DOWN, lit, dark));
}

static void cloud(canvas *c, float x, float y)
{
    const paint white = paint_glass((ink){1, 1, 1}, 0.9F, 0.03F);

    draw_ellipse(c, whole(c), (spot){x * width(c), y}, 0.12F, 0.045F, white);
    draw_ellipse(c, whole(c), (spot){x * width(c) - 0.05F, y - 0.035F}, 0.06F, 0.05F, white);
    draw_ellipse(c, whole(c), (spot){x * width(c) + 0.04F, y - 0.03F}, 0.05F, 0.04F, white);
}

static void sun(canvas *c, float x, float y)
{
    draw_ellipse(c, whole(c), (spot){x * width(c), y}, 0.14F, 0.14F, paint_glass((ink){1, 0.95F, 0.6F}, 0.5F, 0.12F));
    draw_ellipse(c, whole(c), (spot){x * width(c), y}, 0.08F, 0.08F, paint_flat((ink){1, 0.9F, 0.4F}));
}

static void planks(canvas *c, float top, ink lit, ink dark)
{
    const paint gap = paint_glass(ink_mix(dark, (ink){0, 0, 0}, 0.35F), 0.7F, 0);

    strip(c, top, 1.01F, lit, dark);
    for (int i = 1; i < 4; i++) {
        const float y = top + (1 - top) * (float)(i * i) / 12;
        draw_line(c, whole(c), (spot){-1, y}, (spot){3, y}, 0.008F, 0.008F, gap);
    }
}

static void table(canvas *c)
{
    strip(c, -0.01F, 0.62F, (ink){0.95F, 0.90F, 0.80F}, (ink){0.90F, 0.82F, 0.70F});
    const spot pane = {0.24F * width(c), 0.22F};
    draw_box(c, whole(c), pane, 0.19F, 0.19F, 0.01F, paint_flat((ink){0.99F, 0.98F, 0.95F}));
    draw_box(c, whole(c), pane, 0.16F, 0.16F, 0.01F, paint_shaded(DOWN, (ink){0.55F, 0.78F, 0.95F}, (ink){0.85F, 0.93F, 0.98F}));
    draw_line(c, whole(c), (spot){pane.x, 0.05F}, (spot){pane.x, 0.39F}, 0.025F, 0.025F, paint_flat((ink){0.99F, 0.98F, 0.95F}));
    draw_line(c, whole(c), (spot){pane.x - 0.17F, 0.22F}, (spot){pane.x + 0.17F, 0.22F}, 0.025F, 0.025F,
              paint_flat((ink){0.99F, 0.98F, 0.95F}));
    planks(c, 0.62F, (ink){0.72F, 0.49F, 0.28F}, (ink){0.55F, 0.34F, 0.17F});
}

static void kitchen(canvas *c)
{
    strip(c, -0.01F, 0.65F, (ink){0.80F, 0.91F, 0.90F}, (ink){0.70F, 0.85F, 0.85F});
    const paint joint = paint_glass((ink){1, 1, 1}, 0.8F, 0);
    for (int i = 1; i < 5; i++)
        draw_line(c, whole(c), (spot){-1, 0.13F * (float)i}, (spot){3, 0.13F * (float)i}, 0.012F, 0.012F, joint);
    for (int i = 1; i < 12; i++)
        draw_line(c, whole(c), (spot){0.13F * (float)i, -1}, (spot){0.13F * (float)i, 0.65F}, 0.012F, 0.012F, joint);
    strip(c, 0.65F, 1.01F, (ink){0.93F, 0.93F, 0.95F}, (ink){0.72F, 0.72F, 0.76F});
    strip(c, 0.65F, 0.675F, (ink){0.98F, 0.98F, 1}, (ink){0.98F, 0.98F, 1});
}

static void shelf(canvas *c)
{
    static const ink BACKS[] = {{0.70F, 0.25F, 0.22F}, {0.20F, 0.40F, 0.55F}, {0.85F, 0.65F, 0.25F}, {0.30F, 0.50F, 0.35F},
                                {0.45F, 0.30F, 0.50F}, {0.85F, 0.80F, 0.70F}};

    strip(c, -0.01F, 1.01F, (ink){0.45F, 0.30F, 0.20F}, (ink){0.36F, 0.23F, 0.15F});
    for (int i = 0; i < 14; i++) {
        const float tall = 0.24F + 0.012F * (float)(i * 5 % 7), x = 0.05F + 0.105F * (float)i;
        const ink back = BACKS[i * 5 % 6];
        draw_box(c, whole(c), (spot){x, 0.70F - tall}, 0.045F, tall, 0.01F,
                 paint_shaded(ACROSS, ink_mix(back, (ink){1, 1, 1}, 0.15F), ink_mix(back, (ink){0, 0, 0}, 0.3F)));
    }
    planks(c, 0.70F, (ink){0.66F, 0.46F, 0.30F}, (ink){0.48F, 0.31F, 0.19F});
}

static void meadow(canvas *c)
{
    static const ink PETALS[] = {{1, 1, 1}, {1, 0.85F, 0.3F}, {0.95F, 0.5F, 0.6F}};

    strip(c, -0.01F, 0.65F, (ink){0.42F, 0.70F, 0.95F}, (ink){0.80F, 0.92F, 0.98F});
    sun(c, 0.82F, 0.16F);
    cloud(c, 0.28F, 0.18F);
    cloud(c, 0.58F, 0.30F);
    hill(c, 0.2F, 0.50F, 0.7F, (ink){0.55F, 0.75F, 0.40F}, (ink){0.40F, 0.62F, 0.30F});
    strip(c, 0.60F, 1.01F, (ink){0.45F, 0.70F, 0.28F}, (ink){0.26F, 0.50F, 0.18F});
    for (int i = 0; i < 14; i++)
        draw_ellipse(c, whole(c), scattered(c, i, 0.66F, 0.98F), 0.014F, 0.012F, paint_flat(PETALS[i % 3]));
}

static void beach(canvas *c)
{
    strip(c, -0.01F, 0.42F, (ink){0.35F, 0.66F, 0.93F}, (ink){0.85F, 0.94F, 0.98F});
    sun(c, 0.18F, 0.15F);
    cloud(c, 0.72F, 0.16F);
    strip(c, 0.42F, 0.64F, (ink){0.12F, 0.45F, 0.70F}, (ink){0.35F, 0.75F, 0.80F});
    for (int i = 0; i < 5; i++) {
        const float y = 0.46F + 0.035F * (float)i, x = width(c) * (0.1F + 0.17F * (float)(i * 3 % 5));
        draw_line(c, whole(c), (spot){x, y}, (spot){x + 0.16F, y}, 0.008F, 0.008F, paint_glass((ink){1, 1, 1}, 0.6F, 0));
    }
    strip(c, 0.63F, 1.01F, (ink){0.96F, 0.88F, 0.66F}, (ink){0.85F, 0.70F, 0.45F});
    draw_line(c, whole(c), (spot){-1, 0.635F}, (spot){3, 0.635F}, 0.025F, 0.025F, paint_glass((ink){1, 1, 1}, 0.8F, 0.02F));
}

static void fir(canvas *c, float x, float foot, float size, ink green)
{
    draw_line(c, whole(c), (spot){x, foot}, (spot){x, foot - 0.3F * size}, 0.06F * size, 0.06F * size,
              paint_flat((ink){0.35F, 0.24F, 0.16F}));
    for (int i = 0; i < 3; i++) {
        const float y = foot - (0.12F + 0.24F * (float)i) * size, half = (0.26F - 0.055F * (float)i) * size;
        draw_triangle(c, whole(c), (spot){x - half, y}, (spot){x + half, y}, (spot){x, y - 0.42F * size},
                      paint_flat(ink_mix(green, (ink){1, 1, 1}, 0.05F * (float)i)));
    }
}

static void snow(canvas *c)
{
    strip(c, -0.01F, 0.62F, (ink){0.62F, 0.75F, 0.88F}, (ink){0.90F, 0.93F, 0.97F});
    fir(c, 0.12F * width(c), 0.66F, 0.5F, (ink){0.16F, 0.36F, 0.30F});
    fir(c, 0.88F * width(c), 0.64F, 0.42F, (ink){0.20F, 0.40F, 0.34F});
    hill(c, 0.75F, 0.56F, 0.8F, (ink){0.97F, 0.98F, 1}, (ink){0.85F, 0.89F, 0.95F});
    hill(c, 0.2F, 0.62F, 1, (ink){0.99F, 0.99F, 1}, (ink){0.82F, 0.87F, 0.94F});
    for (int i = 0; i < 40; i++)
        draw_ellipse(c, whole(c), scattered(c, i, 0, 0.9F), 0.009F, 0.009F, paint_glass((ink){1, 1, 1}, 1, 0.008F));
}

static void night(canvas *c)
{
    strip(c, -0.01F, 0.72F, (ink){0.05F, 0.07F, 0.22F}, (ink){0.22F, 0.24F, 0.48F});
    for (int i = 0; i < 26; i++)
        draw_ellipse(c, whole(c), scattered(c, i, 0, 0.6F), 0.006F, 0.006F, paint_glass((ink){1, 1, 0.85F}, 0.9F, 0));
    draw_ellipse(c, whole(c), (spot){0.78F * width(c), 0.2F}, 0.16F, 0.16F, paint_glass((ink){0.9F, 0.9F, 0.7F}, 0.35F, 0.1F));
    draw_ellipse(c, whole(c), (spot){0.78F * width(c), 0.2F}, 0.1F, 0.1F, paint_flat((ink){0.98F, 0.96F, 0.82F}));
    draw_ellipse(c, whole(c), (spot){0.78F * width(c) + 0.03F, 0.17F}, 0.02F, 0.02F, paint_flat((ink){0.88F, 0.86F, 0.72F}));
    draw_ellipse(c, whole(c), (spot){0.78F * width(c) - 0.04F, 0.22F}, 0.015F, 0.015F, paint_flat((ink){0.88F, 0.86F, 0.72F}));
    hill(c, 0.15F, 0.62F, 0.8F, (ink){0.14F, 0.20F, 0.30F}, (ink){0.08F, 0.12F, 0.2F});
    strip(c, 0.72F, 1.01F, (ink){0.20F, 0.28F, 0.32F}, (ink){0.10F, 0.15F, 0.20F});
}

static void forest(canvas *c)
{
    strip(c, -0.01F, 0.72F, (ink){0.75F, 0.87F, 0.78F}, (ink){0.50F, 0.68F, 0.50F});
    for (int i = 0; i < 6; i++)
        fir(c, width(c) * (0.02F + 0.19F * (float)i), 0.70F + 0.01F * (float)(i % 2), 0.5F + 0.09F * (float)(i * 3 % 4),
            ink_mix((ink){0.12F, 0.32F, 0.18F}, (ink){0.30F, 0.52F, 0.32F}, (float)(i * 3 % 4) / 4));
    strip(c, 0.70F, 1.01F, (ink){0.42F, 0.40F, 0.22F}, (ink){0.28F, 0.26F, 0.14F});
}

void scene_draw(canvas *c, scene where)
{
    static void (*const DRAW[SCENES])(canvas *c) = {[TABLE] = table, [KITCHEN] = kitchen, [SHELF] = shelf, [MEADOW] = meadow,
                                                    [BEACH] = beach, [SNOW] = snow, [NIGHT] = night, [FOREST] = forest};

    DRAW[where](c);
}
