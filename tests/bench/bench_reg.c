/* bench_reg FOLDER [CAPTIONS ...]: a search among that many captions of width 768, random vectors, the file in FOLDER
 * and its pages in memory; beside it the seconds of reading the same bytes once, which no search can beat. CSV on
 * stdout. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/reg_index.h"

enum { WIDTH = 768, ROUNDS = 5, WANT = 200, CHUNK = 1024 };

static void fail(const err *e)
{
    fprintf(stderr, "bench_reg: %s\n", e->text);
    exit(1);
}

/* Cheap numbers: a walk through a fixed table. */
static void fill(float *rows, int64_t n, const float *table, int64_t at)
{
    for (int64_t i = 0; i < n * WIDTH; i++)
        rows[i] = table[(uint64_t)(at * WIDTH + i) * 2654435761u >> 7 & 0xffff];
}

static void make(const char *path, int64_t n)
{
    float *table = NEW_N(float, 1 << 16), *rows = NEW_N(float, CHUNK * WIDTH);
    reg_entry *all = NEW_N(reg_entry, n);
    reg_writer *w;
    err e = {0};

    rng_normal_fill(rng_open(1, "bench", 0, 0), table, 1 << 16);
    for (int64_t i = 0; i < n; i++)
        all[i] = (reg_entry){"/pictures.tar", "a caption of middling length, such as people write", 512, 1};
    if (reg_writer_open(&w, path, all, n, WIDTH, table, &e) != 0)
        fail(&e);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t some = n - i < CHUNK ? n - i : CHUNK;
        fill(rows, some, table, i);
        if (reg_writer_add(w, rows, some, false, &e) != 0)
            fail(&e);
    }
    if (reg_writer_commit(w, &e) != 0)
        fail(&e);
    free(all);
    free(rows);
    free(table);
}

static double read_once(const char *path)
{
    static volatile uint64_t sum; /* what is read is used */
    uint64_t s = 0;
    fs_map m;
    err e = {0};

    if (fs_map_open(&m, path, &e) != 0)
        fail(&e);
    double start = clock_s();
    const uint64_t *at = (const void *)m.at;
    for (size_t i = 0; i < m.n / 8; i++)
        s += at[i];
    double took = clock_s() - start;
    sum += s;
    fs_map_close(&m);
    return took;
}

/* Opening and one search. */
static double search(const char *path, const float *query, double *opening, double *cpu)
{
    clock_t before = clock();
    reg_hit *hits = NULL;
    size_t n, found;
    reg_index *x;
    err e = {0};
    double start = clock_s();

    if (reg_index_open(&x, path, &e) != 0)
        fail(&e);
    *opening = clock_s() - start;
    if (reg_index_search(x, query, -1, WANT, &hits, &n, &found, &e) != 0)
        fail(&e);
    double took = clock_s() - start;
    *cpu = (double)(clock() - before) / CLOCKS_PER_SEC;
    free(hits);
    reg_index_close(x);
    return took;
}

static void bench(const char *folder, int64_t n)
{
    float query[WIDTH];
    char path[FS_PATH];
    double best = 1e9, floor = 1e9, opening = 0, cpu = 0, once;
    err e = {0};

    if (fs_join(path, folder, "bench.index", &e) != 0)
        fail(&e);
    make(path, n);
    rng_normal_fill(rng_open(2, "query", 0, 0), query, WIDTH);
    for (int i = 0; i < ROUNDS; i++) {
        floor = (once = read_once(path)) < floor ? once : floor;
        once = search(path, query, &opening, &cpu);
        best = once < best ? once : best;
    }
    printf("%lld,%d,%.3f,%.3f,%.3f,%.3f,%.2f\n", (long long)n, WIDTH, best, opening, cpu, floor, best / floor);
    fflush(stdout);
    remove(path);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_reg FOLDER [CAPTIONS ...]\n");
        return 2;
    }
    printf("captions,width,open_and_search_s,of_it_opening_s,cpu_s,reading_once_s,ratio\n");
    for (int i = 2; i < argc; i++)
        bench(argv[1], atoll(argv[i]));
    if (argc == 2)
        bench(argv[1], 1000000);
    return 0;
}
