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
int toy_picture(const canvas *c, const char *dir, int number, err *e); /* dir/NN.png */

/* A small Stable Diffusion: channels and heads of its parts. picture 0: without CLIP's half for pictures. */
enum { TOY_LEVELS = 4 };
typedef struct {
    int side;                                  /* pixels */
    int text, text_layers, text_heads;         /* width of the text encoder */
    int picture, picture_layers, picture_heads, patch, projection;
    int heads, unet_levels, unet[TOY_LEVELS];  /* all levels but the last attend to the text */
    int vae_levels, vae[TOY_LEVELS];
    int unet_groups, vae_groups;
} toy_shape;
extern const toy_shape TOY_EMBEDDED, TOY_WORLD; /* half a million weights; eight million */

/* MODEL/tokenizer/; how many entries it has. more: words beside the embedded ones, "" for none. */
int toy_tokenizer(int *entries, const char *model, const char *more, err *e);
/* The rest of a model's folder, with random weights. */
int toy_model(const char *model, const toy_shape *of, int vocabulary, err *e);
int toy_configs(const char *model, const toy_shape *of, int vocabulary, err *e); /* its configs alone */
int toy_vae_config(const char *model, const toy_shape *of, double scaling, err *e);
/* All that the repository carries of it: subjects, regularisation, model/ with TOY_EMBEDDED. */
int toy_world(const char *dir, err *e);
#endif
