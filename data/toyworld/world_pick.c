/* Which picture a number stands for, and what is said of it. */
#include "data/toyworld/world.h"

#include "cluster/base/rng.h"

const char *const WORLD_COLOUR_WORDS[WORLD_COLOURS] = {"red",    "orange", "yellow", "green", "teal",  "blue",
                                                       "purple", "pink",   "brown",  "black", "white", "grey"};
const char *const WORLD_PATTERN_WORDS[WORLD_PATTERNS] = {"", "striped", "dotted", "checked"};

const char WORLD_WORDS[] =
    "an . mug bottle bowl vase lamp book clock hat chair cake apple ball star kite umbrella rocket house car boat tree flower "
    "mushroom fish bird cat snail . red orange yellow green teal blue purple pink brown black white grey . striped dotted checked . "
    "small large . left of . right of . next to . beside . and . photo picture . on a wooden table . in a kitchen . on a shelf with "
    "books . on a green meadow . on the beach . in the snow . at night under the moon . in the forest";

ink world_ink(int colour)
{
    static const ink INKS[WORLD_COLOURS] = {{0.85F, 0.15F, 0.15F}, {0.96F, 0.55F, 0.12F}, {0.98F, 0.86F, 0.20F},
                                            {0.25F, 0.65F, 0.25F}, {0.10F, 0.65F, 0.65F}, {0.20F, 0.35F, 0.85F},
                                            {0.52F, 0.25F, 0.70F}, {0.98F, 0.60F, 0.75F}, {0.50F, 0.31F, 0.18F},
                                            {0.13F, 0.12F, 0.15F}, {0.95F, 0.95F, 0.95F}, {0.55F, 0.57F, 0.60F}};

    return INKS[colour];
}

/* ---- pictures ---- */

typedef struct {
    rng_stream s;
    uint64_t at;
} dice;

static int below(dice *d, int n)
{
    return (int)rng_below(d->s, d->at++, (uint32_t)n);
}

static float between(dice *d, float least, float most)
{
    return least + (most - least) * rng_uniform(d->s, d->at++);
}

/* A pattern's second ink: white, on light cloth a dark one. */
static ink second_ink(int colour)
{
    const ink body = world_ink(colour);

    return body.r + body.g + body.b > 2.2F ? (ink){0.25F, 0.22F, 0.35F} : (ink){0.97F, 0.96F, 0.92F};
}

static float height_of(dice *d, world_size size, int things)
{
    static const float ALONE[WORLD_SIZES] = {0.30F, 0.46F, 0.64F}, BESIDE[WORLD_SIZES] = {0.30F, 0.40F, 0.48F};

    return things == 2 ? BESIDE[size] + between(d, 0, 0.06F) : ALONE[size] + between(d, 0, 0.08F);
}

/* One thing in three has a mark, of any ink but its own; never what makes a subject of its class one of its kind. */
static void mark_thing(world_thing *t, dice *d)
{
    const bool marked = below(d, 3) == 0;
    const int mark = 1 << below(d, MARKS), shade = 1 + below(d, WORLD_COLOURS - 1);

    t->marks = marked ? mark & ~world_kept_marks(t->class) : 0;
    t->second = t->marks ? world_ink((t->colour + shade) % WORLD_COLOURS) : second_ink(t->colour);
}

static world_thing thing_of(dice *d, int things, int place)
{
    const float middle = things == 2 ? 0.26F + 0.48F * (float)place : 0.5F, room = things == 2 ? 0.04F : 0.18F;
    world_thing t = {.class = below(d, WORLD_CLASSES), .colour = below(d, WORLD_COLOURS)};
    const int cloth = below(d, 6), size = below(d, 5);

    t.pattern = cloth < 3 ? 0 : cloth - 2; /* half of all things are plain */
    t.size = size == 0 ? WORLD_SMALL : size == 1 ? WORLD_LARGE : WORLD_USUAL;
    mark_thing(&t, d);
    t.x = middle + between(d, -room, room);
    t.height = height_of(d, t.size, things);
    t.tilt = between(d, -0.08F, 0.08F);
    t.mirror = below(d, 2) == 1;
    return t;
}

world_scene world_pick(uint64_t seed, uint32_t i)
{
    dice d = {rng_open(seed, "world", i, 0), 0};
    world_scene s = {.where = (scene)below(&d, SCENES), .n = below(&d, 5) < 3 ? 2 : 1};

    for (int k = 0; k < s.n; k++)
        s.thing[k] = thing_of(&d, s.n, k);
    return s;
}

void world_draw(canvas *c, const world_scene *s)
{
    scene_draw(c, s->where);
    for (int k = 0; k < s->n; k++) {
        const world_thing *t = &s->thing[k];
        const float size = t->height * (float)c->h;

        world_thing_draw(
            c,
            (pose){t->x * (float)c->w, scene_ground(s->where) * (float)c->h - 0.40F * size, size, t->tilt, t->mirror},
            t);
    }
}

/* ---- words ---- */

/* Each attribute is left out one time in eight, so that short captions are known, too. */
static void say_thing(str *out, const world_thing *t, dice *d)
{
    static const char *const SIZES[WORLD_SIZES] = {"small ", "", "large "};
    static const char *const MARKED[MARKS] = {" with a face", " with a heart", " with a scarf", " with a crown"};
    const bool colour = below(d, 8) > 0, cloth = t->pattern && below(d, 8) > 0, size = below(d, 8) > 0, marks = below(d, 8) > 0;
    const char *shade = colour ? WORLD_COLOUR_WORDS[t->colour] : "",
               *woven = cloth ? WORLD_PATTERN_WORDS[t->pattern] : "";
    const char *first = size && *SIZES[t->size] ? SIZES[t->size]
                        : *shade                ? shade
                        : *woven                ? woven
                                                : world_class_word(t->class);

    str_add(out, "%s %s", *first == 'a' || *first == 'o' || *first == 'u' ? "an" : "a", size ? SIZES[t->size] : "");
    str_add(out, "%s%s%s%s%s", shade, *shade ? " " : "", woven, *woven ? " " : "", world_class_word(t->class));
    for (int i = 0; i < MARKS && marks; i++)
        str_add(out, "%s", t->marks & 1 << i ? MARKED[i] : "");
}

/* Named as one reads, from left to right, but where one is said to be right of the other. */
static void say_two(str *out, const world_scene *s, dice *d)
{
    static const char *const HOW[] = {" left of ", " left of ", " right of ", " beside ", " and ", " next to "};
    const int how = below(d, 6), first = how == 2;

    say_thing(out, &s->thing[first], d);
    str_add(out, "%s", HOW[how]);
    say_thing(out, &s->thing[1 - first], d);
}

void world_say(str *out, const world_scene *s, uint64_t seed, uint32_t i)
{
    static const char *const BEGIN[] = {"", "photo of ", "a photo of ", "a picture of "};
    dice d = {rng_open(seed, "caption", i, 0), 0};

    str_add(out, "%s", BEGIN[below(&d, 4)]);
    if (s->n == 2)
        say_two(out, s, &d);
    else
        say_thing(out, &s->thing[0], &d);
    if (below(&d, 6) > 0)
        str_add(out, " %s", SCENE_WORDS[s->where]);
}
