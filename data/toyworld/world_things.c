/* Things of the world, each of a few shapes within half a unit of its middle. What carries a thing's colour is painted
 * with its cloth; the rest is the same for all of its class. */
#include "data/toyworld/world.h"

static const ink BLACK = {0.08F, 0.07F, 0.10F}, WHITE = {1, 1, 1}, WOOD = {0.50F, 0.33F, 0.20F},
                 LEAF = {0.30F, 0.58F, 0.25F};

typedef struct {
    canvas *c;
    pose p;
    ink body;
    paint cloth, dark;
} pen;

static ink lit(ink a)
{
    return ink_mix(a, WHITE, 0.25F);
}

static ink shaded(ink a)
{
    return ink_mix(a, (ink){0.10F, 0.05F, 0.15F}, 0.35F);
}

static void oval(const pen *k, float x, float y, float rx, float ry, paint with)
{
    draw_ellipse(k->c, k->p, (spot){x, y}, rx, ry, with);
}

static void box(const pen *k, float x, float y, float half_w, float half_h, float round, paint with)
{
    draw_box(k->c, k->p, (spot){x, y}, half_w, half_h, round, with);
}

static void line(const pen *k, float ax, float ay, float bx, float by, float width, paint with)
{
    draw_line(k->c, k->p, (spot){ax, ay}, (spot){bx, by}, width, width, with);
}

static void wedge(const pen *k, spot a, spot b, spot d, paint with)
{
    draw_triangle(k->c, k->p, a, b, d, with);
}

static void eye(const pen *k, float x, float y, float size)
{
    oval(k, x, y, size, size, paint_flat(WHITE));
    oval(k, x + size / 5, y, size / 2, size / 2, paint_flat(BLACK));
}

/* ---- for the table ---- */

static void cup(const pen *k)
{
    draw_ring(k->c, k->p, (spot){0.38F, 0}, 0.17F, 0.22F, 0.09F, k->dark);
    box(k, 0, 0.02F, 0.36F, 0.46F, 0.06F, k->cloth);
    oval(k, 0, -0.42F, 0.36F, 0.08F, paint_flat(lit(lit(k->body))));
    oval(k, 0, -0.41F, 0.30F, 0.055F, paint_flat((ink){0.30F, 0.17F, 0.10F}));
}

static void bottle(const pen *k)
{
    box(k, 0, -0.36F, 0.08F, 0.14F, 0.02F, k->cloth);
    box(k, 0, 0.14F, 0.22F, 0.36F, 0.12F, k->cloth);
    box(k, 0, -0.46F, 0.10F, 0.05F, 0.02F, paint_flat(WOOD));
}

static void bowl(const pen *k)
{
    line(k, -0.22F, 0.16F, 0.22F, 0.16F, 0.54F, k->cloth);
    box(k, 0, 0.46F, 0.2F, 0.05F, 0.02F, k->dark);
    oval(k, 0, -0.04F, 0.49F, 0.12F, paint_flat(lit(lit(k->body))));
    oval(k, 0, -0.02F, 0.42F, 0.085F, k->dark);
}

static void vase(const pen *k)
{
    box(k, 0, -0.26F, 0.11F, 0.2F, 0, k->cloth);
    oval(k, 0, 0.14F, 0.32F, 0.34F, k->cloth);
    box(k, 0, 0.45F, 0.18F, 0.05F, 0, k->dark);
    oval(k, 0, -0.44F, 0.18F, 0.06F, k->dark);
}

static void lamp(const pen *k)
{
    line(k, 0, 0, 0, 0.44F, 0.05F, paint_flat(WOOD));
    oval(k, 0, 0.45F, 0.22F, 0.05F, paint_flat(WOOD));
    oval(k, 0, 0, 0.16F, 0.06F, paint_flat((ink){1, 0.95F, 0.65F}));
    wedge(k, (spot){-0.42F, 0}, (spot){0.42F, 0}, (spot){0, -0.5F}, k->cloth);
}

static void book(const pen *k)
{
    box(k, 0.03F, 0.02F, 0.36F, 0.46F, 0.02F, paint_flat((ink){0.96F, 0.94F, 0.88F}));
    box(k, -0.03F, 0, 0.36F, 0.46F, 0.03F, k->cloth);
    box(k, -0.33F, 0, 0.06F, 0.46F, 0.02F, k->dark);
    box(k, 0.04F, -0.18F, 0.2F, 0.09F, 0.02F, paint_flat((ink){0.98F, 0.96F, 0.86F}));
}

