/* Law: AdamW is AdamW (Loshchilov and Hutter 2019, algorithm 2), on the fast kernel and the plain one, concept by concept with rates
 * of their own, decaying to zero or to the base. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

enum { CONCEPTS = 2, COUNT = 1003 };
typedef struct {
    double w[CONCEPTS][COUNT], m[CONCEPTS][COUNT], v[CONCEPTS][COUNT];
} exact;

static void exact_step(exact *x, float (*d)[COUNT], float (*base)[COUNT], const float (*h)[NN_ADAMW_HYPER])
{
    for (int p = 0; p < CONCEPTS; p++)
        for (int i = 0; i < COUNT; i++) {
            double *w = &x->w[p][i], *m = &x->m[p][i], *v = &x->v[p][i];
            double g = (double)d[p][i] * h[p][ADAMW_GRAD_SCALE], toward = base ? (double)base[p][i] : 0.0;
            *w -= (double)h[p][ADAMW_LR] * h[p][ADAMW_DECAY] * (*w - toward);
            *m = h[p][ADAMW_BETA1] * *m + (1.0 - h[p][ADAMW_BETA1]) * g;
            *v = h[p][ADAMW_BETA2] * *v + (1.0 - h[p][ADAMW_BETA2]) * g * g;
            double mhat = *m / h[p][ADAMW_CORRECT1], vhat = *v / h[p][ADAMW_CORRECT2];
            *w -= h[p][ADAMW_LR] * mhat / (sqrt(vhat) + h[p][ADAMW_EPS]);
        }
}

static void set_hyper(float h[NN_ADAMW_HYPER], int concept, int step)
{
    double b1 = concept ? 0.85 : 0.9, b2 = concept ? 0.98 : 0.999;

    h[ADAMW_LR] = concept ? 1e-2f : 1e-3f;
    h[ADAMW_BETA1] = (float)b1;
    h[ADAMW_BETA2] = (float)b2;
    h[ADAMW_EPS] = 1e-6f;
    h[ADAMW_DECAY] = 0.1f;
    h[ADAMW_CORRECT1] = (float)(1.0 - pow(b1, step));
    h[ADAMW_CORRECT2] = (float)(1.0 - pow(b2, step));
    h[ADAMW_GRAD_SCALE] = concept ? 0.25f : 1.0f;
}

static void try_adamw(nn_backend *on, bool to_base)
{
    static exact want;
    static float start[CONCEPTS][COUNT], d[CONCEPTS][COUNT], base[CONCEPTS][COUNT], got[CONCEPTS][COUNT];
    const char *const names[] = {"w", "m", "v"};
    nn_shape s = NN_SHAPE(CONCEPTS, COUNT);
    nn_graph *g = nn_graph_new();
    nn_params *params = nn_params_new(on);
    nn_tensor st[3], grad = nn_input(g, "d", F32, s), h = nn_input(g, "h", F32, NN_SHAPE(CONCEPTS, NN_ADAMW_HYPER)),
                     b = to_base ? nn_input(g, "base", F32, s) : NULL;
    float hyper[CONCEPTS][NN_ADAMW_HYPER];
    err e = {0};

    memset(&want, 0, sizeof want);
    for (int i = 0; i < 3; i++) {
        st[i] = nn_state(g, names[i], s);
        ok(nn_params_state(params, names[i], s, &e), &e);
    }
    for (int i = 0; i < CONCEPTS * COUNT; i++) {
        (&start[0][0])[i] = row_number(1, (uint64_t)i);
        (&base[0][0])[i] = row_number(2, (uint64_t)i);
        (&want.w[0][0])[i] = (double)(&start[0][0])[i];
    }
    ok(nn_params_state_write(params, "w", &start[0][0], CONCEPTS * COUNT, &e), &e);
    nn_tensor before = nn_scale(g, st[0], 1.0f), after = nn_adamw(g, st[0], st[1], st[2], grad, h, b);
    nn_tensor keep[] = {before, nn_scale(g, after, 1.0f)};
    nn_plan *p = NULL;
    ok(nn_plan_new(&p, g, params, keep, 2, &e), &e);
    if (b)
        ok(nn_write(p, b, base, sizeof base, &e), &e);
    for (int step = 1; step <= 20; step++) {
        for (int i = 0; i < CONCEPTS * COUNT; i++)
            (&d[0][0])[i] = row_number(2 + (uint64_t)step, (uint64_t)i);
        for (int c = 0; c < CONCEPTS; c++)
            set_hyper(hyper[c], c, step);
        ok(nn_params_state_read(params, "w", &start[0][0], CONCEPTS * COUNT, &e), &e);
        ok(nn_write(p, grad, d, sizeof d, &e), &e);
        ok(nn_write(p, h, hyper, sizeof hyper, &e), &e);
        ok(nn_run(p, &e), &e);
        exact_step(&want, d, to_base ? base : NULL, (const float(*)[NN_ADAMW_HYPER])hyper);
        ok(nn_read(p, before, got, sizeof got, &e), &e);
        assert_memory_equal(got, start, sizeof got); /* written before the update: the value before it */
    }
    ok(nn_read(p, keep[1], got, sizeof got, &e), &e);
    for (int i = 0; i < CONCEPTS * COUNT; i++)
        if (fabs((double)(&got[0][0])[i] - (&want.w[0][0])[i]) > 2e-6)
            fail_msg("w[%d] is %.9g and should be %.9g", i, (double)(&got[0][0])[i], (&want.w[0][0])[i]);
    nn_plan_free(p);
    nn_params_free(params);
    nn_graph_free(g);
}

static void adamw_is_adamw(void **unused)
{
    (void)unused;
    for (int plain = 0; plain < 2; plain++) {
        nn_backend *on;
        err e = {0};
        ok(nn_cpu_open(&on, 1, plain, &e), &e);
        try_adamw(on, false);
        try_adamw(on, true);
        on->close(on);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(adamw_is_adamw)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
