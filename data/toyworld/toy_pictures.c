/* Which pictures there are. Subjects: five of one mug and of one creature; without captions, as a person's own would
 * be. Regularisation: twelve others of each class, with captions. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "data/toyworld/toy_world.h"

typedef struct {
    int w, h;
    scene where;
    float x, size, tilt; /* of the thing: middle and height as parts of the canvas's */
    bool mirror;
} view;

static const view SUBJECT_VIEWS[2][5] = {
    {{128, 128, TABLE, 0.55F, 0.52F, 0, false},
     {160, 120, BEACH, 0.40F, 0.60F, 0.10F, false},
     {112, 144, SHELF, 0.50F, 0.42F, 0, true},
     {128, 128, SNOW, 0.45F, 0.62F, -0.08F, false},
     {144, 112, KITCHEN, 0.62F, 0.58F, 0, true}},
    {{128, 128, MEADOW, 0.45F, 0.62F, 0, false},
     {120, 160, FOREST, 0.52F, 0.46F, 0.06F, false},
     {160, 120, NIGHT, 0.38F, 0.60F, 0, true},
     {128, 128, TABLE, 0.58F, 0.54F, -0.10F, false},
     {144, 112, BEACH, 0.60F, 0.64F, 0.04F, true}},
};
static const mug THE_MUG = {{0.93F, 0.42F, 0.33F}, {0.99F, 0.93F, 0.80F}, HEART, false};
static const creature THE_CREATURE = {{0.55F, 0.40F, 0.78F}, {0.98F, 0.70F, 0.25F}, 1, false, true, false};

typedef struct { const char *word; ink at; } named_ink;
static const named_ink INKS[] = {
    {"white", {0.95F, 0.95F, 0.93F}}, {"blue", {0.25F, 0.45F, 0.78F}},   {"green", {0.35F, 0.62F, 0.38F}},
    {"yellow", {0.95F, 0.80F, 0.28F}}, {"black", {0.20F, 0.20F, 0.24F}}, {"pink", {0.95F, 0.62F, 0.72F}},
    {"brown", {0.55F, 0.36F, 0.24F}}, {"grey", {0.62F, 0.64F, 0.68F}},   {"golden", {0.92F, 0.65F, 0.25F}},
    {"teal", {0.20F, 0.60F, 0.60F}},  {"red", {0.80F, 0.22F, 0.22F}},    {"purple", {0.50F, 0.30F, 0.62F}},
};
enum { OTHERS = 12, INKS_N = sizeof INKS / sizeof *INKS };

int toy_picture(const canvas *c, const char *dir, int number, err *e)
{
    uint8_t *rgb = NEW_N(uint8_t, c->w * c->h * 3);
    char path[FS_PATH], name[16];

    snprintf(name, sizeof name, "%02d.png", number);
    int rc = fs_join(path, dir, name, e);

    canvas_to_bytes(c, rgb);
    if (rc == 0)
        rc = image_write_png(path, rgb, c->h, c->w, e);
    free(rgb);
    return rc;
}

/* The thing stands on the scene's ground. */
static pose stand(const view *v)
{
    const float size = v->size * (float)v->h;

    return (pose){v->x * (float)v->w, scene_ground(v->where) * (float)v->h - 0.42F * size, size, v->tilt, v->mirror};
}

static int write_view(const char *dir, int number, const view *v, const mug *a, const creature *b, err *e)
{
    canvas c = canvas_new(v->w, v->h);

    scene_draw(&c, v->where);
    if (a)
        mug_draw(&c, stand(v), a);
    else
        creature_draw(&c, stand(v), b);
    int rc = toy_picture(&c, dir, number, e);
    canvas_free(&c);
    return rc;
}

/* Another view for each number; no two of a class alike. */
static view other_view(int i)
{
    return (view){.w = 112 + 16 * (i % 3), .h = 112 + 16 * ((i + 1) % 3), .where = (scene)((i * 3 + i / 8) % SCENES),
                  .x = 0.40F + 0.05F * (float)(i * 5 % 5), .size = 0.45F + 0.05F * (float)(i * 7 % 4),
                  .tilt = 0.06F * (float)(i % 3 - 1), .mirror = i % 2 == 1};
}

static int other_mug(const char *dir, int i, str *captions, err *e)
{
    static const char *const PATTERNS[] = {"", " with bands", " with dots", " with a heart"};
    const named_ink *body = &INKS[i], *second = &INKS[(i * 5 + 3) % INKS_N];
    const mug m = {body->at, second->at, i == 10 ? PLAIN : (pattern)(i % 4), i % 5 == 2}; /* red with a heart is the subject's */
    const view v = other_view(i);

    str_add(captions, "photo of a %s%s mug%s %s\n", m.tall ? "tall " : "", body->word, PATTERNS[m.with], SCENE_WORDS[v.where]);
    return write_view(dir, i + 1, &v, &m, NULL, e);
}

static int other_creature(const char *dir, int i, str *captions, err *e)
{
    static const char *const EYES[] = {"", "one eye", "two eyes", "three eyes"};
    const named_ink *body = &INKS[(i * 7 + 2) % INKS_N], *second = &INKS[(i * 7 + 5) % INKS_N];
    const creature m = {body->at, second->at, i % 3 == 1 ? 1 : 2 + i % 2, i % 2 == 0, i % 4 == 3, i % 3 == 2};
    const view v = other_view(i + 2);

    str_add(captions, "photo of a %s creature with %s and %s %s\n", body->word, EYES[m.eyes], m.ears ? "ears" : "horns",
            SCENE_WORDS[v.where]);
    return write_view(dir, i + 1, &v, NULL, &m, e);
}

static int make_folder(char out[FS_PATH], const char *dir, const char *name, err *e)
{
    TRY(fs_join(out, dir, name, e));
    return fs_mkdirs(out, e);
}

static int write_subjects(const char *dir, err *e)
{
    char folder[FS_PATH];

    for (int kind = 0; kind < 2; kind++) {
        TRY(make_folder(folder, dir, kind ? "subjects/creature" : "subjects/mug", e));
        for (int i = 0; i < 5; i++)
            TRY(write_view(folder, i + 1, &SUBJECT_VIEWS[kind][i], kind ? NULL : &THE_MUG, &THE_CREATURE, e));
    }
    return 0;
}

static int write_others(const char *dir, const char *name, int (*make)(const char *dir, int i, str *captions, err *e), err *e)
{
    char folder[FS_PATH], path[FS_PATH];
    str captions = {0};
    int rc = 0;

    TRY(make_folder(folder, dir, name, e));
    TRY(fs_join(path, folder, "captions.txt", e));
    for (int i = 0; i < OTHERS && rc == 0; i++)
        rc = make(folder, i, &captions, e);
    if (rc == 0)
        rc = fs_write(path, captions.at, captions.n, e);
    str_free(&captions);
    return rc;
}

int toy_pictures(const char *dir, err *e)
{
    TRY(write_subjects(dir, e));
    TRY(write_others(dir, "regularisation/mug", other_mug, e));
    return write_others(dir, "regularisation/creature", other_creature, e);
}
