/* LD_PRELOADed into every process of a farm: the C library's calls fail as HARM_SHIM says, on regular files only.
 *   eio:N      the N-th write fails with EIO          short:N   every N-th write takes half
 *   enospc:N   the N-th write and all after fail      eintr:N   every N-th write is interrupted first
 *   fsync:N    the N-th fsync or fdatasync fails with EIO      stall:N    every N-th takes most of a second
 *   rename:N, link:N, unlink:N, mkdir:N, create:N     the N-th of these fails with EIO; create: an open() that makes a file
 *   alloc:N    the N-th allocation is refused, in the first process that makes so many: it leaves the file HARM_ONCE
 * Each process counts for itself, and goes on from its parent's count. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STALL_US = 700000 };
static atomic_int writes, syncs, names, allocations;

/* The N of HARM_SHIM=what:N; 0: it says something else. */
static int asked(const char *what)
{
    const char *text = getenv("HARM_SHIM");
    size_t n = strlen(what);

    return text && strncmp(text, what, n) == 0 && text[n] == ':' ? atoi(text + n + 1) : 0;
}

static int is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);
    int k, at;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (!is_file(fd))
        return real(fd, bytes, n);
    k = atomic_fetch_add(&writes, 1) + 1;
    if (asked("eio") == k || ((at = asked("enospc")) > 0 && k >= at)) {
        errno = asked("eio") ? EIO : ENOSPC;
        return -1;
    }
    if ((at = asked("eintr")) > 0 && k % (at + 1) == 0) {
        errno = EINTR;
        return -1;
    }
    if ((at = asked("short")) > 0 && k % at == 0 && n > 1)
        n /= 2;
    return real(fd, bytes, n);
}

static int sync_by(const char *name, int fd)
{
    int (*real)(int);

    *(void **)&real = dlsym(RTLD_NEXT, name);
    int k = atomic_fetch_add(&syncs, 1) + 1;
    if (asked("fsync") == k) {
        errno = EIO;
        return -1;
    }
    if (asked("stall") > 0 && k % asked("stall") == 0)
        usleep(STALL_US);
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }

/* ---- names ----------------------------------------------------------------------------------------------------- */

static int refused(const char *what)
{
    if (asked(what) == 0 || atomic_fetch_add(&names, 1) + 1 != asked(what))
        return 0;
    errno = EIO;
    return 1;
}

static int by_two(const char *name, const char *from, const char *to)
{
    int (*real)(const char *, const char *);

    *(void **)&real = dlsym(RTLD_NEXT, name);
    return refused(name) ? -1 : real(from, to);
}

int rename(const char *from, const char *to) { return by_two("rename", from, to); }
int link(const char *from, const char *to) { return by_two("link", from, to); }

int unlink(const char *path)
{
    int (*real)(const char *);

    *(void **)&real = dlsym(RTLD_NEXT, "unlink");
    return refused("unlink") ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t);

    *(void **)&real = dlsym(RTLD_NEXT, "mkdir");
    return refused("mkdir") ? -1 : real(path, mode);
}

int open(const char *path, int flags, ...)
{
    int (*real)(const char *, int, ...);
    va_list more;

    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    *(void **)&real = dlsym(RTLD_NEXT, "open");
    return (flags & O_CREAT) && refused("create") ? -1 : real(path, flags, mode);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* The C library's own, under names that dlsym() need not be asked for: it allocates. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

/* A worker that is started again would otherwise fail again, at the same place, until its concept is blamed. */
static int first_one(void)
{
    const char *path = getenv("HARM_ONCE");
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600) : -1;

    if (fd >= 0)
        syscall(SYS_close, fd);
    return fd >= 0;
}

static int no_memory(void) { return asked("alloc") == atomic_fetch_add(&allocations, 1) + 1 && first_one(); }

void *malloc(size_t n) { return no_memory() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return no_memory() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return no_memory() ? NULL : __libc_realloc(p, n); }
