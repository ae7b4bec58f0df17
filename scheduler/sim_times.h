#ifndef SIM_TIMES_H
#define SIM_TIMES_H
/* How long things take on a machine: a step by method, gang and pack, and what lies around the steps. Assumed, by the name
 * of a machine, or from a file, in the form that `cfarm simulate --json` shows them. */
#include <stdbool.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"

enum { SIM_METHODS = 16 };

/* Seconds of one step of `batch` samples
 *   on a gang of g:   fixed + sample batch/g + [g > 1] (hop log2 g + share 2 (g-1)/g)
 *   of each member of a pack:   fixed + the sum over the members of (sample batch + member) */
typedef struct {
    char name[40];
    double fixed, sample, member, hop, share;
} sim_method;

typedef struct {
    char machine[80];
    char base[512];     /* the model that it was measured with; "": assumed, or not said */
    double start;       /* a worker, from nothing to ready */
    double load;        /* a concept */
    double resize;      /* what a stop and a new start with another gang cost, besides loading again */
    double publish;
    double checkpoint, every; /* that long, that often */
    sim_method method[SIM_METHODS];
    int methods;
} sim_times;

/* ERR_INPUT names the machines there are. */
int sim_times_assume(sim_times *out, const char *machine, err *e);
int sim_times_read(sim_times *out, const char *path, err *e);
/* Where cfarm calibrate keeps what it has measured on this machine. */
int sim_times_here(char path[FS_PATH], err *e);
json_t *sim_times_json(const sim_times *t);
const sim_method *sim_find(const sim_times *t, const char *name); /* NULL: none */

double sim_step(const sim_method *m, double batch, int gang);
double sim_reduce(const sim_method *m, int gang); /* the part of it that a gang costs */
#endif
