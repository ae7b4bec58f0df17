/* Failed concepts are set aside by children of the coordinator: pictures may be large and their disk slow. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "scheduler/coord_impl.h"
#include "scheduler/quarantine.h"

static const int64_t END_PATIENCE = 20000000000;

/* In the child: nothing of the coordinator's but standard error stays open. Its end is the answer. */
static _Noreturn void keep(const quarantine_case *q)
{
    err e = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(3, ~0U, 0);
    int rc = quarantine_keep(q, &e);
    if (rc != 0)
        fprintf(stderr, "concept %s is not set aside: %s\n", q->name, e.text);
    _exit(rc != 0);
}

void keep_failure(coordinator *c, const sched_job *j, const sched_event *ev)
{
    const char *node = j->last_node >= 0 && j->last_node < c->s->nodes ? c->s->node[j->last_node].name : NULL;
    quarantine_case q = {.farm = c->l->dir, .name = j->spec.name, .settings = j->spec.settings,
                         .blame = job_blame_name(ev->blame), .code = ev->code, .text = ev->text,
                         .state = job_state_name(j->state), .node = node, .attempt = ev->attempt,
                         .slot = node ? j->last_slot : -1, .step = ev->step};
    pid_t pid = fork();

    if (pid == 0)
        keep(&q);
    if (pid < 0) {
        log_event(c->how->log, "not-set-aside", TEXT("concept", j->spec.name), TEXT("why", "no child process can be made"));
        return;
    }
    c->keeper = mem_grow(c->keeper, (size_t)c->keepers + 1, sizeof *c->keeper);
    c->keeper[c->keepers++] = pid;
}

void keep_reap(coordinator *c)
{
    int left = 0, status;

    for (int i = 0; i < c->keepers; i++)
        if (waitpid(c->keeper[i], &status, WNOHANG) == 0)
            c->keeper[left++] = c->keeper[i];
    c->keepers = left;
}

void keep_end(coordinator *c)
{
    int64_t until = clock_ns() + END_PATIENCE;

    for (; c->keepers > 0 && clock_ns() < until; keep_reap(c))
        usleep(5000);
    free(c->keeper);
}
