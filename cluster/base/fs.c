/* Paths, folders, reading and mapping. Writing lies in fs_write.c. */
#include "cluster/base/fs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cluster/base/mem.h"

const char *fs_reason(int number)
{
    static _Thread_local char text[128];
    char buf[128];
    const char *said = strerror_r(number, buf, sizeof buf);
    snprintf(text, sizeof text, "%s", said);
    if (!isupper((unsigned char)text[1])) /* "RPC ..." keeps its capitals */
        text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

static int refuse(err *e, const char *path, const char *verb)
{
    return err_set(e, ERR_IO, "%s: cannot %s: %s", path, verb, fs_reason(errno));
}

bool fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool fs_is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

int fs_join(char out[FS_PATH], const char *dir, const char *name, err *e)
{
    bool alone = name[0] == '/' || dir[0] == 0;
    size_t d = alone ? 0 : strlen(dir), n = strlen(name);
    size_t slash = d > 0 && dir[d - 1] != '/' ? 1 : 0;
    if (d + slash + n >= FS_PATH)
        return err_set(e, ERR_INPUT, "a path of %zu bytes; at most %d can be used: %.40s...", d + slash + n,
                       FS_PATH - 1, alone ? name : dir);
    memmove(out + d + slash, name, n + 1); /* out may be dir or name */
    memmove(out, dir, d);
    if (slash)
        out[d] = '/';
    return 0;
}

const char *fs_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int make_one(const char *path, err *e)
{
    if (mkdir(path, 0777) == 0 || fs_is_dir(path))
        return 0;
    return refuse(e, path, "make folder");
}

int fs_mkdirs(const char *path, err *e)
{
    char at[FS_PATH];
    TRY(fs_join(at, "", path, e));
    for (char *p = at + 1; at[0] && *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        TRY(make_one(at, e));
        *p = '/';
    }
    return make_one(at, e);
}

int fs_cache_dir(char out[FS_PATH], err *e)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0])
        return fs_join(out, cache, "conceptfarm", e);
    if (home && home[0])
        return fs_join(out, home, ".cache/conceptfarm", e);
    return err_set(e, ERR_INPUT, "neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder");
}

int fs_free_bytes(const char *path, uint64_t *out, err *e)
{
    struct statvfs s;
    if (statvfs(path, &s) != 0)
        return refuse(e, path, "ask for free space");
    *out = (uint64_t)s.f_bavail * s.f_frsize;
    return 0;
}

/* An open regular file and its size. O_NONBLOCK: opening a pipe nobody writes to must not wait. */
static int open_regular(int *fd, size_t *n, const char *path, err *e)
{
    struct stat s;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return refuse(e, path, "open");
    if (fstat(*fd, &s) == 0 && S_ISREG(s.st_mode)) {
        *n = (size_t)s.st_size;
        return 0;
    }
    close(*fd);
    return err_set(e, ERR_IO, "%s: %s, not a file", path, S_ISDIR(s.st_mode) ? "a folder" : "a device or pipe");
}

/* Reads until n bytes or the end; the count, or -1. */
static ssize_t read_all(int fd, char *to, size_t n)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = read(fd, to + have, n - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

int fs_read(const char *path, char **out, size_t *n, size_t most, err *e)
{
    int fd, rc = 0;
    size_t size;
    void *buf = NULL;
    *out = NULL;
    TRY(open_regular(&fd, &size, path, e));
    if (size > most) {
        rc = err_set(e, ERR_INPUT, "%s: %zu bytes; at most %zu are read", path, size, most);
        goto out;
    }
    if ((rc = mem_big(&buf, size + 1, path, e)) != 0)
        goto out;
    ssize_t got = read_all(fd, buf, size);
    if (got < 0) {
        rc = refuse(e, path, "read");
        free(buf);
        goto out;
    }
    ((char *)buf)[got] = 0;
    *out = buf;
    *n = (size_t)got;
out:
    close(fd);
    return rc;
}

int fs_map_open(fs_map *out, const char *path, err *e)
{
    int fd;
    size_t n;
    *out = (fs_map){0};
    TRY(open_regular(&fd, &n, path, e));
    void *at = n > 0 ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL; /* nothing cannot be mapped */
    int rc = at == MAP_FAILED ? refuse(e, path, "map") : 0;
    close(fd);
    if (rc == 0)
        *out = (fs_map){.at = at, .n = n};
    return rc;
}

void fs_map_close(fs_map *m)
{
    if (m && m->n > 0)
        munmap((void *)m->at, m->n);
    if (m)
        *m = (fs_map){0};
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int fs_list(char ***out, size_t *n, const char *dir, err *e)
{
    *out = NULL;
    DIR *d = opendir(dir);
    if (!d)
        return refuse(e, dir, "open folder");
    char **names = NEW_N(char *, 1);
    size_t count = 0;
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        names = mem_grow(names, count + 2, sizeof *names);
        names[count++] = mem_text(entry->d_name);
    }
    int failed = errno;
    closedir(d);
    names[count] = NULL;
    if (failed) {
        fs_list_free(names);
        errno = failed;
        return refuse(e, dir, "read folder");
    }
    qsort(names, count, sizeof *names, by_bytes);
    *out = names;
    *n = count;
    return 0;
}

void fs_list_free(char **names)
{
    for (char **p = names; p && *p; p++)
        free(*p);
    free(names);
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at)
{
    (void)s, (void)kind, (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

int fs_remove_tree(const char *dir, err *e)
{
    enum { OPEN_FOLDERS = 16 };
    if (nftw(dir, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    return refuse(e, dir, "remove");
}
