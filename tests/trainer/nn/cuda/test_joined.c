/* Laws of an add that is made with what it adds (nn_kernel.adds), over the stand-in: a product or a convolution and the add behind
 * it are one call wherever nobody else looks at what is added, and not where somebody does, where it is repeated in a way that the
 * kernel cannot, or where its sources change in between; values are the CPU's, which makes them apart. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/nn/cuda/standin/include/cudnn.h"
#include "tests/trainer/nn/rows.h"
#include "trainer/nn/plan.h"

enum { SIDE = 6, ALL = SIDE * SIDE, KEEPS = 2 };

static nn_backend *cpu, *gpu;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

/* ---- graphs: what is kept of each goes into keep[], and how many that is comes back ---- */

static nn_tensor in(nn_graph *g, const char *name)
{
    nn_tensor there = nn_leaf_find(g, &nn_op_input, name);

    return there ? there : nn_input(g, name, F32, NN_SHAPE(SIDE, SIDE));
}

static nn_tensor product(nn_graph *g, const char *a)
{
    return nn_matmul(g, in(g, a), in(g, "b"), false, true);
}

static int sum_behind(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, product(g, "a"), in(g, "c"));
    return 1;
}

static int sum_before(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, in(g, "c"), product(g, "a"));
    return 1;
}

static int under_other_names(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = nn_reshape(g, nn_detach(g, product(g, "a")), NN_SHAPE(2, SIDE / 2, SIDE));

    keep[0] = nn_add(g, y, nn_reshape(g, in(g, "c"), NN_SHAPE(2, SIDE / 2, SIDE)));
    return 1;
}

static int two_products(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, product(g, "a"), product(g, "c"));
    return 1;
}

static int sum_of_sums(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, nn_add(g, product(g, "a"), product(g, "c")), product(g, "d"));
    return 1;
}

/* Its vectors begin nowhere in particular. */
static int a_bias_anywhere(nn_graph *g, nn_tensor keep[])
{
    nn_tensor bias = nn_view(g, in(g, "c"), 1, NN_SHAPE(SIDE));

    keep[0] = nn_add(g, nn_linear(g, in(g, "a"), in(g, "b"), bias), in(g, "d"));
    return 1;
}

static int repeated(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, product(g, "a"), nn_view(g, in(g, "c"), 0, NN_SHAPE(1, SIDE)));
    return 1;
}

static int to_itself(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = product(g, "a");

    keep[0] = nn_add(g, y, y);
    return 1;
}

static int seen_by_another(nn_graph *g, nn_tensor keep[])
{
    nn_tensor y = product(g, "a");

    keep[0] = nn_mul(g, nn_add(g, y, in(g, "c")), y);
    return 1;
}

static int kept_itself(nn_graph *g, nn_tensor keep[])
{
    keep[0] = product(g, "a");
    keep[1] = nn_add(g, keep[0], in(g, "c"));
    return 2;
}

static int a_piece_of_it(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, nn_view(g, product(g, "a"), SIDE, NN_SHAPE(2, SIDE)), nn_view(g, in(g, "c"), 0, NN_SHAPE(2, SIDE)));
    return 1;
}

/* What is cut out of it: columns, which lie apart. */
static int cut_out(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, nn_slice(g, in(g, "a"), 1, 1, 4), nn_slice(g, in(g, "c"), 1, 0, 4));
    return 1;
}

/* A gradient of maps. */
static int behind_a_slope(nn_graph *g, nn_tensor keep[])
{
    nn_tensor x = nn_reshape(g, in(g, "a"), NN_SHAPE(1, SIDE, SIDE, 1)), y = nn_conv2d(g, x, nn_view(g, in(g, "b"), 0, NN_SHAPE(2, 3, 3, 1)), NULL, (nn_conv){1, {1, 1, 1, 1}});
    nn_tensor seed = nn_reshape(g, nn_concat(g, in(g, "c"), in(g, "d")), NN_SHAPE(1, SIDE, SIDE, 2)), dx;

    ok(nn_backward(g, y, seed, &x, &dx, 1, &(err){0}), &(err){0});
    keep[0] = nn_add(g, dx, x);
    return 1;
}

static nn_tensor convolution(nn_graph *g)
{
    nn_tensor x = nn_reshape(g, in(g, "a"), NN_SHAPE(1, SIDE, SIDE, 1));

    return nn_conv2d(g, x, nn_view(g, in(g, "b"), 0, NN_SHAPE(2, 3, 3, 1)), nn_view(g, in(g, "c"), 4, NN_SHAPE(2)), (nn_conv){1, {1, 1, 1, 1}});
}

