/* `cfarm train FARM.yaml`: one process per rank comes in here; one agent per node and one coordinator go on. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/str.h"
#include "scheduler/agent.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/join.h"
#include "scheduler/limit.h"
#include "scheduler/prepare.h"
#include "scheduler/publish.h"

typedef struct {
    const char *path;
    int workers;
    bool retry, serve, open;
} train_options;

static int usage(void)
{
    fputs("usage: cfarm train FARM [--workers N] [--retry] [--serve] [--open]\n"
          "  FARM          a farm file; or a farm's folder, which goes on as it was accepted\n"
          "  --workers N   workers on each node (limits.workers); without it one for each rank of the launcher there,\n"
          "                and without a launcher one for each two cores and 8 GiB\n"
          "  --retry       try quarantined and rejected concepts again\n"
          "  --serve       stay when all is done, for what cfarm add brings; Ctrl-C or cfarm drain ends it\n"
          "  --open        let agents of other machines join (cfarm agent --join); over several nodes and in a Slurm job they can\n",
          stderr);
    return FARM_BAD_INPUT;
}

static bool parse(train_options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--retry") == 0)
            o->retry = true;
        else if (strcmp(argv[i], "--serve") == 0)
            o->serve = true;
        else if (strcmp(argv[i], "--open") == 0)
            o->open = true;
        else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0)
            o->workers = atoi(argv[++i]);
        else if (argv[i][0] != '-' && !o->path)
            o->path = argv[i];
        else
            return false;
    }
    return o->path != NULL;
}

/* ---- rank 0, before the ranks meet ---------------------------------------------------------------------------- */

typedef struct {
    prepared p;
    int listen;
    int64_t end_ns;            /* when its time is over; 0: never */
    char hook[FS_PATH];        /* "": none */
    meet_notice notice;
    const meet_place *place;
    char dir[FS_PATH];         /* the farm's */
    bool serve;
} host;

