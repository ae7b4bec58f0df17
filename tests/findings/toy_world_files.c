/* The world's subjects as files. */
#include <stdio.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "data/toyworld/world.h"
#include "tests/findings/toy.h"

static int write_scene(const char *dir, const char *name, const world_scene *s, err *e)
{
    char path[FS_PATH];
    canvas c = canvas_new(WORLD_SIDE, WORLD_SIDE);
    uint8_t rgb[WORLD_SIDE * WORLD_SIDE * 3];

    world_draw(&c, s);
    canvas_to_bytes(&c, rgb);
    canvas_free(&c);
    TRY(fs_join(path, dir, name, e));
    return image_write_png(path, rgb, WORLD_SIDE, WORLD_SIDE, e);
}

static int folder_of(char out[FS_PATH], const char *dir, int subject, const char *what, err *e)
{
    char name[80];

    snprintf(name, sizeof name, "%s/%s", world_subject_name(subject), what);
    TRY(fs_join(out, dir, name, e));
    return fs_mkdirs(out, e);
}

static int write_class(const char *dir, int subject, err *e)
{
    char folder[FS_PATH], path[FS_PATH], name[16];
    str captions = {0};
    int rc = folder_of(folder, dir, subject, "class", e);

    for (int i = 0; i < WORLD_OTHERS && rc == 0; i++) {
        const world_scene s = world_other(subject, i);
        snprintf(name, sizeof name, "%02d.png", i + 1);
        world_say(&captions, &s, WORLD_OTHERS_SEED, (uint32_t)i);
        str_add(&captions, "\n");
        rc = write_scene(folder, name, &s, e);
    }
    if (rc == 0)
        rc = fs_join(path, folder, "captions.txt", e);
    if (rc == 0)
        rc = fs_write(path, captions.at, captions.n, e);
    str_free(&captions);
    return rc;
}

static int write_subject(const char *dir, int subject, err *e)
{
    char folder[FS_PATH], name[16];

    TRY(folder_of(folder, dir, subject, "subject", e));
    for (int i = 0; i < WORLD_SUBJECT_PICTURES; i++) {
        const world_scene s = world_subject(subject, i);
        snprintf(name, sizeof name, "%02d.png", i + 1);
        TRY(write_scene(folder, name, &s, e));
    }
    return write_class(dir, subject, e);
}

int findings_world(const char *dir, err *e)
{
    char path[FS_PATH];
    str names = {0};
    int rc = 0;

    for (int i = 0; i < WORLD_SUBJECTS && rc == 0; i++) {
        rc = write_subject(dir, i, e);
        str_add(&names, "%s\t%s\n", world_subject_name(i), world_class_word(world_subject_class(i)));
    }
    if (rc == 0)
        rc = fs_join(path, dir, "names.tsv", e);
    if (rc == 0)
        rc = fs_write(path, names.at, names.n, e);
    str_free(&names);
    return rc;
}
