/* `cfarm plan`: what would happen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/prepare.h"

/* ---- plan ----------------------------------------------------------------------------------------------------- */

/* The worker's own words and status: it alone knows pictures and models. */
static int run_check(const char *path, bool json, err *e)
{
    char program[FS_PATH];
    const char *argv[] = {program, "--check", path, json ? "--json" : NULL, NULL};
    child_spec c = {.argv = argv, .fd = -1, .out = -1, .err = -1};
    int status;
    pid_t pid;

    TRY(child_program(program, "cfarm-worker", e));
    fflush(stdout);
    TRY(child_start(&pid, &c, e));
    while (waitpid(pid, &status, 0) != pid)
        ;
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 2)) {
        char ending[96];
        child_ending(status, ending, sizeof ending);
        return err_set(e, ERR_PEER, "cfarm-worker --check ended with %s", ending);
    }
    return WEXITSTATUS(status) == 0 ? 0 : err_set(e, ERR_INPUT, "%s has mistakes; nothing would be begun", path);
}

static const char *state_in(const ledger *l, const char *name)
{
    int at = l ? sched_find(l->s, name) : -1;

    return at < 0 ? "new" : l->s->job[at].state < JOB_DONE ? "to do" : job_state_name(l->s->job[at].state);
}

static void show_plan(const prepared *p)
{
    size_t left = 0;

    for (size_t i = 0; i < p->f->concept_count; i++) {
        const char *state = state_in(p->l, p->f->concepts[i].name);
        left += strcmp(state, "new") == 0 || strcmp(state, "to do") == 0;
        if (p->l)
            printf("%-20s %s\n", p->f->concepts[i].name, state);
    }
    for (size_t i = 0; i < p->f->merge_count; i++)
        printf("%-20s merge of %zu, %s\n", p->f->merges[i].name, p->f->merges[i].of.n,
               state_in(p->l, p->f->merges[i].name));
    printf("farm %s in %s: %zu concepts, %zu to train, %zu merges\n", p->f->name, p->f->dir, p->f->concept_count, left,
           p->f->merge_count);
}

static int plan(const char *path, bool json, err *e)
{
    prepared p;
    int rc = prepare_read(&p, path, 0, e);

    if (rc == 0)
        rc = run_check(path, json, e);
    if (rc == 0 && fs_is_dir(p.f->dir) && !ledger_busy(p.f->dir)) /* a past to compare with, that stands still */
        rc = prepare_compare(&p, false, e);
    if (rc == 0 && !json)
        show_plan(&p);
    prepare_free(&p);
    return rc;
}

int command_plan(int argc, char **argv)
{
    bool json = argc == 3 && strcmp(argv[2], "--json") == 0;
    err e = {0};

    if (argc < 2 || argv[1][0] == '-' || (argc > 2 && !json)) {
        fputs("usage: cfarm plan FARM.yaml [--json]\n", stderr);
        return FARM_BAD_INPUT;
    }
    return plan(argv[1], json, &e) == 0 ? FARM_DONE : look_complain(&e);
}
