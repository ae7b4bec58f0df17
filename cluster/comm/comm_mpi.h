#ifndef COMM_MPI_H
#define COMM_MPI_H
/* Apart from comm.h, so that only programs that mean MPI link it. */
#include "cluster/comm/comm.h"

/* on: a pointer to an MPI_Comm, borrowed; MPI must be initialised and outlive the gang. */
int comm_mpi(comm **out, void *on, err *e);
#endif