static void clock_face(const pen *k)
{
    line(k, -0.24F, 0.34F, -0.30F, 0.47F, 0.08F, k->dark);
    line(k, 0.24F, 0.34F, 0.30F, 0.47F, 0.08F, k->dark);
    oval(k, 0, 0, 0.44F, 0.44F, k->cloth);
    oval(k, 0, 0, 0.30F, 0.30F, paint_flat(WHITE));
    line(k, 0, 0, 0, -0.22F, 0.05F, paint_flat(BLACK));
    line(k, 0, 0, 0.15F, 0.06F, 0.05F, paint_flat(BLACK));
}

static void hat(const pen *k)
{
    oval(k, 0, 0.30F, 0.49F, 0.14F, k->cloth);
    box(k, 0, 0.02F, 0.27F, 0.30F, 0.08F, k->cloth);
    box(k, 0, 0.20F, 0.275F, 0.06F, 0, k->dark);
}

static void chair(const pen *k)
{
    for (int i = -1; i < 2; i += 2)
        line(k, 0.28F * (float)i, 0.10F, 0.32F * (float)i, 0.47F, 0.08F, paint_flat(WOOD));
    box(k, 0, -0.24F, 0.30F, 0.26F, 0.06F, k->cloth);
    box(k, 0, 0.10F, 0.36F, 0.08F, 0.04F, k->dark);
}

static void cake(const pen *k)
{
    oval(k, 0, 0.40F, 0.48F, 0.09F, paint_flat((ink){0.90F, 0.90F, 0.93F}));
    box(k, 0, 0.14F, 0.36F, 0.26F, 0.04F, k->cloth);
    oval(k, 0, -0.10F, 0.36F, 0.09F, paint_flat((ink){0.99F, 0.95F, 0.90F}));
    line(k, 0, -0.12F, 0, -0.34F, 0.07F, paint_flat((ink){0.95F, 0.93F, 0.80F}));
    oval(k, 0, -0.42F, 0.05F, 0.08F, paint_flat((ink){1, 0.75F, 0.2F}));
}

static void apple(const pen *k)
{
    oval(k, -0.13F, 0.10F, 0.28F, 0.36F, k->cloth);
    oval(k, 0.13F, 0.10F, 0.28F, 0.36F, k->cloth);
    line(k, 0, -0.18F, 0.05F, -0.42F, 0.06F, paint_flat(WOOD));
    oval(k, 0.18F, -0.36F, 0.14F, 0.07F, paint_flat(LEAF));
}

/* ---- to play with ---- */

static void ball(const pen *k)
{
    oval(k, 0, 0.04F, 0.45F, 0.45F, k->cloth);
    oval(k, -0.16F, -0.14F, 0.10F, 0.08F, paint_glass(WHITE, 0.7F, 0.06F));
}

/* A tip and the two dents beside it, of a regular star with tips on a circle of 0.5. */
static void star(const pen *k)
{
    static const spot TIP[5] = {
        {0, -0.5F}, {0.4755F, -0.1545F}, {0.2939F, 0.4045F}, {-0.2939F, 0.4045F}, {-0.4755F, -0.1545F}};

    for (int i = 0; i < 5; i++) {
        const spot left = {-0.45F * TIP[(i + 2) % 5].x, -0.45F * TIP[(i + 2) % 5].y};
        const spot right = {-0.45F * TIP[(i + 3) % 5].x, -0.45F * TIP[(i + 3) % 5].y};
        wedge(k, TIP[i], left, right, k->cloth);
        wedge(k, (spot){0, 0}, left, right, k->cloth);
    }
    oval(k, 0, 0, 0.2F, 0.2F, k->cloth);
}

static void kite(const pen *k)
{
    line(k, 0, 0.2F, 0.1F, 0.34F, 0.03F, paint_flat(BLACK));
    line(k, 0.1F, 0.34F, -0.06F, 0.48F, 0.03F, paint_flat(BLACK));
    wedge(k, (spot){-0.34F, -0.16F}, (spot){0.34F, -0.16F}, (spot){0, -0.5F}, k->cloth);
    wedge(k, (spot){-0.34F, -0.165F}, (spot){0.34F, -0.165F}, (spot){0, 0.3F}, k->cloth);
    line(k, 0, -0.46F, 0, 0.26F, 0.025F, k->dark);
    line(k, -0.3F, -0.16F, 0.3F, -0.16F, 0.025F, k->dark);
}