static int behind_a_convolution(nn_graph *g, nn_tensor keep[])
{
    nn_tensor more = nn_reshape(g, nn_concat(g, in(g, "c"), in(g, "d")), NN_SHAPE(1, SIDE, SIDE, 2));

    keep[0] = nn_add(g, more, convolution(g));
    return 1;
}

static int number_a_channel(nn_graph *g, nn_tensor keep[])
{
    keep[0] = nn_add(g, convolution(g), nn_view(g, in(g, "d"), 0, NN_SHAPE(1, 1, 1, 2)));
    return 1;
}

/* The product is of the weight as it was, though the add comes behind its change. */
static int of_what_changes(nn_graph *g, nn_tensor keep[])
{
    nn_shape s = NN_SHAPE(1, ALL);
    nn_tensor w = nn_state(g, "w", s), y = nn_matmul(g, in(g, "a"), nn_reshape(g, w, NN_SHAPE(SIDE, SIDE)), false, false);
    nn_tensor d = nn_reshape(g, in(g, "d"), s), hyper = nn_input(g, "hyper", F32, NN_SHAPE(1, NN_ADAMW_HYPER));

    nn_adamw(g, w, nn_state(g, "m", s), nn_state(g, "v", s), d, hyper, NULL);
    keep[0] = nn_add(g, y, in(g, "c"));
    return 1;
}

static const struct {
    const char *name;
    int (*write)(nn_graph *g, nn_tensor keep[]);
    int calls, alone; /* on the device, and where nothing is joined */
} CASES[] = {
    {"a product, then a sum", sum_behind, 1, 2},
    {"a sum's second", sum_before, 1, 2},
    {"under other names", under_other_names, 1, 2},
    {"of two products", two_products, 2, 3},
    {"a sum of sums", sum_of_sums, 3, 5},
    {"a bias anywhere", a_bias_anywhere, 1, 2},
    {"repeated", repeated, 2, 2},
    {"to itself", to_itself, 2, 2},
    {"seen by another", seen_by_another, 3, 3},
    {"kept itself", kept_itself, 2, 2},
    {"a piece of it", a_piece_of_it, 2, 2},
    {"cut out", cut_out, 2, 3},
    {"behind a slope", behind_a_slope, 2, 3},
    {"behind a convolution", behind_a_convolution, 2, 3},
    {"a number a channel", number_a_channel, 1, 2},
    {"of what changes", of_what_changes, 3, 3},
};

/* ---- running them ---- */

static void write_inputs(const nn_graph *g, nn_plan *p)
{
    err e;

    for (int id = 0; id < nn_node_count(g); id++) {
        nn_tensor t = nn_node_at(g, id);
        float host[2 * ALL], hyper[NN_ADAMW_HYPER] = {0.1f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 0.001f, 1.0f};
        if (t->op != &nn_op_input)
            continue;
        row_fill(host, t, (uint64_t)t->name[0]);
        ok(nn_write(p, t, strcmp(t->name, "hyper") == 0 ? hyper : host, (size_t)nn_bytes(t), &e), &e);
    }
}

/* Two runs, so that a device records; gives the calls that one makes. */
static int run(nn_backend *on, int i, float *to[KEEPS], int64_t n[KEEPS], int *kept)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(on);
    nn_tensor keep[KEEPS];
    nn_plan_size size;
    nn_plan *p;
    float start[ALL];
    err e;

    for (const char *const *name = (const char *const[]){"w", "m", "v", NULL}; *name; name++)
        ok(nn_params_state(w, *name, NN_SHAPE(1, ALL), &e), &e);
    for (int k = 0; k < ALL; k++)
        start[k] = row_number(1, (uint64_t)k);
    *kept = CASES[i].write(g, keep);
    ok(nn_plan_predict(&size, g, w, keep, *kept, &e), &e);
    ok(nn_plan_new(&p, g, w, keep, *kept, &e), &e);
    assert_int_equal(size.plan, nn_plan_bytes(p));
    write_inputs(g, p);
    for (int k = 0; k < 2; k++) {
        ok(nn_params_state_write(w, "w", start, ALL, &e), &e);
        ok(nn_run(p, &e), &e);
    }
    for (int k = 0; k < *kept; k++) {
        n[k] = nn_count(nn_shape_get(keep[k]));
        to[k] = NEW_N(float, n[k]);
        ok(nn_read(p, keep[k], to[k], (size_t)nn_bytes(keep[k]), &e), &e);
    }
    int calls = nn_plan_calls(p);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return calls;
}

