#include "trainer/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "trainer/checkpoint.h"

enum { FROM_MOST = 8, GRAIN = 1 << 20 };
static const double SHARE = 0.01; /* of the time may go into checkpoints */

typedef struct { void *at; size_t n; } room; /* a place, mapped */

typedef struct { const char *path; fs_map map; uint64_t step; } source;

struct resume {
    resume_ear ear;
    char *name;
    json_t *order;
    const char *keep[2];          /* NULL: this rank keeps none */
    room room[2];
    int turn;                     /* the place that is written next */
    double every, last, cost;     /* seconds: between two, when the last was made, what it took */
    double began, began_cpu;      /* the one under way */
    int made;
    double cpu;                   /* processor seconds of all */
    bool full;                    /* told already */
    source from[FROM_MOST];
    int n;
    train_shelf shelf;
};

static void says(const resume *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void says(const resume *r, const char *fmt, ...)
{
    char text[600];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->ear.says(r->ear.arg, text);
}

/* ---- where new ones go ---- */

static void unmap(room *m)
{
    if (m->at)
        munmap(m->at, m->n);
    *m = (room){0};
}

/* A full memory says so here, not as a SIGBUS later. */
static int map_room(room *m, const char *path, size_t bytes, err *e)
{
    size_t n = (bytes + GRAIN - 1) / GRAIN * GRAIN;

    if (m->n >= n)
        return 0;
    unmap(m);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", path, fs_reason(errno));
    int rc = posix_fallocate(fd, 0, (off_t)n);
    void *at = rc == 0 ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (rc == 0 && at == MAP_FAILED)
        rc = errno;
    close(fd);
    if (rc != 0)
        return err_set(e, ERR_MEMORY, "%s: %zu bytes for a checkpoint: %s", path, n, fs_reason(rc));
    *m = (room){at, n};
    return 0;
}

static bool due(const resume *r, bool last)
{
    double gap = r->every;

    if (last)
        return r->ear.wants(r->ear.arg);
    if (gap > 0 && gap < r->cost / SHARE)
        gap = r->cost / SHARE;
    return clock_s() - r->last >= gap;
}

static void *on_open(void *arg, int step, size_t bytes, bool last)
{
    resume *r = arg;
    err e = {0};

    (void)step;
    if (!due(r, last))
        return NULL;
    r->began = clock_s();
    r->began_cpu = resume_cpu_s();
    if (map_room(&r->room[r->turn], r->keep[r->turn], bytes, &e) == 0)
        return r->room[r->turn].at;
    if (!r->full)
        says(r, "concept %s: no checkpoint can be kept: %s", r->name, e.text);
    r->full = true;
    return NULL;
}

static void on_close(void *arg, int step, size_t bytes)
{
    resume *r = arg;

    r->last = clock_s();
    r->cost = r->last - r->began;
    r->ear.kept(r->ear.arg, r->turn, step, bytes);
    r->turn = 1 - r->turn;
    r->made++;
    r->cpu += resume_cpu_s() - r->began_cpu;
}

double resume_cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int resume_made(const resume *r, double *cpu_seconds)
{
    *cpu_seconds = r->cpu;
    return r->made;
}

/* ---- which one to go on from ---- */

static void look_at(resume *r, const char *path)
{
    source *s = &r->from[r->n];
    struct stat st;
    err e = {0};

    if (!path || r->n == FROM_MOST || stat(path, &st) != 0 || st.st_size == 0)
        return;
    s->path = path;
    s->step = 0;
    if (fs_map_open(&s->map, path, &e) != 0) {
        says(r, "concept %s: %s", r->name, e.text);
        return;
    }
    s->step = checkpoint_step(s->map.at, s->map.n);
    r->n++;
}

/* As their heads say it, the newest first: most often only one must be read whole. */
static int newest(const resume *r, const bool passed[])
{
    int best = -1;

    for (int i = 0; i < r->n; i++)
        if (!passed[i] && (best < 0 || r->from[i].step > r->from[best].step))
            best = i;
    return best;
}

static int choose(const resume *r, const char key[HASH_HEX])
{
    bool passed[FROM_MOST] = {false};
    checkpoint c;
    int i;

    while ((i = newest(r, passed)) >= 0) {
        err e = {0};
        if (checkpoint_open(&c, r->from[i].map.at, r->from[i].map.n, key, &e) == 0) {
            says(r, "concept %s goes on from step %llu", r->name, (unsigned long long)c.step);
            return i;
        }
        says(r, "concept %s: %s: %s; passed over", r->name, r->from[i].path, e.text);
        passed[i] = true;
    }
    if (r->n > 0)
        says(r, "concept %s begins anew: no checkpoint of it is whole", r->name);
    return -1;
}

int resume_prepare(resume *r, const sd *model, train_job *job, err *e)
{
    char key[HASH_HEX];
    int i = -1;

    if (r->n > 0) {
        TRY(train_key(model, job, key, e));
        i = choose(r, key);
    }
    if (i >= 0) {
        job->from = r->from[i].map.at;
        job->from_bytes = r->from[i].map.n;
        r->turn = r->keep[0] && strcmp(r->from[i].path, r->keep[0]) == 0; /* not over the one that is good */
    }
    r->shelf = (train_shelf){r, on_open, on_close};
    job->shelf = r->keep[0] ? &r->shelf : NULL;
    r->last = clock_s();
    return 0;
}

/* ---- opening and closing ---- */

static int read_keep(resume *r, const json_t *keep, err *e)
{
    if (!keep)
        return 0;
    for (int i = 0; i < 2; i++)
        r->keep[i] = json_string_value(json_array_get(keep, (size_t)i));
    if (json_array_size(keep) != 2 || !r->keep[0] || !r->keep[1])
        return err_set(e, ERR_PEER, "START with something else to keep than two paths");
    return 0;
}

int resume_open(resume **out, const json_t *start, const char *name, resume_ear ear, err *e)
{
    resume *r = NEW(resume);
    const json_t *from;

    *out = r;
    r->ear = ear;
    r->name = mem_text(name);
    r->order = json_deep_copy(start);
    TRY(json_opt_real(r->order, "every", 5, &r->every, e));
    TRY(read_keep(r, json_object_get(r->order, "keep"), e));
    from = json_object_get(r->order, "from");
    for (size_t i = 0; i < json_array_size(from); i++)
        look_at(r, json_string_value(json_array_get(from, i)));
    return 0;
}

void resume_close(resume *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->n; i++)
        fs_map_close(&r->from[i].map);
    unmap(&r->room[0]);
    unmap(&r->room[1]);
    json_decref(r->order);
    free(r->name);
    free(r);
}
