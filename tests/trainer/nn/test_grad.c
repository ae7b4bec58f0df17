/* Laws: the gradient every rule writes is the one found by nudging each input; it is the same when asked for alone;
 * an operation that has a rule has a row.
 *
 *   test_grad [cuda[:N]]    on that device's kernels; 77, with a sentence, where it cannot be opened. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

static const char *device; /* NULL: the CPU's references */
static nn_backend *reference;
static nn_params *nothing;

typedef struct {
    nn_graph *g;
    nn_tensor x[ROW_INPUTS], y, seed, grad[ROW_INPUTS];
    int n;
    nn_plan *p;
    float *host[ROW_INPUTS];
} trial;

/* Writes inputs the row knows, then those its function made for itself (ids, masks). */
static void fill_inputs(trial *t)
{
    err e;

    for (int id = 0; id < nn_node_count(t->g); id++) {
        nn_tensor in = nn_node_at(t->g, id);
        if (in->op != &nn_op_input)
            continue;
        void *host = mem_new((size_t)nn_bytes(in), 1);
        row_fill(host, in, (uint64_t)id + 1);
        assert_int_equal(nn_write(t->p, in, host, (size_t)nn_bytes(in), &e), 0);
        for (int i = 0; i < t->n; i++)
            if (in == t->x[i])
                t->host[i] = mem_copy(host, (size_t)nn_bytes(in));
        free(host);
    }
}

static void begin(trial *t, const nn_row *r, nn_tensor (*write)(nn_graph *, const nn_tensor[]))
{
    char name[] = "x0";

    *t = (trial){.g = nn_graph_new(), .n = row_inputs(r)};
    for (int i = 0; i < t->n; i++, name[1]++)
        t->x[i] = nn_input(t->g, name, F32, r->in[i]);
    t->y = write(t->g, t->x);
}

static void make_plan(trial *t, const nn_tensor keep[], int n)
{
    err e = {0};

    if (nn_plan_new(&t->p, t->g, nothing, keep, n, &e) != 0)
        fail_msg("%s", e.text);
    fill_inputs(t);
}

static void end(trial *t)
{
    for (int i = 0; i < t->n; i++)
        free(t->host[i]);
    nn_plan_free(t->p);
    nn_graph_free(t->g);
}

static float *read_all(trial *t, nn_tensor what)
{
    float *host = mem_new((size_t)nn_bytes(what), 1);
    err e;

    assert_int_equal(nn_read(t->p, what, host, (size_t)nn_bytes(what), &e), 0);
    return host;
}

/* sum of seed * y, in double: what the rule's gradient is the gradient of. */
static double value(trial *t, const float *seed)
{
    err e;
    double sum = 0.0;

    assert_int_equal(nn_run(t->p, &e), 0);
    float *y = read_all(t, t->y);
    for (int64_t i = 0; i < nn_count(t->y->shape); i++)
        sum += (double)seed[i] * (double)y[i];
    free(y);
    return sum;
}

static double value_at(trial *t, int in, int64_t i, float x, const float *seed)
{
    float old = t->host[in][i];
    err e;

    t->host[in][i] = x;
    assert_int_equal(nn_write(t->p, t->x[in], t->host[in], (size_t)nn_bytes(t->x[in]), &e), 0);
    t->host[in][i] = old;
    double v = value(t, seed);
    assert_int_equal(nn_write(t->p, t->x[in], t->host[in], (size_t)nn_bytes(t->x[in]), &e), 0);
    return v;
}

/* Central differences of fourth order: the error is h^4/30 of the fifth derivative. */
static double slope(trial *t, int in, int64_t i, const float *seed)
{
    const float h = 1.0f / 32.0f, x = t->host[in][i];
    double near = value_at(t, in, i, x + h, seed) - value_at(t, in, i, x - h, seed);
    double far = value_at(t, in, i, x + 2 * h, seed) - value_at(t, in, i, x - 2 * h, seed);

    return (8.0 * near - far) / (12.0 * (double)h);
}

/* The gradients by rule, of all inputs or of one; *seed gets the cotangent used. */
static void by_rule(trial *t, const nn_row *r, int from, int n)
{
    err e = {0};

    begin(t, r, r->write);
    t->seed = nn_input(t->g, "seed", F32, t->y->shape);
    if (nn_backward(t->g, t->y, t->seed, t->x + from, t->grad + from, n, &e) != 0)
        fail_msg("%s: %s", r->name, e.text);
    make_plan(t, t->grad + from, n);
    assert_int_equal(nn_run(t->p, &e), 0);
}

