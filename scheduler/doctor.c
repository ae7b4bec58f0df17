/* `cfarm doctor`: what this machine has and what its launcher does when a rank dies, each with what to do about it. */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/meet.h"

enum { RANKS = 3, SAID_MOST = 1 << 20, FILES_WANTED = 4096, SYNCS = 9 };
static const double GIB = 1024.0 * 1024 * 1024;

/* ok: as it should be; note: works, and could be better; bad: something will not work. */
typedef enum { LOOK_OK, LOOK_NOTE, LOOK_BAD } verdict;

typedef struct { json_t *list; bool json, bad; } doctor;

/* One finding: a line for people, an object for programs. remedy: NULL where there is nothing to do. */
static void __attribute__((format(printf, 5, 6))) tell(doctor *d, const char *name, verdict v, const char *remedy,
                                                       const char *fmt, ...)
{
    static const char *const word[] = {"ok", "note", "bad"};
    char text[600];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    d->bad |= v == LOOK_BAD;
    json_array_append_new(d->list, json_pack("{s:s, s:s, s:s, s:s?}", "name", name, "verdict", word[v], "text", text, "remedy",
                                             v == LOOK_OK ? NULL : remedy));
    if (d->json)
        return;
    printf("%-5s %-10s %s\n", v == LOOK_OK ? "" : word[v], name, text);
    if (v != LOOK_OK && remedy)
        printf("                 -> %s\n", remedy);
    fflush(stdout);
}

/* ---- the machine ---------------------------------------------------------------------------------------------- */

static void look_at_node(doctor *d)
{
    char address[NODE_ADDRESSES][NODE_ADDRESS];
    node_facts n;
    int addresses = node_addresses(address), outside = 0;
    str all = {0};

    node_look(&n);
    for (int i = 0; i < addresses; i++) {
        bool local = str_starts(address[i], "127.");
        outside += !local;
        str_add(&all, "%s%s", i ? ", " : "", address[i]);
    }
    tell(d, "host", LOOK_OK, NULL, "%s", n.name);
    tell(d, "cores", n.cores < n.cores_there ? LOOK_NOTE : LOOK_OK,
         "a launcher that binds a rank to few cores: mpirun --bind-to none, srun --cpus-per-task=N; or a container's own limit",
         "%d of %d may be used", n.cores, n.cores_there);
    tell(d, "memory", n.memory_free < (size_t)2 << 30 ? LOOK_NOTE : LOOK_OK, "a worker for Stable Diffusion 1.5 in f32 needs about 8 GiB",
         "%.1f GiB, %.1f free", (double)n.memory / GIB, (double)n.memory_free / GIB);
    tell(d, "GPUs", LOOK_OK, NULL, "%d", n.gpus);
    tell(d, "network", outside == 0 ? LOOK_NOTE : LOOK_OK, "farms over several machines need an interface besides the loopback",
         "%s", all.n ? all.at : "no interface is up");
    if (outside > 1)
        tell(d, "interfaces", LOOK_NOTE, "over several machines name the one to use: mpirun --mca btl_tcp_if_include NET --mca "
             "oob_tcp_if_include NET", "%d besides the loopback", outside);
    str_free(&all);
}

static void look_at_limits(doctor *d)
{
    struct rlimit files, core, processes;

    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NPROC, &processes);
    tell(d, "files", files.rlim_max < FILES_WANTED ? LOOK_NOTE : LOOK_OK, "ulimit -Hn, or /etc/security/limits.conf: a coordinator "
         "needs one for each agent", "%llu may be open, %llu when asked for", (unsigned long long)files.rlim_cur,
         (unsigned long long)files.rlim_max);
    tell(d, "processes", processes.rlim_cur < 256 ? LOOK_NOTE : LOOK_OK, "ulimit -u", "%lld at most",
         processes.rlim_cur == RLIM_INFINITY ? -1LL : (long long)processes.rlim_cur);
    tell(d, "core files", LOOK_OK, NULL, "%s", core.rlim_cur == 0 ? "off" : "on");
}

