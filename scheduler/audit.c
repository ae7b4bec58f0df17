/* `cfarm audit FARM`: is what the farm promises true of it? */
#include "scheduler/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/str.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/publish.h"

enum { SHOWN_MOST = 20, TRIES = 3, TRY_AGAIN_US = 500000 };

static const struct {
    const char *word, *promise, *unit;
} law_row[LAWS] = {
    [LAW_JOURNAL] = {"journal", "the journal is whole, and legal wherever it is cut", "records"},
    [LAW_ONCE] = {"once", "what is done was done once, by the attempt that ran last, after all it needs", "done"},
    [LAW_ENDS] = {"ends", "what failed has its reason; the rest is done, cancelled, on hold, waits or runs",
                  "concepts and merges"},
    [LAW_SLOTS] = {"slots", "no slot had two masters", "starts"},
    [LAW_BYTES] = {"bytes", "results are there, under both names, with the bytes of their records", "results"},
    [LAW_ORDERS] = {"orders", "every order that was accepted is carried out, waits, or was refused with its reason",
                    "orders"},
    [LAW_LOG] = {"log", "log and status say nothing that the journal does not know", "lines"},
    [LAW_TIME] = {"time", "the time of the slots adds up", "seconds of slots"},
    [LAW_AGAIN] = {"again", "trained once more, results have the same bytes", "results"},
};

static void add_sentence(json_t *to, const char *fmt, va_list args)
{
    char text[1000];

    vsnprintf(text, sizeof text, fmt, args);
    json_t *v = json_string(text);
    json_array_append_new(to, v ? v : json_string("a sentence about bytes that are no UTF-8"));
}

void audit_breach(audit *a, audit_law law, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add_sentence(a->law[law].broken, fmt, args);
    va_end(args);
}

void audit_remark(audit *a, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add_sentence(a->remarks, fmt, args);
    va_end(args);
}

/* ---- results --------------------------------------------------------------------------------------------------- */

static bool has_bytes(const char *path, const char *sha256)
{
    char is[HASH_HEX];

    return hash_file(path, is, NULL) == 0 && strcmp(is, sha256) == 0;
}

static void check_result(audit *a, const audit_job *j)
{
    char out[FS_PATH], object[FS_PATH];
    struct stat x, y;

    a->law[LAW_BYTES].looked++;
    if (publish_names(out, object, a->dir, j->name, j->sha256, NULL) != 0)
        audit_breach(a, LAW_BYTES, "%s: its record has a hash that is none", j->name);
    else if (stat(out, &x) != 0)
        audit_breach(a, LAW_BYTES, "%s is done, and %s is gone", j->name, out);
    else if (j->bytes > 0 && x.st_size != j->bytes)
        audit_breach(a, LAW_BYTES, "%s has %lld bytes; its record says %lld", out, (long long)x.st_size,
                     (long long)j->bytes);
    else if (!has_bytes(out, j->sha256))
        audit_breach(a, LAW_BYTES, "%s has not the bytes that its record names (sha256 %.12s...)", out, j->sha256);
    else if (stat(object, &y) != 0)
        audit_breach(a, LAW_BYTES, "%s has lost its address, %s; cfarm fsck --repair gives it back", j->name, object);
    else if ((x.st_ino != y.st_ino || x.st_dev != y.st_dev) && !has_bytes(object, j->sha256))
        audit_breach(a, LAW_BYTES, "%s has not the bytes of its name", object);
}

static void check_stranger(audit *a, const char *file)
{
    char name[FS_PATH];
    int at;

    str_copy(name, sizeof name, file);
    if (str_ends(name, ".h5"))
        name[strlen(name) - 3] = '\0';
    at = audit_find(&a->past, name);
    if (at < 0 || a->past.job[at].state != JOB_DONE)
        audit_remark(a, "out/%s is nobody's result: %s", file,
                     at < 0 ? "no such concept" : job_state_name(a->past.job[at].state));
}

