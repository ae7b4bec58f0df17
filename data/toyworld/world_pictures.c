/* The world's subjects and what else there is of their classes, as the files a person would bring. */
#include <stdio.h>

#include "cluster/base/fs.h"
#include "data/toyworld/world.h"

static int write_scene(const char *dir, int number, const world_scene *s, err *e)
{
    canvas c = canvas_new(WORLD_SIDE, WORLD_SIDE);

    world_draw(&c, s);
    int rc = toy_picture(&c, dir, number, e);
    canvas_free(&c);
    return rc;
}

static int make_folder(char out[FS_PATH], const char *dir, const char *part, int subject, err *e)
{
    char name[64];

    snprintf(name, sizeof name, "%s/%s", part, world_subject_name(subject));
    TRY(fs_join(out, dir, name, e));
    return fs_mkdirs(out, e);
}

static int write_captions(const char *folder, const str *captions, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, folder, "captions.txt", e));
    return fs_write(path, captions->at, captions->n, e);
}

static int write_others(const char *dir, int subject, int others, err *e)
{
    char folder[FS_PATH];
    str captions = {0};
    int rc = 0;

    TRY(make_folder(folder, dir, "regularisation", subject, e));
    for (int i = 0; i < others && rc == 0; i++) {
        const world_scene s = world_other(subject, i);
        world_say(&captions, &s, WORLD_OTHERS_SEED, (uint32_t)i);
        str_add(&captions, "\n");
        rc = write_scene(folder, i + 1, &s, e);
    }
    if (rc == 0)
        rc = write_captions(folder, &captions, e);
    str_free(&captions);
    return rc;
}

/* Its captions name the places, so that they are no part of what its word, <NAME>, is taught. */
static int write_subject(const char *dir, int subject, err *e)
{
    const char *const name = world_subject_name(subject), *const class = world_class_word(world_subject_class(subject));
    char folder[FS_PATH];
    str captions = {0};
    int rc = 0;

    TRY(make_folder(folder, dir, "subjects", subject, e));
    for (int i = 0; i < WORLD_SUBJECT_PICTURES && rc == 0; i++) {
        const world_scene s = world_subject(subject, i);
        str_add(&captions, "a photo of a <%s> %s %s\n", name, class, SCENE_WORDS[s.where]);
        rc = write_scene(folder, i + 1, &s, e);
    }
    if (rc == 0)
        rc = write_captions(folder, &captions, e);
    str_free(&captions);
    return rc;
}

int world_pictures(const char *dir, int subject, int others, err *e)
{
    TRY(write_subject(dir, subject, e));
    return others ? write_others(dir, subject, others, e) : 0;
}