static void look_at_shm(doctor *d)
{
    uint64_t bytes = 0;
    err e = {0};
    bool there = fs_free_bytes("/dev/shm", &bytes, &e) == 0 && access("/dev/shm", W_OK) == 0;

    tell(d, "/dev/shm", !there ? LOOK_BAD : bytes < (uint64_t)256 << 20 ? LOOK_NOTE : LOOK_OK,
         "gangs meet there: in a container --shm-size=1g", "%.2f GiB free%s", (double)bytes / GIB, there ? "" : "; it cannot be used");
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The middle of some durable writes, as the journal makes them; and the file system's clock beside ours. */
static int try_disk(const char *dir, double *seconds, double *skew, err *e)
{
    char path[FS_PATH], name[64];
    double took[SYNCS];
    struct stat st;
    int fd, rc = 0;

    snprintf(name, sizeof name, ".cfarm-doctor-%ld", (long)getpid());
    TRY(fs_join(path, dir, name, e));
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
    for (int i = 0; i < SYNCS && rc == 0; i++) {
        double t = clock_s();
        if (write(fd, "a record of the journal", 23) != 23 || fdatasync(fd) != 0)
            rc = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
        took[i] = clock_s() - t;
    }
    if (rc == 0 && fstat(fd, &st) == 0)
        *skew = (double)clock_wall_ms() / 1000 - ((double)st.st_mtim.tv_sec + 1e-9 * (double)st.st_mtim.tv_nsec);
    close(fd);
    unlink(path);
    qsort(took, SYNCS, sizeof took[0], by_size);
    *seconds = took[SYNCS / 2];
    return rc;
}

static void look_at_disk(doctor *d, const char *dir)
{
    double seconds = 0, skew = 0;
    uint64_t bytes = 0;
    err e = {0};

    if (fs_free_bytes(dir, &bytes, &e) != 0 || try_disk(dir, &seconds, &skew, &e) != 0) {
        tell(d, "disk", LOOK_BAD, "cfarm doctor FOLDER looks at another place for farms", "%s", e.text);
        return;
    }
    tell(d, "disk", bytes < (uint64_t)1 << 30 ? LOOK_NOTE : LOOK_OK, "a concept takes up to 150 MB, its checkpoint three times that",
         "%.1f GiB free in %s", (double)bytes / GIB, dir);
    tell(d, "fsync", seconds > 0.1 ? LOOK_NOTE : LOOK_OK, "each start and end of a concept waits for one: keep the farm's folder on a "
         "faster disk", "%.2f ms", 1000 * seconds);
    tell(d, "clock", skew > 2 || skew < -2 ? LOOK_NOTE : LOOK_OK, "the file server's clock and this machine's differ: both need NTP",
         "%.2f s between the file system's and this machine's", skew);
}

static void look_at_time(doctor *d)
{
    struct timex t = {0};
    int state = adjtimex(&t);

    tell(d, "time", state < 0 || state == TIME_ERROR ? LOOK_NOTE : LOOK_OK, "chrony or systemd-timesyncd; the farm itself does not "
         "depend on it, its logs do", "%s", state < 0 || state == TIME_ERROR ? "nothing keeps it right" : "kept right");
}

static void look_at_programs(doctor *d)
{
    static const char *const name[] = {"cfarm-worker", "cfarm-merge", "cfarm-sample"};
    char path[FS_PATH];

    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        err e = {0};
        bool there = child_program(path, name[i], &e) == 0;
        tell(d, "program", there ? LOOK_OK : LOOK_BAD, "build or install it beside cfarm", "%s", there ? path : e.text);
    }
}

/* ---- the launcher --------------------------------------------------------------------------------------------- */

/* A rank of the trial: they meet as a farm's ranks do; then one dies, and those that live two seconds later say so. */
static int be_rank(const char *dir)
{
    meet_notice notice = {.go = 1};
    meet_place place;
    char path[FS_PATH], name[32];
    err e = {0};

    if (meet(&place, &notice, &e) != 0) {
        fprintf(stderr, "cfarm doctor: %s\n", e.text);
        return FARM_BROKEN;
    }
    if (place.rank == 1)
        raise(SIGKILL);
    usleep(2500000);
    snprintf(name, sizeof name, "%d-of-%d", place.rank, place.size);
    if (fs_join(path, dir, name, &e) != 0 || fs_write(path, "", 0, &e) != 0)
        return FARM_BROKEN;
    _exit(0); /* as agents leave: no MPI call may wait for the dead one */
}

