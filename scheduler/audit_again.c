/* Silent corruption shows only when the same work is done twice: concepts that are done, chosen by lot, are trained
 * once more by this machine's worker, alone and from the first step, with the settings they ran with. The same settings
 * give the same bytes, whatever the gang, the pack or the crashes on the way; so another result means that a processor,
 * a memory or a disk has erred, or that the two machines are not of one kind. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "scheduler/audit.h"
#include "scheduler/child.h"
#include "scheduler/quarantine.h"

enum { SAID_MOST = 1 << 20 };

/* Concepts that are done, in the order of the lot: the first of a shuffle. */
static int draw(const audit *a, int most, uint64_t seed, int out[])
{
    rng_stream s = rng_open(seed, "audit", 0, 0);
    int n = 0;

    for (int i = 0; i < a->past.jobs; i++)
        if (a->past.job[i].state == JOB_DONE && !a->past.job[i].merge)
            out[n++] = i;
    if (most > n)
        most = n;
    for (int i = 0; i < most; i++) {
        int other = i + (int)((double)rng_uniform(s, (uint64_t)i) * (n - i)), keep = out[i];
        if (other >= n)
            other = n - 1;
        out[i] = out[other];
        out[other] = keep;
    }
    return most;
}

static int train(const audit_job *j, const char *dir, char sha256[HASH_HEX], err *e)
{
    char program[FS_PATH], file[FS_PATH], out[FS_PATH], *said = NULL;
    const char *argv[] = {program, "--train", file, j->name, out, NULL};
    size_t n;
    int status;

    TRY(child_program(program, "cfarm-worker", e));
    TRY(quarantine_farm(dir, j->name, j->settings, e));
    TRY(fs_join(file, dir, "farm.yaml", e));
    TRY(fs_join(out, dir, "again.h5", e));
    TRY(child_output(argv, &said, &n, SAID_MOST, &status, e));
    free(said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, ERR_PEER, "it cannot be trained here; what the worker says stands above");
    return hash_file(out, sha256, e);
}

static void try_again(audit *a, const audit_job *j)
{
    char dir[] = "/tmp/cfarm-again-XXXXXX", sha256[HASH_HEX];
    err e = {0};

    a->law[LAW_AGAIN].looked++;
    if (!mkdtemp(dir)) {
        audit_breach(a, LAW_AGAIN, "%s: no folder in /tmp to train it in", j->name);
        return;
    }
    if (train(j, dir, sha256, &e) != 0)
        audit_breach(a, LAW_AGAIN, "%s: %s", j->name, e.text);
    else if (strcmp(sha256, j->sha256) != 0)
        audit_breach(a, LAW_AGAIN,
                     "%s: trained again here it has sha256 %.12s..., published is %.12s...; on machines of one kind, "
                     "one of "
                     "the two has erred",
                     j->name, sha256, j->sha256);
    fs_remove_tree(dir, NULL);
}

void audit_again(audit *a, int most, uint64_t seed)
{
    int *at = NEW_N(int, a->past.jobs + 1), n = draw(a, most, seed, at);

    a->law[LAW_AGAIN].asked = true;
    for (int i = 0; i < n; i++)
        try_again(a, &a->past.job[at[i]]);
    if (n < most)
        audit_remark(a, "%d concepts are done: no more could be trained again", n);
    free(at);
}
