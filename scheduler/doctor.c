/* `cfarm doctor`: what this machine has, in the words in which it is missed later. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/node/node.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"

static const double GIB = 1024.0 * 1024 * 1024;

static void show_node(void)
{
    char address[NODE_ADDRESSES][NODE_ADDRESS];
    node_facts n;
    int addresses = node_addresses(address);

    node_look(&n);
    printf("host      %s", n.name);
    for (int i = 0; i < addresses; i++)
        printf("%s %s", i ? "," : ", at", address[i]);
    printf("\ncores     %d of %d may be used\n", n.cores, n.cores_there);
    printf("memory    %.1f GiB, %.1f free\n", (double)n.memory / GIB, (double)n.memory_free / GIB);
    printf("GPUs      %d\n", n.gpus);
}

static void show_mpi(void)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;

    MPI_Get_library_version(version, &n);
    version[strcspn(version, "\n,")] = '\0';
    printf("MPI       %s\n", version);
}

static bool show_launcher(const char *name)
{
    char file[FS_PATH];
    bool found = child_find(file, name);

    printf("%-9s %s\n", name, found ? file : "not in PATH");
    return found;
}

static void show_room(const char *label, const char *dir)
{
    uint64_t bytes;
    err e = {0};

    if (fs_free_bytes(dir, &bytes, &e) == 0)
        printf("%-9s %.1f GiB free\n", label, (double)bytes / GIB);
    else
        printf("%-9s %s\n", label, e.text);
}

static void show_limits(void)
{
    struct rlimit files, core;

    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_CORE, &core);
    printf("limits    %llu open files, core files %s\n", (unsigned long long)files.rlim_cur,
           core.rlim_cur == 0 ? "off" : "on");
}

static bool show_programs(void)
{
    static const char *const name[] = {"cfarm-worker", "cfarm-merge", "cfarm-sample", "cfarm-eval"};
    char path[FS_PATH];
    bool all = true;

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        err e = {0};
        bool there = child_program(path, name[i], &e) == 0;
        printf("%s %s\n", there ? "program  " : "MISSING  ", there ? path : e.text);
        all = all && there;
    }
    return all;
}

int command_doctor(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        fputs("usage: cfarm doctor\n", stderr);
        return FARM_BAD_INPUT;
    }
    show_node();
    show_mpi();
    show_launcher("mpirun");
    show_launcher("srun");
    show_room("/dev/shm", "/dev/shm");
    show_room("here", ".");
    show_limits();
    return show_programs() ? FARM_DONE : FARM_BROKEN;
}
