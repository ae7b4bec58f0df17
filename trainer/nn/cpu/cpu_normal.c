/* Kernels of random numbers by their address: rng.h has the meaning, and is fast enough for a step's noise. */
#include <string.h>

#include "cluster/base/rng.h"
#include "trainer/nn/cpu/cpu.h"

_Static_assert(sizeof(rng_stream) == NN_STREAM * sizeof(int32_t), "an address is a stream's words");

static int run_normal(nn_backend *b, const nn_call *c)
{
    int64_t n = c->y->shape.d[0], count = nn_count(c->y->shape) / n;

    (void)b;
    for (int64_t k = 0; k < n; k++) {
        rng_stream s;
        memcpy(&s, (const int32_t *)c->in[0] + k * NN_STREAM, sizeof s);
        rng_normal_fill(s, (float *)c->out + k * count, (uint64_t)count);
    }
    return 0;
}

const nn_kernel cpu_ref_normal = {.name = "cpu.normal.ref", .takes = cpu_needs_f32, .run = run_normal};
const nn_kernel *const cpu_normal[] = {&cpu_ref_normal, NULL};
