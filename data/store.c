/* Opening, creating, renewing and committing a store. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/mem.h"
#include "data/h5_write.h"
#include "data/store_impl.h"

int store_damage(const store *s, const char *path, const char *what, err *e)
{
    return err_set(e, s->writing ? ERR_IO : ERR_INPUT, "%s: %s: %s", s->path, path, what);
}

size_t store_count(store_shape shape)
{
    size_t n = 1;
    for (int i = 0; i < shape.n; i++)
        n *= (size_t)shape.d[i];
    return n;
}

static store *new_store(const char *path, bool writing)
{
    store *s = NEW(store);
    s->fd = -1;
    s->writing = writing;
    snprintf(s->path, sizeof s->path, "%s", path);
    if (writing)
        s->tree = store_node_new("");
    return s;
}

static void free_store(store *s)
{
    if (s->fd >= 0)
        close(s->fd); /* and with it goes the lock */
    free(s->small);
    store_node_free(s->tree);
    store_forget_groups(s);
    h5_close(&s->h5);
    free(s);
}

/* ---- a new file ---- */

static int create_aside(store *s, const char *path, err *e)
{
    TRY(fs_aside(s->aside, path, e));
    s->fd = open(s->aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return s->fd >= 0 ? 0 : err_set(e, ERR_IO, "%s: cannot be created: %s", s->path, strerror(errno));
}

int store_create(store **out, const char *path, err *e)
{
    store *s = new_store(path, true);
    int rc = create_aside(s, path, e);
    s->end = H5_SUPERBLOCK;
    if (rc != 0)
        free_store(s);
    else
        *out = s;
    return rc;
}

/* ---- reading ---- */

static int open_file(store *s, const char *path, err *e)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INPUT, "%s: no such file", path);
    TRY(h5_open(&s->h5, path, e));
    return store_enter(s, "/", NULL, e);
}

int store_open(store **out, const char *path, err *e)
{
    store *s = new_store(path, false);
    int rc = open_file(s, path, e);
    if (rc != 0) {
        store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void store_close(store *s)
{
    if (s)
        free_store(s);
}

/* ---- another generation ---- */

/* The same file, under this name alone: who else has it would see it change. */
static bool is_in_place(const char *from, const char *path)
{
    struct stat a, b;
    return stat(from, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino && b.st_nlink == 1;
}

/* Held until the end, and still the file of that name: one that was replaced meanwhile is nobody's any more. */
static int lock_in_place(store *s, err *e)
{
    struct stat mine, there;
    s->fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (s->fd < 0)
        return err_set(e, ERR_IO, "%s: cannot be changed: %s", s->path, fs_reason(errno));
    if (flock(s->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) /* a file system without locks: the digest is looked at */
        return err_set(e, ERR_IO, "%s: another program is changing it", s->path);
    if (fstat(s->fd, &mine) != 0 || stat(s->path, &there) != 0 || mine.st_ino != there.st_ino || mine.st_dev != there.st_dev)
        return err_set(e, ERR_IO, "%s: changed while it was read", s->path);
    return 0;
}

/* What was there, aside: shared where the file system can, else copied. */
static int copy_aside(store *s, const char *from, err *e)
{
    int fd, rc;
    TRY(create_aside(s, s->path, e));
    fd = open(from, O_RDONLY | O_CLOEXEC);
    rc = fd >= 0 && ioctl(s->fd, FICLONE, fd) == 0 ? 0 : store_append(s, "/", s->h5.map.at, s->h5.end, e);
    if (fd >= 0)
        close(fd);
    return rc == 0 ? store_flush(s, "/", e) : rc;
}

static int begin(store *s, const char *from, const char *digest, err *e)
{
    bool in_place = is_in_place(from, s->path);
    if (in_place)
        TRY(lock_in_place(s, e));
    TRY(h5_open(&s->h5, from, e));
    TRY(store_enter(s, "/", NULL, e));
    if (strcmp(s->root, digest) != 0)
        return err_set(e, ERR_INPUT, "%s: changed while it was read", from);
    if (!in_place)
        TRY(copy_aside(s, from, e));
    s->end = s->begun = s->h5.end;
    return 0;
}

int store_renew(store **out, const char *from, const char *digest, const char *path, err *e)
{
    store *s = new_store(path, true);
    int rc = begin(s, from, digest, e);
    if (rc != 0)
        store_drop(s);
    else
        *out = s;
    return rc;
}

/* ---- the end ---- */

static int put_superblock(store *s, err *e)
{
    unsigned char head[H5_SUPERBLOCK];
    h5_put_superblock(head, s->tree->at, s->end);
    if (fault_here("store.head") ? (errno = EIO, true) : pwrite(s->fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return err_set(e, ERR_IO, "%s: cannot be written: %s", s->path, fs_reason(errno));
    return 0;
}

static int sync_values(const store *s, err *e)
{
    if (fault_here("store.sync") ? (errno = EIO, true) : fdatasync(s->fd) != 0)
        return err_set(e, ERR_IO, "%s: cannot sync: %s", s->path, fs_reason(errno));
    return 0;
}

/* The superblock lies within one sector and comes last, when all it leads to is on the disk: before that the file is the
 * old one, with something behind its end that nobody looks at. */
static int turn_over(store *s, err *e)
{
    TRY(sync_values(s, e));
    TRY(put_superblock(s, e));
    return sync_values(s, e);
}

int store_commit(store *s, err *e)
{
    int rc = store_write_headers(s, e);
    if (rc == 0)
        rc = s->aside[0] ? put_superblock(s, e) : turn_over(s, e);
    if (rc != 0) {
        store_drop(s);
        return rc;
    }
    if (s->aside[0])
        rc = fs_commit(s->aside, s->path, e);
    free_store(s);
    return rc;
}

void store_drop(store *s)
{
    if (!s)
        return;
    if (s->aside[0])
        fs_discard(s->aside);
    free_store(s);
}

const char *store_digest(const store *s)
{
    return s->root;
}

uint64_t store_bytes(const store *s)
{
    return s->h5.map.n;
}
