/* Slurm 22.05 leaves SLURM_JOB_END_TIME empty; then squeue is asked, once. */
#include "scheduler/limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "scheduler/child.h"

enum { ANSWER_MOST = 4096 };

double limit_margin(double seconds) { return seconds < 300 ? seconds / 10 : 30; }

int limit_parse(double *out, const char *text)
{
    int part[4] = {0}, n = 0, used = 0;
    double days = 0;

    *out = -1;
    if (sscanf(text, "%d-%n", &part[0], &used) == 1 && used > 0) {
        days = part[0];
        text += used;
    }
    n = sscanf(text, "%d:%d:%d", &part[1], &part[2], &part[3]);
    if (n == 3)
        *out = ((days * 24 + part[1]) * 60 + part[2]) * 60 + part[3];
    else if (n == 2)
        *out = days > 0 ? (days * 24 + part[1]) * 3600 + part[2] * 60 : part[1] * 60 + part[2];
    else if (n == 1)
        *out = days > 0 ? (days * 24 + part[1]) * 3600 : part[1];
    return n >= 1 ? 0 : ERR_INPUT;
}

static int ask_squeue(double *out, const char *job, err *e)
{
    char program[FS_PATH], *text;
    const char *argv[] = {program, "-h", "-j", job, "-o", "%L", NULL};
    size_t n;
    int status;

    if (!child_find(program, "squeue"))
        return err_set(e, ERR_PEER, "squeue is not there to tell how long job %s may run", job);
    TRY(child_output(argv, &text, &n, ANSWER_MOST, &status, e));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        err_set(e, ERR_PEER, "squeue does not tell how long job %s may run", job);
    else if (limit_parse(out, text) != 0)
        *out = -1; /* UNLIMITED, NOT_SET */
    free(text);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : ERR_PEER;
}

static int from_launcher(double *out, err *e)
{
    const char *end = getenv("SLURM_JOB_END_TIME"), *job = getenv("SLURM_JOB_ID");

    *out = -1;
    if (end && *end) {
        *out = (double)(atoll(end) - clock_wall_ms() / 1000);
        return 0;
    }
    return job && *job ? ask_squeue(out, job, e) : 0;
}

int limit_left(double *out, const farmfile *f, err *e)
{
    double said = f->limits.time_limit;

    *out = said >= 0 ? said : -1;
    return said > CFG_WORD - 0.5 && said < CFG_WORD + 0.5 ? from_launcher(out, e) : 0;
}