static int survivors(const char *dir)
{
    char **names;
    size_t n;

    if (fs_list(&names, &n, dir, NULL) != 0)
        return 0;
    fs_list_free(names);
    return (int)n;
}

/* How many of the other two lived on; negative: it could not be tried. */
static int try_launcher(const char *launcher)
{
    char dir[] = "/tmp/cfarm-doctor-XXXXXX", self[FS_PATH], command[3 * FS_PATH], *said = NULL;
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    int status, lived = -1;
    size_t n;
    err e = {0};

    if (child_program(self, "cfarm", &e) != 0 || !mkdtemp(dir))
        return -1;
    snprintf(command, sizeof command, "exec timeout -k 2 60 env CFARM_MEET_S=30 %s '%s' doctor --rank %s 2>&1", launcher, self, dir);
    if (child_output(argv, &said, &n, SAID_MOST, &status, &e) == 0)
        lived = survivors(dir);
    if (lived == 0 && WIFEXITED(status) && !strstr(said, "signal 9") && !strstr(said, "Killed"))
        lived = -1; /* it never came so far */
    free(said);
    fs_remove_tree(dir, NULL);
    return lived;
}

static void tell_launcher(doctor *d, const char *name, const char *launcher, const char *remedy)
{
    int lived = try_launcher(launcher);

    if (lived < 0)
        tell(d, name, LOOK_NOTE, "run it by hand to see why; without a launcher a farm uses this machine alone", "three ranks cannot be "
             "started by it");
    else if (lived == RANKS - 1)
        tell(d, name, LOOK_OK, NULL, "a rank that dies is its own affair: the other %d lived on", lived);
    else
        tell(d, name, LOOK_NOTE, remedy, "a rank that dies ends the whole job");
}

static void look_at_launchers(doctor *d)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING], path[FS_PATH];
    static const char COMMON[] = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
                                   "OMPI_MCA_orte_enable_recovery=";
    char command[400];
    int n;

    MPI_Get_library_version(version, &n);
    version[strcspn(version, "\n,")] = '\0';
    tell(d, "MPI", LOOK_OK, NULL, "%s", version);
    if (!child_find(path, "mpirun")) {
        tell(d, "mpirun", LOOK_NOTE, "install openmpi-bin, or load the site's MPI module", "not in PATH");
    } else {
        snprintf(command, sizeof command, "%s0 mpirun -np 3", COMMON);
        tell_launcher(d, "mpirun", command, "OMPI_MCA_orte_enable_recovery=1, as cluster/launch/again sets it; else the loop there "
                      "starts the farm again");
        snprintf(command, sizeof command, "%s1 mpirun -np 3", COMMON);
        tell_launcher(d, "recovery", command, "start farms by cluster/launch/again: it starts the launcher again until all is done");
    }
    if (!child_find(path, "srun"))
        tell(d, "srun", LOOK_OK, NULL, "not in PATH");
    else if (!getenv("SLURM_JOB_ID"))
        tell(d, "srun", LOOK_NOTE, "srun -n1 cfarm doctor, inside an allocation of three tasks, tries it", "%s; not inside a job", path);
    else
        tell_launcher(d, "srun", "srun --overlap --mpi=pmix -K0 -k -n3", "cfarm submit --mpirun, if srun --mpi=list has no pmix");
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static int usage(void)
{
    fputs("usage: cfarm doctor [FOLDER] [--json]      FOLDER: where farms will be; this one without it\n", stderr);
    return FARM_BAD_INPUT;
}

int command_doctor(int argc, char **argv)
{
    doctor d = {0};
    const char *dir = ".";
    int places = 0;

    if (argc == 3 && strcmp(argv[1], "--rank") == 0)
        return be_rank(argv[2]);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            d.json = true;
        else if (argv[i][0] == '-' || ++places > 1)
            return usage();
        else
            dir = argv[i];
    }
    d.list = json_array();
    look_at_node(&d);
    look_at_limits(&d);
    look_at_shm(&d);
    look_at_disk(&d, dir);
    look_at_time(&d);
    look_at_programs(&d);
    look_at_launchers(&d);
    if (d.json) {
        json_dumpf(d.list, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(d.list);
    return d.bad ? FARM_BROKEN : FARM_DONE;
}
