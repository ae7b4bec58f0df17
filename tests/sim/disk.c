/* The farm's disk: names that lead to files, and what of both has been synced. A file's bytes behind the last sync, and names that
 * were given or taken since their folder was synced, may or may not outlive a loss of power; names change on the disk in the order
 * in which they were changed, as file systems with a journal of their own do. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/sim/world.h"

enum { OPEN_BASE = FD_BASE + (1 << 16), OPEN_MOST = 4096, BLOCK = 512 };

typedef struct {
    str bytes;
    size_t synced;
    int number;
} inode;

typedef struct { char path[96]; size_t folder; inode *of; } name; /* folder: so long is the path of the one it lies in */
typedef struct { name *at; int n; } names;
typedef struct { bool gives, done; name what; } change;

static names now, safe;            /* as programs see it; as it is after a loss of power */
static change *changes;
static int changes_n, numbers;
static struct { inode *of; bool lock; process *owner; } opened[OPEN_MOST];
static int fail_sync, fail_write;
static int64_t stalled_until;
static process *lock_owner;

static name *look(const names *in, const char *path)
{
    for (int i = in->n - 1; i >= 0; i--)
        if (strcmp(in->at[i].path, path) == 0)
            return &in->at[i];
    return NULL;
}

static name name_of(const char *path, inode *of)
{
    const char *base = fs_base(path);
    name out = {.folder = base > path ? (size_t)(base - path) - 1 : 0, .of = of};

    str_copy(out.path, sizeof out.path, path);
    return out;
}

static void give(names *in, const char *path, inode *of)
{
    name *there = look(in, path);

    if (there) {
        there->of = of;
        return;
    }
    in->at = mem_grow(in->at, (size_t)in->n + 1, sizeof *in->at);
    in->at[in->n++] = name_of(path, of);
}

static void take(names *in, const char *path)
{
    name *there = look(in, path);

    if (there)
        *there = in->at[--in->n];
}

static void note(bool gives, const char *path, inode *of)
{
    changes = mem_grow(changes, (size_t)changes_n + 1, sizeof *changes);
    changes[changes_n++] = (change){.gives = gives, .what = name_of(path, of)};
    if (gives)
        give(&now, path, of);
    else
        take(&now, path);
}

static void apply(const change *c)
{
    if (c->gives)
        give(&safe, c->what.path, c->what.of);
    else
        take(&safe, c->what.path);
}

void disk_reset(void)
{
    now.n = safe.n = changes_n = numbers = 0; /* inodes are left behind: a batch of worlds is a process of its own */
    memset(opened, 0, sizeof opened);
    fail_sync = fail_write = 0;
    stalled_until = 0;
    lock_owner = NULL;
}

/* What was behind the last sync: nothing of it, some of it, or some of it with a block that holds something else. */
static void tear(inode *f)
{
    size_t loose = f->bytes.n - f->synced, keep;

    if (loose == 0)
        return;
    keep = lot((uint32_t)loose + 1);
    f->bytes.n = f->synced + keep;
    if (keep > 0 && chance(0.3)) {
        size_t at = f->synced + lot((uint32_t)keep), n = keep - (at - f->synced) < BLOCK ? keep - (at - f->synced) : BLOCK;
        memset(f->bytes.at + at, chance(0.5) ? 0 : (int)lot(256), n);
    }
    f->synced = f->bytes.n;
}

void disk_power_loss(void)
{
    int upto = changes_n > 0 ? (int)lot((uint32_t)changes_n + 1) : 0;

    world_say("power loss: %d of %d changes of names are on the disk", upto, changes_n);
    for (int i = 0; i < upto; i++)
        if (!changes[i].done)
            apply(&changes[i]);
    changes_n = 0;
    now.n = 0;
    for (int i = 0; i < safe.n; i++) {
        tear(safe.at[i].of);
        give(&now, safe.at[i].path, safe.at[i].of);
    }
    memset(opened, 0, sizeof opened);
    lock_owner = NULL;
}