static void umbrella(const pen *k)
{
    line(k, 0, -0.3F, 0, 0.40F, 0.04F, paint_flat(WOOD));
    line(k, 0, 0.42F, 0.12F, 0.42F, 0.05F, paint_flat(WOOD));
    wedge(k, (spot){-0.5F, -0.02F}, (spot){0.5F, -0.02F}, (spot){0, -0.5F}, k->cloth);
    for (int i = -1; i < 2; i++)
        oval(k, 0.32F * (float)i, -0.03F, 0.16F, 0.05F, k->dark);
}

static void rocket(const pen *k)
{
    wedge(k, (spot){-0.12F, 0.36F}, (spot){0.12F, 0.36F}, (spot){0, 0.5F}, paint_flat((ink){1, 0.7F, 0.2F}));
    wedge(k, (spot){-0.34F, 0.40F}, (spot){0, 0.40F}, (spot){-0.1F, 0.02F}, k->dark);
    wedge(k, (spot){0.34F, 0.40F}, (spot){0, 0.40F}, (spot){0.1F, 0.02F}, k->dark);
    oval(k, 0, -0.04F, 0.19F, 0.45F, k->cloth);
    oval(k, 0, -0.14F, 0.09F, 0.09F, paint_flat((ink){0.75F, 0.90F, 1}));
}

/* ---- outside ---- */

static void house(const pen *k)
{
    box(k, 0, 0.20F, 0.38F, 0.28F, 0, k->cloth);
    wedge(k, (spot){-0.5F, -0.06F}, (spot){0.5F, -0.06F}, (spot){0, -0.5F}, paint_flat((ink){0.52F, 0.24F, 0.20F}));
    box(k, -0.14F, 0.32F, 0.09F, 0.16F, 0, paint_flat(WOOD));
    box(k, 0.18F, 0.18F, 0.10F, 0.10F, 0, paint_flat((ink){0.80F, 0.92F, 1}));
}

static void car(const pen *k)
{
    box(k, -0.02F, -0.04F, 0.27F, 0.20F, 0.12F, k->dark);
    box(k, -0.02F, -0.05F, 0.20F, 0.12F, 0.06F, paint_flat((ink){0.80F, 0.92F, 1}));
    box(k, 0, 0.18F, 0.49F, 0.17F, 0.09F, k->cloth);
    for (int i = -1; i < 2; i += 2) {
        oval(k, 0.27F * (float)i, 0.35F, 0.13F, 0.13F, paint_flat(BLACK));
        oval(k, 0.27F * (float)i, 0.35F, 0.06F, 0.06F, paint_flat((ink){0.75F, 0.75F, 0.78F}));
    }
}

static void boat(const pen *k)
{
    line(k, -0.04F, 0.2F, -0.04F, -0.48F, 0.04F, paint_flat(WOOD));
    wedge(k, (spot){0, -0.46F}, (spot){0, 0.08F}, (spot){0.36F, 0.08F}, k->cloth);
    wedge(k, (spot){-0.08F, -0.36F}, (spot){-0.08F, 0.08F}, (spot){-0.32F, 0.08F},
          paint_flat((ink){0.97F, 0.96F, 0.92F}));
    line(k, -0.28F, 0.30F, 0.28F, 0.30F, 0.28F, k->cloth);
    box(k, 0, 0.20F, 0.46F, 0.05F, 0.02F, k->dark);
}

static void tree(const pen *k)
{
    box(k, 0, 0.30F, 0.07F, 0.20F, 0, paint_flat(WOOD));
    oval(k, 0, -0.14F, 0.36F, 0.36F, k->cloth);
    oval(k, -0.20F, 0.02F, 0.22F, 0.20F, k->cloth);
    oval(k, 0.20F, 0.02F, 0.22F, 0.20F, k->cloth);
}

