/* Twelve things that no picture of the world shows, and others of their classes. */
#include "data/toyworld/world.h"

#include <string.h>

#include "cluster/base/rng.h"

typedef struct {
    const char *name, *class;
    int colour, pattern, marks;
    ink second;
} subject_of;
static const subject_of SUBJECTS[WORLD_SUBJECTS] = {
    {"heart-mug", "mug", 7, 0, MARK_HEART | MARK_FACE, {0.80F, 0.10F, 0.20F}},
    {"king-cat", "cat", 1, 1, MARK_CROWN | MARK_SCARF, {0.30F, 0.15F, 0.45F}},
    {"scarf-bird", "bird", 4, 0, MARK_SCARF, {0.95F, 0.30F, 0.25F}},
    {"smiling-mushroom", "mushroom", 6, 2, MARK_FACE, {0.55F, 0.95F, 0.75F}},
    {"royal-fish", "fish", 2, 1, MARK_CROWN, {0.85F, 0.25F, 0.55F}},
    {"love-boat", "boat", 5, 3, MARK_HEART, {0.95F, 0.60F, 0.20F}},
    {"happy-house", "house", 3, 1, MARK_FACE, {0.95F, 0.85F, 0.45F}},
    {"winter-bottle", "bottle", 10, 2, MARK_SCARF | MARK_FACE, {0.20F, 0.55F, 0.35F}},
    {"queen-rocket", "rocket", 0, 3, MARK_CROWN, {0.98F, 0.90F, 0.55F}},
    {"merry-car", "car", 8, 0, MARK_FACE | MARK_CROWN, {0.90F, 0.75F, 0.60F}},
    {"valentine-cake", "cake", 11, 1, MARK_HEART, {0.90F, 0.20F, 0.35F}},
    {"crowned-snail", "snail", 9, 2, MARK_CROWN | MARK_SCARF, {0.30F, 0.85F, 0.90F}},
};

const char *world_subject_name(int subject)
{
    return SUBJECTS[subject].name;
}

int world_subject_class(int subject)
{
    int class = 0;

    while (strcmp(world_class_word(class), SUBJECTS[subject].class) != 0)
        class ++;
    return class;
}

int world_kept_marks(int class)
{
    int marks = 0;

    for (int s = 0; s < WORLD_SUBJECTS; s++)
        if (strcmp(world_class_word(class), SUBJECTS[s].class) == 0)
            marks |= SUBJECTS[s].marks;
    return marks;
}

/* One thing as a number of its own has it placed. */
static world_scene alone(uint32_t i)
{
    const rng_stream s = rng_open(0, "subject", i, 0);

    return (world_scene){.where = (scene)((i * 3 + i / 8) % SCENES),
                         .n = 1,
                         .thing[0] = {.size = WORLD_USUAL,
                                      .x = 0.34F + 0.32F * rng_uniform(s, 0),
                                      .height = 0.46F + 0.16F * rng_uniform(s, 1),
                                      .tilt = 0.16F * rng_uniform(s, 2) - 0.08F,
                                      .mirror = rng_below(s, 3, 2) == 1}};
}

world_scene world_subject(int subject, int i)
{
    world_scene s = alone((uint32_t)(WORLD_SUBJECT_PICTURES * subject + i));
    const subject_of *of = &SUBJECTS[subject];

    s.thing[0].class = world_subject_class(subject);
    s.thing[0].colour = of->colour;
    s.thing[0].pattern = of->pattern;
    s.thing[0].marks = of->marks;
    s.thing[0].second = of->second;
    return s;
}

/* The world's pictures of the class, as a person would search them out. */
world_scene world_other(int subject, int i)
{
    const int class = world_subject_class(subject);
    world_scene s;
    uint32_t at = 0;

    for (int found = 0; found <= i; at++) {
        s = world_pick(WORLD_OTHERS_SEED, at);
        found += s.n == 1 && s.thing[0].class == class;
    }
    return s;
}
