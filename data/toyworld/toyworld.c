/* toyworld_make DIR: the toy world's folder; data/toyworld in the repository is its output.
 * toyworld_make DIR SUBJECT...: pictures of these subjects of the captioned world and of others of their classes; all: every one. */
#include <stdio.h>
#include <string.h>

#include "data/toyworld/toy_world.h"
#include "data/toyworld/world.h"

static int write_subjects(const char *dir, const char *name, err *e)
{
    int found = 0;

    for (int s = 0; s < WORLD_SUBJECTS; s++)
        if (strcmp(name, "all") == 0 || strcmp(name, world_subject_name(s)) == 0) {
            TRY(world_pictures(dir, s, WORLD_OTHERS, e));
            found++;
        }
    return found ? 0 : err_set(e, ERR_INPUT, "%s: the world has no such subject", name);
}

int main(int argc, char **argv)
{
    err e = {0};

    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: toyworld_make DIR [SUBJECT...|all]\n");
        return 2;
    }
    int rc = argc == 2 ? toy_world(argv[1], &e) : 0;
    for (int i = 2; i < argc && rc == 0; i++)
        rc = write_subjects(argv[1], argv[i], &e);
    if (rc != 0)
        fprintf(stderr, "toyworld_make: %s\n", e.text);
    return rc != 0;
}