void disk_fail(int syncs, int writes)
{
    fail_sync = syncs;
    fail_write = writes;
}

void disk_stall(int64_t until) { stalled_until = until; }
void disk_unlock(void) { lock_owner = NULL; }
bool disk_has(const char *path) { return look(&now, path) != NULL; }

bool disk_synced(const char *path)
{
    const name *there = look(&now, path), *on_disk = look(&safe, path);

    return there && on_disk && there->of == on_disk->of && there->of->synced == there->of->bytes.n;
}

size_t disk_read(const char *path, const char **bytes)
{
    const name *there = look(&now, path);

    *bytes = there ? there->of->bytes.at : NULL;
    return there ? there->of->bytes.n : 0;
}

static inode *new_inode(void)
{
    inode *f = NEW(inode);

    f->number = ++numbers;
    return f;
}

void disk_put(const char *path, const void *bytes, size_t n)
{
    inode *f = new_inode();

    str_put(&f->bytes, bytes, n);
    f->synced = n;
    give(&now, path, f);
    give(&safe, path, f);
}

void disk_remove(const char *path)
{
    take(&now, path);
    take(&safe, path);
}

static size_t length_of(const char *dir)
{
    size_t n = strlen(dir);

    while (n > 0 && dir[n - 1] == '/')
        n--;
    return n;
}

static bool lies_in(const name *x, const char *dir, size_t n) { return x->folder == n && memcmp(x->path, dir, n) == 0; }

int disk_list(char out[][96], int most, const char *dir)
{
    size_t length = length_of(dir);
    int n = 0;

    for (int i = 0; i < now.n && n < most; i++)
        if (lies_in(&now.at[i], dir, length))
            str_copy(out[n++], 96, fs_base(now.at[i].path));
    return n;
}

/* ---- waiting for it -------------------------------------------------------------------------------------------- */

/* False: it is one that fails. */
static bool sync_wait(void)
{
    int64_t until = world.now + 50000 + (int64_t)lot(3000000);

    if (process_self())
        process_wait(until > stalled_until ? until : stalled_until);
    if (fail_sync > 0 && --fail_sync == 0) {
        world_say("a sync fails");
        return false;
    }
    return true;
}

static void sync_folder(const char *dir)
{
    size_t length = length_of(dir);

    for (int i = 0; i < changes_n; i++)
        if (!changes[i].done && lies_in(&changes[i].what, dir, length)) {
            for (int k = 0; k <= i; k++) /* the file system's own journal is in order */
                if (!changes[k].done) {
                    apply(&changes[k]);
                    changes[k].done = true;
                }
        }
    while (changes_n > 0 && changes[changes_n - 1].done)
        changes_n--;
}

/* ---- the calls: files ------------------------------------------------------------------------------------------ */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    name *there = look(&now, path);
    inode *of = there ? there->of : NULL;

    if (!process_self() || strncmp(path, "/farm", 5) != 0) {
        va_list args;
        va_start(args, flags);
        mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
        va_end(args);
        return __real_open(path, flags, mode);
    }
    if (of && flags & O_EXCL)
        return errno = EEXIST, -1;
    if (!of && !(flags & O_CREAT))
        return errno = ENOENT, -1;
    if (!of)
        note(true, path, of = new_inode());
    for (int i = 0; i < OPEN_MOST; i++)
        if (!opened[i].of) {
            opened[i].of = of;
            opened[i].owner = process_self();
            return OPEN_BASE + i;
        }
    return errno = EMFILE, -1;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (fd >= OPEN_BASE) {
        opened[fd - OPEN_BASE].of = NULL;
        return 0;
    }
    if (fd >= FD_BASE) {
        net_close(fd);
        return 0;
    }
    return __real_close(fd);
}

ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n)
{
    inode *f;

    if (fd < OPEN_BASE)
        return __real_write(fd, bytes, n);
    f = opened[fd - OPEN_BASE].of;
    if (!f)
        return errno = EBADF, -1;
    if (fail_write > 0 && --fail_write == 0) {
        world_say("a write fails");
        str_put(&f->bytes, bytes, n / 2);
        return errno = ENOSPC, -1;
    }
    str_put(&f->bytes, bytes, n);
    return (ssize_t)n;
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    inode *f = opened[fd - OPEN_BASE].of;
    size_t upto = f->bytes.n;

    if (!sync_wait())
        return errno = EIO, -1;
    if (upto > f->synced)
        f->synced = upto;
    return 0;
}

