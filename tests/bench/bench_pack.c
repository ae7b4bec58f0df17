/* Concepts an hour, one after another and in packs (trainer/pack.h), of the embedded model on this machine's CPU.
 *   bench_pack SOURCE_TREE [--concepts 64] [--threads 2] [--batch 1]
 * Different pictures, lengths (20 to 83 steps), rates and seeds; all wait from the beginning. Each row is a process of its
 * own, so that its memory is its own; its files are compared with those of the first row. CSV on stdout; ratios are to the
 * first row, the same threads in one solo training after another. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "trainer/pack.h"

typedef struct { const char *tree; int concepts, threads, batch; char scratch[FS_PATH]; } options;
typedef struct { const char *name; int lanes, width, threads; } row; /* lanes 0: one after another; threads 0: as asked */
typedef struct {
    concept_cfg cfg;
    char out[FS_PATH + 64], settings[32];
    double ended;
    int rc;
} entrant;
typedef struct { double seconds, latency; pack_figures told; int failed; } outcome;

static void must(int rc, const err *e)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench_pack: %s\n", e->text);
    exit(1);
}

static void settle(entrant *x, const options *o, cfg_doc *d, int i, const char *dir)
{
    static const char *const classes[] = {"mug", "creature"};
    const cfg_node *tree;
    str yaml = {0};
    err e = {0};

    str_add(&yaml, "{root: %s/data/toyworld, class: %s, token: <new>, images: subjects/%s, batch: %d, ", o->tree,
            classes[i % 2], classes[i % 2], o->batch);
    str_add(&yaml, "steps: %d, seed: %d, lr: %g}", 20 + i * 37 % 64, i + 1, 1e-4 * (1 + i % 7));
    must(cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "settings", &e), &e);
    must(concept_cfg_fill(&x->cfg, NULL, d, tree, &e), &e);
    snprintf(x->out, sizeof x->out, "%s/%d.h5", dir, i);
    snprintf(x->settings, sizeof x->settings, "{\"number\": %d}", i);
    str_free(&yaml);
}

static void over(void *arg, int rc, const train_summary *sum, const err *why)
{
    entrant *x = arg;

    (void)sum;
    x->ended = clock_s();
    x->rc = rc;
    if (rc != 0)
        fprintf(stderr, "bench_pack: %s: %s\n", x->out, why->text);
}

static void run_all(sd *model, const row *r, int n, entrant *at, train_job *jobs, outcome *out)
{
    err e = {0};
    pack *p;

    for (int i = 0; i < n && r->lanes == 0; i++) {
        train_summary sum;
        int rc = train_concept(model, &jobs[i], &sum, &e);
        over(&at[i], rc, &sum, &e);
    }
    if (r->lanes == 0)
        return;
    must(pack_open(&p, model, &jobs[0], &(pack_opts){r->lanes, r->width}, &e), &e);
    for (int i = 0; i < n; i++)
        pack_put(p, &jobs[i], over, &at[i]);
    pack_wait(p);
    pack_tell(p, &out->told);
    pack_close(p);
}

static outcome measure(const options *o, const row *r, const char *dir)
{
    char base[FS_PATH];
    entrant *at = NEW_N(entrant, o->concepts);
    train_job *jobs = NEW_N(train_job, o->concepts);
    cfg_doc *d = cfg_doc_new();
    outcome out = {0};
    nn_backend *b;
    sd *model;
    comm *self;
    err e = {0};

    must(fs_join(base, o->tree, "data/toyworld/model", &e), &e);
    must(nn_cpu_open(&b, r->threads > 0 ? r->threads : o->threads, false, &e), &e);
    must(sd_open(&model, base, b, &e), &e);
    must(comm_self(&self, &e), &e);
    for (int i = 0; i < o->concepts; i++) {
        settle(&at[i], o, d, i, dir);
        jobs[i] = (train_job){.name = "one", .cfg = &at[i].cfg, .settings = at[i].settings, .gang = self, .out = at[i].out};
    }
    double from = clock_s();
    run_all(model, r, o->concepts, at, jobs, &out);
    for (int i = 0; i < o->concepts; i++) {
        out.seconds = fmax(out.seconds, at[i].ended - from);
        out.latency += (at[i].ended - from) / o->concepts;
        out.failed += at[i].rc != 0;
    }
    return out; /* the process ends here: nothing is freed */
}

