/* The world's subjects as files. */
#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/toyworld/world.h"
#include "tests/findings/toy.h"

int findings_world(const char *dir, err *e)
{
    char path[FS_PATH];
    str names = {0};
    int rc = 0;

    for (int i = 0; i < WORLD_SUBJECTS && rc == 0; i++) {
        rc = world_pictures(dir, i, WORLD_OTHERS, e);
        str_add(&names, "%s\t%s\t%s\n", world_subject_name(i), world_class_word(world_subject_class(i)),
                WORLD_COLOUR_WORDS[world_subject(i, 0).thing[0].colour]);
    }
    if (rc == 0)
        rc = fs_join(path, dir, "names.tsv", e);
    if (rc == 0)
        rc = fs_write(path, names.at, names.n, e);
    str_free(&names);
    return rc;
}