static float *seed_of(const trial *t)
{
    float *seed = mem_new((size_t)nn_bytes(t->seed), 1);

    row_fill(seed, t->seed, (uint64_t)t->seed->id + 1);
    return seed;
}

static bool writes(const nn_graph *g, nn_op_id op)
{
    for (int id = 0; id < nn_node_count(g); id++)
        if (nn_node_at(g, id)->op->id == op)
            return true;
    return false;
}

static double worst_of(trial *rule, trial *nudge, int in, const float *seed)
{
    float *grad = read_all(rule, rule->grad[in]);
    double worst = 0.0;

    for (int64_t i = 0; i < nn_count(rule->x[in]->shape); i++) {
        double s = slope(nudge, in, i, seed), off = fabs((double)grad[i] - s) / fmax(1.0, fabs(s));
        worst = off > worst || isnan(off) ? off : worst;
    }
    free(grad);
    return worst;
}

static void try_row(const nn_row *r)
{
    trial rule, nudge;

    by_rule(&rule, r, 0, row_inputs(r));
    float *seed = seed_of(&rule);
    begin(&nudge, r, r->slope_of ? r->slope_of : r->write);
    make_plan(&nudge, &nudge.y, 1);
    if (!writes(rule.g, r->op))
        fail_msg("%s: the row does not write the operation it is there for", r->name);
    for (int in = 0; in < rule.n; in++) {
        double worst = worst_of(&rule, &nudge, in, seed);
        if (!(worst < (r->slope_tolerance > 0.0 ? r->slope_tolerance : 1e-4)))
            fail_msg("%s: gradient of source %d is off by %g", r->name, in, worst);
    }
    free(seed);
    end(&rule);
    end(&nudge);
}

static void every_rule_gives_the_slope(void **unused)
{
    (void)unused;
    for (const nn_row *const *f = nn_row_families; *f; f++)
        for (const nn_row *r = *f; r->write; r++)
            if (!r->kernels_only)
                try_row(r);
}

static void try_alone(const nn_row *r, int in)
{
    trial all, one;

    by_rule(&all, r, 0, row_inputs(r));
    by_rule(&one, r, in, 1);
    float *a = read_all(&all, all.grad[in]), *b = read_all(&one, one.grad[in]);
    /* Inputs are filled by their ids, which the two graphs share up to the seed. */
    if (memcmp(a, b, (size_t)nn_bytes(all.grad[in])) != 0)
        fail_msg("%s: gradient of source %d differs when asked for alone", r->name, in);
    if (nn_node_count(one.g) > nn_node_count(all.g) + 1)
        fail_msg("%s: asking for source %d alone writes more than asking for all", r->name, in);
    free(a);
    free(b);
    end(&all);
    end(&one);
}

static void a_gradient_is_the_same_asked_for_alone(void **unused)
{
    (void)unused;
    for (const nn_row *const *f = nn_row_families; *f; f++)
        for (const nn_row *r = *f; r->write; r++)
            for (int in = 0; in < row_inputs(r) && !r->kernels_only; in++)
                try_alone(r, in);
}

static bool has_row(nn_op_id op)
{
    for (const nn_row *const *f = nn_row_families; *f; f++)
        for (const nn_row *r = *f; r->write; r++)
            if (r->op == op && !r->kernels_only)
                return true;
    return false;
}

static void an_operation_with_a_rule_has_a_row(void **unused)
{
    (void)unused;
    for (int op = 0; op < NN_OP_COUNT; op++) {
        assert_int_equal(nn_ops[op]->id, op);
        if (nn_ops[op]->grad && !has_row((nn_op_id)op))
            fail_msg("%s has a gradient and no row", nn_ops[op]->name);
    }
}

static int open_reference(void **unused)
{
    err e;

    (void)unused;
    CHECK((device ? nn_open(&reference, device, 1, &e) : nn_cpu_open(&reference, 1, true, &e)) == 0);
    nothing = nn_params_new(reference);
    return 0;
}

static int close_reference(void **unused)
{
    (void)unused;
    nn_params_free(nothing);
    reference->close(reference);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_gives_the_slope),
        cmocka_unit_test(a_gradient_is_the_same_asked_for_alone),
        cmocka_unit_test(an_operation_with_a_rule_has_a_row),
    };

    device = argc > 1 ? argv[1] : NULL;
    if (row_device_missing(device))
        return 77;
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
