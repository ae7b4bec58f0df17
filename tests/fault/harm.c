/* Runs cases by seed, several at a time, and counts them by kind.
 *   harm [--first SEED] [--count N] [--jobs N] [--kind NAME] [--real] [--packed] [--keep] [--table FILE.csv]
 * A case that fails says its seed; `harm --first SEED --count 1 --keep` tries it again and leaves its folder behind. */
#include "tests/fault/harm.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum { STARTS_MOST = 12, PASSED = 0, FAILED = 1, SKIPPED = 77 };

typedef struct { uint64_t first; int count, jobs; const char *kind, *table; bool real, packed, keep; } options;

static _Atomic int *packed_starts; /* of all cases: shared with their processes */

/* ---- what kinds are written with ------------------------------------------------------------------------------ */

int pick(world *w, int least, int most)
{
    return least + (int)rng_below(w->dice, w->drawn++, (uint32_t)(most - least + 1));
}

void nap(world *w, int least_ms, int most_ms) { usleep((useconds_t)pick(w, least_ms, most_ms) * 1000); }

/* Two of them have the same settings, and so the same bytes. */
static const char FOUR[] = " - {name: a, fake: {step_ms: 8}}\n - {name: b, fake: {step_ms: 8}}\n"
                           " - {name: c, fake: {step_ms: 7}}\n - {name: d, fake: {step_ms: 9}}";

/* With --packed up to four concepts of a class share a worker. */
static const char *limits_of(const world *w) { return w->packed ? "limits: {pack_max: 4}\n" : ""; }

/* The same concepts in two farms of one folder: one to be disturbed, and one to compare it with. */
static void put_real_farm(world *w)
{
    const char *source = getenv("CFARM_SOURCE"), *const name[] = {"pets", "calm"};
    const int concepts = w->packed ? 4 : 2; /* more than workers, or none is packed */

    for (int i = 0; i < 2; i++) {
        char path[200];
        str text = {0};
        str_add(&text, "farm: %s\nbase: %s/data/toyworld/model\ndefaults: {steps: 40, batch: 4, class: mug, images: "
                "%s/data/toyworld/subjects/mug}\nlimits: {threads: 1, pack_max: %d}\nconcepts:\n", name[i], source, source, w->packed && i == 0 ? 4 : 1);
        for (int k = 0; k < concepts; k++)
            str_add(&text, " - {name: c%d, token: <c%d>, seed: %d}\n", k, k, k);
        snprintf(path, sizeof path, "%s/%s.yaml", w->f.dir, i == 0 ? "farm" : "calm");
        if (fs_write(path, text.at, text.n, NULL) != 0)
            unlike(w, "%s cannot be written", path);
        str_free(&text);
    }
}

void put_farm(world *w, const char *concepts)
{
    str text = {0};

    str_add(&text, "%s\n%s", concepts ? concepts : FOUR, limits_of(w));
    if (w->real)
        put_real_farm(w);
    else
        farm_rewrite(&w->f, text.at);
    str_free(&text);
}

void note_packed(int starts) { atomic_fetch_add(packed_starts, starts); }

pid_t begin(world *w, const char *workers)
{
    pid_t pid = train_begin(&w->f, workers);

    w->agent[w->launched++ % 64] = pid;
    return pid;
}

void await(world *w, pid_t pid) { w->status = end_of(&w->f, pid); }

void unlike(const world *w, const char *fmt, ...)
{
    char text[600], *all = said(&w->f);
    size_t n = strlen(all);
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    printf("  %s\n  %s, which said at last:\n%s\n", text, w->f.dir, all + (n > 1500 ? n - 1500 : 0));
    fflush(stdout);
    _exit(FAILED);
}

void skip_case(const world *w, const char *why)
{
    printf("  seed %llu: %s\n", (unsigned long long)w->seed, why);
    fflush(stdout);
    farms_close(NULL);
    _exit(SKIPPED);
}

/* ---- processes ------------------------------------------------------------------------------------------------ */

/* The n-th column of /proc/PID/stat that matters here, and its name. */
static bool stat_of(pid_t pid, char name[64], pid_t *parent)
{
    char path[64], state = 0;
    FILE *f;
    int n;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    n = f ? fscanf(f, "%*d (%63[^)]) %c %d", name, &state, parent) : 0;
    if (f)
        fclose(f);
    return n == 3 && state != 'Z';
}

