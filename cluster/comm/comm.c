/* The common face of the wires, and the wire of a gang of one. */
#include "cluster/comm/comm_impl.h"

#include <stdlib.h>

#include "cluster/base/mem.h"

static int self_sum(comm *c, float *buf, size_t n, err *e)
{
    (void)c, (void)buf, (void)n, (void)e;
    return 0;
}

static int self_broadcast(comm *c, void *buf, size_t bytes, int root, err *e)
{
    (void)c, (void)buf, (void)bytes, (void)root, (void)e;
    return 0;
}

static int self_agree(comm *c, const err *mine, err *e)
{
    (void)c;
    return mine->code ? err_set(e, mine->code, "%s", mine->text) : 0;
}

static void self_free(comm *c) { free(c); }

int comm_self(comm **out, err *e)
{
    static const comm_wire wire = {.sum = self_sum, .broadcast = self_broadcast, .agree = self_agree, .free = self_free};

    (void)e;
    *out = NEW(comm);
    **out = (comm){.wire = &wire, .size = 1};
    return 0;
}

void comm_free(comm *c)
{
    if (c)
        c->wire->free(c);
}

int comm_rank(const comm *c) { return c->rank; }
int comm_size(const comm *c) { return c->size; }
int comm_sum(comm *c, float *buf, size_t n, err *e) { return c->wire->sum(c, buf, n, e); }

bool comm_joins_devices(const comm *c) { return c->wire->sum_devices != NULL; }

int comm_sum_devices(comm *c, float *device, size_t n, err *e)
{
    CHECK(c->wire->sum_devices);
    return c->wire->sum_devices(c, device, n, e);
}

int comm_begin_sum(comm *c, float *device, size_t n, dtype as, err *e)
{
    CHECK(c->wire->begin_sum && (as == F32 || as == BF16));
    return c->wire->begin_sum(c, device, n, as, e);
}

int comm_end_sums(comm *c, err *e)
{
    CHECK(c->wire->end_sums);
    return c->wire->end_sums(c, e);
}

int comm_wait_devices(comm *c, err *e)
{
    CHECK(c->wire->wait_devices);
    return c->wire->wait_devices(c, e);
}

int comm_broadcast(comm *c, void *buf, size_t bytes, int root, err *e)
{
    CHECK(root >= 0 && root < c->size);
    return c->wire->broadcast(c, buf, bytes, root, e);
}

int comm_agree(comm *c, const err *mine, err *e) { return c->wire->agree(c, mine, e); }