int __wrap_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to)
{
    name *there = look(&now, from);

    if (!there)
        return errno = ENOENT, -1;
    if (look(&now, to))
        return errno = EEXIST, -1;
    note(true, to, there->of);
    return 0;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    if (strncmp(path, "/farm", 5) != 0)
        return __real_unlink(path);
    if (!look(&now, path))
        return errno = ENOENT, -1;
    note(false, path, NULL);
    return 0;
}

int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    name *there = look(&now, from);
    inode *of = there ? there->of : NULL;

    if (!of)
        return errno = ENOENT, -1;
    note(true, to, of);
    note(false, from, NULL);
    return 0;
}

int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode)
{
    (void)mode;
    return look(&now, path) ? 0 : (errno = ENOENT, -1);
}

int __wrap_stat(const char *path, struct stat *s);
int __wrap_stat(const char *path, struct stat *s)
{
    const name *there = look(&now, path);

    *s = (struct stat){0};
    if (!there)
        return errno = ENOENT, -1;
    s->st_ino = (ino_t)there->of->number;
    s->st_size = (off_t)there->of->bytes.n;
    s->st_mode = S_IFREG;
    return 0;
}

int __wrap_flock(int fd, int how);
int __wrap_flock(int fd, int how)
{
    (void)fd;
    if (how & LOCK_UN)
        return 0;
    if (lock_owner && process_alive(lock_owner) && lock_owner != process_self())
        return errno = EWOULDBLOCK, -1;
    lock_owner = process_self();
    return 0;
}

/* ---- the calls: fs.h ------------------------------------------------------------------------------------------- */

bool __wrap_fs_exists(const char *path);
bool __wrap_fs_exists(const char *path) { return look(&now, path) != NULL; }

bool __wrap_fs_is_dir(const char *path);
bool __wrap_fs_is_dir(const char *path)
{
    (void)path;
    return true; /* folders are there as soon as something is put into them */
}

int __wrap_fs_mkdirs(const char *path, err *e);
int __wrap_fs_mkdirs(const char *path, err *e)
{
    (void)path, (void)e;
    return 0;
}

void __wrap_fs_discard(const char *aside);
void __wrap_fs_discard(const char *aside)
{
    if (look(&now, aside))
        note(false, aside, NULL);
}

int __wrap_fs_sync_dir(const char *dir, err *e);
int __wrap_fs_sync_dir(const char *dir, err *e)
{
    if (!sync_wait())
        return err_set(e, ERR_IO, "%s: cannot sync folder: a fault of the simulation", dir);
    sync_folder(dir);
    return 0;
}

int __wrap_fs_commit(const char *aside, const char *path, err *e);
int __wrap_fs_commit(const char *aside, const char *path, err *e)
{
    char dir[FS_PATH];
    const name *there = look(&now, aside);
    inode *f = there ? there->of : NULL;

    if (!f)
        return err_set(e, ERR_IO, "%s: cannot open what was written aside", path);
    if (!sync_wait()) {
        __wrap_fs_discard(aside);
        return err_set(e, ERR_IO, "%s: cannot sync: a fault of the simulation", path);
    }
    f->synced = f->bytes.n;
    if (__wrap_rename(aside, path) != 0)
        return err_set(e, ERR_IO, "%s: cannot rename into place", path);
    str_copy(dir, sizeof dir, path);
    dir[fs_base(path) - path] = '\0';
    return __wrap_fs_sync_dir(dir, e);
}