static void one_call_where_nobody_else_looks(void **unused)
{
    (void)unused;
    for (int i = 0; i < (int)(sizeof CASES / sizeof *CASES); i++) {
        float *want[KEEPS], *got[KEEPS];
        int64_t n[KEEPS];
        int kept;
        int alone = run(cpu, i, want, n, &kept), calls = run(gpu, i, got, n, &kept);
        if (alone != CASES[i].alone || calls != CASES[i].calls)
            fail_msg("%s: %d calls on the device, %d on the CPU", CASES[i].name, calls, alone);
        for (int k = 0; k < kept; k++) {
            for (int64_t j = 0; j < n[k]; j++)
                if (!(fabsf(want[k][j] - got[k][j]) < 1e-4f))
                    fail_msg("%s: %g is wanted and %g came", CASES[i].name, (double)want[k][j], (double)got[k][j]);
            free(want[k]);
            free(got[k]);
        }
    }
}

/* ---- cuDNN's engines of the whole graph: one is ready for odd numbers of channels, one can be compiled for all ---- */

/* A number that the stand-in counts in. */
static int *count(const char *name)
{
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    int *at = dlsym(plugin, name);

    assert_non_null(at);
    dlclose(plugin);
    return at;
}

/* The engine that has run, STANDIN_DNN_ENGINES for several: a 3x3 convolution to `o` channels, its bias and a sum. */
static int engine_for(int64_t o)
{
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(gpu);
    nn_tensor y = nn_conv2d(g, nn_input(g, "x", F32, NN_SHAPE(1, 3, 3, 2)), nn_input(g, "w", F32, NN_SHAPE(o, 3, 3, 2)),
                            nn_input(g, "b", F32, NN_SHAPE(o)), (nn_conv){1, {1, 1, 1, 1}});
    nn_tensor sum = nn_add(g, y, nn_input(g, "c", F32, NN_SHAPE(1, 3, 3, o)));
    int *calls = count("standin_dnn_calls"), engine = STANDIN_DNN_ENGINES, many = 0;
    nn_plan *p;
    err e;

    memset(calls, 0, STANDIN_DNN_ENGINES * sizeof *calls);
    ok(nn_plan_new(&p, g, w, &sum, 1, &e), &e);
    write_inputs(g, p);
    ok(nn_run(p, &e), &e);
    for (int i = 0; i < STANDIN_DNN_ENGINES; i++) {
        engine = calls[i] ? i : engine;
        many += calls[i];
    }
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return many == 1 ? engine : STANDIN_DNN_ENGINES;
}

static void open_gpu(void)
{
    err e;

    ok(nn_open(&gpu, "cuda", 1, &e), &e);
}

static void an_engine_adds_if_it_is_ready_or_may_be_compiled(void **unused)
{
    (void)unused;
    assert_int_equal(engine_for(3), STANDIN_DNN_WHOLE);
    assert_int_equal(engine_for(2), STANDIN_DNN_ALONE);
    gpu->close(gpu);
    setenv("CFARM_CUDA_COMPILE", "1", 1);
    open_gpu();
    unsetenv("CFARM_CUDA_COMPILE");
    assert_int_equal(engine_for(3), STANDIN_DNN_COMPILED); /* listed first */
    assert_int_equal(engine_for(2), STANDIN_DNN_COMPILED);
}

/* Of bf16 cuDNN makes bf16, unless it may compile: our kernel widens that, adding the rest. */
static void nothing_is_compiled_unasked(void **unused)
{
    err e;

    (void)unused;
    gpu->close(gpu);
    open_gpu();
    *count("standin_dnn_compiled") = 0;
    for (nn_compute c = NN_F32; c <= NN_BF16; c++) {
        ok(gpu->compute(gpu, c, &e), &e);
        assert_int_equal(engine_for(3), STANDIN_DNN_WHOLE);
        assert_int_equal(engine_for(2), STANDIN_DNN_ALONE);
    }
    assert_int_equal(*count("standin_dnn_compiled"), 0);
}

static void an_engine_is_looked_for_once(void **unused)
{
    int *plans = count("standin_dnn_plans");

    (void)unused;
    *plans = 0;
    engine_for(4);
    const int first = *plans;
    engine_for(4);
    assert_true(first > 0);
    assert_int_equal(*plans, first);
    ok(gpu->compute(gpu, NN_F32, &(err){0}), &(err){0});
}

static int open_both(void **unused)
{
    (void)unused;
    CHECK(nn_cpu_open(&cpu, 1, false, NULL) == 0);
    open_gpu();
    return 0;
}

static int close_both(void **unused)
{
    (void)unused;
    cpu->close(cpu);
    gpu->close(gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_call_where_nobody_else_looks),
        cmocka_unit_test(an_engine_adds_if_it_is_ready_or_may_be_compiled),
        cmocka_unit_test(one_call_where_nobody_else_looks), /* with what was compiled */
        cmocka_unit_test(nothing_is_compiled_unasked),
        cmocka_unit_test(an_engine_is_looked_for_once),
    };

    return cmocka_run_group_tests(tests, open_both, close_both);
}
