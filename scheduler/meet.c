/* Two collectives between MPI_Init and MPI_Finalize. */
#include "scheduler/meet.h"

#include <dlfcn.h>
#include <link.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/str.h"
#include "scheduler/coordinator.h"

/* Rank 0 checks every picture of what is new before it comes: a long wait is no sign of trouble. */
enum { MEET_S = 3600 };

static int number(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text && *text ? atoi(text) : otherwise;
}

/* Open MPI, MPICH and Slurm's PMIx name a rank in these. */
int meet_launched(int *rank, int *size, err *e)
{
    static const char *const pair[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"},
                                          {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};

    *rank = 0;
    *size = 1;
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)
        if (getenv(pair[i][0])) {
            *rank = number(pair[i][0], -1);
            *size = number(pair[i][1], 1);
            return 0;
        }
    if (number("SLURM_STEP_NUM_TASKS", 1) > 1)
        return err_set(e, ERR_INPUT, "srun started %s tasks that cannot find each other; use srun --mpi=pmix",
                       getenv("SLURM_STEP_NUM_TASKS"));
    return 0;
}

bool meet_one_node(void)
{
    return number("OMPI_COMM_WORLD_LOCAL_SIZE", -1) == number("OMPI_COMM_WORLD_SIZE", -2);
}

static int mpi(int rc, const char *what, err *e)
{
    char text[MPI_MAX_ERROR_STRING];
    int n;

    if (rc == MPI_SUCCESS)
        return 0;
    MPI_Error_string(rc, text, &n);
    return err_set(e, ERR_PEER, "MPI %s: %s", what, text);
}

/* The cores of a node's ranks: a launcher may have bound each to one. */
static int join_cores(meet_place *p, MPI_Comm node, err *e)
{
    node_cores mine;

    node_cores_get(&mine);
    return mpi(MPI_Allreduce(mine.bits, p->cores.bits, NODE_CORES / 64, MPI_UINT64_T, MPI_BOR, node), "allreduce", e);
}

static int count_nodes(meet_place *p, err *e)
{
    int first = p->local_rank == 0;

    return mpi(MPI_Allreduce(&first, &p->nodes, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD), "allreduce", e);
}

static int meet_inside(meet_place *p, meet_notice *notice, err *e)
{
    MPI_Comm node;
    int rc;

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &p->size);
    TRY(mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "split", e));
    MPI_Comm_rank(node, &p->local_rank);
    MPI_Comm_size(node, &p->local_size);
    rc = join_cores(p, node, e);
    MPI_Comm_free(&node);
    if (rc == 0)
        rc = count_nodes(p, e);
    if (rc == 0)
        rc = mpi(MPI_Bcast(notice, sizeof *notice, MPI_BYTE, 0, MPI_COMM_WORLD), "broadcast", e);
    return rc;
}

/* A launcher in recovery mode lets the others live when a rank dies, and MPI lets them wait for it for ever. */
static void too_late(int signal)
{
    static const char text[] = "cfarm: the ranks did not meet in time: one of them must be gone\n";

    ssize_t said = write(STDERR_FILENO, text, sizeof text - 1);

    (void)signal, (void)said;
    _exit(FARM_BROKEN);
}

static int note_library(struct dl_phdr_info *at, size_t n, void *names)
{
    (void)n;
    str_put(names, at->dlpi_name, strlen(at->dlpi_name) + 1);
    return 0;
}

/* MPI_Finalize unloads Open MPI's components (4.1.4) before it has joined its own thread, which may have an event of one of
 * them still to call: of a hundred ranks that found nothing to do, one ended with SIGSEGV in mca_pmix_ext3x, which was gone. So
 * whatever is loaded stays. */
static void keep_libraries(void)
{
    str names = {0};

    dl_iterate_phdr(note_library, &names);
    for (const char *at = names.at; at && at < names.at + names.n; at += strlen(at) + 1) {
        void *library = *at ? dlopen(at, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) : NULL;
        if (library)
            dlclose(library);
    }
    str_free(&names);
}

int meet(meet_place *out, meet_notice *notice, err *e)
{
    int rank, size, rc;

    *out = (meet_place){.size = 1, .local_size = 1, .nodes = 1};
    TRY(meet_launched(&rank, &size, e));
    node_cores_get(&out->cores);
    if (rank == 0 && size == 1)
        return 0;
    signal(SIGALRM, too_late);
    alarm((unsigned)number("CFARM_MEET_S", MEET_S));
    TRY(mpi(MPI_Init(NULL, NULL), "init", e));
    rc = meet_inside(out, notice, e);
    keep_libraries();
    MPI_Finalize();
    alarm(0);
    return rc;
}
