/* Writing whole or not at all: aside, fsync, rename, fsync of the folder. Each step is a fault point ("fs.open",
 * "fs.write", "fs.sync", "fs.rename", "fs.folder"), and a kill at any of them leaves the old file or the new one.
 * Errors name the path asked for: the one aside is nobody's business. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"

static int refuse(err *e, const char *path, const char *verb)
{
    return err_set(e, ERR_IO, "%s: cannot %s: %s", path, verb, fs_reason(errno));
}

static bool faulty(const char *point)
{
    if (!fault_here(point))
        return false;
    errno = EIO;
    return true;
}

int fs_aside(char out[FS_PATH], const char *path, err *e)
{
    static atomic_uint counter;
    unsigned n = atomic_fetch_add(&counter, 1);
    int len = snprintf(out, FS_PATH, "%s.tmp-%ld-%u", path, (long)getpid(), n);
    if (len >= FS_PATH)
        return err_set(e, ERR_INPUT, "a path of %d bytes; at most %d can be used: %.40s...", len, FS_PATH - 1, path);
    return 0;
}

void fs_discard(const char *aside)
{
    unlink(aside);
}

int fs_sync_dir(const char *dir, err *e)
{
    int fd = open(dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(e, dir, "open folder");
    /* EINVAL: a file system that keeps folders safe by itself and knows no such call. */
    bool bad = faulty("fs.folder") || (fsync(fd) != 0 && errno != EINVAL);
    int rc = bad ? refuse(e, dir, "sync folder") : 0;
    close(fd);
    return rc;
}

static int sync_file(const char *aside, const char *path, err *e)
{
    int fd = open(aside, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return refuse(e, path, "open what was written aside");
    int rc = faulty("fs.sync") || fsync(fd) != 0 ? refuse(e, path, "sync") : 0;
    close(fd);
    return rc;
}

int fs_commit(const char *aside, const char *path, err *e)
{
    char dir[FS_PATH];
    size_t n = (size_t)(fs_base(path) - path);
    int rc = n < FS_PATH ? sync_file(aside, path, e) : err_set(e, ERR_INPUT, "a path of %zu bytes is too long", n);
    if (rc == 0 && (faulty("fs.rename") || rename(aside, path) != 0))
        rc = refuse(e, path, "rename into place");
    if (rc != 0) {
        fs_discard(aside);
        return rc;
    }
    memcpy(dir, path, n);
    dir[n] = 0;
    return fs_sync_dir(dir, e);
}

/* 0, or -1 with errno set. */
static int put_all(int fd, const char *at, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        at += put;
        n -= (size_t)put;
    }
    return faulty("fs.write") ? -1 : 0;
}

static int write_as(const char *path, mode_t mode, const void *bytes, size_t n, err *e)
{
    char aside[FS_PATH];
    TRY(fs_aside(aside, path, e));
    int fd = faulty("fs.open") ? -1 : open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return refuse(e, path, "create");
    int failed = put_all(fd, bytes, n) == 0 ? 0 : errno;
    if (close(fd) != 0 && !failed) /* network file systems tell some errors only here */
        failed = errno;
    if (failed) {
        fs_discard(aside);
        return err_set(e, ERR_IO, "%s: cannot write %zu bytes: %s", path, n, fs_reason(failed));
    }
    return fs_commit(aside, path, e);
}

int fs_write(const char *path, const void *bytes, size_t n, err *e) { return write_as(path, 0666, bytes, n, e); }
int fs_write_private(const char *path, const void *bytes, size_t n, err *e) { return write_as(path, 0600, bytes, n, e); }