int find_children(pid_t parent, const char *name, pid_t out[], int most)
{
    char path[64], is[64];
    int n = 0, pid;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    f = fopen(path, "r");
    while (f && n < most && fscanf(f, "%d", &pid) == 1) {
        pid_t of;
        if (stat_of(pid, is, &of) && strcmp(is, name) == 0)
            out[n++] = pid;
    }
    if (f)
        fclose(f);
    return n;
}

static bool bears(pid_t pid, const char *mark)
{
    char path[64], *text = mem_new(1 << 16, 1);
    size_t n, at = 0;
    bool found = false;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    f = fopen(path, "r");
    n = f ? fread(text, 1, (1 << 16) - 1, f) : 0;
    if (f)
        fclose(f);
    for (; at < n && !found; at += strlen(text + at) + 1)
        found = strcmp(text + at, mark) == 0;
    free(text);
    return found;
}

int list_marked(const world *w, pid_t out[], int most)
{
    char mark[200], **names;
    size_t all;
    int n = 0;

    snprintf(mark, sizeof mark, "CFARM_TEST=%s", w->f.file);
    if (fs_list(&names, &all, "/proc", NULL) != 0)
        unlike(w, "/proc cannot be read");
    for (size_t i = 0; i < all && n < most; i++) {
        pid_t pid = atoi(names[i]);
        if (pid > 0 && bears(pid, mark))
            out[n++] = pid;
    }
    fs_list_free(names);
    return n;
}

/* ---- one case ------------------------------------------------------------------------------------------------- */

static void calm(world *w)
{
    char path[200];
    const char *argv[] = {cfarm, "train", path, "--workers", "1", NULL};

    snprintf(path, sizeof path, "%s/calm.yaml", w->f.dir);
    if (end_of(&w->f, launch(&w->f, argv)) != 0)
        unlike(w, "the undisturbed farm did not end well");
}

/* Started again, undisturbed, until it is over. */
static void go_on(world *w)
{
    int starts = 0;

    while (w->status != 0 && w->status != 1) {
        if (++starts > STARTS_MOST)
            unlike(w, "it is not over after %d starts; the last one's status is %d", starts - 1, w->status);
        await(w, begin(w, "2"));
    }
    if (w->status != (w->bad ? 1 : 0))
        unlike(w, "it ended with status %d", w->status);
}

