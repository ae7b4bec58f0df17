/* Run by mpirun: comm_mpi adds in the very tree comm_shm adds in. Exit status 0 when every rank saw it. */
#include <mpi.h>
#include <stdio.h>

#include "cluster/base/rng.h"
#include "cluster/comm/comm.h"
#include "cluster/comm/comm_mpi.h"
#include "tests/cluster/tree.h"

enum { N = 1500000 }; /* more than one message */

static float leaf(int rank, int i) { return rng_uniform(rng_open(1, "leaf", (uint32_t)rank, 0), (uint64_t)i) - 0.5f; }

int main(int argc, char **argv)
{
    static float buf[N];
    MPI_Comm world = MPI_COMM_WORLD;
    err e = {0}, mine = {0};
    comm *c;
    int bad = 0;

    MPI_Init(&argc, &argv);
    if (comm_mpi(&c, &world, &e) != 0)
        MPI_Abort(world, 2);
    for (int i = 0; i < N; i++)
        buf[i] = leaf(comm_rank(c), i);
    bad |= comm_sum(c, buf, N, &e) != 0;
    for (int i = 0; i < N; i += 997)
        bad |= buf[i] != tree_sum(leaf, 0, comm_size(c), i);
    if (comm_rank(c) == comm_size(c) - 1)
        err_set(&mine, ERR_INPUT, "the last rank objects");
    bad |= comm_agree(c, &mine, &e) != ERR_INPUT;
    comm_free(c);
    MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_INT, MPI_MAX, world);
    MPI_Finalize();
    if (bad)
        fprintf(stderr, "mpi_comm_check: sums or agreement differ\n");
    return bad;
}