static int make_token(char out[DOOR_TOKEN], err *e)
{
    unsigned char bytes[(DOOR_TOKEN - 1) / 2];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return err_set(e, ERR_IO, "no random numbers for the farm's token: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static int tell_nothing_to_do(const sched *s, const char *name)
{
    int bad = s->count[JOB_QUARANTINED] + s->count[JOB_REJECTED] + s->count[JOB_QUEUED], held = s->count[JOB_HOLD];

    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        if (j->state == JOB_QUARANTINED || j->state == JOB_REJECTED)
            fprintf(stderr, "%s is %s: %s; change its settings or use --retry\n", j->spec.name,
                    job_state_name(j->state), j->why ? j->why : "no reason kept");
        else if (j->state == JOB_QUEUED)
            fprintf(stderr, "%s waits for what is not done\n", j->spec.name);
    }
    fprintf(stderr, "farm %s: nothing to do: %d of %d done", name, s->count[JOB_DONE],
            s->jobs - s->count[JOB_CANCELLED]);
    fprintf(stderr, held ? ", %d on hold\n" : "\n", held);
    return bad ? FARM_SOME_FAILED : FARM_DONE;
}

/* Scripts read there how a farm ended; so also when there was nothing to do. */
static int keep_status(const host *h, err *e)
{
    char path[FS_PATH], text[16];

    coordinator_last_words(h->p.l, h->p.f->name, h->notice.status);
    TRY(fs_join(path, h->p.l->dir, "exit", e));
    snprintf(text, sizeof text, "%d\n", h->notice.status);
    return fs_write(path, text, strlen(text), e);
}

/* The hook must be there before the night it is for. */
static int find_hook(host *h, err *e)
{
    const farmfile *f = h->p.f;

    if (!f->notify.exec[0])
        return 0;
    TRY(fs_join(h->hook, f->root, f->notify.exec, e));
    return access(h->hook, X_OK) == 0 ? 0
               : err_set(e, ERR_INPUT, "notify.exec: %.200s cannot be run: %s", h->hook, strerror(errno));
}

static int find_end(host *h, err *e)
{
    double left;

    TRY(limit_left(&left, h->p.f, e));
    h->end_ns = left >= 0 ? clock_ns() + (int64_t)(left * 1e9) : 0;
    return 0;
}

static int open_house(host *h, const train_options *o, err *e)
{
    door *d = &h->notice.door;
    int rank, size;
    bool far;

    TRY(meet_launched(&rank, &size, e));
    far = o->open || getenv("SLURM_JOB_ID") || (size > 1 && !meet_one_node());
    TRY(coordinator_listen(&h->listen, &d->port, far, e));
    TRY(make_token(d->token, e));
    if (far)
        d->addresses = node_addresses(d->address);
    else
        strcpy(d->address[d->addresses++], "127.0.0.1");
    d->workers = o->workers > 0 ? o->workers : h->p.f->limits.workers;
    d->threads = h->p.f->limits.threads;
    d->memory = h->p.f->limits.memory;
    d->cuda = h->p.f->backend == FARM_BACKEND_CUDA;
    h->notice.go = 1;
    return door_write(d, h->p.l->dir, e);
}

static int prepare_rest(host *h, const train_options *o, json_t **checked, err *e)
{
    if (journal_warning(h->p.l->j))
        fprintf(stderr, "cfarm: %s\n", journal_warning(h->p.l->j));
    h->p.f->serve |= o->serve;
    if (!prepare_needed(&h->p) && !h->p.f->serve) {
        h->notice.status = tell_nothing_to_do(h->p.l->s, h->p.f->name);
        TRY(publish_sweep(h->p.l->dir, e)); /* the last run may have been killed while it wrote its last words */
        return keep_status(h, e);
    }
    if (h->p.changes.trainings > 0 && !*checked)
        TRY(prepare_check(checked, h->p.f->path, NULL, e));
    TRY(prepare_accept(&h->p, *checked, e));
    if (!prepare_needed(&h->p) && !h->p.f->serve) { /* the orders left nothing to do */
        h->notice.status = tell_nothing_to_do(h->p.l->s, h->p.f->name);
        return keep_status(h, e);
    }
    return open_house(h, o, e);
}

/* What is new is checked before it is accepted; what was accepted before is not asked for again. */
static int prepare(host *h, const train_options *o, err *e)
{
    json_t *checked = NULL;
    int rc;

    TRY(prepare_read(&h->p, o->path, o->workers, e));
    TRY(find_hook(h, e));
    TRY(find_end(h, e));
    if (!fs_is_dir(h->p.f->dir)) /* all is new: nothing is made, not even a folder, for a file with mistakes */
        TRY(prepare_check(&checked, h->p.f->path, NULL, e));
    rc = prepare_compare(&h->p, o->retry, e);
    if (rc == 0)
        rc = prepare_rest(h, o, &checked, e);
    json_decref(checked);
    return rc;
}

static void prepare_or_tell(host *h, const train_options *o)
{
    err e = {0};

    if (prepare(h, o, &e) == 0)
        return;
    fprintf(stderr, "cfarm: %s\n", e.text);
    h->notice.status = e.code == ERR_INPUT || e.code == ERR_SHAPE ? FARM_BAD_INPUT : FARM_BROKEN;
}

/* ---- coordinator and agents ----------------------------------------------------------------------------------- */

static int coordinate(host *h)
{
    coordinator_options o = {.l = h->p.l, .name = h->p.f->name, .base = h->p.f->base, .listen = h->listen,
                             .token = h->notice.door.token, .agents = h->place->nodes, .serve = h->serve,
                             .hook = h->hook[0] ? h->hook : NULL, .hook_on = h->p.f->notify.on,
                             .checkpoint = h->p.f->limits.checkpoint,
                             .time_left = h->end_ns ? (double)(h->end_ns - clock_ns()) * 1e-9 : -1};
    char path[FS_PATH];
    err e = {0};
    int status;

    if (fs_join(path, h->p.l->dir, "logs/events.jsonl", &e) != 0 || log_open(&o.log, stderr, path, &e) != 0) {
        fprintf(stderr, "cfarm: %s\n", e.text);
        return FARM_BROKEN;
    }
    status = coordinator_run(&o);
    log_close(o.log);
    return status;
}

/* The one before was killed. Its epoch is over; what its agents have under way is taken over as they say hello. */
static int coordinate_again(host *h)
{
    err e = {0};

    if (h->listen > 3)
        close_range(3, (unsigned)h->listen - 1, 0); /* the agent's: a link that it closes must end */
    close_range((unsigned)h->listen + 1, ~0U, 0);
    if (prepare_again(&h->p, h->dir, &e) == 0)
        return coordinate(h);
    fprintf(stderr, "cfarm: the coordinator cannot go on: %s\n", e.text);
    return FARM_BROKEN;
}

/* A process of its own, so that a slow disk under the journal never keeps the agent from its workers, and neither's bug
 * is the other's. Its process group is its own: a Ctrl-C reaches it once, through the agent. */
static int fork_coordinator(host *h, int (*run)(host *), pid_t *pid, err *e)
{
    pid_t parent = getpid();

    fflush(NULL);
    *pid = fork();
    if (*pid < 0) {
        *pid = 0;
        return err_set(e, ERR_MEMORY, "cannot start the coordinator: %s", strerror(errno));
    }
    if (*pid == 0) {
        int status = FARM_BROKEN;
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            status = run(h);
        prepare_free(&h->p);
        exit(status);
    }
    return 0;
}

static int replace_coordinator(void *arg, pid_t *pid, err *e)
{
    fprintf(stderr, "cfarm: the coordinator was killed; another one goes on from its journal\n");
    return fork_coordinator(arg, coordinate_again, pid, e);
}

static int wait_for(agent_coordinator *c)
{
    char ending[96];

    while (c->pid > 0 && waitpid(c->pid, &c->status, 0) < 0)
        if (errno != EINTR)
            return FARM_BROKEN;
    if (WIFEXITED(c->status))
        return WEXITSTATUS(c->status);
    child_ending(c->status, ending, sizeof ending);
    fprintf(stderr, "cfarm: the coordinator ended with %s; the same command goes on from its journal\n", ending);
    return FARM_BROKEN;
}

static int host_farm(host *h, const meet_place *place)
{
    agent_coordinator c = {.again = replace_coordinator, .arg = h};
    err e = {0};

    h->place = place;
    h->serve = h->p.f->serve;
    str_copy(h->dir, sizeof h->dir, h->p.l->dir);
    if (fork_coordinator(h, coordinate, &c.pid, &e) != 0) {
        fprintf(stderr, "cfarm: %s\n", e.text);
        return FARM_BROKEN;
    }
    prepare_free(&h->p); /* the coordinator has its own, and the lock; the socket stays, for the next one */
    join_farm(&h->notice.door, place, &c, NULL);
    close(h->listen);
    door_remove(h->dir);
    return wait_for(&c);
}

enum { FILES_LEAST = 64 }; /* an agent with a few workers, or a coordinator with a few agents, and their files */

int command_train(int argc, char **argv)
{
    train_options o = {0};
    host h = {.listen = -1};
    meet_place place;
    err e = {0};
    int rank, size, status = 0;

    if (!parse(&o, argc, argv))
        return usage();
    if (meet_launched(&rank, &size, &e) != 0 || node_open_files(FILES_LEAST, &e) != 0) {
        fprintf(stderr, "cfarm: %s\n", e.text);
        return FARM_BAD_INPUT;
    }
    if (size > 1)
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a launcher that is killed takes the farm along, as it does when it ends */
    if (rank == 0)
        prepare_or_tell(&h, &o);
    if (meet(&place, &h.notice, &e) != 0) {
        fprintf(stderr, "cfarm: %s\n", e.text);
        status = FARM_BROKEN;
    } else if (!h.notice.go) {
        status = place.rank == 0 ? h.notice.status : FARM_DONE;
    } else if (place.rank == 0) {
        status = host_farm(&h, &place);
    } else if (place.local_rank == 0) {
        status = join_farm(&h.notice.door, &place, NULL, NULL);
    }
    prepare_free(&h.p);
    return status;
}