static void flower(const pen *k)
{
    static const spot PETAL[5] = {{0, -0.22F}, {0.21F, -0.07F}, {0.13F, 0.18F}, {-0.13F, 0.18F}, {-0.21F, -0.07F}};

    line(k, 0, -0.1F, 0, 0.48F, 0.05F, paint_flat(LEAF));
    oval(k, 0.14F, 0.36F, 0.14F, 0.05F, paint_flat(LEAF));
    for (int i = 0; i < 5; i++)
        oval(k, PETAL[i].x, PETAL[i].y - 0.14F, 0.17F, 0.17F, k->cloth);
    oval(k, 0, -0.14F, 0.12F, 0.12F, paint_flat((ink){1, 0.85F, 0.25F}));
}

static void mushroom(const pen *k)
{
    box(k, 0, 0.24F, 0.13F, 0.26F, 0.08F, paint_flat((ink){0.95F, 0.92F, 0.85F}));
    line(k, -0.18F, -0.12F, 0.18F, -0.12F, 0.40F, k->cloth);
    oval(k, 0, -0.20F, 0.34F, 0.28F, k->cloth);
    box(k, 0, 0.06F, 0.34F, 0.035F, 0.03F, k->dark);
}

/* ---- animals ---- */

static void fish(const pen *k)
{
    wedge(k, (spot){0.22F, 0}, (spot){0.5F, -0.24F}, (spot){0.5F, 0.24F}, k->dark);
    wedge(k, (spot){-0.12F, -0.2F}, (spot){0.16F, -0.2F}, (spot){0.1F, -0.40F}, k->dark);
    oval(k, -0.08F, 0, 0.40F, 0.27F, k->cloth);
    eye(k, -0.30F, -0.06F, 0.07F);
}

static void bird(const pen *k)
{
    for (int i = 0; i < 2; i++)
        line(k, 0.02F + 0.12F * (float)i, 0.25F, 0.02F + 0.12F * (float)i, 0.48F, 0.035F,
             paint_flat((ink){0.90F, 0.55F, 0.15F}));
    wedge(k, (spot){0.26F, 0.02F}, (spot){0.5F, -0.08F}, (spot){0.46F, 0.16F}, k->dark);
    oval(k, 0.06F, 0.10F, 0.32F, 0.22F, k->cloth);
    oval(k, -0.22F, -0.20F, 0.19F, 0.19F, k->cloth);
    oval(k, 0.12F, 0.08F, 0.18F, 0.11F, k->dark);
    wedge(k, (spot){-0.38F, -0.26F}, (spot){-0.38F, -0.12F}, (spot){-0.5F, -0.18F},
          paint_flat((ink){0.95F, 0.65F, 0.15F}));
    eye(k, -0.26F, -0.24F, 0.055F);
}

static void cat(const pen *k)
{
    line(k, 0.24F, 0.36F, 0.46F, 0.04F, 0.09F, k->dark);
    oval(k, 0, 0.24F, 0.30F, 0.25F, k->cloth);
    for (int i = -1; i < 2; i += 2)
        wedge(k, (spot){0.06F * (float)i, -0.28F}, (spot){0.28F * (float)i, -0.20F}, (spot){0.24F * (float)i, -0.5F},
              k->dark);
    oval(k, 0, -0.16F, 0.29F, 0.24F, k->cloth);
    eye(k, -0.11F, -0.18F, 0.065F);
    eye(k, 0.11F, -0.18F, 0.065F);
    wedge(k, (spot){-0.04F, -0.09F}, (spot){0.04F, -0.09F}, (spot){0, -0.04F}, paint_flat((ink){0.95F, 0.55F, 0.60F}));
}

static void snail(const pen *k)
{
    line(k, -0.30F, 0.40F, 0.42F, 0.40F, 0.18F, paint_flat((ink){0.86F, 0.76F, 0.58F}));
    line(k, -0.34F, 0.38F, -0.40F, 0.08F, 0.12F, paint_flat((ink){0.86F, 0.76F, 0.58F}));
    line(k, -0.40F, 0.04F, -0.46F, -0.14F, 0.03F, paint_flat(BLACK));
    line(k, -0.38F, 0.04F, -0.34F, -0.14F, 0.03F, paint_flat(BLACK));
    oval(k, 0.08F, 0.06F, 0.33F, 0.33F, k->cloth);
    draw_ring(k->c, k->p, (spot){0.08F, 0.06F}, 0.19F, 0.19F, 0.05F, k->dark);
    oval(k, 0.08F, 0.06F, 0.07F, 0.07F, k->dark);
}

/* ---- what makes a thing one of its kind ---- */