static void check_results(audit *a)
{
    char dir[FS_PATH], **names;
    size_t n;

    a->law[LAW_BYTES].asked = true;
    for (int i = 0; i < a->past.jobs; i++)
        if (a->past.job[i].state == JOB_DONE)
            check_result(a, &a->past.job[i]);
    if (a->running || fs_join(dir, a->dir, "out", NULL) != 0 || !fs_is_dir(dir) || fs_list(&names, &n, dir, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        check_stranger(a, names[i]);
    fs_list_free(names);
}

/* ---- ends ------------------------------------------------------------------------------------------------------ */

/* Whoever ended has one record that ended him; restated ones have their state for it. */
static void check_ends(audit *a)
{
    char kept[FS_PATH], dir[FS_PATH];

    a->law[LAW_ENDS].asked = true;
    a->law[LAW_ENDS].looked = a->past.jobs;
    for (int i = 0; i < a->past.jobs; i++) {
        const audit_job *j = &a->past.job[i];
        a->law[LAW_ONCE].looked += j->state == JOB_DONE;
        if (j->state == JOB_DONE && j->dones != 1)
            audit_breach(a, LAW_ONCE, "%s is done by %d records", j->name, j->dones);
        if (j->state != JOB_QUARANTINED && j->state != JOB_REJECTED)
            continue;
        if (!j->why || !*j->why)
            audit_breach(a, LAW_ENDS, "%s is %s and nothing says why", j->name, job_state_name(j->state));
        if (j->merge || fs_join(kept, a->dir, "quarantine", NULL) != 0 || fs_join(dir, kept, j->name, NULL) != 0)
            continue;
        if (!a->running && !fs_is_dir(dir))
            audit_remark(a,
                         "%s is %s, and nothing is set aside of it: the coordinator was killed then, or it was removed",
                         j->name, job_state_name(j->state));
    }
}

/* ---- telling --------------------------------------------------------------------------------------------------- */

static size_t count_broken(const audit *a)
{
    size_t n = 0;

    for (int k = 0; k < LAWS; k++)
        n += json_array_size(a->law[k].broken);
    return n;
}

static void print(const audit *a)
{
    int held = 0, asked = 0;

    for (int k = 0; k < LAWS; k++) {
        const audit_finding *f = &a->law[k];
        size_t n = json_array_size(f->broken);
        if (!f->asked)
            continue;
        asked++;
        held += n == 0;
        printf("%-7s %-8s %s (%lld %s)\n", n ? "BROKEN" : "holds", law_row[k].word, law_row[k].promise,
               (long long)f->looked, law_row[k].unit);
        for (size_t i = 0; i < n && i < SHOWN_MOST; i++)
            printf("        %s\n", json_string_value(json_array_get(f->broken, i)));
        if (n > SHOWN_MOST)
            printf("        and %zu more; --json has them all\n", n - SHOWN_MOST);
    }
    for (size_t i = 0; i < json_array_size(a->remarks); i++)
        printf("by the way: %s\n", json_string_value(json_array_get(a->remarks, i)));
    printf("farm in %s, %s: %d of %d laws hold%s\n", a->dir, a->running ? "running" : "at rest", held, asked,
           asked < LAWS - 1 ? "; the others cannot be looked at while the journal is damaged" : "");
}

static void print_json(const audit *a)
{
    json_t *laws = json_array(), *o;

    for (int k = 0; k < LAWS; k++)
        if (a->law[k].asked)
            json_array_append_new(laws, json_pack("{s:s, s:s, s:b, s:I, s:s, s:O}", "law", law_row[k].word, "promise",
                                                  law_row[k].promise, "holds", json_array_size(a->law[k].broken) == 0,
                                                  "looked_at", (json_int_t)a->law[k].looked, "unit", law_row[k].unit,
                                                  "broken", a->law[k].broken));
    o = json_pack("{s:s, s:b, s:I, s:i, s:I, s:I, s:o, s:O}", "farm", a->dir, "running", a->running, "epoch",
                  (json_int_t)a->past.epoch, "jobs", a->past.jobs, "records", (json_int_t)a->past.records, "broken",
                  (json_int_t)count_broken(a), "laws", laws, "remarks", a->remarks);
    if (o)
        json_dumpf(o, stdout, JSON_COMPACT);
    puts(o ? "" : "{}");
    json_decref(o);
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

typedef struct {
    const char *farm;
    int again;
    uint64_t seed;
    bool json;
} request;

static void forget(audit *a)
{
    for (int k = 0; k < LAWS; k++)
        json_decref(a->law[k].broken);
    json_decref(a->remarks);
    audit_past_free(&a->past);
    sched_free(a->mind);
    *a = (audit){0};
}

static void look(audit *a, const char *dir)
{
    *a = (audit){.dir = dir, .running = ledger_busy(dir), .remarks = json_array()};
    for (int k = 0; k < LAWS; k++)
        a->law[k].broken = json_array();
    if (!audit_journal(a))
        return;
    check_ends(a);
    check_results(a);
    audit_orders(a);
    audit_log(a);
    audit_time(a);
}

/* Of a farm that runs, one file is read before another one's next line: what is broken stays broken. */
static void look_until_sure(audit *a, const char *dir)
{
    look(a, dir);
    for (int i = 1; i < TRIES && a->running && count_broken(a) > 0; i++) {
        forget(a);
        usleep(TRY_AGAIN_US);
        look(a, dir);
    }
}

static int run(const request *r, err *e)
{
    char dir[FS_PATH], path[FS_PATH];
    audit a;

    TRY(look_folder(dir, r->farm, e));
    TRY(fs_join(path, dir, "journal", e));
    if (!fs_is_dir(path))
        return err_set(e, ERR_INPUT, "%s: no farm has run here", dir);
    look_until_sure(&a, dir);
    if (r->again > 0 && a.law[LAW_BYTES].asked)
        audit_again(&a, r->again, r->seed);
    if (r->json)
        print_json(&a);
    else
        print(&a);
    size_t broken = count_broken(&a);
    forget(&a);
    return broken ? err_set(e, ERR_PEER, "%zu sentences say what is broken", broken) : 0;
}

static bool parse(request *r, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--again") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0)
            r->again = atoi(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            r->seed = strtoull(argv[++i], NULL, 10);
        else if (argv[i][0] != '-' && !r->farm)
            r->farm = argv[i];
        else
            return false;
    }
    return r->farm != NULL;
}

int command_audit(int argc, char **argv)
{
    request r = {.json = look_json(&argc, argv), .seed = 1};
    err e = {0};

    if (!parse(&r, argc, argv)) {
        fputs("usage: cfarm audit FARM [--again N [--seed S]] [--json]\n"
              "  holds the farm to what it promises: journal, results, orders, log, accounts. It may be running; "
              "nothing is changed.\n"
              "  --again N   also trains N of the done concepts, chosen by lot, once more here, and compares the "
              "bytes\n"
              "  exit status: 0 all holds; 2 no farm; 3 something is broken\n",
              stderr);
        return FARM_BAD_INPUT;
    }
    return run(&r, &e) == 0 ? FARM_DONE : look_complain(&e);
}