static int same_files(const options *o, const char *a, const char *b)
{
    int same = 0;

    for (int i = 0; i < o->concepts; i++) {
        char x[HASH_HEX], y[HASH_HEX], path[2][FS_PATH + 64];
        err e = {0};
        snprintf(path[0], sizeof path[0], "%s/%d.h5", a, i);
        snprintf(path[1], sizeof path[1], "%s/%d.h5", b, i);
        same += hash_file(path[0], x, &e) == 0 && hash_file(path[1], y, &e) == 0 && strcmp(x, y) == 0;
    }
    return same;
}

/* In a child. Its peak memory comes back from the kernel. */
static outcome measure_apart(const options *o, const row *r, const char *dir, double *peak, double *cpu)
{
    struct rusage use;
    outcome out = {0};
    int way[2], status = 0;

    if (pipe(way) != 0)
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        out = measure(o, r, dir);
        _exit(write(way[1], &out, sizeof out) != sizeof out);
    }
    if (child < 0 || read(way[0], &out, sizeof out) != sizeof out || wait4(child, &status, 0, &use) != child || status != 0) {
        fprintf(stderr, "bench_pack: %s did not end well\n", r->name);
        exit(1);
    }
    close(way[0]);
    close(way[1]);
    *peak = (double)use.ru_maxrss / 1024;
    *cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
    return out;
}

static void bench(const options *o)
{
    static const row rows[] = {{"solo", 0, 0, 0}, {"solo", 0, 0, 1}, {"pack", 1, 1, 0}, {"pack", 2, 1, 0}, {"pack", 4, 1, 0},
                               {"pack", 8, 1, 0}, {"pack", 16, 1, 0}, {"pack", 1, 4, 0}, {"pack", 1, 16, 0}, {"pack", 2, 4, 0}};
    char first[FS_PATH + 16] = "", dir[FS_PATH + 16];
    double solo = 0;
    err e = {0};

    printf("kind,lanes,width,threads,concepts,concepts_per_hour,ratio,mean_latency_s,cpu_s,peak_mib,step_ms,refills,"
           "gap_mean_ms,gap_most_ms,bubble_mean_ms,bubble_most_ms,same_files,failed\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        double peak, cpu;
        snprintf(dir, sizeof dir, "%s/%zu", o->scratch, i);
        must(fs_mkdirs(dir, &e), &e);
        outcome m = measure_apart(o, r, dir, &peak, &cpu);
        if (i == 0) {
            snprintf(first, sizeof first, "%s", dir);
            solo = m.seconds;
        }
        const pack_figures *p = &m.told;
        printf("%s,%d,%d,%d,%d,%.0f,%.2f,%.3f,%.1f,%.1f,%.3f,%d,%.3f,%.3f,%.3f,%.3f,%d,%d\n", r->name, r->lanes, r->width,
               r->threads > 0 ? r->threads : o->threads, o->concepts, o->concepts / m.seconds * 3600, solo / m.seconds, m.latency, cpu, peak,
               p->steps ? 1e3 * p->step_sum / (double)p->steps : 0, p->refills, p->refills ? 1e3 * p->gap_sum / p->refills : 0,
               1e3 * p->gap_most, p->refills ? 1e3 * p->bubble_sum / p->refills : 0, 1e3 * p->bubble_most, same_files(o, first, dir), m.failed);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    options o = {.concepts = 64, .threads = 2, .batch = 1, .scratch = "/tmp/cfarm-bench-pack-XXXXXX"};
    char tree[FS_PATH];
    err e = {0};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--concepts") == 0 && i + 1 < argc)
            o.concepts = atoi(argv[++i]);
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            o.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--batch") == 0 && i + 1 < argc)
            o.batch = atoi(argv[++i]);
        else
            o.tree = realpath(argv[i], tree);
    }
    if (!o.tree || o.concepts < 1) {
        fprintf(stderr, "usage: bench_pack SOURCE_TREE [--concepts N] [--threads N] [--batch N]\n");
        return 2;
    }
    if (!mkdtemp(o.scratch)) {
        perror(o.scratch);
        return 1;
    }
    bench(&o);
    return fs_remove_tree(o.scratch, &e);
}