int __wrap_fs_write(const char *path, const void *bytes, size_t n, err *e);
int __wrap_fs_write(const char *path, const void *bytes, size_t n, err *e)
{
    char aside[FS_PATH];
    inode *f = new_inode();

    snprintf(aside, sizeof aside, "%s.tmp-%d", path, f->number);
    str_put(&f->bytes, bytes, n);
    note(true, aside, f);
    return __wrap_fs_commit(aside, path, e);
}

int __wrap_fs_read(const char *path, char **out, size_t *n, size_t most, err *e);
int __wrap_fs_read(const char *path, char **out, size_t *n, size_t most, err *e)
{
    const char *bytes;

    (void)most;
    if (!look(&now, path))
        return err_set(e, ERR_IO, "%s: cannot open: no such file or directory", path);
    *n = disk_read(path, &bytes);
    *out = mem_new(*n + 1, 1);
    if (*n > 0)
        memcpy(*out, bytes, *n);
    return 0;
}

int __wrap_fs_map_open(fs_map *out, const char *path, err *e);
int __wrap_fs_map_open(fs_map *out, const char *path, err *e)
{
    char *bytes = NULL;
    size_t n = 0;

    TRY(__wrap_fs_read(path, &bytes, &n, SIZE_MAX, e));
    *out = (fs_map){.at = (unsigned char *)bytes, .n = n};
    return 0;
}

void __wrap_fs_map_close(fs_map *m);
void __wrap_fs_map_close(fs_map *m)
{
    free((void *)(uintptr_t)m->at);
    *m = (fs_map){0};
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int __wrap_fs_list(char ***out, size_t *n, const char *dir, err *e);
int __wrap_fs_list(char ***out, size_t *n, const char *dir, err *e)
{
    char **list = NEW_N(char *, now.n + 1);
    size_t length = length_of(dir);

    (void)e;
    *n = 0;
    for (int i = 0; i < now.n; i++)
        if (lies_in(&now.at[i], dir, length) && fs_base(now.at[i].path)[0] != '.')
            list[(*n)++] = mem_text(fs_base(now.at[i].path));
    qsort(list, *n, sizeof *list, by_bytes);
    *out = list;
    return 0;
}

int __wrap_fs_remove_tree(const char *dir, err *e);
int __wrap_fs_remove_tree(const char *dir, err *e)
{
    size_t length = length_of(dir);

    (void)e;
    for (int i = now.n - 1; i >= 0; i--)
        if (lies_in(&now.at[i], dir, length))
            note(false, now.at[i].path, NULL);
    return 0;
}

int __wrap_hash_file(const char *path, char out[HASH_HEX], err *e);
int __wrap_hash_file(const char *path, char out[HASH_HEX], err *e)
{
    const char *bytes;
    size_t n = disk_read(path, &bytes);

    if (!look(&now, path))
        return err_set(e, ERR_IO, "%s: cannot open", path);
    hash_bytes(n > 0 ? bytes : "", n, out);
    return 0;
}

/* publish_sweep() looks into folders by itself. */
typedef struct { int at; char dir[96]; size_t length; struct dirent entry; } folder;

DIR *__wrap_opendir(const char *dir);
DIR *__wrap_opendir(const char *dir)
{
    folder *d = NEW(folder);

    str_copy(d->dir, sizeof d->dir, dir);
    d->length = length_of(d->dir);
    d->at = now.n;
    return (DIR *)d;
}

struct dirent *__wrap_readdir(DIR *of);
struct dirent *__wrap_readdir(DIR *of)
{
    folder *d = (folder *)of;

    while (--d->at >= 0) /* from the end: what is removed meanwhile moves others only there */
        if (d->at < now.n && lies_in(&now.at[d->at], d->dir, d->length)) {
            str_copy(d->entry.d_name, sizeof d->entry.d_name, fs_base(now.at[d->at].path));
            return &d->entry;
        }
    return NULL;
}

int __wrap_closedir(DIR *of);
int __wrap_closedir(DIR *of)
{
    free(of);
    return 0;
}
