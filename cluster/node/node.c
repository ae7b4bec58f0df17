/* What this machine has. Files of the kernel that are not there mean "no limit". */
#include "cluster/node/node.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum { NODES_MOST = 64 }; /* memory nodes */

_Static_assert(sizeof(node_cores) == sizeof(cpu_set_t), "a set of cores is sent as the kernel has it");

/* Of a one-line file: its first two numbers; "max" reads as -1. How many were found. */
static int read_numbers(const char *path, long long out[2])
{
    char text[128] = "";
    FILE *f = fopen(path, "re");
    int n = 0;

    if (!f)
        return 0;
    if (fgets(text, sizeof text, f))
        for (char *rest = text, *word; n < 2 && (word = strtok_r(rest, " \n", &rest));)
            out[n++] = strcmp(word, "max") == 0 ? -1 : atoll(word);
    fclose(f);
    return n;
}

/* A quota of 250 ms in 100 ms of wall time is 3 cores' worth; cgroup v2, then v1. 0: none. */
static int quota_cores(void)
{
    long long v[2] = {-1, 0}, period[2];

    if (read_numbers("/sys/fs/cgroup/cpu.max", v) != 2) {
        if (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", v) < 1 ||
            read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period) < 1)
            return 0;
        v[1] = period[0];
    }
    return v[0] > 0 && v[1] > 0 ? (int)((v[0] + v[1] - 1) / v[1]) : 0;
}

static size_t total_memory(void)
{
    size_t there = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    long long v[2];

    if (read_numbers("/sys/fs/cgroup/memory.max", v) < 1 &&
        read_numbers("/sys/fs/cgroup/memory/memory.limit_in_bytes", v) < 1)
        return there;
    return v[0] > 0 && (size_t)v[0] < there ? (size_t)v[0] : there;
}

static bool is_gpu(const char *name)
{
    if (!str_starts(name, "nvidia") || !name[6])
        return false;
    for (const char *p = name + 6; *p; p++)
        if (!isdigit((unsigned char)*p))
            return false;
    return true;
}

static int count_gpus(void)
{
    DIR *d = opendir("/dev");
    int n = 0;

    for (struct dirent *at; d && (at = readdir(d));)
        n += is_gpu(at->d_name);
    if (d)
        closedir(d);
    return n;
}

/* Empty words and a word that is too long end the list, as what CUDA cannot read ends it for CUDA. */
static int listed_devices(const char *list, char out[NODE_DEVICES][NODE_DEVICE])
{
    int n = 0;

    while (n < NODE_DEVICES) {
        size_t length = strcspn(list, ",");
        if (length == 0 || length >= NODE_DEVICE || (length == 2 && strncmp(list, "-1", 2) == 0))
            break;
        memcpy(out[n], list, length);
        out[n++][length] = '\0';
        if (list[length] == '\0')
            break;
        list += length + 1;
    }
    return n;
}

int node_devices(char out[NODE_DEVICES][NODE_DEVICE])
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    int n;

    if (list)
        return listed_devices(list, out);
    n = count_gpus();
    n = n < NODE_DEVICES ? n : NODE_DEVICES;
    for (int i = 0; i < n; i++)
        snprintf(out[i], NODE_DEVICE, "%d", i);
    return n;
}

void node_look(node_facts *out)
{
    char name[NODE_NAME] = "localhost";
    node_cores mine;
    int quota = quota_cores();

    *out = (node_facts){0};
    gethostname(name, sizeof name - 1);
    memcpy(out->name, name, sizeof name);
    node_cores_get(&mine);
    out->cores = node_cores_count(&mine);
    if (quota > 0 && quota < out->cores)
        out->cores = quota;
    out->cores_there = (int)sysconf(_SC_NPROCESSORS_ONLN);
    out->memory = total_memory();
    out->memory_free = mem_free_bytes();
    out->gpus = count_gpus();
}

void node_cores_get(node_cores *out)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        CPU_SET(0, &set);
    memcpy(out, &set, sizeof set);
}

void node_cores_join(node_cores *all, const node_cores *more)
{
    for (size_t i = 0; i < sizeof all->bits / sizeof all->bits[0]; i++)
        all->bits[i] |= more->bits[i];
}

