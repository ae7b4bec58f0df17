/* What must be true in every world. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/coordinator.h"
#include "scheduler/journal_format.h"
#include "tests/sim/world.h"

enum { CONCEPTS_MOST = 64 };

static int concepts, poison;
static char name_of[CONCEPTS_MOST][16];

void laws_reset(int n)
{
    CHECK(n <= CONCEPTS_MOST);
    concepts = n;
    poison = lot(3) == 0 ? (int)lot((uint32_t)n) : -1;
    for (int i = 0; i < n; i++)
        snprintf(name_of[i], sizeof name_of[i], "c%d", i);
}

const char *laws_name(int concept) { return name_of[concept]; }
bool laws_poison(int concept) { return concept == poison; }

/* ---- reading the journal --------------------------------------------------------------------------------------- */

typedef struct {
    sched *s;
    int records;
    int done[CONCEPTS_MOST];
    int job, attempt;          /* is this START there? */
    bool started;
} past;

static int on_record(void *arg, int type, const char *body, size_t n, err *e)
{
    past *p = arg;
    json_t *owner = NULL;
    sched_event ev;

    TRY(sched_read_record(&ev, &owner, type, body, n, e));
    if (ev.type == EV_DONE && ev.job < concepts) {
        p->done[ev.job]++;
        if (ev.attempt != p->s->job[ev.job].attempt)
            world_break("no answer of an older attempt is taken", "%s: done by attempt %d in attempt %d", name_of[ev.job], ev.attempt,
                        p->s->job[ev.job].attempt);
    }
    p->started |= (ev.type == EV_START || ev.type == EV_ADOPT) && ev.job == p->job && ev.attempt == p->attempt;
    int rc = sched_replay(p->s, &ev, e);
    json_decref(owner);
    p->records++;
    return rc;
}

static past past_open(err *e, int job, int attempt)
{
    past p = {.s = sched_new((sched_options){.gang_max = 8}), .job = job, .attempt = attempt};
    journal *j = NULL;

    if (journal_open(&j, "/farm/journal", on_record, &p, e) != 0)
        world_break("the journal is legal", "%s", e->text);
    journal_close(j);
    return p;
}

/* First the journal, then the world: whoever is told to begin finds it written, and synced unless power was lost since. */
void laws_started(int job, int attempt, int pid)
{
    err e = {0};
    past p;

    if (lot(20) != 0) /* costly: some of them */
        return;
    p = past_open(&e, job, attempt);
    if (!p.started && !world.broken)
        world_break("first the journal, then the world", "worker %d begins job %d attempt %d, of which the journal knows nothing", pid,
                    job, attempt);
    sched_free(p.s);
}

static void last_segment(char out[96])
{
    char list[64][96];
    int n = disk_list(list, 64, "/farm/journal");

    out[0] = '\0';
    for (int i = 0; i < n; i++)
        if (str_ends(list[i], ".log") && strcmp(list[i], out) > 0)
            str_copy(out, 96, list[i]);
}

/* Cut anywhere, it is what a crash leaves: what was before the cut is read. */
static void cut_somewhere(void)
{
    char segment[96], path[200];
    const char *bytes;
    char *whole;
    size_t n, keep;
    err e = {0};
    past p;

    last_segment(segment);
    if (!segment[0])
        return;
    snprintf(path, sizeof path, "/farm/journal/%s", segment);
    n = disk_read(path, &bytes);
    if (n <= JOURNAL_HEAD)
        return;
    keep = JOURNAL_HEAD + lot((uint32_t)(n - JOURNAL_HEAD));
    whole = mem_copy(bytes, n);
    disk_remove(path);
    disk_put(path, whole, keep);
    p = past_open(&e, -1, 0);
    sched_free(p.s);
    disk_remove(path);
    disk_put(path, whole, n);
    free(whole);
}

void laws_journal(void)
{
    err e = {0};
    past p = past_open(&e, -1, 0);

    for (int i = 0; i < concepts; i++)
        if (p.done[i] > 1)
            world_break("a concept is done once", "%s: %d times", name_of[i], p.done[i]);
    if (p.s->jobs > 0 && p.s->jobs < concepts)
        world_break("no accepted concept is lost", "%d of %d are in the journal", p.s->jobs, concepts);
    sched_free(p.s);
}

int laws_open_jobs(void)
{
    err e = {0};
    past p = past_open(&e, -1, 0);
    int n = p.s->jobs == 0 ? concepts : 0;

    for (int i = 0; i < p.s->jobs; i++)
        n += p.s->job[i].state < JOB_DONE;
    sched_free(p.s);
    return n;
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

static void check_result(const sched_job *j)
{
    char path[96], object[160], expected[64];
    const char *bytes;
    size_t n;

    snprintf(path, sizeof path, "/farm/out/%s.h5", j->spec.name);
    snprintf(object, sizeof object, "/farm/obj/%.2s/%s.h5", j->sha256, j->sha256);
    snprintf(expected, sizeof expected, "the result of %s", j->spec.name);
    n = disk_read(path, &bytes);
    if (n != strlen(expected) || memcmp(bytes, expected, n) != 0)
        world_break("what is done is there, and the bytes of an undisturbed run", "%s", path);
    else if (!disk_synced(path) || !disk_synced(object))
        world_break("what is done outlives a loss of power", "%s", path);
}

static void check_concept(const sched_job *j, int i)
{
    if (j->state == JOB_DONE)
        check_result(j);
    else if (j->state != JOB_QUARANTINED)
        world_break("every concept ends", "%s is %s", name_of[i], job_state_name(j->state));
    else if (i != poison && j->failures >= j->spec.retries)
        world_break("no innocent concept is quarantined", "%s: %s", name_of[i], j->why ? j->why : "");
    if (i == poison && j->state == JOB_DONE)
        world_break("the poisoned concept is not done", "%s", name_of[i]);
}

void laws_final(int status)
{
    err e = {0};
    past p = past_open(&e, -1, 0);

    for (int i = 0; i < p.s->jobs; i++)
        check_concept(&p.s->job[i], i);
    if (p.s->jobs != concepts)
        world_break("no accepted concept is lost", "%d of %d are in the journal", p.s->jobs, concepts);
    if (status != FARM_DONE && status != FARM_SOME_FAILED && !world.broken)
        world_break("a farm left alone ends", "with status %d", status);
    sched_free(p.s);
    laws_journal();
    cut_somewhere();
}