static void heart_of(const pen *k, spot at, float size, paint with)
{
    oval(k, at.x - 0.45F * size, at.y - 0.2F * size, 0.55F * size, 0.5F * size, with);
    oval(k, at.x + 0.45F * size, at.y - 0.2F * size, 0.55F * size, 0.5F * size, with);
    wedge(k, (spot){at.x - 0.95F * size, at.y}, (spot){at.x + 0.95F * size, at.y}, (spot){at.x, at.y + 1.05F * size},
          with);
}

static void face(const pen *k)
{
    eye(k, -0.12F, -0.02F, 0.085F);
    eye(k, 0.12F, -0.02F, 0.085F);
    for (int i = -2; i < 2; i++)
        line(k, 0.045F * (float)i, 0.17F - 0.012F * (float)(i * i), 0.045F * (float)(i + 1),
             0.17F - 0.012F * (float)((i + 1) * (i + 1)), 0.04F, paint_flat(BLACK));
}

static void crown(const pen *k, float top, paint with)
{
    box(k, 0, top - 0.03F, 0.19F, 0.05F, 0, with);
    for (int i = -1; i < 2; i++)
        wedge(k, (spot){0.13F * (float)i - 0.065F, top - 0.07F}, (spot){0.13F * (float)i + 0.065F, top - 0.07F},
              (spot){0.15F * (float)i, top - 0.21F}, with);
}

static void scarf(const pen *k, paint with)
{
    box(k, 0, 0.24F, 0.30F, 0.055F, 0.05F, with);
    line(k, 0.17F, 0.26F, 0.23F, 0.46F, 0.10F, with);
}

static void marks(const pen *k, const world_thing *t, float top)
{
    if (t->marks & MARK_SCARF)
        scarf(k, paint_flat(t->second));
    if (t->marks & MARK_HEART)
        heart_of(k, (spot){0, 0.04F}, 0.17F, paint_flat(t->second));
    if (t->marks & MARK_FACE)
        face(k);
    if (t->marks & MARK_CROWN)
        crown(k, top, paint_flat((ink){0.98F, 0.80F, 0.20F}));
}

/* ---- all ---- */

typedef struct {
    const char *word;
    void (*draw)(const pen *k);
    float top;
} kind; /* top: where a crown sits */
static const kind KINDS[WORLD_CLASSES] = {
    {"mug", cup, -0.48F},           {"bottle", bottle, -0.50F}, {"bowl", bowl, -0.10F},
    {"vase", vase, -0.48F},         {"lamp", lamp, -0.46F},     {"book", book, -0.46F},
    {"clock", clock_face, -0.42F},  {"hat", hat, -0.26F},       {"chair", chair, -0.48F},
    {"cake", cake, -0.14F},         {"apple", apple, -0.20F},   {"ball", ball, -0.40F},
    {"star", star, -0.40F},         {"kite", kite, -0.44F},     {"umbrella", umbrella, -0.46F},
    {"rocket", rocket, -0.46F},     {"house", house, -0.46F},   {"car", car, -0.22F},
    {"boat", boat, -0.46F},         {"tree", tree, -0.48F},     {"flower", flower, -0.50F},
    {"mushroom", mushroom, -0.44F}, {"fish", fish, -0.26F},     {"bird", bird, -0.36F},
    {"cat", cat, -0.40F},           {"snail", snail, -0.26F},
};

const char *world_class_word(int class)
{
    return KINDS[class].word;
}

static paint cloth_of(const world_thing *t, ink body)
{
    static const shading WOVEN[WORLD_PATTERNS] = {ACROSS, STRIPES, SPOTS, CHECKS};

    return t->pattern ? paint_shaded(WOVEN[t->pattern], body, t->second)
                      : paint_shaded(ACROSS, lit(body), shaded(body));
}

void world_thing_draw(canvas *c, pose p, const world_thing *t)
{
    const ink body = world_ink(t->colour);
    const pen k = {.c = c, .p = p, .body = body, .cloth = cloth_of(t, body), .dark = paint_flat(shaded(body))};
    pose level = p;

    level.tilt = 0;
    draw_ellipse(c, level, (spot){0.04F, 0.49F}, 0.42F, 0.07F, paint_glass((ink){0.05F, 0.04F, 0.10F}, 0.4F, 0.12F));
    KINDS[t->class].draw(&k);
    marks(&k, t, KINDS[t->class].top);
}
