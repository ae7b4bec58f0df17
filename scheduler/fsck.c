/* `cfarm fsck` and `cfarm gc`: is what the journal says on the disk, and what is on the disk that nobody needs.
 *
 * Promises. fsck without --repair changes nothing. With it, it does only what can lose nothing: it gives a result the second
 * of its two names again, and removes what dead writers left half-written. What is damaged is explained and left. gc
 * removes only what no job of the farm has as its result or its way there, and only while the farm rests. */
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

enum { ORDER_MOST = 1 << 28 };

typedef struct {
    const char *dir;
    const sched *s;
    bool repair;
    int wrong, mended;
    int removed;         /* by gc */
    int64_t bytes;
} check;

static void tell(check *c, bool mended, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void tell(check *c, bool mended, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    puts(mended ? "; repaired" : "");
    c->wrong++;
    c->mended += mended;
}

/* ---- results -------------------------------------------------------------------------------------------------- */

static bool whole(const char *path, const char *sha256)
{
    char is[HASH_HEX];

    return hash_file(path, is, NULL) == 0 && strcmp(is, sha256) == 0;
}

static bool same(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* One name is gone, the other holds the right bytes. */
static void mend_link(check *c, const sched_job *j, const char *from, const char *to)
{
    char folder[FS_PATH];
    bool done = false;

    if (c->repair && whole(from, j->sha256)) {
        str_copy(folder, sizeof folder, to);
        folder[fs_base(folder) - folder] = '\0';
        done = fs_mkdirs(folder, NULL) == 0 && link(from, to) == 0 && fs_sync_dir(folder, NULL) == 0;
    }
    tell(c, done, "%s: %s is gone, %s is %s", j->spec.name, to, from,
         whole(from, j->sha256) ? "whole: --repair links it" : "damaged");
}

static void check_result(check *c, const sched_job *j)
{
    char out[FS_PATH], object[FS_PATH];

    if (publish_names(out, object, c->dir, j->spec.name, j->sha256, NULL) != 0)
        return;
    if (!fs_exists(out) && !fs_exists(object))
        tell(c, false, "%s: it is done, and its result is gone: %s; put it back, or train it again under another name",
             j->spec.name, out);
    else if (!fs_exists(out))
        mend_link(c, j, object, out);
    else if (!fs_exists(object))
        mend_link(c, j, out, object);
    else if (!whole(object, j->sha256))
        tell(c, false, "%s: %s is damaged: its bytes are not those that were published (%s)", j->spec.name, object, j->sha256);
    else if (!same(out, object) && !whole(out, j->sha256))
        tell(c, false, "%s: %s is not the published file any more; %s is", j->spec.name, out, object);
}

/* ---- what is left over ---------------------------------------------------------------------------------------- */

typedef void file_fn(check *c, const char *folder, const char *name);

static void each_file(check *c, const char *sub, file_fn *fn)
{
    char dir[FS_PATH], **names;
    size_t n;

    if (fs_join(dir, c->dir, sub, NULL) != 0 || !fs_is_dir(dir) || fs_list(&names, &n, dir, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        fn(c, dir, names[i]);
    fs_list_free(names);
}

static void check_order(check *c, const char *folder, const char *name)
{
    char path[FS_PATH], *text;
    json_t *o = NULL;
    size_t n;
    err e = {0};

    if (!str_ends(name, ".json") || fs_join(path, folder, name, NULL) != 0)
        return;
    if (fs_read(path, &text, &n, ORDER_MOST, &e) == 0) {
        json_parse(&o, text, n, path, &e);
        free(text);
    }
    if (e.code)
        tell(c, false, "%s: no order: %s; the farm sets it aside at its next start", path, e.text);
    json_decref(o);
}

static int by_sha(const sched *s, const char *sha)
{
    for (int i = 0; i < s->jobs; i++)
        if (s->job[i].state == JOB_DONE && strncmp(s->job[i].sha256, sha, HASH_HEX - 1) == 0)
            return i;
    return -1;
}

static void remove_file(check *c, const char *path)
{
    struct stat s;

    if (stat(path, &s) != 0 || unlink(path) != 0)
        return;
    c->removed++;
    c->bytes += s.st_size;
}

/* An object with its one name only, that no job has as its result. */
static void gc_object(check *c, const char *folder, const char *name)
{
    char path[FS_PATH];
    struct stat s;

    if (strlen(name) == HASH_HEX - 1 + 3 && by_sha(c->s, name) < 0 && fs_join(path, folder, name, NULL) == 0 &&
        stat(path, &s) == 0 && s.st_nlink == 1)
        remove_file(c, path);
}

static void gc_objects(check *c, const char *folder, const char *name)
{
    char sub[64];

    (void)folder;
    snprintf(sub, sizeof sub, "obj/%.40s", name);
    if (strlen(name) == 2)
        each_file(c, sub, gc_object);
}

/* Checkpoints of what is done, or cancelled, or not of this farm. */
static void gc_checkpoint(check *c, const char *folder, const char *name)
{
    int at = sched_find(c->s, name);
    char path[FS_PATH];

    if (at >= 0 && c->s->job[at].state != JOB_DONE && c->s->job[at].state != JOB_CANCELLED)
        return;
    if (fs_join(path, folder, name, NULL) == 0 && fs_remove_tree(path, NULL) == 0)
        c->removed++;
}

/* Set aside and since tried again, done or cancelled. */
static void gc_case(check *c, const char *folder, const char *name)
{
    int at = sched_find(c->s, name);
    char path[FS_PATH];

    if (at >= 0 && (c->s->job[at].state == JOB_QUARANTINED || c->s->job[at].state == JOB_REJECTED))
        return;
    if (fs_join(path, folder, name, NULL) == 0 && fs_remove_tree(path, NULL) == 0)
        c->removed++;
}

static void gc_refused(check *c, const char *folder, const char *name)
{
    char path[FS_PATH];

    if (fs_join(path, folder, name, NULL) == 0)
        remove_file(c, path);
}

/* ---- the commands --------------------------------------------------------------------------------------------- */

static int fsck(const char *arg, bool repair, err *e)
{
    char dir[FS_PATH];
    ledger *l;
    check c = {.repair = repair};

    TRY(look_folder(dir, arg, e));
    if (repair && ledger_busy(dir))
        return err_set(e, ERR_PEER, "%s is running; stop it before it is repaired", dir);
    TRY(ledger_look(&l, dir, e)); /* damage: told with file and offset, and never repaired */
    c.dir = dir;
    c.s = l->s;
    for (int i = 0; i < l->s->jobs; i++)
        if (l->s->job[i].state == JOB_DONE)
            check_result(&c, &l->s->job[i]);
    each_file(&c, "spool", check_order);
    if (repair)
        publish_sweep(dir, NULL);
    printf("farm in %s: %d jobs, %d done; %d wrong, %d repaired\n", dir, l->s->jobs, l->s->count[JOB_DONE], c.wrong, c.mended);
    ledger_close(l);
    return c.wrong > c.mended ? err_set(e, ERR_PEER, "%d things are wrong", c.wrong - c.mended) : 0;
}

int command_fsck(int argc, char **argv)
{
    bool repair = argc == 3 && (strcmp(argv[1], "--repair") == 0 || strcmp(argv[2], "--repair") == 0);
    const char *farm = argc > 1 ? argv[repair && argv[1][0] == '-' ? 2 : 1] : "-";
    err e = {0};

    if ((argc != 2 && !repair) || farm[0] == '-') {
        fputs("usage: cfarm fsck [--repair] FARM      FARM: its folder or its file\n", stderr);
        return FARM_BAD_INPUT;
    }
    return fsck(farm, repair, &e) == 0 ? FARM_DONE : look_complain(&e);
}

static int gc(const char *arg, err *e)
{
    char dir[FS_PATH];
    ledger *l;
    check c = {0};

    TRY(look_folder(dir, arg, e));
    if (ledger_busy(dir))
        return err_set(e, ERR_PEER, "%s is running; what it is writing looks like litter", dir);
    TRY(ledger_look(&l, dir, e));
    c.dir = dir;
    c.s = l->s;
    each_file(&c, "obj", gc_objects);
    each_file(&c, "ckpt", gc_checkpoint);
    each_file(&c, "quarantine", gc_case);
    each_file(&c, "spool/refused", gc_refused);
    TRY(publish_sweep(dir, e));
    printf("farm in %s: %d things removed, %lld bytes in files\n", dir, c.removed, (long long)c.bytes);
    ledger_close(l);
    return 0;
}

int command_gc(int argc, char **argv)
{
    err e = {0};

    if (argc != 2 || argv[1][0] == '-') {
        fputs("usage: cfarm gc FARM      removes results without a job, checkpoints of what is done, litter\n", stderr);
        return FARM_BAD_INPUT;
    }
    return gc(argv[1], &e) == 0 ? FARM_DONE : look_complain(&e);
}
