#include "tests/trainer/train_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"

static char scratch[64], world[FS_PATH]; /* FS_PATH is at least PATH_MAX */

typedef struct { const kit_run *how; int rank; void *bytes; } keeper;

static bool stop_at(void *arg, const train_progress *p)
{
    const keeper *k = arg;

    return k->how->stop_after > 0 && k->how->who_stops == k->rank && strcmp(p->phase, "training") == 0 &&
           p->step >= k->how->stop_after;
}

static void *shelf_open(void *arg, int step, size_t bytes, bool last)
{
    keeper *k = arg;

    (void)step;
    return last && k->how->keep ? k->bytes = mem_new(bytes, 1) : NULL;
}

static void shelf_close(void *arg, int step, size_t bytes)
{
    keeper *k = arg;
    err e = {0};

    (void)step;
    if (fs_write(kit_path(k->how->keep), k->bytes, bytes, &e) != 0)
        fail_msg("%s", e.text);
}

const char *kit_path(const char *name)
{
    static char path[4][FS_PATH];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], FS_PATH, "%s/%s", scratch, name);
    return path[turn];
}

static int run(const kit_run *o, comm *gang, train_summary *sum, err *e)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *tree, *more;
    concept_cfg c;
    nn_backend *b;
    sd *m;
    str yaml = {0};

    str_add(&yaml, "{root: %s/data/toyworld, class: mug, token: <mug>, images: subjects/mug, batch: 4, steps: 6}", world);
    TRY(cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "settings", e));
    if (o->more) {
        str_free(&yaml);
        str_add(&yaml, "{%s}", o->more);
        TRY(cfg_yaml_parse(&more, d, yaml.at, yaml.n, "more settings", e));
        tree = cfg_join(d, tree, more);
    }
    TRY(concept_cfg_fill(&c, NULL, d, tree, e));
    TRY(nn_cpu_open(&b, 1, false, e));
    TRY(sd_open(&m, o->model ? o->model : kit_model(), b, e));
    keeper k = {.how = o, .rank = comm_rank(gang)};
    train_shelf shelf = {&k, shelf_open, shelf_close};
    fs_map from = {0};
    if (o->from)
        TRY(fs_map_open(&from, kit_path(o->from), e));
    train_job job = {.name = "mug", .cfg = &c, .settings = o->more ? o->more : "", .gang = gang, .progress = stop_at, .arg = &k,
                     .out = comm_rank(gang) == 0 && o->out ? kit_path(o->out) : NULL, .shelf = &shelf,
                     .from = from.at, .from_bytes = from.n};
    int rc = train_concept(m, &job, sum, e);
    fs_map_close(&from);
    free(k.bytes);
    sd_close(m);
    b->close(b);
    cfg_doc_free(d);
    str_free(&yaml);
    return rc;
}

int kit_try(kit_run o, train_summary *sum, err *e)
{
    comm *self;

    TRY(comm_self(&self, e));
    int rc = run(&o, self, sum, e);
    comm_free(self);
    return rc;
}

train_summary kit_train(kit_run o)
{
    train_summary sum;
    err e = {0};

    if (kit_try(o, &sum, &e) != 0)
        fail_msg("%s", e.text);
    return sum;
}

void kit_train_gang(int size, kit_run o)
{
    char path[64];
    int bad = 0;

    snprintf(path, sizeof path, "/dev/shm/cfarm-train-%d-%d", (int)getpid(), size);
    for (int r = 0; r < size; r++) {
        if (fork() != 0)
            continue;
        train_summary sum;
        err e = {0};
        comm *c;
        int rc = comm_shm(&c, path, r, size, 1 << 20, 60, &e);
        if (rc == 0)
            rc = run(&o, c, &sum, &e);
        if (rc != 0)
            fprintf(stderr, "rank %d: %s\n", r, e.text);
        _exit(rc != 0);
    }
    for (int r = 0; r < size; r++) {
        int status = 0;
        waitpid(-1, &status, 0);
        bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    assert_int_equal(bad, 0);
}

void kit_digest(const char *name, char hex[HASH_HEX])
{
    err e = {0};

    if (hash_file(kit_path(name), hex, &e) != 0)
        fail_msg("%s", e.text);
}

void kit_assert_same(const char *a, const char *b)
{
    char x[HASH_HEX], y[HASH_HEX];

    kit_digest(a, x);
    kit_digest(b, y);
    assert_string_equal(x, y);
}

const char *kit_model(void)
{
    static char path[FS_PATH];

    snprintf(path, sizeof path, "%s/model", scratch);
    return path;
}

int kit_open(void **state)
{
    (void)state;
    const char *source = getenv("CFARM_SOURCE");
    if (!realpath(source ? source : ".", world))
        return -1;
    snprintf(scratch, sizeof scratch, "/tmp/cfarm-test-train-XXXXXX");
    if (!mkdtemp(scratch))
        return -1;
    setenv("XDG_CACHE_HOME", kit_path("cache"), 1);
    char model[FS_PATH + 32];
    snprintf(model, sizeof model, "%s/data/toyworld/model", world);
    return symlink(model, kit_model());
}

int kit_close(void **state)
{
    err e = {0};

    (void)state;
    return fs_remove_tree(scratch, &e);
}
