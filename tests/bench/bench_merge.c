/* How long a merge takes at the sizes of Stable Diffusion 1.5: from concept files (cards) and kept features to the
 * synced merged file, as `cfarm merge` does it. Cards are random; the numbers merged mean nothing, the work is the real
 * one. cpu_ms is the processor's time of the whole, for machines that are shared.
 *   bench_merge [concepts ...]            prints CSV
 *   bench_merge --files DIR N [MODEL]     makes DIR/0.h5 .., DIR/features.h5 and DIR/rows.f32, the captions' features it is
 *                                         made of, for merge_speed.py, which times whole processes; MODEL: the folder of the
 *                                         base they shall be of (bench_model) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "merge/compose.h"
#include "trainer/model/sd.h"

enum { WIDTH = 768, ROWS = 6, LAYERS = 16, MATRICES = 2 * LAYERS, CAPTION_ROWS = 2300 };
/* In the order the UNet runs them. */
static const struct {
    const char *at;
    int out;
} layer[LAYERS] = {
    {"down_blocks.0.attentions.0", 320}, {"down_blocks.0.attentions.1", 320},  {"down_blocks.1.attentions.0", 640},
    {"down_blocks.1.attentions.1", 640}, {"down_blocks.2.attentions.0", 1280}, {"down_blocks.2.attentions.1", 1280},
    {"mid_block.attentions.0", 1280},    {"up_blocks.1.attentions.0", 1280},   {"up_blocks.1.attentions.1", 1280},
    {"up_blocks.1.attentions.2", 1280},  {"up_blocks.2.attentions.0", 640},    {"up_blocks.2.attentions.1", 640},
    {"up_blocks.2.attentions.2", 640},   {"up_blocks.3.attentions.0", 320},    {"up_blocks.3.attentions.1", 320},
    {"up_blocks.3.attentions.2", 320},
};
static char own_dir[] = "/tmp/cf-bench-XXXXXX";
static const char *dir = own_dir, *fingerprint = "bench";

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
        char name[96];
        snprintf(name, sizeof name, "%s.transformer_blocks.0.attn2.to_%c.weight", layer[i / 2].at, i % 2 ? 'v' : 'k');
        m[i] = (concept_matrix){mem_text(name), layer[i / 2].out};
        *outs += m[i].rows;
    }
    return m;
}

static int make_features(const char *path, err *e)
{
    features f = {.captions = "bench",
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
    str_copy(f.base, sizeof f.base, fingerprint);
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
    concept c = {.base = mem_text(fingerprint), .method = mem_text("custom-diffusion"), .width = WIDTH};
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

static void free_paths(char **path, int n)
{
    for (int i = 0; i < n; i++)
        free(path[i]);
    free(path);
}

static char **make_cards(int n, err *e)
{
    char **path = NEW_N(char *, n);
    for (int i = 0; i < n; i++) {
        path[i] = NEW_N(char, FS_PATH);
        snprintf(path[i], FS_PATH, "%s/%d.h5", dir, i);
        if (make_card(path[i], (uint32_t)i, e) != 0)
            return NULL;
    }
    return path;
}

static int bench(int n, const char *kept, const float *base, err *e)
{
    char **path = make_cards(n, e);
    if (!path)
        return (int)e->code;
    for (int full = 0; full < 2; full++) {
        times t = {0};
        for (int warm = 0; warm < 2; warm++)
            TRY(merge_once(&t, kept, path, n, full ? base : NULL, e));
        printf("%d,%s,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f\n", n, full ? "full" : "factors", 1e3 * t.read, 1e3 * t.solve,
               1e3 * t.fuse, 1e3 * t.write, 1e3 * (t.read + t.solve + t.fuse + t.write), 1e3 * t.cpu);
        fflush(stdout);
    }
    free_paths(path, n);
    return 0;
}

static int bench_all(int argc, char **argv, err *e)
{
    char kept[FS_PATH];
    float *base = normals(9, 1280 * WIDTH, 0.03F);
    int rc = mkdtemp(own_dir) ? 0 : err_set(e, ERR_IO, "no temporary folder");
    if (rc == 0)
        rc = fs_join(kept, dir, "features.h5", e);
    if (rc == 0)
        rc = make_features(kept, e);
    printf("concepts,file,read_ms,solve_ms,fuse_ms,write_ms,total_ms,cpu_ms\n");
    for (int i = 1; rc == 0 && i < (argc > 1 ? argc : 3); i++)
        rc = bench(argc > 1 ? atoi(argv[i]) : (i == 1 ? 2 : 10), kept, base, e);
    fs_remove_tree(own_dir, NULL);
    free(base);
    return rc;
}

static int take_fingerprint(const char *model, err *e)
{
    static char hex[HASH_HEX];
    nn_backend *cpu;
    sd *m = NULL;
    int rc;
    TRY(nn_cpu_open(&cpu, 0, false, e));
    rc = sd_open(&m, model, cpu, e);
    if (rc == 0)
        rc = sd_fingerprint(m, hex, e);
    sd_close(m);
    cpu->close(cpu);
    fingerprint = hex;
    return rc;
}

static int keep_rows(err *e)
{
    char path[FS_PATH];
    float *rows = normals(1, (size_t)CAPTION_ROWS * WIDTH, 1);
    int rc = fs_join(path, dir, "rows.f32", e);
    if (rc == 0)
        rc = fs_write(path, rows, sizeof(float) * (size_t)CAPTION_ROWS * WIDTH, e);
    free(rows);
    return rc;
}

static int make_files(int argc, char **argv, err *e)
{
    char kept[FS_PATH];
    if (argc < 4)
        return err_set(e, ERR_INPUT, "--files DIR N [MODEL]");
    dir = argv[2];
    if (argc > 4)
        TRY(take_fingerprint(argv[4], e));
    TRY(fs_mkdirs(dir, e));
    TRY(fs_join(kept, dir, "features.h5", e));
    TRY(make_features(kept, e));
    TRY(keep_rows(e));
    char **path = make_cards(atoi(argv[3]), e);
    if (!path)
        return (int)e->code;
    free_paths(path, atoi(argv[3]));
    return 0;
}

int main(int argc, char **argv)
{
    err e = {0};
    int rc = argc > 1 && strcmp(argv[1], "--files") == 0 ? make_files(argc, argv, &e) : bench_all(argc, argv, &e);
    if (rc != 0)
        fprintf(stderr, "bench_merge: %s\n", e.text);
    return rc != 0;
}
