/* Merges: `cfarm-merge merge --out ASIDE --base=BASE [--KEY=VALUE ...] FILE...` as a child, whose last line on stderr
 * is the reason when it fails. A merge that says no says no again: only one that was killed is tried once more. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/child.h"
#include "scheduler/coord_impl.h"
#include "scheduler/publish.h"

enum { LOG_MOST = 1 << 20 };

static void log_path(char out[FS_PATH], const coordinator *c, int job)
{
    str name = {0};

    str_add(&name, "logs/merge-%s.log", c->s->job[job].spec.name);
    CHECK(fs_join(out, c->l->dir, name.at, NULL) == 0);
    str_free(&name);
}

static void fail(coordinator *c, int job, int attempt, job_blame blame, bool retry, const char *text)
{
    coord_step(c, &(sched_event){.type = EV_FAILED, .now_ms = coord_now_ms(), .job = job, .attempt = attempt,
                                 .blame = blame, .retry = retry, .code = "merge", .text = text});
}

/* ---- the command line ----------------------------------------------------------------------------------------- */

typedef struct { char **at; size_t n; } args;

static void push(args *a, char *taken)
{
    a->at = mem_grow(a->at, a->n + 2, sizeof *a->at);
    a->at[a->n++] = taken;
    a->at[a->n] = NULL;
}

static void args_free(args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->at[i]);
    free(a->at);
}

static char *value_text(const json_t *v)
{
    return json_is_string(v) ? mem_text(json_string_value(v)) : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void push_flag(args *a, const char *key, const json_t *v)
{
    str flag = {0};
    char *text = value_text(v);

    str_add(&flag, "--%s=%s", key, text);
    free(text);
    push(a, flag.at);
}

static int push_source(args *a, const coordinator *c, const json_t *settings, const char *name, err *e)
{
    const char *root = json_string_value(json_object_get(settings, "root"));
    char path[FS_PATH];
    str in_farm = {0};
    int rc;

    str_add(&in_farm, "out/%s.h5", name);
    if (sched_find(c->s, name) >= 0)
        rc = fs_join(path, c->l->dir, in_farm.at, e);
    else
        rc = fs_join(path, root ? root : ".", name, e);
    str_free(&in_farm);
    if (rc == 0)
        push(a, mem_text(path));
    return rc;
}

static int command(args *a, const coordinator *c, const json_t *settings, const char *aside, err *e)
{
    char program[FS_PATH];
    const char *key;
    json_t *v;

    TRY(child_program(program, "cfarm-merge", e));
    push(a, mem_text(program));
    push(a, mem_text("merge"));
    push(a, mem_text("--out"));
    push(a, mem_text(aside));
    json_object_foreach((json_t *)(uintptr_t)settings, key, v)
        if (strcmp(key, "of") != 0 && strcmp(key, "root") != 0)
            push_flag(a, key, v);
    for (size_t i = 0; i < json_array_size(json_object_get(settings, "of")); i++)
        TRY(push_source(a, c, settings, json_string_value(json_array_get(json_object_get(settings, "of"), i)), e));
    return 0;
}

/* ---- starting ------------------------------------------------------------------------------------------------- */

static int spawn(coordinator *c, const args *a, err *e)
{
    char path[FS_PATH];
    child_spec spec = {.argv = (const char *const *)a->at, .fd = -1};
    int rc;

    log_path(path, c, c->merge.job);
    spec.out = spec.err = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (spec.out < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    rc = child_start(&c->merge.pid, &spec, e);
    close(spec.out);
    if (rc != 0)
        c->merge.pid = 0;
    return rc;
}

void merge_start(coordinator *c, int job, int attempt)
{
    const sched_job *j = &c->s->job[job];
    json_t *settings = json_loads(j->spec.settings, 0, NULL);
    args a = {0};
    err e = {0};
    int rc;

    merge_stop(c);
    c->merge = (merge_step){.job = job, .attempt = attempt, .since_ns = clock_ns()};
    rc = publish_aside(c->merge.aside, c->l->dir, j->spec.name, attempt, &e);
    if (rc == 0)
        rc = command(&a, c, settings, c->merge.aside, &e);
    if (rc == 0)
        rc = spawn(c, &a, &e);
    if (rc != 0)
        fail(c, job, attempt, BLAME_NODE, true, e.text);
    args_free(&a);
    json_decref(settings);
}

void merge_stop(coordinator *c)
{
    if (c->merge.pid <= 0)
        return;
    kill(-c->merge.pid, SIGKILL);
    while (waitpid(c->merge.pid, NULL, 0) < 0 && errno == EINTR)
        ;
    c->merge.pid = 0;
    fs_discard(c->merge.aside);
}

void merge_halt(coordinator *c, int job, int attempt)
{
    merge_stop(c);
    coord_step(c, &(sched_event){.type = EV_STOPPED, .now_ms = coord_now_ms(), .job = job, .attempt = attempt});
}

/* ---- ending --------------------------------------------------------------------------------------------------- */

static void last_line(const coordinator *c, char *out, size_t room)
{
    char path[FS_PATH], *text, *line;
    size_t n;

    out[0] = '\0';
    log_path(path, c, c->merge.job);
    if (fs_read(path, &text, &n, LOG_MOST, NULL) != 0)
        return;
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    line = strrchr(text, '\n');
    str_copy(out, room, line ? line + 1 : text);
    free(text);
}

static void on_success(coordinator *c)
{
    const merge_step *m = &c->merge;
    sched_event ev = {.type = EV_DONE, .now_ms = coord_now_ms(), .job = m->job, .attempt = m->attempt};
    char sha256[HASH_HEX];
    struct stat s;
    err e = {0};
    int rc;

    if (stat(m->aside, &s) != 0)
        rc = err_set(&e, ERR_PEER, "the merge ended well and left no file");
    else
        rc = hash_file(m->aside, sha256, &e);
    if (rc == 0)
        rc = publish(c->l->dir, m->aside, sha256, c->s->job[m->job].spec.name, &e);
    if (rc != 0) {
        fail(c, m->job, m->attempt, e.code == ERR_IO ? BLAME_STORE : BLAME_NODE, true, e.text);
        return;
    }
    ev.sha256 = sha256;
    ev.bytes = s.st_size;
    ev.seconds = (double)(clock_ns() - m->since_ns) * 1e-9;
    coord_step(c, &ev);
}

static void on_failure(coordinator *c, int status)
{
    char why[400], ending[96];

    last_line(c, why, sizeof why);
    child_ending(status, ending, sizeof ending);
    fs_discard(c->merge.aside);
    fail(c, c->merge.job, c->merge.attempt, BLAME_JOB, WIFSIGNALED(status), why[0] ? why : ending);
}

void merge_reap(coordinator *c)
{
    int status;

    if (c->merge.pid <= 0 || waitpid(c->merge.pid, &status, WNOHANG) != c->merge.pid)
        return;
    c->merge.pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        on_success(c);
    else
        on_failure(c, status);
}