int node_cores_use(const node_cores *c, err *e)
{
    cpu_set_t set;

    memcpy(&set, c, sizeof set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        return err_set(e, ERR_DEVICE, "cannot use the %d cores of this node: %s", node_cores_count(c), strerror(errno));
    return 0;
}

int node_cores_count(const node_cores *c)
{
    int n = 0;

    for (size_t i = 0; i < sizeof c->bits / sizeof c->bits[0]; i++)
        n += __builtin_popcountll(c->bits[i]);
    return n > 0 ? n : 1;
}

/* Of a list as "0-3,8-11", those that are among `all`; how many. A file that is not there has none. */
static int cores_listed(node_cores *out, const node_cores *all, const char *path)
{
    char text[4096] = "";
    FILE *f = fopen(path, "re");
    int n = 0;

    *out = (node_cores){0};
    if (!f)
        return 0;
    char *rest = fgets(text, sizeof text, f) ? text : NULL;
    fclose(f);
    for (char *word; rest && (word = strtok_r(NULL, ",\n", &rest)) != NULL;) {
        char *after;
        long first = strtol(word, &after, 10), last = *after == '-' ? strtol(after + 1, NULL, 10) : first;
        for (long i = first; i >= 0 && i <= last && i < NODE_CORES; i++)
            if (all->bits[i / 64] >> i % 64 & 1) {
                out->bits[i / 64] |= UINT64_C(1) << i % 64;
                n++;
            }
    }
    return n;
}

void node_cores_near(node_cores *out, const node_cores *all, int slot, int slots, int threads)
{
    const char *told = getenv("CFARM_SYS_NODES"), *folder = told ? told : "/sys/devices/system/node";
    const int cores = node_cores_count(all);
    int before = 0;

    *out = *all;
    for (int i = 0; i < NODES_MOST; i++) {
        char path[4096];
        node_cores here;
        snprintf(path, sizeof path, "%s/node%d/cpulist", folder, i);
        int n = cores_listed(&here, all, path);
        before += n;
        if ((2 * slot + 1) * cores >= 2 * slots * before) /* the middle of the slot's share lies in a later one */
            continue;
        if (n >= threads)
            *out = here;
        return;
    }
}

/* Tens of microseconds: most waits between two operations of a small model end within them, and a thread that waits longer takes no
 * more of a core that another program wants (trainer/nn/README.md has the figures). */
void node_brief_waits(bool firmly)
{
    if (!firmly && getenv("OMP_WAIT_POLICY"))
        return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("GOMP_SPINCOUNT", "1000", firmly);
}

int node_open_files(int least, err *e)
{
    struct rlimit files = {0};

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < (rlim_t)least)
        return err_set(e, ERR_INPUT, "only %llu files may be open here, and at least %d are needed; raise it: ulimit -n",
                       (unsigned long long)files.rlim_cur, least);
    return 0;
}

static bool address_text(const struct sockaddr *a, char out[NODE_ADDRESS])
{
    if (a && a->sa_family == AF_INET)
        return inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, out, NODE_ADDRESS) != NULL;
    return false;
}

int node_addresses(char out[NODE_ADDRESSES][NODE_ADDRESS])
{
    struct ifaddrs *all = NULL;
    int n = 0;

    if (getifaddrs(&all) != 0)
        all = NULL;
    for (int loopback = 0; loopback < 2; loopback++)
        for (const struct ifaddrs *i = all; i && n < NODE_ADDRESSES; i = i->ifa_next)
            if ((i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK) == !loopback &&
                address_text(i->ifa_addr, out[n]))
                n++;
    if (all)
        freeifaddrs(all);
    return n;
}

/* The folder of this process's cgroup: of the second version, or of the first one's for memory. False: it has none there. */
static bool own_cgroup(char out[512], bool first_version)
{
    const char *other = getenv("CFARM_CGROUP"), *mark = first_version ? ":memory:" : "0::";
    char line[400];
    bool found = false;
    FILE *f;

    if (other) {
        snprintf(out, 512, "%s", other);
        return true;
    }
    f = fopen("/proc/self/cgroup", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, mark);
        line[strcspn(line, "\n")] = '\0';
        found = at && (first_version || at == line);
        if (found)
            snprintf(out, 512, "/sys/fs/cgroup%s%s", first_version ? "/memory" : "", at + strlen(mark));
    }
    if (f)
        fclose(f);
    return found;
}

/* False: the file does not tell. */
static bool read_oom_kills(const char *folder, const char *name, int64_t *out)
{
    char path[600], line[128];
    long long kills = -1;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "re");
    while (f && kills < 0 && fgets(line, sizeof line, f))
        sscanf(line, "oom_kill %lld", &kills);
    if (f)
        fclose(f);
    *out = kills;
    return kills >= 0;
}

/* In a container the own cgroup is often the mount itself, whatever /proc says of it. */
int64_t node_oom_kills(void)
{
    char own[512];
    int64_t kills;

    if ((own_cgroup(own, false) && read_oom_kills(own, "memory.events", &kills)) ||
        (own_cgroup(own, true) && read_oom_kills(own, "memory.oom_control", &kills)) ||
        read_oom_kills("/sys/fs/cgroup", "memory.events", &kills) ||
        read_oom_kills("/sys/fs/cgroup/memory", "memory.oom_control", &kills) || read_oom_kills("/proc", "vmstat", &kills))
        return kills;
    return 0;
}

int node_workers(const node_facts *node)
{
    int by_cores = node->cores / 2, by_memory = (int)(node->memory_free >> 33);
    int n = by_cores < by_memory ? by_cores : by_memory;

    return n > 1 ? n : 1;
}
