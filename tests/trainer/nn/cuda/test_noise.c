/* Law: the noise that a device makes is the host's.
 *
 *   test_noise [cuda[:N]]    77, with a sentence, where there is none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/rng.h"
#include "trainer/nn/plan.h"

static nn_backend *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

enum { STREAMS = 3, NUMBERS = 16387, NOISE = STREAMS * NUMBERS };

static void numbers_at(rng_stream *at, float *out)
{
    nn_graph *g = nn_graph_new();
    nn_params *p = nn_params_new(gpu);
    nn_tensor in = nn_input(g, "at", I32, NN_SHAPE(STREAMS, NN_STREAM)), y = nn_normal(g, in, NN_SHAPE(NUMBERS));
    nn_plan *plan;
    err e;

    ok(nn_plan_new(&plan, g, p, &y, 1, &e), &e);
    ok(nn_write(plan, in, at, STREAMS * sizeof *at, &e), &e);
    ok(nn_run(plan, &e), &e);
    ok(nn_read(plan, y, out, NOISE * sizeof *out, &e), &e);
    nn_plan_free(plan);
    nn_params_free(p);
    nn_graph_free(g);
}

/* Both round a number that is good to an ulp or two of double, so that hardly one in 2^27 may fall to the other side. */
static void noise_is_the_hosts(void **unused)
{
    static float got[NOISE], want[NOISE];
    rng_stream at[STREAMS] = {rng_open(1, "noise", 0, 0), rng_open(9007199254740993, "noise", 249, 7), {{~0u, ~0u}, ~0u, ~0u}};
    int other = 0;

    (void)unused;
    numbers_at(at, got);
    for (int k = 0; k < STREAMS; k++)
        rng_normal_fill(at[k], want + k * NUMBERS, NUMBERS);
    for (int i = 0; i < NOISE; i++) {
        other += memcmp(&got[i], &want[i], sizeof *got) != 0;
        assert_true(fabsf(got[i] - want[i]) <= 1.2e-7f * fabsf(want[i]));
    }
    assert_true(other <= 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(noise_is_the_hosts)};
    err e;

    if (nn_open(&gpu, argc > 1 ? argv[1] : "cuda", 1, &e) != 0) {
        printf("skipped: %s\n", e.text);
        return 77;
    }
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    gpu->close(gpu);
    return rc;
}
