/* A gang over several nodes: an MPI job of its own. The tree is spelled out instead of left to MPI_Allreduce, whose
 * order of adding is the library's affair. A dead rank ends the whole job (and only this job): the launcher's doing. */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/comm/comm_impl.h"
#include "cluster/comm/comm_mpi.h"

enum { TAG = 7, PIECE = 1 << 20 }; /* floats a message */

typedef struct {
    comm base;
    MPI_Comm on;
    float *other; /* [PIECE] */
} mpi_comm;

static int say(int rc, const char *what, err *e)
{
    char text[MPI_MAX_ERROR_STRING];
    int n = 0;

    if (rc == MPI_SUCCESS)
        return 0;
    MPI_Error_string(rc, text, &n);
    return err_set(e, ERR_PEER, "%s: %s", what, text);
}

static int add_piece(mpi_comm *c, float *buf, int n, err *e)
{
    for (int step = 1; step < c->base.size; step *= 2) {
        if (c->base.rank % (2 * step) == step)
            return say(MPI_Send(buf, n, MPI_FLOAT, c->base.rank - step, TAG, c->on), "sum", e);
        if (c->base.rank + step >= c->base.size)
            continue;
        TRY(say(MPI_Recv(c->other, n, MPI_FLOAT, c->base.rank + step, TAG, c->on, MPI_STATUS_IGNORE), "sum", e));
        for (int i = 0; i < n; i++)
            buf[i] += c->other[i];
    }
    return 0;
}

static int mpi_sum(comm *base, float *buf, size_t n, err *e)
{
    mpi_comm *c = (mpi_comm *)base;

    for (size_t at = 0; at < n; at += PIECE) {
        int piece = (int)(n - at < PIECE ? n - at : PIECE);
        TRY(add_piece(c, buf + at, piece, e));
        TRY(say(MPI_Bcast(buf + at, piece, MPI_FLOAT, 0, c->on), "sum", e));
    }
    return 0;
}

static int mpi_broadcast(comm *base, void *buf, size_t bytes, int root, err *e)
{
    mpi_comm *c = (mpi_comm *)base;

    for (size_t at = 0; at < bytes; at += INT_MAX) {
        int piece = (int)(bytes - at < INT_MAX ? bytes - at : INT_MAX);
        TRY(say(MPI_Bcast((char *)buf + at, piece, MPI_BYTE, root, c->on), "broadcast", e));
    }
    return 0;
}

static int mpi_agree(comm *base, const err *mine, err *e)
{
    mpi_comm *c = (mpi_comm *)base;
    int first = mine->code ? base->rank : base->size;
    err said = *mine;

    TRY(say(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, c->on), "agree", e));
    if (first == base->size)
        return 0;
    TRY(mpi_broadcast(base, &said, sizeof said, first, e));
    return err_set(e, said.code, "%s", said.text);
}

static void mpi_free(comm *base)
{
    mpi_comm *c = (mpi_comm *)base;

    free(c->other);
    free(c);
}

int comm_mpi(comm **out, void *on, err *e)
{
    static const comm_wire wire = {.sum = mpi_sum, .broadcast = mpi_broadcast, .agree = mpi_agree, .free = mpi_free};
    mpi_comm *c = NEW(mpi_comm);

    (void)e;
    *c = (mpi_comm){.base = {.wire = &wire}, .on = *(MPI_Comm *)on, .other = NEW_N(float, PIECE)};
    MPI_Comm_rank(c->on, &c->base.rank);
    MPI_Comm_size(c->on, &c->base.size);
    MPI_Comm_set_errhandler(c->on, MPI_ERRORS_RETURN);
    *out = &c->base;
    return 0;
}
