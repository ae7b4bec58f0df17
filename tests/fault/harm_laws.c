/* What must be true of a farm that is over, whatever was done to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/hash.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"
#include "tests/fault/harm.h"

enum { JOBS_MOST = 64, RECORDS_MOST = 100000 };

typedef struct { sched *s; int done[JOBS_MOST]; int records; } past;

static int replay(void *arg, int type, const char *body, size_t n, err *e)
{
    past *p = arg;
    json_t *owner = NULL;
    sched_event ev;
    int rc = sched_read_record(&ev, &owner, type, body, n, e);

    if (rc == 0)
        rc = sched_replay(p->s, &ev, e);
    if (rc == 0 && ev.type == EV_DONE && ev.job >= 0 && ev.job < JOBS_MOST)
        p->done[ev.job]++;
    p->records++;
    json_decref(owner);
    return rc;
}

static void read_past(const world *w, past *p, const char *dir)
{
    journal *j;
    err e = {0};

    *p = (past){.s = sched_new((sched_options){.gang_max = 8, .backoff_ms = 50, .hold_ms = 100})};
    if (journal_open(&j, dir, replay, p, &e) != 0)
        unlike(w, "the journal cannot be replayed: %s", e.text);
    journal_close(j);
}

static void path_of(const world *w, char out[300], const char *fmt, const char *name)
{
    char rest[128];

    snprintf(rest, sizeof rest, fmt, name);
    snprintf(out, 300, "%s/%s", w->f.dir, rest);
}

/* What an undisturbed run's result is: the fake worker writes the settings, sorted; the real one was run before. */
static void expected(const world *w, const sched_job *j, char sha[HASH_HEX])
{
    char path[300];

    if (w->real) {
        path_of(w, path, "calm/out/%s.h5", j->spec.name);
        if (hash_file(path, sha, NULL) != 0)
            unlike(w, "%s is not there", path);
    } else {
        json_t *settings = json_loads(j->spec.settings, 0, NULL);
        char *text = json_dumps(settings, JSON_SORT_KEYS);
        hash_bytes(text, strlen(text), sha);
        free(text);
        json_decref(settings);
    }
}

static bool has_address(const world *w, const char *out, const char *sha)
{
    char object[400];
    struct stat a, b;

    snprintf(object, sizeof object, "%s/pets/obj/%.2s/%s.h5", w->f.dir, sha, sha);
    return stat(out, &a) == 0 && stat(object, &b) == 0 && a.st_ino == b.st_ino;
}

/* I1, I2, I3, I7: each concept has ended; once; with the right bytes; and none for another's fault. */
static void law_of_ends(const world *w, const past *p)
{
    if (w->must && sched_find(p->s, w->must) < 0)
        unlike(w, "%s was accepted and is forgotten", w->must);
    for (int i = 0; i < p->s->jobs; i++) {
        const sched_job *j = &p->s->job[i];
        char out[300], sha[HASH_HEX], want[HASH_HEX];
        path_of(w, out, "pets/out/%s.h5", j->spec.name);
        if (w->bad && strcmp(w->bad, j->spec.name) == 0) {
            if ((j->state != JOB_QUARANTINED && j->state != JOB_REJECTED) || fs_exists(out) || p->done[i] != 0)
                unlike(w, "%s, which always fails, is %s", j->spec.name, job_state_name(j->state));
            continue;
        }
        if (j->state != JOB_DONE || p->done[i] != 1)
            unlike(w, "%s is %s and was done %d times", j->spec.name, job_state_name(j->state), p->done[i]);
        expected(w, j, want);
        if (hash_file(out, sha, NULL) != 0 || strcmp(sha, want) != 0 || strcmp(j->sha256, want) != 0)
            unlike(w, "%s has other bytes than an undisturbed run's", j->spec.name);
        if (!has_address(w, out, sha))
            unlike(w, "%s is not what stands under its address", j->spec.name);
        if (w->bad && j->failures > 0)
            unlike(w, "%s is blamed for another's fault", j->spec.name);
    }
}

/* I4: no process, no half-written file, nothing of its agents in shared memory. */
static void law_of_remains(const world *w)
{
    char command[400];

    nothing_is_left(&w->f);
    snprintf(command, sizeof command, "find %s/pets \\( -name '.aside-*' -o -name '*.tmp-*' \\) -ls | grep .", w->f.dir);
    if (system(command) == 0)
        unlike(w, "half-written files were left");
    for (int i = 0; i < w->launched && i < 64; i++) {
        snprintf(command, sizeof command, "ls /dev/shm | grep '^cfarm-%d-'", (int)w->agent[i]);
        if (system(command) == 0)
            unlike(w, "shared memory was left");
    }
}

/* I5: a journal that ends anywhere, as a crash ends it, is a legal one. */
static void law_of_prefixes(world *w)
{
    char dir[300], command[700], **names;
    struct stat st;
    size_t n;
    err e = {0};

    path_of(w, dir, "%s", "cut");
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s/pets/journal %s", dir, w->f.dir, dir);
    if (system(command) != 0 || fs_list(&names, &n, dir, &e) != 0 || n == 0)
        unlike(w, "no copy of the journal");
    snprintf(command, sizeof command, "%s/%s", dir, names[n - 1]);
    fs_list_free(names);
    for (int i = 0; i < 5 && stat(command, &st) == 0 && st.st_size > JOURNAL_HEAD; i++) {
        past p;
        if (truncate(command, pick(w, JOURNAL_HEAD, (int)st.st_size)) != 0)
            unlike(w, "the copy cannot be cut");
        read_past(w, &p, dir);
        sched_free(p.s);
    }
}

/* I8: another start does nothing. */
static void law_of_rest(world *w, const past *before)
{
    int status = w->status;
    char dir[300];
    past after;

    await(w, begin(w, "2"));
    path_of(w, dir, "%s", "pets/journal");
    read_past(w, &after, dir);
    if (w->status != status || after.records != before->records)
        unlike(w, "started once more it ended with %d and wrote %d records", w->status, after.records - before->records);
    sched_free(after.s);
}

/* The farm's own auditor, who reads the journal by other rules than its mind, finds nothing, as on any farm. */
static void law_of_audit(const world *w)
{
    char command[FS_PATH + 700];

    snprintf(command, sizeof command, "%s audit %s/pets >%s/audit 2>&1", cfarm, w->f.dir, w->f.dir);
    if (system(command) == 0)
        return;
    snprintf(command, sizeof command, "cat %s/audit >&2", w->f.dir);
    if (system(command) != 0)
        unlike(w, "what the audit says cannot be shown");
    unlike(w, "the audit finds laws broken");
}

/* As the farm's log has it: where a start stands is no part of the journal. */
static int packed_starts(const world *w)
{
    char command[400];
    int n = 0;

    snprintf(command, sizeof command, "grep -c '\"event\":\"started\".*\"pack\":1' %s/pets/logs/events.jsonl 2>/dev/null", w->f.dir);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%d", &n) != 1)
        n = 0;
    if (f)
        pclose(f);
    return n;
}

/* I6, an end in bounded time, is the deadline of each start (farm_kit.h). */
void hold_laws(world *w)
{
    char dir[300];
    past p;

    path_of(w, dir, "%s", "pets/journal");
    read_past(w, &p, dir);
    note_packed(packed_starts(w));
    law_of_ends(w, &p);
    law_of_audit(w);
    law_of_rest(w, &p);
    law_of_remains(w);
    law_of_prefixes(w);
    sched_free(p.s);
}
