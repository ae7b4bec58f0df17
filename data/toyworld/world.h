#ifndef WORLD_H
#define WORLD_H
/* A captioned world rich enough to learn from: things of many classes, colours, patterns and sizes, one or two in a
 * picture, in eight places. Picture i of a seed is a function of both; so is what is said of it. */
#include "cluster/base/str.h"
#include "data/toyworld/toy_world.h"

enum { WORLD_CLASSES = 26, WORLD_COLOURS = 12, WORLD_PATTERNS = 4, WORLD_SIDE = 128 };
const char *world_class_word(int class); /* "mug" */
extern const char *const WORLD_COLOUR_WORDS[WORLD_COLOURS];
extern const char *const WORLD_PATTERN_WORDS[WORLD_PATTERNS]; /* "", "striped", "dotted", "checked" */

enum { MARK_FACE = 1, MARK_HEART = 2, MARK_SCARF = 4, MARK_CROWN = 8, MARKS = 4 };
typedef enum { WORLD_SMALL, WORLD_USUAL, WORLD_LARGE, WORLD_SIZES } world_size;

typedef struct {
    int class, colour, pattern;
    world_size size;
    int marks;       /* MARK_...; of `second` */
    ink second;      /* of patterns and marks */
    float x, height; /* where its middle stands and how high it is, as parts of the picture's width and height */
    float tilt;
    bool mirror;
} world_thing;

typedef struct {
    scene where;
    int n; /* things: 1, or 2 with the first on the left */
    world_thing thing[2];
} world_scene;

world_scene world_pick(uint64_t seed, uint32_t i);
void world_draw(canvas *c, const world_scene *s);
/* "a photo of a small blue striped fish left of a yellow star on the beach"; attributes are left out now and then,
 * never wrong. i: which of the ways to say it. */
void world_say(str *out, const world_scene *s, uint64_t seed, uint32_t i);

extern const char WORLD_WORDS[];              /* that captions use, for toy_tokenizer */

ink world_ink(int colour);
/* world_things.c -- (0,0) is the middle, 1 the height. */
void world_thing_draw(canvas *c, pose p, const world_thing *t);

/* ---- subjects: things of their own that the base model never sees ---- */

enum { WORLD_SUBJECTS = 12, WORLD_SUBJECT_PICTURES = 6, WORLD_OTHERS = 24, WORLD_OTHERS_SEED = 7 };
const char *world_subject_name(int subject); /* "heart-mug" */
int world_subject_class(int subject);
/* Marks of the subjects of a class, which no thing of that class has in world_pick: they make the subject one of its kind. */
int world_kept_marks(int class);
/* Picture i of a subject. */
world_scene world_subject(int subject, int i);
/* Another thing of the subject's class, for regularisation. */
world_scene world_other(int subject, int i);
/* Below dir: subjects/NAME/, and regularisation/NAME/ with so many others (0: none); with captions.txt in each. */
int world_pictures(const char *dir, int subject, int others, err *e);
#endif
