/* The steps before a farm runs. */
#include "scheduler/prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "configs/cfg_yaml.h"
#include "configs/farm_packs.h"
#include "scheduler/child.h"
#include "scheduler/spool.h"

enum { CHECK_MOST = 1 << 28, FILE_MOST = 1 << 26, BACKOFF_MS = 5000 };

static const cfg_node *worker_flag(cfg_doc *d, int workers)
{
    cfg_mark at = {.file = "--workers"};
    cfg_node *map = cfg_node_new(d, CFG_MAP, at);
    char text[16];

    snprintf(text, sizeof text, "%d", workers);
    cfg_put(d, map, "limits.workers", at, cfg_scalar(d, cfg_text(d, text), true, at));
    return map;
}

static int farm_file(char out[FS_PATH], const char *path, err *e)
{
    if (!fs_is_dir(path))
        return fs_join(out, "", path, e);
    TRY(fs_join(out, path, "farm.yaml", e));
    return fs_exists(out) ? 0 : err_set(e, ERR_INPUT, "%s: no farm has run here", path);
}

int prepare_read(prepared *p, const char *path, int workers, err *e)
{
    char file[FS_PATH];
    int rc;

    *p = (prepared){0};
    TRY(farm_file(file, path, e));
    path = file;
    p->d = cfg_doc_new();
    rc = farm_read(&p->f, p->d, path, workers > 0 ? worker_flag(p->d, workers) : NULL, e);
    if (rc != 0 && e)
        e->code = ERR_INPUT; /* a file that cannot be read is a mistake in what was given */
    return rc == 0 ? 0 : ERR_INPUT;
}

static int64_t backoff(void)
{
    const char *text = getenv("CFARM_BACKOFF_MS"); /* for tests */

    return text && *text ? atoll(text) : BACKOFF_MS;
}

enum { AHEAD_MS = 500 }; /* news of steps come each 100 ms, an order takes a turn and a commit */

static int pow2_floor(int64_t n)
{
    int p = 1;

    while (2 * p <= n && 2 * p <= GANG_MOST)
        p *= 2;
    return p;
}

/* As many at once as were measured to pay, and one that is on its way in or out. */
int prepare_pack_max(const farmfile *f)
{
    int paid = f->limits.pack_max == CFG_WORD ? farm_packs(f, NULL, NULL) : 1;

    return paid > 1 ? paid + 1 : f->limits.pack_max == CFG_WORD ? 1 : (int)f->limits.pack_max;
}

/* In the document, which lives as long as the farm. */
static const sched_share *shares_of(const farmfile *f)
{
    sched_share *share = cfg_room(f->doc, (f->share_count + 1) * sizeof *share);

    for (size_t i = 0; i < f->share_count; i++)
        share[i] = (sched_share){f->shares[i].owner, f->shares[i].weight};
    return share;
}

static int open_ledger(prepared *p, err *e)
{
    sched_options how = {.gang_max = pow2_floor(p->f->limits.gang_max), .pack_max = prepare_pack_max(p->f),
                         .gang_nodes = (int)p->f->limits.gang_nodes, .moves = true, .ahead_ms = AHEAD_MS,
                         .backoff_ms = backoff(), .share = shares_of(p->f), .shares = (int)p->f->share_count};

    how.hold_ms = 2 * how.backoff_ms;
    return ledger_open(&p->l, p->f->dir, how, e);
}

int prepare_compare(prepared *p, bool retry, err *e)
{
    TRY(open_ledger(p, e));
    return intake_compare(&p->changes, p->l, p->f, retry, e);
}

bool prepare_needed(const prepared *p)
{
    const sched *s = p->l->s;

    if ((p->changes.n > 0 && !p->accepted) || spool_waiting(p->l->dir) > 0)
        return true;
    for (int i = 0; i < s->jobs; i++) {
        const sched_job *j = &s->job[i];
        bool held = j->state == JOB_HOLD && j->spec.hold, waits = j->state == JOB_QUEUED && j->blocked;
        if (j->state < JOB_DONE && !held && !waits)
            return true;
    }
    return false;
}

int prepare_check(json_t **checked, const char *path, const char *piece, err *e)
{
    char program[FS_PATH], *text;
    const char *all[] = {program, "--check", path, "--json", NULL};
    const char *one[] = {program, "--check", path, "--piece", piece, "--json", NULL}, **argv = piece ? one : all;
    size_t n;
    int status, rc;

    TRY(child_program(program, "cfarm-worker", e));
    TRY(child_output(argv, &text, &n, CHECK_MOST, &status, e));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        rc = json_parse(checked, text, n, "what cfarm-worker --check says", e);
    } else {
        char ending[96];
        child_ending(status, ending, sizeof ending);
        rc = WIFEXITED(status) && WEXITSTATUS(status) == 2
                 ? err_set(e, ERR_INPUT, "%s has mistakes; nothing was %s", piece ? piece : path, piece ? "added" : "begun")
                 : err_set(e, ERR_PEER, "cfarm-worker --check ended with %s", ending);
    }
    free(text);
    return rc;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Where its relative paths begin. */
static int keep_origin(const prepared *p, err *e)
{
    char path[FS_PATH];
    str text = {0};
    int rc;

    str_add(&text, "%s\n", p->f->root);
    rc = fs_join(path, p->l->dir, "origin", e);
    if (rc == 0)
        rc = fs_write(path, text.at, text.n, e);
    str_free(&text);
    return rc;
}

/* The farm file as it was accepted, beside the results it led to. */
static int keep_file(const prepared *p, err *e)
{
    char path[FS_PATH], *text;
    size_t n;
    int rc;

    TRY(fs_join(path, p->l->dir, "farm.yaml", e));
    if (same_file(path, p->f->path))
        return 0;
    TRY(keep_origin(p, e));
    TRY(fs_read(p->f->path, &text, &n, FILE_MOST, e));
    rc = fs_write(path, text, n, e);
    free(text);
    return rc;
}

static int take_step(void *arg, const sched_event *ev, err *e)
{
    sched_effects todo = {0};
    int rc = ledger_step(arg, ev, &todo, e);

    sched_effects_free(&todo);
    return rc;
}

static void tell_order(void *arg, const char *word, const char *name, bool changed, const char *text)
{
    (void)arg, (void)changed;
    fprintf(stderr, "order to %s %s: %s\n", word, name, text);
}

/* To drain or to stop was said to a farm that does not run any more. */
static int take_orders(prepared *p, err *e)
{
    spool_hands hands = {.step = take_step, .tell = tell_order, .arg = p->l};

    return spool_take(p->l, &hands, e);
}

static int begin(prepared *p, err *e)
{
    char by[NODE_NAME + 32];
    node_facts node;

    node_look(&node);
    snprintf(by, sizeof by, "%s pid %ld", node.name, (long)getpid());
    return ledger_begin(p->l, by, e);
}

int prepare_accept(prepared *p, const json_t *checked, err *e)
{
    TRY(begin(p, e));
    TRY(intake_apply(&p->changes, p->l, p->f, checked, e));
    TRY(ledger_commit(p->l, e));
    TRY(take_orders(p, e));
    p->accepted = true;
    return keep_file(p, e);
}

int prepare_again(prepared *p, const char *dir, err *e)
{
    TRY(prepare_read(p, dir, 0, e));
    TRY(open_ledger(p, e));
    p->l->shared = true;
    p->accepted = true;
    return begin(p, e);
}

void prepare_free(prepared *p)
{
    intake_free(&p->changes);
    ledger_close(p->l);
    cfg_doc_free(p->d);
    *p = (prepared){0};
}
