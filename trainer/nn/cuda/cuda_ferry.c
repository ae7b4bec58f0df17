/* What crosses to a device while it computes, on a stream of its own: pinned memory on our side, as much on the device's, both
 * twice, so that one load is written and crosses while the kernels work on the other. Events tell either side when it may. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/nn/cuda/cuda.h"

enum { PLACES = 2 };

struct nn_ferry {
    nn_backend *b;
    struct place {
        void *host, *device;
        cudaEvent_t crossed, over;
        bool used;
    } at[PLACES];
    size_t bytes;
    int turn;
};

/* ---- places ---- */

static int pin(nn_backend *b, void **mem, size_t bytes, err *e)
{
    const cuda *c = cuda_of(b);

    TRY(cuda_told(c, cudaSetDevice(c->device), "the device cannot be used", e));
    return cuda_told(c, cudaHostAlloc(mem, bytes ? bytes : 1, cudaHostAllocDefault), "pinned memory", e);
}

static void unpin(nn_backend *b, void *mem)
{
    if (mem && cudaSetDevice(cuda_of(b)->device) == cudaSuccess)
        cudaFreeHost(mem);
}

static int make_place(nn_ferry *f, struct place *p, err *e)
{
    const cuda *c = cuda_of(f->b);

    TRY(pin(f->b, &p->host, f->bytes, e));
    TRY(f->b->alloc(f->b, &p->device, f->bytes, e));
    TRY(cuda_told(c, cudaEventCreateWithFlags(&p->crossed, cudaEventDisableTiming), "an event", e));
    return cuda_told(c, cudaEventCreateWithFlags(&p->over, cudaEventDisableTiming), "an event", e);
}

/* The device may still be at work: freeing waits for it. */
static void close_ferry(nn_ferry *f)
{
    for (int i = 0; i < PLACES; i++) {
        struct place *p = &f->at[i];
        if (p->crossed)
            cudaEventSynchronize(p->crossed);
        unpin(f->b, p->host);
        if (p->device)
            f->b->release(f->b, p->device);
        if (p->crossed)
            cudaEventDestroy(p->crossed);
        if (p->over)
            cudaEventDestroy(p->over);
    }
    free(f);
}

static int open_ferry(nn_backend *b, nn_ferry **out, size_t bytes, err *e)
{
    nn_ferry *f = NEW(nn_ferry);

    *f = (nn_ferry){.b = b, .bytes = bytes};
    int rc = 0;
    for (int i = 0; i < PLACES && rc == 0; i++)
        rc = make_place(f, &f->at[i], e);
    if (rc == 0)
        *out = f;
    else
        close_ferry(f);
    return rc;
}

/* ---- a load ---- */

static int fill(nn_ferry *f, void **place, err *e)
{
    const struct place *p = &f->at[f->turn];
    const cuda *c = cuda_of(f->b);

    *place = p->host;
    if (!p->used)
        return 0;
    f->b->turn(f->b, true);
    cudaError_t rc = cudaEventSynchronize(p->crossed);
    f->b->turn(f->b, false);
    return cuda_told(c, rc, "a copy to the device", e);
}

static int cross(nn_ferry *f, void **there, err *e)
{
    struct place *p = &f->at[f->turn];
    const cuda *c = cuda_of(f->b);

    if (p->used) /* the device has its load before last from here, and may be behind */
        TRY(cuda_told(c, cudaStreamWaitEvent(c->copies, p->over, 0), "a copy's turn", e));
    TRY(cuda_told(c, cudaMemcpyAsync(p->device, p->host, f->bytes, cudaMemcpyHostToDevice, c->copies), "a copy", e));
    TRY(cuda_told(c, cudaEventRecord(p->crossed, c->copies), "a copy's end", e));
    TRY(cuda_told(c, cudaStreamWaitEvent(c->stream, p->crossed, 0), "waiting for a copy", e));
    p->used = true;
    *there = p->device;
    return 0;
}

static int over(nn_ferry *f, err *e)
{
    const cuda *c = cuda_of(f->b);

    TRY(cuda_told(c, cudaEventRecord(f->at[f->turn].over, c->stream), "a load's end", e));
    f->turn = (f->turn + 1) % PLACES;
    return 0;
}

static int tell(nn_backend *b, void *pinned, const void *from, size_t bytes, err *e)
{
    const cuda *c = cuda_of(b);

    b->turn(b, true);
    cudaError_t rc = cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, c->stream);
    b->turn(b, false);
    return cuda_told(c, rc, "a copy to the host", e);
}

const nn_crossing cuda_crossing = {open_ferry, fill, cross, over, close_ferry, pin, unpin, tell};
