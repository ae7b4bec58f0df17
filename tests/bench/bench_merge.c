/* How long a merge takes at the sizes of Stable Diffusion 1.5: from concept files (cards) and kept features to the
 * synced merged file, as `cfarm merge` does it. Cards are random; the numbers merged mean nothing, the work is the real
 * one. cpu_ms is the processor's time of the whole, for machines that are shared. usage: bench_merge [concepts ...]
 * prints CSV */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "merge/compose.h"

enum { WIDTH = 768, ROWS = 6, LAYERS = 16, MATRICES = 2 * LAYERS, CAPTION_ROWS = 2300 };
static const int out_of[LAYERS] = {320,  320,  640, 640, 1280, 1280, 1280, 1280,
                                   1280, 1280, 640, 640, 640,  320,  320,  320};
static char dir[] = "/tmp/cf-bench-XXXXXX";

static float *normals(uint32_t which, size_t n, float scale)
{
    float *x = NEW_N(float, n);
    rng_normal_fill(rng_open(1, "bench", which, 0), x, n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
    return x;
}

static concept_matrix *matrices(int64_t *outs)
{
    concept_matrix *m = NEW_N(concept_matrix, MATRICES);
    *outs = 0;
    for (int i = 0; i < MATRICES; i++) {
        char name[64];
        snprintf(name, sizeof name, "layer.%02d.attn2.to_%c.weight", i / 2, i % 2 ? 'v' : 'k');
        m[i] = (concept_matrix){mem_text(name), out_of[i / 2]};
        *outs += m[i].rows;
    }
    return m;
}

static int make_features(const char *path, err *e)
{
    features f = {.base = "bench",
                  .captions = "bench",
                  .width = WIDTH,
                  .n_keep = 200,
                  .n_held = 20,
                  .matrices = MATRICES,
                  .bos = normals(0, WIDTH, 1),
                  .keep_norm = NEW_N(double, MATRICES),
                  .held_norm = NEW_N(double, MATRICES)};
    float *rows = normals(1, (size_t)CAPTION_ROWS * WIDTH, 1);
    int64_t outs;
    double start = clock_s();
    f.matrix = matrices(&outs);
    for (int i = 0; i < MATRICES; i++)
        f.keep_norm[i] = f.held_norm[i] = 1000;
    TRY(lsq_factor_new(&f.keep, WIDTH, e));
    TRY(lsq_factor_add(&f.keep, rows, CAPTION_ROWS, e));
    TRY(lsq_factor_judge(&f.keep, e));
    TRY(lsq_factor_new(&f.held, WIDTH, e));
    TRY(lsq_factor_add(&f.held, rows, CAPTION_ROWS / 10, e));
    fprintf(stderr, "factors of %d caption rows: %.2f s, once for a base model\n", CAPTION_ROWS, clock_s() - start);
    free(rows);
    TRY(features_write(path, &f, e));
    features_free(&f);
    return 0;
}

static int make_card(const char *path, uint32_t id, err *e)
{
    concept c = {.base = mem_text("bench"), .method = mem_text("custom-diffusion"), .width = WIDTH};
    float *row = normals(10 * id + 2, WIDTH, 1);
    int rc;
    concept_add_token(&c, "<new1>", "cat", 42170, row);
    free(row);
    c.card = (concept_card){.n = ROWS,
                            .width = WIDTH,
                            .matrices = MATRICES,
                            .row = NEW_N(concept_row, ROWS),
                            .bos = normals(0, WIDTH, 1),
                            .k = normals(10 * id + 3, ROWS * WIDTH, 1)};
    c.card.matrix = matrices(&c.card.outs);
    c.card.image = normals(10 * id + 4, ROWS * (size_t)c.card.outs, 0.01F);
    for (int i = 0; i < ROWS; i++) {
        char text[32];
        snprintf(text, sizeof text, "<new1> %d", i);
        c.card.row[i] = (concept_row){mem_text(text), mem_text(text), 100};
    }
    rc = concept_write(path, &c, e);
    concept_free(&c);
    return rc;
}

static int random_base(void *all, const char *name, float *out, size_t count, err *e)
{
    (void)name;
    (void)e;
    memcpy(out, all, count * sizeof *out);
    return 0;
}

typedef struct {
    double read, solve, fuse, write, cpu;
} times;

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int merge_once(times *t, const char *kept, char **path, int n, const float *base, err *e)
{
    concept *in = NEW_N(concept, n), out;
    certificate told;
    features f;
    compose_opts o = {.accept_drift = true, .relax = n > 100, .drift_most = 0.1};
    char to[FS_PATH];
    double at = clock_s(), cpu = cpu_s();
    for (int i = 0; i < n; i++)
        TRY(concept_read(&in[i], path[i], CONCEPT_CARD, e));
    TRY(features_read(&f, kept, e));
    t->read = clock_s() - at;
    TRY(compose(&out, &told, in, (const char *const *)path, n, &f, &o, e));
    t->solve = clock_s() - at - t->read;
    if (base)
        TRY(fuse(&out, in, n, random_base, (void *)(uintptr_t)base, e));
    t->fuse = clock_s() - at - t->read - t->solve;
    TRY(fs_join(to, dir, "merged.h5", e));
    TRY(concept_write(to, &out, e));
    t->write = clock_s() - at - t->read - t->solve - t->fuse;
    t->cpu = cpu_s() - cpu;
    for (int i = 0; i < n; i++)
        concept_free(&in[i]);
    free(in);
    concept_free(&out);
    certificate_free(&told);
    features_free(&f);
    return 0;
}

static int bench(int n, const char *kept, const float *base, err *e)
{
    char **path = NEW_N(char *, n);
    for (int i = 0; i < n; i++) {
        path[i] = NEW_N(char, 64);
        snprintf(path[i], 64, "%s/%d.h5", dir, i);
        TRY(make_card(path[i], (uint32_t)i, e));
    }
    for (int full = 0; full < 2; full++) {
        times t = {0};
        for (int warm = 0; warm < 2; warm++)
            TRY(merge_once(&t, kept, path, n, full ? base : NULL, e));
        printf("%d,%s,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f\n", n, full ? "full" : "factors", 1e3 * t.read, 1e3 * t.solve,
               1e3 * t.fuse, 1e3 * t.write, 1e3 * (t.read + t.solve + t.fuse + t.write), 1e3 * t.cpu);
        fflush(stdout);
    }
    for (int i = 0; i < n; i++)
        free(path[i]);
    free(path);
    return 0;
}

int main(int argc, char **argv)
{
    char kept[64];
    float *base = normals(9, 1280 * WIDTH, 0.03F);
    err e = {0};
    int rc = mkdtemp(dir) ? 0 : err_set(&e, ERR_IO, "no temporary folder");
    snprintf(kept, sizeof kept, "%s/features.h5", dir);
    if (rc == 0)
        rc = make_features(kept, &e);
    printf("concepts,file,read_ms,solve_ms,fuse_ms,write_ms,total_ms,cpu_ms\n");
    for (int i = 1; rc == 0 && i < (argc > 1 ? argc : 3); i++)
        rc = bench(argc > 1 ? atoi(argv[i]) : (i == 1 ? 2 : 10), kept, base, &e);
    if (rc != 0)
        fprintf(stderr, "bench_merge: %s\n", e.text);
    fs_remove_tree(dir, NULL);
    free(base);
    return rc != 0;
}
