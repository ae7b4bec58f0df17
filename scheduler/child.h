#ifndef CHILD_H
#define CHILD_H
/* Other programs, started so that none can outlive us: each leads a process group of its own and is killed by the
 * kernel when we die. They inherit nothing but what is named here. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cluster/base/err.h"
#include "cluster/base/fs.h"
#include "cluster/node/node.h"

typedef struct {
    const char *const *argv;  /* argv[0] is the program's path; ended by NULL */
    int fd;                   /* becomes descriptor 3; -1: none */
    int out, err;             /* become 1 and 2; -1: as ours */
    int threads;              /* for OpenMP and BLAS; 0: leave alone */
    uint64_t memory;          /* bytes of its own it may have; 0: as many as there are */
    const node_cores *cores;  /* it runs on; NULL: on ours */
    const char *const *env;   /* "NAME=VALUE" besides ours, ended by NULL; NULL: none */
} child_spec;

/* The program beside our own: "cfarm-worker". First in $CFARM_PROGRAMS, where that is set. ERR_INPUT: it is not
 * there. */
int child_program(char out[FS_PATH], const char *name, err *e);
/* A program of that name in PATH; false: none. */
bool child_find(char out[FS_PATH], const char *name);
int child_start(pid_t *pid, const child_spec *c, err *e);
/* How it ended, as people say it: "signal 11 (Segmentation fault)", "exit status 3". */
void child_ending(int status, char *out, size_t room);
/* Runs to its end: what it wrote on its standard output (at most `most` bytes), and its wait status. */
int child_output(const char *const *argv, char **out, size_t *n, size_t most, int *status, err *e);
#endif
