/* Host memory: small requests that abort, large ones that can be refused, and how much there is. */
#include "cluster/base/mem.h"

#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MEM_LINE = 64,           /* a cache line, and the widest vector register */
    MEM_ASK_FROM = 16 << 20, /* smaller requests are not worth a look at /proc */
};

static void *checked(void *p, size_t n, size_t size)
{
    if (p)
        return p;
    fprintf(stderr, "no memory for %zu times %zu bytes\n", n, size);
    abort();
}

void *mem_new(size_t n, size_t size)
{
    return checked(calloc(n ? n : 1, size), n, size);
}

void *mem_grow(void *p, size_t n, size_t size)
{
    return checked(reallocarray(p, n ? n : 1, size), n, size);
}

char *mem_text(const char *s)
{
    return s ? mem_copy(s, strlen(s) + 1) : NULL;
}

void *mem_copy(const void *p, size_t bytes)
{
    void *q = checked(malloc(bytes ? bytes : 1), 1, bytes);
    return bytes ? memcpy(q, p, bytes) : q;
}

int mem_big(void **out, size_t bytes, const char *what, err *e)
{
    *out = NULL;
    /* Linux promises more than it has: malloc would succeed and the kernel kill us at the first touch. */
    size_t have = bytes >= MEM_ASK_FROM ? mem_free_bytes() : SIZE_MAX;
    if (bytes <= have && bytes <= SIZE_MAX / 2)
        *out = aligned_alloc(MEM_LINE, (bytes + MEM_LINE) / MEM_LINE * MEM_LINE);
    if (*out)
        return 0;
    if (have == SIZE_MAX)
        have = mem_free_bytes();
    return err_set(e, ERR_MEMORY, "%s needs %.1f MiB and %.1f MiB are free", what, (double)bytes / 1048576.0,
                   (double)have / 1048576.0);
}

void mem_whole(void *p, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)p + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)p + bytes) / page * page;
    if (bytes >= MEM_ASK_FROM && end > first)
        madvise((void *)first, end - first, MADV_HUGEPAGE); /* refused by systems without them: nothing is lost */
}

/* The number after `key` at the start of a line, or SIZE_MAX. A NULL key: the file's first word. */
static size_t number_in(const char *path, const char *key)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return SIZE_MAX;
    char line[256];
    size_t found = SIZE_MAX, skip = key ? strlen(key) : 0;
    while (found == SIZE_MAX && fgets(line, sizeof line, f)) {
        uintmax_t v;
        if ((!key || strncmp(line, key, skip) == 0) && sscanf(line + skip, " %" SCNuMAX, &v) == 1)
            found = v < SIZE_MAX ? (size_t)v : SIZE_MAX;
    }
    fclose(f);
    return found;
}

/* How one version of control groups spells its files. */
typedef struct {
    const char *mount, *limit, *usage, *idle;
} cgroup_names;

static const cgroup_names CGROUP_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_inactive_file"};
static const cgroup_names CGROUP_2[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"},
    {"/sys/fs/cgroup/unified", "memory.max", "memory.current", "inactive_file"},
};

/* What one control group still allows; its idle page cache is given back on demand and counts as free. */
static size_t left_in(const char *root, const cgroup_names *n, const char *group)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s%s/%s", root, n->mount, group, n->limit);
    size_t limit = number_in(path, NULL); /* "max" is no number */
    snprintf(path, sizeof path, "%s%s%s/%s", root, n->mount, group, n->usage);
    size_t usage = number_in(path, NULL);
    if (limit == SIZE_MAX || usage == SIZE_MAX)
        return SIZE_MAX;
    snprintf(path, sizeof path, "%s%s%s/memory.stat", root, n->mount, group);
    size_t idle = number_in(path, n->idle);
    if (idle != SIZE_MAX)
        usage -= idle < usage ? idle : usage;
    return limit > usage ? limit - usage : 0;
}

/* A group is bounded by every group above it, too. Inside a container the path may not exist below the mount,
 * whose root is then the container's own group: the walk ends there in either case. */
static size_t left_up_from(const char *root, const cgroup_names *n, const char *group)
{
    char at[1024];
    snprintf(at, sizeof at, "%s", strcmp(group, "/") == 0 ? "" : group);
    size_t least = SIZE_MAX;
    for (;;) {
        size_t left = left_in(root, n, at);
        least = left < least ? left : least;
        char *slash = strrchr(at, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static size_t left_by_cgroups(const char *root)
{
    char path[PATH_MAX], line[1280], controllers[128], group[1024];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (!f)
        return SIZE_MAX;
    size_t least = SIZE_MAX;
    while (fgets(line, sizeof line, f)) { /* "4:memory:/a/b" or, for version 2, "0::/a/b" */
        size_t left = SIZE_MAX;
        if (sscanf(line, "0::%1023[^\n]", group) == 1) {
            for (size_t i = 0; i < 2; i++) {
                size_t here = left_up_from(root, &CGROUP_2[i], group);
                left = here < left ? here : left;
            }
        } else if (sscanf(line, "%*d:%127[^:]:%1023[^\n]", controllers, group) == 2 &&
                   strstr(controllers, "memory")) {
            left = left_up_from(root, &CGROUP_1, group);
        }
        least = left < least ? left : least;
    }
    fclose(f);
    return least;
}

size_t mem_free_under(const char *root)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    size_t kib = number_in(path, "MemAvailable:");
    size_t machine = kib < SIZE_MAX / 1024 ? kib * 1024 : SIZE_MAX;
    size_t group = left_by_cgroups(root);
    return group < machine ? group : machine;
}

size_t mem_free_bytes(void)
{
    return mem_free_under("");
}
