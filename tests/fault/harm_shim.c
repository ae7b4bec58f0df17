/* LD_PRELOADed into every process of a farm: the C library's calls fail as HARM_SHIM says, on regular files only.
 *   eio:N      the N-th write fails with EIO          short:N   every N-th write takes half
 *   enospc:N   the N-th write and all after fail      eintr:N   every N-th write is interrupted first
 *   fsync:N    the N-th fsync or fdatasync fails with EIO */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int writes, syncs;

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
    if (asked("fsync") == atomic_fetch_add(&syncs, 1) + 1) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
