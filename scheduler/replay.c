/* `cfarm replay`: a concept that was set aside, once more, here and by itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"

/* A name is one folder below, nothing else. */
static int find_case(char out[FS_PATH], const char *farm, const char *name, err *e)
{
    char dir[FS_PATH], kept[FS_PATH];

    TRY(look_folder(dir, farm, e));
    TRY(fs_join(kept, dir, "quarantine", e));
    if (name[0] == '.' || strchr(name, '/'))
        return err_set(e, ERR_INPUT, "%s is no name of a concept", name);
    TRY(fs_join(out, kept, name, e));
    if (fs_is_dir(out))
        return 0;
    return err_set(e, ERR_INPUT, "%s: nothing is set aside there; quarantined and rejected concepts are (cfarm why %s %s)", out,
                   farm, name);
}

/* Comes back only where the worker cannot be run. */
static int replay(const char *farm, const char *name, const char *result, err *e)
{
    char dir[FS_PATH], file[FS_PATH], out[FS_PATH], program[FS_PATH];
    const char *argv[] = {program, "--train", file, name, result ? result : out, NULL};

    TRY(find_case(dir, farm, name, e));
    TRY(fs_join(file, dir, "farm.yaml", e));
    TRY(fs_join(out, dir, "replay.h5", e));
    TRY(child_program(program, "cfarm-worker", e));
    fprintf(stderr, "%s --train %s %s %s\n", program, file, name, argv[4]);
    execv(program, (char *const *)(uintptr_t)argv);
    return err_set(e, ERR_PEER, "%s cannot be run", program);
}

int command_replay(int argc, char **argv)
{
    err e = {0};

    if (argc < 3 || argc > 4 || argv[1][0] == '-') {
        fputs("usage: cfarm replay FARM NAME [OUT.h5]      trains a quarantined concept here; its status is the worker's\n",
              stderr);
        return FARM_BAD_INPUT;
    }
    replay(argv[1], argv[2], argc == 4 ? argv[3] : NULL, &e);
    return look_complain(&e);
}
