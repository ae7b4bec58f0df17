#include "merge/pictures.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"

extern char **environ;

static int find_sampler(char out[FS_PATH], err *e)
{
    char self[FS_PATH];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;
    if (n <= 0)
        return err_set(e, ERR_IO, "cfarm-sample cannot be found: %s", fs_reason(errno));
    self[n] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    TRY(fs_join(out, self, "cfarm-sample", e));
    return access(out, X_OK) == 0 ? 0 : err_set(e, ERR_INPUT, "%s is not there; pictures need it", out);
}

static int run(const char *program, char *const argv[], err *e)
{
    pid_t child;
    int status, rc = posix_spawn(&child, program, NULL, NULL, argv, environ);
    if (rc != 0)
        return err_set(e, ERR_IO, "%s cannot be started: %s", program, fs_reason(rc));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return err_set(e, ERR_IO, "%s cannot be waited for: %s", program, fs_reason(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : err_set(e, ERR_INPUT, "cfarm-sample made no pictures");
}

int pictures_make(const pictures_job *j, err *e)
{
    enum { OTHERS = 18 };
    char program[FS_PATH], steps[16], count[16], guidance[40], seed[24], **argv = NEW_N(char *, 2 * j->prompts + OTHERS);
    int n = 0, rc = find_sampler(program, e);
    snprintf(steps, sizeof steps, "%d", j->steps);
    snprintf(count, sizeof count, "%d", j->count);
    snprintf(guidance, sizeof guidance, "%.17g", j->guidance);
    snprintf(seed, sizeof seed, "%lld", (long long)j->seed);
    const char *fixed[] = {program,   "--model", j->model,     "--out",  j->out,   "--steps", steps,
                           "--count", count,     "--guidance", guidance, "--seed", seed,      "--grid=false"};
    for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++)
        argv[n++] = mem_text(fixed[k]);
    if (j->from) {
        argv[n++] = mem_text("--from");
        argv[n++] = mem_text(j->from);
    }
    for (int k = 0; k < j->prompts; k++) {
        argv[n++] = mem_text("--prompt");
        argv[n++] = mem_text(j->prompt[k]);
    }
    if (rc == 0)
        rc = run(program, argv, e);
    for (int k = 0; k < n; k++)
        free(argv[k]);
    free(argv);
    return rc;
}
