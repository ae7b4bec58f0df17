#ifndef LIMIT_H
#define LIMIT_H
/* How long this farm may run: what its file says, or what the launcher's job has left. */
#include <stdint.h>

#include "cluster/base/err.h"
#include "configs/farmfile.h"

/* Seconds from now; negative: no limit. ERR_PEER: a launcher whose limit is asked for and cannot be read. */
int limit_left(double *out, const farmfile *f, err *e);
/* "1-02:03:04", "02:03:04", "03:04", as Slurm writes it; UNLIMITED and the like: negative. Pure. */
int limit_parse(double *out, const char *text);
/* Before the end, for checkpoints and good-byes: a tenth of all, at most half a minute. */
double limit_margin(double seconds);
#endif
