#ifndef TOY_WORLD_H
#define TOY_WORLD_H
/* The toy world: pictures of two subjects and their classes, and a small Stable Diffusion with random weights. Every
 * function writes below `dir` and gives the same on every machine. */
#include "cluster/base/err.h"
#include "data/toyworld/toy_draw.h"

/* Places; each says where on its canvas things stand. */
typedef enum { TABLE, KITCHEN, SHELF, MEADOW, BEACH, SNOW, NIGHT, FOREST, SCENES } scene;
extern const char *const SCENE_WORDS[SCENES]; /* "on a wooden table" */
void scene_draw(canvas *c, scene where);
float scene_ground(scene where); /* height things stand at, as part of the canvas's, from the top */

typedef enum { PLAIN, BANDS, DOTS, HEART } pattern;
typedef struct { ink body, second; pattern with; bool tall; } mug;
typedef struct { ink body, second; int eyes; bool ears, spots, tall; } creature; /* ears, else horns */
/* p: (0,0) is the middle of the thing, which is about a unit high. */
void mug_draw(canvas *c, pose p, const mug *m);
void creature_draw(canvas *c, pose p, const creature *m);

int toy_pictures(const char *dir, err *e); /* subjects/, regularisation/ */
/* model/tokenizer/; how many entries it has. */
int toy_tokenizer(int *entries, const char *dir, err *e);
int toy_model(const char *dir, int vocabulary, err *e); /* the rest of model/ */
/* All of it. */
int toy_world(const char *dir, err *e);
#endif
