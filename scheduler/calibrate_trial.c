/* A farm of a calibration: written, trained by `cfarm train`, and read back from its journal and its log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/calibrate.h"
#include "scheduler/child.h"
#include "scheduler/journal.h"
#include "scheduler/look.h"
#include "scheduler/sched.h"

enum { SAID_MOST = 1 << 20, LOG_MOST = 1 << 28 };

static void name_of(const trial *t, int i, char out[64])
{
    snprintf(out, 64, "%s-%d", t->name, i);
}

/* A copy of the method's concept, as long and as wide as is asked for; its word and its seed are its own. */
static json_t *concept_of(const trial *t, int i)
{
    json_t *o = json_deep_copy(t->settings[t->at[i].method]), *depends = json_array();
    char name[64], token[80];

    name_of(t, i, name);
    snprintf(token, sizeof token, "<%s>", name);
    json_object_del(o, "root");
    json_object_del(o, "base");
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "steps", json_integer(t->at[i].steps));
    json_object_set_new(o, "batch", json_integer(t->at[i].batch));
    json_object_set_new(o, "seed", json_integer(i));
    if (json_object_get(o, "token"))
        json_object_set_new(o, "token", json_string(token));
    for (int k = 0; k < t->n; k++)
        if (t->at[k].stage == t->at[i].stage - 1) {
            name_of(t, k, name);
            json_array_append_new(depends, json_string(name));
        }
    json_object_set_new(o, "depends", depends);
    return o;
}

/* In the farm's own folder, as one that was accepted: its relative paths begin at `origin`. */
static int write_farm(const trial *t, const char *dir, char path[FS_PATH], err *e)
{
    json_t *list = json_array(),
           *limits = json_pack("{s:i, s:i, s:i, s:i, s:s}", "workers", t->workers, "gang_max", t->gang_max, "pack_max",
                               t->pack_max, "retries", 1, "checkpoint", "never"),
           *o;
    char origin[FS_PATH];
    int rc = fs_mkdirs(dir, e);

    if (t->threads > 0)
        json_object_set_new(limits, "threads", json_integer(t->threads));
    for (int i = 0; i < t->n; i++)
        json_array_append_new(list, concept_of(t, i));
    o = json_pack("{s:s, s:s, s:o, s:o}", "farm", t->name, "base", t->base, "limits", limits, "concepts", list);
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    if (rc == 0)
        rc = fs_join(path, dir, "farm.yaml", e);
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    if (rc == 0)
        rc = fs_join(origin, dir, "origin", e);
    if (rc == 0)
        rc = fs_write(origin, t->root, strlen(t->root), e);
    free(text);
    json_decref(o);
    return rc;
}

static int train(const trial *t, const char *path, err *e)
{
    char program[FS_PATH], *said = NULL;
    const char *argv[] = {program, "train", path, NULL};
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    size_t size;
    int status;

    if (n <= 0)
        return err_set(e, ERR_IO, "/proc/self/exe cannot be read");
    program[n] = '\0';
    if (t->keeps)
        setenv("CFARM_CHECKPOINT_S", "0", 1);
    int rc = child_output(argv, &said, &size, SAID_MOST, &status, e);
    if (t->keeps)
        unsetenv("CFARM_CHECKPOINT_S");
    free(said);
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        rc = err_set(e, ERR_PEER, "the trial %s did not end well; what it said stands above", t->name);
    return rc;
}

/* ---- reading back ---------------------------------------------------------------------------------------------- */

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    trial *t = arg;
    json_t *o = NULL;
    sched_event ev;

    TRY(sched_read_record(&ev, &o, type, body, n, e));
    double at = (double)look_wall_ms(json_string_value(json_object_get(o, "at"))) * 1e-3;
    trial_concept *c = ev.job >= 0 && ev.job < t->n ? &t->at[ev.job] : NULL;
    if (ev.type == EV_START && c && c->began == 0) {
        c->began = at;
        c->packed = json_is_true(json_object_get(o, "pack"));
        t->start = t->start > 0 ? t->start : at - t->came;
    }
    if (ev.type == EV_DONE && c) {
        c->ended = at;
        c->seconds = ev.seconds;
        t->end = at > t->end ? at : t->end;
    }
    json_decref(o);
    return 0;
}

static int read_hello(trial *t, const char *dir, err *e)
{
    char path[FS_PATH], *text, *rest;
    size_t n;

    TRY(fs_join(path, dir, "logs/events.jsonl", e));
    TRY(fs_read(path, &text, &n, LOG_MOST, e));
    for (char *line = strtok_r(text, "\n", &rest); line && t->came == 0; line = strtok_r(NULL, "\n", &rest)) {
        json_t *o = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(o, "event"));
        if (event && strcmp(event, "agent") == 0)
            t->came = (double)look_wall_ms(json_string_value(json_object_get(o, "time"))) * 1e-3;
        json_decref(o);
    }
    free(text);
    return t->came > 0 ? 0 : err_set(e, ERR_PEER, "%s: no agent came", path);
}

int trial_run(trial *t, err *e)
{
    char dir[FS_PATH], path[FS_PATH];
    journal *j = NULL;

    TRY(fs_join(dir, t->dir, t->name, e));
    TRY(write_farm(t, dir, path, e));
    TRY(train(t, path, e));
    TRY(read_hello(t, dir, e));
    TRY(fs_join(path, dir, "journal", e));
    TRY(journal_open(&j, path, on_record, t, e));
    journal_close(j);
    for (int i = 0; i < t->n; i++)
        if (t->at[i].ended <= t->at[i].began)
            return err_set(e, ERR_PEER, "%s-%d has no times in the journal of %s", t->name, i, dir);
    return 0;
}