static int one_case(const options *o, uint64_t seed, const harm_kind *k)
{
    world w = {.seed = seed, .dice = rng_open(seed, "harm", 0, 0), .real = o->real, .packed = o->packed, .status = -1};

    if (farms_open(NULL) != 0)
        return FAILED;
    if (o->real)
        unsetenv("CFARM_PROGRAMS");
    w.f = farm_new(FOUR, "");
    put_farm(&w, NULL);
    if (o->real)
        calm(&w);
    k->harm(&w);
    go_on(&w);
    hold_laws(&w);
    if (w.mounted) {
        char at[300];
        snprintf(at, sizeof at, "%s/pets", w.f.dir);
        umount2(at, MNT_DETACH);
    }
    if (!o->keep)
        farms_close(NULL);
    return PASSED;
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

typedef struct { pid_t pid; uint64_t seed; int kind; } runner;
typedef struct { int passed, failed, skipped; } score;

static const harm_kind *kind_of(const options *o, uint64_t seed, int *number)
{
    int n = 0, own[256];

    for (int i = 0; i < harm_kinds_n; i++)
        if ((!o->real || harm_kinds[i].real) && (!o->kind || strcmp(o->kind, harm_kinds[i].name) == 0))
            own[n++] = i;
    if (n == 0)
        return NULL;
    *number = own[seed % (uint64_t)n];
    return &harm_kinds[*number];
}

static void start_case(const options *o, runner *r, uint64_t seed)
{
    const harm_kind *k = kind_of(o, seed, &r->kind);

    fflush(NULL);
    r->seed = seed;
    r->pid = fork();
    if (r->pid == 0) {
        int rc = one_case(o, seed, k);
        fflush(NULL);
        _exit(rc);
    }
}

static void reap_case(runner *r, int n, score *by)
{
    int status;
    pid_t pid = waitpid(-1, &status, 0);

    for (int i = 0; i < n; i++)
        if (r[i].pid == pid) {
            int rc = WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
            by[r[i].kind].passed += rc == PASSED;
            by[r[i].kind].skipped += rc == SKIPPED;
            by[r[i].kind].failed += rc != PASSED && rc != SKIPPED;
            if (rc != PASSED && rc != SKIPPED)
                printf("FAIL seed %llu: %s\n", (unsigned long long)r[i].seed, harm_kinds[r[i].kind].name);
            r[i].pid = 0;
        }
}

static int write_table(const options *o, const score *by, double seconds)
{
    FILE *f = fopen(o->table, "w");
    int all = 0;

    if (!f)
        return -1;
    for (int i = 0; i < harm_kinds_n; i++)
        all += by[i].passed + by[i].failed;
    fprintf(f, "# harm --first %llu --count %d%s%s; %d disturbances in %.0f s, %d at a time; after each the laws of harm_laws.c held\n",
            (unsigned long long)o->first, o->count, o->real ? " --real" : "", o->packed ? " --packed" : "", all,
            seconds, o->jobs);
    if (o->packed)
        fprintf(f, "# %d starts were in packs\n", *packed_starts);
    fprintf(f, "kind,what,disturbances,failed,skipped\n");
    for (int i = 0; i < harm_kinds_n; i++)
        if (by[i].passed + by[i].failed + by[i].skipped > 0)
            fprintf(f, "%s,%s,%d,%d,%d\n", harm_kinds[i].name, harm_kinds[i].what, by[i].passed + by[i].failed, by[i].failed,
                    by[i].skipped);
    return fclose(f);
}

static int run_all(const options *o)
{
    runner r[64] = {{0}};
    score *by = NEW_N(score, harm_kinds_n);
    int started = 0, going = 0, failed = 0, kinds = 0, passed = 0;
    double begun = clock_s();

    packed_starts = mmap(NULL, sizeof *packed_starts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(packed_starts != MAP_FAILED);
    while (started < o->count || going > 0) {
        for (int i = 0; i < o->jobs && started < o->count; i++)
            if (r[i].pid == 0) {
                start_case(o, &r[i], o->first + (uint64_t)started++);
                going++;
            }
        reap_case(r, o->jobs, by);
        going--;
    }
    for (int i = 0; i < harm_kinds_n; i++) {
        failed += by[i].failed;
        passed += by[i].passed;
        kinds += by[i].passed > 0;
        if (by[i].skipped > 0)
            printf("%s: skipped %d times\n", harm_kinds[i].name, by[i].skipped);
    }
    printf("%d disturbances of %d kinds: the laws held; %d failed; %.0f s\n", passed, kinds, failed, clock_s() - begun);
    if (o->packed)
        printf("%d starts in packs\n", *packed_starts);
    failed += o->packed && *packed_starts == 0;
    if (o->table && write_table(o, by, clock_s() - begun) != 0) {
        printf("%s cannot be written\n", o->table);
        failed++;
    }
    free(by);
    return failed > 0;
}

static int usage(void)
{
    fputs("usage: harm [--first SEED] [--count N] [--jobs N] [--kind NAME] [--real] [--packed] [--keep] [--table FILE.csv]\n", stderr);
    for (int i = 0; i < harm_kinds_n; i++)
        fprintf(stderr, "  %-22s %s\n", harm_kinds[i].name, harm_kinds[i].what);
    return 2;
}

int main(int argc, char **argv)
{
    options o = {.count = harm_kinds_n, .jobs = 3};
    int unused;

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--real") == 0)
            o.real = true;
        else if (strcmp(argv[i], "--packed") == 0)
            o.packed = true;
        else if (strcmp(argv[i], "--keep") == 0)
            o.keep = true;
        else if (!value)
            return usage();
        else if (strcmp(argv[i], "--first") == 0)
            o.first = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--count") == 0)
            o.count = atoi(value), i++;
        else if (strcmp(argv[i], "--jobs") == 0)
            o.jobs = atoi(value), i++;
        else if (strcmp(argv[i], "--kind") == 0)
            o.kind = value, i++;
        else if (strcmp(argv[i], "--table") == 0)
            o.table = value, i++;
        else
            return usage();
    }
    if (!getenv("CFARM_BIN") || !getenv("CFARM_SOURCE")) {
        fputs("harm: CFARM_BIN and CFARM_SOURCE must name the programs' folder and the repository\n", stderr);
        return 2;
    }
    if (o.count < 1 || o.jobs < 1 || o.jobs > 64 || !kind_of(&o, 0, &unused))
        return usage();
    return run_all(&o);
}
